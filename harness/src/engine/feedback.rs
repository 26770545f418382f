//! What guides a fuzzer besides the code that was reached: what came after what, and in which state of the model.
//!
//! The same lines of an allocator run whether a pool is half empty or has one address left, and of one in another process no
//! lines are seen at all. So the model's state goes into counters that a fuzzer takes for lines: libFuzzer's *extra counters*.
//! Each is one feature (a pair of calls with their outcomes, a call in a state of its pool, of its owner's holdings, of time
//! and transaction) and counts how often a scenario had it. States are told apart by orders of magnitude, as what matters is
//! near the borders: none, one, some, one left, all.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU8, Ordering};

use rustc_hash::FxHasher;

use crate::fault::FaultKind;
use crate::model::Model;
use crate::model::coverage::Outcome;
use crate::model::pool::Pool;
use crate::operation::{Method, Operation, Response, Text};

/// So many allocations of a pool are looked at for how scattered they are.
const MOST_LOOKED_AT: usize = 8;

/// Counts what a scenario did, for a fuzzer.
#[derive(Clone, Copy, Debug)]
pub struct Feedback {
    counters: &'static [AtomicU8],
    before: Option<Event>,
}

/// What can come after one another.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Event {
    Call(Method, Outcome),
    /// Clean or not.
    Restart(bool),
    Struck(FaultKind),
}

impl Feedback {
    /// Counts into these; a power of two of them, some thousands, so that features rarely share one. Whoever reads them sets
    /// them back to 0 before each scenario.
    pub fn new(counters: &'static [AtomicU8]) -> Feedback {
        Feedback { counters, before: None }
    }

    /// A scenario begins.
    pub(super) fn begin(&mut self) {
        self.before = None;
    }

    /// A call was answered, which left the model in this state.
    pub(super) fn answered(&mut self, model: &Model, call: &Operation, response: &Response) {
        let event = Event::Call(call.method(), Outcome::of(response));
        self.happened(event);
        self.count((1, event, model.in_transaction(), level(model.pools().take(4).count(), 4)));
        let Some(pool) = pool_of(call).and_then(|name| model.pool(name)) else { return };
        self.count((2, event, fill_level(pool), gaps(pool)));
        self.count((3, event, pool.freed as u8, leases(pool, model)));
        if let Some(owner) = owner_of(call) {
            let held = pool.iter().take(MOST_LOOKED_AT).filter(|held| held.owner == *owner).count();
            self.count((4, event, level(held, MOST_LOOKED_AT), fill_level(pool)));
        }
    }

    /// Something happened.
    pub(super) fn happened(&mut self, event: Event) {
        self.count((0, self.before, event));
        self.before = Some(event);
    }

    fn count(&self, feature: impl Hash) {
        let mut hasher = FxHasher::default();
        feature.hash(&mut hasher);
        // Its low bits are the poor ones.
        let place = (hasher.finish() >> 20) as usize & (self.counters.len() - 1);
        let counter = &self.counters[place];
        // One thread counts; others only read.
        counter.store(counter.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
    }
}

fn pool_of(call: &Operation) -> Option<&Text> {
    match call {
        Operation::CreatePool { pool, .. }
        | Operation::UpdatePool { pool, .. }
        | Operation::DeletePool { pool }
        | Operation::Release { pool, .. }
        | Operation::Renew { pool, .. }
        | Operation::Usage { pool }
        | Operation::List { pool: Some(pool) } => Some(pool),
        Operation::Allocate { requests, .. } => requests.first().map(|request| &request.pool),
        _ => None,
    }
}

fn owner_of(call: &Operation) -> Option<&Text> {
    match call {
        Operation::Allocate { owner, .. } | Operation::Renew { owner, .. } => Some(owner),
        Operation::Release { owner, .. } => owner.as_ref(),
        _ => None,
    }
}

/// None, one, a few of so many, most, all but one, all.
fn level(count: usize, of: usize) -> u8 {
    match (count, of.saturating_sub(count)) {
        (0, _) => 0,
        (_, 0) => 5,
        (_, 1) => 4,
        (1, _) => 1,
        _ if count < of / 2 => 2,
        _ => 3,
    }
}

/// How full a pool is.
fn fill_level(pool: &Pool) -> u8 {
    let bounded = |count: u128| usize::try_from(count).unwrap_or(usize::MAX);
    match bounded(pool.layout.capacity.saturated()) {
        0 => 6,
        capacity => level(bounded(pool.allocated().saturated()), capacity),
    }
}

/// How scattered its allocations are: the number of gaps between them, up to 3.
fn gaps(pool: &Pool) -> u8 {
    let spans = pool.iter().take(MOST_LOOKED_AT).map(|held| held.grant.span());
    let (mut last, mut gaps) = (None::<u128>, 0);
    for span in spans {
        gaps += u8::from(last.is_some_and(|last| last.wrapping_add(1) != span.first));
        last = Some(span.last);
    }
    gaps.min(3)
}

/// Are there leases, and are some over?
fn leases(pool: &Pool, model: &Model) -> (u8, bool) {
    let now = model.now();
    let leases = pool.iter().take(MOST_LOOKED_AT).filter(|held| held.expires.is_some());
    let (all, over) = leases.fold((0, false), |(all, over), held| (all + 1, over || held.may_have_expired(now)));
    (level(all, pool.len()), over)
}

#[cfg(all(test, feature = "reference"))]
mod tests {
    use super::*;
    use crate::engine::run::{Runner, Unwatched};
    use crate::scenario::parse;
    use crate::sut::Sut;
    use crate::sut::memory::Memory;

    /// What a scenario counts, given what may come after a pool of two addresses.
    fn counted(counters: &'static [AtomicU8; 1024], steps: &str) -> Vec<u8> {
        counters.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
        let scenario = parse(&format!("poolproof scenario 1\npool p0 10.0.0.0/31\n{steps}")).unwrap();
        let mut sut = Memory::new();
        let mut runner = Runner::new(&sut as &dyn Sut);
        runner.feedback = Some(Feedback::new(counters));
        assert_eq!(runner.run(&mut sut, &scenario, &mut Unwatched).unwrap().finding, None);
        counters.iter().map(|counter| counter.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn states_that_differ_in_what_matters_are_told_apart_and_others_are_not() {
        static COUNTERS: [AtomicU8; 1024] = [const { AtomicU8::new(0) }; 1024];
        let features = |steps| counted(&COUNTERS, steps).iter().map(|count| *count > 0).collect::<Vec<bool>>();
        let one = features("allocate \"a\" p0\n");
        assert_eq!(one, features("allocate \"b\" p0\n"), "who it is makes no difference");
        for (what, other) in [
            ("fill level", "allocate \"a\" p0\nallocate \"b\" p0\n"),
            ("whose it is", "allocate \"b\" p0\nallocate \"b\" p0\n"),
            ("order", "usage p0\nallocate \"a\" p0\n"),
            ("lease", "allocate \"a\" p0 ttl 5\n"),
            ("transaction", "begin\nallocate \"a\" p0\n"),
            ("what was set free", "allocate \"a\" p0\nrelease p0 @2 \"a\"\n"),
        ] {
            assert_ne!(one, features(other), "{what}");
        }
    }

    #[test]
    fn counts_say_how_often() {
        static COUNTERS: [AtomicU8; 1024] = [const { AtomicU8::new(0) }; 1024];
        assert_eq!(counted(&COUNTERS, &"usage p0\n".repeat(300)).into_iter().max(), Some(u8::MAX));
    }
}
