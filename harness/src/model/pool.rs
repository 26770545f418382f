//! A pool of the model: who holds what, and what is free.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use rustc_hash::FxHashMap;

use super::layout::Layout;
use super::spans;
use crate::address::{Count, Grant, Span};
use crate::operation::Text;

/// An instant of the system's clock as the model knows it: exactly on a virtual clock, between two
/// bounds in real time. Milliseconds since the scenario began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Not before.
    pub earliest: u64,
    /// Not after.
    pub latest: u64,
}

impl Moment {
    /// The instant `ms` later.
    pub fn plus(self, ms: u64) -> Moment {
        Moment { earliest: self.earliest.saturating_add(ms), latest: self.latest.saturating_add(ms) }
    }
}

/// The end of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// By the model's clock.
    pub at: Moment,
    /// As the system told it.
    pub told_ms: u64,
}

/// An address or block held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What is held.
    pub grant: Grant,
    /// Who holds it.
    pub owner: Text,
    /// Until when; `None` when it has no end.
    pub expires: Option<Expiry>,
}

impl Held {
    /// On a clock of real time: may the lease have ended by now?
    pub fn may_have_expired(&self, now: Moment) -> bool {
        self.expires.is_some_and(|expiry| expiry.at.earliest <= now.latest)
    }

    /// Has the lease surely ended?
    pub fn has_expired(&self, now: Moment) -> bool {
        self.expires.is_some_and(|expiry| expiry.at.latest <= now.earliest)
    }
}

/// Why an address of a pool was last set free; tells which promise a false `exhausted` breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freed {
    /// Never yet.
    Never,
    /// By a release.
    Released,
    /// By the clock.
    Expired,
    /// By a rollback, or never taken by a refused call.
    Undone,
    /// By a change of the pool.
    Reshaped,
}

/// So many allocations are looked through more quickly than their owners are kept in order.
const FEW: usize = 8;

/// Where each owner's allocations begin.
type Owned = FxHashMap<Text, BTreeSet<u128>>;

/// A pool: its layout and its allocations by first address.
#[derive(Clone, Debug)]
pub struct Pool {
    /// What it may hand out.
    pub layout: Layout,
    /// Why an address was last set free.
    pub freed: Freed,
    held: BTreeMap<u128, Held>,
    /// Made when an owner is first looked up among many.
    owned: OnceLock<Owned>,
    /// Addresses held, modulo 2^128.
    taken: u128,
}

impl Pool {
    /// A pool that holds nothing.
    pub fn new(layout: Layout) -> Pool {
        Pool { layout, freed: Freed::Never, held: BTreeMap::new(), owned: OnceLock::new(), taken: 0 }
    }

    /// Is nothing held?
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Number of allocations.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Allocations by ascending address.
    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.held.values()
    }

    /// The owner's allocations by ascending address.
    pub fn held_by(&self, owner: &Text) -> impl Iterator<Item = &Held> {
        let (few, many) = match self.len() <= FEW {
            true => (Some(self.held.values().filter(move |held| held.owner == *owner)), None),
            false => (None, self.owned.get_or_init(|| self.by_owner()).get(owner)),
        };
        let found = many.into_iter().flatten().filter_map(|first| self.held.get(first));
        few.into_iter().flatten().chain(found)
    }

    fn by_owner(&self) -> Owned {
        let mut owned = Owned::default();
        for (first, held) in &self.held {
            owned.entry(held.owner.clone()).or_default().insert(*first);
        }
        owned
    }

    /// Addresses held, blocks counted with all of theirs.
    pub fn allocated(&self) -> Count {
        if self.taken == 0 && !self.held.is_empty() { Count::WHOLE } else { Count::from(self.taken) }
    }

    /// The allocation that begins at this address.
    pub fn get(&self, first: u128) -> Option<&Held> {
        self.held.get(&first)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, first: u128) -> Option<&mut Held> {
        self.held.get_mut(&first)
    }

    /// The highest allocation that shares an address with the span.
    pub fn holder_of(&self, span: Span) -> Option<(u128, &Held)> {
        let (first, held) = self.held.range(..=span.last).next_back()?;
        (held.grant.span().last >= span.first).then_some((*first, held))
    }

    /// All allocations that share an address with the span, from the highest down.
    pub fn overlapping(&self, span: Span) -> impl Iterator<Item = &Held> {
        self.held
            .range(..=span.last)
            .rev()
            .map(|(_, held)| held)
            .take_while(move |held| held.grant.span().last >= span.first)
    }

    /// The allocations that another layout of the same prefix would orphan, some more than once.
    /// Logarithmic in what it keeps.
    pub fn orphans(&self, layout: &Layout) -> impl Iterator<Item = &Held> {
        let forbidden = if self.is_empty() { Vec::new() } else { layout.forbidden() };
        forbidden.into_iter().flat_map(move |span| self.overlapping(span))
    }

    /// Records an allocation on addresses that nobody holds.
    pub fn insert(&mut self, held: Held) {
        let span = held.grant.span();
        self.taken = self.taken.wrapping_add(span.last - span.first).wrapping_add(1);
        if let Some(owned) = self.owned.get_mut() {
            owned.entry(held.owner.clone()).or_default().insert(span.first);
        }
        self.held.insert(span.first, held);
    }

    /// Forgets the allocation that begins at this address.
    pub fn remove(&mut self, first: u128) -> Option<Held> {
        let held = self.held.remove(&first)?;
        if let Some(owned) = self.owned.get_mut()
            && let Some(firsts) = owned.get_mut(&held.owner)
        {
            firsts.remove(&first);
            if firsts.is_empty() {
                owned.remove(&held.owner);
            }
        }
        self.taken = self.taken.wrapping_sub(held.grant.span().last - first).wrapping_sub(1);
        Some(held)
    }

    /// Can `addresses` single ones and one block of each of these host-bit lengths be placed at once, beside what is held and the
    /// free addresses in `named`? One that is named twice counts twice: an allocator may count requests.
    pub fn fits(&self, addresses: u128, blocks: &[u8], named: &[Span]) -> bool {
        if !blocks.is_empty() {
            return self.fits_beside(addresses, blocks, named);
        }
        let free = self.layout.capacity.minus(self.allocated()).saturated();
        free >= addresses.saturating_add(named.len() as u128)
    }

    /// Can `addresses` single ones and one block of each of these host-bit lengths be placed at
    /// once, beside what is held and what is `taken`?
    ///
    /// Aligned blocks need no search: whichever aligned block is taken, it uses up exactly
    /// 2^(k-j) of the aligned blocks of every shorter length, so counting from the longest decides.
    pub fn fits_beside(&self, addresses: u128, blocks: &[u8], taken: &[Span]) -> bool {
        let free = self.free_spans(taken);
        let mut wanted: Vec<u8> = blocks.to_vec();
        wanted.sort_unstable_by(|a, b| b.cmp(a));
        let lengths = wanted.chunk_by(|a, b| a == b).map(|alike| (alike[0], alike.len() as u128));
        let singles = (addresses > 0).then_some((0, addresses));
        // What the longer ones use up, in blocks of the length last looked at.
        let (mut used, mut last_bits) = (0u128, self.layout.family.bits());
        lengths.chain(singles).all(|(bits, count)| {
            let available: u128 = free.iter().fold(0, |sum, span| sum.saturating_add(span.aligned_blocks(bits)));
            used = used.saturating_mul(1u128.checked_shl(u32::from(last_bits - bits)).unwrap_or(u128::MAX));
            let fits = available.checked_sub(used).is_some_and(|left| left >= count);
            (used, last_bits) = (used.saturating_add(count), bits);
            fits
        })
    }

    /// What is free and not taken; linear in what is held.
    fn free_spans(&self, taken: &[Span]) -> Vec<Span> {
        let held = self.held.values().map(|held| held.grant.span());
        let mut taken: Vec<Span> = held.chain(taken.iter().copied()).collect();
        spans::merge(&mut taken);
        spans::without(&self.layout.allocatable, &taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::PoolShape;
    use crate::scenario::text;

    fn pool(prefix: &str) -> Pool {
        Pool::new(Layout::read(prefix, &PoolShape::default(), true).unwrap())
    }

    fn hold(pool: &mut Pool, what: &str) {
        let grant = Grant::parse(what).unwrap();
        pool.insert(Held { grant, owner: text("a"), expires: None });
    }

    #[test]
    fn blocks_fit_only_on_their_boundaries() {
        let mut pool = pool("10.0.0.0/28");
        assert!(!pool.fits(0, &[3], &[]), "both halves hold an edge");
        assert!(pool.fits(0, &[2, 2], &[]));
        assert!(!pool.fits(0, &[2, 2, 2], &[]));
        assert!(pool.fits(6, &[2, 2], &[]));
        assert!(!pool.fits(7, &[2, 2], &[]));
        hold(&mut pool, "10.0.0.4");
        assert!(pool.fits(0, &[2], &[]));
        assert!(!pool.fits(0, &[2, 2], &[]));
        assert!(!pool.fits(0, &[2], &[Span::one(0x0a00_0008)]));
    }

    #[test]
    fn counts_of_the_whole_space() {
        let mut pool = Pool::new(Layout::read("::/0", &PoolShape::default(), false).unwrap());
        assert_eq!(pool.allocated(), Count::from(0));
        assert!(pool.fits(0, &[128], &[]));
        hold(&mut pool, "::/0");
        assert_eq!(pool.allocated(), Count::WHOLE);
        assert!(!pool.fits(1, &[], &[]));
        pool.remove(0);
        assert_eq!(pool.allocated(), Count::from(0));
    }

    #[test]
    fn a_full_small_pool_fits_nothing_more() {
        let mut pool = pool("10.0.0.0/30");
        assert!(pool.fits(2, &[], &[]));
        hold(&mut pool, "10.0.0.1");
        assert!(pool.fits(1, &[], &[]));
        assert!(!pool.fits(2, &[], &[]));
        hold(&mut pool, "10.0.0.2");
        assert!(!pool.fits(1, &[], &[]));
        assert!(pool.holder_of(Span { first: 0, last: 0x0a00_0001 }).is_some());
    }
}
