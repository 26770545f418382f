//! An inner node of the tree: its children in ascending order, and ways to find the right one.

use std::sync::atomic::{AtomicU8, Ordering};

use super::node::Node;
use super::set::Set;
use super::{Held, Spans, reserve_some};

/// The children of a node. Methods take `last`, the last address that the node covers.
#[derive(Debug, Default)]
pub(super) struct Inner<const N: usize> {
    children: Vec<Node<N>>,
    /// Which children have room.
    roomy: Set,
    /// Where the last search went. The next one mostly goes there too: a call looks for an address and then changes it. Any
    /// value is right, so nothing depends on which of two searches at once wrote it.
    latest: AtomicU8,
}

impl<const N: usize> Inner<N> {
    pub(super) fn of(children: Vec<Node<N>>) -> Self {
        let mut inner = Self { children, ..Self::default() };
        inner.find_roomy();
        inner
    }

    pub(super) fn children(&self) -> &[Node<N>] {
        &self.children
    }

    pub(super) fn len(&self) -> usize {
        self.children.len()
    }

    /// The only child, taken out; nothing if there are more.
    pub(super) fn only_child(&mut self) -> Option<Node<N>> {
        if self.len() == 1 { self.children.pop() } else { None }
    }

    /// The most room of a child.
    pub(super) fn room(&self) -> u8 {
        let roomy = self.roomy.from(0).filter_map(|index| self.children.get(index));
        roomy.map(|child| child.room).max().unwrap_or(0)
    }

    /// The index of the child that covers the address; before all of them it is the first.
    pub(super) fn child_at(&self, address: u128) -> usize {
        let latest = usize::from(self.latest.load(Ordering::Relaxed));
        let begins = |index: usize| self.children.get(index).is_some_and(|child| child.first <= address);
        if begins(latest) && !begins(latest.saturating_add(1)) {
            return latest;
        }
        let index = self.children.partition_point(|child| child.first <= address).saturating_sub(1);
        self.set_latest(index);
        index
    }

    /// The last address that a child covers.
    pub(super) fn last_of(&self, index: usize, last: u128) -> u128 {
        let next = self.children.get(index.saturating_add(1));
        next.map_or(last, |next| next.first.saturating_sub(1))
    }

    /// The children from an index on that have more room than that, each with its last address.
    pub(super) fn roomy(&self, start: usize, room: u8, last: u128) -> impl Iterator<Item = (&Node<N>, u128)> {
        self.roomy.from(start).filter_map(move |index| {
            let child = self.children.get(index).filter(|child| child.room > room)?;
            self.set_latest(index);
            Some((child, self.last_of(index, last)))
        })
    }

    /// As [`Node::insert`]; also the room that the child had, and that it has.
    pub(super) fn insert(&mut self, spans: &impl Spans, new: Held, last: u128, end: bool) -> Option<Changed> {
        let index = self.child_at(new.span.first());
        let next = index.saturating_add(1);
        let last = self.last_of(index, last);
        let end = end && next == self.children.len();
        let child = self.children.get_mut(index)?;
        let before = child.room;
        let within = child.insert(spans, new, last, end)?;
        let after = child.room;
        if let Some(right) = child.split_if_full(spans, within, end) {
            reserve_some(&mut self.children);
            self.children.insert(next, right);
            self.find_roomy();
        } else {
            self.roomy.set(index, after > 0);
        }
        Some(Changed { index: next, before, after })
    }

    /// As [`Node::remove`]; also the room that the child had, and the most that one has of those that were changed.
    pub(super) fn remove(&mut self, spans: &impl Spans, old: Held, last: u128) -> Option<Changed> {
        let index = self.child_at(old.span.first());
        let child_last = self.last_of(index, last);
        let child = self.children.get_mut(index)?;
        let (first, before) = (child.first, child.room);
        child.remove(spans, old, child_last)?;
        let (emptied, moved) = (child.len() == 0, child.first != first);
        let mut after = child.room;
        self.roomy.set(index, after > 0);
        if emptied {
            self.children.remove(index);
            self.roomy.remove_place(index);
        }
        if (emptied || moved)
            && let Some(previous) = index.checked_sub(1)
        {
            let last = self.last_of(previous, last);
            let child = self.children.get_mut(previous)?;
            child.stretch(spans, last);
            self.roomy.set(previous, child.room > 0);
            after = after.max(child.room);
        }
        self.refill(spans, index);
        Some(Changed { index, before, after })
    }

    /// The next node begins further on now, and so the gap behind the last span grows. The room below the last child.
    pub(super) fn stretch(&mut self, spans: &impl Spans, last: u128) -> u8 {
        let index = self.len().saturating_sub(1);
        let Some(child) = self.children.get_mut(index) else { return 0 };
        child.stretch(spans, last);
        // A gap that grew is not empty.
        self.roomy.set(index, true);
        child.room
    }

    /// Joins a child that became too short with a neighbour, and parts them again in the middle if together they would be
    /// nearly full.
    fn refill(&mut self, spans: &impl Spans, index: usize) {
        let left = index.saturating_sub(1);
        let right = left.saturating_add(1);
        let short = self.children.get(index).is_some_and(|child| child.len() < Node::<N>::LEAST);
        if !short || right >= self.children.len() {
            return;
        }
        let taken_out = self.children.remove(right);
        let Some(joined) = self.children.get_mut(left) else { return };
        joined.append(spans, taken_out);
        if joined.len() > N.saturating_mul(3) / 4 {
            let parted = joined.split(spans, joined.len() / 2);
            self.children.insert(right, parted);
        }
        self.find_roomy();
    }

    /// Keeps the children before the index, gives away the others.
    pub(super) fn split(&mut self, index: usize) -> Self {
        let right = self.children.split_off(index);
        self.children.shrink_to_fit();
        self.find_roomy();
        Self::of(right)
    }

    /// Takes over all children of the next node.
    pub(super) fn append(&mut self, mut right: Self) {
        self.children.reserve_exact(right.len());
        self.children.append(&mut right.children);
        self.find_roomy();
    }

    fn find_roomy(&mut self) {
        self.roomy = self.children.iter().map(|child| child.room > 0).collect();
    }

    fn set_latest(&self, index: usize) {
        // An index is less than 64.
        self.latest.store(index as u8, Ordering::Relaxed);
    }
}

/// What became of a child.
pub(super) struct Changed {
    pub(super) index: usize,
    /// The room it had.
    pub(super) before: u8,
    /// The room there is now.
    pub(super) after: u8,
}

#[cfg(test)]
impl<const N: usize> Inner<N> {
    /// Whether what it keeps of its children is right.
    pub(super) fn check(&self) {
        for (index, child) in self.children.iter().enumerate() {
            assert_eq!(self.roomy.has(index), child.room > 0, "roomy");
        }
        assert!(!self.roomy.has(self.len()), "roomy behind the end");
    }
}
