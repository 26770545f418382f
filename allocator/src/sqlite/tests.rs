//! The store against a brute force over small spaces at both ends of the address space, and its plans.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rusqlite::Connection;

use super::{SqliteStore, free, held, pools, tally};
use crate::address::Family;
use crate::policy::{Policy, Strategy as Choice};
use crate::pool::Prefix;
use crate::resource::Extent;
use crate::span::{Span, Spans, merge};
use crate::store::{Access, Obstacle, Over, PoolId, Store};

/// An empty store, in a transaction.
pub(super) fn store() -> SqliteStore {
    let mut store = SqliteStore::over(Connection::open_in_memory().unwrap(), false).unwrap();
    store.within(Access::Write, SqliteStore::bring_up).unwrap();
    store.begin(Access::Write).unwrap();
    store
}

pub(super) fn span(first: u128, last: u128) -> Span {
    Span::new(first, last).unwrap()
}

pub(super) fn choosing(strategy: Choice) -> Policy {
    Policy { strategy, ..Policy::default() }
}

/// A pool of a span that may all be handed out.
pub(super) fn pool(store: &mut SqliteStore, name: &str, span: Span, strategy: Choice) -> PoolId {
    let pool = store.insert_pool(name, "", Prefix { family: Family::Ipv6, span }).unwrap();
    store.shape_pool(pool, choosing(strategy), &[span]).unwrap();
    pool
}

/// How many addresses the brute force looks at.
const SIZE: u128 = 16;

/// What a pool should be, address by address.
struct Model {
    span: Span,
    allocatable: BTreeSet<u128>,
    held: BTreeMap<u128, Extent>,
    quarantined: BTreeMap<u128, Extent>,
}

impl Model {
    fn new(span: Span) -> Self {
        let allocatable = (span.first()..=span.last()).collect();
        Self { span, allocatable, held: BTreeMap::new(), quarantined: BTreeMap::new() }
    }

    fn free(&self) -> BTreeSet<u128> {
        let mut free = self.allocatable.clone();
        for extent in self.held.values().chain(self.quarantined.values()) {
            free.retain(|address| !extent.span().contains(*address));
        }
        free
    }

    /// Every extent in the span.
    fn extents(&self) -> Vec<Extent> {
        let kinds = std::iter::once(None).chain((0..=4).map(Some));
        let all = kinds.flat_map(|bits| self.addresses().filter_map(move |first| Extent::new(first, bits)));
        all.filter(|extent| self.span.covers(extent.span())).collect()
    }

    fn addresses(&self) -> impl Iterator<Item = u128> + use<> {
        self.span.first()..=self.span.last()
    }
}

fn all_in(addresses: &BTreeSet<u128>, extent: Extent) -> bool {
    (extent.span().first()..=extent.span().last()).all(|address| addresses.contains(&address))
}

/// Something that happens. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Hold(usize),
    End(usize, bool),
    EndQuarantine(usize),
    Shape(u16, Choice),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let choice = prop_oneof![Just(Choice::Lowest), Just(Choice::Random)];
    let step = prop_oneof![
        8 => any::<usize>().prop_map(Step::Hold),
        4 => any::<(usize, bool)>().prop_map(|(which, to_quarantine)| Step::End(which, to_quarantine)),
        2 => any::<usize>().prop_map(Step::EndQuarantine),
        1 => (any::<u16>(), choice).prop_map(|(mask, choice)| Step::Shape(mask, choice)),
    ];
    proptest::collection::vec(step, 1..40)
}

fn nth(map: &BTreeMap<u128, Extent>, n: usize) -> Option<Extent> {
    map.values().nth(n.checked_rem(map.len())?).copied()
}

fn take(store: &mut SqliteStore, pool: PoolId, model: &mut Model, step: &Step) {
    match *step {
        Step::Hold(which) => {
            let free = model.free();
            let extents: Vec<_> = model.extents().into_iter().filter(|extent| all_in(&free, *extent)).collect();
            if extents.is_empty() {
                return;
            }
            let extent = extents[which % extents.len()];
            store.hold(pool, extent, "a", None, None).unwrap();
            model.held.insert(extent.first(), extent);
        }
        Step::End(which, to_quarantine) => {
            let Some(extent) = nth(&model.held, which) else { return };
            store.end(pool, extent, to_quarantine.then_some(7)).unwrap();
            model.held.remove(&extent.first());
            if to_quarantine {
                model.quarantined.insert(extent.first(), extent);
            }
        }
        Step::EndQuarantine(which) => {
            let Some(extent) = nth(&model.quarantined, which) else { return };
            store.end_quarantine(pool, extent).unwrap();
            model.quarantined.remove(&extent.first());
        }
        Step::Shape(mask, choice) => {
            let is_held = |address| model.held.values().any(|extent| extent.span().contains(address));
            let chosen =
                (0..).zip(model.addresses()).filter(|(bit, address)| mask >> bit & 1 == 1 || is_held(*address));
            model.allocatable = chosen.map(|(_, address)| address).collect();
            let spans: Spans = model.allocatable.iter().map(|address| Span::single(*address)).collect();
            store.shape_pool(pool, choosing(choice), &merge(spans)).unwrap();
            let allocatable = &model.allocatable;
            model.quarantined.retain(|_, extent| all_in(allocatable, *extent));
        }
    }
}

fn check(store: &mut SqliteStore, pool: PoolId, model: &Model) {
    assert_eq!(store.audit().unwrap(), []);
    let free = model.free();
    let usage = store.usage(pool).unwrap();
    let size = |held: &BTreeMap<u128, Extent>| held.values().map(|extent| extent.span().size()).sum();
    assert_eq!(usage.allocatable, model.allocatable.len() as u128);
    assert_eq!((usage.allocated, usage.quarantined), (size(&model.held), size(&model.quarantined)));
    assert_eq!(usage.free(), free.len() as u128);

    let spans: Vec<_> = store.free_spans(pool).unwrap().into_iter().map(|free| free.span).collect();
    assert!(spans.windows(2).all(|pair| pair[0].last() + 1 < pair[1].first()));
    let covered: BTreeSet<u128> = spans.iter().flat_map(|span| span.first()..=span.last()).collect();
    assert_eq!(covered, free);

    for address in [0].into_iter().chain(model.addresses()).chain([u128::MAX]) {
        assert_eq!(store.free_from(pool, address).unwrap(), free.range(address..).next().copied());
        for bits in [0, 1, 2, 3, 4, 5, 128] {
            let mut blocks = free.range(address..).filter_map(|first| Extent::new(*first, Some(bits)));
            let lowest = blocks.find(|block| model.span.covers(block.span()) && all_in(&free, *block));
            let found = store.free_block(pool, bits, address).unwrap();
            assert_eq!(found, lowest.map(Extent::first), "{bits} bits from {address}");
        }
    }
    for extent in model.extents() {
        let expected = match () {
            () if all_in(&free, extent) => Obstacle::None,
            () if all_in(&model.allocatable, extent) => Obstacle::Taken,
            () => Obstacle::Reserved,
        };
        assert_eq!(store.obstacle(pool, extent).unwrap(), expected, "{extent:?}");
    }
    if store.policy(pool).unwrap().strategy == Choice::Random {
        check_numbers(store, pool, &free);
    }
}

/// Each number below the count is that of another free address.
fn check_numbers(store: &mut SqliteStore, pool: PoolId, free: &BTreeSet<u128>) {
    let count = free.len() as u128;
    let numbered: BTreeSet<u128> = (0..count).map(|n| store.nth_free(pool, n).unwrap().unwrap()).collect();
    assert_eq!(&numbered, free);
    for n in [count, u128::MAX] {
        assert_eq!(store.nth_free(pool, n).unwrap(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn free_space_is_what_a_brute_force_says(steps in steps(), at_top in any::<bool>(), is_random in any::<bool>()) {
        let base = if at_top { u128::MAX - (SIZE - 1) } else { 0 };
        let mut store = store();
        let around = span(base, base + (SIZE - 1));
        let pool = pool(&mut store, "p0", around, if is_random { Choice::Random } else { Choice::Lowest });
        let mut model = Model::new(around);
        for step in steps {
            take(&mut store, pool, &mut model, &step);
            check(&mut store, pool, &model);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// More free spans than a tally of the second level holds, in any order.
    #[test]
    fn numbers_are_right_at_every_height(
        order in Just((0_u128..300).collect::<Vec<_>>()).prop_shuffle(),
        back in Just((0_u128..300).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut store = store();
        let pool = pool(&mut store, "p0", span(0, u128::MAX - 1), Choice::Random);
        let step = 1_u128 << 119;
        let single = |n: &u128| Extent::address((n + 1) * step);
        // These counts of spans are where the tree grows and shrinks.
        let is_telling = |done: usize| done.is_multiple_of(50) || [14, 15, 16, 17, 254, 255, 256, 257].contains(&done);
        for (done, n) in (1..).zip(&order) {
            store.hold(pool, single(n), "a", None, None).unwrap();
            if is_telling(done) {
                prop_assert_eq!(store.audit().unwrap(), []);
            }
        }
        let free = store.usage(pool).unwrap().free();
        prop_assert!(store.nth_free(pool, free - 1).unwrap().is_some());
        prop_assert_eq!(store.nth_free(pool, free).unwrap(), None);
        for (done, n) in (1..).zip(&back) {
            store.end(pool, single(n), None).unwrap();
            if is_telling(300 - done) {
                prop_assert_eq!(store.audit().unwrap(), []);
            }
        }
        prop_assert_eq!(store.kept_tallies(pool).unwrap().len(), 1);
    }
}

#[test]
fn every_number_is_another_address_of_many_spans() {
    let mut store = store();
    let around = span(0, 799);
    let pool = pool(&mut store, "p0", around, Choice::Random);
    let mut free: BTreeSet<u128> = (0..800).collect();
    for address in (0..800).filter(|address| address % 3 == 1) {
        store.hold(pool, Extent::address(address), "a", None, None).unwrap();
        free.remove(&address);
    }
    check_numbers(&mut store, pool, &free);
    assert_eq!(store.kept_tallies(pool).unwrap().last().unwrap().level, 2);
}

#[test]
fn the_whole_of_ipv6_is_counted_exactly() {
    let mut store = store();
    let all = span(1, u128::MAX);
    let pool = store.insert_pool("p0", "", Prefix { family: Family::Ipv6, span: span(0, u128::MAX) }).unwrap();
    store.shape_pool(pool, choosing(Choice::Random), &[all]).unwrap();
    assert_eq!(store.nth_free(pool, u128::MAX - 1).unwrap(), Some(u128::MAX));
    assert_eq!(store.free_block(pool, 127, 0).unwrap(), Some(1 << 127));
    assert_eq!(store.free_block(pool, 128, 0).unwrap(), None);
    // What is given back between two huge spans makes them one, and no sum passes the top meanwhile.
    let middle = Extent::new(1 << 126, Some(126)).unwrap();
    for extent in [middle, Extent::new(1 << 127, Some(127)).unwrap(), Extent::address(u128::MAX >> 1)] {
        store.hold(pool, extent, "a", None, None).unwrap();
        assert_eq!(store.audit().unwrap(), []);
        store.end(pool, extent, None).unwrap();
        assert_eq!(store.audit().unwrap(), []);
    }
    assert_eq!(store.usage(pool).unwrap().free(), u128::MAX);
}

#[test]
fn what_is_over_comes_earliest_first_from_both_tables() {
    let mut store = store();
    let pool = pool(&mut store, "p0", span(0, 9), Choice::Lowest);
    for (address, expires_ms) in [(0, Some(30)), (1, Some(10)), (2, None), (3, Some(41)), (4, Some(5)), (5, None)] {
        store.hold(pool, Extent::address(address), "a", expires_ms, None).unwrap();
    }
    store.end(pool, Extent::address(4), Some(20)).unwrap();
    store.end(pool, Extent::address(5), Some(40)).unwrap();
    let over =
        |address, ended_ms, was_quarantined| Over { pool, extent: Extent::address(address), ended_ms, was_quarantined };
    let expected = [over(1, 10, false), over(4, 20, true), over(0, 30, false), over(5, 40, true)];
    assert_eq!(store.over(40).unwrap(), expected);
    assert_eq!(store.over(9).unwrap(), []);
}

#[test]
fn numbers_of_allocations_go_on_in_a_new_pool_of_the_name() {
    let mut store = store();
    let around = span(0, 9);
    let first = pool(&mut store, "p0", around, Choice::Lowest);
    let one = Extent::address(1);
    assert_eq!(store.hold(first, one, "a", None, None).unwrap(), 1);
    store.end(first, one, None).unwrap();
    assert_eq!(store.hold(first, one, "a", None, None).unwrap(), 2);
    store.end(first, one, Some(9)).unwrap();
    store.remove_pool(first).unwrap();
    assert_eq!(store.audit().unwrap(), []);
    let second = pool(&mut store, "p0", around, Choice::Lowest);
    assert!(second > first);
    assert_eq!(store.hold(second, one, "a", None, None).unwrap(), 3);
    assert_eq!(store.find_pool("p0").unwrap().unwrap().generation, 3);
}

#[test]
fn marks_nest() {
    let mut store = store();
    let pool = pool(&mut store, "p0", span(0, 9), Choice::Lowest);
    let hold = |store: &mut SqliteStore| {
        let address = store.free_from(pool, 0).unwrap().unwrap();
        store.hold(pool, Extent::address(address), "a", None, None).unwrap();
        address
    };
    assert_eq!(hold(&mut store), 0);
    store.mark().unwrap();
    assert_eq!(hold(&mut store), 1);
    store.mark().unwrap();
    assert_eq!(hold(&mut store), 2);
    store.mark().unwrap();
    assert_eq!(hold(&mut store), 3);
    store.keep().unwrap();
    store.undo().unwrap();
    assert_eq!(hold(&mut store), 2);
    store.undo().unwrap();
    // What was seen before an undo is not believed after it.
    assert_eq!(store.free_from(pool, 0).unwrap(), Some(1));
    assert_eq!(store.audit().unwrap(), []);
    store.commit().unwrap();
    assert!(!store.in_transaction());
}

#[test]
fn a_span_that_was_seen_is_forgotten_when_it_changes() {
    let mut store = store();
    let pool = pool(&mut store, "p0", span(0, 9), Choice::Lowest);
    store.mark().unwrap();
    store.hold(pool, Extent::address(5), "a", None, None).unwrap();
    assert_eq!(store.free_from(pool, 6).unwrap(), Some(6));
    store.undo().unwrap();
    store.hold(pool, Extent::address(6), "a", None, None).unwrap();
    assert_eq!(store.audit().unwrap(), []);
    assert!(store.hold(pool, Extent::address(6), "b", None, None).is_err());
}

#[test]
fn every_look_up_is_served_by_an_index() {
    let store = store();
    let look_ups = [&free::LOOK_UPS[..], &held::LOOK_UPS, &pools::LOOK_UPS, &tally::LOOK_UPS].concat();
    for (sql, expected) in look_ups {
        // A plan needs no values: parameters that are not bound are NULL.
        let mut statement = store.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let mut rows = statement.raw_query();
        let mut searches = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let step: String = row.get(3).unwrap();
            // Two searches in one query have a frame around them.
            if !["MERGE (UNION ALL)", "LEFT", "RIGHT"].contains(&step.as_str()) {
                searches.push(step.split_once(" USING ").expect(sql).1.to_owned());
            }
        }
        assert_eq!(searches.join("; "), expected, "{sql}");
    }
}
