//! What a CNI plugin prints, read as the result of an ADD, as an error and as a list of versions.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::canary;
use crate::address::Family;
use crate::operation::Kind;
use crate::sut::Failure;
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
                Err(failure) => assert_is_fit_to_print(&failure, printed),
            }
        }
    }
    if let Some(complaint) = Complaint::parse(printed) {
        assert!(!complaint.shown().chars().any(char::is_control), "{:?}", complaint.shown());
        let _kind_is_always_found = complaint.refusal(Kind::Internal);
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

fn assert_is_fit_to_print(failure: &Failure, printed: &[u8]) {
    let message = canary::told(&failure.to_string(), printed);
    assert!(message.len() <= 2_000, "{} bytes", message.len());
    assert!(!message.chars().any(char::is_control), "{message:?}");
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
