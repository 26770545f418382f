//! Judging what a system tells about itself: list and usage.

use std::collections::HashSet;

use super::reason::{Reason, Reasons};
use super::{Event, Model};
use crate::address::Count;
use crate::operation::{Allocation, Answer, Kind, Operation, Response, Text};
use crate::property::{Property, Violation};

impl Model {
    pub(super) fn list(
        &mut self,
        operation: &Operation,
        response: &Response,
        only: Option<&Text>,
    ) -> Result<(), Violation> {
        let mut reasons = Reasons::new();
        if let Some(name) = only {
            self.reason_for_missing_pool(&mut reasons, name, self.blame_for_pool());
        }
        let Some(answer) = self.settle(operation, response, &reasons)? else { return Ok(()) };
        let Answer::Listed(listed) = answer else { return Err(self.wrong_answer(operation)) };
        let wrong = |property, what: String| Err(Violation::new(property, format!("`{operation}` {what}")));
        for line in listed {
            if only.is_some_and(|only| *only != line.pool) {
                return wrong(Property::Scoped, format!("shows {} of pool {:?}", line.address, line.pool));
            }
            if let Some((property, what)) = self.misreported(line) {
                return wrong(
                    property,
                    format!("shows {} of pool {:?} held by {:?}, {what}", line.address, line.pool, line.owner),
                );
            }
        }
        if let Some(line) = repeated(listed) {
            return wrong(Property::Accounted, format!("shows {} of pool {:?} twice", line.address, line.pool));
        }
        match self.unlisted(listed, only) {
            None => Ok(()),
            Some(missing) => wrong(self.blame(), format!("does not show {missing}")),
        }
    }

    /// What is wrong with a line of a listing.
    fn misreported(&self, line: &Allocation) -> Option<(Property, String)> {
        let span = line.address.span();
        let pool = self.state.pools().get(&line.pool).filter(|pool| pool.layout.family == line.address.family());
        let held = pool.and_then(|pool| pool.get(span.first)).filter(|held| held.grant == line.address);
        let Some(held) = held else { return Some((self.blame(), "which nobody holds".to_owned())) };
        if held.owner != line.owner {
            return Some((self.blame(), format!("which {:?} holds", held.owner)));
        }
        let told = held.expires.map(|expiry| expiry.told_ms);
        if told == line.expires_ms {
            return None;
        }
        let show = |time: Option<u64>| time.map_or("never".to_owned(), |time| format!("at {time}"));
        Some((self.blame_for_end(), format!("ending {}; {} is right", show(line.expires_ms), show(told))))
    }

    /// An allocation that a listing of right and distinct lines leaves out.
    fn unlisted(&self, listed: &[Allocation], only: Option<&Text>) -> Option<String> {
        let pools = self.state.pools().iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
        let held: usize = pools.clone().map(|(_, pool)| pool.len()).sum();
        if held == listed.len() {
            return None;
        }
        let shown: HashSet<_> = listed.iter().map(|line| (&*line.pool, line.address)).collect();
        let all = pools.flat_map(|(name, pool)| pool.iter().map(move |held| (name, held)));
        let mut missing = all.filter(|(name, held)| !shown.contains(&(&***name, held.grant)));
        let missing = missing.find(|(_, held)| !held.may_have_expired(self.now))?;
        Some(format!("{} of pool {:?}, which {:?} holds", missing.1.grant, missing.0, missing.1.owner))
    }

    pub(super) fn usage(&mut self, operation: &Operation, response: &Response, name: &Text) -> Result<(), Violation> {
        let mut reasons = Reasons::new();
        self.reason_for_missing_pool(&mut reasons, name, self.blame_for_pool());
        let largest = Count::from(self.contract.limits.largest_usage);
        if self.state.pools().get(name).is_some_and(|pool| pool.layout.capacity > largest) {
            reasons.push(Reason::may(Kind::Unsupported));
        }
        let Some(answer) = self.settle(operation, response, &reasons)? else { return Ok(()) };
        let Answer::Usage { allocatable, allocated } = answer else { return Err(self.wrong_answer(operation)) };
        let Some(pool) = self.state.pools().get(name) else { return Ok(()) };
        let wrong = |property, what: &str, told: &Count, right: String| {
            let message = format!("`{operation}` tells {told} {what} addresses; {right} is right");
            Err(Violation::new(property, message))
        };
        if *allocatable != pool.layout.capacity {
            let property = if self.last == Event::Restarted { Property::Durable } else { Property::Accounted };
            return wrong(property, "allocatable", allocatable, pool.layout.capacity.to_string());
        }
        let most = pool.allocated();
        let uncertain = self.state.uncertain_in(name, self.now);
        let least = uncertain.fold(most, |sum, held| sum.minus(held.grant.span().count()));
        if (least..=most).contains(allocated) {
            return Ok(());
        }
        let right = if least == most { most.to_string() } else { format!("{least} to {most}") };
        wrong(self.blame(), "allocated", allocated, right)
    }

    /// Which promise a pool breaks that should not be there.
    fn blame_for_pool(&self) -> Property {
        if self.last == Event::RolledBack { Property::Atomic } else { Property::Scoped }
    }

    /// Which promise the wrong end of a lease breaks.
    fn blame_for_end(&self) -> Property {
        if self.last == Event::Changed { Property::Expiring } else { self.blame() }
    }

    /// Which promise a wrong listing breaks: by what happened last.
    fn blame(&self) -> Property {
        match self.last {
            Event::Changed => Property::Accounted,
            Event::Refused | Event::RolledBack => Property::Atomic,
            Event::Restarted => Property::Durable,
            Event::Advanced => Property::Expiring,
            Event::Reshaped => Property::Reconfigurable,
        }
    }
}

/// A line that stands twice in a listing. Sorted listings are seen through without a set.
fn repeated(listed: &[Allocation]) -> Option<&Allocation> {
    if listed.windows(2).all(|pair| (&pair[0].pool, pair[0].address) < (&pair[1].pool, pair[1].address)) {
        return None;
    }
    let mut seen = HashSet::with_capacity(listed.len());
    listed.iter().find(|line| !seen.insert((&*line.pool, line.address)))
}
