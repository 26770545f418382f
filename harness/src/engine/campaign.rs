//! What `check` and `replay` have in common: scenarios run one after another, counted and reported.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Progress;
use super::examine::Examiner;
use super::run::Run;
use crate::address::Grant;
use crate::fault::Counted;
use crate::interrupt;
use crate::operation::Text;
use crate::property::Property;
use crate::report::Report;
use crate::scenario::Scenario;
use crate::sut::{Failure, Sut};
use crate::turns::Place;

/// A campaign under way.
pub(super) struct Campaign<'a> {
    pub(super) report: Report,
    examiner: Examiner,
    progress: &'a mut dyn Progress,
    started: Instant,
}

impl<'a> Campaign<'a> {
    pub(super) fn new(report: Report, examiner: Examiner, progress: &'a mut dyn Progress) -> Campaign<'a> {
        Campaign { report, examiner, progress, started: Instant::now() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Somebody may want to know.
    pub(super) fn announce(&mut self, what: &str) {
        self.progress.began(what);
    }

    /// The next scenario goes no further after so much time.
    pub(super) fn limit_scenario(&mut self, limit: Duration) {
        self.examiner.runner.limit_scenarios(limit);
    }

    /// Runs one scenario; `None` when the user wants to stop.
    pub(super) fn run(&mut self, sut: &mut dyn Sut, scenario: &Arc<Scenario>) -> Result<Option<Run>, Failure> {
        self.examiner.runner.share(scenario);
        let run = match self.examiner.examine(sut, scenario) {
            Ok(run) => run,
            Err(Failure::Interrupted) => return Ok(None),
            Err(other) => return Err(other),
        };
        let report = &mut self.report;
        report.scenarios += 1;
        report.operations += run.operations;
        report.skipped += run.skipped;
        if run.is_race {
            report.unchecked.retain(|(property, _)| *property != Property::Linearizable);
        }
        if let Some(why) = &run.left_open {
            report.left_open = (report.left_open.0 + 1, why.clone());
        }
        self.progress.advanced(report.scenarios, report.operations, report.violations.len());
        Ok(Some(run))
    }

    /// From now on steps of I/O and allocations are counted, or no more; gives those of the last scenario, for each of its
    /// steps.
    pub(super) fn count(&mut self, counts: bool) -> Vec<Counted> {
        std::mem::replace(&mut self.examiner.runner.counted, counts.then(Vec::new)).unwrap_or_default()
    }

    /// What is held where the last scenario ended, with the pool's name and the owner's.
    pub(super) fn held(&self) -> impl Iterator<Item = (Text, Grant, Text)> {
        self.examiner.runner.model.held()
    }

    /// Where callers could have been interrupted in the last scenario, if they took turns.
    pub(super) fn places(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.examiner.runner.places)
    }

    /// The state in which the last scenario ended.
    pub(super) fn fingerprint(&self) -> u64 {
        self.examiner.runner.model.fingerprint()
    }

    /// The report, with what was exercised but without its verdict.
    pub(super) fn end(self) -> Report {
        Report {
            seconds: self.elapsed().as_secs_f64(),
            is_interrupted: interrupt::requested(),
            coverage: self.examiner.runner.model.coverage,
            ..self.report
        }
    }
}
