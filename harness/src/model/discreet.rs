//! Does a text for callers give something away?
//!
//! Looks for what belongs to the inside of a system: SQL, paths, source positions, stack traces.
//! One pass over the text whatever the number of patterns.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};

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
/// that the caller sent (`own` texts) is no secret.
pub(super) fn insides(message: &str, own: &[&str]) -> Option<(&'static str, &'static str)> {
    let found = INSIDES.as_ref()?.find_iter(message).filter_map(|found| {
        let (pattern, what) = PATTERNS[found.pattern().as_usize()];
        let is_right_case = pattern.to_lowercase() == pattern || message[found.range()] == *pattern;
        is_right_case.then_some((pattern, what))
    });
    let sent = |pattern: &str| own.iter().any(|text| text.to_ascii_lowercase().contains(&pattern.to_ascii_lowercase()));
    found.into_iter().find(|(pattern, _)| !sent(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

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
