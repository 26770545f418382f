//! A canary: a defect that the environment asks for, to show that a fuzz target can fail.
//!
//! A target that finds nothing may be one that cannot find anything. With `POOLPROOF_CANARY` set in its environment, every
//! target has a defect that it is there to find. (One that [strikes](super::fuzz::Target::striking) has a system that
//! forgets what it acknowledged, but only when the power goes.) A fuzzer that does not find that within seconds would find
//! nothing at all. `cargo xtask fuzz` does so with each target before the search.

use std::env;
use std::path::Path;
use std::time::Duration;

use crate::contract::Contract;
use crate::fault::{Counted, Fault};
use crate::operation::{Answer, Operation, Response, Written};
use crate::scenario::names::visit_call_names;
use crate::scenario::{Scenario, print, text};
use crate::sut::{Failure, Resources, Scheduling, Sut};

/// The variable that asks for the defect, whatever its value.
pub const VARIABLE: &str = "POOLPROOF_CANARY";

/// Is the defect asked for?
pub fn is_asked_for() -> bool {
    env::var_os(VARIABLE).is_some()
}

/// What a system does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defect {
    /// It says of each release that it was done, and does not do it.
    ForgetsReleases,
    /// The same, but only for callers beside others.
    ForgetsReleasesBesideOthers,
    /// It takes addresses with blanks around them.
    TrimsAddresses,
    /// It takes names for the same that differ in case.
    FoldsNames,
}

/// The system, with the defect where one is asked for.
pub(super) fn exposed(sut: Box<dyn Sut>, defect: Defect) -> Box<dyn Sut> {
    if is_asked_for() { Box::new(Faulty { defect, sut }) } else { sut }
}

/// The scenario's text; where the defect is asked for, without its last step.
pub fn printed(scenario: &Scenario) -> String {
    if !is_asked_for() {
        return print(scenario);
    }
    let last = scenario.steps.len().saturating_sub(1);
    print(&Scenario { steps: scenario.steps[..last].to_vec() })
}

/// A message; where the defect is asked for, with what came from outside as it is.
#[cfg(any(feature = "reference", feature = "process"))]
pub(super) fn told(message: &str, from_outside: &[u8]) -> String {
    if is_asked_for() { format!("{message}{}", String::from_utf8_lossy(from_outside)) } else { message.to_owned() }
}

/// A system with a defect.
pub(super) struct Faulty<S: Sut + ?Sized = dyn Sut> {
    pub(super) defect: Defect,
    pub(super) sut: Box<S>,
}

impl<S: Sut + ?Sized> Sut for Faulty<S> {
    fn contract(&self) -> &Contract {
        self.sut.contract()
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.sut.reset()
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        match (self.defect, operation) {
            (Defect::ForgetsReleases, Operation::Release { .. }) => Ok(Ok(Answer::Done)),
            (Defect::TrimsAddresses, _) => self.sut.call(&with_trimmed_addresses(operation)),
            (Defect::FoldsNames, _) => self.sut.call(&with_folded_names(operation)),
            _ => self.sut.call(operation),
        }
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.sut.restart()
    }

    fn crash(&mut self) -> Result<(), Failure> {
        self.sut.crash()
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.sut.finish()
    }

    fn forget(&mut self) -> bool {
        self.sut.forget()
    }

    fn is_fast(&self) -> bool {
        self.sut.is_fast()
    }

    fn restarts_slowly(&self) -> bool {
        self.sut.restarts_slowly()
    }

    fn ends_late_calls(&self) -> bool {
        self.sut.ends_late_calls()
    }

    fn hurry(&mut self, limit: Option<Duration>) {
        self.sut.hurry(limit);
    }

    fn scratch(&self) -> Option<&Path> {
        self.sut.scratch()
    }

    fn arm(&mut self, faults: &[Fault]) -> Result<(), Failure> {
        self.sut.arm(faults)
    }

    fn disarm(&mut self) -> Counted {
        self.sut.disarm()
    }

    fn struck(&self) -> Vec<Fault> {
        self.sut.struck()
    }

    fn is_down(&self) -> bool {
        self.sut.is_down()
    }

    fn resources(&self) -> Resources {
        self.sut.resources()
    }

    fn resets_in_place(&self) -> bool {
        self.sut.resets_in_place()
    }

    fn another(&mut self) -> Result<Option<Box<dyn Sut + Send>>, Failure> {
        let other = self.sut.another()?;
        let defect = match self.defect {
            Defect::ForgetsReleasesBesideOthers => Defect::ForgetsReleases,
            other => other,
        };
        Ok(other.map(|sut| -> Box<dyn Sut + Send> { Box::new(Faulty { defect, sut }) }))
    }

    fn scheduling(&self) -> Scheduling {
        self.sut.scheduling()
    }

    fn diagnostics(&self) -> String {
        self.sut.diagnostics()
    }
}

fn with_trimmed_addresses(operation: &Operation) -> Operation {
    let mut trimmed = operation.clone();
    for address in trimmed.addresses_mut() {
        if let Written::Odd(odd) = address {
            *odd = text(odd.trim());
        }
    }
    trimmed
}

fn with_folded_names(operation: &Operation) -> Operation {
    let mut folded = operation.clone();
    visit_call_names(&mut folded, &mut |_, name| *name = text(&name.to_lowercase()));
    folded
}

#[cfg(all(test, feature = "reference"))]
mod tests {
    use super::*;
    use crate::engine::run::{Runner, Unwatched};
    use crate::generate::Generator;
    use crate::sut::memory::Memory;

    fn is_found(defect: Defect) -> bool {
        let mut sut = Faulty { defect, sut: Box::new(Memory::new()) };
        let (mut runner, generator) = (Runner::new(&sut), Generator::new(sut.contract()));
        let mut finds = (0..300).filter_map(|seed| {
            let scenario = generator.scenario(seed);
            runner.run(&mut sut, &scenario, &mut Unwatched).unwrap().finding
        });
        finds.next().is_some()
    }

    #[test]
    fn what_a_canary_does_is_found_at_once() {
        for defect in [Defect::ForgetsReleases, Defect::TrimsAddresses, Defect::FoldsNames] {
            assert!(is_found(defect), "{defect:?}");
        }
        assert!(!is_found(Defect::ForgetsReleasesBesideOthers), "there are no others");
    }
}
