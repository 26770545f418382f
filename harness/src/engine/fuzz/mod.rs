//! The part of a fuzz target that is not glue: bytes in, judgement out, and mutation and cross-over by steps.
//!
//! Inputs of a [`Target`] are scenario texts, the same as everywhere: a find is replayed as it is, on the system that a comment in
//! it names where that is not the first. Bytes that are no scenario are not worth keeping. Mutation works on steps, because
//! mutated text rarely parses.
//!
//! Where a target [strikes](Target::striking), faults are steps like any other, and each input ends as the scenarios of
//! [`crash`](super::crash) do. Where it [races](Target::racing), inputs have lanes, and mutation works on who calls what in
//! which of them, and on whose turn it is; elsewhere one caller's steps come after the other's, so that every run is like the
//! first. Where it is about [addresses](Target::of_addresses) or [names](Target::of_names),
//! bytes within those are changed, too. Where it is about [lies](Target::of_lies), the model is in question, and any verdict of
//! its is right that it can give a reason for.
//!
//! Where bytes are the subject, there is no scenario:
//!
//! | module | bytes are |
//! |---|---|
//! | [`wire`] | lines of the protocol, as answers and as requests |
//! | [`plugin`] | what a CNI plugin prints |
//! | [`damage`] | damage to a file of the reference allocator |
//! | [`library`] | calls of the reference allocator that no scenario makes, a line each |

#[cfg(feature = "reference")]
pub mod damage;
#[cfg(feature = "reference")]
pub mod library;
#[cfg(feature = "reference")]
mod lies;
#[cfg(feature = "process")]
pub mod plugin;
#[cfg(feature = "reference")]
pub mod wire;

use std::fmt::Write as _;
use std::io::Write as _;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use rustc_hash::FxHashMap;

use super::canary::{self, Defect};
use super::crash::aftermath;
use super::examine::Examiner;
use super::feedback::Feedback;
use crate::generate::{Generator, Lanes};
use crate::operation::Text;
use crate::scenario::names::{visit_addresses, visit_names};
use crate::scenario::{Scenario, Step, parse, print, text};
use crate::sut::{Failure, Scheduling, Sut};

/// So many scenarios are kept as they were read: some tens of MiB.
const MOST_KNOWN: usize = 4096;

/// Inputs that take more calls are run, but no others are made of them: those would take as long. A step may be many calls.
const MOST_CALLS: u64 = 200;

/// A scenario with faults is drawn with at most so many steps: those take longer, and few calls are enough.
const MOST_STEPS_WITH_FAULTS: usize = 12;

/// The same where texts are changed: what matters of a text shows in a few calls.
const MOST_STEPS_OF_TEXTS: usize = 24;

/// The longest text that is made of another, in bytes: names may have 255, addresses fewer.
const LONGEST_TEXT: usize = 300;

/// A comment in an input, before the name of the system that it is for.
const ON: &str = "# on: ";

/// An input stays on its system when it is changed, but for one in so many.
const MOVES: u8 = 16;

/// On a slow system, a scenario is cut short after this, well before the fuzzer takes it for one that hangs.
const LONGEST_RUN: Duration = Duration::from_secs(4);

/// Systems under a fuzzer. Each input runs on the one that it names, else on the first.
pub struct Target {
    first: Examined,
    others: Vec<Examined>,
    subject: Subject,
    /// What was written last, which is mostly what is read next.
    written: Option<(Vec<u8>, Input)>,
    /// Inputs that were read: what is in the fuzzer's corpus is read again and again.
    known: FxHashMap<Vec<u8>, Input>,
    /// Scenarios that were run, and their steps.
    runs: u64,
    steps: u64,
}

/// The fuzzer's own way to change bytes: so many bytes of a buffer into others, of which it says how many they are.
pub type MutateBytes = fn(bytes: &mut [u8], size: usize, max_size: usize) -> usize;

/// What is changed in inputs, besides steps.
#[derive(Clone, Copy)]
enum Subject {
    /// Nothing.
    Steps,
    /// Faults among them.
    Faults,
    /// Who calls what at the same time, and in which order they go on.
    Lanes,
    /// Addresses, prefixes and ranges, byte by byte.
    Addresses(MutateBytes),
    /// Names of owners and pools, byte by byte.
    Names(MutateBytes),
    /// Nothing; what is answered is, and what was promised.
    #[cfg(feature = "reference")]
    Lies,
}

struct Examined {
    /// As `--sut` takes it.
    name: String,
    sut: Box<dyn Sut>,
    examiner: Examiner,
}

/// An input, read.
#[derive(Clone, Default)]
struct Input {
    scenario: Rc<Scenario>,
    /// Which system it is for: 0 is the first.
    place: usize,
}

impl Target {
    /// Puts a system under the fuzzer. Its name is what `--sut` takes.
    pub fn new(name: impl Into<String>, sut: impl Sut + 'static) -> Target {
        Target::boxed(name, Box::new(sut))
    }

    /// The same for a system of any kind.
    pub fn boxed(name: impl Into<String>, sut: Box<dyn Sut>) -> Target {
        Target::with(name.into(), sut, Subject::Steps)
    }

    /// Puts a system under the fuzzer in which faults strike. Its [canary] must be one that only faults show, so it is for
    /// the system to have it.
    pub fn striking(name: impl Into<String>, sut: impl Sut + 'static) -> Target {
        Target::with(name.into(), Box::new(sut), Subject::Faults)
    }

    /// Puts a system under the fuzzer that several callers have at once, and in which they take turns.
    pub fn racing(name: impl Into<String>, sut: impl Sut + 'static) -> Target {
        Target::with(name.into(), Box::new(sut), Subject::Lanes)
    }

    /// Puts a system under the fuzzer whose reading of addresses, prefixes and ranges is in question.
    pub fn of_addresses(name: impl Into<String>, sut: impl Sut + 'static, mutate_bytes: MutateBytes) -> Target {
        Target::with(name.into(), Box::new(sut), Subject::Addresses(mutate_bytes))
    }

    /// Puts a system under the fuzzer whose handling of names is in question.
    pub fn of_names(name: impl Into<String>, sut: impl Sut + 'static, mutate_bytes: MutateBytes) -> Target {
        Target::with(name.into(), Box::new(sut), Subject::Names(mutate_bytes))
    }

    /// Puts the model under the fuzzer: what it says of an allocator that lies.
    #[cfg(feature = "reference")]
    pub fn of_lies() -> Target {
        Target::with("memory".to_owned(), Box::new(crate::sut::memory::Memory::new()), Subject::Lies)
    }

    fn with(name: String, sut: Box<dyn Sut>, subject: Subject) -> Target {
        let first = subject.examined(name, sut);
        let (known, others) = (FxHashMap::default(), Vec::new());
        Target { first, others, subject, written: None, known, runs: 0, steps: 0 }
    }

    /// Puts one more under it.
    pub fn and(mut self, name: impl Into<String>, sut: impl Sut + 'static) -> Target {
        self.others.push(self.subject.examined(name.into(), Box::new(sut)));
        self
    }

    /// The same, which tells the fuzzer what happened and in which states.
    pub fn guided_by(mut self, feedback: Feedback) -> Target {
        for Examined { examiner, .. } in std::iter::once(&mut self.first).chain(&mut self.others) {
            examiner.runner.feedback = Some(feedback);
        }
        self
    }

    fn systems(&self) -> impl Iterator<Item = &Examined> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Runs the input if it is a scenario; says whether it is.
    ///
    /// # Panics
    ///
    /// When a property is broken, so that the fuzzer keeps the input; and when the harness itself
    /// cannot go on.
    pub fn run(&mut self, input: &[u8]) -> bool {
        let Some(Input { mut scenario, place }) = self.read(input) else { return false };
        self.runs += 1;
        self.steps += scenario.steps.len() as u64;
        match self.subject {
            Subject::Faults => scenario = Rc::new(with_aftermath(&scenario)),
            Subject::Addresses(_) | Subject::Names(_) => assert_is_shown_plainly(&scenario),
            Subject::Steps | Subject::Lanes => {}
            #[cfg(feature = "reference")]
            Subject::Lies => {
                lies::run(&scenario, input);
                return true;
            }
        }
        let mut systems = std::iter::once(&mut self.first).chain(&mut self.others);
        let Examined { name, sut, examiner } = systems.nth(place).expect("it was found by its name");
        match examiner.examine(sut.as_mut(), &scenario) {
            Ok(run) => match run.finding {
                None => run.operations <= MOST_CALLS,
                Some(finding) => panic!("{}\non {name} in\n{scenario}", finding.violation),
            },
            Err(Failure::Interrupted) => true,
            Err(failure) => unable(&failure),
        }
    }

    /// Changes the first `size` bytes of `data` into another scenario; gives the new size, at most
    /// the length of `data`. Deterministic in `seed`, but for the fuzzer's own way to change bytes.
    pub fn mutate(&mut self, data: &mut [u8], size: usize, seed: u32) -> usize {
        let mut rng = Rng::with_seed(u64::from(seed));
        let current = data.get(..size).and_then(|text| self.read(text)).unwrap_or_default();
        let place = if rng.u8(..MOVES) == 0 { rng.usize(..=self.others.len()) } else { current.place };
        let scenario = self.mutated(&current.scenario, &mut rng);
        self.write(scenario, place, data)
    }

    /// Writes the beginning of one input and the end of another; gives the size, at most the length of `out`. Deterministic
    /// in `seed`.
    pub fn cross(&mut self, one: &[u8], other: &[u8], out: &mut [u8], seed: u32) -> usize {
        let mut rng = Rng::with_seed(u64::from(seed));
        let (one, other) = (self.read(one).unwrap_or_default(), self.read(other).unwrap_or_default());
        let crossed = match self.subject {
            // The end of one would be within the lanes of the other.
            Subject::Lanes => self.mutated(if rng.bool() { &one.scenario } else { &other.scenario }, &mut rng),
            _ => self.generator().cross(&one.scenario, &other.scenario, &mut rng),
        };
        self.write(crossed, if rng.bool() { one.place } else { other.place }, out)
    }

    fn read(&mut self, input: &[u8]) -> Option<Input> {
        if let Some((text, read)) = &self.written
            && text == input
        {
            return Some(read.clone());
        }
        if let Some(read) = self.known.get(input) {
            return Some(read.clone());
        }
        let text = std::str::from_utf8(input).ok()?;
        let scenario = Rc::new(self.subject.adapted(parse(text).ok()?));
        let named = text.lines().find_map(|line| line.strip_prefix(ON)).unwrap_or_default();
        let place = self.systems().position(|system| system.name == named).unwrap_or(0);
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        let read = Input { scenario, place };
        self.known.insert(input.to_vec(), read.clone());
        Some(read)
    }

    /// Writes a scenario for a system, cut short where it does not fit; gives its size.
    fn write(&mut self, mut scenario: Scenario, place: usize, out: &mut [u8]) -> usize {
        loop {
            let text = self.text(&scenario, place, out.len());
            if let Some(room) = out.get_mut(..text.len()) {
                room.copy_from_slice(text.as_bytes());
                let size = text.len();
                self.written = Some((text.into_bytes(), Input { scenario: Rc::new(scenario), place }));
                return size;
            }
            if scenario.steps.is_empty() {
                return 0;
            }
            scenario.steps.truncate(scenario.steps.len() / 2);
        }
    }

    /// The whole input: the system, where it is not the first, and the steps with what is done at the end.
    fn text(&self, scenario: &Scenario, place: usize, about: usize) -> String {
        let mut text = String::with_capacity(about);
        let is_written = match self.subject {
            Subject::Faults => write!(text, "{}", with_aftermath(scenario)),
            _ => write!(text, "{scenario}"),
        };
        is_written.expect("a string takes what is written");
        if let Some(system) = self.systems().nth(place).filter(|_| place > 0) {
            let first_line = text.find('\n').map_or(text.len(), |end| end + 1);
            text.insert_str(first_line, &format!("{ON}{}\n", system.name));
        }
        text
    }

    fn generator(&self) -> Generator {
        let generator = Generator::new(self.first.sut.contract());
        match self.subject {
            Subject::Steps | Subject::Lanes => generator,
            #[cfg(feature = "reference")]
            Subject::Lies => generator,
            Subject::Faults => generator.with_max_steps(MOST_STEPS_WITH_FAULTS),
            Subject::Addresses(_) | Subject::Names(_) => generator.with_max_steps(MOST_STEPS_OF_TEXTS),
        }
    }

    fn mutated(&self, current: &Scenario, rng: &mut Rng) -> Scenario {
        match self.subject {
            Subject::Faults => self.generator().mutate_with_faults(current, rng),
            Subject::Lanes => {
                Lanes::new(self.first.sut.contract(), Lanes::DEFAULT, Scheduling::Turns).mutate(current, rng)
            }
            Subject::Addresses(bytes) if rng.bool() => with_a_text_changed(current, rng, bytes, visit_addresses),
            Subject::Names(bytes) if rng.bool() => {
                with_a_text_changed(current, rng, bytes, |scenario, visit| visit_names(scenario, |_, name| visit(name)))
            }
            _ => self.generator().mutate(current, rng),
        }
    }
}

impl Subject {
    /// The scenario without what it must not have here, or is given when it runs.
    fn adapted(self, mut scenario: Scenario) -> Scenario {
        match self {
            Subject::Lanes => {}
            Subject::Faults => {
                let restart = scenario.steps.iter().rposition(|step| *step == Step::Restart);
                if let Some(at) = restart
                    && scenario.steps[at..] == *aftermath(&scenario.steps[..at])
                {
                    scenario.steps.truncate(at);
                }
            }
            _ if scenario.has_lanes() => return scenario.without_lanes(),
            _ => {}
        }
        scenario
    }

    /// A system that is examined, with its canary where that is asked for.
    fn examined(self, name: String, sut: Box<dyn Sut>) -> Examined {
        let sut = match self {
            // They have canaries of their own.
            Subject::Faults => sut,
            #[cfg(feature = "reference")]
            Subject::Lies => sut,
            Subject::Steps => canary::exposed(sut, Defect::ForgetsReleases),
            Subject::Lanes => canary::exposed(sut, Defect::ForgetsReleasesBesideOthers),
            Subject::Addresses(_) => canary::exposed(sut, Defect::TrimsAddresses),
            Subject::Names(_) => canary::exposed(sut, Defect::FoldsNames),
        };
        let mut examiner = Examiner::sparing(sut.as_ref());
        if !sut.is_fast() {
            examiner.runner.limit_scenarios(LONGEST_RUN);
        }
        Examined { name, sut, examiner }
    }
}

/// The scenario, with what shows whether anything was lost or leaked.
fn with_aftermath(scenario: &Scenario) -> Scenario {
    let mut steps = scenario.steps.clone();
    steps.extend(aftermath(&scenario.steps));
    Scenario { steps }
}

/// Ends the fuzzer for a reason that is not the input's.
///
/// # Panics
///
/// Always, after a line that whoever started the fuzzer can tell it by.
pub fn unable(failure: &dyn std::fmt::Display) -> ! {
    // Nobody may be reading.
    let _ = writeln!(std::io::stderr(), "poolproof: cannot go on: {failure}");
    panic!("cannot go on: {failure}")
}

/// Is what we say of something from outside short, and does it show nothing to a terminal that it would obey?
#[cfg(any(feature = "reference", feature = "process"))]
fn assert_is_fit_to_print(message: &str, from_outside: &[u8]) {
    /// Room for what is wrong and for an excerpt of what was sent, no more.
    const LONGEST_MESSAGE: usize = 2_000;
    let message = canary::told(message, from_outside);
    assert!(message.len() <= LONGEST_MESSAGE, "{} bytes", message.len());
    assert!(!message.chars().any(char::is_control), "{message:?}");
}

/// Whatever is in its texts, a scenario is shown in printable lines, which say what it is.
fn assert_is_shown_plainly(scenario: &Scenario) {
    let shown = print(scenario);
    let is_plain = |character: char| character == '\n' || !character.is_control();
    assert!(shown.chars().all(is_plain), "a control character is shown as it is: {shown:?}");
    assert_eq!(parse(&shown).as_ref(), Ok(scenario), "{shown}");
}

/// The scenario with one of its texts changed byte by byte, wherever the same text stood.
fn with_a_text_changed(
    scenario: &Scenario,
    rng: &mut Rng,
    mutate_bytes: MutateBytes,
    visit: impl Fn(&mut Scenario, &mut dyn FnMut(&mut Text)),
) -> Scenario {
    let (mut changed, mut texts) = (scenario.clone(), Vec::new());
    visit(&mut changed, &mut |text| texts.push(text.clone()));
    if texts.is_empty() {
        return changed;
    }
    let old = &texts[rng.usize(..texts.len())];
    let new = mutated_text(old, mutate_bytes);
    // A name that is changed in one place only is mostly one that does not exist.
    let (everywhere, mut once) = (rng.u8(..4) > 0, true);
    visit(&mut changed, &mut |text| {
        if *text == *old && (everywhere || std::mem::take(&mut once)) {
            *text = new.clone();
        }
    });
    changed
}

fn mutated_text(old: &Text, mutate_bytes: MutateBytes) -> Text {
    let size = old.len().min(LONGEST_TEXT);
    let mut bytes = vec![0; LONGEST_TEXT];
    bytes[..size].copy_from_slice(&old.as_bytes()[..size]);
    let size = mutate_bytes(&mut bytes, size, LONGEST_TEXT).min(LONGEST_TEXT);
    text(&String::from_utf8_lossy(&bytes[..size]))
}

/// Says at the end how long scenarios were, beside what libFuzzer says of their number.
impl Drop for Target {
    fn drop(&mut self) {
        if self.runs > 0 {
            // Nobody may be reading.
            let _ = writeln!(std::io::stderr(), "stat::mean_steps:               {}", self.steps.div_ceil(self.runs));
        }
    }
}
