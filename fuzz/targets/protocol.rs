//! Lines of the protocol, taken for a process's answers and for a client's requests.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poolproof::engine::fuzz::wire::run(input));
