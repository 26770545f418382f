//! What a pool may hand out: its prefix, ranges, gateway, exclusions and edges as spans.

use crate::address::{Count, Family, Span, number, parse_address, parse_exclusion, parse_prefix, parse_range};
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
    /// What else is never handed out.
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
        let ranges_overlap = sort_and_find_overlap(&mut ranges);
        let mut allocatable = merged(ranges);
        let reserved = exclusions.iter().copied().chain(gateway.map(Span::one));
        for hole in reserved.chain(edges(family, length, prefix).filter(|_| reserves_edges)) {
            subtract(&mut allocatable, hole);
        }
        let capacity = allocatable.iter().fold(Count::default(), |sum, span| sum.plus(span.count()));
        Ok(Layout { family, length, prefix, allocatable, capacity, gateway, exclusions, ranges_overlap })
    }

    /// May all these addresses be handed out? Logarithmic in the number of spans.
    pub fn allows(&self, span: Span) -> bool {
        let after = self.allocatable.partition_point(|allowed| allowed.first <= span.first);
        after > 0 && self.allocatable[after - 1].covers(span)
    }

    /// Could both pools hand out one same address?
    pub fn shares_addresses_with(&self, other: &Layout) -> bool {
        let overlaps = |span: &Span| other.allocatable.iter().any(|theirs| theirs.overlaps(*span));
        self.family == other.family && self.prefix.overlaps(other.prefix) && self.allocatable.iter().any(overlaps)
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

fn sort_and_find_overlap(spans: &mut [Span]) -> bool {
    spans.sort_unstable();
    spans.windows(2).any(|pair| pair[0].overlaps(pair[1]))
}

/// Sorted spans with overlapping and adjacent ones made one.
fn merged(sorted: Vec<Span>) -> Vec<Span> {
    let mut result: Vec<Span> = Vec::with_capacity(sorted.len());
    for span in sorted {
        match result.last_mut() {
            Some(last) if span.first <= last.last.saturating_add(1) => last.last = last.last.max(span.last),
            _ => result.push(span),
        }
    }
    result
}

fn subtract(spans: &mut Vec<Span>, hole: Span) {
    let start = spans.partition_point(|span| span.last < hole.first);
    let end = spans.partition_point(|span| span.first <= hole.last);
    if start >= end {
        return;
    }
    let left = Span { first: spans[start].first, last: hole.first.wrapping_sub(1) };
    let right = Span { first: hole.last.wrapping_add(1), last: spans[end - 1].last };
    let has_left = spans[start].first < hole.first;
    let has_right = hole.last < spans[end - 1].last;
    let kept = has_left.then_some(left).into_iter().chain(has_right.then_some(right));
    spans.splice(start..end, kept);
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
    fn holes_at_the_ends_of_the_space() {
        let mut spans = vec![Span { first: 0, last: u128::MAX }];
        subtract(&mut spans, Span::one(0));
        subtract(&mut spans, Span::one(u128::MAX));
        assert_eq!(spans, [Span { first: 1, last: u128::MAX - 1 }]);
        subtract(&mut spans, Span { first: 0, last: u128::MAX });
        assert!(spans.is_empty());
    }
}
