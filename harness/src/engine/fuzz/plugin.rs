//! What a CNI plugin prints, read as the result of an ADD, as an error and as a list of versions.

use std::net::IpAddr;

use ipnet::IpNet;

use super::assert_is_fit_to_print;
use crate::address::Family;
use crate::operation::Kind;
use crate::sut::cni::output::{self, Complaint};

/// Range sets that an ADD may have asked for.
const ASKED: [&[&str]; 4] = [&["10.0.0.0/29"], &["fd00::/64"], &["10.0.0.0/29", "fd00::/64"], &["0.0.0.0/0", "::/0"]];

/// Reads what a plugin may have printed in every way.
///
/// # Panics
///
/// When what is read is not what was asked for, or what is said of it is not fit to print.
pub fn run(printed: &[u8]) {
    for version in output::VERSIONS {
        for asked in ASKED {
            let prefixes: Vec<IpNet> = asked.iter().filter_map(|prefix| prefix.parse().ok()).collect();
            match output::granted(version, printed, &prefixes) {
                Ok(added) => assert_is_what_was_asked_for(&added.addresses, &prefixes),
                Err(failure) => assert_is_fit_to_print(&failure.to_string(), printed),
            }
        }
    }
    if let Some(complaint) = Complaint::parse(printed) {
        assert_is_fit_to_print(&complaint.shown(), printed);
        assert_ne!(complaint.refusal(Kind::Internal).kind, Kind::Unlisted);
    }
    let version = output::best_version(printed);
    assert!(version.is_none_or(|version| String::from_utf8_lossy(printed).contains(version)));
}

fn assert_is_what_was_asked_for(addresses: &[IpAddr], prefixes: &[IpNet]) {
    assert_eq!(addresses.len(), prefixes.len());
    for (address, prefix) in addresses.iter().zip(prefixes) {
        assert_eq!(Family::of(*address), Family::of(prefix.addr()));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_printed_is_read_without_a_panic() {
        for printed in [
            &b""[..],
            b"{}",
            b"{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.0.0.2/29\"}]}",
            b"{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":\"\\u001b[31m\"}",
            b"\xff\x1b[31m",
        ] {
            super::run(printed);
        }
    }
}
