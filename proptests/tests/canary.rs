//! Mutants that the suites must find: a suite that cannot fail shows nothing.
//!
//! The suite of a family must find each mutant from every seed, by a property that the mutant breaks, and shrink the
//! scenario to the shortest that shows it.

use poolproof::engine::run::{Runner, Unwatched};
use poolproof_mutants::{Bug, Mutant, find};
use poolproof_proptests::{Counterexample, Suite, fresh_config};
use proptest::test_runner::{Config, RngSeed};

const SEEDS: u64 = 4;
const CASES: u32 = 4_000;

fn run(mutant: &Mutant, bug: Bug, suite: &Suite, seed: u64) -> Result<(), Counterexample> {
    let mut sut = mutant.sut(bug);
    let mut runner = Runner::new(sut.as_ref());
    let config = Config { rng_seed: RngSeed::Fixed(seed), ..fresh_config(CASES) };
    suite.run(&mut runner, sut.as_mut(), config, &mut Unwatched)
}

/// The suite finds each mutant with every seed. From a single seed the shrinker may end above the least.
fn finds(suite: &Suite, mutants: &[&str]) {
    for id in mutants {
        let mutant = find(id).unwrap_or_else(|| panic!("there is no mutant `{id}`"));
        let found: Vec<Counterexample> = (0..SEEDS)
            .map(|seed| {
                let found = run(mutant, Bug::On, suite, seed).err();
                found.unwrap_or_else(|| panic!("{id} is not found from seed {seed}"))
            })
            .collect();
        for one in &found {
            let property = one.finding.violation.property;
            assert!(mutant.breaks.contains(&property), "{id} is found as {}: {one}", property.name());
        }
        let least = found.iter().map(|one| one.scenario.steps.len()).min();
        assert_eq!(least, mutant.shortest, "steps of the least scenario of {id}");
    }
}

#[test]
fn the_exclusive_suite_can_fail() {
    finds(
        &Suite::exclusive(),
        &["double-release-dups-freelist", "complete-keeps-the-last-one", "canonical-other-spelling-not-held"],
    );
}

#[test]
fn the_lifecycle_suite_can_fail() {
    finds(
        &Suite::lifecycle(),
        &["release-ignores-owner", "scope-bleed", "idempotent-released-twice", "reconfigurable-shrinks-over-held"],
    );
}

#[test]
fn the_transactions_suite_can_fail() {
    finds(
        &Suite::transactions(),
        &["atomic-rollback-keeps-pools", "atomic-refusal-keeps-named", "dual-stack-half-leak"],
    );
}

#[test]
fn the_leases_suite_can_fail() {
    finds(&Suite::leases(), &["expiring-a-moment-late", "expiring-renewal-adds", "expiring-renewed-when-over"]);
}

#[test]
fn the_durability_suite_can_fail() {
    finds(
        &Suite::durability(),
        &["leases-not-reloaded", "durable-updates-lost-in-a-crash", "durable-clock-begins-anew"],
    );
}

#[test]
fn suites_accuse_no_mended_mutant() {
    let suites = [Suite::exclusive(), Suite::lifecycle(), Suite::transactions(), Suite::leases(), Suite::durability()];
    for mutant in ["release-ignores-owner", "dual-stack-half-leak", "leases-not-reloaded"] {
        let mutant = find(mutant).expect("it was found above");
        for suite in &suites {
            run(mutant, Bug::Off, suite, 0).unwrap_or_else(|found| panic!("{}: {found}", mutant.id));
        }
    }
}
