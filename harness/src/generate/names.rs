//! Names that allocators stumble over.

use fastrand::Rng;

use super::pick;
use crate::operation::Text;

/// Plain names, long enough that a leak of one is noticed.
const PLAIN: [&str; 4] = ["alice", "bob-1", "carol", "dave.example"];

/// Names that mean something to somebody: numbers that look equal, patterns, quotes, paths, JSON,
/// shells, terminals, case and Unicode that folds.
const ODD: [&str; 32] = [
    "7",
    "007",
    "1e2",
    "100",
    "0",
    "-1",
    "null",
    "NULL",
    "true",
    "' or 1=1 --",
    "\"; drop table allocation; --",
    "%",
    "_",
    "a%",
    "*",
    "\\",
    "\\'",
    "a b",
    " a",
    "a ",
    "A",
    "a",
    "a\tb\nc",
    "é",
    "e\u{301}",
    "\u{1f600}",
    "../../etc/passwd",
    "{\"owner\":\"a\"}",
    "$(id)",
    "\u{1b}[31m",
    "\u{202e}a",
    "a,b;c",
];

/// Names that no system may take.
const MALFORMED: [&str; 3] = ["", "a\0b", "\0"];

/// An owner; distinct from those of other indices most of the time.
pub(super) fn owner(index: usize, odd: bool, rng: &mut Rng) -> Text {
    if !odd {
        return Text::from(PLAIN[index % PLAIN.len()]);
    }
    match rng.u8(..40) {
        0 => "x".repeat(255).into(),
        1 => format!("{}y", "x".repeat(254)).into(),
        2 => "é".repeat(127).into(),
        _ => Text::from(*pick(&ODD, rng)),
    }
}

/// A pool's name: plain, or odd as an owner's.
pub(super) fn pool(index: usize, odd: bool, rng: &mut Rng) -> Text {
    let plain = || format!("p{index}");
    // Two pools need two names, so an odd one gets its number, too.
    if odd { format!("{}{index}", pick(&ODD, rng)).into() } else { plain().into() }
}

/// A name that must be refused.
pub(super) fn malformed(rng: &mut Rng) -> Text {
    match rng.u8(..4) {
        0 => "x".repeat(256).into(),
        _ => Text::from(*pick(&MALFORMED, rng)),
    }
}
