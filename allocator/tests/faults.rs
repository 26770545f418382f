//! A store that fails at one chosen step, put under every kind of call: whatever the step, the call happened as a whole or
//! not at all, the first cause is what is reported, and the allocator goes on working.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use common::{address, any, drain, kind, resource, seen, spec, with_pools};
use poolproof_allocator::store::{Access, Filter, Holder, Obstacle, Over, Place, Pool, PoolId, Store, Tenure};
use poolproof_allocator::{
    Allocation, Allocator, Difference, Error, ErrorKind, Extent, Family, MemoryStore, Policy, PoolShape, Prefix,
    Release, Repeat, Request, Result, Span, Strategy, Usage,
};

/// Which steps are going to fail. The test keeps a handle on it, since the allocator owns the store.
#[derive(Debug, Default)]
struct Plan {
    /// How many more steps succeed before one fails.
    countdown: Cell<Option<u32>>,
    /// Whether the next attempt to undo fails as well.
    undo_fails: Cell<bool>,
    /// Whether the step that fails ends the transaction, as a full disk makes SQLite do.
    ends_all: Cell<bool>,
}

#[derive(Debug)]
struct Faulty {
    inner: MemoryStore,
    plan: Rc<Plan>,
}

impl Faulty {
    fn step(&mut self) -> Result<&mut MemoryStore> {
        let left = self.plan.countdown.get();
        self.plan.countdown.set(left.and_then(|left| left.checked_sub(1)));
        match left {
            Some(0) if self.plan.ends_all.get() && self.inner.in_transaction() => {
                self.inner.rollback().and(Err(Error::Busy("first".into())))
            }
            Some(0) => Err(Error::Busy("first".into())),
            _ => Ok(&mut self.inner),
        }
    }

    fn undo_step(&mut self) -> Result<&mut MemoryStore> {
        match self.plan.undo_fails.take() || !self.inner.in_transaction() {
            true => Err(Error::Storage("second".into())),
            false => Ok(&mut self.inner),
        }
    }
}

/// The methods that do nothing but count as a step.
macro_rules! steps {
    ($(fn $name:ident(&mut self $(, $argument:ident: $type:ty)*) -> $answer:ty;)*) => {
        $(fn $name(&mut self $(, $argument: $type)*) -> $answer { self.step()?.$name($($argument),*) })*
    };
}

impl Store for Faulty {
    steps! {
        fn mark(&mut self) -> Result<()>;
        fn keep(&mut self) -> Result<()>;
        fn clear(&mut self) -> Result<()>;
        fn now_ms(&mut self) -> Result<u64>;
        fn set_now_ms(&mut self, now_ms: u64) -> Result<()>;
        fn find_pool(&mut self, name: &str) -> Result<Option<Pool>>;
        fn pools(&mut self) -> Result<Vec<(Arc<str>, PoolId)>>;
        fn prefix_up_to(&mut self, space: &str, family: Family, address: u128) -> Result<Option<Span>>;
        fn insert_pool(&mut self, name: &str, space: &str, prefix: Prefix) -> Result<PoolId>;
        fn remove_pool(&mut self, pool: PoolId) -> Result<()>;
        fn shape_pool(&mut self, pool: PoolId, policy: Policy, allocatable: &[Span]) -> Result<()>;
        fn allocatable(&mut self, pool: PoolId) -> Result<Vec<Span>>;
        fn cursor(&mut self, pool: PoolId) -> Result<u128>;
        fn policy(&mut self, pool: PoolId) -> Result<Policy>;
        fn usage(&mut self, pool: PoolId) -> Result<Usage>;
        fn free_from(&mut self, pool: PoolId, address: u128) -> Result<Option<u128>>;
        fn nth_free(&mut self, pool: PoolId, n: u128) -> Result<Option<u128>>;
        fn free_block(&mut self, pool: PoolId, host_bits: u8, address: u128) -> Result<Option<u128>>;
        fn obstacle(&mut self, pool: PoolId, extent: Extent) -> Result<Obstacle>;
        fn hold(&mut self, pool: PoolId, extent: Extent, owner: &str, end_ms: Option<u64>, cursor: Option<u128>) -> Result<u64>;
        fn set_expiry(&mut self, pool: PoolId, extent: Extent, expires_ms: Option<u64>) -> Result<()>;
        fn end(&mut self, pool: PoolId, extent: Extent, quarantine_until_ms: Option<u64>) -> Result<()>;
        fn end_quarantine(&mut self, pool: PoolId, extent: Extent) -> Result<()>;
        fn holder(&mut self, pool: PoolId, extent: Extent, owner: &str) -> Result<Holder>;
        fn held_from(&mut self, pool: PoolId, owner: &str, from: Extent) -> Result<Option<Tenure>>;
        fn find(&mut self, pool: PoolId, address: u128) -> Result<Option<Allocation>>;
        fn list(&mut self, filter: Filter<'_>) -> Result<Vec<(Place, Allocation)>>;
        fn over(&mut self, now_ms: u64) -> Result<Vec<Over>>;
        fn audit(&mut self) -> Result<Vec<Difference>>;
    }

    fn begin(&mut self, access: Access) -> Result<()> {
        // What could not be undone is undone before the next transaction, as a store has to.
        if self.inner.in_transaction() {
            self.inner.rollback()?;
        }
        self.step()?.begin(access)
    }

    fn commit(&mut self) -> Result<()> {
        match self.step() {
            Ok(inner) => inner.commit(),
            Err(error) => self.inner.rollback().and(Err(error)),
        }
    }

    fn rollback(&mut self) -> Result<()> {
        if !self.inner.in_transaction() {
            return Ok(());
        }
        self.undo_step()?.rollback()
    }

    fn undo(&mut self) -> Result<()> {
        self.undo_step()?.undo()
    }

    fn in_transaction(&self) -> bool {
        self.inner.in_transaction()
    }
}

type Call = fn(&mut Allocator<Faulty>) -> Result<()>;

/// One call of every kind that writes, each of several steps and each possible in the state of [`prepared`].
const CALLS: [(&str, Call); 15] = [
    ("create", |allocator| allocator.create_pool("p4", &spec("10.4.0.0/24"))),
    ("update", |allocator| {
        allocator.update_pool("p0", &PoolShape { gateway: Some(address("10.0.0.6")), ..PoolShape::default() })
    }),
    ("delete", |allocator| allocator.delete_pool("p1")),
    ("delete with a quarantine", |allocator| allocator.delete_pool("p3")),
    ("allocate any", |allocator| allocator.allocate("b", &[Request::any("p0"), Request::any("p1")], Some(5)).map(drop)),
    ("allocate named", |allocator| {
        let named = |pool, text| Request::named(pool, address(text));
        allocator.allocate("b", &[named("p0", "10.0.0.5"), named("p1", "fd00::2")], None).map(drop)
    }),
    ("allocate several and a block", |allocator| {
        let requests = [Request::several("p0", 2), Request::block("p2", 30), Request::any("p2")];
        allocator.allocate("b", &requests, Some(5)).map(drop)
    }),
    ("allocate again", |allocator| allocator.allocate("a", &[Request::several("p2", 2)], Some(7)).map(drop)),
    ("release", |allocator| allocator.release("p0", address("10.0.0.3"), "a")),
    ("release into quarantine", |allocator| allocator.release("p2", address("10.2.0.2"), "a")),
    ("release exactly", |allocator| {
        let resource = resource("10.2.0.2");
        allocator.release_exactly(&Release { pool: "p2", resource, owner: "a", generation: Some(2) })
    }),
    ("release owner", |allocator| allocator.release_owner("a").map(drop)),
    ("renew", |allocator| allocator.renew("p0", address("10.0.0.2"), "a", 77).map(drop)),
    ("advance", |allocator| allocator.advance_to(10).map(drop)),
    ("advance to the end of a quarantine", |allocator| allocator.advance_to(5).map(drop)),
];

fn prepared() -> (Allocator<Faulty>, Rc<Plan>) {
    let plan = Rc::new(Plan::default());
    let store = Faulty { inner: MemoryStore::default(), plan: plan.clone() };
    let mut allocator = with_pools(Allocator::with_store(store));
    allocator.allocate("a", &[Request::any("p0"), Request::any("p0")], Some(10)).unwrap();
    // What is released first waits until 5.
    let policy = Policy { strategy: Strategy::Next, repeat: Repeat::Same, quarantine_ms: 5 };
    for (pool, prefix) in [("p2", "10.2.0.0/28"), ("p3", "10.3.0.0/28")] {
        allocator.create_pool(pool, &spec(prefix).with_policy(policy)).unwrap();
        any(&mut allocator, "c", pool).unwrap();
    }
    allocator.allocate("a", &[Request::any("p2")], Some(10)).unwrap();
    allocator.release_owner("c").unwrap();
    (allocator, plan)
}

/// Makes a call fail at every step in turn until it has none left, and checks what `check` says after each failure.
fn at_every_step(call: Call, undo_fails: bool, begin: bool, check: impl Fn(Allocator<Faulty>, Result<()>)) -> u32 {
    for step in 0.. {
        let (mut allocator, plan) = prepared();
        if begin {
            allocator.begin().unwrap();
        }
        plan.countdown.set(Some(step));
        plan.undo_fails.set(undo_fails);
        let answer = call(&mut allocator);
        let struck = plan.countdown.take().is_none();
        plan.undo_fails.set(false);
        if !struck {
            answer.unwrap();
            return step;
        }
        check(allocator, answer);
    }
    unreachable!("every call has an end");
}

/// The allocator is as it was prepared, and whole: what is free can be had, what is held can be released.
fn assert_untouched(mut allocator: Allocator<Faulty>) {
    assert_eq!(seen(&mut allocator), seen(&mut prepared().0));
    assert_eq!(drain(&mut allocator, "p0").len(), 3);
    assert_eq!(drain(&mut allocator, "p1").len(), 3);
    assert_eq!(allocator.advance_to(10).unwrap(), 10);
    assert_eq!(allocator.usage("p0").unwrap().allocated, 3);
    assert_eq!(allocator.usage("p2").unwrap(), Usage { allocatable: 14, allocated: 0, quarantined: 1 });
    assert_eq!(any(&mut allocator, "b", "p2").unwrap(), "10.2.0.3");
    seen(&mut allocator);
}

#[test]
fn atomic_a_call_that_fails_at_any_step_changes_nothing() {
    for (name, call) in CALLS {
        let steps = at_every_step(call, false, false, |allocator, answer| {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::Busy, "{name}");
            assert_untouched(allocator);
        });
        assert!(steps > 3, "{name} has but {steps} steps");
    }
}

#[test]
fn classified_a_failure_while_undoing_does_not_hide_the_first_cause() {
    for (name, call) in CALLS {
        at_every_step(call, true, false, |allocator, answer| {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::Busy, "{name}");
            assert_untouched(allocator);
        });
    }
}

#[test]
fn atomic_a_call_that_fails_inside_a_transaction_undoes_only_itself() {
    for (name, call) in CALLS.into_iter().filter(|(name, _)| !name.starts_with("advance")) {
        at_every_step(call, false, true, |mut allocator, answer| {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::Busy, "{name}");
            allocator.commit().unwrap();
            assert_untouched(allocator);
        });
    }
}

#[test]
fn atomic_half_a_call_that_cannot_be_undone_is_never_committed() {
    for (name, call) in CALLS.into_iter().filter(|(name, _)| !name.starts_with("advance")) {
        at_every_step(call, true, true, |mut allocator, answer| {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::Busy, "{name}");
            if let Err(error) = allocator.commit() {
                assert_eq!(error.kind(), ErrorKind::Storage, "{name}");
            }
            assert_untouched(allocator);
        });
    }
}

/// The caller is told that the transaction is lost, and not only that there is no such pool.
#[test]
fn classified_a_refusal_that_cannot_be_undone_is_a_failure() {
    let (mut allocator, plan) = prepared();
    allocator.begin().unwrap();
    let unknown = |allocator: &mut Allocator<Faulty>| allocator.delete_pool("p9");
    assert_eq!(kind(unknown(&mut allocator)), ErrorKind::NotFound);
    plan.undo_fails.set(true);
    assert_eq!(kind(unknown(&mut allocator)), ErrorKind::Storage);
    assert_eq!(kind(allocator.commit()), ErrorKind::Storage);
    assert_untouched(allocator);
}

#[test]
fn atomic_no_call_slips_out_of_a_transaction_that_a_failure_ended() {
    let savepoint: (&str, Call) = ("savepoint", |allocator| allocator.savepoint().map(drop));
    for (name, call) in CALLS.into_iter().chain([savepoint]).filter(|(name, _)| !name.starts_with("advance")) {
        for step in 0.. {
            let (mut allocator, plan) = prepared();
            allocator.begin().unwrap();
            plan.ends_all.set(true);
            plan.countdown.set(Some(step));
            let answer = call(&mut allocator);
            if plan.countdown.take().is_some() {
                break;
            }
            assert_eq!(kind(answer), ErrorKind::Busy, "{name}");
            assert_eq!(kind(any(&mut allocator, "b", "p0")), ErrorKind::Storage, "{name}");
            assert_eq!(kind(allocator.list(None)), ErrorKind::Storage, "{name}");
            assert_eq!(kind(allocator.savepoint()), ErrorKind::Storage, "{name}");
            assert_eq!(kind(allocator.commit()), ErrorKind::Storage, "{name}");
            assert_untouched(allocator);
        }
    }
}

/// Makes going back to a savepoint, or forgetting it, fail at every step, and commits what the allocator lets be committed.
#[test]
fn atomic_a_savepoint_that_cannot_be_ended_spoils_the_transaction() {
    type End = fn(&mut Allocator<Faulty>, poolproof_allocator::Savepoint) -> Result<()>;
    let ends: [(&str, End, bool); 3] = [
        ("back, and no mark", Allocator::rollback_to, false),
        ("not back", Allocator::rollback_to, true),
        ("not kept", Allocator::release_savepoint, false),
    ];
    for (name, end, undo_fails) in ends {
        let (mut allocator, plan) = prepared();
        allocator.begin().unwrap();
        let savepoint = allocator.savepoint().unwrap();
        any(&mut allocator, "b", "p0").unwrap();
        plan.countdown.set((!undo_fails).then_some(0));
        plan.undo_fails.set(undo_fails);
        end(&mut allocator, savepoint).unwrap_err();
        plan.countdown.set(None);
        assert_eq!(kind(any(&mut allocator, "b", "p0")), ErrorKind::Storage, "{name}");
        assert_eq!(kind(allocator.commit()), ErrorKind::Storage, "{name}");
        assert_untouched(allocator);
    }
}

#[test]
fn atomic_a_reset_that_fails_in_a_transaction_undoes_it() {
    let (mut allocator, plan) = prepared();
    allocator.begin().unwrap();
    any(&mut allocator, "b", "p0").unwrap();
    plan.countdown.set(Some(0));
    assert_eq!(kind(allocator.reset()), ErrorKind::Busy);
    assert_eq!(kind(allocator.commit()), ErrorKind::Invalid);
    assert_untouched(allocator);
}
