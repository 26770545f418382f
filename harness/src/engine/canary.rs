//! A canary: a defect that the environment asks for, to show that a fuzz target can fail.
//!
//! A target that finds nothing may be one that cannot find anything. With `POOLPROOF_CANARY` set in its environment,
//! every [`Target`](super::fuzz::Target) says of each release that it was done, without doing it; one that
//! [strikes](super::fuzz::Target::striking) has a system that forgets what it acknowledged, but only when the power goes. A
//! fuzzer that does not find that within seconds would find nothing at all. `cargo xtask fuzz` does so with each target
//! before the search.

use std::env;
use std::path::Path;
use std::time::Duration;

use crate::contract::Contract;
use crate::fault::{Counted, Fault};
use crate::operation::{Answer, Operation, Response};
use crate::scenario::{Scenario, print};
use crate::sut::{Failure, Resources, Sut};

/// The variable that asks for the defect, whatever its value.
pub const VARIABLE: &str = "POOLPROOF_CANARY";

/// Is the defect asked for?
pub fn is_asked_for() -> bool {
    env::var_os(VARIABLE).is_some()
}

/// The system, with the defect where it is asked for.
pub(super) fn exposed(sut: Box<dyn Sut>) -> Box<dyn Sut> {
    if is_asked_for() { Box::new(Forgetful { sut }) } else { sut }
}

/// The scenario's text; where the defect is asked for, without its last step.
pub fn printed(scenario: &Scenario) -> String {
    if !is_asked_for() {
        return print(scenario);
    }
    let last = scenario.steps.len().saturating_sub(1);
    print(&Scenario { steps: scenario.steps[..last].to_vec() })
}

/// A system that says of each release that it was done, and does not do it.
pub(super) struct Forgetful {
    pub(super) sut: Box<dyn Sut>,
}

impl Sut for Forgetful {
    fn contract(&self) -> &Contract {
        self.sut.contract()
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.sut.reset()
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        match operation {
            Operation::Release { .. } => Ok(Ok(Answer::Done)),
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

    fn diagnostics(&self) -> String {
        self.sut.diagnostics()
    }
}

#[cfg(all(test, feature = "reference"))]
mod tests {
    use super::*;
    use crate::engine::run::{Runner, Unwatched};
    use crate::generate::Generator;
    use crate::sut::memory::Memory;

    #[test]
    fn what_a_canary_does_is_found_at_once() {
        let mut sut = Forgetful { sut: Box::new(Memory::new()) };
        let (mut runner, generator) = (Runner::new(&sut), Generator::new(sut.contract()));
        let mut finds = (0..20).filter_map(|seed| {
            let scenario = generator.scenario(seed);
            runner.run(&mut sut, &scenario, &mut Unwatched).unwrap().finding
        });
        assert!(finds.next().is_some());
    }
}
