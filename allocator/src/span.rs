//! Arithmetic on runs of addresses.
//!
//! An address is its value as a `u128`, in IPv4 and IPv6 alike, and a run is kept by its first and last address. A run is
//! never empty and its end is included, so the whole of IPv6 fits and no sum here can pass the top of an address space.

use smallvec::SmallVec;

/// Every address from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    first: u128,
    last: u128,
}

/// Spans in ascending order, disjoint unless said otherwise. Most pools are one span.
pub(crate) type Spans = SmallVec<[Span; 4]>;

impl Span {
    /// The span between two addresses; `None` if `first` is above `last`.
    pub const fn new(first: u128, last: u128) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    /// The span between two addresses in either order.
    pub(crate) const fn between(one: u128, other: u128) -> Self {
        if one <= other { Self { first: one, last: other } } else { Self { first: other, last: one } }
    }

    /// The span of one address.
    pub const fn single(address: u128) -> Self {
        Self { first: address, last: address }
    }

    /// The lowest address.
    pub const fn first(self) -> u128 {
        self.first
    }

    /// The highest address.
    pub const fn last(self) -> u128 {
        self.last
    }

    /// Whether `address` lies in the span.
    pub const fn contains(self, address: u128) -> bool {
        self.first <= address && address <= self.last
    }

    /// Whether all of `other` lies in the span.
    pub const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// How many addresses; the one span of 2^128 addresses answers 2^128 - 1.
    pub const fn size(self) -> u128 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// What lies above a taken address, up to and including `last`.
    pub(crate) fn after(taken: u128, last: u128) -> Option<Self> {
        Self::new(taken.checked_add(1)?, last)
    }

    /// How many addresses, modulo 2^128: 0 stands for all.
    pub(crate) const fn count(self) -> u128 {
        self.last.wrapping_sub(self.first).wrapping_add(1)
    }

    /// The address that has n others before it.
    pub(crate) fn nth(self, n: u128) -> Option<u128> {
        self.first.checked_add(n).filter(|address| *address <= self.last)
    }

    /// Where the lowest aligned block of 2^bits addresses begins that begins no lower than `from`.
    pub(crate) fn block(self, bits: u8, from: u128) -> Option<u128> {
        let above = u128::BITS.checked_sub(bits.into())?;
        let low = u128::MAX.checked_shr(above).unwrap_or(0);
        let first = self.first.max(from).checked_add(low)? & !low;
        (first | low <= self.last).then_some(first)
    }

    /// The host bits of the largest aligned block in it.
    pub(crate) fn room(self) -> u8 {
        let Some(size) = self.last.wrapping_sub(self.first).checked_add(1) else {
            return 128;
        };
        // Half of a block that would be as large as the span always fits, however the span lies.
        let most = size.ilog2() as u8;
        if self.block(most, self.first).is_some() { most } else { most.saturating_sub(1) }
    }

    /// The part below `address`.
    pub(crate) fn below(self, address: u128) -> Option<Self> {
        let last = address.checked_sub(1)?;
        Self::new(self.first, last.min(self.last))
    }

    /// The part above `address`.
    pub(crate) fn above(self, address: u128) -> Option<Self> {
        let first = address.checked_add(1)?;
        Self::new(first.max(self.first), self.last)
    }

    /// Whether `next`, which starts no lower, overlaps the span or begins right after it.
    fn meets(self, next: Self) -> bool {
        self.last.checked_add(1).is_none_or(|end| next.first <= end)
    }
}

/// Sorts spans and merges those that overlap or touch, so that each is as long as it can be. O(n log n).
pub(crate) fn merge(mut spans: Spans) -> Spans {
    spans.sort_unstable_by_key(|span| span.first);
    spans.dedup_by(|next, kept| {
        let met = kept.meets(*next);
        if met {
            kept.last = kept.last.max(next.last);
        }
        met
    });
    spans
}

/// What is left of `spans` without `holes`, both as [`merge`] leaves them. O(n + m).
pub(crate) fn subtract(spans: &[Span], holes: &[Span]) -> Spans {
    let mut left = Spans::new();
    let mut holes = holes.iter().peekable();
    for span in spans {
        let mut rest = Some(*span);
        while let (Some(part), Some(hole)) = (rest, holes.peek()) {
            if hole.first > part.last {
                break;
            }
            left.extend(part.below(hole.first));
            rest = part.above(hole.last);
            // A hole that reaches the end of this span may go on into the next one.
            if rest.is_some() {
                holes.next();
            }
        }
        left.extend(rest);
    }
    left
}

/// How many addresses disjoint spans hold, at most 2^128 - 1.
pub(crate) fn total(spans: &[Span]) -> u128 {
    spans.iter().fold(0_u128, |sum, span| sum.saturating_add(span.size()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Extent;
    use proptest::prelude::*;
    use smallvec::smallvec;
    use std::collections::BTreeSet;

    fn span(first: u128, last: u128) -> Span {
        Span::new(first, last).unwrap()
    }

    fn addresses(spans: &[Span]) -> BTreeSet<u128> {
        spans.iter().flat_map(|span| span.first()..=span.last()).collect()
    }

    fn spans() -> impl Strategy<Value = Spans> {
        let one = (0_u128..24, 0_u128..6).prop_map(|(first, more)| span(first, first + more));
        proptest::collection::vec(one, 0..6).prop_map(|spans| spans.into_iter().collect())
    }

    proptest! {
        #[test]
        fn merge_keeps_the_addresses_and_leaves_gaps(given in spans()) {
            let merged = merge(given.clone());
            prop_assert_eq!(addresses(&merged), addresses(&given));
            prop_assert!(merged.windows(2).all(|pair| !pair[0].meets(pair[1])));
        }

        #[test]
        fn subtract_is_set_difference(from in spans(), holes in spans()) {
            let left = subtract(&merge(from.clone()), &merge(holes.clone()));
            prop_assert_eq!(addresses(&left), &addresses(&from) - &addresses(&holes));
        }
    }

    #[test]
    fn the_top_and_the_whole_space_do_not_overflow() {
        let all = span(0, u128::MAX);
        assert_eq!(all.size(), u128::MAX);
        assert_eq!(all.above(u128::MAX), None);
        assert_eq!(all.below(0), None);
        assert_eq!(merge(smallvec![all, Span::single(u128::MAX)]).as_slice(), [all]);
        let edgeless = subtract(&[all], &[Span::single(0), Span::single(u128::MAX)]);
        assert_eq!(edgeless.as_slice(), [span(1, u128::MAX - 1)]);
        assert_eq!(total(&edgeless), u128::MAX - 1);
    }

    /// Where every block of so many host bits begins that lies in a span, by looking at each address.
    fn blocks(span: Span, host_bits: u8) -> impl Iterator<Item = u128> {
        let blocks = (span.first()..=span.last()).filter_map(move |first| Extent::new(first, Some(host_bits)));
        blocks.filter(move |block| span.covers(block.span())).map(Extent::first)
    }

    #[test]
    fn rooms_and_blocks_are_what_a_brute_force_says() {
        for base in [0, u128::MAX - 31] {
            let spans = (0..32).flat_map(|first| (first..32).map(move |last| span(base + first, base + last)));
            for span in spans {
                let most = (0..=5).rev().find(|host_bits| blocks(span, *host_bits).next().is_some());
                assert_eq!(Some(span.room()), most, "{span:?}");
                for (host_bits, from) in (0..=6).flat_map(|bits| (base..=span.last()).map(move |from| (bits, from))) {
                    let lowest = blocks(span, host_bits).find(|first| *first >= from);
                    assert_eq!(span.block(host_bits, from), lowest, "{span:?} {host_bits} {from}");
                }
            }
        }
    }

    #[test]
    fn the_whole_space_is_one_block() {
        let all = span(0, u128::MAX);
        assert_eq!((all.room(), all.block(128, 0), all.block(128, 1), all.block(129, 0)), (128, Some(0), None, None));
        assert_eq!(span(1, u128::MAX).room(), 127);
        assert_eq!(span(1, u128::MAX - 1).room(), 126);
    }
}
