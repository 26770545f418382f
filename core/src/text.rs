//! Calls as text, the way scenarios hold them: one line each, every unprintable byte escaped.

use std::fmt::{self, Write};

use crate::operation::{Operation, PoolShape, Request, Want};

impl<A: fmt::Display> fmt::Display for Operation<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::CreatePool { pool, prefix, shape } => {
                write!(f, "pool {} {}{shape}", Name(pool), AddressText(prefix))
            }
            Operation::UpdatePool { pool, shape } => write!(f, "update {}{shape}", Name(pool)),
            Operation::DeletePool { pool } => write!(f, "delete {}", Name(pool)),
            Operation::Allocate { owner, requests, ttl_ms } => {
                write!(f, "allocate {}", Quoted(owner.as_bytes()))?;
                for (index, request) in requests.iter().enumerate() {
                    f.write_str(if index == 0 { " " } else { " + " })?;
                    request.fmt(f)?;
                }
                ttl(f, *ttl_ms)
            }
            Operation::Release { pool, address, owner } => {
                write!(f, "release {} {address}", Name(pool))?;
                owner.iter().try_for_each(|owner| write!(f, " {}", Quoted(owner.as_bytes())))
            }
            Operation::ReleaseOwner { owner } => write!(f, "release-owner {}", Quoted(owner.as_bytes())),
            Operation::Renew { pool, address, owner, ttl_ms } => {
                write!(f, "renew {} {address} {} ttl {ttl_ms}", Name(pool), Quoted(owner.as_bytes()))
            }
            Operation::Begin => f.write_str("begin"),
            Operation::Commit => f.write_str("commit"),
            Operation::Rollback => f.write_str("rollback"),
            Operation::List { pool: None } => f.write_str("list"),
            Operation::List { pool: Some(pool) } => write!(f, "list {}", Name(pool)),
            Operation::Usage { pool } => write!(f, "usage {}", Name(pool)),
            Operation::Advance { ms } => write!(f, "advance {ms}"),
            Operation::Raw { line } => write!(f, "raw {}", Quoted(line)),
        }
    }
}

impl fmt::Display for PoolShape {
    /// Every part with a space before it, so that it can follow a name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (first, last) in &self.ranges {
            write!(f, " range {} {}", AddressText(first), AddressText(last))?;
        }
        if let Some(gateway) = &self.gateway {
            write!(f, " gateway {}", AddressText(gateway))?;
        }
        self.exclude.iter().try_for_each(|exclusion| write!(f, " exclude {}", AddressText(exclusion)))
    }
}

impl<A: fmt::Display> fmt::Display for Request<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Name(&self.pool).fmt(f)?;
        match &self.want {
            Want::Any => Ok(()),
            Want::Named(address) => write!(f, " {address}"),
            Want::Block(length) => write!(f, " /{length}"),
        }
    }
}

/// The length of a lease, with a space before it; nothing where there is none.
pub fn ttl(f: &mut fmt::Formatter<'_>, ttl_ms: Option<u64>) -> fmt::Result {
    ttl_ms.map_or(Ok(()), |ms| write!(f, " ttl {ms}"))
}

/// A pool's name: bare where that can be read back, else quoted.
pub struct Name<'a>(pub &'a str);

/// Can this pool name stand without quotes?
pub fn is_bare_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(is_name_byte)
}

/// May a bare pool name have this byte?
pub fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A bare `ttl` behind an owner begins a lease.
        let bare = is_bare_name(self.0) && self.0 != "ttl";
        if bare { f.write_str(self.0) } else { Quoted(self.0.as_bytes()).fmt(f) }
    }
}

/// An address, prefix or exclusion: bare where it looks like one, else quoted.
pub struct AddressText<'a>(pub &'a str);

/// Can this address text stand without quotes?
pub fn is_bare_address(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':') && text.bytes().all(is_address_byte)
}

/// May a bare address have this byte?
pub fn is_address_byte(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'/' | b'-')
}

impl fmt::Display for AddressText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_bare_address(self.0) { f.write_str(self.0) } else { Quoted(self.0.as_bytes()).fmt(f) }
    }
}

/// Any bytes between quotes. Valid UTF-8 outside printable ASCII is written as `\u{…}`, and bytes
/// that are no UTF-8 as `\x…`.
pub struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            match chunk.valid() {
                plain if plain.bytes().all(stands_for_itself) => f.write_str(plain)?,
                other => other.chars().try_for_each(|c| escape(f, c))?,
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        f.write_char('"')
    }
}

/// Is this ASCII character the same between quotes?
fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

fn escape(f: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    match c {
        '"' | '\\' => write!(f, "\\{c}"),
        ' '..='~' => f.write_char(c),
        _ => write!(f, "\\u{{{:x}}}", c as u32),
    }
}
