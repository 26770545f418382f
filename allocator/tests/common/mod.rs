//! What the test suites share: short spellings, and what everybody can see of an allocator.

#![allow(dead_code, unreachable_pub, reason = "each suite uses its part")]

pub mod naive;
pub mod rules;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use poolproof_allocator::store::Store;
use poolproof_allocator::{
    Allocation, Allocator, ErrorKind, Granted, PoolInfo, PoolSpec, Request, Resource, Result, parse_address,
    parse_prefix,
};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};

pub fn address(text: &str) -> IpAddr {
    parse_address(text).unwrap()
}

/// An address, or a block if it has a slash.
pub fn resource(text: &str) -> Resource {
    text.parse().unwrap()
}

pub fn spec(prefix: &str) -> PoolSpec {
    PoolSpec::new(parse_prefix(prefix).unwrap())
}

/// The pools that most tests use: p0 hands out 10.0.0.2 to .6, p1 fd00::1 to ::3.
pub fn with_pools<S: Store>(mut allocator: Allocator<S>) -> Allocator<S> {
    allocator.create_pool("p0", &spec("10.0.0.0/29").with_gateway(address("10.0.0.1"))).unwrap();
    allocator.create_pool("p1", &spec("fd00::/126")).unwrap();
    allocator
}

/// Allocates any address of a pool.
pub fn any<S: Store>(allocator: &mut Allocator<S>, owner: &str, pool: &str) -> Result<String> {
    let granted = allocator.allocate(owner, &[Request::any(pool)], None)?;
    Ok(granted.grants[0].resource.to_string())
}

/// Allocates a given address or block of a pool.
pub fn named<S: Store>(allocator: &mut Allocator<S>, owner: &str, pool: &str, text: &str) -> Result<String> {
    let granted = allocator.allocate(owner, &[Request::named(pool, resource(text))], None)?;
    Ok(granted.grants[0].resource.to_string())
}

/// What was granted, as text.
pub fn texts(granted: &Granted) -> Vec<String> {
    granted.grants.iter().map(|grant| grant.resource.to_string()).collect()
}

/// Allocates until the pool is exhausted.
pub fn drain<S: Store>(allocator: &mut Allocator<S>, pool: &str) -> Vec<String> {
    let mut drained = Vec::new();
    // No pool that is drained has more, and a test shall end also when nothing is held.
    for _ in 0..1000 {
        match any(allocator, "drain", pool) {
            Ok(address) => drained.push(address),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Exhausted);
                return drained;
            }
        }
    }
    panic!("{pool} is never exhausted");
}

/// Everything that can be seen, once it is certain that it fits together.
pub fn seen<S: Store>(allocator: &mut Allocator<S>) -> (Vec<Allocation>, Vec<PoolInfo>, u64) {
    assert_eq!(allocator.audit().unwrap(), []);
    (allocator.list(None).unwrap(), allocator.pools().unwrap(), allocator.now_ms().unwrap())
}

pub fn kind<T: std::fmt::Debug>(answer: Result<T>) -> ErrorKind {
    answer.unwrap_err().kind()
}

/// Checks values that are drawn, for so many seconds as `POOLPROOF_MODEL_SECONDS` says, or 20.
pub fn for_some_time<T: Strategy>(drawn: &T, check: impl Fn(T::Value)) {
    let seconds = std::env::var("POOLPROOF_MODEL_SECONDS").ok().and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(20));
    while Instant::now() < end {
        for_some(10, drawn, &check);
    }
}

/// Checks so many values that are drawn. One that fails is made small.
pub fn for_some<T: Strategy>(cases: u32, drawn: &T, check: impl Fn(T::Value)) {
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let found = runner.run(drawn, |value| {
        check(value);
        Ok(())
    });
    found.unwrap_or_else(|error| panic!("{error}"));
}
