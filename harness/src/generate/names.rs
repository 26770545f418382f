//! Names that allocators stumble over.
//!
//! A system that confuses two names does so only where both occur, so odd names are drawn as a
//! *family*: names that some layer between a caller and a data base takes for one another.

use fastrand::Rng;

use super::{chance, pick};
use crate::operation::Text;

/// Plain names, long enough that a leak of one is noticed.
const PLAIN: &[&str] = &["alice-1", "bob-2", "carol.3", "dave.example"];

/// Families of names that are easily confused.
const FAMILIES: &[&[&str]] = &[
    // Numbers, to whoever reads them as such.
    &["7", "007", "7.0", " 7", "+7", "٧"],
    &["1e2", "100", "1E2", "0x64", "1_00"],
    &["0", "-0", "00", "false", "null", "None"],
    // Folded case and dropped space.
    &["owner", "Owner", "OWNER", "owner ", " owner", "owner\t"],
    &["straße", "strasse", "STRASSE", "ſtraße"],
    // One picture, several code points.
    &["é", "e\u{301}", "e", "É"],
    &["\u{1f600}", "\u{1f601}", "\u{fffd}", "?"],
    &["a\u{200d}b", "ab", "a\u{ad}b", "\u{202e}ab"],
    // Patterns and beginnings of one another.
    &["%", "_", "a%", "a_", "ab", "abc"],
    &["*", "?", "a*", "[a]", "a"],
    &["host", "host1", "host10", "host-1", "host/1"],
    // Code in somebody's language.
    &["' or 1=1 --", "'", "''", "\"", "\\'", "x' or 'x'='x"],
    &["\"; drop table allocation; --", "\";--", ";", "--"],
    &["../../etc/passwd", "..", ".", "/", "a/b"],
    &["{\"owner\":\"a\"}", "[\"a\"]", "\\u0061", "a\nb", "a\\nb"],
    &["a\nb", "a\nc", "a", "a\tb"],
    &["$(id)", "`id`", "${HOME}", "%s%n", "\u{1b}[31m"],
    &["a,b", "a;b", "a b", "a=b", "a|b", "a:b"],
    // Comments, and ends of lines that are not everybody's.
    &["a#b", "a", "#a", "a //"],
    &["a\rb", "a\r", "a\u{85}", "a\u{2028}b", "a\u{2029}", "a"],
];

/// Parts of names: joined by one of these marks they are the same, though they are different pairs.
const JOINTS: [char; 6] = ['/', ':', '-', '.', ' ', '|'];

/// Owners and pools whose names, one after the other with a mark between them, are those of another pair.
pub(super) fn joined(rng: &mut Rng) -> (Vec<Text>, Vec<Text>) {
    let mark = *pick(&JOINTS, rng);
    let both = |one: &str, other: &str| Text::from(format!("{one}{mark}{other}"));
    let pools = vec![Text::from("a"), both("a", "b"), both("b", "c")];
    let owners = vec![both("b", "c"), Text::from("c"), both("a", "b"), Text::from("a")];
    (owners, pools)
}

/// The longest name, in bytes. Names of that length are told apart only by their ends.
const LONGEST: usize = 255;

/// Names that no system may take.
const MALFORMED: &[&str] = &["", "a\0b", "\0"];

/// Names of owners: plain ones, or such as are easily confused.
pub(super) fn owners(odd: bool, rng: &mut Rng) -> Vec<Text> {
    family(odd, rng)
}

/// Names of at least three pools, all different.
pub(super) fn pools(odd: bool, rng: &mut Rng) -> Vec<Text> {
    if odd {
        family(true, rng)
    } else {
        // Now and then each begins as the one before.
        let names = if chance(3, rng) { ["p1", "p10", "p100"] } else { ["p0", "p1", "p2"] };
        names.map(Text::from).to_vec()
    }
}

/// At least four different names, in a drawn order.
fn family(odd: bool, rng: &mut Rng) -> Vec<Text> {
    let mut names: Vec<Text> = match rng.usize(..=FAMILIES.len()) {
        _ if !odd => PLAIN.iter().map(|name| Text::from(*name)).collect(),
        index => match FAMILIES.get(index) {
            Some(family) => family.iter().map(|name| Text::from(*name)).collect(),
            None => ["x", "y", "z", "yx"].map(long).to_vec(),
        },
    };
    if odd {
        rng.shuffle(&mut names);
    }
    names
}

/// A name of the longest kind with this end.
fn long(end: &str) -> Text {
    format!("{}{end}", "x".repeat(LONGEST - end.len())).into()
}

/// A name that must be refused.
pub(super) fn malformed(rng: &mut Rng) -> Text {
    match rng.u8(..4) {
        0 => "x".repeat(LONGEST + 1).into(),
        // Few enough characters, but too many bytes.
        1 => "é".repeat(LONGEST / 2 + 1).into(),
        _ => Text::from(*pick(MALFORMED, rng)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::is_name;
    use std::collections::HashSet;

    #[test]
    fn families_have_four_different_wellformed_names() {
        for family in FAMILIES {
            let distinct: HashSet<_> = family.iter().collect();
            assert!(distinct.len() == family.len() && family.len() >= 4, "{family:?}");
            assert!(family.iter().all(|name| is_name(name)), "{family:?}");
        }
        let names = ["x", "y", "z", "yx"].map(long);
        assert!(names.iter().all(|name| name.len() == LONGEST));
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), 4);
    }
}
