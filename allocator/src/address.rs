//! Addresses, prefixes and ranges as text and as numbers.
//!
//! One address has many spellings, and a lenient parser makes two of one or one of two (CVE-2021-29921 and its kin read
//! `010.0.0.1` as octal in one place and decimal in another). So the text forms are strict, and past this file an
//! address is only ever its family and its value.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::error::{Error, Result};
use crate::span::Span;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// 32-bit addresses (RFC 791).
    Ipv4,
    /// 128-bit addresses (RFC 4291). An IPv4-mapped address belongs here.
    Ipv6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// How many bits an address has.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Ipv4 => 32,
            Self::Ipv6 => 128,
        }
    }

    /// The address of a value, that is, of its bytes in network order. Of an IPv4 value only the lower 32 bits exist.
    pub const fn address(self, value: u128) -> IpAddr {
        match self {
            Self::Ipv4 => IpAddr::V4(Ipv4Addr::from_bits(value as u32)),
            Self::Ipv6 => IpAddr::V6(Ipv6Addr::from_bits(value)),
        }
    }
}

/// The value of an address: what its bytes say in network byte order.
pub(crate) const fn value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits() as u128,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Reads an address.
///
/// IPv4 is four decimal numbers without leading zeros; IPv6 is any form of RFC 4291 section 2.2 without a zone identifier.
///
/// # Errors
///
/// [`Error::Invalid`] for everything else, surrounding space included.
pub fn parse_address(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| Error::Invalid("that is no IP address"))
}

/// Reads a prefix: an address, a slash and a decimal length without leading zeros, all host bits zero.
///
/// # Errors
///
/// [`Error::Invalid`] for everything else: a bare address, a netmask, a length beyond 32 or 128, host bits.
pub fn parse_prefix(text: &str) -> Result<IpNet> {
    let (address, length) = text.split_once('/').ok_or(NO_PREFIX)?;
    let canonical = match length.as_bytes() {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return Err(NO_PREFIX);
    }
    let length = length.parse().map_err(|_| NO_PREFIX)?;
    let prefix = IpNet::new(parse_address(address)?, length).map_err(|_| NO_PREFIX)?;
    prefix_span(prefix).map(|_| prefix)
}

const NO_PREFIX: Error = Error::Invalid("that is no prefix");

/// The addresses of a prefix.
///
/// # Errors
///
/// [`Error::Invalid`] if host bits are set: it would name one prefix in several ways.
pub(crate) fn prefix_span(prefix: IpNet) -> Result<Span> {
    if prefix.addr() != prefix.network() {
        return Err(Error::Invalid("the prefix has host bits set"));
    }
    let range = AddressRange::from(prefix);
    Ok(range.span)
}

/// Every address from a first to a last one of the same family, both included.
///
/// As text it is `ADDRESS`, `FIRST-LAST` or `PREFIX`.
///
/// ```
/// use poolproof_allocator::AddressRange;
///
/// let range: AddressRange = "10.0.0.4-10.0.0.7".parse()?;
/// assert_eq!(range, "10.0.0.4/30".parse()?);
/// assert!("10.0.0.7-10.0.0.4".parse::<AddressRange>().is_err());
/// # Ok::<(), poolproof_allocator::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressRange {
    family: Family,
    span: Span,
}

impl AddressRange {
    /// The range between two addresses.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the families differ or `first` is above `last`.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Self> {
        let family = Family::of(first);
        if family != Family::of(last) {
            return Err(Error::Invalid("the range mixes address families"));
        }
        let span = Span::new(value(first), value(last)).ok_or(Error::Invalid("the range is reversed"))?;
        Ok(Self { family, span })
    }

    /// The range of a span of values.
    pub(crate) const fn of(family: Family, span: Span) -> Self {
        Self { family, span }
    }

    /// The lowest address.
    pub const fn first(&self) -> IpAddr {
        self.family.address(self.span.first())
    }

    /// The highest address.
    pub const fn last(&self) -> IpAddr {
        self.family.address(self.span.last())
    }

    /// The family of its addresses.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Its addresses, as values of the family.
    pub const fn span(&self) -> Span {
        self.span
    }
}

impl From<IpAddr> for AddressRange {
    fn from(address: IpAddr) -> Self {
        Self { family: Family::of(address), span: Span::single(value(address)) }
    }
}

impl From<IpNet> for AddressRange {
    /// The whole prefix, edges included; host bits do not matter.
    fn from(prefix: IpNet) -> Self {
        let (first, last) = (value(prefix.network()), value(prefix.broadcast()));
        let span = Span::new(first, last).unwrap_or(Span::single(first));
        Self { family: Family::of(prefix.addr()), span }
    }
}

impl FromStr for AddressRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some((first, last)) = text.split_once('-') {
            return Self::new(parse_address(first)?, parse_address(last)?);
        }
        if text.contains('/') {
            return parse_prefix(text).map(Self::from);
        }
        parse_address(text).map(Self::from)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.span.first() == self.span.last() {
            return self.first().fmt(f);
        }
        write!(f, "{}-{}", self.first(), self.last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_spellings_are_refused() {
        for text in [
            "",
            " 10.0.0.1",
            "10.0.0.1 ",
            "010.0.0.1",
            "10.1",
            "0x0a000001",
            "fe80::1%eth0",
            "::ffff:010.0.0.1",
            "[::1]",
        ] {
            assert!(parse_address(text).is_err(), "{text}");
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
        let prefixes =
            ["10.0.0.0", "10.0.0.0/", "10.0.0.0/08", "10.0.0.0/+8", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/ 8"];
        for text in
            prefixes.into_iter().chain(["10.0.0.0/255.0.0.0", "::/129", "::/00", "::1/64", "::/256", "::/1/1", "::/"])
        {
            assert!(parse_prefix(text).is_err(), "{text}");
        }
        for text in [
            "10.0.0.1-",
            "-10.0.0.1",
            "10.0.0.1-::1",
            "10.0.0.2-10.0.0.1",
            "10.0.0.1 - 10.0.0.2",
            "10.0.0.0/30-10.0.0.9",
        ] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn spellings_of_one_address_are_one_address() {
        assert_eq!(parse_address("2001:DB8:0::5").unwrap(), parse_address("2001:db8::5").unwrap());
        assert_ne!(parse_address("::ffff:10.0.0.5").unwrap(), parse_address("10.0.0.5").unwrap());
    }

    #[test]
    fn prefixes_reach_both_ends_of_both_spaces() {
        for (text, first, last) in [
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("255.255.255.255/32", "255.255.255.255", "255.255.255.255"),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            (
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ),
        ] {
            let range: AddressRange = text.parse().unwrap();
            assert_eq!((range.first().to_string(), range.last().to_string()), (first.into(), last.into()));
            assert_eq!(range.to_string().parse::<AddressRange>().unwrap(), range);
        }
    }
}
