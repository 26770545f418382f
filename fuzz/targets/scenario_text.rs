//! The scenario parser on raw bytes: whatever the file holds, parsing ends in a scenario or in an error.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Placeholder until the library has its parser.
    let _ = std::str::from_utf8(bytes);
});
