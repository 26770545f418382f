//! libFuzzer with `#[derive(Arbitrary)]`, as the book of cargo-fuzz shows it. The environment says which mutant is tried
//! and where the outcome goes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use poolproof_mutants::{Bug, find};
use poolproof_rivals::alphabet::Test;
use poolproof_rivals::trial::Trial;

static TRIAL: LazyLock<&'static Trial> = LazyLock::new(|| {
    let mutant = std::env::var("RIVALS_MUTANT").ok().and_then(|id| find(&id));
    let file = std::env::var_os("RIVALS_OUTCOME").map(Into::into);
    Trial::begin(mutant.expect("RIVALS_MUTANT names a mutant"), Bug::On, file)
});

fuzz_target!(|test: Test| {
    if let Err(violation) = TRIAL.test(&test.scenario()) {
        panic!("{violation}");
    }
});
