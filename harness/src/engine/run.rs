//! One scenario on one system, judged step by step.
//!
//! Every engine runs scenarios through [`Runner::run`]: a `pass` over all steps, and a last look at the whole state.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::chance::Choices;
use super::feedback::Feedback;
use super::panics;
use super::pass::{Pass, Standing};
use super::trace::Trace;
use super::watchdog::{OnHang, Watchdog};
use crate::address::Grant;
use crate::contract::Contract;
use crate::fault::Counted;
use crate::history::Broken;
use crate::model::Model;
use crate::operation::{Operation, Response};
use crate::property::{Property, Violation};
use crate::scenario::Scenario;
use crate::sut::{Failure, Resources, Sut};
use crate::turns::Place;

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// The first violation, if there was one.
    pub finding: Option<Finding>,
    /// Calls that were judged.
    pub operations: u64,
    /// Those of them that were not refused.
    pub accepted: u64,
    /// Steps that were not run, and faults that did not strike.
    pub skipped: u64,
    /// Faults that could have struck, and did not.
    pub unstruck: u64,
    /// Were several callers at work at the same time, and what they saw judged?
    pub is_race: bool,
    /// Why what they saw could not be judged, if it could not.
    pub left_open: Option<String>,
    /// What the system had hold of when it was empty, before the first step.
    pub at_start: Resources,
    /// What the system chose where it promises to choose at random.
    pub choices: Choices,
    /// Time spent in calls; where they are not timed one by one, in the whole run.
    pub time_in_calls: Duration,
    /// The longest call; where they are not timed one by one, no call took longer than this.
    pub longest_call: Duration,
}

impl Run {
    /// Did a call take longer than the contract allows?
    pub fn is_late(&self, contract: &Contract) -> bool {
        self.longest_call >= Duration::from_millis(contract.timeout_ms)
    }
}

/// A violation and where it struck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Index of the step; the number of steps when it showed only afterwards.
    pub step: usize,
    /// The broken property.
    pub violation: Violation,
    /// What callers at the same time saw, if that is what breaks it.
    pub broken: Option<Box<Broken>>,
}

impl Finding {
    /// A violation that shows without a history.
    pub(super) fn new(step: usize, violation: Violation) -> Finding {
        Finding { step, violation, broken: None }
    }
}

/// Somebody who watches a run, to print or to record it.
pub trait Watch {
    /// A call was answered and judged.
    fn answered(&mut self, call: &Judged<'_>) {
        let _ = call;
    }

    /// Something else happened: a restart, a skipped step.
    fn noted(&mut self, step: usize, what: &str) {
        let _ = (step, what);
    }
}

/// A call with its answer and judgement.
pub struct Judged<'a> {
    /// Index of the step that it belongs to.
    pub step: usize,
    /// The call as it was sent.
    pub operation: &'a Operation,
    /// The answer.
    pub response: &'a Response,
    /// What the model allowed; empty unless it explains.
    pub allowed: &'a str,
    /// What the answer breaks, if anything.
    pub violation: Option<&'a Violation>,
}

/// Nobody watches.
pub struct Unwatched;

impl Watch for Unwatched {}

/// Runs scenarios one after another. The model's coverage adds up over all of them.
pub struct Runner {
    /// The model, which holds the coverage.
    pub model: Model,
    pub(super) traces: Vec<Trace>,
    pub(super) watchdog: Option<Watchdog>,
    /// The next scenario, if it is shared.
    shared: Option<Arc<Scenario>>,
    /// Is every call timed?
    pub(super) is_timing: bool,
    /// Without what it waits for a processor? That takes some microseconds a call.
    pub(super) is_timing_exactly: bool,
    /// After so much time a scenario goes no further.
    pub(super) limit: Option<Duration>,
    /// After every so many scenarios it is looked at whether what should be gone is gone: pools, and all after a reset.
    pub(super) audit_period: u64,
    /// Is the model's state wanted after a run?
    pub(super) keeps_state: bool,
    pub(super) runs: u64,
    /// The steps of I/O and the allocations of each step of the scenario, where they are counted.
    pub(super) counted: Option<Vec<Counted>>,
    /// Who is told what happened and in which states, besides the watcher of one run.
    pub(super) feedback: Option<Feedback>,
    /// Where callers at the same time could have been interrupted, if they took turns.
    pub(super) places: Vec<Place>,
}

/// Why a run ended early.
pub(super) enum Stop {
    Found(Violation),
    Failed(Failure),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Stop {
        Stop::Found(violation)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        match failure {
            Failure::Misbehaved(violation) => Stop::Found(violation),
            other => Stop::Failed(other),
        }
    }
}

impl Runner {
    /// A runner for systems with the contract of this one.
    pub fn new(sut: &dyn Sut) -> Runner {
        panics::capture();
        Runner {
            model: Model::new(sut.contract().clone()),
            traces: Vec::new(),
            watchdog: None,
            shared: None,
            is_timing: !sut.is_fast(),
            is_timing_exactly: false,
            limit: None,
            audit_period: 1,
            keeps_state: false,
            runs: 0,
            counted: None,
            feedback: None,
            places: Vec::new(),
        }
    }

    /// The same runner, which looks only after every 16th scenario whether what should be gone is gone: for campaigns of
    /// many scenarios on a fast system.
    pub fn trusting_resets(self) -> Runner {
        Runner { audit_period: 16, ..self }
    }

    /// The same runner, which looks after every scenario, as one does that is not [`trusting_resets`](Runner::trusting_resets),
    /// and whose model then still is in the state in which the scenario ended.
    pub fn keeping_state(self) -> Runner {
        Runner { audit_period: 1, keeps_state: true, ..self }
    }

    /// From now on a scenario goes no further after so much time: what is left of it is skipped. For
    /// campaigns that must end in time on slow systems.
    pub fn limit_scenarios(&mut self, limit: Duration) {
        self.limit = Some(limit);
    }

    /// The same runner, which does not wait for ever for calls into this process: `on_hang` is told
    /// of one that does not come back, and then the process ends with the exit code for a violation.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn watched(mut self, sut: &dyn Sut, on_hang: OnHang) -> Result<Runner, Failure> {
        if !sut.ends_late_calls() {
            let limit = Duration::from_millis(sut.contract().timeout_ms);
            let started = Watchdog::start(limit, sut.scratch().map(Path::to_owned), on_hang);
            let unable = |error| Failure::Unable(format!("cannot start the thread that watches for hangs: {error}"));
            self.watchdog = Some(started.map_err(unable)?);
        }
        Ok(self)
    }

    /// The same runner with a model that says what it allows.
    pub fn explaining(self) -> Runner {
        Runner { model: self.model.explaining(), ..self }
    }

    /// Runs a scenario from the empty state. The error is the harness's or the user's own; whatever
    /// the system does wrong is a finding.
    ///
    /// Who cannot say all steps before the first is answered takes a [`Session`](super::session::Session).
    pub fn run(&mut self, sut: &mut dyn Sut, scenario: &Scenario, watch: &mut dyn Watch) -> Result<Run, Failure> {
        self.pass(sut, scenario, watch, |pass, scenario| pass.whole(scenario))
    }

    /// The same, but the system is left in the state that the scenario leads to: nothing is looked at afterwards.
    pub(super) fn play(
        &mut self,
        sut: &mut dyn Sut,
        scenario: &Scenario,
        watch: &mut dyn Watch,
    ) -> Result<Run, Failure> {
        self.pass(sut, scenario, watch, |pass, scenario| pass.steps(scenario))
    }

    fn pass(
        &mut self,
        sut: &mut dyn Sut,
        scenario: &Scenario,
        watch: &mut dyn Watch,
        work: fn(&mut Pass<'_>, &Scenario) -> Result<(), Stop>,
    ) -> Result<Run, Failure> {
        self.runs += 1;
        if let Some(watchdog) = &self.watchdog {
            let shared = self.shared.take().filter(|shared| std::ptr::eq(&raw const **shared, scenario));
            watchdog.begin(shared.unwrap_or_else(|| Arc::new(scenario.clone())));
        }
        self.begin();
        self.traces.reserve(scenario.steps.len());
        let mut standing = Standing::start();
        let mut pass = Pass { runner: self, sut, watch, standing: &mut standing };
        let finding = match work(&mut pass, scenario) {
            Ok(()) => None,
            Err(Stop::Failed(failure)) => return Err(failure),
            Err(Stop::Found(violation)) => Some(Finding::new(pass.standing.at, violation)),
        };
        let mut run = standing.run;
        if !self.is_timing {
            run.time_in_calls = standing.stopwatch.elapsed();
            run.longest_call = run.time_in_calls;
        }
        Ok(Run { finding, ..run })
    }

    /// What the last step was granted.
    pub(super) fn granted(&self) -> &[Grant] {
        self.traces.last().map_or(&[], Trace::grants)
    }

    /// Forgets the scenario before.
    fn begin(&mut self) {
        self.model.reset();
        self.feedback.iter_mut().for_each(Feedback::begin);
        self.traces.clear();
        self.counted.iter_mut().for_each(Vec::clear);
    }

    /// Says that the next scenario is this one, so that the watchdog need not copy it.
    pub fn share(&mut self, scenario: &Arc<Scenario>) {
        self.shared = Some(Arc::clone(scenario));
    }

    /// The same with every call timed exactly.
    pub fn run_timed(&mut self, sut: &mut dyn Sut, scenario: &Scenario) -> Result<Run, Failure> {
        let was_timing = std::mem::replace(&mut self.is_timing, true);
        self.is_timing_exactly = true;
        let run = self.run(sut, scenario, &mut Unwatched);
        (self.is_timing, self.is_timing_exactly) = (was_timing, false);
        run
    }
}

/// Runs the system's own code: a panic in it is a violation of `total`, not our end.
pub(super) fn guarded<T>(watchdog: &Option<Watchdog>, system: impl FnOnce() -> T) -> Result<T, Violation> {
    let guard = panics::Guard::new();
    watchdog.iter().for_each(Watchdog::beat);
    let ended = catch_unwind(AssertUnwindSafe(system));
    watchdog.iter().for_each(Watchdog::beat);
    drop(guard);
    ended.map_err(|payload| {
        Violation::new(Property::Total, format!("the system panicked: {}", panics::describe(&*payload)))
    })
}
