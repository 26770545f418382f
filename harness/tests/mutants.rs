//! The canaries: every mutant is caught, with a counterexample as short as can be; mended, none is accused; and what is
//! tried exhaustively is found, too. A property that nothing can break is not checked at all.
#![cfg(all(feature = "mutants", feature = "cli"))]

use std::collections::BTreeSet;
use std::process::Command;

use poolproof::contract::Clock;
use poolproof::engine::Silent;
use poolproof::engine::check::{Budget, Engine, Options};
use poolproof::engine::exhaust::exhaust;
use poolproof::engine::run::{Runner, Unwatched};
use poolproof::property::{Property, Verdict};
use poolproof::report::Report;
use poolproof::scenario::parse;
use poolproof_mutants::{Bug, Engine as EngineOf, all, find};
use serde_json::Value;

/// Every row of the collection of defects that real allocators had.
const REAL_DEFECTS: usize = 56;

fn mutants(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_poolproof"))
        .args(["mutants", "--format", "json"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    (output.status.code(), report.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}

#[test]
fn every_mutant_is_caught_by_what_it_breaks_and_in_as_few_steps_as_can_be() {
    let (code, report) = mutants(&["--seeds", "1"]);
    for mutant in report["mutants"].as_array().unwrap() {
        let id = mutant["id"].as_str().unwrap();
        assert_eq!(mutant["verdict"], "caught", "{id}");
        let breaks = mutant["breaks"].as_array().unwrap();
        assert!(mutant["properties"].as_array().unwrap().iter().all(|found| breaks.contains(found)), "{id}: {mutant}");
        // Where callers meet, few calls and lanes are what counts: `race.rs` counts those.
        let is_raced = find(id).unwrap().engine == EngineOf::Race;
        let is_short = is_raced || mutant["steps"].as_u64() <= mutant["shortest"].as_u64();
        assert!(is_short, "{id}: {}", mutant["trials"][0]["scenario"]);
    }
    assert_eq!((code, &report["verdict"]), (Some(0), &Value::from("pass")));
}

#[test]
fn no_mutant_is_accused_once_it_is_mended() {
    let (code, report) = mutants(&["--mended", "--seeds", "1", "--seed", "7", "--budget", "1000"]);
    for mutant in report["mutants"].as_array().unwrap() {
        assert_eq!(mutant["verdict"], "mended", "{}: {}", mutant["id"], mutant["trials"]);
    }
    assert_eq!(code, Some(0));
}

#[test]
fn a_mutant_that_survives_is_told() {
    let (code, report) = mutants(&["--only", "canonical-zeros-accepted", "--budget", "1", "--seeds", "2"]);
    assert_eq!((code, &report["verdict"]), (Some(1), &Value::from("violated")));
    assert_eq!(report["mutants"][0]["verdict"], "survived");
}

#[test]
fn the_lists_are_whole() {
    let ids: Vec<&str> = all().map(|(_, mutant)| mutant.id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "an id comes twice");
    let of_properties = |id: &&&str| Property::ALL.iter().any(|property| id.starts_with(&format!("{property}-")));
    assert_eq!(ids.iter().filter(|id| !of_properties(id)).count(), REAL_DEFECTS);
    for property in Property::ALL {
        let own = ids.iter().filter(|id| id.starts_with(&format!("{property}-"))).count();
        assert!(own >= 3, "{property} has {own} mutants");
    }
    for (_, mutant) in all() {
        assert!(!mutant.breaks.is_empty() && mutant.shortest.is_some(), "{}", mutant.id);
    }
}

/// What needs many choices to be told from chance; no single scenario shows it.
const STATISTICAL: [&str; 3] =
    ["immediate-reuse-or-reoffer-declined", "unpredictable-few-bits", "unpredictable-strides"];

#[test]
fn the_corpus_catches_every_mutant() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus");
    for (_, mutant) in all().filter(|(_, mutant)| !STATISTICAL.contains(&mutant.id)) {
        let replay = |sut: String| {
            Command::new(env!("CARGO_BIN_EXE_poolproof")).args(["replay", corpus, "--sut", &sut]).output().unwrap()
        };
        let output = replay(format!("mutant:{}", mutant.id));
        assert_eq!(output.status.code(), Some(1), "{}: {}", mutant.id, String::from_utf8_lossy(&output.stdout));
    }
}

/// The first release is done in spite of its fault; the second one is refused because of another, and that is right.
#[test]
fn each_call_of_a_step_is_judged_by_its_own_faults() {
    let steps = "pool p0 10.0.0.0/31\nallocate \"a\" p0 /32\nallocate \"a\" p0 /32\n\
        fault error before 3\nfault busy before 4\ndrain p0 2\n";
    let scenario = parse(&format!("poolproof scenario 1\n{steps}")).unwrap();
    let mut sut = find("parent-child-two-writes").unwrap().sut(Bug::Off);
    let run = Runner::new(sut.as_ref()).run(sut.as_mut(), &scenario, &mut Unwatched).unwrap();
    assert_eq!(run.finding, None);
}

fn exhausted(id: &str, bug: Bug, depth: usize) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        engine: Engine::Check,
        sut: format!("mutant:{id}"),
        budget: Budget::Runs(u64::MAX),
        seed: 0,
        max_steps: depth,
        tours: false,
        properties: Vec::new(),
        keep_going: false,
        save: folder.path().to_owned(),
    };
    exhaust(find(id).unwrap().sut(bug).as_mut(), depth, &options, &mut Silent).unwrap()
}

#[test]
fn what_takes_few_calls_is_found_by_trying_all() {
    for (id, steps) in [
        ("release-ignores-owner", 3),
        ("stale-del-frees-new-owner", 5),
        ("double-release-dups-freelist", 5),
        ("durable-clock-begins-anew", 3),
        ("atomic-rollback-keeps-pools", 3),
    ] {
        let report = exhausted(id, Bug::On, steps);
        assert_eq!(report.verdict, Verdict::Violated, "{id}");
        assert_eq!(exhausted(id, Bug::Off, steps.min(4)).verdict, Verdict::Pass, "{id}");
    }
}

#[test]
fn what_is_covered_is_counted() {
    let letters = 30;
    let report = exhausted("clock-jump", Bug::Off, 3);
    let covered = report.covered.unwrap();
    assert_eq!((covered.letters, covered.depth), (letters, 3));
    assert_eq!(covered.scenarios(), 30 + 30 * 30 + 30 * 30 * 30);
    assert!(report.scenarios < covered.scenarios() / 3, "equal states are gone on from once: {}", report.scenarios);
    assert_eq!(find("clock-jump").unwrap().sut(Bug::On).contract().clock, Clock::Virtual);
}
