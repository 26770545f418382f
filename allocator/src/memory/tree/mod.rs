//! The address space of a pool: which spans of it are taken, and so where it is free.
//!
//! A B+ tree over the taken spans. It keeps a slot for each and asks the caller for its span, so
//! that nothing is stored twice. What lies between the spans is free: the *gap* behind a span
//! belongs to its entry, up to the next span or the end of the bounds; only the gap before the
//! first span belongs to none. The *room* of a gap is 0 if it is empty, else 1 more than the order
//! of the largest aligned block in it. Each node knows the first address, the number of taken
//! addresses and the most room below it, so every question is answered on one or two ways down,
//! however full or fragmented the space is.

mod inner;
mod leaf;
mod node;
mod set;
#[cfg(test)]
mod tests;

use std::{mem, slice};

use crate::span::Span;
use inner::Inner;
use leaf::Entry;
use node::{Below, Node};

/// Where the caller keeps the spans of its slots. That of a slot in the tree must not change.
pub(crate) trait Spans {
    fn span(&self, slot: u32) -> Span;
}

/// A slot and its span, looked up once.
#[derive(Clone, Copy)]
struct Held {
    slot: u32,
    span: Span,
}

/// The tree, with up to 63 entries in a leaf and 63 children in an inner node, so that one more has its place in a [`Set`].
pub(crate) type Tree = SizedTree<63>;

/// The tree, with nodes of up to N: few in tests, so that they split and join all the time.
#[derive(Debug)]
pub(crate) struct SizedTree<const N: usize> {
    bounds: Span,
    root: Node<N>,
}

impl<const N: usize> SizedTree<N> {
    pub(crate) fn new(bounds: Span) -> Self {
        Self { bounds, root: Node::default() }
    }

    /// Takes the span of a slot. False, and nothing changed, if it is outside the bounds or meets
    /// a taken one.
    pub(crate) fn insert(&mut self, spans: &impl Spans, slot: u32) -> bool {
        let new = Held { slot, span: spans.span(slot) };
        if !self.bounds.covers(new.span) {
            return false;
        }
        let Some(index) = self.root.insert(spans, new, self.bounds.last(), true) else {
            return false;
        };
        if let Some(right) = self.root.split_if_full(spans, index, true) {
            let left = mem::take(&mut self.root);
            self.root = Node::of(spans, Below::Inner(Inner::of(vec![left, right])));
        }
        true
    }

    /// Frees the span of a slot. False if it is not there.
    pub(crate) fn remove(&mut self, spans: &impl Spans, slot: u32) -> bool {
        let old = Held { slot, span: spans.span(slot) };
        let removed = self.root.remove(spans, old, self.bounds.last()).is_some();
        while let Some(only) = self.root.only_child() {
            self.root = only;
        }
        removed
    }

    /// Who takes that address.
    pub(crate) fn at(&self, spans: &impl Spans, address: u128) -> Option<u32> {
        let held = self.root.upto(spans, address)?;
        held.span.contains(address).then_some(held.slot)
    }

    /// The first taken span that ends at or after the address.
    pub(crate) fn taken_from(&self, spans: &impl Spans, address: u128) -> Option<u32> {
        self.iter_from(spans, address).next()
    }

    /// All slots, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        Iter { entries: [].iter(), nodes: vec![slice::from_ref(&self.root).iter()] }
    }

    /// The slots whose spans end at or after the address, ascending.
    pub(crate) fn iter_from<'a, S: Spans>(
        &'a self,
        spans: &S,
        address: u128,
    ) -> impl Iterator<Item = u32> + use<'a, S, N> {
        let mut iter = Iter { entries: [].iter(), nodes: Vec::new() };
        let mut node = &self.root;
        while let Below::Inner(inner) = &node.below {
            let start = inner.child_at(address);
            let mut children = inner.children().get(start..).unwrap_or_default().iter();
            let Some(child) = children.next() else { break };
            iter.nodes.push(children);
            node = child;
        }
        if let Below::Leaf(leaf) = &node.below {
            iter.entries = leaf.ending_from(spans, node.first, address).iter();
        }
        iter
    }

    /// Whether all of it is free; what is outside the bounds is not.
    pub(crate) fn is_free(&self, spans: &impl Spans, span: Span) -> bool {
        let before = self.root.upto(spans, span.last());
        self.bounds.covers(span) && before.is_none_or(|held| held.span.last() < span.first())
    }

    /// The lowest free address that is not before that one.
    pub(crate) fn free_from(&self, spans: &impl Spans, address: u128) -> Option<u128> {
        self.free_block(spans, 0, address)
    }

    /// How many addresses are free; 2^128 saturates.
    pub(crate) fn free(&self) -> u128 {
        if self.root.len() == 0 {
            return self.bounds.last().wrapping_sub(self.bounds.first()).saturating_add(1);
        }
        // Something is taken, so less than 2^128 is free: exact, though the counts are modulo that.
        self.bounds.count().wrapping_sub(self.root.taken)
    }

    /// The free address that has n others before it.
    pub(crate) fn nth_free(&self, spans: &impl Spans, n: u128) -> Option<u128> {
        let head = self.head();
        let behind = n.wrapping_sub(head.map_or(0, Span::count));
        let in_head = head.and_then(|gap| gap.nth(n));
        in_head.or_else(|| self.root.nth_free(spans, behind, self.bounds.last()))
    }

    /// The first address of the lowest free block of 2^bits addresses, aligned to its size, that
    /// begins at or after `from`.
    pub(crate) fn free_block(&self, spans: &impl Spans, bits: u8, from: u128) -> Option<u128> {
        let head = self.head().and_then(|gap| gap.block(bits, from));
        if head.is_some() || self.root.room <= bits {
            return head;
        }
        self.root.free_block(spans, bits, from, self.bounds.last())
    }

    /// The gap before the first taken span.
    fn head(&self) -> Option<Span> {
        if self.root.len() == 0 {
            return Some(self.bounds);
        }
        Span::new(self.bounds.first(), self.root.first.checked_sub(1)?)
    }
}

/// What is still to come: the entries of a leaf, then nodes, those nearest last.
struct Iter<'a, const N: usize> {
    entries: slice::Iter<'a, Entry>,
    nodes: Vec<slice::Iter<'a, Node<N>>>,
}

impl<const N: usize> Iterator for Iter<'_, N> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Some(entry.slot);
            }
            match self.nodes.last_mut()?.next().map(|node| &node.below) {
                Some(Below::Leaf(leaf)) => self.entries = leaf.entries().iter(),
                Some(Below::Inner(inner)) => self.nodes.push(inner.children().iter()),
                None => drop(self.nodes.pop()),
            }
        }
    }
}

/// Makes space for one more, growing in small steps: a tree is mostly leaves that are not full.
pub(super) fn reserve_some<T>(vec: &mut Vec<T>) {
    if vec.len() == vec.capacity() {
        vec.reserve_exact(8);
    }
}
