//! A leaf of the tree: up to some tens of taken spans in ascending order, eight bytes for each.
//!
//! A leaf does not know where its spans lie; the caller does, and asking it is a cache miss. So
//! each entry has a *hint*: 24 bits of its first address, taken from below the bits that all
//! entries of the leaf have in common. A search compares hints, and asks the caller only about
//! entries whose hint is the one it looks for. In a leaf that lies within an aligned 2^24
//! addresses the hint is exact.

use std::ops::Range;

use super::{Held, Spans};
use crate::span::Span;

const HINT_BITS: u8 = 24;

/// A taken span, and the room in the gap behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) slot: u32,
    /// The hint in the upper 24 bits, the room in the lower 8.
    key: u32,
}

impl Entry {
    fn hint(self) -> u32 {
        self.key >> 8
    }

    pub(super) fn room(self) -> u8 {
        self.key as u8 // the lower 8 bits
    }

    fn set_hint(&mut self, hint: u32) {
        self.key = hint << 8 | u32::from(self.room());
    }

    fn set_room(&mut self, room: u8) {
        self.key = self.hint() << 8 | u32::from(room);
    }
}

/// One more than the host bits of the largest aligned block in a gap, because there may be no gap.
fn room(gap: Span) -> u8 {
    gap.room().saturating_add(1)
}

/// Methods that search take `first`, the first address of the first entry, and those that look at
/// gaps take `last`, the last address before the next leaf: the nodes above know both.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    entries: Vec<Entry>,
    /// How many bits of an address lie below its hint.
    shift: u8,
}

impl Leaf {
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The most room of its gaps.
    pub(super) fn room(&self) -> u8 {
        self.entries.iter().map(|entry| entry.room()).max().unwrap_or(0)
    }

    /// How many entries begin at or before the address.
    pub(super) fn rank(&self, spans: &impl Spans, first: u128, address: u128) -> usize {
        let alike = self.alike(first, address);
        let entries = self.entries.get(alike.clone()).unwrap_or_default();
        let begun = entries.partition_point(|entry| spans.span(entry.slot).first() <= address);
        alike.start.saturating_add(begun)
    }

    /// The last entry that begins at or before the address.
    pub(super) fn upto(&self, spans: &impl Spans, first: u128, address: u128) -> Option<Held> {
        let index = self.rank(spans, first, address).checked_sub(1)?;
        self.held(spans, index)
    }

    /// The entries that end at or after the address.
    pub(super) fn ending_from(&self, spans: &impl Spans, first: u128, address: u128) -> &[Entry] {
        let rank = self.rank(spans, first, address);
        let before = rank.checked_sub(1);
        let meets = |index: &usize| self.held(spans, *index).is_some_and(|held| held.span.last() >= address);
        self.entries.get(before.filter(meets).unwrap_or(rank)..).unwrap_or_default()
    }

    /// The gap behind an entry.
    fn gap(&self, spans: &impl Spans, index: usize, last: u128) -> Option<Span> {
        let taken = self.held(spans, index)?.span;
        let next = self.held(spans, index.saturating_add(1));
        Span::after(taken.last(), next.map_or(last, |next| next.span.first().saturating_sub(1)))
    }

    /// The gaps behind the entries from an index on that have more room than that.
    pub(super) fn gaps(&self, spans: &impl Spans, start: usize, room: u8, last: u128) -> impl Iterator<Item = Span> {
        let entries = self.entries.iter().enumerate().skip(start);
        let roomy = entries.filter(move |(_, entry)| entry.room() > room);
        roomy.filter_map(move |(index, _)| self.gap(spans, index, last))
    }

    /// Where it was put, or nothing if something is in the way.
    pub(super) fn insert(&mut self, spans: &impl Spans, first: u128, new: Held, last: u128) -> Option<usize> {
        let index = self.rank(spans, first, new.span.first());
        let next = self.held(spans, index);
        let last = next.map_or(last, |next| next.span.first().saturating_sub(1));
        let previous = index.checked_sub(1).and_then(|index| self.held(spans, index));
        if new.span.last() > last || previous.is_some_and(|held| held.span.last() >= new.span.first()) {
            return None;
        }
        if let Some(previous) = previous {
            let gap = Span::after(previous.span.last(), new.span.first().saturating_sub(1));
            self.set_room(index.saturating_sub(1), gap);
        }
        self.cover(spans, first, new.span.first());
        let room = Span::after(new.span.last(), last).map_or(0, room);
        let key = self.hint(new.span.first()) << 8 | u32::from(room);
        reserve_some(&mut self.entries);
        self.entries.insert(index, Entry { slot: new.slot, key });
        Some(index)
    }

    /// Nothing if it is not there.
    pub(super) fn remove(&mut self, spans: &impl Spans, first: u128, old: Held, last: u128) -> Option<()> {
        let alike = self.alike(first, old.span.first());
        let mut entries = self.entries.get(alike.clone())?.iter();
        let index = alike.start.checked_add(entries.position(|entry| entry.slot == old.slot)?)?;
        self.entries.remove(index);
        if let Some(previous) = index.checked_sub(1) {
            self.set_room(previous, self.gap(spans, previous, last));
        }
        if self.entries.capacity() >= self.entries.len().saturating_add(16) {
            self.entries.shrink_to(self.entries.len().saturating_add(8));
        }
        Some(())
    }

    /// The next leaf begins further on now. The room that the gap behind the last entry has so.
    pub(super) fn stretch(&mut self, spans: &impl Spans, last: u128) -> u8 {
        let index = self.entries.len().saturating_sub(1);
        let gap = self.gap(spans, index, last);
        self.set_room(index, gap);
        gap.map_or(0, room)
    }

    /// Keeps the entries before the index, gives away the others.
    pub(super) fn split(&mut self, spans: &impl Spans, index: usize) -> Leaf {
        let mut right = Leaf { entries: self.entries.split_off(index), shift: self.shift };
        self.entries.shrink_to_fit();
        self.sharpen(spans);
        right.sharpen(spans);
        right
    }

    /// Takes over all entries of the next leaf.
    pub(super) fn append(&mut self, spans: &impl Spans, mut right: Leaf) {
        self.entries.reserve_exact(right.entries.len());
        self.entries.append(&mut right.entries);
        if right.shift != self.shift {
            self.shift = u8::MAX; // no shift is that, so all hints are made anew
        }
        self.sharpen(spans);
    }

    /// The nth entry.
    pub(super) fn held(&self, spans: &impl Spans, index: usize) -> Option<Held> {
        let slot = self.entries.get(index)?.slot;
        Some(Held { slot, span: spans.span(slot) })
    }

    fn set_room(&mut self, index: usize, gap: Option<Span>) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.set_room(gap.map_or(0, room));
        }
    }

    /// Depends on nothing else but the shift, so two leaves of one shift have the same hints.
    fn hint(&self, address: u128) -> u32 {
        let bits = address.checked_shr(self.shift.into()).unwrap_or(0);
        bits as u32 & ((1 << HINT_BITS) - 1)
    }

    /// The entries that have the hint of that address: none if there can be none, and then the
    /// empty range is where it would be.
    fn alike(&self, first: u128, address: u128) -> Range<usize> {
        let common = u32::from(self.shift.saturating_add(HINT_BITS));
        let above = |address: u128| address.checked_shr(common).unwrap_or(0);
        if above(address) != above(first) {
            let end = if address < first { 0 } else { self.entries.len() };
            return end..end;
        }
        let hint = self.hint(address);
        // Not a binary search: each step of that would wait for the cache miss of the one before.
        let start = self.entries.iter().filter(|entry| entry.hint() < hint).count();
        let behind = self.entries.get(start..).unwrap_or_default();
        let count = behind.iter().take_while(|entry| entry.hint() == hint).count();
        start..start.saturating_add(count)
    }

    /// Coarsens the hints if the address differs from `first` in bits above them.
    fn cover(&mut self, spans: &impl Spans, first: u128, address: u128) {
        let shift = if self.entries.is_empty() { 0 } else { shift(first, address).max(self.shift) };
        self.set_shift(spans, shift);
    }

    /// Makes the hints as fine as the entries allow.
    fn sharpen(&mut self, spans: &impl Spans) {
        let ends = [self.entries.first(), self.entries.last()];
        if let [Some(first), Some(last)] = ends.map(|entry| Some(spans.span(entry?.slot).first())) {
            self.set_shift(spans, shift(first, last));
        }
    }

    /// Makes all hints anew, unless they are of that shift already.
    fn set_shift(&mut self, spans: &impl Spans, shift: u8) {
        if shift == self.shift {
            return;
        }
        self.shift = shift;
        for index in 0..self.entries.len() {
            let hint = self.held(spans, index).map_or(0, |held| self.hint(held.span.first()));
            if let Some(entry) = self.entries.get_mut(index) {
                entry.set_hint(hint);
            }
        }
    }
}

/// The smallest shift with which two addresses agree in all bits above their hints.
fn shift(a: u128, b: u128) -> u8 {
    let differing = u128::BITS.saturating_sub((a ^ b).leading_zeros());
    (differing as u8).saturating_sub(HINT_BITS)
}

/// Makes space for one more, growing in small steps: a tree is mostly leaves that are not full.
pub(super) fn reserve_some<T>(vec: &mut Vec<T>) {
    if vec.len() == vec.capacity() {
        vec.reserve_exact(8);
    }
}

#[cfg(test)]
impl Leaf {
    /// Whether the hints are what they should be.
    pub(super) fn check(&self, spans: &impl Spans) {
        let firsts = self.entries.iter().map(|entry| spans.span(entry.slot).first());
        let firsts: Vec<u128> = firsts.collect();
        let window = u32::from(self.shift) + u32::from(HINT_BITS);
        for (entry, first) in self.entries.iter().zip(&firsts) {
            assert_eq!(u128::from(entry.hint()), (first >> self.shift) % (1 << HINT_BITS), "hint");
            assert_eq!(first.checked_shr(window), firsts[0].checked_shr(window), "common bits");
        }
        assert!(self.entries.is_sorted_by_key(|entry| entry.hint()), "order of hints");
        assert!(self.entries.capacity() <= self.entries.len() + 16, "unused memory");
    }
}
