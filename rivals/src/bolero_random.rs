//! bolero's random engine, the one that runs under `cargo test`, with a derived generator. It takes its seeds from the
//! system, whatever seed a trial has.

use std::panic::catch_unwind;
use std::time::Duration;

use crate::alphabet::Test;
use crate::trial::Trial;

pub fn run(trial: &'static Trial, budget: u32) {
    // It ends with a panic when a test has failed, which the trial knows already.
    let _ = catch_unwind(|| {
        bolero::check!()
            .with_type::<Test>()
            .with_iterations(budget as usize)
            .with_test_time(Duration::from_secs(3600))
            .for_each(|test| assert!(trial.test(&test.scenario()).is_ok()));
    });
}
