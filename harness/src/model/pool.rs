//! A pool of the model: who holds what, and what is free.

use std::collections::BTreeMap;

use super::layout::Layout;
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
    /// Its highest address.
    pub last: u128,
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

    /// The addresses that it takes up, given its first.
    fn span(&self, first: u128) -> Span {
        Span { first, last: self.last }
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

/// A pool: its layout and its allocations by first address.
#[derive(Clone, Debug)]
pub struct Pool {
    /// What it may hand out.
    pub layout: Layout,
    /// Why an address was last set free.
    pub freed: Freed,
    held: BTreeMap<u128, Held>,
    /// Addresses held, modulo 2^128.
    taken: u128,
}

impl Pool {
    /// A pool that holds nothing.
    pub fn new(layout: Layout) -> Pool {
        Pool { layout, freed: Freed::Never, held: BTreeMap::new(), taken: 0 }
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
        (held.last >= span.first).then_some((*first, held))
    }

    /// Does this owner hold anything here?
    pub fn holds_any(&self, owner: &Text) -> bool {
        self.held.values().any(|held| held.owner == *owner)
    }

    /// How many free addresses lie below this one; linear in what is held. At most 2^128-1.
    pub fn free_below(&self, address: u128) -> u128 {
        let below = |span: &Span| span.last.min(address - 1) - span.first + 1;
        let allowed = self.layout.allocatable.iter().take_while(|span| span.first < address);
        let held = self.held.range(..address).map(|(first, held)| below(&held.span(*first)));
        allowed.map(below).fold(0, u128::saturating_add).saturating_sub(held.fold(0, u128::saturating_add))
    }

    /// Records an allocation on addresses that nobody holds.
    pub fn insert(&mut self, held: Held) {
        let span = held.grant.span();
        self.taken = self.taken.wrapping_add(span.last - span.first).wrapping_add(1);
        self.held.insert(span.first, held);
    }

    /// Forgets the allocation that begins at this address.
    pub fn remove(&mut self, first: u128) -> Option<Held> {
        let held = self.held.remove(&first)?;
        self.taken = self.taken.wrapping_sub(held.last - first).wrapping_sub(1);
        Some(held)
    }

    /// Forgets every allocation for which `gone` holds; gives them back.
    pub fn remove_where(&mut self, gone: impl Fn(&Held) -> bool) -> Vec<Held> {
        let firsts: Vec<u128> = self.held.iter().filter(|(_, held)| gone(held)).map(|(first, _)| *first).collect();
        firsts.into_iter().filter_map(|first| self.remove(first)).collect()
    }

    /// The first end of a lease here.
    pub fn next_expiry(&self) -> Option<u64> {
        self.held.values().filter_map(|held| held.expires.map(|expiry| expiry.at.latest)).min()
    }

    /// Can `addresses` single ones and one block of each of these host-bit lengths be placed at
    /// once, beside what is held and the addresses in `named`?
    ///
    /// Aligned blocks need no search: whichever aligned block is taken, it uses up exactly
    /// 2^(k-j) of the aligned blocks of every shorter length, so counting from the longest decides.
    pub fn fits(&self, addresses: u128, blocks: &[u8], named: &[Span]) -> bool {
        if blocks.is_empty() {
            let named = named.len() as u128;
            let free = self.layout.capacity.minus(self.allocated()).saturated();
            return free >= addresses.saturating_add(named);
        }
        let free = self.free_spans(named);
        let mut wanted: Vec<u8> = blocks.to_vec();
        wanted.extend((0..addresses.min(u128::from(u16::MAX))).map(|_| 0));
        wanted.sort_unstable_by(|a, b| b.cmp(a));
        wanted.iter().enumerate().all(|(index, &bits)| {
            let available: u128 = free.iter().fold(0, |sum, span| sum.saturating_add(span.aligned_blocks(bits)));
            let parts = |longer: &u8| 1u128.checked_shl(u32::from(longer - bits)).unwrap_or(u128::MAX);
            let used: u128 = wanted[..index].iter().fold(0, |sum, longer| sum.saturating_add(parts(longer)));
            available > used
        })
    }

    /// What is free, without the addresses in `named`; linear in what is held.
    fn free_spans(&self, named: &[Span]) -> Vec<Span> {
        let held = self.held.iter().map(|(first, held)| held.span(*first));
        let mut taken: Vec<Span> = held.chain(named.iter().copied()).collect();
        taken.sort_unstable();
        self.layout.allocatable.iter().flat_map(|allowed| gaps(*allowed, &taken)).collect()
    }
}

/// The parts of `whole` that no span of `taken` (sorted) covers.
fn gaps(whole: Span, taken: &[Span]) -> Vec<Span> {
    let mut found = Vec::new();
    let mut next = Some(whole.first);
    for span in taken.iter().filter(|span| span.overlaps(whole)) {
        let Some(start) = next else { break };
        found.extend(span.first.checked_sub(1).and_then(|before| Span::new(start, before)));
        next = span.last.checked_add(1).map(|after| after.max(start));
    }
    found.extend(next.and_then(|start| Span::new(start, whole.last)));
    found
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
        pool.insert(Held { grant, last: grant.span().last, owner: text("a"), expires: None });
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
    fn free_addresses_below_one() {
        let mut pool = pool("10.0.0.0/29");
        hold(&mut pool, "10.0.0.2");
        assert_eq!([0, 1, 2, 3, 7].map(|host| pool.free_below(0x0a00_0000 + host)), [0, 0, 1, 1, 5]);
        assert_eq!(pool.free_below(0), 0);
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
