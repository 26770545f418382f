//! Poolproof: fuzzing and property testing for allocators of IP addresses.

pub mod address;
pub mod contract;
pub mod engine;
pub mod generate;
pub mod interrupt;
pub mod model;
pub mod operation;
pub mod property;
pub mod report;
pub mod scenario;
pub mod shrink;
#[cfg(feature = "proptest")]
pub mod strategy;
pub mod sut;
