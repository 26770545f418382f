//! The part of a fuzz target that is not glue: bytes in, judgement out, and mutation by steps.
//!
//! Inputs are scenario texts, the same as everywhere: a find is replayed as it is. Bytes that are no
//! scenario are not worth keeping. Mutation works on steps, because mutated text rarely parses.
//!
//! Where a target [strikes](Target::striking), faults are steps like any other, and each input ends as the scenarios of
//! [`crash`](super::crash) do.

use fastrand::Rng;

use super::canary;
use super::crash::aftermath;
use super::examine::Examiner;
use crate::generate::Generator;
use crate::scenario::{Scenario, parse};
use crate::sut::{Failure, Sut};

/// A scenario with faults is drawn with at most so many steps: those take longer, and few calls are enough.
const MOST_STEPS_WITH_FAULTS: usize = 12;

/// Systems under a fuzzer: each input runs on one of them, which its length chooses.
pub struct Target {
    first: Examined,
    others: Vec<Examined>,
    strikes: bool,
}

struct Examined {
    sut: Box<dyn Sut>,
    examiner: Examiner,
}

impl Examined {
    fn new(sut: Box<dyn Sut>) -> Examined {
        Examined { examiner: Examiner::sparing(sut.as_ref()), sut }
    }
}

impl Target {
    /// Puts a system under the fuzzer.
    pub fn new(sut: impl Sut + 'static) -> Target {
        Target { first: Examined::new(canary::exposed(Box::new(sut))), others: Vec::new(), strikes: false }
    }

    /// Puts a system under the fuzzer in which faults strike. Its [canary] must be one that only faults show, so it is for
    /// the system to have it.
    pub fn striking(sut: impl Sut + 'static) -> Target {
        Target { first: Examined::new(Box::new(sut)), others: Vec::new(), strikes: true }
    }

    /// Puts one more under it.
    pub fn and(mut self, sut: impl Sut + 'static) -> Target {
        let sut: Box<dyn Sut> = Box::new(sut);
        self.others.push(Examined::new(if self.strikes { sut } else { canary::exposed(sut) }));
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
        let Some(mut scenario) = read(input) else { return false };
        if self.strikes {
            scenario.steps.extend(aftermath(&scenario.steps));
        }
        let Examined { sut, examiner } = self.chosen(input.len());
        match examiner.examine(sut.as_mut(), &scenario) {
            Ok(run) => match run.finding {
                None => true,
                Some(finding) => panic!("{}\nin\n{scenario}", finding.violation),
            },
            Err(Failure::Interrupted) => true,
            Err(failure) => panic!("cannot go on: {failure}"),
        }
    }

    /// Changes the first `size` bytes of `data` into another scenario; gives the new size, at most
    /// the length of `data`. Deterministic in `seed`.
    pub fn mutate(&self, data: &mut [u8], size: usize, seed: u32) -> usize {
        let mut rng = Rng::with_seed(u64::from(seed));
        let generator = Generator::new(self.first.sut.contract());
        let current = data.get(..size).and_then(read).unwrap_or_default();
        let mut changed = match self.strikes {
            true => generator.with_max_steps(MOST_STEPS_WITH_FAULTS).mutate_with_faults(&current, &mut rng),
            false => generator.mutate(&current, &mut rng),
        };
        loop {
            let text = changed.to_string();
            if let Some(place) = data.get_mut(..text.len()) {
                place.copy_from_slice(text.as_bytes());
                return text.len();
            }
            if changed.steps.is_empty() {
                return size.min(data.len());
            }
            changed.steps.truncate(changed.steps.len() / 2);
        }
    }
}

fn read(input: &[u8]) -> Option<Scenario> {
    parse(std::str::from_utf8(input).ok()?).ok()
}
