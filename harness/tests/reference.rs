//! The reference allocator passes `check`, and the campaign that says so is not vacuous.
#![cfg(feature = "reference")]

use poolproof::engine::Silent;
use poolproof::engine::check::{Budget, Engine, Options, check};
use poolproof::property::Verdict;
use poolproof::sut::Sut;
use poolproof::sut::memory::Memory;
use poolproof::sut::reference::Variant;
use poolproof::sut::sqlite::Sqlite;

fn passes(mut sut: impl Sut, name: &str, runs: u64) {
    let save = tempfile::tempdir().unwrap();
    let options = Options {
        engine: Engine::Check,
        sut: name.to_owned(),
        budget: Budget::Runs(runs),
        seed: 1,
        max_steps: 80,
        tours: true,
        properties: Vec::new(),
        keep_going: false,
        save: save.path().to_owned(),
    };
    let report = check(&mut sut, &options, &mut Silent).unwrap();
    assert_eq!(report.verdict, Verdict::Pass, "{}", poolproof::report::human::render(&report));
}

#[test]
fn memory_keeps_every_property() {
    passes(Memory::new(), "memory", 10_000);
}

#[test]
fn sqlite_keeps_every_property() {
    passes(Sqlite::temporary().unwrap(), "sqlite", 60);
}

#[test]
fn memory_keeps_every_property_in_every_variant() {
    for variant in Variant::all() {
        passes(Memory::with(variant), &format!("memory, {variant:?}"), 1_000);
    }
}

#[test]
fn sqlite_keeps_every_property_in_every_variant() {
    for variant in Variant::all() {
        passes(Sqlite::temporary_with(variant).unwrap(), &format!("sqlite, {variant:?}"), 60);
    }
}
