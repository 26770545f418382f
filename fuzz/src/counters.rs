//! libFuzzer's extra counters: bytes in a section of their own, which it takes for counters of edges, reads after each input
//! and sets back to 0 before the next.
//!
//! The only unsafe code of this crate is the attribute that names the section. The linker puts nothing else there, and what
//! libFuzzer does to the bytes, between two calls of the target, is what any code may do to an `AtomicU8`.
#![allow(unsafe_code)]

use std::sync::atomic::AtomicU8;

/// So many features are told apart; that many bytes are looked through after each input.
const COUNT: usize = 1 << 14;

/// The counters.
#[cfg_attr(target_os = "linux", unsafe(link_section = "__libfuzzer_extra_counters"))]
pub static COUNTERS: [AtomicU8; COUNT] = [const { AtomicU8::new(0) }; COUNT];
