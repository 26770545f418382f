//! The address space of a pool: which spans of it are taken, and so where it is free.
//!
//! A B+ tree over the taken spans. It keeps a slot for each and asks the caller for its span, so
//! that nothing is stored twice. What lies between the spans is free: the *gap* behind a span
//! belongs to its entry, up to the next span or the end of the bounds; only the gap before the
//! first span belongs to none. The *room* of a gap is 0 if it is empty, else 1 more than the order
//! of the largest aligned block in it. Each node knows the first address, the number of taken
//! addresses and the most room below it, so every question is answered on one or two ways down,
//! however full or fragmented the space is.
//!
//! A node covers all addresses from its first to the `last` before the next node's first.

mod leaf;

use std::{mem, slice};

use leaf::{Entry, Leaf, reserve_some};

/// Where the caller keeps the spans of its slots.
pub(crate) trait Spans {
    fn span(&self, slot: u32) -> Span;
}

/// Every address from first to last, both included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    first: u128,
    last: u128,
}

impl Span {
    pub fn new(first: u128, last: u128) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    pub fn single(address: u128) -> Self {
        Self { first: address, last: address }
    }

    pub fn first(self) -> u128 {
        self.first
    }

    pub fn last(self) -> u128 {
        self.last
    }

    pub fn contains(self, address: u128) -> bool {
        self.first <= address && address <= self.last
    }

    /// What lies behind a taken address, up to and including `last`.
    fn after(taken: u128, last: u128) -> Option<Self> {
        Self::new(taken.checked_add(1)?, last)
    }

    fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// The number of addresses, modulo 2^128: 0 stands for all.
    fn count(self) -> u128 {
        self.last.wrapping_sub(self.first).wrapping_add(1)
    }

    /// The address that has n others before it.
    fn nth(self, n: u128) -> Option<u128> {
        self.first.checked_add(n).filter(|address| *address <= self.last)
    }

    /// The lowest aligned block of 2^bits addresses that begins at or after `from`.
    fn block(self, bits: u8, from: u128) -> Option<u128> {
        let low = 1_u128.checked_shl(bits.into()).map_or(u128::MAX, |size| size.wrapping_sub(1));
        let first = self.first.max(from).checked_add(low)? & !low;
        (first | low <= self.last).then_some(first)
    }

    /// One more than the order of the largest aligned block.
    fn room(self) -> u8 {
        let Some(size) = self.last.wrapping_sub(self.first).checked_add(1) else { return 129 };
        let order = size.ilog2() as u8;
        // 2^order addresses always contain an aligned half of that.
        if self.block(order, self.first).is_some() { order.saturating_add(1) } else { order }
    }
}

/// A slot and its span, looked up once.
#[derive(Clone, Copy)]
struct Held {
    slot: u32,
    span: Span,
}

/// The tree, with leaves of 64 entries and inner nodes of 32 children.
pub(crate) type Tree = SizedTree<64, 32>;

pub(crate) struct SizedTree<const LEAF: usize, const FAN: usize> {
    bounds: Span,
    root: Node<LEAF, FAN>,
}

impl<const LEAF: usize, const FAN: usize> SizedTree<LEAF, FAN> {
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
        let Some(index) = self.root.insert(spans, new, self.bounds.last, true) else {
            return false;
        };
        if let Some(right) = self.root.split_if_full(spans, index, true) {
            let left = mem::take(&mut self.root);
            self.root = Node::of(spans, Below::Inner(vec![left, right]));
        }
        true
    }

    /// Frees the span of a slot. False if it is not there.
    pub(crate) fn remove(&mut self, spans: &impl Spans, slot: u32) -> bool {
        let old = Held { slot, span: spans.span(slot) };
        let removed = self.root.remove(spans, old, self.bounds.last).is_some();
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
    pub(crate) fn iter_from(
        &self,
        spans: &impl Spans,
        address: u128,
    ) -> impl Iterator<Item = u32> {
        let mut iter = Iter { entries: [].iter(), nodes: Vec::new() };
        let mut node = &self.root;
        while let Below::Inner(children) = &node.below {
            let start = child_at(children, address);
            let mut children = children.get(start..).unwrap_or_default().iter();
            let Some(child) = children.next() else { break };
            iter.nodes.push(children);
            node = child;
        }
        if let Below::Leaf(leaf) = &node.below {
            iter.entries = leaf.ending_from(spans, node.first, address).iter();
        }
        iter
    }

    pub(crate) fn is_free(&self, spans: &impl Spans, span: Span) -> bool {
        let before = self.root.upto(spans, span.last);
        self.bounds.covers(span) && before.is_none_or(|held| held.span.last < span.first)
    }

    /// The lowest free address that is not before that one.
    pub(crate) fn free_from(&self, spans: &impl Spans, address: u128) -> Option<u128> {
        self.free_block(spans, 0, address)
    }

    /// How many addresses are free; 2^128 saturates.
    pub(crate) fn free(&self) -> u128 {
        if self.root.len() == 0 {
            return self.bounds.last.wrapping_sub(self.bounds.first).saturating_add(1);
        }
        // Exact, though all of it may be taken, which is 2^128: this is modulo that.
        self.bounds.count().wrapping_sub(self.root.taken)
    }

    /// The free address that has n others before it.
    pub(crate) fn nth_free(&self, spans: &impl Spans, n: u128) -> Option<u128> {
        let Some(head) = self.head() else {
            return self.root.nth_free(spans, n, self.bounds.last);
        };
        let behind = || self.root.nth_free(spans, n.wrapping_sub(head.count()), self.bounds.last);
        head.nth(n).or_else(behind)
    }

    /// The first address of the lowest free block of 2^bits addresses, aligned to its size, that
    /// begins at or after `from`.
    pub(crate) fn free_block(&self, spans: &impl Spans, bits: u8, from: u128) -> Option<u128> {
        if u32::from(bits) > u128::BITS {
            return None;
        }
        let behind = || self.root.free_block(spans, bits, from, self.bounds.last);
        self.head().and_then(|gap| gap.block(bits, from)).or_else(behind)
    }

    /// The gap before the first taken span.
    fn head(&self) -> Option<Span> {
        if self.root.len() == 0 {
            return Some(self.bounds);
        }
        Span::new(self.bounds.first, self.root.first.checked_sub(1)?)
    }
}

struct Node<const LEAF: usize, const FAN: usize> {
    /// Where the first span below begins.
    first: u128,
    /// How many addresses are taken below, modulo 2^128.
    taken: u128,
    /// The most room of the gaps below.
    room: u8,
    below: Below<LEAF, FAN>,
}

/// All leaves are at the same depth, and all nodes at least a third full but for the root and the
/// last of each level, which waits for spans to come.
enum Below<const LEAF: usize, const FAN: usize> {
    Leaf(Leaf),
    Inner(Vec<Node<LEAF, FAN>>),
}

impl<const LEAF: usize, const FAN: usize> Default for Node<LEAF, FAN> {
    fn default() -> Self {
        // An empty root: its first address is one that any other will be less than.
        Self { first: u128::MAX, taken: 0, room: 0, below: Below::Leaf(Leaf::default()) }
    }
}

impl<const LEAF: usize, const FAN: usize> Node<LEAF, FAN> {
    fn of(spans: &impl Spans, below: Below<LEAF, FAN>) -> Self {
        let mut node = Self { below, ..Self::default() };
        node.first = node.find_first(spans);
        node.taken = match &node.below {
            Below::Leaf(leaf) => leaf.entries().iter().fold(0, |sum, entry| {
                spans.span(entry.slot).count().wrapping_add(sum)
            }),
            Below::Inner(children) => {
                children.iter().fold(0, |sum, child| child.taken.wrapping_add(sum))
            }
        };
        node.room = node.find_room();
        node
    }

    fn find_first(&self, spans: &impl Spans) -> u128 {
        let first = match &self.below {
            Below::Leaf(leaf) => leaf.held(spans, 0).map(|held| held.span.first),
            Below::Inner(children) => children.first().map(|child| child.first),
        };
        first.unwrap_or(u128::MAX)
    }

    fn find_room(&self) -> u8 {
        match &self.below {
            Below::Leaf(leaf) => leaf.room(),
            Below::Inner(children) => children.iter().map(|child| child.room).max().unwrap_or(0),
        }
    }

    fn len(&self) -> usize {
        match &self.below {
            Below::Leaf(leaf) => leaf.entries().len(),
            Below::Inner(children) => children.len(),
        }
    }

    /// The length of a full node.
    fn full(&self) -> usize {
        match &self.below {
            Below::Leaf(_) => LEAF,
            Below::Inner(_) => FAN,
        }
    }

    /// The least length of a node that is not the last of its level.
    fn least(&self) -> usize {
        self.full().div_ceil(3)
    }

    /// Takes the child out of a node that has but one.
    fn only_child(&mut self) -> Option<Self> {
        match &mut self.below {
            Below::Inner(children) if children.len() == 1 => children.pop(),
            _ => None,
        }
    }

    /// The last taken span that begins at or before the address.
    fn upto(&self, spans: &impl Spans, address: u128) -> Option<Held> {
        match &self.below {
            Below::Leaf(leaf) => leaf.upto(spans, self.first, address),
            Below::Inner(children) => {
                children.get(child_at(children, address))?.upto(spans, address)
            }
        }
    }

    fn free_block(&self, spans: &impl Spans, bits: u8, from: u128, last: u128) -> Option<u128> {
        if self.room <= bits {
            return None;
        }
        // Of all that has room enough only the first gap may fail: `from` may lie within it.
        match &self.below {
            Below::Leaf(leaf) => {
                let start = leaf.rank(spans, self.first, from).saturating_sub(1);
                let mut gaps = leaf.gaps(spans, start, bits, last);
                gaps.find_map(|gap| gap.block(bits, from))
            }
            Below::Inner(children) => {
                let mut ranges = ranges(children, child_at(children, from), last);
                ranges.find_map(|(child, last)| child.free_block(spans, bits, from, last))
            }
        }
    }

    fn nth_free(&self, spans: &impl Spans, mut n: u128, last: u128) -> Option<u128> {
        match &self.below {
            Below::Leaf(leaf) => leaf.gaps(spans, 0, 0, last).find_map(|gap| {
                let found = gap.nth(n);
                n = n.saturating_sub(gap.count());
                found
            }),
            Below::Inner(children) => ranges(children, 0, last).find_map(|(child, last)| {
                let free = Span { first: child.first, last }.count().wrapping_sub(child.taken);
                let found = if n < free { child.nth_free(spans, n, last) } else { None };
                n = n.saturating_sub(free);
                found
            }),
        }
    }

    /// Where it was put: the index of the entry, or of the new child if there is one. Nothing if
    /// something is in the way.
    ///
    /// `end` tells that this is the last node of its level. This node may be one too long then.
    fn insert(&mut self, spans: &impl Spans, new: Held, last: u128, end: bool) -> Option<usize> {
        let index = match &mut self.below {
            Below::Leaf(leaf) => leaf.insert(spans, self.first, new, last)?,
            Below::Inner(children) => Self::insert_below(children, spans, new, last, end)?,
        };
        self.first = self.first.min(new.span.first);
        self.taken = self.taken.wrapping_add(new.span.count());
        self.room = self.find_room();
        Some(index)
    }

    fn insert_below(
        children: &mut Vec<Self>,
        spans: &impl Spans,
        new: Held,
        last: u128,
        end: bool,
    ) -> Option<usize> {
        let index = child_at(children, new.span.first);
        let next = index.saturating_add(1);
        let last = last_of(children, index, last);
        let end = end && next == children.len();
        let child = children.get_mut(index)?;
        let within = child.insert(spans, new, last, end)?;
        if let Some(right) = child.split_if_full(spans, within, end) {
            reserve_some(children);
            children.insert(next, right);
        }
        Some(next)
    }

    /// Splits a node that became too long by an insertion at that index.
    ///
    /// Addresses are often given out in ascending order, up to one that was taken before, such as
    /// the broadcast address. Then all that is before the newest stays together.
    fn split_if_full(&mut self, spans: &impl Spans, index: usize, end: bool) -> Option<Self> {
        let len = self.len();
        if len <= self.full() {
            return None;
        }
        let ascending = index.saturating_add(2) >= len;
        let left = match (ascending, end) {
            (true, true) => index,
            (true, false) => len.saturating_sub(self.least()),
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

    /// Nothing if it is not there.
    fn remove(&mut self, spans: &impl Spans, old: Held, last: u128) -> Option<()> {
        match &mut self.below {
            Below::Leaf(leaf) => leaf.remove(spans, self.first, old, last)?,
            Below::Inner(children) => Self::remove_below(children, spans, old, last)?,
        };
        if self.first == old.span.first {
            self.first = self.find_first(spans);
        }
        self.taken = self.taken.wrapping_sub(old.span.count());
        self.room = self.find_room();
        Some(())
    }

    fn remove_below(
        children: &mut Vec<Self>,
        spans: &impl Spans,
        old: Held,
        last: u128,
    ) -> Option<()> {
        let index = child_at(children, old.span.first);
        let child_last = last_of(children, index, last);
        let child = children.get_mut(index)?;
        let first = child.first;
        child.remove(spans, old, child_last)?;
        let emptied = child.len() == 0;
        let moved = emptied || child.first != first;
        if emptied {
            children.remove(index);
        }
        if moved && let Some(before) = index.checked_sub(1) {
            let last = last_of(children, before, last);
            children.get_mut(before)?.stretch(spans, last);
        }
        Self::refill(children, spans, index);
        Some(())
    }

    /// The next node begins elsewhere now, and so the gap behind the last span has changed.
    fn stretch(&mut self, spans: &impl Spans, last: u128) {
        match &mut self.below {
            Below::Leaf(leaf) => leaf.stretch(spans, last),
            Below::Inner(children) => {
                if let Some(child) = children.last_mut() {
                    child.stretch(spans, last);
                }
            }
        }
        self.room = self.find_room();
    }

    /// Joins a child that became too short with a neighbour, and parts them again in the middle
    /// if together they would be nearly full.
    fn refill(children: &mut Vec<Self>, spans: &impl Spans, index: usize) {
        let left = index.saturating_sub(1);
        let right = left.saturating_add(1);
        let short = children.get(index).is_some_and(|child| child.len() < child.least());
        if !short || right >= children.len() {
            return;
        }
        let taken_out = children.remove(right);
        let Some(joined) = children.get_mut(left) else { return };
        joined.append(spans, taken_out);
        if joined.len() > joined.full().saturating_mul(3) / 4 {
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
fn child_at<const LEAF: usize, const FAN: usize>(
    children: &[Node<LEAF, FAN>],
    address: u128,
) -> usize {
    children.partition_point(|child| child.first <= address).saturating_sub(1)
}

/// The last address that a child covers; `last` is that of all of them.
fn last_of<const LEAF: usize, const FAN: usize>(
    children: &[Node<LEAF, FAN>],
    index: usize,
    last: u128,
) -> u128 {
    let next = children.get(index.saturating_add(1));
    next.map_or(last, |next| next.first.saturating_sub(1))
}

/// The children from an index on, each with the last address that it covers.
fn ranges<const LEAF: usize, const FAN: usize>(
    children: &[Node<LEAF, FAN>],
    start: usize,
    last: u128,
) -> impl Iterator<Item = (&Node<LEAF, FAN>, u128)> {
    let indexed = children.iter().enumerate().skip(start);
    indexed.map(move |(index, child)| (child, last_of(children, index, last)))
}

/// What is still to come: the entries of a leaf, then nodes, those nearest last.
struct Iter<'a, const LEAF: usize, const FAN: usize> {
    entries: slice::Iter<'a, Entry>,
    nodes: Vec<slice::Iter<'a, Node<LEAF, FAN>>>,
}

impl<const LEAF: usize, const FAN: usize> Iterator for Iter<'_, LEAF, FAN> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Some(entry.slot);
            }
            match self.nodes.last_mut()?.next().map(|node| &node.below) {
                Some(Below::Leaf(leaf)) => self.entries = leaf.entries().iter(),
                Some(Below::Inner(children)) => self.nodes.push(children.iter()),
                None => drop(self.nodes.pop()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
