//! Names of all kinds, through every store, through the protocol and through the text of scenarios.

#![no_main]

use libfuzzer_sys::fuzzer_mutate;
use poolproof::engine::fuzz::Target;
use poolproof::engine::fuzz::wire::Wired;
use poolproof::sut::memory::Memory;
use poolproof::sut::simulated::Simulated;
use poolproof::sut::sqlite::Sqlite;

poolproof_fuzz::scenario_target!({
    let on_file = Sqlite::temporary_with(Default::default()).expect("a temporary directory");
    let simulated = Simulated::new(Default::default()).expect("SQLite takes the disk");
    let wired = Wired::new(Memory::new());
    let target = Target::of_names("memory", Memory::new(), fuzzer_mutate);
    let target = target.and("sqlite", on_file).and("simulated", simulated);
    target.and("stdio:poolproof serve --sut memory", wired)
});
