//! The pools of a DHCP server, as it is told of them, and which client holds what in them.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Subnets};

use crate::address::{
    Count, Family, Grant, MULTICAST, Span, number, parse_address, parse_exclusion, parse_prefix, parse_range,
};
use crate::model::spans;
use crate::operation::{Kind, PoolShape, Text};
use crate::sut::outcome::{Outcome, refuse};

/// A pool: a subnet of the server.
#[derive(Clone)]
pub(super) struct Pool {
    pub(super) prefix: IpNet,
    /// The addresses that the server may hand out: sorted, disjoint.
    pub(super) ranges: Vec<Span>,
    /// Tells it from the other pools there are.
    pub(super) number: u16,
    /// It hands out blocks of this length, and no addresses: a server takes them from different pools.
    pub(super) blocks: Option<u8>,
}

impl Pool {
    /// Reads prefix and shape as the protocol does; nothing where they are malformed.
    pub(super) fn read(prefix: &str, shape: &PoolShape, number: u16) -> Option<Pool> {
        let prefix = parse_prefix(prefix)?;
        let ranges = allocatable(prefix, shape)?;
        Some(Pool { prefix, ranges, number, blocks: None })
    }

    pub(super) fn family(&self) -> Family {
        Family::of(self.prefix.network())
    }

    pub(super) fn overlaps(&self, other: &Pool) -> bool {
        self.family() == other.family() && Span::of_prefix(self.prefix).overlaps(Span::of_prefix(other.prefix))
    }

    /// Is this all of it, and of its ranges?
    pub(super) fn may_grant(&self, grant: Grant) -> bool {
        grant.family() == self.family() && self.ranges.iter().any(|range| range.covers(grant.span()))
    }

    /// Could it hand out what no host can have: 0.0.0.0 or ::, which stand for no address, or those of IPv6 multicast?
    pub(super) fn has_special_addresses(&self) -> bool {
        let is_multicast = |range: &Span| self.family() == Family::V6 && range.overlaps(MULTICAST);
        self.ranges.iter().any(|range| range.contains(0) || is_multicast(range))
    }

    /// How many addresses it has, all in all.
    pub(super) fn capacity(&self) -> Count {
        self.ranges.iter().fold(Count::default(), |sum, range| sum.plus(range.count()))
    }

    /// The prefixes that its ranges are made of, no longer than this.
    pub(super) fn prefixes(&self, longest: u8) -> impl Iterator<Item = IpNet> {
        let v6 = |number: u128| Ipv6Addr::from_bits(number);
        let all = self.ranges.iter().flat_map(move |range| Ipv6Subnets::new(v6(range.first), v6(range.last), 0));
        all.filter(move |prefix| prefix.prefix_len() <= longest).map(IpNet::V6)
    }
}

/// What of a prefix may be handed out: its ranges, else all of it, without gateway, exclusions and edges: network and
/// broadcast address, the subnet-router anycast address.
/// Nothing where the shape is malformed.
fn allocatable(prefix: IpNet, shape: &PoolShape) -> Option<Vec<Span>> {
    let (whole, own) = (Span::of_prefix(prefix), Family::of(prefix.network()));
    let inside = |(family, span): (Family, Span)| (family == own && whole.covers(span)).then_some(span);
    let ranges = shape.ranges.iter().map(|(first, last)| inside(parse_range(first, last)?));
    let mut ranges = ranges.collect::<Option<Vec<Span>>>()?;
    if ranges.is_empty() {
        ranges.push(whole);
    }
    let exclusions = shape.exclude.iter().map(|what| inside(parse_exclusion(what)?));
    let mut holes = exclusions.collect::<Option<Vec<Span>>>()?;
    if let Some(gateway) = &shape.gateway {
        let gateway = parse_address(gateway)?;
        holes.push(inside((Family::of(gateway), Span::one(number(gateway))))?);
    }
    if prefix.prefix_len() + 2 <= own.bits() {
        holes.push(Span::one(whole.first));
        holes.extend((own == Family::V4).then_some(Span::one(whole.last)));
    }
    spans::merge(&mut ranges);
    spans::merge(&mut holes);
    Some(spans::without(&ranges, &holes))
}

/// All pools, by name.
#[derive(Clone, Default)]
pub(super) struct Pools {
    pools: BTreeMap<Text, Pool>,
    /// What each client remembers to hold, by the number of the pool.
    held: HashMap<u16, HashMap<Text, Grant>>,
}

impl Pools {
    pub(super) fn get(&self, name: &str) -> Option<&Pool> {
        self.pools.get(name)
    }

    pub(super) fn find(&self, name: &str) -> Outcome<&Pool> {
        self.get(name).map_or_else(|| refuse(Kind::NotFound, "there is no such pool"), Ok)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Text, &Pool)> {
        self.pools.iter()
    }

    /// The first number that no pool has.
    pub(super) fn free_number(&self) -> u16 {
        let is_free = |number: &u16| !self.pools.values().any(|pool| pool.number == *number);
        (0..=u16::MAX).find(is_free).unwrap_or(u16::MAX)
    }

    /// Puts it in, or in the place of the one with its name.
    pub(super) fn insert(&mut self, name: &Text, pool: Pool) {
        self.pools.insert(name.clone(), pool);
    }

    /// Takes it out, and what was held in it.
    pub(super) fn remove(&mut self, name: &str) {
        if let Some(gone) = self.pools.remove(name) {
            self.held.remove(&gone.number);
        }
    }

    /// What this client remembers to hold.
    pub(super) fn held(&self, pool: &Pool, owner: &Text) -> Option<Grant> {
        self.held.get(&pool.number)?.get(owner).copied()
    }

    /// Everybody who remembers to hold something.
    pub(super) fn owners(&self) -> impl Iterator<Item = &Text> {
        self.held.values().flat_map(HashMap::keys)
    }

    /// What it remembers to hold in all pools.
    pub(super) fn held_by(&self, owner: &Text) -> Vec<(Text, Pool, Grant)> {
        let held =
            self.pools.iter().filter_map(|(name, pool)| Some((name.clone(), pool.clone(), self.held(pool, owner)?)));
        held.collect()
    }

    /// Does anybody remember to hold this?
    pub(super) fn is_held(&self, pool: &Pool, grant: Grant) -> bool {
        self.held.get(&pool.number).is_some_and(|held| held.values().any(|held| *held == grant))
    }

    /// Do clients hold as much as there is?
    pub(super) fn is_full(&self, pool: &Pool) -> bool {
        let held = self.held.get(&pool.number).map_or(0, HashMap::len);
        held as u128 >= pool.capacity().saturated()
    }

    /// This client remembers this from now on.
    pub(super) fn hold(&mut self, pool: &Pool, owner: &Text, grant: Grant) {
        self.held.entry(pool.number).or_default().insert(owner.clone(), grant);
    }

    /// This client no longer remembers to hold anything here.
    pub(super) fn forget(&mut self, pool: &Pool, owner: &Text) {
        self.held.entry(pool.number).or_default().remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::text;

    #[test]
    fn what_may_be_handed_out_is_the_ranges_less_gateway_exclusions_and_edges() {
        let read = |prefix: &str, shape: PoolShape| {
            let pool = Pool::read(prefix, &shape, 0)?;
            let of = pool.family();
            let ends = |range: &Span| format!("{}-{}", of.address(range.first), of.address(range.last));
            Some(pool.ranges.iter().map(ends).collect::<Vec<_>>().join(" "))
        };
        let plain = PoolShape::default;
        assert_eq!(read("10.0.0.0/29", plain()).unwrap(), "10.0.0.1-10.0.0.6");
        assert_eq!(read("10.0.0.0/31", plain()).unwrap(), "10.0.0.0-10.0.0.1");
        let ranges = vec![(text("10.0.0.0"), text("10.0.0.3")), (text("10.0.0.3"), text("10.0.0.6"))];
        let shape = PoolShape { ranges, gateway: Some(text("10.0.0.1")), exclude: vec![text("10.0.0.4/31")] };
        assert_eq!(read("10.0.0.0/29", shape).unwrap(), "10.0.0.2-10.0.0.3 10.0.0.6-10.0.0.6");
        assert_eq!(read("10.0.0.0/29", PoolShape { gateway: Some(text("10.0.0.8")), ..plain() }), None);
        assert_eq!(read("10.0.0.1/29", plain()), None);
        assert_eq!(read("fd00::/126", plain()).unwrap(), "fd00::1-fd00::3");
        assert_eq!(read("fd00::/126", PoolShape { gateway: Some(text("10.0.0.1")), ..plain() }), None);
    }

    #[test]
    fn blocks_are_made_of_whole_prefixes() {
        let pool = Pool::read("fd00::/60", &PoolShape::default(), 0).unwrap();
        let prefixes = |longest| pool.prefixes(longest).map(|prefix| prefix.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(prefixes(62), "fd00:0:0:4::/62 fd00:0:0:8::/61");
        assert_eq!(prefixes(60), "");
    }
}
