//! Scenarios for proptest: the swarm generator as a [`Strategy`], the shrinker as its value tree.
//!
//! ```
//! use poolproof::engine::run::{Runner, Unwatched};
//! use poolproof::strategy::{config, scenarios};
//! use poolproof::sut::{Sut, memory::Memory};
//! use proptest::test_runner::TestRunner;
//!
//! let strategy = scenarios(Memory::new().contract());
//! let mut tests = TestRunner::new(config(64));
//! tests.run(&strategy, |scenario| {
//!     let mut sut = Memory::new();
//!     let run = Runner::new(&sut).run(&mut sut, &scenario, &mut Unwatched).unwrap();
//!     proptest::prop_assert!(run.finding.is_none(), "{:?} in\n{scenario}", run.finding);
//!     Ok(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use proptest::num::u64;
use proptest::strategy::{NewTree, Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};

use crate::contract::Contract;
use crate::generate::{Generator, Lanes};
use crate::scenario::Scenario;
use crate::shrink::Shrinker;
use crate::sut::Scheduling;

/// Proptest gives up shrinking after four times the number of cases; our shrinker needs some
/// hundred candidates whatever the number of cases, and ends by itself.
const MAX_SHRINK_ITERS: u32 = 100_000;

/// Draws scenarios that fit this contract.
pub fn scenarios(contract: &Contract) -> Scenarios {
    Scenarios(Draw::Alone(Generator::new(contract)))
}

/// Draws scenarios with callers at the same time, so many at most, for systems with this contract and scheduling. An
/// [`Examiner`](crate::engine::examine::Examiner) runs them.
pub fn races(contract: &Contract, lanes: usize, scheduling: Scheduling) -> Scenarios {
    Scenarios(Draw::AtOnce(Lanes::new(contract, lanes, scheduling)))
}

/// Proptest's default configuration with so many cases, and with as many shrinking steps as the
/// shrinker wants.
pub fn config(cases: u32) -> Config {
    Config { cases, max_shrink_iters: MAX_SHRINK_ITERS, ..Config::default() }
}

/// The strategy that [`scenarios`] and [`races`] give.
#[derive(Clone, Debug)]
pub struct Scenarios(Draw);

#[derive(Clone, Debug)]
enum Draw {
    Alone(Generator),
    AtOnce(Lanes),
}

impl Scenarios {
    /// Scenarios of at most so many steps. Those with callers at the same time are short anyway.
    pub fn with_max_steps(self, max_steps: usize) -> Scenarios {
        match self.0 {
            Draw::Alone(generator) => Scenarios(Draw::Alone(generator.with_max_steps(max_steps))),
            Draw::AtOnce(_) => self,
        }
    }
}

impl Strategy for Scenarios {
    type Tree = ScenarioTree;
    type Value = Scenario;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Scenarios> {
        let seed = u64::ANY.new_tree(runner)?.current();
        let scenario = match &self.0 {
            Draw::Alone(generator) => generator.scenario(seed),
            Draw::AtOnce(lanes) => lanes.scenario(seed),
        };
        Ok(ScenarioTree { shrinker: Shrinker::new(scenario), candidate: None })
    }
}

/// A scenario that becomes simpler while it fails.
#[derive(Clone, Debug)]
pub struct ScenarioTree {
    shrinker: Shrinker,
    /// Proposed and not judged yet.
    candidate: Option<Scenario>,
}

impl ValueTree for ScenarioTree {
    type Value = Scenario;

    fn current(&self) -> Scenario {
        self.candidate.as_ref().unwrap_or(self.shrinker.best()).clone()
    }

    /// The current scenario fails.
    fn simplify(&mut self) -> bool {
        if let Some(candidate) = self.candidate.take() {
            self.shrinker.accept(candidate);
        }
        self.candidate = self.shrinker.propose();
        self.candidate.is_some()
    }

    /// The current scenario does not fail.
    fn complicate(&mut self) -> bool {
        self.candidate = self.shrinker.propose();
        self.candidate.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::test_runner::TestError;

    use super::*;
    use crate::contract::Methods;
    use crate::operation::{Method, Operation};
    use crate::scenario::Step;

    #[test]
    fn a_failing_property_shrinks_to_what_matters() {
        let contract = Contract { methods: Methods::from_iter([Method::Release]), ..Contract::default() };
        let releases = |step: &&Step| matches!(step, Step::Call(Operation::Release { .. }));
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..config(256) });
        let failure = runner.run(&scenarios(&contract), |scenario| {
            proptest::prop_assert!(scenario.steps.iter().filter(releases).count() < 2);
            Ok(())
        });
        let Err(TestError::Fail(_, least)) = failure else { panic!("no two releases in 256 scenarios") };
        assert_eq!(least.steps.len(), 2, "{least}");
    }
}
