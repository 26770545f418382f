//! A scenario whose steps come one at a time, from somebody who decides each when the one before has been answered: a
//! person, or a framework for state machines such as `proptest-state-machine`.
//!
//! ```
//! use poolproof::engine::session::Session;
//! use poolproof::scenario::parse;
//! use poolproof::sut::memory::Memory;
//!
//! let mut session = Session::begin(Box::new(Memory::new()))?;
//! for step in parse("poolproof scenario 1\npool p0 10.0.0.0/30\nallocate \"a\" p0\n").unwrap().steps {
//!     assert_eq!(session.take(step)?, None);
//! }
//! assert_eq!(session.finish()?, None);
//! # Ok::<(), poolproof::sut::Failure>(())
//! ```

use super::pass::{Pass, Standing};
use super::run::{Finding, Runner, Stop, Unwatched};
use crate::address::Grant;
use crate::model::Model;
use crate::scenario::{Scenario, Step};
use crate::sut::{Failure, Sut};

/// A run under way.
pub struct Session {
    sut: Box<dyn Sut>,
    runner: Runner,
    standing: Standing,
    scenario: Scenario,
}

impl Session {
    /// Begins with the empty state.
    ///
    /// # Errors
    ///
    /// When the system cannot be brought there.
    pub fn begin(sut: Box<dyn Sut>) -> Result<Session, Failure> {
        let mut session = Session {
            runner: Runner::new(sut.as_ref()),
            sut,
            standing: Standing::start(),
            scenario: Scenario::default(),
        };
        match session.with_pass(|pass, _| pass.start())? {
            Some(finding) => Err(Failure::Misbehaved(finding.violation)),
            None => Ok(session),
        }
    }

    /// Takes one more step. After a finding there is nothing more to be learned from this session.
    ///
    /// # Errors
    ///
    /// The harness's own, or the user's.
    pub fn take(&mut self, step: Step) -> Result<Option<Finding>, Failure> {
        self.scenario.steps.push(step);
        self.with_pass(|pass, scenario| scenario.steps.last().map_or(Ok(()), |step| pass.next(step)))
    }

    /// Looks at the whole state.
    ///
    /// # Errors
    ///
    /// The harness's own, or the user's.
    pub fn audit(&mut self) -> Result<Option<Finding>, Failure> {
        self.with_pass(|pass, scenario| pass.audit(scenario))
    }

    /// Looks at the whole state once more, and whether a reset forgets it; the last thing to do.
    ///
    /// # Errors
    ///
    /// The harness's own, or the user's.
    pub fn finish(&mut self) -> Result<Option<Finding>, Failure> {
        self.with_pass(|pass, scenario| pass.end(scenario))
    }

    /// What the last step was granted.
    pub fn granted(&self) -> &[Grant] {
        self.runner.granted()
    }

    /// The state as it must be.
    pub fn model(&self) -> &Model {
        &self.runner.model
    }

    /// The steps taken so far.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    fn with_pass(
        &mut self,
        work: impl FnOnce(&mut Pass<'_>, &Scenario) -> Result<(), Stop>,
    ) -> Result<Option<Finding>, Failure> {
        let mut pass = Pass {
            runner: &mut self.runner,
            sut: self.sut.as_mut(),
            watch: &mut Unwatched,
            standing: &mut self.standing,
        };
        let ended = work(&mut pass, &self.scenario);
        match ended {
            Ok(()) => Ok(None),
            Err(Stop::Found(violation)) => Ok(Some(Finding::new(self.standing.at, violation))),
            Err(Stop::Failed(failure)) => Err(failure),
        }
    }
}

#[cfg(all(test, feature = "reference"))]
mod tests {
    use super::*;
    use crate::engine::canary::{Defect, Faulty};
    use crate::generate::Generator;
    use crate::sut::memory::Memory;

    /// What a session finds in a scenario, one step after the other.
    fn found_in(sut: Box<dyn Sut>, scenario: &Scenario) -> Option<Finding> {
        let mut session = Session::begin(sut).unwrap();
        let found = scenario.steps.iter().find_map(|step| session.take(step.clone()).unwrap());
        found.or_else(|| session.finish().unwrap())
    }

    #[test]
    fn a_session_finds_what_a_run_finds() {
        let generator = Generator::new(Memory::new().contract());
        let mut found = 0;
        for seed in 0..50 {
            let scenario = generator.scenario(seed);
            let sut = || Box::new(Faulty { defect: Defect::ForgetsReleases, sut: Box::new(Memory::new()) });
            let run = Runner::new(sut().as_ref()).run(sut().as_mut(), &scenario, &mut Unwatched).unwrap();
            assert_eq!(found_in(sut(), &scenario), run.finding, "{scenario}");
            assert_eq!(found_in(Box::new(Memory::new()), &scenario), None);
            found += usize::from(run.finding.is_some());
        }
        assert!(found > 0);
    }
}
