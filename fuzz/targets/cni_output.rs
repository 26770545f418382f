//! What a CNI plugin prints.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poolproof::engine::fuzz::plugin::run(input));
