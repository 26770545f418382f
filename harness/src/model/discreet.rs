//! Does a text for callers give something away?
//!
//! Looks for what belongs to the inside of a system: SQL, paths, source positions, stack traces.
//! One pass over the text whatever the number of patterns.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};

/// Patterns and what they betray. ASCII case does not matter.
const PATTERNS: [(&str, &str); 41] = [
    ("select * from", "SQL"),
    ("insert into", "SQL"),
    ("insert or replace", "SQL"),
    ("insert or ignore", "SQL"),
    ("delete from", "SQL"),
    ("drop table", "SQL"),
    ("create table", "SQL"),
    ("values (", "SQL"),
    ("order by", "SQL"),
    ("where owner", "SQL"),
    ("where address", "SQL"),
    ("where pool", "SQL"),
    ("unique constraint", "SQL"),
    ("constraint failed", "SQL"),
    ("no such table", "SQL"),
    ("no such column", "SQL"),
    ("begin immediate", "SQL"),
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
    let found = INSIDES.as_ref()?.find_iter(message).map(|found| PATTERNS[found.pattern().as_usize()]);
    let sent = |pattern: &str| own.iter().any(|text| text.to_ascii_lowercase().contains(pattern));
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
        assert_eq!(insides("nothing is free in this pool", &[]), None);
    }

    #[test]
    fn what_the_caller_sent_may_come_back() {
        assert_eq!(insides("no pool \"drop table x\"", &["DROP TABLE x"]), None);
        assert!(insides("no pool", &[]).is_none());
    }
}
