//! How fast the allocator is here: the time of an allocation and its release, of a pool's life, and commits a second.
//! Run it with `cargo run --release -p poolproof-allocator --example speed`.

use std::time::{Duration, Instant};

use poolproof_allocator::store::Store;
use poolproof_allocator::{Allocator, PoolSpec, Request, Result, SqliteOptions, Synchronous, parse_prefix};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut memory = Allocator::in_memory();
    for held in [0, 100, 10_000, 1_000_000] {
        let pair = pairs(&mut memory, held, 1_000_000)?;
        println!("memory, {held} held: {} ns for allocate and release", pair.as_nanos());
    }
    println!("memory: {} ns to reset and create a pool", lives(&mut memory, 1_000_000)?.as_nanos());
    println!("memory: {} ns for a refusal", refusals(&mut memory, 1_000_000)?.as_nanos());

    let folder = tempfile::tempdir()?;
    for synchronous in [Synchronous::Full, Synchronous::Normal] {
        let options = SqliteOptions { synchronous, ..SqliteOptions::default() };
        let mut sqlite = Allocator::open_with(folder.path().join("speed.db"), options)?;
        let commit = pairs(&mut sqlite, 100, 1_000)? / 2;
        println!("sqlite, {synchronous:?}: {:.0} commits/s", 1.0 / commit.as_secs_f64());
        sqlite.reset()?;
        sqlite.begin()?;
        let call = pairs_in(&mut sqlite, 10_000)? / 2;
        println!("sqlite, inside a transaction: {} ns a call", call.as_nanos());
        sqlite.rollback()?;
        println!("sqlite, {synchronous:?}: {} µs to reset and create a pool", lives(&mut sqlite, 1_000)?.as_micros());
    }
    Ok(())
}

/// The time of an allocation and its release while others hold `held` addresses.
fn pairs<S: Store>(allocator: &mut Allocator<S>, held: u32, rounds: u32) -> Result<Duration> {
    allocator.reset()?;
    allocator.create_pool("p0", &PoolSpec::new(parse_prefix("fd00::/64")?))?;
    allocator.begin()?;
    for owner in 0..held {
        allocator.allocate(&format!("owner {owner}"), &[Request::any("p0")], None)?;
    }
    allocator.commit()?;
    timed_pairs(allocator, rounds)
}

/// The same inside the caller's transaction.
fn pairs_in<S: Store>(allocator: &mut Allocator<S>, rounds: u32) -> Result<Duration> {
    allocator.create_pool("p0", &PoolSpec::new(parse_prefix("fd00::/64")?))?;
    timed_pairs(allocator, rounds)
}

fn timed_pairs<S: Store>(allocator: &mut Allocator<S>, rounds: u32) -> Result<Duration> {
    best(rounds, || {
        let granted = allocator.allocate("me", &[Request::any("p0")], None)?;
        allocator.release("p0", granted.addresses[0], "me")
    })
}

/// The time of a reset and the creation of a tiny pool.
fn lives<S: Store>(allocator: &mut Allocator<S>, rounds: u32) -> Result<Duration> {
    let spec = PoolSpec::new(parse_prefix("10.0.0.0/29")?).with_exclusion("10.0.0.3".parse()?);
    best(rounds, || {
        allocator.reset()?;
        allocator.create_pool("p0", &spec)
    })
}

/// The time of a call that is refused.
fn refusals<S: Store>(allocator: &mut Allocator<S>, rounds: u32) -> Result<Duration> {
    while allocator.allocate("me", &[Request::any("p0")], None).is_ok() {}
    best(rounds, || {
        let _ = allocator.allocate("me", &[Request::any("p0")], None);
        Ok(())
    })
}

/// The time of one call in the best of ten batches: what else the machine does can only slow one down.
fn best(rounds: u32, mut call: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        for _ in 0..rounds / 10 {
            call()?;
        }
        best = best.min(start.elapsed() / (rounds / 10));
    }
    Ok(best)
}
