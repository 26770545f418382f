//! What the memory store costs, beside the least that anyone could do: a bare hierarchical bitmap with a hash map of owners.
//! Bytes are what the program's allocator was asked for.

mod common;

use std::alloc::System;
use std::collections::HashMap;
use std::hint::black_box;
use std::net::IpAddr;

use common::{in_turn, is_test, owner};
use poolproof_allocator::{
    Allocator, ErrorKind, MemoryAllocator, Policy, PoolSpec, Request, Resource, Strategy, parse_prefix,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Pairs of calls a block.
const PAIRS: u32 = 100_000;

fn main() {
    if is_test() {
        return;
    }
    println!("The memory store");
    for held in [1_000, 1_000_000] {
        against_floor::<ByAddress>(held, "bitmap and owner by address");
        against_floor::<ByOwner>(held, "bitmap and addresses by owner");
        against_floor::<Indexed>(held, "bitmap, both maps, pools by name");
    }
    full_pool();
    families();
    bytes();
}

/// Allocate and release, against a floor, with so many held by as many owners.
fn against_floor<F: Least>(held: u32, name: &str) {
    let mut ours = Pool::filled("10.0.0.0/8", Policy::default(), held);
    let mut floor = F::default();
    let names: Vec<String> = (0..held).map(owner).collect();
    let mut addresses: Vec<u32> = names.iter().map(|name| floor.allocate(name).unwrap()).collect();
    let (mut draw, mut floor_draw) = (Draw(1), Draw(1));
    let (ours_ns, floor_ns) = in_turn(
        PAIRS,
        || {
            let picked = draw.below(held);
            ours.release(picked);
            ours.allocate(picked);
        },
        || {
            let picked = floor_draw.below(held) as usize;
            assert!(floor.release(addresses[picked], &names[picked]));
            addresses[picked] = floor.allocate(&names[picked]).unwrap();
        },
    );
    report(&format!("pair at {held} held, {name}"), ours_ns, floor_ns, 2.5);
}

/// A refusal by a full /8, against a grant in it.
fn full_pool() {
    let capacity = (1 << 24) - 2;
    let mut full = Allocator::in_memory();
    full.create_pool("p0", &PoolSpec::new(parse_prefix("10.0.0.0/8").unwrap())).unwrap();
    for _ in 0..capacity / 1000 + 1 {
        let left = full.usage("p0").unwrap().free().min(1000) as u32;
        full.allocate("filler", &[Request::several("p0", left)], None).unwrap();
    }
    let mut roomy = Pool::filled("11.0.0.0/8", Policy::default(), 1_000_000);
    let (refusal_ns, grant_ns) = in_turn(
        PAIRS,
        || {
            let refused = full.allocate("late", &[Request::any("p0")], None).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Exhausted);
        },
        || {
            roomy.release(7);
            roomy.allocate(7);
        },
    );
    report("refusal on a full /8, half a pair at 1000000 held", refusal_ns, grant_ns / 2.0, 1.0);
}

/// Random choice in an IPv6 /64 against an IPv4 /8, and the lowest in both.
fn families() {
    for (strategy, name) in [(Strategy::Random, "random"), (Strategy::Lowest, "lowest")] {
        let policy = Policy { strategy, ..Policy::default() };
        let mut six = Pool::filled("fd00::/64", policy, 100_000);
        let mut four = Pool::filled("10.0.0.0/8", policy, 100_000);
        let (mut six_draw, mut four_draw) = (Draw(1), Draw(1));
        let (six_ns, four_ns) = in_turn(
            PAIRS,
            || {
                let picked = six_draw.below(100_000);
                six.release(picked);
                six.allocate(picked);
            },
            || {
                let picked = four_draw.below(100_000);
                four.release(picked);
                four.allocate(picked);
            },
        );
        report(&format!("{name} pair at 100000 held, IPv6 /64 and IPv4 /8"), six_ns, four_ns, 2.0);
    }
}

/// Bytes an allocation beyond its owner's name, in the two extremes: side by side, and scattered over a /64.
fn bytes() {
    for (prefix, strategy, name) in
        [("10.0.0.0/8", Strategy::Lowest, "IPv4, ascending"), ("fd00::/64", Strategy::Random, "IPv6 /64, random")]
    {
        for held in [100_000, 1_000_000] {
            let names: usize = (0..held).map(|number| owner(number).len()).sum();
            let before = COUNTED.stats();
            let policy = Policy { strategy, ..Policy::default() };
            let mut allocator = Allocator::in_memory();
            allocator.create_pool("p0", &PoolSpec::new(parse_prefix(prefix).unwrap()).with_policy(policy)).unwrap();
            for number in 0..held {
                allocator.allocate(&owner(number), &[Request::any("p0")], None).unwrap();
            }
            let after = COUNTED.stats();
            let live = (after.bytes_allocated - before.bytes_allocated) as i64
                - (after.bytes_deallocated - before.bytes_deallocated) as i64;
            let each = (live - names as i64) as f64 / f64::from(held);
            println!("{name}: {each:.1} bytes an allocation and owner at {held} held, names not counted (at most 64)");
            drop(allocator);
        }
    }
}

fn report(name: &str, ours_ns: f64, other_ns: f64, most: f64) {
    println!("{name}: ratio {:.2} (at most {most}); {ours_ns:.0} ns and {other_ns:.0} ns", ours_ns / other_ns);
}

/// The same numbers for both sides (xorshift).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % u64::from(bound)) as u32
    }
}

/// Our allocator with one pool, and what each owner holds.
struct Pool {
    allocator: MemoryAllocator,
    names: Vec<String>,
    held: Vec<IpAddr>,
}

impl Pool {
    fn filled(prefix: &str, policy: Policy, count: u32) -> Pool {
        let mut allocator = Allocator::in_memory();
        allocator.create_pool("p0", &PoolSpec::new(parse_prefix(prefix).unwrap()).with_policy(policy)).unwrap();
        let names: Vec<String> = (0..count).map(owner).collect();
        let mut grant =
            |name: &String| allocator.allocate(name, &[Request::any("p0")], None).unwrap().address().unwrap();
        let held = names.iter().map(&mut grant).collect();
        Pool { allocator, names, held }
    }

    fn release(&mut self, picked: u32) {
        let picked = picked as usize;
        self.allocator.release("p0", Resource::Address(self.held[picked]), &self.names[picked]).unwrap();
    }

    fn allocate(&mut self, picked: u32) {
        let picked = picked as usize;
        let granted = self.allocator.allocate(&self.names[picked], &[Request::any("p0")], None).unwrap();
        self.held[picked] = granted.address().unwrap();
    }
}

/// The least that hands out addresses.
trait Least: Default {
    fn allocate(&mut self, owner: &str) -> Option<u32>;
    /// `false` if the owner does not hold it.
    fn release(&mut self, address: u32, owner: &str) -> bool;
}

/// A hierarchical bitmap over a /8: one bit an address, each level the words of the one below that are full.
struct Bitmap(Vec<Vec<u64>>);

impl Bitmap {
    const BASE: u32 = 10 << 24;

    fn take(&mut self) -> Option<u32> {
        let mut index = 0;
        for level in self.0.iter().rev() {
            let word = *level.get(index)?;
            if word == u64::MAX {
                return None;
            }
            index = index * 64 + word.trailing_ones() as usize;
        }
        let mut place = index;
        for level in &mut self.0 {
            level[place / 64] |= 1 << (place % 64);
            if level[place / 64] != u64::MAX {
                break;
            }
            place /= 64;
        }
        Some(Self::BASE + index as u32)
    }

    fn give_back(&mut self, address: u32) {
        let mut place = (address - Self::BASE) as usize;
        for level in &mut self.0 {
            level[place / 64] &= !(1 << (place % 64));
            place /= 64;
        }
    }
}

impl Default for Bitmap {
    fn default() -> Self {
        let mut levels = vec![vec![0; 1 << 18]];
        while levels[levels.len() - 1].len() > 1 {
            levels.push(vec![0; levels[levels.len() - 1].len().div_ceil(64)]);
        }
        Self(levels)
    }
}

/// A bitmap, and who holds each address. It can tell nothing of an owner without looking at all addresses.
#[derive(Default)]
struct ByAddress {
    bitmap: Bitmap,
    owners: HashMap<u32, Box<str>>,
}

impl Least for ByAddress {
    fn allocate(&mut self, owner: &str) -> Option<u32> {
        let address = self.bitmap.take()?;
        self.owners.insert(address, owner.into());
        Some(address)
    }

    fn release(&mut self, address: u32, owner: &str) -> bool {
        if self.owners.get(&address).is_none_or(|held| **held != *owner) {
            return false;
        }
        self.owners.remove(&address);
        self.bitmap.give_back(address);
        true
    }
}

/// A bitmap, and what each owner holds. It can tell nothing of an address without looking at all owners.
#[derive(Default)]
struct ByOwner {
    bitmap: Bitmap,
    held: HashMap<Box<str>, Vec<u32>>,
}

impl Least for ByOwner {
    fn allocate(&mut self, owner: &str) -> Option<u32> {
        let address = self.bitmap.take()?;
        self.held.entry(owner.into()).or_default().push(address);
        Some(address)
    }

    fn release(&mut self, address: u32, owner: &str) -> bool {
        let Some(held) = self.held.get_mut(owner) else { return false };
        let Some(place) = held.iter().position(|one| *one == address) else { return false };
        held.swap_remove(place);
        if held.is_empty() {
            self.held.remove(owner);
        }
        self.bitmap.give_back(address);
        true
    }
}

/// Both maps, and pools by name: what release by owner and look-up by address need. What this lacks to be ours is ranges,
/// blocks, IPv6, leases, generations, undoing and counts.
struct Indexed {
    pools: HashMap<String, ByAddress>,
    held: HashMap<Box<str>, Vec<u32>>,
}

impl Default for Indexed {
    fn default() -> Self {
        Self { pools: [("p0".to_owned(), ByAddress::default())].into(), held: HashMap::new() }
    }
}

impl Least for Indexed {
    fn allocate(&mut self, owner: &str) -> Option<u32> {
        let address = self.pools.get_mut(black_box("p0"))?.allocate(owner)?;
        self.held.entry(owner.into()).or_default().push(address);
        Some(address)
    }

    fn release(&mut self, address: u32, owner: &str) -> bool {
        let released = self.pools.get_mut(black_box("p0")).is_some_and(|pool| pool.release(address, owner));
        if released && let Some(held) = self.held.get_mut(owner) {
            held.retain(|one| *one != address);
            if held.is_empty() {
                self.held.remove(owner);
            }
        }
        released
    }
}
