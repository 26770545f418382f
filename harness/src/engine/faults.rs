//! What a run does about faults: sets them before a step, and sees to what they leave behind.

use crate::fault::{Fault, FaultKind, Io};
use crate::operation::{Allocation, Answer, Kind, Method, Operation, Refusal, Response};
use crate::sut::Failure;

use super::feedback::Event;
use super::pass::Pass;
use super::run::{Judged, Stop, guarded};

impl Pass<'_> {
    /// Sets what the steps before asked for.
    pub(super) fn arm(&mut self) -> Result<(), Stop> {
        let faults = std::mem::take(&mut self.standing.faults);
        if faults.is_empty() && self.runner.counted.is_none() {
            return Ok(());
        }
        match self.sut.arm(&faults) {
            Ok(()) => (self.standing.is_armed, self.standing.due) = (true, faults.len()),
            Err(Failure::Unable(why)) => self.skip(&why),
            Err(failure) => return Err(failure.into()),
        }
        Ok(())
    }

    /// From here on nothing goes wrong any more, and nothing is counted any further.
    pub(super) fn disarm(&mut self) {
        if !std::mem::take(&mut self.standing.is_armed) {
            return;
        }
        let mut struck = self.sut.struck();
        self.standing.counted = self.sut.disarm();
        if struck.is_empty() {
            // What struck after the answer is known only now.
            struck = self.sut.struck();
        }
        struck.dedup();
        for _ in struck.len()..self.standing.due {
            self.standing.run.unstruck += 1;
            self.skip("a fault did not strike");
        }
    }

    /// Keeps what was counted of the step that has just ended, where that is wanted.
    pub(super) fn keep_counted(&mut self) {
        let counted = std::mem::take(&mut self.standing.counted);
        if let Some(kept) = &mut self.runner.counted {
            kept.push(counted);
        }
    }

    /// How often a fault has struck in the step under way.
    pub(super) fn strikes(&self) -> usize {
        if self.standing.is_armed { self.sut.struck().len() } else { 0 }
    }

    /// What a call came to in which a fault struck; `None` where none did, or nobody noticed. So often one had struck before
    /// the call, in others of the same step.
    pub(super) fn after_faults(
        &mut self,
        call: &Operation,
        response: &Response,
        before: usize,
    ) -> Result<Option<Response>, Stop> {
        let struck = self.sut.struck();
        let Some(first) = struck.get(before) else { return Ok(None) };
        self.runner.feedback.iter_mut().for_each(|feedback| feedback.happened(Event::Struck(first.kind.seeded(0))));
        if self.sut.is_down() {
            self.watch.noted(self.standing.at, &format!("`{call}` was not answered: {first}"));
            self.started_again(true)?;
            self.runner.model.coverage.crashes += 1;
            let listed = self.listed()?;
            self.runner.model.died_within(call, held(listed.as_ref()));
            self.judge_listed(listed.as_ref())?;
            let message = "the process ended".into();
            return Ok(Some(Err(Refusal { kind: Kind::UnknownOutcome, message })));
        }
        let Err(refusal) = response else { return Ok(None) };
        self.disarm();
        let listed = self.listed()?;
        let cause = self.cause(&struck[before..], refusal).unwrap_or(*first);
        let judged = self.runner.model.judge_struck(call, refusal, cause.kind, held(listed.as_ref()));
        let (step, violation) = (self.standing.at, judged.as_ref().err());
        self.watch.answered(&Judged { step, operation: call, response, allowed: "", violation });
        judged?;
        self.judge_listed(listed.as_ref())?;
        Ok(Some(response.clone()))
    }

    /// What a refusal may tell of instead of what struck first. Who has no memory left for that can only tell so, and who
    /// tries again to take a lock tells how that failed.
    fn cause(&self, struck: &[Fault], refusal: &Refusal) -> Option<Fault> {
        let steps = &self.standing.counted.steps;
        let is_of_lock = |fault: &Fault| steps.get(fault.step as usize).is_some_and(|step| step.io == Io::Lock);
        let is_such =
            |fault: &&Fault| fault.kind.is_of_memory() || (fault.kind == FaultKind::Error && is_of_lock(fault));
        struck.iter().find(is_such).copied().filter(|_| refusal.kind == Kind::Storage)
    }

    /// Starts the system again. Faults may keep it from that; without them it must start.
    pub(super) fn started_again(&mut self, crashed: bool) -> Result<(), Stop> {
        if !self.sut.is_down() {
            let started =
                guarded(&self.runner.watchdog, || if crashed { self.sut.crash() } else { self.sut.restart() })?;
            if started.is_ok() || !self.standing.is_armed || self.sut.struck().is_empty() {
                return Ok(started?);
            }
        }
        self.disarm();
        Ok(guarded(&self.runner.watchdog, || self.sut.crash())??)
    }

    /// All that is held, where the system can say.
    fn listed(&mut self) -> Result<Option<Response>, Failure> {
        if !self.runner.model.contract().has(Method::List) {
            return Ok(None);
        }
        self.sut.call(&LIST).map(Some)
    }

    fn judge_listed(&mut self, listed: Option<&Response>) -> Result<(), Stop> {
        let judged = listed.map(|listed| self.runner.model.judge(&LIST, listed));
        Ok(judged.unwrap_or(Ok(()))?)
    }
}

const LIST: Operation = Operation::List { pool: None };

fn held(listed: Option<&Response>) -> Option<&[Allocation]> {
    match listed {
        Some(Ok(Answer::Listed(listed))) => Some(listed),
        _ => None,
    }
}
