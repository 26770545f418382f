//! The part of a fuzz target that is not glue: bytes in, judgement out, and mutation and cross-over by steps.
//!
//! Inputs of a [`Target`] are scenario texts, the same as everywhere: a find is replayed as it is. Bytes that are no scenario
//! are not worth keeping. Mutation works on steps, because mutated text rarely parses.
//!
//! Where a target [strikes](Target::striking), faults are steps like any other, and each input ends as the scenarios of
//! [`crash`](super::crash) do. Where it [races](Target::racing), inputs have lanes, and mutation works on who calls what in
//! which of them, and on whose turn it is. Where it is about [addresses](Target::of_addresses) or [names](Target::of_names),
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

use fastrand::Rng;
use rustc_hash::FxHashMap;

use super::canary::{self, Defect};
use super::crash::aftermath;
use super::examine::Examiner;
use super::feedback::Feedback;
use crate::generate::{Generator, Lanes};
use crate::operation::Text;
use crate::scenario::names::{visit_addresses, visit_names};
use crate::scenario::{Scenario, parse, print, text};
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

/// Systems under a fuzzer: each input runs on one of them, which its length chooses.
pub struct Target {
    first: Examined,
    others: Vec<Examined>,
    subject: Subject,
    /// What was written last, which is mostly what is read next, and its scenario.
    written: Option<(Vec<u8>, Rc<Scenario>)>,
    /// Inputs that were read, and their scenarios: what is in the fuzzer's corpus is read again and again.
    known: FxHashMap<Vec<u8>, Rc<Scenario>>,
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
    sut: Box<dyn Sut>,
    examiner: Examiner,
}

impl Target {
    /// Puts a system under the fuzzer.
    pub fn new(sut: impl Sut + 'static) -> Target {
        Target::with(Box::new(sut), Subject::Steps)
    }

    /// The same for a system of any kind.
    pub fn boxed(sut: Box<dyn Sut>) -> Target {
        Target::with(sut, Subject::Steps)
    }

    /// Puts a system under the fuzzer in which faults strike. Its [canary] must be one that only faults show, so it is for
    /// the system to have it.
    pub fn striking(sut: impl Sut + 'static) -> Target {
        Target::with(Box::new(sut), Subject::Faults)
    }

    /// Puts a system under the fuzzer that several callers have at once, and in which they take turns.
    pub fn racing(sut: impl Sut + 'static) -> Target {
        Target::with(Box::new(sut), Subject::Lanes)
    }

    /// Puts a system under the fuzzer whose reading of addresses, prefixes and ranges is in question.
    pub fn of_addresses(sut: impl Sut + 'static, mutate_bytes: MutateBytes) -> Target {
        Target::with(Box::new(sut), Subject::Addresses(mutate_bytes))
    }

    /// Puts a system under the fuzzer whose handling of names is in question.
    pub fn of_names(sut: impl Sut + 'static, mutate_bytes: MutateBytes) -> Target {
        Target::with(Box::new(sut), Subject::Names(mutate_bytes))
    }

    /// Puts the model under the fuzzer: what it says of an allocator that lies.
    #[cfg(feature = "reference")]
    pub fn of_lies() -> Target {
        Target::with(Box::new(crate::sut::memory::Memory::new()), Subject::Lies)
    }

    fn with(sut: Box<dyn Sut>, subject: Subject) -> Target {
        let first = subject.examined(sut);
        Target { first, others: Vec::new(), subject, written: None, known: FxHashMap::default(), runs: 0, steps: 0 }
    }

    /// Puts one more under it.
    pub fn and(mut self, sut: impl Sut + 'static) -> Target {
        self.others.push(self.subject.examined(Box::new(sut)));
        self
    }

    /// The same, which tells the fuzzer what happened and in which states.
    pub fn guided_by(mut self, feedback: Feedback) -> Target {
        for Examined { examiner, .. } in std::iter::once(&mut self.first).chain(&mut self.others) {
            examiner.runner.feedback = Some(feedback);
        }
        self
    }

    /// The system for an input of so many bytes.
    fn chosen(&mut self, length: usize) -> &mut Examined {
        let index = length % (self.others.len() + 1);
        self.others.get_mut(index).unwrap_or(&mut self.first)
    }

    /// Runs the input if it is a scenario; says whether it is.
    ///
    /// # Panics
    ///
    /// When a property is broken, so that the fuzzer keeps the input; and when the harness itself
    /// cannot go on.
    pub fn run(&mut self, input: &[u8]) -> bool {
        let Some(mut scenario) = self.read(input) else { return false };
        self.runs += 1;
        self.steps += scenario.steps.len() as u64;
        match self.subject {
            Subject::Faults => {
                let aftermath = aftermath(&scenario.steps);
                Rc::make_mut(&mut scenario).steps.extend(aftermath);
            }
            Subject::Addresses(_) | Subject::Names(_) => assert_is_shown_plainly(&scenario),
            Subject::Steps | Subject::Lanes => {}
            #[cfg(feature = "reference")]
            Subject::Lies => {
                lies::run(&scenario, input);
                return true;
            }
        }
        let Examined { sut, examiner } = self.chosen(input.len());
        match examiner.examine(sut.as_mut(), &scenario) {
            Ok(run) => match run.finding {
                None => run.operations <= MOST_CALLS,
                Some(finding) => panic!("{}\nin\n{scenario}", finding.violation),
            },
            Err(Failure::Interrupted) => true,
            Err(failure) => panic!("cannot go on: {failure}"),
        }
    }

    /// Changes the first `size` bytes of `data` into another scenario; gives the new size, at most
    /// the length of `data`. Deterministic in `seed`, but for the fuzzer's own way to change bytes.
    pub fn mutate(&mut self, data: &mut [u8], size: usize, seed: u32) -> usize {
        let mut rng = Rng::with_seed(u64::from(seed));
        let current = data.get(..size).and_then(|text| self.read(text)).unwrap_or_default();
        self.write(self.mutated(&current, &mut rng), data)
    }

    /// Writes the beginning of one input and the end of another; gives the size, at most the length of `out`. Deterministic
    /// in `seed`.
    pub fn cross(&mut self, one: &[u8], other: &[u8], out: &mut [u8], seed: u32) -> usize {
        let mut rng = Rng::with_seed(u64::from(seed));
        let (one, other) = (self.read(one).unwrap_or_default(), self.read(other).unwrap_or_default());
        let crossed = match self.subject {
            // The end of one would be within the lanes of the other.
            Subject::Lanes => self.mutated(if rng.bool() { &one } else { &other }, &mut rng),
            _ => self.generator().cross(&one, &other, &mut rng),
        };
        self.write(crossed, out)
    }

    fn read(&mut self, input: &[u8]) -> Option<Rc<Scenario>> {
        if let Some((text, scenario)) = &self.written
            && text == input
        {
            return Some(Rc::clone(scenario));
        }
        if let Some(scenario) = self.known.get(input) {
            return Some(Rc::clone(scenario));
        }
        let scenario = Rc::new(parse(std::str::from_utf8(input).ok()?).ok()?);
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        self.known.insert(input.to_vec(), Rc::clone(&scenario));
        Some(scenario)
    }

    /// Writes a scenario, cut short where it does not fit; gives its size.
    fn write(&mut self, mut scenario: Scenario, out: &mut [u8]) -> usize {
        loop {
            let mut text = String::with_capacity(out.len());
            write!(text, "{scenario}").expect("a string takes what is written");
            if let Some(place) = out.get_mut(..text.len()) {
                place.copy_from_slice(text.as_bytes());
                let size = text.len();
                self.written = Some((text.into_bytes(), Rc::new(scenario)));
                return size;
            }
            if scenario.steps.is_empty() {
                return 0;
            }
            scenario.steps.truncate(scenario.steps.len() / 2);
        }
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
    /// A system that is examined, with its canary where that is asked for.
    fn examined(self, sut: Box<dyn Sut>) -> Examined {
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
        Examined { examiner: Examiner::sparing(sut.as_ref()), sut }
    }
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
