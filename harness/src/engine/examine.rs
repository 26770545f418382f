//! One scenario, run and then looked at from outside: promises that no single run can show.
//!
//! `unpredictable` needs a second instance of the system: the same choices again, where there were
//! 2^40 ways to choose, are no chance. `bounded` needs a second scenario: the same steps on small
//! pools must take as long. Both are looked at only where a run gives reason to, and only a few
//! times a campaign.

use std::time::Duration;

use super::run::{Finding, Run, Runner, Unwatched};
use crate::property::{Property, Violation};
use crate::scenario::Scenario;
use crate::shrink::with_small_pools;
use crate::sut::{Failure, Sut};

/// Choices that fit this many bits by chance do so once in a trillion times.
const CHANCE_BITS: f64 = 40.0;

/// A call that takes less than this needs no second look.
const LONG_CALL: Duration = Duration::from_millis(20);

/// How much longer the same steps may take on a large pool than on a small one.
const LARGEST_RATIO: u32 = 20;

/// How often each scenario is timed; the shortest time counts, so that noise does not.
const TIMINGS: usize = 3;

/// Runs scenarios and looks at them.
pub struct Examiner {
    /// Runs them, and holds the coverage.
    pub runner: Runner,
    /// How many more times each kind of second look is taken.
    second_looks: [u32; 2],
}

impl Examiner {
    /// For a campaign of many scenarios: a few second looks.
    pub fn sparing(sut: &dyn Sut) -> Examiner {
        let runner = Runner::new(sut);
        let runner = if sut.is_outside() { runner } else { runner.trusting_resets() };
        Examiner { runner, second_looks: [3, 3] }
    }

    /// For single scenarios: as many second looks as there is reason for.
    pub fn thorough(sut: &dyn Sut) -> Examiner {
        Examiner { runner: Runner::new(sut), second_looks: [u32::MAX; 2] }
    }

    /// Runs a scenario from the empty state.
    ///
    /// # Errors
    ///
    /// The harness's or the user's own; whatever the system does wrong is a finding.
    pub fn examine(&mut self, sut: &mut dyn Sut, scenario: &Scenario) -> Result<Run, Failure> {
        let mut run = self.runner.run(sut, scenario, &mut Unwatched)?;
        if run.finding.is_none() {
            let violation = match self.predictable(sut, scenario, &run)? {
                Some(violation) => Some(violation),
                None => self.unbounded(sut, scenario, &run)?,
            };
            run.finding = violation.map(|violation| Finding { step: scenario.steps.len(), violation });
        }
        Ok(run)
    }

    /// Do two fresh instances choose alike?
    fn predictable(&mut self, sut: &mut dyn Sut, scenario: &Scenario, run: &Run) -> Result<Option<Violation>, Failure> {
        if run.choice_bits < CHANCE_BITS || !self.takes_second_look(0) {
            return Ok(None);
        }
        let mut fresh = || {
            sut.forget();
            self.runner.run(sut, scenario, &mut Unwatched)
        };
        let (first, second) = (fresh()?, fresh()?);
        if first.choices != second.choices || first.choice_bits < CHANCE_BITS {
            return Ok(None);
        }
        let shown: Vec<String> = first.choices.iter().take(4).map(ToString::to_string).collect();
        let message = format!(
            "two fresh instances choose the same {} addresses ({}, …) among 2^{:.0} possibilities",
            first.choices.len(),
            shown.join(", "),
            first.choice_bits
        );
        Ok(Some(Violation::new(Property::Unpredictable, message)))
    }

    /// Do the same steps take much longer on large pools than on small ones?
    fn unbounded(&mut self, sut: &mut dyn Sut, scenario: &Scenario, run: &Run) -> Result<Option<Violation>, Failure> {
        if run.longest_call < LONG_CALL {
            return Ok(None);
        }
        let Some(small) = with_small_pools(scenario) else { return Ok(None) };
        if !self.takes_second_look(1) {
            return Ok(None);
        }
        let (large_time, large_accepted) = self.shortest_time(sut, scenario)?;
        let (small_time, small_accepted) = self.shortest_time(sut, &small)?;
        // Calls that are refused only on small pools are quick, and say nothing about large ones.
        let is_comparable = small_accepted >= large_accepted / 2;
        if !is_comparable || large_time < LONG_CALL || large_time < small_time * LARGEST_RATIO {
            return Ok(None);
        }
        let message =
            format!("the calls take {large_time:.1?}, but {small_time:.1?} with every prefix cut to 256 addresses");
        Ok(Some(Violation::new(Property::Bounded, message)))
    }

    /// The shortest time in calls, and how many of them were not refused.
    fn shortest_time(&mut self, sut: &mut dyn Sut, scenario: &Scenario) -> Result<(Duration, u64), Failure> {
        let mut shortest = (Duration::MAX, 0);
        for _ in 0..TIMINGS {
            let run = self.runner.run(sut, scenario, &mut Unwatched)?;
            shortest = shortest.min((run.time_in_calls, run.accepted));
        }
        Ok(shortest)
    }

    fn takes_second_look(&mut self, kind: usize) -> bool {
        let left = &mut self.second_looks[kind];
        let takes = *left > 0;
        *left = left.saturating_sub(1);
        takes
    }
}
