//! proptest as its book begins: a vector of operations, and one property of it.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{BoxedStrategy, Just, Strategy, any};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

use crate::alphabet::{
    Address, Count, Earlier, HostBits, Net, Op, Owner, Pool, PoolSpec, Shape, Side, Test, Time, Wanted,
};
use crate::trial::Trial;

pub fn run(trial: &'static Trial, seed: u64, budget: u32) {
    let config =
        Config { cases: budget, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() };
    let tests = (any::<PoolSpec>(), option::of(any::<PoolSpec>()), vec(op(), 1..100))
        .prop_map(|(first, second, ops)| Test { first, second, ops });
    // Whether it failed stands in the trial.
    let _ = TestRunner::new(config).run(&tests, |test| {
        trial.test(&test.scenario()).map_err(|violation| TestCaseError::fail(violation.to_string()))
    });
}

/// Any operation; what allocators are mostly asked for comes more often.
pub fn op() -> BoxedStrategy<Op> {
    let (owner, pool, ttl) = (any::<Owner>, any::<Pool>, any::<Option<Time>>);
    proptest::prop_oneof![
        1 => (pool(), any::<PoolSpec>()).prop_map(|(pool, spec)| Op::CreatePool { pool, spec }),
        1 => (pool(), any::<Net>(), any::<Shape>()).prop_map(|(pool, net, shape)| Op::UpdatePool { pool, net, shape }),
        1 => pool().prop_map(|pool| Op::DeletePool { pool }),
        5 => (owner(), pool(), ttl()).prop_map(|(owner, pool, ttl)| Op::Allocate { owner, pool, ttl }),
        3 => (owner(), pool(), any::<Address>(), ttl())
            .prop_map(|(owner, pool, address, ttl)| Op::AllocateNamed { owner, pool, address, ttl }),
        1 => (owner(), pool(), any::<Net>(), any::<HostBits>(), ttl())
            .prop_map(|(owner, pool, family, size, ttl)| Op::AllocateBlock { owner, pool, family, size, ttl }),
        1 => (owner(), any::<(Wanted, Wanted)>(), ttl())
            .prop_map(|(owner, (first, second), ttl)| Op::AllocateSeveral { owner, first, second, ttl }),
        4 => any::<Earlier>().prop_map(|grant| Op::ReleaseGranted { grant }),
        1 => (pool(), any::<Address>(), any::<Option<Owner>>())
            .prop_map(|(pool, address, owner)| Op::Release { pool, address, owner }),
        1 => owner().prop_map(|owner| Op::ReleaseOwner { owner }),
        1 => any::<(Earlier, Time)>().prop_map(|(grant, ttl)| Op::RenewGranted { grant, ttl }),
        1 => (pool(), any::<Address>(), owner(), any::<Time>())
            .prop_map(|(pool, address, owner, ttl)| Op::Renew { pool, address, owner, ttl }),
        1 => Just(Op::Begin),
        1 => Just(Op::Commit),
        1 => Just(Op::Rollback),
        1 => any::<Option<Pool>>().prop_map(|pool| Op::List { pool }),
        1 => pool().prop_map(|pool| Op::Usage { pool }),
        1 => any::<Time>().prop_map(|ms| Op::Advance { ms }),
        1 => any::<(Earlier, Side)>().prop_map(|(lease, side)| Op::AdvanceToEnd { lease, side }),
        1 => (pool(), owner(), any::<Count>(), ttl())
            .prop_map(|(pool, owner, count, ttl)| Op::Fill { pool, owner, count, ttl }),
        1 => (pool(), any::<Count>()).prop_map(|(pool, count)| Op::Drain { pool, count }),
        1 => any::<Earlier>().prop_map(|call| Op::Replay { call }),
        1 => Just(Op::Restart),
        1 => Just(Op::Crash),
    ]
    .boxed()
}
