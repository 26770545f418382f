//! Versions of the text: which steps came with which, and what they were called before.
//!
//! Texts of every version are read, whatever their steps are called now. A text is written in the oldest version that has all
//! of its steps, so that programs of that version read it, too.

use super::{Scenario, Step};

/// The newest version.
pub(super) const NEWEST: u32 = 2;

/// A step that is not in every version.
struct Changed {
    /// What it is called now.
    word: &'static str,
    /// From this version on.
    since: u32,
    /// What it was called before; nothing where there was no such step.
    before: Option<&'static str>,
}

const CHANGED: [Changed; 2] = [
    // `replay` is the command that runs scenarios.
    Changed { word: "repeat", since: 2, before: Some("replay") },
    Changed { word: "audit", since: 2, before: None },
];

/// The present word for a step's first word in a text of some version. The error says what is wrong with it there.
pub(super) fn upgraded(version: u32, word: &str) -> Result<&str, String> {
    for Changed { word: now, since, before } in CHANGED {
        let is_old = version < since;
        match before {
            Some(before) if word == before && is_old => return Ok(now),
            Some(before) if word == before => {
                return Err(format!("`{before}` is called `{now}` from version {since} on"));
            }
            Some(before) if word == now && is_old => {
                return Err(format!(
                    "`{now}` is called `{before}` before version {since}, and this is version {version}"
                ));
            }
            None if word == now && is_old => {
                return Err(format!("`{now}` is a step from version {since} on, and this is version {version}"));
            }
            _ => {}
        }
    }
    Ok(word)
}

/// The oldest version that has all of these steps, as they are called now.
pub(super) fn oldest(scenario: &Scenario) -> u32 {
    let is_new = |step: &Step| matches!(step, Step::Repeat { .. } | Step::Audit);
    if scenario.steps.iter().any(is_new) { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use crate::scenario::{parse, print};

    /// `corpus/rules/release-twice-is-not-found.scenario` as it was in the first commit that had a corpus.
    const FIRST: &str = "poolproof scenario 1\n\
        # An address that was released is nobody's; releasing it again is `not_found`.\n\
        # Wrong: answering like the first time.\n\
        # caught: release-unknown-ok\n\
        pool p0 10.0.0.0/29\n\
        allocate \"a\" p0\n\
        release p0 @2 \"a\"\n\
        replay @3   # not_found\n";

    #[test]
    fn a_text_of_the_first_version_is_read_and_printed_in_a_later_one() {
        let scenario = parse(FIRST).unwrap();
        let printed = print(&scenario);
        assert!(printed.starts_with("poolproof scenario 2\n") && printed.contains("\nrepeat @"), "{printed}");
        assert_eq!(parse(&printed).unwrap(), scenario);
    }

    #[test]
    fn a_text_is_written_in_the_oldest_version_that_has_its_steps() {
        for (steps, version) in [("begin\n", 1), ("repeat @1\n", 2), ("audit\n", 2)] {
            let scenario = parse(&format!("poolproof scenario 2\n{steps}")).unwrap();
            assert_eq!(print(&scenario), format!("poolproof scenario {version}\n{steps}"));
        }
    }

    #[test]
    fn a_word_of_another_version_is_explained() {
        for (version, step, message) in [
            (1, "repeat @1", "`repeat` is called `replay` before version 2, and this is version 1"),
            (1, "audit", "`audit` is a step from version 2 on, and this is version 1"),
            (2, "replay @1", "`replay` is called `repeat` from version 2 on"),
        ] {
            let error = parse(&format!("poolproof scenario {version}\n{step}\n")).unwrap_err();
            assert_eq!((error.line, error.column, &*error.message), (2, 1, message));
        }
    }

    #[test]
    fn versions_that_do_not_exist_are_refused() {
        for version in ["0", "3", "01", "+1", "1.0", "one", "4294967297"] {
            let error = parse(&format!("poolproof scenario {version}\n")).unwrap_err();
            assert!(error.message.contains("this program reads versions 1 to 2"), "{version:?}: {error}");
        }
    }
}
