//! A store that fails at one chosen step, put under every kind of call: whatever the step, the call happened as a whole or
//! not at all, the first cause is what is reported, and the allocator goes on working.

mod common;

use std::cell::Cell;
use std::rc::Rc;

use common::{address, drain, seen, spec, with_pools};
use poolproof_allocator::store::{Access, Filter, Holder, Pool, PoolId, Store};
use poolproof_allocator::{
    Allocation, Allocator, Error, ErrorKind, Family, MemoryStore, PoolShape, Prefix, Request, Result, Span,
};

/// Which steps are going to fail. The test keeps a handle on it, since the allocator owns the store.
#[derive(Debug, Default)]
struct Plan {
    /// How many more steps succeed before one fails.
    countdown: Cell<Option<u32>>,
    /// Whether the next attempt to undo fails as well.
    undo_fails: Cell<bool>,
}

#[derive(Debug, Default)]
struct Faulty {
    inner: MemoryStore,
    plan: Rc<Plan>,
    /// What could not be undone is undone before the next transaction, as a store has to.
    left_over: bool,
}

impl Faulty {
    fn step(&mut self) -> Result<&mut MemoryStore> {
        let left = self.plan.countdown.get();
        self.plan.countdown.set(left.and_then(|left| left.checked_sub(1)));
        match left {
            Some(0) => Err(Error::Busy("first".into())),
            _ => Ok(&mut self.inner),
        }
    }

    fn undo_step(&mut self) -> Result<&mut MemoryStore> {
        match self.plan.undo_fails.take() {
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
        fn prefix_up_to(&mut self, family: Family, address: u128) -> Result<Option<Span>>;
        fn insert_pool(&mut self, name: &str, prefix: Prefix) -> Result<PoolId>;
        fn remove_pool(&mut self, pool: PoolId) -> Result<()>;
        fn reshape_pool(&mut self, pool: PoolId, allocatable: u128, free: &[Span]) -> Result<()>;
        fn free_from(&mut self, pool: PoolId, address: u128) -> Result<Option<Span>>;
        fn put_free(&mut self, pool: PoolId, span: Span) -> Result<()>;
        fn remove_free(&mut self, pool: PoolId, last: u128) -> Result<()>;
        fn holder(&mut self, pool: PoolId, address: u128, owner: &str) -> Result<Holder>;
        fn insert_allocation(&mut self, pool: PoolId, address: u128, owner: &str, end_ms: Option<u64>) -> Result<()>;
        fn set_expiry(&mut self, pool: PoolId, address: u128, expires_ms: u64) -> Result<()>;
        fn remove_allocation(&mut self, pool: PoolId, address: u128) -> Result<()>;
        fn list(&mut self, filter: Filter<'_>) -> Result<Vec<(PoolId, Allocation)>>;
    }

    fn begin(&mut self, access: Access) -> Result<()> {
        if std::mem::take(&mut self.left_over) {
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
        let undone = self.undo_step().and_then(Store::rollback);
        self.left_over = undone.is_err();
        undone
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
const CALLS: [(&str, Call); 9] = [
    ("create", |allocator| allocator.create_pool("p2", &spec("10.2.0.0/24"))),
    ("update", |allocator| {
        allocator.update_pool("p0", &PoolShape { gateway: Some(address("10.0.0.6")), ..PoolShape::default() })
    }),
    ("delete", |allocator| allocator.delete_pool("p1")),
    ("allocate any", |allocator| allocator.allocate("b", &[Request::any("p0"), Request::any("p1")], Some(5)).map(drop)),
    ("allocate named", |allocator| {
        let named = |pool, text| Request::named(pool, address(text));
        allocator.allocate("b", &[named("p0", "10.0.0.5"), named("p1", "fd00::2")], None).map(drop)
    }),
    ("release", |allocator| allocator.release("p0", address("10.0.0.3"), "a")),
    ("release owner", |allocator| allocator.release_owner("a").map(drop)),
    ("renew", |allocator| allocator.renew("p0", address("10.0.0.2"), "a", 77).map(drop)),
    ("advance", |allocator| allocator.advance_to(10).map(drop)),
];

fn prepared() -> (Allocator<Faulty>, Rc<Plan>) {
    let plan = Rc::new(Plan::default());
    let store = Faulty { plan: plan.clone(), ..Faulty::default() };
    let mut allocator = with_pools(Allocator::with_store(store));
    allocator.allocate("a", &[Request::any("p0"), Request::any("p0")], Some(10)).unwrap();
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
    for (name, call) in CALLS.into_iter().filter(|(name, _)| *name != "advance") {
        at_every_step(call, false, true, |mut allocator, answer| {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::Busy, "{name}");
            allocator.commit().unwrap();
            assert_untouched(allocator);
        });
    }
}

#[test]
fn atomic_half_a_call_that_cannot_be_undone_is_never_committed() {
    for (name, call) in CALLS.into_iter().filter(|(name, _)| *name != "advance") {
        at_every_step(call, true, true, |mut allocator, answer| {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::Busy, "{name}");
            if let Err(error) = allocator.commit() {
                assert_eq!(error.kind(), ErrorKind::Storage, "{name}");
            }
            assert_untouched(allocator);
        });
    }
}
