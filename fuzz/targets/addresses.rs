//! Pool specifications, addresses, prefixes and ranges in all spellings: as the allocator reads them, and as the model does.

#![no_main]

use libfuzzer_sys::fuzzer_mutate;
use poolproof::engine::fuzz::Target;
use poolproof::sut::memory::Memory;
use poolproof::sut::sqlite::Sqlite;

poolproof_fuzz::scenario_target!({
    let on_file = Sqlite::temporary_with(Default::default()).expect("a temporary directory");
    Target::of_addresses("memory", Memory::new(), fuzzer_mutate).and("sqlite", on_file)
});
