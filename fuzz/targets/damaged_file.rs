//! Damage to a file of the reference allocator: an error or a right answer, never a wrong one.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poolproof::engine::fuzz::damage::run(input));
