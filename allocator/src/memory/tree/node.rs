//! A node of the tree: what it knows of that which is below it, and how that is kept.
//!
//! A node covers all addresses from its first to the `last` before the next node's first. Its parent knows both, and so the
//! nodes themselves need not know their neighbours.

use super::inner::{Changed, Inner};
use super::leaf::Leaf;
use super::{Held, Spans};

/// A leaf or an inner node, and the sums of what is below it.
#[derive(Debug)]
pub(super) struct Node<const N: usize> {
    /// Where the first span below begins.
    pub(super) first: u128,
    /// How many addresses are taken below, modulo 2^128.
    pub(super) taken: u128,
    /// The most room of the gaps below.
    pub(super) room: u8,
    pub(super) below: Below<N>,
}

/// All leaves are at the same depth, and all nodes at least a third full but for the root and the last of each level, which
/// waits for spans to come.
#[derive(Debug)]
pub(super) enum Below<const N: usize> {
    Leaf(Leaf),
    Inner(Inner<N>),
}

impl<const N: usize> Default for Node<N> {
    fn default() -> Self {
        // An empty root: its first address is one that any other will be less than.
        Self { first: u128::MAX, taken: 0, room: 0, below: Below::Leaf(Leaf::default()) }
    }
}

impl<const N: usize> Node<N> {
    /// The least length of a node that is not the last of its level.
    pub(super) const LEAST: usize = N.div_ceil(3);

    /// With sums computed from what is below.
    pub(super) fn of(spans: &impl Spans, below: Below<N>) -> Self {
        let mut node = Self { below, ..Self::default() };
        node.first = node.find_first(spans);
        node.taken = match &node.below {
            Below::Leaf(leaf) => {
                leaf.entries().iter().fold(0, |sum, entry| spans.span(entry.slot).count().wrapping_add(sum))
            }
            Below::Inner(inner) => inner.children().iter().fold(0, |sum, child| child.taken.wrapping_add(sum)),
        };
        node.room = node.find_room();
        node
    }

    /// The first address, computed from what is below.
    pub(super) fn find_first(&self, spans: &impl Spans) -> u128 {
        let first = match &self.below {
            Below::Leaf(leaf) => leaf.entries().first().map(|entry| spans.span(entry.slot).first()),
            Below::Inner(inner) => inner.children().first().map(|child| child.first),
        };
        first.unwrap_or(u128::MAX)
    }

    /// The most room, computed from what is below.
    fn find_room(&self) -> u8 {
        match &self.below {
            Below::Leaf(leaf) => leaf.room(),
            Below::Inner(inner) => inner.room(),
        }
    }

    /// How many entries or children.
    pub(super) fn len(&self) -> usize {
        match &self.below {
            Below::Leaf(leaf) => leaf.entries().len(),
            Below::Inner(inner) => inner.len(),
        }
    }

    /// Takes the child out of a root that has but one.
    pub(super) fn only_child(&mut self) -> Option<Self> {
        match &mut self.below {
            Below::Inner(inner) => inner.only_child(),
            Below::Leaf(_) => None,
        }
    }

    /// The last taken span that begins at or before the address.
    pub(super) fn upto(&self, spans: &impl Spans, address: u128) -> Option<Held> {
        let mut node = self;
        loop {
            match &node.below {
                Below::Leaf(leaf) => return leaf.upto(spans, node.first, address),
                Below::Inner(inner) => node = inner.children().get(inner.child_at(address))?,
            }
        }
    }

    /// The lowest free block behind one of the spans, as that of the tree.
    pub(super) fn free_block(&self, spans: &impl Spans, bits: u8, from: u128, last: u128) -> Option<u128> {
        // `from` may lie within a gap. That is the only one with room enough that may fail, so at most one way down is in
        // vain.
        match &self.below {
            Below::Leaf(leaf) => {
                let start = leaf.rank(spans, self.first, from).saturating_sub(1);
                let mut gaps = leaf.gaps(spans, self.first, start, bits, last);
                gaps.find_map(|gap| gap.block(bits, from))
            }
            Below::Inner(inner) => {
                let start = if from <= self.first { 0 } else { inner.child_at(from) };
                let mut roomy = inner.roomy(start, bits, last);
                roomy.find_map(|(child, last)| child.free_block(spans, bits, from, last))
            }
        }
    }

    /// The nth free address behind one of the spans.
    pub(super) fn nth_free(&self, spans: &impl Spans, mut n: u128, last: u128) -> Option<u128> {
        match &self.below {
            Below::Leaf(leaf) => leaf.gaps(spans, self.first, 0, 0, last).find_map(|gap| {
                let found = gap.nth(n);
                n = n.saturating_sub(gap.count());
                found
            }),
            Below::Inner(inner) => inner.roomy(0, 0, last).find_map(|(child, last)| {
                let all = last.wrapping_sub(child.first).wrapping_add(1);
                let free = all.wrapping_sub(child.taken);
                if n < free {
                    return child.nth_free(spans, n, last);
                }
                n = n.saturating_sub(free);
                None
            }),
        }
    }

    /// The index of the new entry, or behind the child it went to, where a new child would be. Nothing if something is in
    /// the way.
    ///
    /// `end` tells that this is the last node of its level. It may be one too long afterwards.
    pub(super) fn insert(&mut self, spans: &impl Spans, new: Held, last: u128, end: bool) -> Option<usize> {
        let changed = match &mut self.below {
            Below::Leaf(leaf) => leaf.insert(spans, self.first, new, last)?,
            Below::Inner(inner) => inner.insert(spans, new, last, end)?,
        };
        self.adapt_room(&changed);
        self.first = self.first.min(new.span.first());
        self.taken = self.taken.wrapping_add(new.span.count());
        Some(changed.index)
    }

    /// Some of what is below changed; the rest is as it was.
    fn adapt_room(&mut self, changed: &Changed) {
        if changed.after >= self.room {
            self.room = changed.after;
        } else if changed.before == self.room {
            self.room = self.find_room();
        }
    }

    /// Splits a node that became too long by an insertion at that index.
    ///
    /// Addresses are often given out in ascending order, up to one that was taken before, such as the broadcast address.
    /// Then all that is before the newest stays together.
    pub(super) fn split_if_full(&mut self, spans: &impl Spans, index: usize, end: bool) -> Option<Self> {
        let len = self.len();
        if len <= N {
            return None;
        }
        let ascending = index.saturating_add(2) >= len;
        let left = match (ascending, end) {
            (true, true) => index,
            (true, false) => len.saturating_sub(Self::LEAST),
            (false, _) => len / 2,
        };
        Some(self.split(spans, left))
    }

    /// Keeps that many, gives away the others.
    pub(super) fn split(&mut self, spans: &impl Spans, left: usize) -> Self {
        let right = match &mut self.below {
            Below::Leaf(leaf) => Below::Leaf(leaf.split(spans, left)),
            Below::Inner(inner) => Below::Inner(inner.split(left)),
        };
        let right = Self::of(spans, right);
        self.taken = self.taken.wrapping_sub(right.taken);
        self.room = self.find_room();
        right
    }

    /// Nothing if it is not there. This node may be too short afterwards, or empty.
    pub(super) fn remove(&mut self, spans: &impl Spans, old: Held, last: u128) -> Option<()> {
        let changed = match &mut self.below {
            Below::Leaf(leaf) => leaf.remove(spans, self.first, old, last)?,
            Below::Inner(inner) => inner.remove(spans, old, last)?,
        };
        self.adapt_room(&changed);
        if self.first == old.span.first() {
            self.first = self.find_first(spans);
        }
        self.taken = self.taken.wrapping_sub(old.span.count());
        Some(())
    }

    /// The next node begins further on now, and so the gap behind the last span grows.
    pub(super) fn stretch(&mut self, spans: &impl Spans, last: u128) {
        let room = match &mut self.below {
            Below::Leaf(leaf) => leaf.stretch(spans, self.first, last),
            Below::Inner(inner) => inner.stretch(spans, last),
        };
        self.room = self.room.max(room);
    }

    /// Takes over all that is below the next node.
    pub(super) fn append(&mut self, spans: &impl Spans, right: Self) {
        match (&mut self.below, right.below) {
            (Below::Leaf(left), Below::Leaf(right)) => left.append(spans, right),
            (Below::Inner(left), Below::Inner(right)) => left.append(right),
            _ => {} // the two are of one level
        }
        self.taken = self.taken.wrapping_add(right.taken);
        self.room = self.room.max(right.room);
    }
}
