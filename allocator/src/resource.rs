//! What can be held: one address, or a block of them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::address::{Family, parse_address, parse_prefix, prefix_span, value};
use crate::error::{Error, Result};
use crate::span::Span;

/// An address, or a whole prefix that is held as one.
///
/// A block of one address, such as 10.0.0.5/32, is not the address 10.0.0.5: what was allocated as one is not released as
/// the other. As text it is `ADDRESS` or `PREFIX`.
///
/// ```
/// use poolproof_allocator::Resource;
///
/// let address: Resource = "10.0.0.5".parse()?;
/// let block: Resource = "10.0.0.4/30".parse()?;
/// assert_ne!(address, "10.0.0.5/32".parse()?);
/// assert_eq!(block.to_string(), "10.0.0.4/30");
/// # Ok::<(), poolproof_allocator::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// One address.
    Address(IpAddr),
    /// All addresses of a prefix.
    Block(IpNet),
}

impl Resource {
    /// Its family.
    pub const fn family(&self) -> Family {
        match self {
            Self::Address(address) => Family::of(*address),
            Self::Block(IpNet::V4(_)) => Family::Ipv4,
            Self::Block(IpNet::V6(_)) => Family::Ipv6,
        }
    }

    /// Its addresses as values of the family.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a block with host bits.
    pub(crate) fn extent(&self) -> Result<Extent> {
        match self {
            Self::Address(address) => Ok(Extent::address(value(*address))),
            Self::Block(prefix) => {
                let host_bits = prefix.max_prefix_len().saturating_sub(prefix.prefix_len());
                Ok(Extent { host_bits: Some(host_bits), first: prefix_span(*prefix)?.first() })
            }
        }
    }
}

impl From<IpAddr> for Resource {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

impl From<IpNet> for Resource {
    fn from(prefix: IpNet) -> Self {
        Self::Block(prefix)
    }
}

impl FromStr for Resource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.contains('/') { parse_prefix(text).map(Self::Block) } else { parse_address(text).map(Self::Address) }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Block(prefix) => prefix.fmt(f),
        }
    }
}

/// A [`Resource`] as values, its family known from the pool: how stores see it. Addresses sort before blocks, and blocks by
/// their size before where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    /// The host bits of a block, 0 to 128; `None` for an address.
    host_bits: Option<u8>,
    first: u128,
}

impl Extent {
    /// The one that sorts first.
    pub const FIRST: Self = Self::address(0);

    /// One address.
    pub const fn address(address: u128) -> Self {
        Self { host_bits: None, first: address }
    }

    /// An address, or a block of `2^host_bits` of them; `None` if `first` has host bits set or there are more than 128.
    pub const fn new(first: u128, host_bits: Option<u8>) -> Option<Self> {
        match host_bits {
            Some(host_bits) if host_bits > 128 || first & host_mask(host_bits) != 0 => None,
            _ => Some(Self { host_bits, first }),
        }
    }

    /// The one of the same kind right above this; `None` at the top of the IPv6 address space.
    pub(crate) const fn next(self) -> Option<Self> {
        match self.span().last().checked_add(1) {
            Some(first) => Some(Self { host_bits: self.host_bits, first }),
            None => None,
        }
    }

    /// Its lowest address.
    pub const fn first(self) -> u128 {
        self.first
    }

    /// The host bits of a block, 0 to 128; `None` for an address.
    pub const fn host_bits(self) -> Option<u8> {
        self.host_bits
    }

    /// All its addresses.
    pub const fn span(self) -> Span {
        let mask = match self.host_bits {
            Some(host_bits) => host_mask(host_bits),
            None => 0,
        };
        Span::between(self.first, self.first | mask)
    }

    /// The resource in a family.
    pub(crate) fn resource(self, family: Family) -> Resource {
        let address = family.address(self.first);
        let Some(host_bits) = self.host_bits else {
            return Resource::Address(address);
        };
        let length = family.bits().saturating_sub(host_bits);
        // A length within the family is always taken.
        IpNet::new(address, length).map_or(Resource::Address(address), Resource::Block)
    }
}

/// The lowest `host_bits` bits.
const fn host_mask(host_bits: u8) -> u128 {
    match 1_u128.checked_shl(host_bits as u32) {
        Some(size) => size.wrapping_sub(1),
        None => u128::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_their_resources_at_both_ends_of_both_spaces() {
        for text in [
            "0.0.0.0",
            "255.255.255.255",
            "::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "0.0.0.0/0",
            "255.255.255.255/32",
            "10.0.0.0/8",
            "::/0",
            "8000::/1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
        ] {
            let resource: Resource = text.parse().unwrap();
            assert_eq!(resource.extent().unwrap().resource(resource.family()), resource);
            assert_eq!(resource.to_string(), text);
        }
        let all: Resource = "::/0".parse().unwrap();
        assert_eq!(all.extent().unwrap().span(), Span::new(0, u128::MAX).unwrap());
    }

    #[test]
    fn blocks_have_no_host_bits() {
        assert_eq!(Extent::new(1, Some(1)), None);
        assert_eq!(Extent::new(0, Some(129)), None);
        assert!(Extent::new(0, Some(128)).is_some() && Extent::new(u128::MAX, Some(0)).is_some());
        assert!(Resource::Block("10.0.0.1/24".parse().unwrap()).extent().is_err());
    }
}
