//! `tidy`: does a system leave more behind again and again?
//!
//! Where a reset leaves what a process has hold of, scenarios are looked at as a whole: each ends in the empty state, so what
//! is there then that was not there before is left over. Elsewhere refused calls are looked at one by one.
//!
//! The memory of a system in this process is counted to the byte: over runs of a scenario, and over one refused call again
//! and again.

use std::thread::sleep;
use std::time::Duration;

use super::examine::Examiner;
use super::heap;
use super::pass::Pass;
use super::run::{Judged, Stop, Unwatched, Watch, guarded};
use crate::operation::Operation;
use crate::property::{Property, Violation};
use crate::scenario::Scenario;
use crate::sut::{Failure, Growth, Resources, Sut};

/// So many refused calls in a row that each leave something behind are no accident.
const LEAK_STREAK: u32 = 4;
/// So many runs in a row that each leave more behind are no pool that fills, and no cache.
const LEAKING_RUNS: u32 = 32;
/// A refused call is made again so many times, then so many more. A list that doubles its room whenever it is full does so
/// once in each of them; what keeps only the last few entries has all of them before the end.
const REFUSALS: [u32; 5] = [8, 16, 32, 64, 128];
/// What is counted to the byte grows in so many runs in a row.
const HOARDING_RUNS: u32 = 256;
/// What is cleaned up in the background may take so long.
const SETTLING: Duration = Duration::from_millis(500);
/// So many counts show that something grows.
const SHOWN_COUNTS: usize = 5;

impl Pass<'_> {
    /// Refused calls must leave nothing behind. Accepted ones may, and what they do is passed over.
    pub(super) fn watch_resources(&mut self, call: &Operation, is_refused: bool) -> Result<(), Stop> {
        let growth = &mut self.standing.growth;
        if !is_refused && !growth.as_ref().is_some_and(Growth::is_under_way) {
            *growth = None;
            return Ok(());
        }
        let now = self.sut.resources();
        let Some(growth) = growth else {
            *growth = Some(Growth::since(now));
            return Ok(());
        };
        if !is_refused {
            growth.pass_over(now);
            return Ok(());
        }
        growth.note(now);
        let Some(kind) = growth.steady(LEAK_STREAK) else { return Ok(()) };
        let (name, count) = (kind.name(), now.count(kind).unwrap_or_default());
        let message = format!(
            "`{call}` was refused and left more {name} behind, as did the refused calls before it: {count} now"
        );
        Err(Violation::new(Property::Tidy, message).into())
    }
}

impl Examiner {
    /// Does each run of the scenario leave more behind than the one before, although each ends in the empty state?
    pub(super) fn untidy(
        &mut self,
        sut: &mut dyn Sut,
        scenario: &Scenario,
        before: Resources,
    ) -> Result<Option<Violation>, Failure> {
        if !sut.resets_in_place() {
            return Ok(None);
        }
        let mut growth = Growth::since(before);
        let mut seen = vec![before, sut.resources()];
        growth.note(seen[1]);
        while growth.is_under_way() && growth.steady(LEAKING_RUNS).is_none() {
            let run = self.uncounted(|runner| runner.run(sut, scenario, &mut Unwatched))?;
            if run.finding.is_some() {
                return Ok(None);
            }
            let now = sut.resources();
            seen.push(now);
            growth.note(now);
        }
        let Some(kind) = growth.steady(LEAKING_RUNS) else { return Ok(None) };
        let count = |seen: &Resources| seen.count(kind).unwrap_or_default();
        let grown = seen.last().map_or(0, count).saturating_sub(count(&before));
        // What is cleaned up in the background is no leak.
        sleep(SETTLING);
        if 2 * count(&sut.resources()).saturating_sub(count(&before)) < grown {
            return Ok(None);
        }
        let last = &seen[seen.len().saturating_sub(SHOWN_COUNTS)..];
        let counts = last.iter().map(|seen| count(seen).to_string()).collect::<Vec<String>>().join(", ");
        let message =
            format!("each run of these steps leaves more {} behind, although all is given back: {counts}", kind.name());
        Ok(Some(Violation::new(Property::Tidy, message)))
    }

    /// Does a system in this process keep more memory with each run of the scenario, or with each refusal of the same call?
    pub(super) fn hoards(&mut self, sut: &mut dyn Sut, scenario: &Scenario) -> Result<Option<Violation>, Failure> {
        match self.hoards_when_refusing(sut, scenario)? {
            None => self.hoards_when_run(sut, scenario),
            found => Ok(found),
        }
    }

    /// Makes the last call that the scenario has refused again and again, with nobody between it and the system.
    fn hoards_when_refusing(&mut self, sut: &mut dyn Sut, scenario: &Scenario) -> Result<Option<Violation>, Failure> {
        // A fresh instance, where there can be one, has kept little yet: a list of its own is soon full again.
        let _ = sut.forget();
        let mut last = LastRefused::default();
        let played = self.uncounted(|runner| runner.play(sut, scenario, &mut last))?;
        let (None, Some(call)) = (played.finding, last.0) else { return Ok(None) };
        let mut grown = 0;
        for times in REFUSALS {
            let (is_refused, growth) = heap::growth_in(|| {
                (0..times).all(|_| matches!(guarded(&self.runner.watchdog, || sut.call(&call)), Ok(Ok(Err(_)))))
            });
            // In the state that the scenario ends in it may be accepted.
            if !is_refused || growth <= 0 {
                return Ok(None);
            }
            grown = growth;
        }
        let times = REFUSALS[REFUSALS.len() - 1];
        let message =
            format!("`{call}` is refused again and again, and keeps memory: the last {times} times {grown} bytes");
        Ok(Some(Violation::new(Property::Tidy, message)))
    }

    /// Runs the scenario again and again. After the first time nothing is new to the harness itself.
    fn hoards_when_run(&mut self, sut: &mut dyn Sut, scenario: &Scenario) -> Result<Option<Violation>, Failure> {
        let mut grown = 0;
        for number in 0..=HOARDING_RUNS {
            let passes = || {
                let run = self.uncounted(|runner| runner.play(sut, scenario, &mut Unwatched))?;
                Ok(run.finding.is_none())
            };
            let (passes, growth) = heap::growth_in(passes);
            let is_first = number == 0;
            if !passes? || (growth <= 0 && !is_first) {
                return Ok(None);
            }
            grown = growth;
        }
        let message =
            format!("each run of these steps keeps memory, although all is given back: the last {grown} bytes");
        Ok(Some(Violation::new(Property::Tidy, message)))
    }
}

/// The last call that was refused, as it was sent.
#[derive(Default)]
struct LastRefused(Option<Operation>);

impl Watch for LastRefused {
    fn answered(&mut self, call: &Judged<'_>) {
        if call.response.is_err() {
            self.0 = Some(call.operation.clone());
        }
    }
}
