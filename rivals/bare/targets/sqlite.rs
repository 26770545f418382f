//! Drawn operations on the reference allocator on a temporary file.

#![no_main]

use poolproof_allocator::Allocator;
use poolproof_bare::{Op, run};

libfuzzer_sys::fuzz_target!(|ops: Vec<Op>| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut allocator = Allocator::open(folder.path().join("allocator.db")).expect("a new file");
    run(&mut allocator, &ops);
});
