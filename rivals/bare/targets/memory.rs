//! Drawn operations on the reference allocator in memory.

#![no_main]

use poolproof_allocator::Allocator;
use poolproof_bare::{Op, run};

libfuzzer_sys::fuzz_target!(|ops: Vec<Op>| run(&mut Allocator::in_memory(), &ops));
