//! `tidy`: does a system leave more behind again and again?
//!
//! Where a reset leaves what a process has hold of, scenarios are looked at as a whole: each ends in the empty state, so what
//! is there then that was not there before is left over. Elsewhere refused calls are looked at one by one.

use std::thread::sleep;
use std::time::Duration;

use super::examine::Examiner;
use super::run::{Pass, Stop, Unwatched};
use crate::operation::Operation;
use crate::property::{Property, Violation};
use crate::scenario::Scenario;
use crate::sut::{Failure, Growth, Resources, Sut};

/// So many refused calls in a row that each leave something behind are no accident.
const LEAK_STREAK: u32 = 4;
/// So many runs in a row that each leave more behind are no pool that fills, and no cache.
const LEAKING_RUNS: u32 = 32;
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
}
