//! The scenario parser on any bytes: it never panics, and what it reads, it prints and reads again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use poolproof::engine::canary::printed;
use poolproof::scenario::parse;

fuzz_target!(|input: &[u8]| {
    let Ok(source) = std::str::from_utf8(input) else { return };
    match parse(source) {
        Ok(scenario) => assert_eq!(parse(&printed(&scenario)).as_ref(), Ok(&scenario)),
        Err(error) => assert!(error.line >= 1 && error.column >= 1, "{error}"),
    }
});
