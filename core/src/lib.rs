//! The vocabulary of Poolproof: what a call is, what a system promises, what can be broken, and the trait by which any
//! allocator is driven.
//!
//! Here is nothing that draws, runs or judges: that is `poolproof`, which hands all of this on under the same names. Apart it
//! stands so that allocators can be written to be tested, as the mutants are, without a harness to build.

pub mod address;
pub mod contract;
pub mod fault;
pub mod operation;
pub mod property;
pub mod resources;
pub mod sut;
pub mod text;
pub mod turns;
