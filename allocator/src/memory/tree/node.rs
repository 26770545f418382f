//! The nodes above the entries: what each knows of that which is below it, and how that is kept.
//!
//! A node covers all addresses from its first to the `last` before the next node's first. Its
//! parent knows both, and so the nodes themselves need not know their neighbours.

use super::leaf::{Leaf, reserve_some};
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

/// All leaves are at the same depth, and all nodes at least a third full but for the root and the
/// last of each level, which waits for spans to come.
#[derive(Debug)]
pub(super) enum Below<const N: usize> {
    Leaf(Leaf),
    Inner(Vec<Node<N>>),
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
            Below::Inner(children) => children.iter().fold(0, |sum, child| child.taken.wrapping_add(sum)),
        };
        node.room = node.find_room();
        node
    }

    /// The first address, computed from what is below.
    pub(super) fn find_first(&self, spans: &impl Spans) -> u128 {
        let first = match &self.below {
            Below::Leaf(leaf) => leaf.held(spans, 0).map(|held| held.span.first()),
            Below::Inner(children) => children.first().map(|child| child.first),
        };
        first.unwrap_or(u128::MAX)
    }

    /// The most room, computed from what is below.
    fn find_room(&self) -> u8 {
        match &self.below {
            Below::Leaf(leaf) => leaf.room(),
            Below::Inner(children) => children.iter().map(|child| child.room).max().unwrap_or(0),
        }
    }

    /// How many entries or children.
    pub(super) fn len(&self) -> usize {
        match &self.below {
            Below::Leaf(leaf) => leaf.entries().len(),
            Below::Inner(children) => children.len(),
        }
    }

    /// Takes the child out of a root that has but one.
    pub(super) fn only_child(&mut self) -> Option<Self> {
        match &mut self.below {
            Below::Inner(children) if children.len() == 1 => children.pop(),
            _ => None,
        }
    }

    /// The last taken span that begins at or before the address.
    pub(super) fn upto(&self, spans: &impl Spans, address: u128) -> Option<Held> {
        match &self.below {
            Below::Leaf(leaf) => leaf.upto(spans, self.first, address),
            Below::Inner(children) => children.get(child_at(children, address))?.upto(spans, address),
        }
    }

    /// The lowest free block behind one of the spans, as that of the tree.
    pub(super) fn free_block(&self, spans: &impl Spans, bits: u8, from: u128, last: u128) -> Option<u128> {
        // `from` may lie within a gap. That is the only one with room enough that may fail, so at
        // most one way down is in vain.
        match &self.below {
            Below::Leaf(leaf) => {
                let start = leaf.rank(spans, self.first, from).saturating_sub(1);
                let mut gaps = leaf.gaps(spans, start, bits, last);
                gaps.find_map(|gap| gap.block(bits, from))
            }
            Below::Inner(children) => {
                let mut roomy = roomy(children, child_at(children, from), bits, last);
                roomy.find_map(|(child, last)| child.free_block(spans, bits, from, last))
            }
        }
    }

    /// The nth free address behind one of the spans.
    pub(super) fn nth_free(&self, spans: &impl Spans, mut n: u128, last: u128) -> Option<u128> {
        match &self.below {
            Below::Leaf(leaf) => leaf.gaps(spans, 0, 0, last).find_map(|gap| {
                let found = gap.nth(n);
                n = n.saturating_sub(gap.count());
                found
            }),
            Below::Inner(children) => roomy(children, 0, 0, last).find_map(|(child, last)| {
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

    /// The index of the new entry, or behind the child it went to, where a new child would be.
    /// Nothing if something is in the way.
    ///
    /// `end` tells that this is the last node of its level. It may be one too long afterwards.
    pub(super) fn insert(&mut self, spans: &impl Spans, new: Held, last: u128, end: bool) -> Option<usize> {
        let index = match &mut self.below {
            Below::Leaf(leaf) => {
                let index = leaf.insert(spans, self.first, new, last)?;
                self.room = leaf.room();
                index
            }
            Below::Inner(_) => self.insert_below(spans, new, last, end)?,
        };
        self.first = self.first.min(new.span.first());
        self.taken = self.taken.wrapping_add(new.span.count());
        Some(index)
    }

    /// The part of `insert` that concerns the children.
    fn insert_below(&mut self, spans: &impl Spans, new: Held, last: u128, end: bool) -> Option<usize> {
        let Below::Inner(children) = &mut self.below else {
            return None;
        };
        let index = child_at(children, new.span.first());
        let next = index.saturating_add(1);
        let last = last_of(children, index, last);
        let end = end && next == children.len();
        let child = children.get_mut(index)?;
        let room = child.room;
        let within = child.insert(spans, new, last, end)?;
        let changed = child.room;
        if let Some(right) = child.split_if_full(spans, within, end) {
            reserve_some(children);
            children.insert(next, right);
        }
        self.adapt_room(room, changed);
        Some(next)
    }

    /// The most room of some children was `old` and is `new`; the others are as they were.
    fn adapt_room(&mut self, old: u8, new: u8) {
        if new >= self.room {
            self.room = new;
        } else if old == self.room {
            self.room = self.find_room();
        }
    }

    /// Splits a node that became too long by an insertion at that index.
    ///
    /// Addresses are often given out in ascending order, up to one that was taken before, such as
    /// the broadcast address. Then all that is before the newest stays together.
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
    fn split(&mut self, spans: &impl Spans, left: usize) -> Self {
        let right = match &mut self.below {
            Below::Leaf(leaf) => Below::Leaf(leaf.split(spans, left)),
            Below::Inner(children) => {
                let right = children.split_off(left);
                children.shrink_to_fit();
                Below::Inner(right)
            }
        };
        let right = Self::of(spans, right);
        self.taken = self.taken.wrapping_sub(right.taken);
        self.room = self.find_room();
        right
    }

    /// Nothing if it is not there. This node may be too short afterwards, or empty.
    pub(super) fn remove(&mut self, spans: &impl Spans, old: Held, last: u128) -> Option<()> {
        match &mut self.below {
            Below::Leaf(leaf) => {
                leaf.remove(spans, self.first, old, last)?;
                self.room = leaf.room();
            }
            Below::Inner(_) => self.remove_below(spans, old, last)?,
        };
        if self.first == old.span.first() {
            self.first = self.find_first(spans);
        }
        self.taken = self.taken.wrapping_sub(old.span.count());
        Some(())
    }

    /// The part of `remove` that concerns the children.
    fn remove_below(&mut self, spans: &impl Spans, old: Held, last: u128) -> Option<()> {
        let Below::Inner(children) = &mut self.below else {
            return None;
        };
        let index = child_at(children, old.span.first());
        let child_last = last_of(children, index, last);
        let child = children.get_mut(index)?;
        let (first, room) = (child.first, child.room);
        child.remove(spans, old, child_last)?;
        let (emptied, moved) = (child.len() == 0, child.first != first);
        let mut changed = child.room;
        if emptied {
            children.remove(index);
        }
        if (emptied || moved)
            && let Some(before) = index.checked_sub(1)
        {
            let last = last_of(children, before, last);
            let before = children.get_mut(before)?;
            before.stretch(spans, last);
            changed = changed.max(before.room);
        }
        Self::refill(children, spans, index);
        self.adapt_room(room, changed);
        Some(())
    }

    /// The next node begins further on now, and so the gap behind the last span grows.
    fn stretch(&mut self, spans: &impl Spans, last: u128) {
        let room = match &mut self.below {
            Below::Leaf(leaf) => leaf.stretch(spans, last),
            Below::Inner(children) => children.last_mut().map_or(0, |child| {
                child.stretch(spans, last);
                child.room
            }),
        };
        self.room = self.room.max(room);
    }

    /// Joins a child that became too short with a neighbour, and parts them again in the middle
    /// if together they would be nearly full.
    fn refill(children: &mut Vec<Self>, spans: &impl Spans, index: usize) {
        let left = index.saturating_sub(1);
        let right = left.saturating_add(1);
        let short = children.get(index).is_some_and(|child| child.len() < Self::LEAST);
        if !short || right >= children.len() {
            return;
        }
        let taken_out = children.remove(right);
        let Some(joined) = children.get_mut(left) else {
            return;
        };
        joined.append(spans, taken_out);
        if joined.len() > N.saturating_mul(3) / 4 {
            let parted = joined.split(spans, joined.len() / 2);
            children.insert(right, parted);
        }
    }

    /// Takes over all that is below the next node.
    fn append(&mut self, spans: &impl Spans, right: Self) {
        match (&mut self.below, right.below) {
            (Below::Leaf(left), Below::Leaf(right)) => left.append(spans, right),
            (Below::Inner(left), Below::Inner(mut right)) => {
                left.reserve_exact(right.len());
                left.append(&mut right);
            }
            _ => {} // the two are of one level
        }
        self.taken = self.taken.wrapping_add(right.taken);
        self.room = self.room.max(right.room);
    }
}

/// The index of the child that covers the address; before all of them it is the first.
pub(super) fn child_at<const N: usize>(children: &[Node<N>], address: u128) -> usize {
    children.partition_point(|child| child.first <= address).saturating_sub(1)
}

/// The last address that a child covers; `last` is that of all of them.
pub(super) fn last_of<const N: usize>(children: &[Node<N>], index: usize, last: u128) -> u128 {
    let next = children.get(index.saturating_add(1));
    next.map_or(last, |next| next.first.saturating_sub(1))
}

/// The children from an index on that have more room than that, each with its last address.
fn roomy<const N: usize>(
    children: &[Node<N>],
    start: usize,
    room: u8,
    last: u128,
) -> impl Iterator<Item = (&Node<N>, u128)> {
    let indexed = children.iter().enumerate().skip(start);
    let roomy = indexed.filter(move |(_, child)| child.room > room);
    roomy.map(move |(index, child)| (child, last_of(children, index, last)))
}
