//! Scenarios, run on the system that `POOLPROOF_SUT` names as `--sut` does: `mutant:…`, `stdio:…`, `cni:…`; else in memory.

#![no_main]

use poolproof::engine::fuzz::{Target, unable};
use poolproof::sut::spec;

poolproof_fuzz::scenario_target!({
    let named = std::env::var("POOLPROOF_SUT").unwrap_or_else(|_| "memory".to_owned());
    match spec::start(&named) {
        Ok(sut) => Target::boxed(named, sut),
        Err(failure) => unable(&format!("POOLPROOF_SUT={named}: {failure}")),
    }
});
