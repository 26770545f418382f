//! A leaf of the tree: up to some tens of taken spans in ascending order, eight bytes for each.
//!
//! A leaf does not know where its spans lie; the caller does, and asking it is a cache miss. So each entry has a *hint*: 23
//! bits of its first address, taken from below the bits that all entries of the leaf have in common. In a leaf that lies
//! within an aligned 2^23 addresses the hint is *exact*, which tells all of a span of one address; only for others is the
//! caller asked.

use super::inner::Changed;
use super::set::Set;
use super::{Held, Spans, reserve_some};
use crate::span::Span;

const HINT_BITS: u8 = 23;
const HINT_MASK: u128 = (1 << HINT_BITS) - 1;

/// A taken span, and the room in the gap behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) slot: u32,
    /// The hint in the upper 23 bits, then one that tells a single address, the room in the lower 8.
    key: u32,
}

impl Entry {
    const SINGLE: u32 = 1 << 8;

    fn hint(self) -> u32 {
        self.key >> 9
    }

    fn is_single(self) -> bool {
        self.key & Self::SINGLE != 0
    }

    pub(super) fn room(self) -> u8 {
        self.key as u8 // the lower 8 bits
    }

    fn set_hint(&mut self, hint: u32) {
        self.key = hint << 9 | (self.key & 0x1ff);
    }

    fn set_room(&mut self, room: u8) {
        self.key = (self.key & !0xff) | u32::from(room);
    }
}

/// One more than the host bits of the largest aligned block in a gap, because there may be no gap.
fn room(gap: Option<Span>) -> u8 {
    gap.map_or(0, |gap| gap.room().saturating_add(1))
}

/// Methods that search take `first`, the first address of the first entry, and those that look at gaps take `last`, the last
/// address before the next leaf: the nodes above know both.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    entries: Vec<Entry>,
    /// Which entries have a gap behind them.
    gaps: Set,
    /// How many bits of an address lie below its hint.
    shift: u8,
}

impl Leaf {
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The most room of its gaps.
    pub(super) fn room(&self) -> u8 {
        self.gaps.from(0).filter_map(|index| self.entries.get(index)).map(|entry| entry.room()).max().unwrap_or(0)
    }

    /// How many entries begin at or before the address.
    pub(super) fn rank(&self, spans: &impl Spans, first: u128, address: u128) -> usize {
        let Some(hint) = self.hint_near(first, address) else {
            return if address < first { 0 } else { self.entries.len() };
        };
        let end = self.before(hint.saturating_add(1));
        if self.is_exact() {
            return end;
        }
        // Of those with the same hint only the caller knows.
        let entries = self.entries.get(..end).unwrap_or_default();
        let others = entries.iter().rev().take_while(|entry| entry.hint() == hint);
        let later = others.take_while(|entry| spans.span(entry.slot).first() > address).count();
        end.saturating_sub(later)
    }

    /// The index of a slot whose span begins at an address.
    fn index_of(&self, first: u128, slot: u32, address: u128) -> Option<usize> {
        let hint = self.hint_near(first, address)?;
        let start = self.before(hint);
        let alike = self.entries.get(start..)?.iter().take_while(|entry| entry.hint() == hint);
        let place = alike.enumerate().find(|(_, entry)| entry.slot == slot);
        place.map(|(place, _)| start.saturating_add(place))
    }

    /// The last entry that begins at or before the address.
    pub(super) fn upto(&self, spans: &impl Spans, first: u128, address: u128) -> Option<Held> {
        let index = self.rank(spans, first, address).checked_sub(1)?;
        self.held(spans, first, index)
    }

    /// The entries that end at or after the address.
    pub(super) fn ending_from(&self, spans: &impl Spans, first: u128, address: u128) -> &[Entry] {
        let rank = self.rank(spans, first, address);
        let before = rank.checked_sub(1);
        let meets = |index: &usize| self.held(spans, first, *index).is_some_and(|held| held.span.last() >= address);
        self.entries.get(before.filter(meets).unwrap_or(rank)..).unwrap_or_default()
    }

    /// The gap behind an entry.
    fn gap(&self, spans: &impl Spans, first: u128, index: usize, last: u128) -> Option<Span> {
        let taken = self.held(spans, first, index)?.span;
        let next = self.first_of(spans, first, index.saturating_add(1));
        Span::after(taken.last(), next.map_or(last, |next| next.saturating_sub(1)))
    }

    /// The gaps behind the entries from an index on that have more room than that.
    pub(super) fn gaps(
        &self,
        spans: &impl Spans,
        first: u128,
        start: usize,
        room: u8,
        last: u128,
    ) -> impl Iterator<Item = Span> {
        let roomy = move |index: &usize| self.entries.get(*index).is_some_and(|entry| entry.room() > room);
        self.gaps.from(start).filter(roomy).filter_map(move |index| self.gap(spans, first, index, last))
    }

    /// Where it was put, in a gap of which room, and what room it left; nothing if something is in the way.
    pub(super) fn insert(&mut self, spans: &impl Spans, first: u128, new: Held, last: u128) -> Option<Changed> {
        let (begin, end) = (new.span.first(), new.span.last());
        let index = self.rank(spans, first, begin);
        let last = self.first_of(spans, first, index).map_or(last, |next| next.saturating_sub(1));
        let previous = index.checked_sub(1).and_then(|index| self.held(spans, first, index));
        if end > last || previous.is_some_and(|held| held.span.last() >= begin) {
            return None;
        }
        let mut changed = Changed { index, before: 0, after: 0 };
        if let Some(previous) = previous {
            let gap = Span::after(previous.span.last(), begin.saturating_sub(1));
            changed.after = room(gap);
            changed.before = self.set_room(index.saturating_sub(1), changed.after);
        }
        self.cover(spans, first, begin);
        let single = if begin == end { Entry::SINGLE } else { 0 };
        let entry = Entry { slot: new.slot, key: self.hint(begin) << 9 | single };
        reserve_some(&mut self.entries);
        self.entries.insert(index, entry);
        self.gaps.insert_place(index);
        let behind = room(Span::after(end, last));
        self.set_room(index, behind);
        changed.after = changed.after.max(behind);
        Some(changed)
    }

    /// Where it was, the most room beside it, and what room it leaves; nothing if it is not there.
    pub(super) fn remove(&mut self, spans: &impl Spans, first: u128, old: Held, last: u128) -> Option<Changed> {
        let index = self.index_of(first, old.slot, old.span.first())?;
        let mut changed = Changed { index, before: self.entries.remove(index).room(), after: 0 };
        self.gaps.remove_place(index);
        if let Some(previous) = index.checked_sub(1) {
            changed.after = room(self.gap(spans, first, previous, last));
            self.set_room(previous, changed.after);
        }
        if self.entries.capacity() >= self.entries.len().saturating_add(16) {
            self.entries.shrink_to(self.entries.len().saturating_add(8));
        }
        Some(changed)
    }

    /// The next leaf begins further on now. The room that the gap behind the last entry has so.
    pub(super) fn stretch(&mut self, spans: &impl Spans, first: u128, last: u128) -> u8 {
        let index = self.entries.len().saturating_sub(1);
        let room = room(self.gap(spans, first, index, last));
        self.set_room(index, room);
        room
    }

    /// Keeps the entries before the index, gives away the others.
    pub(super) fn split(&mut self, spans: &impl Spans, index: usize) -> Leaf {
        let entries = self.entries.split_off(index);
        let mut right = Leaf { entries, gaps: Set::default(), shift: self.shift };
        self.entries.shrink_to_fit();
        self.find_gaps();
        right.find_gaps();
        self.sharpen(spans);
        right.sharpen(spans);
        right
    }

    /// Takes over all entries of the next leaf.
    pub(super) fn append(&mut self, spans: &impl Spans, mut right: Leaf) {
        self.entries.reserve_exact(right.entries.len());
        self.entries.append(&mut right.entries);
        self.find_gaps();
        if right.shift != self.shift {
            self.shift = u8::MAX; // no shift is that, so all hints are made anew
        }
        self.sharpen(spans);
    }

    /// The nth entry.
    pub(super) fn held(&self, spans: &impl Spans, first: u128, index: usize) -> Option<Held> {
        let entry = *self.entries.get(index)?;
        let span = match entry.is_single() && self.is_exact() {
            true => Span::single(exact(first, entry)),
            false => spans.span(entry.slot),
        };
        Some(Held { slot: entry.slot, span })
    }

    /// The first address of the nth entry.
    fn first_of(&self, spans: &impl Spans, first: u128, index: usize) -> Option<u128> {
        let entry = *self.entries.get(index)?;
        Some(if self.is_exact() { exact(first, entry) } else { spans.span(entry.slot).first() })
    }

    /// Changes the room behind an entry, and gives what it was.
    fn set_room(&mut self, index: usize, room: u8) -> u8 {
        let Some(entry) = self.entries.get_mut(index) else { return 0 };
        let before = entry.room();
        entry.set_room(room);
        self.gaps.set(index, room > 0);
        before
    }

    fn find_gaps(&mut self) {
        self.gaps = self.entries.iter().map(|entry| entry.room() > 0).collect();
    }

    /// Are the hints all that entries differ in?
    const fn is_exact(&self) -> bool {
        self.shift == 0
    }

    /// Depends on nothing else but the shift, so two leaves of one shift have the same hints.
    fn hint(&self, address: u128) -> u32 {
        let bits = address.checked_shr(self.shift.into()).unwrap_or(0);
        (bits & HINT_MASK) as u32
    }

    /// The hint of an address; nothing if it differs from all entries in bits above it.
    fn hint_near(&self, first: u128, address: u128) -> Option<u32> {
        let differing = address ^ first;
        if self.is_exact() {
            return (differing <= HINT_MASK).then_some((address & HINT_MASK) as u32);
        }
        let common = u32::from(self.shift.saturating_add(HINT_BITS));
        (differing.checked_shr(common).unwrap_or(0) == 0).then(|| self.hint(address))
    }

    /// How many entries have a lesser hint.
    fn before(&self, hint: u32) -> usize {
        let mut end = self.entries.len();
        if let Some(first) = self.entries.first().filter(|_| self.is_exact()) {
            // All exact hints differ, so no more of them fit in between.
            end = end.min(usize::try_from(hint.saturating_sub(first.hint())).unwrap_or(end));
        }
        let entries = self.entries.get(..end).unwrap_or_default();
        match entries.last() {
            // As it is where everything is taken, and a search would wait for the cache at every step.
            Some(last) if last.hint() < hint => end,
            _ => entries.partition_point(|entry| entry.hint() < hint),
        }
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
            let first = self.entries.get(index).map(|entry| spans.span(entry.slot).first());
            let hint = first.map_or(0, |first| self.hint(first));
            if let Some(entry) = self.entries.get_mut(index) {
                entry.set_hint(hint);
            }
        }
    }
}

/// The first address of an entry with an exact hint, in a leaf with that first address.
fn exact(first: u128, entry: Entry) -> u128 {
    (first & !HINT_MASK) | u128::from(entry.hint())
}

/// The smallest shift with which two addresses agree in all bits above their hints.
fn shift(a: u128, b: u128) -> u8 {
    let differing = u128::BITS.saturating_sub((a ^ b).leading_zeros());
    (differing as u8).saturating_sub(HINT_BITS)
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
            assert_eq!(entry.is_single(), spans.span(entry.slot).count() == 1, "single");
            assert_eq!(first.checked_shr(window), firsts[0].checked_shr(window), "common bits");
        }
        for (index, entry) in self.entries.iter().enumerate() {
            assert_eq!(self.gaps.has(index), entry.room() > 0, "gaps");
        }
        assert!(!self.gaps.has(self.entries.len()), "gaps behind the end");
        assert!(self.entries.is_sorted_by_key(|entry| entry.hint()), "order of hints");
        assert!(self.entries.capacity() <= self.entries.len() + 16, "unused memory");
    }
}

#[cfg(test)]
mod tests {
    use super::shift;

    #[test]
    fn hints_are_as_fine_as_they_can_be() {
        let top = u128::MAX << 64;
        assert_eq!((shift(top, top), shift(top, top + 1), shift(top, top + (1 << 23) - 1)), (0, 0, 0));
        assert_eq!((shift(top, top + (1 << 23)), shift(0, u128::MAX)), (1, 105));
    }
}
