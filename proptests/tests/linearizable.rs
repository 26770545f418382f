//! `linearizable`: callers at the same time, in one process, with handles of their own and with one for all.

use poolproof::sut::Sut;
use poolproof::sut::memory::Memory;
use poolproof::sut::reference::Variant;
use poolproof::sut::simulated::Simulated;
use poolproof::sut::sqlite::Sqlite;
use poolproof_mutants::{Bug, find};
use poolproof_proptests::{fresh_config, race};

fn holds(sut: &mut dyn Sut, cases: u32) {
    let config = fresh_config(cases);
    let cases = config.cases;
    assert_eq!(race(sut, config).unwrap_or_else(|found| panic!("{found}")), cases, "not all were at the same time");
}

fn one_handle() -> Variant {
    Variant { one_handle: true, ..Variant::default() }
}

#[test]
fn in_memory() {
    holds(&mut Memory::new(), 4_000);
}

#[test]
fn on_a_simulated_disk() {
    holds(&mut Simulated::new(Variant::default()).unwrap(), 600);
    holds(&mut Simulated::new(one_handle()).unwrap(), 600);
}

#[test]
fn on_sqlite() {
    holds(&mut Sqlite::temporary().unwrap(), 40);
    holds(&mut Sqlite::temporary_with(one_handle()).unwrap(), 40);
}

/// The suite finds what only several callers show, and nothing once that is mended.
#[test]
fn the_suite_can_fail() {
    for id in ["read-pick-insert", "lost-update", "stale-full-flag"] {
        let mutant = find(id).unwrap_or_else(|| panic!("there is no mutant `{id}`"));
        let found = race(mutant.sut(Bug::On).as_mut(), fresh_config(8_000)).expect_err(id);
        assert!(mutant.breaks.contains(&found.finding.violation.property), "{id}: {found}");
        assert!(race(mutant.sut(Bug::Off).as_mut(), fresh_config(400)).is_ok(), "{id}");
    }
}
