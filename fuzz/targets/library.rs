//! Calls of the reference allocator that no scenario makes, on both stores: alike, rightly, and undone without a trace.

#![no_main]

use libfuzzer_sys::Corpus;
use poolproof::engine::fuzz::library::{Library, mutate};

thread_local! {
    static LIBRARY: Library = Library::new();
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| -> Corpus {
    if LIBRARY.with(|library| library.run(input)) { Corpus::Keep } else { Corpus::Reject }
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, _max_size: usize, seed: u32| { mutate(data, size, seed) });
