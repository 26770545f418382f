//! A pool in memory: what it may hand out, and what is taken of it.

use std::sync::Arc;

use super::records::{Record, RecordId, Records};
use super::tree::{Spans as SpansOfSlots, Tree};
use crate::address::Family;
use crate::pool::Prefix;
use crate::span::{Span, Spans, subtract, total};
use crate::store::{Pool, Usage};

/// A pool, with its layout apart, because that is replaced as a whole.
#[derive(Debug)]
pub(super) struct MemoryPool {
    /// What the rules are told of it, ready to be told.
    pub(super) facts: Pool,
    pub(super) name: Arc<str>,
    pub(super) space: Arc<str>,
    pub(super) layout: Layout,
    allocated: u128,
    quarantined: u128,
    /// Where the strategy that takes one after the other goes on.
    pub(super) cursor: u128,
}

impl MemoryPool {
    /// A pool that may hand out nothing.
    pub(super) fn new(facts: Pool, name: Arc<str>, space: Arc<str>) -> Self {
        let layout = Layout::new(facts.prefix, Spans::new());
        Self { facts, name, space, layout, allocated: 0, quarantined: 0, cursor: 0 }
    }

    /// Its key among the prefixes.
    pub(super) fn place(&self) -> (Arc<str>, Family, u128) {
        (self.space.clone(), self.facts.prefix.family, self.facts.prefix.span.first())
    }

    pub(super) const fn usage(&self) -> Usage {
        let Self { allocated, quarantined, .. } = *self;
        Usage { allocatable: self.layout.allocatable_count, allocated, quarantined }
    }

    /// Counts the addresses of a record that is linked in.
    pub(super) fn count_in(&mut self, record: &Record) {
        let count = self.count_of(record);
        *count = count.saturating_add(record.extent().span().size());
    }

    /// Counts the addresses of a record no more.
    pub(super) fn count_out(&mut self, record: &Record) {
        let count = self.count_of(record);
        *count = count.saturating_sub(record.extent().span().size());
    }

    const fn count_of(&mut self, record: &Record) -> &mut u128 {
        if record.owner().is_some() { &mut self.allocated } else { &mut self.quarantined }
    }
}

/// What a pool may hand out, and what is taken of it.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) allocatable: Spans,
    allocatable_count: u128,
    /// What is never handed out: all of the prefix that is not allocatable.
    reserved: Spans,
    /// All of the prefix.
    bounds: Span,
    /// What is taken: records by their numbers, and what is reserved by its place above those.
    tree: Tree,
}

/// Tells the tree which addresses a slot has.
struct View<'a> {
    records: &'a Records,
    reserved: &'a [Span],
}

impl SpansOfSlots for View<'_> {
    #[inline]
    fn span(&self, slot: u32) -> Span {
        let span = match slot.checked_sub(RecordId::END) {
            None => self.records.get(RecordId(slot)).map(|record| record.extent().span()),
            Some(index) => usize::try_from(index).ok().and_then(|index| self.reserved.get(index).copied()),
        };
        // A slot that the tree has is always there.
        span.unwrap_or(Span::single(u128::MAX))
    }
}

impl Layout {
    /// Of a prefix in which nobody holds anything yet.
    pub(super) fn new(prefix: Prefix, allocatable: Spans) -> Self {
        let reserved = subtract(&[prefix.span], &allocatable);
        let mut tree = Tree::new(prefix.span);
        let view = View { records: &Records::default(), reserved: &reserved };
        for slot in (RecordId::END..).take(reserved.len()) {
            tree.insert(&view, slot);
        }
        let allocatable_count = total(&allocatable);
        Self { allocatable, allocatable_count, reserved, bounds: prefix.span, tree }
    }

    fn view<'a>(&'a self, records: &'a Records) -> View<'a> {
        View { records, reserved: &self.reserved }
    }

    /// Takes the addresses of a record; `false` if not all of them are free.
    pub(super) fn take(&mut self, records: &Records, RecordId(slot): RecordId) -> bool {
        self.tree.insert(&View { records, reserved: &self.reserved }, slot)
    }

    /// Makes the addresses of a record free; `false` if it has not taken them.
    pub(super) fn give_back(&mut self, records: &Records, RecordId(slot): RecordId) -> bool {
        self.tree.remove(&View { records, reserved: &self.reserved }, slot)
    }

    /// The record that takes an address.
    pub(super) fn at(&self, records: &Records, address: u128) -> Option<RecordId> {
        self.tree.at(&self.view(records), address).and_then(record)
    }

    /// The records that end no lower than an address, ascending.
    pub(super) fn records_from<'a>(
        &'a self,
        records: &'a Records,
        address: u128,
    ) -> impl Iterator<Item = RecordId> + use<'a> {
        self.tree.iter_from(&self.view(records), address).filter_map(record)
    }

    /// All records, ascending.
    pub(super) fn records(&self) -> impl Iterator<Item = RecordId> {
        self.tree.iter().filter_map(record)
    }

    pub(super) fn is_free(&self, records: &Records, span: Span) -> bool {
        self.tree.is_free(&self.view(records), span)
    }

    /// May all of this be handed out, were it free?
    pub(super) fn may_hand_out(&self, span: Span) -> bool {
        let after = self.allocatable.partition_point(|other| other.first() <= span.first());
        let around = after.checked_sub(1).and_then(|index| self.allocatable.get(index));
        around.is_some_and(|around| around.covers(span))
    }

    pub(super) fn free(&self) -> u128 {
        self.tree.free()
    }

    pub(super) fn free_from(&self, records: &Records, address: u128) -> Option<u128> {
        self.tree.free_from(&self.view(records), address)
    }

    /// The last address of the free span that an address is in.
    pub(super) fn free_until(&self, records: &Records, address: u128) -> u128 {
        let view = self.view(records);
        let next = self.tree.taken_from(&view, address).map(|slot| view.span(slot).first());
        next.map_or(self.bounds.last(), |next| next.saturating_sub(1))
    }

    pub(super) fn nth_free(&self, records: &Records, n: u128) -> Option<u128> {
        self.tree.nth_free(&self.view(records), n)
    }

    pub(super) fn free_block(&self, records: &Records, host_bits: u8, address: u128) -> Option<u128> {
        self.tree.free_block(&self.view(records), host_bits, address)
    }
}

/// The record that a slot of the tree is, if it is one.
fn record(slot: u32) -> Option<RecordId> {
    (slot < RecordId::END).then_some(RecordId(slot))
}
