//! Does a text for callers give something away?
//!
//! Looks for what belongs to the inside of a system: SQL, paths, source positions, stack traces, in
//! one pass over the text whatever the number of patterns; and for the names of other owners.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};
use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use crate::address::Grant;
use crate::operation::{Operation, Text};

/// Patterns and what they betray. Those in upper case count only so: "insert into it" is English.
const PATTERNS: [(&str, &str); 41] = [
    ("SELECT * FROM", "SQL"),
    ("INSERT INTO", "SQL"),
    ("INSERT OR REPLACE", "SQL"),
    ("INSERT OR IGNORE", "SQL"),
    ("DELETE FROM", "SQL"),
    ("DROP TABLE", "SQL"),
    ("CREATE TABLE", "SQL"),
    ("VALUES (", "SQL"),
    ("ORDER BY", "SQL"),
    ("WHERE OWNER", "SQL"),
    ("WHERE ADDRESS", "SQL"),
    ("WHERE POOL", "SQL"),
    ("unique constraint", "SQL"),
    ("constraint failed", "SQL"),
    ("no such table", "SQL"),
    ("no such column", "SQL"),
    ("BEGIN IMMEDIATE", "SQL"),
    ("/tmp/", "a path"),
    ("/var/", "a path"),
    ("/usr/", "a path"),
    ("/home/", "a path"),
    ("/root/", "a path"),
    ("/etc/", "a path"),
    ("/opt/", "a path"),
    ("/srv/", "a path"),
    ("/run/", "a path"),
    ("/proc/", "a path"),
    ("/mnt/", "a path"),
    ("/data/", "a path"),
    ("/lib/", "a path"),
    ("c:\\", "a path"),
    (".rs:", "a source position"),
    (".go:", "a source position"),
    (".py\"", "a source position"),
    (".py:", "a source position"),
    (".java:", "a source position"),
    (".c:", "a source position"),
    ("traceback", "a stack trace"),
    ("panicked at", "a stack trace"),
    ("goroutine ", "a stack trace"),
    ("stack backtrace", "a stack trace"),
];

static INSIDES: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasickBuilder::new().ascii_case_insensitive(true).build(PATTERNS.iter().map(|(pattern, _)| pattern)).ok()
});

/// What of the system's inside the text shows: the pattern found and what it betrays. A pattern
/// in one of the `known` texts is no secret.
pub(super) fn insides(message: &str, known: &[&str]) -> Option<(&'static str, &'static str)> {
    let found = INSIDES.as_ref()?.find_iter(message).filter_map(|found| {
        let (pattern, what) = PATTERNS[found.pattern().as_usize()];
        let is_right_case = pattern.to_lowercase() == pattern || message[found.range()] == *pattern;
        is_right_case.then_some((pattern, what))
    });
    let is_known = |pattern: &str| {
        let pattern = pattern.to_ascii_lowercase();
        known.iter().any(|text| text.to_ascii_lowercase().contains(&pattern))
    };
    found.into_iter().find(|(pattern, _)| !is_known(pattern))
}

/// Shorter names of owners turn up in texts by chance.
const TELLING_LENGTH: usize = 5;
/// More owners than this are not remembered, so that looking for them stays cheap.
const MOST_OWNERS: usize = 1_000;

/// Owners whose names can be recognised in a text.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners(FxHashSet<Text>);

impl Owners {
    /// Remembers an owner, if its name is telling.
    pub(super) fn meet(&mut self, owner: &Text) {
        if self.0.len() < MOST_OWNERS && !self.0.contains(owner) && is_telling(owner) {
            self.0.insert(owner.clone());
        }
    }

    /// Forgets them all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// An owner that the text names; not where it stands within one of the `known` names, which may
    /// be told.
    pub(super) fn named_in(&self, message: &str, known: &[&Text]) -> Option<&Text> {
        self.0.iter().find(|owner| message.contains(&***owner) && is_betrayed(message, owner, known))
    }
}

/// Can this owner's name be recognised in a text? Short names and plain words, such as `owner`
/// itself, cannot; nor can one that looks like an address, or one whose spaces may be the sentence's.
fn is_telling(owner: &str) -> bool {
    let is_word = owner.trim().chars().all(char::is_alphabetic);
    owner.len() >= TELLING_LENGTH && !is_word && owner.trim() == owner && Grant::parse(owner).is_none()
}

/// Does the text hold the name anywhere but within a `known` one?
fn is_betrayed(message: &str, owner: &str, known: &[&Text]) -> bool {
    let longer = known.iter().filter(|name| name.contains(owner));
    let told: Vec<_> = longer.flat_map(|name| places(message, name)).collect();
    places(message, owner).any(|place| !told.iter().any(|told| told.start <= place.start && place.end <= told.end))
}

/// Where the text holds the name, overlapping places included.
fn places(text: &str, name: &str) -> impl Iterator<Item = Range<usize>> {
    let starts = text.char_indices().map(|(start, _)| start);
    starts.filter(move |start| text[*start..].starts_with(name)).map(move |start| start..start + name.len())
}

/// The names that a call holds: its refusal may hold them, too.
pub(super) fn names_in(operation: &Operation) -> SmallVec<[&Text; 4]> {
    match operation {
        Operation::Allocate { owner, requests, .. } => {
            requests.iter().map(|request| &request.pool).chain([owner]).collect()
        }
        Operation::Release { pool, owner, .. } => owner.iter().chain([pool]).collect(),
        Operation::Renew { pool, owner, .. } => [pool, owner].into_iter().collect(),
        Operation::ReleaseOwner { owner } => [owner].into_iter().collect(),
        Operation::CreatePool { pool, .. }
        | Operation::UpdatePool { pool, .. }
        | Operation::DeletePool { pool }
        | Operation::Usage { pool }
        | Operation::List { pool: Some(pool) } => [pool].into_iter().collect(),
        Operation::List { pool: None }
        | Operation::Begin
        | Operation::Commit
        | Operation::Rollback
        | Operation::Advance { .. }
        | Operation::Raw { .. } => SmallVec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::text;

    #[test]
    fn another_owner_is_recognised() {
        let mut owners = Owners::default();
        for owner in ["alice-1", "bob", "owner", "10.0.0.5", "host-1"] {
            owners.meet(&text(owner));
        }
        let named = |message, known: &[&str]| {
            let known: Vec<Text> = known.iter().map(|name| text(name)).collect();
            owners.named_in(message, &known.iter().collect::<Vec<_>>()).map(|owner| owner.to_string())
        };
        assert_eq!(named("alice-1 holds it", &["carol"]), Some("alice-1".to_owned()));
        assert_eq!(named("alice-1 may not", &["alice-1"]), None, "its own");
        assert_eq!(named("the owner bob holds 10.0.0.5", &[]), None, "nothing to recognise");
        assert_eq!(named("it overlaps pool host-10", &["host-10"]), None, "part of another name");
        assert_eq!(named("host-1 holds host-10", &["host-10"]), Some("host-1".to_owned()), "beside another name");
    }

    #[test]
    fn the_inside_is_recognised() {
        for text in [
            "UNIQUE constraint failed: allocation.address",
            "cannot open /var/lib/ipam/leases.db",
            "thread 'main' panicked at src/lib.rs:10",
            "Traceback (most recent call last):",
        ] {
            assert!(insides(text, &[]).is_some(), "{text}");
        }
        for prose in ["nothing is free in this pool", "delete from the pool first", "update it, then insert into it"] {
            assert_eq!(insides(prose, &[]), None, "{prose}");
        }
        assert!(insides("INSERT INTO allocation VALUES (?)", &[]).is_some());
    }

    #[test]
    fn what_the_caller_sent_may_come_back() {
        assert_eq!(insides("no pool \"DROP TABLE x\"", &["DROP TABLE x"]), None);
        assert!(insides("no pool", &[]).is_none());
    }
}
