//! The committed corpus holds on the reference allocator, and it was really read.
#![cfg(feature = "reference")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use poolproof::engine::Silent;
use poolproof::engine::replay::{Entry, read, replay};
use poolproof::property::Verdict;
use poolproof::report::human;
use poolproof::sut::Sut;
use poolproof::sut::memory::Memory;
use poolproof::sut::reference::Variant;
use poolproof::sut::sqlite::Sqlite;

/// Far fewer would mean that a folder was not found.
const FEWEST_RULES: usize = 200;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus")
}

fn entries() -> Vec<Entry> {
    read(&[corpus()]).unwrap()
}

#[test]
fn every_file_of_the_corpus_is_read() {
    // Folders below hold what is no scenario.
    let listed = |folder: &str| {
        let paths = fs::read_dir(corpus().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.is_file())
    };
    let rules: BTreeSet<PathBuf> = listed("rules").collect();
    let there: BTreeSet<PathBuf> = rules.iter().cloned().chain(listed("regressions")).collect();
    let taken: BTreeSet<PathBuf> = entries().into_iter().map(|entry| entry.path).collect();
    assert!(rules.len() >= FEWEST_RULES, "{} rules", rules.len());
    assert!(there.is_subset(&taken), "not read: {:?}", there.difference(&taken));
}

fn holds(mut sut: impl Sut, name: &str) {
    let entries = entries();
    let report = replay(&mut sut, name, &entries, &mut Silent).unwrap();
    assert_eq!(report.scenarios, entries.len() as u64);
    assert_eq!(report.verdict, Verdict::Pass, "{}", human::render(&report));
}

#[test]
fn the_corpus_holds_in_memory() {
    for variant in Variant::all() {
        holds(Memory::with(variant), &format!("memory, {variant:?}"));
    }
}

#[test]
fn the_corpus_holds_on_sqlite() {
    for variant in Variant::all() {
        holds(Sqlite::temporary_with(variant).unwrap(), &format!("sqlite, {variant:?}"));
    }
}
