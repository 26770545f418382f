//! Poolproof: fuzzing and property testing for allocators of IP addresses.

pub mod address;
pub mod contract;
pub mod interrupt;
pub mod operation;
pub mod property;
pub mod scenario;
pub mod sut;
