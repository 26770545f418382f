//! Addresses as numbers, and the texts that stand for them.
//!
//! Everything that reasons about addresses does so on a [`Family`] and a `u128`: spans, edges,
//! counts and alignment are then the same arithmetic for IPv4 and IPv6. Texts come in once, through
//! the strict parsers here, which accept what the protocol accepts and nothing else.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4: 32 bits.
    V4,
    /// IPv6: 128 bits.
    V6,
}

impl Family {
    /// Both families, in the order of the protocol.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// Length of an address in bits: 32 or 128.
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// The protocol's name: `ipv4` or `ipv6`.
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }
    }

    /// The family of an address.
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The address with this number. Numbers past 32 bits lose their upper part in IPv4.
    pub fn address(self, number: u128) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
        }
    }
}

/// The number of an address within its family.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// An inclusive span of address numbers of one family; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Lowest number.
    pub first: u128,
    /// Highest number, at least `first`.
    pub last: u128,
}

impl Span {
    /// The span from `first` to `last`, or `None` when they are reversed.
    pub fn new(first: u128, last: u128) -> Option<Span> {
        (first <= last).then_some(Span { first, last })
    }

    /// The span of one address.
    pub fn one(number: u128) -> Span {
        Span { first: number, last: number }
    }

    /// All addresses of a prefix.
    pub fn of_prefix(prefix: IpNet) -> Span {
        Span { first: number(prefix.network()), last: number(prefix.broadcast()) }
    }

    /// Does the span hold this number?
    pub fn contains(self, number: u128) -> bool {
        self.first <= number && number <= self.last
    }

    /// Is the other span wholly within this one?
    pub fn covers(self, other: Span) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Do the two share an address?
    pub fn overlaps(self, other: Span) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// How many addresses; exact.
    pub fn count(self) -> Count {
        Count::of_span(self)
    }

    /// How many blocks of `2^host_bits` addresses lie wholly within, each on its own boundary. At most `u128::MAX`.
    pub fn aligned_blocks(self, host_bits: u8) -> u128 {
        if host_bits >= 128 {
            return u128::from(self.first == 0 && self.last == u128::MAX);
        }
        let mask = (1u128 << host_bits) - 1;
        let first_block = (self.first >> host_bits) + u128::from(self.first & mask != 0);
        let ends_whole = self.last & mask == mask;
        // The last block, not the one after it: after the last address of IPv6 there is no number.
        let last_block = (self.last >> host_bits).checked_sub(u128::from(!ends_whole));
        last_block.and_then(|last| last.checked_sub(first_block)).map_or(0, |more| more.saturating_add(1))
    }
}

/// Where IPv4 is mapped into IPv6: `::ffff:0:0/96` (RFC 4291, section 2.5.5.2).
pub const MAPPED: Span = Span { first: 0xffff_0000_0000, last: 0xffff_ffff_ffff };

/// IPv6 multicast, ff00::/8 (RFC 4291 section 2.7).
pub const MULTICAST: Span = Span { first: 0xff << 120, last: u128::MAX };

/// An exact number of addresses, from 0 to 2^128: one more value than a `u128` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Count {
    /// Set only for 2^128, and then `low` is 0. First, so that the derived order is right.
    whole: bool,
    low: u128,
}

impl Count {
    /// 2^128: every IPv6 address there is.
    pub const WHOLE: Count = Count { whole: true, low: 0 };
    const WHOLE_TEXT: &'static str = "340282366920938463463374607431768211456";

    fn of_span(span: Span) -> Count {
        match (span.last - span.first).checked_add(1) {
            Some(low) => Count { whole: false, low },
            None => Count::WHOLE,
        }
    }

    /// The sum of disjoint parts of one address space, which therefore never passes 2^128.
    pub fn plus(self, other: Count) -> Count {
        match self.low.checked_add(other.low) {
            Some(low) => Count { whole: self.whole || other.whole, low },
            None => Count::WHOLE,
        }
    }

    /// The difference, where `other` is a part of this.
    pub fn minus(self, other: Count) -> Count {
        if other.whole {
            return Count::default();
        }
        Count { whole: self.whole && other.low == 0, low: self.low.wrapping_sub(other.low) }
    }

    /// The number, or `u128::MAX` for 2^128.
    pub fn saturated(self) -> u128 {
        if self.whole { u128::MAX } else { self.low }
    }
}

impl From<u128> for Count {
    fn from(low: u128) -> Count {
        Count { whole: false, low }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.whole { f.write_str(Count::WHOLE_TEXT) } else { write!(f, "{}", self.low) }
    }
}

impl FromStr for Count {
    type Err = ();

    /// Decimal digits only, without sign or leading zeros.
    fn from_str(text: &str) -> Result<Count, ()> {
        let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        if text == Count::WHOLE_TEXT {
            return Ok(Count::WHOLE);
        }
        if plain { text.parse::<u128>().map(Count::from).map_err(|_| ()) } else { Err(()) }
    }
}

/// What one request is granted: an address, or a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grant {
    /// A single address.
    Address(IpAddr),
    /// A whole prefix, without host bits.
    Block(IpNet),
}

impl Grant {
    /// The family it belongs to.
    pub fn family(self) -> Family {
        match self {
            Grant::Address(address) => Family::of(address),
            Grant::Block(prefix) => Family::of(prefix.network()),
        }
    }

    /// The address, or the lowest one of the block.
    pub fn first(self) -> IpAddr {
        match self {
            Grant::Address(address) => address,
            Grant::Block(prefix) => prefix.network(),
        }
    }

    /// The addresses that it takes up.
    pub fn span(self) -> Span {
        match self {
            Grant::Address(address) => Span::one(number(address)),
            Grant::Block(prefix) => Span::of_prefix(prefix),
        }
    }

    /// Reads an address, or a block in CIDR form, as the protocol writes them.
    pub fn parse(text: &str) -> Option<Grant> {
        match parse_address(text) {
            Some(address) => Some(Grant::Address(address)),
            None => parse_prefix(text).map(Grant::Block),
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::Address(address) => address.fmt(f),
            Grant::Block(prefix) => prefix.fmt(f),
        }
    }
}

/// Reads an address: dotted quad without leading zeros, or any RFC 4291 spelling without a zone.
pub fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// Reads a prefix: ADDRESS/DECIMAL without host bits, leading zeros or netmask.
pub fn parse_prefix(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    if !digits || (length.len() > 1 && length.starts_with('0')) {
        return None;
    }
    let prefix = IpNet::new(parse_address(address)?, length.parse().ok()?).ok()?;
    (prefix.network() == prefix.addr()).then_some(prefix)
}

/// Reads an exclusion: an address, FIRST-LAST, or a prefix. Gives its family and span.
pub fn parse_exclusion(text: &str) -> Option<(Family, Span)> {
    if let Some((first, last)) = text.split_once('-') {
        return parse_range(first, last);
    }
    let grant = Grant::parse(text)?;
    Some((grant.family(), grant.span()))
}

/// Reads an inclusive range; `None` when malformed, of mixed families or reversed.
pub fn parse_range(first: &str, last: &str) -> Option<(Family, Span)> {
    let (first, last) = (parse_address(first)?, parse_address(last)?);
    let span = Span::new(number(first), number(last))?;
    (Family::of(first) == Family::of(last)).then_some((Family::of(first), span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_up_to_the_whole_of_ipv6() {
        let all = Span { first: 0, last: u128::MAX };
        assert_eq!(all.count(), Count::WHOLE);
        assert_eq!(all.count().to_string().parse(), Ok(Count::WHOLE));
        assert_eq!(all.count().minus(Count::from(1)), Count::from(u128::MAX));
        assert_eq!(Count::from(u128::MAX).plus(Count::from(1)), Count::WHOLE);
        assert!(Count::WHOLE > Count::from(u128::MAX));
        assert_eq!("01".parse::<Count>(), Err(()));
        assert_eq!("+1".parse::<Count>(), Err(()));
    }

    #[test]
    fn aligned_blocks_at_the_ends_of_the_space() {
        let all = Span { first: 0, last: u128::MAX };
        assert_eq!(all.aligned_blocks(128), 1);
        assert_eq!(all.aligned_blocks(127), 2);
        assert_eq!(Span { first: 1, last: u128::MAX }.aligned_blocks(127), 1);
        assert_eq!(Span { first: 1, last: 14 }.aligned_blocks(2), 2);
        assert_eq!(Span { first: 3, last: 3 }.aligned_blocks(0), 1);
        assert_eq!(Span { first: u128::MAX - 3, last: u128::MAX }.aligned_blocks(0), 4);
        assert_eq!(Span { first: 5, last: 6 }.aligned_blocks(1), 0);
    }

    #[test]
    fn prefixes_are_strict() {
        for good in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/64", "10.0.0.1/32", "::1/128"] {
            assert!(parse_prefix(good).is_some(), "{good}");
        }
        for bad in [
            "10.0.0.1/8",
            "10.0.0.0/08",
            "10.0.0.0",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/33",
            "::/129",
            "::/",
            " ::/0",
            "10.0.0.0/+8",
        ] {
            assert!(parse_prefix(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_strict() {
        for good in ["10.0.0.5", "2001:DB8::5", "2001:db8:0:0:0:0:0:5", "::ffff:10.0.0.5"] {
            assert!(parse_address(good).is_some(), "{good}");
        }
        for bad in ["010.0.0.5", "10.0.0", "fe80::1%eth0", " 10.0.0.5", "10.0.0.5/32", "", "0x0a.0.0.5", "１０.0.0.5"]
        {
            assert!(parse_address(bad).is_none(), "{bad}");
        }
    }
}
