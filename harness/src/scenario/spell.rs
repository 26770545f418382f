//! The spellings of an address.

use std::net::{IpAddr, Ipv6Addr};

use super::Spelling;
use crate::address::Grant;
use crate::operation::Written;

/// Writes an address or block so. A spelling that does not exist for it gives the usual one.
pub fn spell(grant: Grant, spelling: Spelling) -> Written {
    let odd = match (grant, spelling) {
        (_, Spelling::Plain) => None,
        (_, Spelling::Space) => Some(format!(" {grant}")),
        (_, Spelling::LineFeed) => Some(format!("{grant}\n")),
        (Grant::Block(_), _) => None,
        (Grant::Address(address), _) => spell_address(address, spelling),
    };
    // A spelling may come out as the usual one, such as upper case without letters.
    match odd.filter(|text| *text != grant.to_string()) {
        Some(text) => Written::Odd(text.into()),
        None => Written::Plain(grant),
    }
}

fn spell_address(address: IpAddr, spelling: Spelling) -> Option<String> {
    match (address, spelling) {
        (IpAddr::V4(v4), Spelling::Mapped) => Some(format!("::ffff:{v4}")),
        (IpAddr::V4(v4), Spelling::Octal) => Some(v4.octets().map(|octet| format!("{octet:03}")).join(".")),
        (IpAddr::V4(v4), Spelling::Cidr) => Some(format!("{v4}/32")),
        (IpAddr::V6(v6), Spelling::Cidr) => Some(format!("{v6}/128")),
        (IpAddr::V6(v6), Spelling::Upper) => Some(v6.to_string().to_uppercase()),
        (IpAddr::V6(v6), Spelling::Full) => Some(v6.segments().map(|group| format!("{group:04x}")).join(":")),
        (IpAddr::V6(v6), Spelling::Zeros) => Some(v6.segments().map(|group| format!("{group:x}")).join(":")),
        (IpAddr::V6(v6), Spelling::Dotted) => Some(dotted(v6)),
        (address, Spelling::Zone) => Some(format!("{address}%eth0")),
        _ => None,
    }
}

/// The last 32 bits as a dotted quad, as RFC 4291, section 2.2, form 3 has it.
fn dotted(v6: Ipv6Addr) -> String {
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let ([g1, g2], [h1, h2]) = (g.to_be_bytes(), h.to_be_bytes());
    format!("{a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{f:x}:{g1}.{g2}.{h1}.{h2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_spellings_mean_the_same_address() {
        for address in ["2001:db8::a5", "::", "fd00::1", "ffff:ffff::"] {
            let grant = Grant::parse(address).unwrap();
            for spelling in [Spelling::Upper, Spelling::Full, Spelling::Zeros, Spelling::Dotted] {
                let written = spell(grant, spelling);
                assert_eq!(written.meaning(), Some(grant), "{written}");
            }
        }
    }

    #[test]
    fn malformed_spellings_mean_nothing() {
        let grant = Grant::parse("10.0.0.5").unwrap();
        for spelling in [Spelling::Octal, Spelling::Zone, Spelling::Space, Spelling::LineFeed] {
            assert_eq!(spell(grant, spelling).meaning(), None, "{spelling:?}");
        }
        assert_ne!(spell(grant, Spelling::Mapped).meaning(), Some(grant), "another family");
    }

    #[test]
    fn a_spelling_that_does_not_exist_is_the_usual_one() {
        let grant = Grant::parse("10.0.0.5").unwrap();
        assert_eq!(spell(grant, Spelling::Upper), Written::Plain(grant));
    }
}
