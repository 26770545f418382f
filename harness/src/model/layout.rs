//! What a pool may hand out: its prefix, ranges, gateway, exclusions and edges as spans.

use smallvec::SmallVec;

use super::spans;
use crate::address::{
    Count, Family, MULTICAST, Span, number, parse_address, parse_exclusion, parse_prefix, parse_range,
};
use crate::operation::PoolShape;

/// A well-formed pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its address family.
    pub family: Family,
    /// Length of its prefix.
    pub length: u8,
    /// All addresses of its prefix.
    pub prefix: Span,
    /// The addresses that it may hand out: sorted, disjoint, not adjacent.
    pub allocatable: Vec<Span>,
    /// How many addresses it may hand out.
    pub capacity: Count,
    /// The gateway, which is never handed out.
    pub gateway: Option<u128>,
    /// What else is never handed out: sorted, disjoint, not adjacent.
    pub exclusions: Vec<Span>,
    /// Do any two ranges share an address?
    pub ranges_overlap: bool,
}

impl Layout {
    /// Reads prefix and shape as the protocol does; the error says what is malformed.
    pub fn read(prefix: &str, shape: &PoolShape, reserves_edges: bool) -> Result<Layout, &'static str> {
        let prefix = parse_prefix(prefix).ok_or("its prefix is malformed")?;
        let family = Family::of(prefix.network());
        Layout::within(family, prefix.prefix_len(), Span::of_prefix(prefix), shape, reserves_edges)
    }

    /// The same prefix with another shape.
    pub fn reshaped(&self, shape: &PoolShape, reserves_edges: bool) -> Result<Layout, &'static str> {
        Layout::within(self.family, self.length, self.prefix, shape, reserves_edges)
    }

    fn within(
        family: Family,
        length: u8,
        prefix: Span,
        shape: &PoolShape,
        reserves_edges: bool,
    ) -> Result<Layout, &'static str> {
        let inside = |(found, span): (Family, Span)| (found == family && prefix.covers(span)).then_some(span);
        let mut ranges = Vec::with_capacity(shape.ranges.len().max(1));
        for (first, last) in &shape.ranges {
            ranges.push(parse_range(first, last).and_then(inside).ok_or("a range is malformed or outside")?);
        }
        let mut exclusions = Vec::with_capacity(shape.exclude.len());
        for exclusion in &shape.exclude {
            exclusions.push(parse_exclusion(exclusion).and_then(inside).ok_or("an exclusion is malformed or outside")?);
        }
        let gateway = match &shape.gateway {
            None => None,
            Some(text) => {
                let address = parse_address(text).ok_or("its gateway is malformed")?;
                let span = inside((Family::of(address), Span::one(number(address)))).ok_or("its gateway is outside")?;
                Some(span.first)
            }
        };
        if ranges.is_empty() {
            ranges.push(prefix);
        }
        ranges.sort_unstable();
        let ranges_overlap = ranges.windows(2).any(|pair| pair[0].overlaps(pair[1]));
        spans::merge(&mut ranges);
        spans::merge(&mut exclusions);
        let edges = edges(family, length, prefix).filter(|_| reserves_edges);
        let mut holes: Vec<Span> = exclusions.iter().copied().chain(gateway.map(Span::one)).chain(edges).collect();
        spans::merge(&mut holes);
        let allocatable = spans::without(&ranges, &holes);
        let capacity = allocatable.iter().fold(Count::default(), |sum, span| sum.plus(span.count()));
        Ok(Layout { family, length, prefix, allocatable, capacity, gateway, exclusions, ranges_overlap })
    }

    /// May all these addresses be handed out? Logarithmic in the number of spans.
    pub fn allows(&self, span: Span) -> bool {
        let after = self.allocatable.partition_point(|allowed| allowed.first <= span.first);
        after > 0 && self.allocatable[after - 1].covers(span)
    }

    /// Is some of these addresses excluded? Logarithmic in the number of exclusions.
    pub fn excludes(&self, span: Span) -> bool {
        spans::overlapping(&self.exclusions, span).next().is_some()
    }

    /// What of the prefix it may not hand out.
    pub fn forbidden(&self) -> Vec<Span> {
        spans::without(&[self.prefix], &self.allocatable)
    }

    /// May it hand out addresses that no host can have: 0.0.0.0 and ::, and those of IPv6 multicast?
    pub fn has_special_addresses(&self) -> bool {
        let is_special = |span: &Span| span.first == 0 || (self.family == Family::V6 && span.overlaps(MULTICAST));
        self.allocatable.iter().any(is_special)
    }

    /// How many addresses below this one it may hand out, at most 2^128-1.
    pub fn count_below(&self, address: u128) -> u128 {
        let below = self.allocatable.iter().take_while(|span| span.first < address);
        below.map(|span| span.last.min(address - 1) - span.first + 1).fold(0, u128::saturating_add)
    }

    /// Could both pools hand out one same address?
    pub fn shares_addresses_with(&self, other: &Layout) -> bool {
        let may_share = self.family == other.family && self.prefix.overlaps(other.prefix);
        may_share && spans::share(&self.allocatable, &other.allocatable)
    }
}

/// The edges of a prefix: network and broadcast address in IPv4 up to /30 (a /31 is a
/// point-to-point link, RFC 3021), the subnet-router anycast address in IPv6 up to /126 (RFC 4291,
/// section 2.6.1; a /127 is a point-to-point link, RFC 6164).
pub fn edges(family: Family, length: u8, prefix: Span) -> impl Iterator<Item = Span> {
    let (first, last) = match family {
        Family::V4 => (length <= 30, length <= 30),
        Family::V6 => (length <= 126, false),
    };
    let first = first.then_some(Span::one(prefix.first));
    first.into_iter().chain(last.then_some(Span::one(prefix.last)))
}

/// Do some of these have addresses in common?
pub(super) fn overlap<'l>(layouts: impl Iterator<Item = &'l Layout>) -> bool {
    let mut prefixes: SmallVec<[(Family, Span); 4]> = layouts.map(|layout| (layout.family, layout.prefix)).collect();
    prefixes.sort_unstable_by_key(|(family, prefix)| (*family, prefix.first));
    prefixes.windows(2).any(|pair| pair[0].0 == pair[1].0 && pair[1].1.first <= pair[0].1.last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::text;

    fn shape(ranges: &[(&str, &str)], gateway: Option<&str>, exclude: &[&str]) -> PoolShape {
        PoolShape {
            ranges: ranges.iter().map(|(first, last)| (text(first), text(last))).collect(),
            gateway: gateway.map(text),
            exclude: exclude.iter().copied().map(text).collect(),
        }
    }

    fn capacity(prefix: &str, shape: &PoolShape, reserves_edges: bool) -> String {
        Layout::read(prefix, shape, reserves_edges).unwrap().capacity.to_string()
    }

    #[test]
    fn capacity_at_every_edge() {
        let whole = PoolShape::default();
        for (prefix, reserved, all) in [
            ("10.0.0.0/29", "6", "8"),
            ("10.0.0.0/30", "2", "4"),
            ("10.0.0.0/31", "2", "2"),
            ("10.0.0.0/32", "1", "1"),
            ("0.0.0.0/0", "4294967294", "4294967296"),
            ("255.255.255.248/29", "6", "8"),
            ("fd00::/126", "3", "4"),
            ("fd00::/127", "2", "2"),
            ("fd00::/128", "1", "1"),
            ("::/0", "340282366920938463463374607431768211455", "340282366920938463463374607431768211456"),
        ] {
            assert_eq!(capacity(prefix, &whole, true), reserved, "{prefix}");
            assert_eq!(capacity(prefix, &whole, false), all, "{prefix}");
        }
    }

    #[test]
    fn the_example_of_the_protocol() {
        let exclude = ["10.0.0.4", "10.0.0.2-10.0.0.3", "10.0.0.0/31"];
        let shape = shape(&[("10.0.0.2", "10.0.0.5")], Some("10.0.0.1"), &exclude);
        let layout = Layout::read("10.0.0.0/29", &shape, true).unwrap();
        assert_eq!(layout.allocatable, [Span::one(0x0a00_0005)]);
    }

    #[test]
    fn ranges_are_a_union() {
        let overlapping = shape(&[("10.0.0.4", "10.0.0.6"), ("10.0.0.2", "10.0.0.4")], None, &[]);
        let layout = Layout::read("10.0.0.0/29", &overlapping, true).unwrap();
        assert_eq!(layout.capacity, Count::from(5));
        assert!(layout.ranges_overlap);
    }

    #[test]
    fn malformed_pools_are_refused() {
        for bad in [
            shape(&[("10.0.0.5", "10.0.0.2")], None, &[]),
            shape(&[("10.0.0.5", "10.0.1.2")], None, &[]),
            shape(&[("", "10.0.0.2")], None, &[]),
            shape(&[("10.0.0.2", "::1")], None, &[]),
            shape(&[], Some("10.0.1.1"), &[]),
            shape(&[], Some("x"), &[]),
            shape(&[], None, &["10.0.0.0/28"]),
            shape(&[], None, &["10.0.0.3-10.0.0.2"]),
        ] {
            assert!(Layout::read("10.0.0.0/29", &bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_lies_below_an_address() {
        let layout = Layout::read("10.0.0.0/29", &shape(&[], None, &["10.0.0.3", "10.0.0.4"]), true).unwrap();
        assert_eq!([0, 1, 2, 3, 5, 7].map(|host| layout.count_below(0x0a00_0000 + host)), [0, 0, 1, 2, 2, 4]);
        assert_eq!(layout.count_below(0), 0);
        assert_eq!(layout.forbidden().len(), 3);
        assert!(layout.excludes(Span::one(0x0a00_0004)) && !layout.excludes(Span::one(0x0a00_0005)));
    }
}
