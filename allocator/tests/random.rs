//! What [`Strategy::Random`] promises: any free address with the same probability, whatever came before, at once.
//!
//! Each statistic is compared with the value that chance alone passes once in a million runs.

mod common;

use std::collections::BTreeMap;

use common::naive::NaiveStore;
use common::rules::value;
use common::{kind, resource, spec};
use poolproof_allocator::store::Store;
use poolproof_allocator::{Allocator, ErrorKind, Policy, PoolSpec, Request, Resource, SqliteAllocator, Strategy};

/// What a standard normal variable passes with probability 1e-6.
const ONE_IN_A_MILLION: f64 = 4.753_424;

/// What its absolute value passes with probability 1e-6.
const ONE_IN_A_MILLION_EITHER_WAY: f64 = 4.891_638;

/// What a chi-squared variable passes with probability 1e-6, after Wilson and Hilferty. For 100 degrees of freedom and
/// more this lies above the exact value by at most 0.2 %, so false alarms are a little rarer than that.
fn chi_squared_limit(degrees: usize) -> f64 {
    let ninth = 2.0 / (9.0 * degrees as f64);
    degrees as f64 * (1.0 - ninth + ONE_IN_A_MILLION * ninth.sqrt()).powi(3)
}

fn chi_squared(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

fn assert_uniform(counts: &[u32]) {
    let (found, limit) = (chi_squared(counts), chi_squared_limit(counts.len() - 1));
    assert!(found < limit, "chi-squared is {found:.1}, with a limit of {limit:.1}: {counts:?}");
}

fn random(prefix: &str) -> PoolSpec {
    spec(prefix).with_policy(Policy { strategy: Strategy::Random, ..Policy::default() })
}

fn sqlite() -> (tempfile::TempDir, SqliteAllocator) {
    let folder = tempfile::tempdir().unwrap();
    let allocator = Allocator::open(folder.path().join("state.db")).unwrap();
    (folder, allocator)
}

fn naive() -> Allocator<NaiveStore> {
    Allocator::with_store(NaiveStore::default())
}

/// Draws from one and the same free space, again and again.
fn draws<S: Store>(allocator: &mut Allocator<S>, pool: &str, count: usize) -> Vec<u128> {
    allocator.begin().unwrap();
    let drawn = (0..count).map(|_| {
        let address = allocator.allocate("drawer", &[Request::any(pool)], None).unwrap().address().unwrap();
        allocator.release(pool, address, "drawer").unwrap();
        value(address)
    });
    let drawn = drawn.collect();
    allocator.commit().unwrap();
    drawn
}

/// A pool whose free addresses lie in many runs of many lengths, some at its edges, and how many they are.
fn fragmented<S: Store>(allocator: &mut Allocator<S>) -> usize {
    let pool = ["10.0.0.0-10.0.0.20", "10.0.0.40-10.0.0.99", "10.0.0.101", "10.0.0.200-10.0.0.255"]
        .into_iter()
        .fold(random("10.0.0.0/24"), |pool, range| pool.with_range(range.parse().unwrap()))
        .with_exclusion("10.0.0.50-10.0.0.52".parse().unwrap());
    allocator.create_pool("p0", &pool).unwrap();
    let held =
        ["10.0.0.3", "10.0.0.4", "10.0.0.7", "10.0.0.40", "10.0.0.64/29", "10.0.0.80/31", "10.0.0.99", "10.0.0.240/30"];
    let requests = held.map(|text| Request::named("p0", resource(text)));
    allocator.allocate("holder", &requests, None).unwrap();
    allocator.usage("p0").unwrap().free().try_into().unwrap()
}

fn each_free_address_is_as_likely<S: Store>(mut allocator: Allocator<S>) {
    let free = fragmented(&mut allocator);
    let mut counts = BTreeMap::new();
    for address in draws(&mut allocator, "p0", 100 * free) {
        *counts.entry(address).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), free, "one that is free never comes");
    assert_uniform(&counts.into_values().collect::<Vec<_>>());
}

fn no_draw_tells_the_next_one<S: Store>(mut allocator: Allocator<S>) {
    // 15 addresses: each follows each other one, and itself, as often.
    allocator.create_pool("p0", &random("fd00::/124")).unwrap();
    let drawn = draws(&mut allocator, "p0", 10_000);
    let cell = |one: u128| (one & 15) as usize - 1;
    for lag in 1..=3 {
        let mut counts = [0; 225];
        for pair in drawn.chunks_exact(lag + 1) {
            counts[cell(pair[0]) * 15 + cell(pair[lag])] += 1;
        }
        assert_uniform(&counts);
        // Over many pairs of independent draws the coefficient is normal, with a variance of one by their number.
        let mean = drawn.iter().map(|one| cell(*one) as f64).sum::<f64>() / drawn.len() as f64;
        let off = |one: u128| cell(one) as f64 - mean;
        let together: f64 = drawn.windows(lag + 1).map(|pair| off(pair[0]) * off(pair[lag])).sum();
        let variance: f64 = drawn.iter().map(|one| off(*one).powi(2)).sum();
        let deviation = together / variance * (drawn.len() as f64).sqrt();
        assert!(
            deviation.abs() < ONE_IN_A_MILLION_EITHER_WAY,
            "the serial correlation at lag {lag} is {deviation:.1} deviations"
        );
    }
}

fn each_bit_of_a_huge_pool_is_as_likely<S: Store>(mut allocator: Allocator<S>) {
    allocator.create_pool("all6", &random("::/0")).unwrap();
    let drawn = draws(&mut allocator, "all6", 2000);
    // The square of the deviation of each bit, in units of its variance; the sum has a degree of freedom for each bit.
    let squared = |bit: u32| {
        let ones = drawn.iter().filter(|one| **one >> bit & 1 == 1).count() as f64;
        (2.0 * ones - drawn.len() as f64).powi(2) / drawn.len() as f64
    };
    let (found, limit) = ((0..128).map(squared).sum::<f64>(), chi_squared_limit(128));
    assert!(found < limit, "chi-squared is {found:.1}, with a limit of {limit:.1}");
}

fn instances_differ<S: Store>(allocators: [Allocator<S>; 2]) {
    let drawn = allocators.map(|mut allocator| {
        allocator.create_pool("p0", &random("fd00::/64")).unwrap();
        draws(&mut allocator, "p0", 4)
    });
    assert_ne!(drawn[0], drawn[1]);
    assert_ne!(drawn[0][0], drawn[0][1], "nor does one repeat itself");
}

/// Blocks of all sizes that hold a /64 but for one of its addresses and for the lowest one, which is reserved.
fn all_but(network: u128, left: u128) -> Vec<Resource> {
    let block = |first: u128, host_bits: u8| format!("{}/{}", std::net::Ipv6Addr::from_bits(first), 128 - host_bits);
    let mut blocks = Vec::new();
    for host_bits in 0..64 {
        // Next to each block around the address there is another one of its size.
        match (left ^ (1 << host_bits)) >> host_bits << host_bits {
            first if first == network => blocks.extend((0..host_bits).map(|bits| block(network | 1 << bits, bits))),
            first => blocks.push(block(first, host_bits)),
        }
    }
    blocks.iter().map(|text| resource(text)).collect()
}

fn the_last_free_address_is_found_at_once<S: Store>(mut allocator: Allocator<S>) {
    let network = 0xfd00 << 112;
    allocator.create_pool("p0", &random("fd00::/64")).unwrap();
    for left in [1, 2, 0x8000_0000_0000_0000, 0x1234_5678_9abc_def0, u128::from(u64::MAX)].map(|low| network | low) {
        let blocks = all_but(network, left);
        let requests: Vec<_> = blocks.into_iter().map(|block| Request::named("p0", block)).collect();
        allocator.allocate("holder", &requests, None).unwrap();
        assert_eq!(allocator.usage("p0").unwrap().free(), 1);
        // A search that drew until it hits would go on for longer than there are computers.
        assert_eq!(draws(&mut allocator, "p0", 100), [left; 100]);
        for request in [Request::several("p0", 2), Request::block("p0", 127)] {
            assert_eq!(kind(allocator.allocate("drawer", &[request], None)), ErrorKind::Exhausted);
        }
        let block = allocator.allocate("drawer", &[Request::block("p0", 128)], None).unwrap();
        assert_eq!(value(block.address().unwrap()), left);
        assert_eq!(kind(allocator.allocate("drawer", &[Request::any("p0")], None)), ErrorKind::Exhausted);
        allocator.release_owner("holder").unwrap();
        allocator.release_owner("drawer").unwrap();
    }
}

#[test]
fn chosen_each_free_address_of_a_fragmented_pool_is_as_likely() {
    each_free_address_is_as_likely(Allocator::in_memory());
    each_free_address_is_as_likely(sqlite().1);
    each_free_address_is_as_likely(naive());
}

#[test]
fn chosen_no_draw_tells_the_next_one() {
    no_draw_tells_the_next_one(Allocator::in_memory());
    no_draw_tells_the_next_one(sqlite().1);
    no_draw_tells_the_next_one(naive());
}

#[test]
fn chosen_each_bit_of_a_huge_pool_is_as_likely() {
    each_bit_of_a_huge_pool_is_as_likely(Allocator::in_memory());
    each_bit_of_a_huge_pool_is_as_likely(sqlite().1);
    each_bit_of_a_huge_pool_is_as_likely(naive());
}

#[test]
fn chosen_instances_differ() {
    instances_differ([Allocator::in_memory(), Allocator::in_memory()]);
    instances_differ([sqlite().1, sqlite().1]);
    instances_differ([naive(), naive()]);
}

#[test]
fn bounded_the_last_free_address_of_a_huge_pool_is_found_at_once() {
    the_last_free_address_is_found_at_once(Allocator::in_memory());
    the_last_free_address_is_found_at_once(sqlite().1);
    the_last_free_address_is_found_at_once(naive());
}

/// Quantiles from the incomplete gamma function, so that the approximation is what it says.
#[test]
fn limits_are_close_to_the_exact_quantiles() {
    for (degrees, exact) in [(100, 182.127), (128, 218.906), (224, 339.362)] {
        let limit = chi_squared_limit(degrees);
        assert!((1.0..1.002).contains(&(limit / exact)), "{degrees}: {limit:.3} instead of {exact}");
    }
}
