//! What a pool is made of, and which of its addresses may be handed out.
//!
//! Allocatable is the union of the ranges (the whole prefix if there are none), less the gateway, the exclusions and the
//! edges. Everything is worked out on spans: the cost is that of sorting what the caller listed, whatever the prefix.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::{AddressRange, Family};
use crate::error::{Error, Result};
use crate::policy::{Policy, Repeat, Strategy};
use crate::resource::{Extent, Resource};
use crate::span::{Span, Spans, merge, subtract};

/// A pool to create.
///
/// ```
/// use poolproof_allocator::{PoolSpec, parse_address, parse_prefix};
///
/// let spec = PoolSpec::new(parse_prefix("10.0.0.0/24")?)
///     .with_range("10.0.0.10-10.0.0.99".parse()?)
///     .with_gateway(parse_address("10.0.0.1")?)
///     .with_exclusion("10.0.0.32/28".parse()?);
/// # Ok::<(), poolproof_allocator::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// The prefix, without host bits. It stays as it is for the pool's whole life.
    pub prefix: IpNet,
    /// The addresses that may be handed out, overlapping or not; none means the whole prefix.
    pub ranges: Vec<AddressRange>,
    /// An address that is never handed out, because the router has it.
    pub gateway: Option<IpAddr>,
    /// Further addresses that are never handed out.
    pub exclusions: Vec<AddressRange>,
    /// The address space, by name; the empty name, the default, is one as well. Only pools of one space must not overlap:
    /// another space is another network that may use the same addresses (a VRF, RFC 4364).
    pub space: String,
    /// How it hands out addresses.
    pub policy: Policy,
}

impl PoolSpec {
    /// A pool of the whole prefix.
    pub const fn new(prefix: IpNet) -> Self {
        let policy = Policy { strategy: Strategy::Lowest, repeat: Repeat::Another, quarantine_ms: 0 };
        Self { prefix, ranges: Vec::new(), gateway: None, exclusions: Vec::new(), space: String::new(), policy }
    }

    /// Adds a range.
    #[must_use]
    pub fn with_range(mut self, range: AddressRange) -> Self {
        self.ranges.push(range);
        self
    }

    /// Sets the gateway.
    #[must_use]
    pub const fn with_gateway(mut self, gateway: IpAddr) -> Self {
        self.gateway = Some(gateway);
        self
    }

    /// Adds an exclusion.
    #[must_use]
    pub fn with_exclusion(mut self, exclusion: AddressRange) -> Self {
        self.exclusions.push(exclusion);
        self
    }

    /// Sets the address space.
    #[must_use]
    pub fn with_space(mut self, space: impl Into<String>) -> Self {
        self.space = space.into();
        self
    }

    /// Sets how it hands out addresses.
    #[must_use]
    pub const fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }
}

/// What [`Allocator::update_pool`](crate::Allocator::update_pool) can change: everything of a [`PoolSpec`] but the
/// prefix and the address space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolShape {
    /// The addresses that may be handed out; none means the whole prefix.
    pub ranges: Vec<AddressRange>,
    /// An address that is never handed out.
    pub gateway: Option<IpAddr>,
    /// Further addresses that are never handed out.
    pub exclusions: Vec<AddressRange>,
    /// How it hands out addresses.
    pub policy: Policy,
}

/// All addresses of a prefix, by family and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The family of the pool.
    pub family: Family,
    /// The addresses, edges included.
    pub span: Span,
}

impl Prefix {
    /// The prefix as networks are written.
    pub(crate) fn net(self) -> IpNet {
        let address = self.family.address(self.span.first());
        // As many leading bits as the first and the last address share.
        let host_bits = 128_u32.saturating_sub((self.span.first() ^ self.span.last()).leading_zeros());
        let length = u32::from(self.family.bits()).saturating_sub(host_bits);
        // The length is always one that the family has.
        IpNet::new(address, length as u8).unwrap_or(IpNet::from(address))
    }

    /// The values of what lies in this prefix.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for what is of the other family, reaches outside the prefix, or has host bits.
    pub(crate) fn locate(self, resource: Resource) -> Result<Extent> {
        let extent = resource.extent()?;
        if self.family != resource.family() || !self.span.covers(extent.span()) {
            return Err(OUTSIDE);
        }
        Ok(extent)
    }

    /// The values of a range within this prefix.
    fn within(self, range: &AddressRange) -> Result<Span> {
        if self.family != range.family() || !self.span.covers(range.span()) {
            return Err(OUTSIDE);
        }
        Ok(range.span())
    }

    /// The addresses that no host may have.
    ///
    /// In IPv4 the network and the broadcast address, unless RFC 3021 (/31) or a host route (/32) leaves none. In IPv6 the
    /// subnet-router anycast address (RFC 4291 section 2.6.1), unless RFC 6164 (/127) or a host route (/128) says otherwise.
    fn edges(self) -> impl Iterator<Item = Span> {
        let has_edges = self.span.size() >= 4;
        let lowest = has_edges.then_some(self.span.first());
        let highest = (has_edges && self.family == Family::Ipv4).then_some(self.span.last());
        lowest.into_iter().chain(highest).map(Span::single)
    }
}

const OUTSIDE: Error = Error::Invalid("an address lies outside the prefix");

/// What may be handed out within a prefix, by borrowed parts, so that creation and update share one computation.
pub(crate) struct Shape<'a> {
    ranges: &'a [AddressRange],
    gateway: Option<IpAddr>,
    exclusions: &'a [AddressRange],
}

impl<'a> From<&'a PoolSpec> for Shape<'a> {
    fn from(spec: &'a PoolSpec) -> Self {
        Self { ranges: &spec.ranges, gateway: spec.gateway, exclusions: &spec.exclusions }
    }
}

impl<'a> From<&'a PoolShape> for Shape<'a> {
    fn from(shape: &'a PoolShape) -> Self {
        Self { ranges: &shape.ranges, gateway: shape.gateway, exclusions: &shape.exclusions }
    }
}

impl Shape<'_> {
    /// The allocatable addresses, in ascending spans with gaps between them.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if any part lies outside the prefix.
    pub(crate) fn allocatable(&self, prefix: Prefix) -> Result<Spans> {
        let mut included: Spans = self.ranges.iter().map(|range| prefix.within(range)).collect::<Result<_>>()?;
        if included.is_empty() {
            included.push(prefix.span);
        }
        let mut holes: Spans = self.exclusions.iter().map(|range| prefix.within(range)).collect::<Result<_>>()?;
        if let Some(gateway) = self.gateway {
            holes.push(prefix.locate(Resource::Address(gateway))?.span());
        }
        holes.extend(prefix.edges());
        Ok(subtract(&merge(included), &merge(holes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{parse_prefix, prefix_span};
    use crate::span::total;

    fn capacity(text: &str) -> u128 {
        let spec = PoolSpec::new(parse_prefix(text).unwrap());
        let prefix = Prefix { family: Family::of(spec.prefix.addr()), span: prefix_span(spec.prefix).unwrap() };
        total(&Shape::from(&spec).allocatable(prefix).unwrap())
    }

    #[test]
    fn a_prefix_is_written_as_it_was_given() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "255.255.255.255/32", "::/0", "fd00::/64", "8000::/1", "::1/128"] {
            let net = parse_prefix(text).unwrap();
            assert_eq!(Prefix { family: Family::of(net.addr()), span: prefix_span(net).unwrap() }.net(), net);
        }
    }

    #[test]
    fn edges_are_reserved_only_where_the_standards_do() {
        let v4 = [("10.0.0.0/32", 1), ("10.0.0.0/31", 2), ("10.0.0.0/30", 2), ("0.0.0.0/0", (1 << 32) - 2)];
        let v6 = [
            ("fd00::/128", 1),
            ("fd00::/127", 2),
            ("fd00::/126", 3),
            ("fd00::/64", (1 << 64) - 1),
            ("::/0", u128::MAX),
        ];
        for (prefix, expected) in v4.into_iter().chain(v6) {
            assert_eq!(capacity(prefix), expected, "{prefix}");
        }
    }
}
