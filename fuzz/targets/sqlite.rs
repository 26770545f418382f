//! Scenario text, run on the reference allocator on SQLite.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Placeholder until the library can run a scenario.
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    std::hint::black_box(text.lines().count());
});
