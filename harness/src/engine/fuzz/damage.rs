//! Damage to a file of the reference allocator, which is then opened and used: an error is right, and so is the right answer,
//! but never a wrong one.
//!
//! A fixed history makes the file. What is right after the damage follows from what can still be there: a damaged log ends
//! where the damage is, as after a power failure, so the state may be any that the history went through. One that it never
//! was in, and that is told without an error, is a wrong answer. From the state on, the model judges every call.
//!
//! Whoever damages several places may also make them fit each other, which is another history, and no lie; and in a file of an
//! old version most is there only once. Then it is told and forgotten, and the history is made anew.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use poolproof_allocator::{Allocator, Error, SqliteOptions, SqliteStore, Synchronous};

use super::super::canary;
use super::super::run::{Runner, Unwatched};
use super::unable;
use crate::address::Grant;
use crate::contract::Contract;
use crate::operation::{Kind, Operation, Response, Text, Written};
use crate::scenario::{Operand, Scenario, Step, parse};
use crate::sut::reference::{Handle, Variant};
use crate::sut::sqlite::Sqlite;
use crate::sut::{Failure, Sut};

/// What was done before the damage: some of everything that a file can hold, under names that need no reference.
const BEFORE: &str = r#"poolproof scenario 1
pool p0 10.0.0.0/28 gateway 10.0.0.1 exclude 10.0.0.8
pool p1 fd00::/120 range fd00::10 fd00::7f
pool p2 192.168.0.0/30
allocate "alice-1" p0 10.0.0.2
allocate "bob-2" p0 10.0.0.4
allocate "bob-2" p0 10.0.0.6 ttl 60000
allocate "carol.3" p1 /124
allocate "alice-1" p1 fd00::11 ttl 1000
release p0 10.0.0.4 "bob-2"
advance 500
allocate "dave.example" p0 10.0.0.5 + p1 fd00::20
allocate "dave.example" p2 192.168.0.1
renew p0 10.0.0.6 "bob-2" ttl 90000
update p2 exclude 192.168.0.2
"#;

/// What was done to [`VERSION_1`], a file that version 1 of the tables wrote. Nothing is left to choose.
const BEFORE_VERSION_1: &str = r#"poolproof scenario 1
pool p0 10.0.0.0/28 gateway 10.0.0.1 exclude 10.0.0.8
pool p1 fd00::/120 range fd00::10 fd00::7f
advance 500
allocate "alice-1" p0 10.0.0.2
allocate "bob-2" p0 10.0.0.6 ttl 60000
allocate "alice-1" p1 fd00::11 ttl 1000
allocate "dave.example" p0 10.0.0.5 + p1 fd00::20
"#;

/// In pages of 512 bytes, the fewest that SQLite has.
const VERSION_1: &[u8] = include_bytes!("version_1.db");

/// What is done afterwards: every method, and each pool until it is full.
const AFTER: &str = r#"poolproof scenario 1
list
usage p0
allocate "erin-5" p0
allocate "erin-5" p0 10.0.0.2
allocate "erin-5" p0 10.0.0.5
release p0 10.0.0.2 "alice-1"
allocate "erin-5" p1 /125 + p0
renew p0 10.0.0.6 "bob-2" ttl 1000
begin
release-owner "dave.example"
allocate "erin-5" p2
rollback
release-owner "bob-2"
advance 2000
usage p1
fill p0 "frank-6" 32
fill p1 "frank-6" 200
fill p2 "frank-6" 8
list
drain p0 4
delete p2
release-owner "frank-6"
pool p3 10.0.1.0/30
fill p3 "erin-5" 8
"#;

/// What tells the state that a file is in.
const PROBES: [Operation; 2] = [Operation::List { pool: None }, Operation::Advance { ms: 0 }];

/// Opens and uses a file with this damage.
///
/// # Panics
///
/// At a wrong answer; and when the harness itself cannot go on.
pub fn run(input: &[u8]) {
    let Some(damage) = Damage::read(input) else { return };
    let origin = damage.origin;
    let folder = tempfile::Builder::new().prefix("poolproof-").tempdir().expect("a temporary directory");
    let path = folder.path().join(FILE);
    damage.write(&path).expect("the file can be written");
    let Ok(allocator) = Allocator::open_with(&path, options()) else { return exercise(&path, origin) };
    let mut opened = Opened { allocator: Handle::own(allocator), origin, before: VecDeque::new(), is_in_use: false };
    let Some(told) = opened.told() else { return };
    let calls = if damage.may_be_another_history() {
        opened.is_in_use = true;
        origin.steps.len()
    } else {
        let calls = origin.states.iter().rposition(|state| *state == told);
        let calls = calls.unwrap_or_else(|| panic!("a state that never was is told without an error: {told:?}"));
        let sure = damage.surely_there();
        assert!(calls >= sure, "{calls} of {} calls are told, but {sure} lie before the damage", origin.steps.len());
        opened.before = origin.answers[..calls].iter().cloned().collect();
        calls
    };
    let mut scenario = Scenario { steps: origin.steps[..calls].to_vec() };
    scenario.steps.extend(origin.after.iter().cloned());
    match Runner::new(&opened).run(&mut opened, &scenario, &mut Unwatched) {
        Ok(run) => match run.finding {
            None => {}
            Some(finding) => panic!("{}\nin\n{scenario}", finding.violation),
        },
        Err(Failure::Unable(_)) => {}
        Err(failure) => unable(&failure),
    }
}

/// Uses a file that is known to be damaged, which nobody should: whatever it answers, that is no panic and no hang, and what is
/// wrong with it can be told.
fn exercise(path: &Path, origin: &Origin) {
    let Ok(mut allocator) = Allocator::open_with(path, SqliteOptions { verify: false, ..options() }) else { return };
    for difference in allocator.audit().unwrap_or_default() {
        let shown = difference.to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
    }
    let mut opened = Opened { allocator: Handle::own(allocator), origin, before: VecDeque::new(), is_in_use: true };
    let _ = opened.told();
    for step in &origin.after {
        let Step::Call(operation) = step else { continue };
        let call = operation.resolve(|_, operand| literal(operand)).expect("every operand is literal");
        let _ = opened.call(&call);
    }
}

const FILE: &str = "allocator.db";
const LOG: &str = "allocator.db-wal";

/// The file is verified, unless the canary is to show what that is good for. No power will go.
fn options() -> SqliteOptions {
    let synchronous = Synchronous::Normal;
    SqliteOptions { synchronous, verify: !canary::is_asked_for(), ..SqliteOptions::default() }
}

/// How the file came to be.
struct Origin {
    /// Was it written by version 1, which kept most things once?
    is_old: bool,
    variant: Variant,
    contract: Contract,
    steps: Vec<Step>,
    after: Vec<Step>,
    answers: Vec<Response>,
    /// What the probes tell before the first call, and after each.
    states: Vec<Vec<Response>>,
    /// How long the log is after each call, in bytes.
    log_lengths: Vec<usize>,
    /// The file with everything in it.
    closed: Vec<u8>,
    /// The file and its log, as a process leaves them that was killed.
    killed: (Vec<u8>, Vec<u8>),
}

impl Origin {
    /// Of this version.
    fn new() -> &'static Origin {
        static NEW: OnceLock<Origin> = OnceLock::new();
        NEW.get_or_init(|| Origin::make(Variant::default(), BEFORE).expect("the file can be made"))
    }

    /// The same where pools choose at random, and keep what that takes.
    fn random() -> &'static Origin {
        static RANDOM: OnceLock<Origin> = OnceLock::new();
        let variant = Variant::parse("strategy=random").expect("an option");
        RANDOM.get_or_init(|| Origin::make(variant, BEFORE_VERSION_1).expect("the file can be made"))
    }

    /// Of version 1, which was closed.
    fn old() -> &'static Origin {
        static OLD: OnceLock<Origin> = OnceLock::new();
        OLD.get_or_init(|| {
            let same_today = Origin::make(Variant::default(), BEFORE_VERSION_1).expect("the file can be made");
            let killed = (VERSION_1.to_vec(), Vec::new());
            Origin { is_old: true, closed: VERSION_1.to_vec(), killed, ..same_today }
        })
    }

    fn make(variant: Variant, before: &str) -> Result<Origin, Failure> {
        let failed = |error: std::io::Error| Failure::Unable(error.to_string());
        let folder = tempfile::tempdir().map_err(failed)?;
        let (path, log) = (folder.path().join(FILE), folder.path().join(LOG));
        let mut sut = Sqlite::at(&path, variant)?;
        let scenario = read(before)?;
        let mut origin = Origin {
            is_old: false,
            variant,
            contract: variant.contract(false),
            after: read(AFTER)?.steps,
            answers: Vec::new(),
            states: vec![probed(&mut sut)?],
            log_lengths: Vec::new(),
            closed: Vec::new(),
            killed: Default::default(),
            steps: scenario.steps,
        };
        for step in &origin.steps {
            let Step::Call(operation) = step else { return Err(Failure::Unable("a step is no call".to_owned())) };
            let call = operation.resolve(|_, operand| literal(operand)).ok_or(Failure::Interrupted)?;
            origin.answers.push(sut.call(&call)?);
            origin.states.push(probed(&mut sut)?);
            origin.log_lengths.push(fs::metadata(&log).map_err(failed)?.len() as usize);
        }
        origin.killed = (fs::read(&path).map_err(failed)?, fs::read(&log).map_err(failed)?);
        drop(sut);
        origin.closed = fs::read(&path).map_err(failed)?;
        Ok(origin)
    }
}

fn read(text: &str) -> Result<Scenario, Failure> {
    parse(text).map_err(|error| Failure::Unable(error.to_string()))
}

fn literal(operand: &Operand) -> Option<Written> {
    match operand {
        Operand::Literal(text) => Some(Grant::parse(text).map_or_else(|| Written::Odd(text.clone()), Written::Plain)),
        _ => None,
    }
}

/// What the probes tell, and how full each pool is.
fn probed(sut: &mut dyn Sut) -> Result<Vec<Response>, Failure> {
    let pools = ["p0", "p1", "p2"].map(|pool| Operation::Usage { pool: Text::from(pool) });
    PROBES.iter().chain(&pools).map(|probe| sut.call(probe)).collect()
}

/// What an input does to the file.
struct Damage<'a> {
    origin: &'static Origin,
    /// Is it done to what a killed process leaves?
    is_killed: bool,
    /// Is it done to the log?
    is_in_log: bool,
    /// Each: where, and what is there then; nothing for an end there.
    changes: Vec<(usize, &'a [u8])>,
}

impl<'a> Damage<'a> {
    /// A byte for which file, and for each change three for its place, one for its length and those that are there then.
    fn read(input: &'a [u8]) -> Option<Damage<'a>> {
        let (kind, mut rest) = input.split_first()?;
        let mut changes = Vec::new();
        while let [one, two, three, length, tail @ ..] = rest {
            let place = usize::from(*one) << 16 | usize::from(*two) << 8 | usize::from(*three);
            let (bytes, tail) = tail.split_at(usize::from(*length).min(tail.len()));
            changes.push((place, bytes));
            rest = tail;
        }
        let origin = match kind {
            0x80.. => Origin::old(),
            0x40.. => Origin::random(),
            _ => Origin::new(),
        };
        let (is_killed, is_in_log) = (kind & 1 == 1, kind & 3 == 3);
        Some(Damage { origin, is_killed, is_in_log, changes })
    }

    /// Could the file say something else now, and agree with itself?
    fn may_be_another_history(&self) -> bool {
        self.changes.len() > 1 || self.origin.is_old && !self.changes.is_empty()
    }

    /// How many calls the damage cannot undo: a log ends where it is damaged, a file without a log and of one byte at most is a
    /// new one to SQLite, and nothing else is undone without an error.
    fn surely_there(&self) -> usize {
        let origin = self.origin;
        match self.changes.first() {
            Some((place, [])) if !self.is_killed && place % origin.closed.len() <= 1 => 0,
            Some((place, _)) if self.is_in_log => {
                let place = place % origin.killed.1.len().max(1);
                origin.log_lengths.iter().filter(|length| **length <= place).count()
            }
            _ => origin.steps.len(),
        }
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let origin = self.origin;
        let (mut file, mut log) = match self.is_killed {
            true => (origin.killed.0.clone(), Some(origin.killed.1.clone())),
            false => (origin.closed.clone(), None),
        };
        let damaged = match &mut log {
            Some(log) if self.is_in_log => log,
            _ => &mut file,
        };
        for (place, bytes) in &self.changes {
            let place = place % damaged.len().max(1);
            if bytes.is_empty() {
                damaged.truncate(place);
            } else {
                let end = (place + bytes.len()).min(damaged.len());
                damaged[place..end].copy_from_slice(&bytes[..end - place]);
            }
        }
        fs::write(path, file)?;
        log.map_or(Ok(()), |log| fs::write(log_beside(path), log))
    }
}

fn log_beside(path: &Path) -> PathBuf {
    path.with_file_name(LOG)
}

/// The file that was opened. Calls from before the damage are answered as they were then.
struct Opened<'a> {
    allocator: Handle<SqliteStore>,
    origin: &'a Origin,
    before: VecDeque<Response>,
    is_in_use: bool,
}

impl Opened<'_> {
    /// The state that it tells; `None` where it tells of an error.
    fn told(&mut self) -> Option<Vec<Response>> {
        probed(self).ok()
    }
}

impl Sut for Opened<'_> {
    fn contract(&self) -> &Contract {
        &self.origin.contract
    }

    /// What is not in use yet stays as it is; later nothing is left that could be wrong.
    fn reset(&mut self) -> Result<(), Failure> {
        if std::mem::replace(&mut self.is_in_use, true)
            && let Handle::Own(allocator) = &mut self.allocator
        {
            return allocator.reset().map_err(|error: Error| Failure::Unable(error.to_string()));
        }
        Ok(())
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        if let Some(answer) = self.before.pop_front() {
            return Ok(answer);
        }
        match self.allocator.call(self.origin.variant, operation) {
            Err(refusal) if refusal.kind == Kind::Storage => Err(Failure::Unable(refusal.message.into_owned())),
            response => Ok(response),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_damage_every_answer_is_right() {
        run(&[0]);
        run(&[1]);
    }

    #[test]
    fn a_file_of_version_1_tells_what_was_done_to_it() {
        run(&[0x80]);
    }

    #[test]
    fn damage_to_pools_that_choose_at_random_gives_an_error_or_a_right_answer() {
        for place in (0..Origin::random().closed.len()).step_by(1021) {
            let [_, one, two, three] = (place as u32).to_be_bytes();
            run(&[0x40, one, two, three, 1, 0xff]);
        }
    }

    #[test]
    fn damage_to_a_file_of_version_1_is_no_panic() {
        for place in (0..VERSION_1.len()).step_by(23) {
            let [_, one, two, three] = (place as u32).to_be_bytes();
            run(&[0x80, one, two, three, 1, 0xff]);
        }
    }

    #[test]
    fn damage_to_any_byte_of_the_file_or_its_log_gives_an_error_or_a_right_answer() {
        let origin = Origin::new();
        let longest = origin.closed.len().max(origin.killed.1.len());
        for place in (0..longest).step_by(97) {
            let [_, one, two, three] = (place as u32).to_be_bytes();
            for kind in [0, 1, 3] {
                run(&[kind, one, two, three, 1, 0xff]);
            }
        }
    }
}
