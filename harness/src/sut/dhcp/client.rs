//! Owners as clients of DHCP: an identifier for each, and back.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::operation::Text;

/// Kea takes no identifiers of more than 128 bytes in DHCPv4, where RFC 2132 allows 255 (section 9.14), and does not say so. In
/// DHCPv6 more are not allowed, and two go before it (RFC 8415 section 11.1).
const LONGEST: usize = 126;
/// What comes before an owner: "not a hardware address" (RFC 2132 section 9.14).
const MARK: u8 = 0;

/// The identifier of an owner as a client. Of a long one it is its beginning and a number made of all of it.
pub(super) fn client_of(owner: &str) -> Vec<u8> {
    if owner.len() < LONGEST {
        return [&[MARK], owner.as_bytes()].concat();
    }
    let mut hasher = DefaultHasher::new();
    owner.hash(&mut hasher);
    // Owners have no NUL, so a second one tells these from the others.
    let beginning = &owner.as_bytes()[..LONGEST - 2 - 8];
    [&[MARK, 0], &hasher.finish().to_be_bytes()[..], beginning].concat()
}

/// Which of these owners has this identifier; what none of them has is shown as it is.
pub(super) fn owner_of<'a>(client: &[u8], mut known: impl Iterator<Item = &'a Text>) -> Text {
    match client {
        [MARK, 0, ..] => known.find(|owner| client_of(owner) == client).cloned(),
        [MARK, name @ ..] => str::from_utf8(name).ok().map(Text::from),
        _ => None,
    }
    .unwrap_or_else(|| format!("the client {client:02x?}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_become_clients_and_clients_owners() {
        for owner in ["a", "\u{e4}\u{1}", &"x".repeat(125), &"x".repeat(126), &"y".repeat(255)] {
            let (client, known) = (client_of(owner), [Text::from("other"), Text::from(owner)]);
            assert!((2..=LONGEST).contains(&client.len()), "{}", client.len());
            assert_eq!(&*owner_of(&client, known.iter()), owner);
        }
        assert_ne!(client_of(&"x".repeat(128)), client_of(&"x".repeat(129)));
        assert_eq!(&*owner_of(&[0, 0, 1], [].iter()), "the client [00, 00, 01]");
    }
}
