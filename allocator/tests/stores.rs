//! The same calls of the trait [`Store`] on two stores, a real one and the naive one, give the same answers.
//!
//! The calls respect what the trait asks for and nothing else, so they reach states that the rules never do. Pools are
//! meant by their names, since their keys may differ.

mod common;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Debug;

use common::naive::NaiveStore;
use common::rules::{host_bits, last, note, noted};
use common::{for_some_time, spec};
use poolproof_allocator::store::{Access, Filter, Holder, Obstacle, Place, Pool, PoolId, Store};
use poolproof_allocator::{
    AddressRange, Allocation, Extent, Family, MemoryStore, Policy, Prefix, Repeat, Result, Span, SqliteOptions,
    SqliteStore, Strategy as Choice, Synchronous,
};
use proptest::collection::vec;
use proptest::prelude::*;

const POOLS: [&str; 3] = ["p0", "p1", "p2"];
const OWNERS: [&str; 3] = ["a", "b", "A"];
const SPACES: [&str; 2] = ["", "red"];
const PREFIXES: [&str; 10] = [
    "0.0.0.0/30",
    "10.0.0.0/28",
    "255.255.255.240/28",
    "255.255.255.255/32",
    "0.0.0.0/0",
    "::/125",
    "fd00::/124",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124",
    "fd00::/64",
    "::/0",
];

#[derive(Clone, Debug)]
enum Step {
    Begin,
    Commit,
    Rollback,
    Mark,
    Keep,
    Undo,
    Clear,
    SetNow { by_ms: u64 },
    Insert { pool: usize, space: usize, prefix: usize },
    Remove { pool: usize },
    Shape { pool: usize, ranges: Vec<(u8, u8)>, policy: Policy },
    Hold { pool: usize, spot: Spot, owner: usize, expires_ms: Option<u64>, cursor: Option<u8> },
    SetExpiry { nth: usize, expires_ms: Option<u64> },
    End { nth: usize, until_ms: Option<u64> },
    EndQuarantine { nth: usize },
    Look(Look),
}

/// An address at a position of a prefix, or the block around it.
#[derive(Clone, Copy, Debug)]
struct Spot {
    position: u8,
    host_bits: Option<u8>,
}

/// What to ask for.
#[derive(Clone, Debug)]
struct Look {
    pool: usize,
    spot: Spot,
    owner: usize,
    host_bits: u8,
    most: usize,
    time_ms: u64,
}

fn spot() -> impl Strategy<Value = Spot> {
    (0_u8..16, proptest::option::of(0_u8..4)).prop_map(|(position, host_bits)| Spot { position, host_bits })
}

fn look() -> impl Strategy<Value = Look> {
    let host_bits = prop_oneof![4 => 0_u8..5, 1 => 28_u8..=32, 1 => 62_u8..66, 1 => 124_u8..=128];
    let most = prop_oneof![4 => 0_usize..4, 1 => Just(usize::MAX)];
    (0..POOLS.len(), spot(), 0..OWNERS.len(), host_bits, most, 0_u64..12)
        .prop_map(|(pool, spot, owner, host_bits, most, time_ms)| Look { pool, spot, owner, host_bits, most, time_ms })
}

fn policy() -> impl Strategy<Value = Policy> {
    let strategy = prop_oneof![Just(Choice::Lowest), Just(Choice::Next), Just(Choice::Random)];
    let repeat = prop_oneof![Just(Repeat::Another), Just(Repeat::Same), Just(Repeat::Conflict)];
    (strategy, repeat, 0_u64..3).prop_map(|(strategy, repeat, quarantine_ms)| Policy {
        strategy,
        repeat,
        quarantine_ms,
    })
}

fn shape() -> impl Strategy<Value = Step> {
    let range = (0_u8..16, 0_u8..16).prop_map(|(one, other)| (one.min(other), one.max(other)));
    (0..POOLS.len(), vec(range, 0..4), policy()).prop_map(|(pool, ranges, policy)| Step::Shape { pool, ranges, policy })
}

fn insert() -> impl Strategy<Value = Step> {
    (0..POOLS.len(), 0..SPACES.len(), 0..PREFIXES.len()).prop_map(|(pool, space, prefix)| Step::Insert {
        pool,
        space,
        prefix,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let time_ms = || proptest::option::of(0_u64..12);
    let hold = (0..POOLS.len(), spot(), 0..OWNERS.len(), time_ms(), proptest::option::of(0_u8..16));
    prop_oneof![
        2 => Just(Step::Begin),
        1 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        2 => Just(Step::Mark),
        1 => Just(Step::Keep),
        1 => Just(Step::Undo),
        1 => (1_u64..12).prop_map(|by_ms| Step::SetNow { by_ms }),
        2 => insert(),
        1 => (0..POOLS.len()).prop_map(|pool| Step::Remove { pool }),
        3 => shape(),
        16 => hold.prop_map(|(pool, spot, owner, expires_ms, cursor)| Step::Hold { pool, spot, owner, expires_ms, cursor }),
        2 => (0_usize..20, time_ms()).prop_map(|(nth, expires_ms)| Step::SetExpiry { nth, expires_ms }),
        6 => (0_usize..20, time_ms()).prop_map(|(nth, until_ms)| Step::End { nth, until_ms }),
        2 => (0_usize..20).prop_map(|nth| Step::EndQuarantine { nth }),
        8 => look().prop_map(Step::Look),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rest = prop_oneof![200 => step(), 1 => Just(Step::Clear)];
    (vec(insert(), 1..4), vec(shape(), 0..4), vec(rest, 0..80))
        .prop_map(|(pools, shapes, rest)| [pools, shapes, rest].concat())
}

fn prefix(index: usize) -> Prefix {
    let net = spec(PREFIXES[index]).prefix;
    Prefix { family: Family::of(net.network()), span: AddressRange::from(net).span() }
}

/// The address at a position; the upper half of the positions is at the top. The whole of IPv6 cannot be reached: a pool of
/// so many addresses cannot be counted.
fn at(prefix: Prefix, position: u8) -> u128 {
    let (first, last, offset) = (prefix.span.first(), prefix.span.last(), u128::from(position));
    match prefix.span.size() {
        size @ ..=16 => first + offset % size,
        _ if position < 8 => first + 1 + offset,
        _ => last - 15 + offset,
    }
}

/// The extent at a spot, if it lies in the prefix.
fn extent(prefix: Prefix, spot: Spot) -> Extent {
    let address = at(prefix, spot.position);
    let block = spot.host_bits.and_then(|host_bits| Extent::new(address >> host_bits << host_bits, Some(host_bits)));
    block.filter(|block| prefix.span.covers(block.span())).unwrap_or(Extent::address(address))
}

/// Spans in ascending order with gaps between them.
fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| span.first());
    let mut merged: Vec<Span> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if last.last() >= span.first() || last.last() + 1 == span.first() => {
                *last = Span::new(last.first(), last.last().max(span.last())).unwrap();
            }
            _ => merged.push(span),
        }
    }
    merged
}

fn find(store: &mut dyn Store, name: &str) -> Option<Pool> {
    store.find_pool(name).unwrap()
}

/// The key of a pool that exists.
fn id(store: &mut dyn Store, name: &str) -> PoolId {
    find(store, name).unwrap().id
}

/// The name of a pool, by its key.
fn name(store: &mut dyn Store, id: PoolId) -> String {
    let pools = store.pools().unwrap();
    pools.iter().find(|(_, other)| *other == id).unwrap().0.to_string()
}

/// What a filter passes, with names instead of keys.
fn list(store: &mut dyn Store, filter: Filter<'_>) -> Vec<(u128, Allocation)> {
    let listed = store.list(filter).unwrap();
    for (place, allocation) in &listed {
        assert_eq!(name(store, place.pool), *allocation.pool);
    }
    listed.into_iter().map(|(place, allocation)| (place.address, allocation)).collect()
}

fn everything(store: &mut dyn Store) -> Vec<(u128, Allocation)> {
    list(store, Filter::From(Place { pool: PoolId(i64::MIN), address: 0 }, usize::MAX))
}

/// What is over at a time; the order of what ends at once is open.
fn over(store: &mut dyn Store, now_ms: u64) -> Vec<(u64, String, Extent, bool)> {
    let over = store.over(now_ms).unwrap();
    assert!(over.is_sorted_by_key(|one| one.ended_ms), "the earliest end comes first");
    let mut over: Vec<_> =
        over.iter().map(|one| (one.ended_ms, name(store, one.pool), one.extent, one.was_quarantined)).collect();
    over.sort();
    over
}

/// Two stores, of which the first one is checked.
struct Pair<'a, S> {
    real: &'a mut S,
    naive: NaiveStore,
    marks: usize,
}

impl<'a, S: Store> Pair<'a, S> {
    fn new(real: &'a mut S) -> Self {
        real.clear().unwrap();
        Self { real, naive: NaiveStore::default(), marks: 0 }
    }

    /// Makes a call on both stores and compares the answers.
    fn both<T: PartialEq + Debug>(&mut self, what: &'static str, call: impl Fn(&mut dyn Store) -> T) -> T {
        note(what);
        let actual = call(self.real);
        let expect = call(&mut self.naive);
        assert_eq!(actual, expect, "{what}");
        expect
    }

    /// Makes a call about a pool on both stores and compares the answers.
    fn of_both<T: PartialEq + Debug>(
        &mut self,
        what: &'static str,
        pool: &str,
        call: impl Fn(&mut dyn Store, PoolId) -> T,
    ) -> T {
        self.both(what, |store| {
            let pool = id(store, pool);
            call(store, pool)
        })
    }

    /// Makes a call that answers nothing.
    fn do_both(&mut self, what: &'static str, call: impl Fn(&mut dyn Store) -> Result<()>) {
        self.both(what, |store| call(store).unwrap());
    }

    fn perform(&mut self, step: &Step) {
        let is_open = self.naive.in_transaction();
        let ends = matches!(step, Step::Commit | Step::Rollback | Step::Keep | Step::Undo | Step::Clear);
        if !is_open && let Step::Look(look) = step {
            self.do_both("begin to read", |store| store.begin(Access::Read));
            self.look(look);
            return self.do_both("rollback", |store| store.rollback());
        }
        if !is_open && !ends {
            self.do_both("begin to write", |store| store.begin(Access::Write));
            self.marks = 0;
        }
        match step {
            Step::Commit | Step::Rollback | Step::Clear if is_open || matches!(step, Step::Clear) => self.end(step),
            Step::Mark | Step::Keep | Step::Undo => self.mark(step),
            Step::Insert { .. } | Step::Remove { .. } | Step::Shape { .. } => self.change_pool(step),
            Step::SetNow { by_ms } => {
                let now_ms = self.naive.now_ms().unwrap() + by_ms;
                self.do_both("set now", |store| store.set_now_ms(now_ms));
            }
            Step::Look(look) => self.look(look),
            _ => self.change(step),
        }
        self.both("in transaction", |store| store.in_transaction());
        if self.naive.in_transaction() {
            self.look_around();
        }
    }

    fn end(&mut self, step: &Step) {
        match step {
            Step::Commit => self.do_both("commit", |store| store.commit()),
            Step::Rollback => self.do_both("rollback", |store| store.rollback()),
            _ => self.do_both("clear", |store| store.clear()),
        }
        self.marks = 0;
    }

    fn mark(&mut self, step: &Step) {
        match step {
            Step::Mark => {
                self.do_both("mark", |store| store.mark());
                self.marks += 1;
            }
            _ if self.marks == 0 => {}
            _ => {
                self.marks -= 1;
                match step {
                    Step::Keep => self.do_both("keep", |store| store.keep()),
                    _ => self.do_both("undo", |store| store.undo()),
                }
            }
        }
    }

    fn change_pool(&mut self, step: &Step) {
        match step {
            Step::Insert { pool, space, prefix: index } => {
                let (space, prefix) = (SPACES[*space], prefix(*index));
                let below = self.both("prefix up to", |store| {
                    store.prefix_up_to(space, prefix.family, prefix.span.last()).unwrap()
                });
                let overlaps = below.is_some_and(|below| below.last() >= prefix.span.first());
                if find(&mut self.naive, POOLS[*pool]).is_none() && !overlaps {
                    self.do_both("insert pool", |store| store.insert_pool(POOLS[*pool], space, prefix).map(drop));
                }
            }
            Step::Remove { pool } => {
                let found = find(&mut self.naive, POOLS[*pool]);
                if found.is_some_and(|pool| self.naive.usage(pool.id).unwrap().allocated == 0) {
                    self.of_both("remove pool", POOLS[*pool], |store, pool| store.remove_pool(pool).unwrap());
                }
            }
            Step::Shape { pool, ranges, policy } => self.shape(POOLS[*pool], ranges, *policy),
            _ => unreachable!("{step:?} changes no pool"),
        }
    }

    fn shape(&mut self, pool: &str, ranges: &[(u8, u8)], policy: Policy) {
        let Some(Pool { id: key, prefix, .. }) = find(&mut self.naive, pool) else {
            return;
        };
        let span = |(one, other): &(u8, u8)| Span::new(at(prefix, *one), at(prefix, *other).max(at(prefix, *one)));
        let mut spans: Vec<Span> = ranges.iter().filter_map(span).collect();
        // What is held stays allocatable.
        for (first, held) in list(&mut self.naive, Filter::Pool(key, 0, usize::MAX)) {
            spans.extend(Span::new(first, last(held.resource)));
        }
        let spans = merged(spans);
        self.of_both("shape pool", pool, |store, pool| store.shape_pool(pool, policy, &spans).unwrap());
    }

    fn change(&mut self, step: &Step) {
        match step {
            Step::Hold { pool, spot, owner, expires_ms, cursor } => {
                let name = POOLS[*pool];
                let Some(Pool { prefix, .. }) = find(&mut self.naive, name) else {
                    return;
                };
                let extent = extent(prefix, *spot);
                let obstacle = self.of_both("obstacle", name, |store, pool| store.obstacle(pool, extent).unwrap());
                if obstacle == Obstacle::None {
                    let cursor = cursor.map(|position| at(prefix, position).wrapping_add(1));
                    self.of_both("hold", name, |store, pool| {
                        store.hold(pool, extent, OWNERS[*owner], *expires_ms, cursor).unwrap()
                    });
                }
            }
            Step::SetExpiry { nth, expires_ms } => {
                if let Some((name, extent)) = self.nth_held(*nth) {
                    self.of_both("set expiry", &name, |store, pool| {
                        store.set_expiry(pool, extent, *expires_ms).unwrap()
                    });
                }
            }
            Step::End { nth, until_ms } => {
                if let Some((name, extent)) = self.nth_held(*nth) {
                    self.of_both("end", &name, |store, pool| store.end(pool, extent, *until_ms).unwrap());
                }
            }
            Step::EndQuarantine { nth } => {
                let over = over(&mut self.naive, u64::MAX).into_iter().filter(|(.., was_quarantined)| *was_quarantined);
                if let Some((_, name, extent, _)) = over.cycle().nth(*nth) {
                    self.of_both("end quarantine", &name, |store, pool| store.end_quarantine(pool, extent).unwrap());
                }
            }
            _ => {}
        }
    }

    /// Something held, counted through.
    fn nth_held(&mut self, nth: usize) -> Option<(String, Extent)> {
        let (first, held) = everything(&mut self.naive).into_iter().cycle().nth(nth)?;
        Some((held.pool.to_string(), Extent::new(first, host_bits(held.resource)).unwrap()))
    }

    /// Compares all that needs no question.
    fn look_around(&mut self) {
        self.both("now", |store| store.now_ms().unwrap());
        self.both("list", |store| everything(store));
        let pools = self
            .both("pools", |store| -> Vec<_> { store.pools().unwrap().into_iter().map(|(name, _)| name).collect() });
        for name in &pools {
            self.both("pool", |store| find(store, name).map(|pool| Pool { id: PoolId(0), ..pool }));
            self.of_both("allocatable", name, |store, pool| store.allocatable(pool).unwrap());
            self.of_both("cursor", name, |store, pool| store.cursor(pool).unwrap());
            self.of_both("policy", name, |store, pool| store.policy(pool).unwrap());
            self.of_both("usage", name, |store, pool| store.usage(pool).unwrap());
        }
        self.both("audit", |store| store.audit().unwrap());
        assert_eq!(self.naive.audit().unwrap(), []);
    }

    fn look(&mut self, look: &Look) {
        self.look_around();
        let (name, owner, most) = (POOLS[look.pool], OWNERS[look.owner], look.most);
        self.both("over", |store| over(store, look.time_ms));
        self.both("list of an owner", |store| list(store, Filter::Owner(owner)));
        let Some(Pool { id, prefix, policy, .. }) = find(&mut self.naive, name) else {
            return;
        };
        let (extent, from) = (extent(prefix, look.spot), at(prefix, look.spot.position));
        for space in SPACES {
            let up_to = |store: &mut dyn Store| store.prefix_up_to(space, prefix.family, from).unwrap();
            self.both("prefix up to", up_to);
        }
        self.of_both("list from", name, |store, pool| list(store, Filter::From(Place { pool, address: from }, most)));
        self.of_both("list of a pool", name, |store, pool| list(store, Filter::Pool(pool, from, most)));
        self.of_both("find", name, |store, pool| store.find(pool, from).unwrap());
        self.of_both("obstacle", name, |store, pool| store.obstacle(pool, extent).unwrap());
        let holder = self.of_both("holder", name, |store, pool| store.holder(pool, extent, owner).unwrap());
        note(match holder {
            Holder::Nobody => "nobody holds it",
            Holder::Owner(_) => "the owner holds it",
            Holder::Other => "another one holds it",
        });
        let host_bits = look.host_bits.min(prefix.family.bits());
        for from in [0, from, from.wrapping_add(1), u128::MAX] {
            self.of_both("free from", name, |store, pool| store.free_from(pool, from).unwrap());
            let block =
                self.of_both("free block", name, |store, pool| store.free_block(pool, host_bits, from).unwrap());
            note(if block.is_some() { "there is a block" } else { "there is no block" });
        }
        if policy.strategy == Choice::Random {
            let free = self.naive.usage(id).unwrap().free();
            self.look_at_numbers(name, free);
        }
        if policy.repeat != Repeat::Another {
            for from in [Extent::FIRST, extent] {
                self.of_both("held from", name, |store, pool| store.held_from(pool, owner, from).unwrap());
            }
        }
    }

    /// Each store may number the free addresses as it likes, as long as each number has an address of its own.
    fn look_at_numbers(&mut self, name: &str, free: u128) {
        note("nth free");
        let pool = id(self.real, name);
        let shown = free.min(40);
        let low = 0..shown;
        let high = free - shown..free;
        let numbers: BTreeSet<u128> = low.chain(high).collect();
        let addresses: BTreeSet<u128> =
            numbers.iter().map(|n| self.real.nth_free(pool, *n).unwrap().expect("there are as many")).collect();
        assert_eq!(addresses.len(), numbers.len(), "each number has its own address");
        for address in addresses {
            let obstacle = self.real.obstacle(pool, Extent::address(address)).unwrap();
            assert_eq!(obstacle, Obstacle::None, "what has a number is free");
        }
        assert_eq!(self.real.nth_free(pool, free).unwrap(), None, "there are no more");
    }
}

const TO_MEET: [&str; 43] = [
    "begin to read",
    "begin to write",
    "commit",
    "rollback",
    "clear",
    "in transaction",
    "mark",
    "keep",
    "undo",
    "set now",
    "now",
    "prefix up to",
    "insert pool",
    "remove pool",
    "shape pool",
    "pools",
    "pool",
    "allocatable",
    "cursor",
    "policy",
    "usage",
    "obstacle",
    "hold",
    "set expiry",
    "end",
    "end quarantine",
    "list",
    "list of an owner",
    "list from",
    "list of a pool",
    "find",
    "over",
    "holder",
    "nobody holds it",
    "the owner holds it",
    "another one holds it",
    "free from",
    "free block",
    "there is a block",
    "there is no block",
    "nth free",
    "held from",
    "audit",
];

fn answers_as_the_naive_store<S: Store>(store: S) {
    let store = RefCell::new(store);
    for_some_time(&steps(), |steps| {
        let mut store = store.borrow_mut();
        let mut pair = Pair::new(&mut *store);
        steps.iter().for_each(|step| pair.perform(step));
    });
    let noted = noted();
    let never_met: Vec<_> = TO_MEET.into_iter().filter(|what| !noted.contains_key(*what)).collect();
    assert!(never_met.is_empty(), "never met: {never_met:?}");
}

#[test]
fn memory_answers_as_the_naive_store() {
    answers_as_the_naive_store(MemoryStore::default());
}

#[test]
fn sqlite_answers_as_the_naive_store() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions { synchronous: Synchronous::Normal, ..SqliteOptions::default() };
    answers_as_the_naive_store(SqliteStore::open(&folder.path().join("state.db"), options).unwrap());
}
