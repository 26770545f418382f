//! Poolproof beside what an engineer would otherwise use: the same mutants, the same operations, the same judge.
//!
//! Every rival gets the whole of Poolproof's alphabet ([`alphabet`]) and its model as the judge of each answer, so that
//! only two things are compared: who writes the better scenarios, and who makes the failing ones shorter. Each is used
//! as its own documentation shows, one file each:
//!
//! | module | tool |
//! |---|---|
//! | [`proptest_vec`] | proptest, a vector of operations from `#[derive(Arbitrary)]` |
//! | [`state_machine`] | proptest-state-machine |
//! | [`hegel_machine`] | hegel's state machines |
//! | [`bolero_random`] | bolero's random engine with `#[derive(TypeGenerator)]` |
//! | `fuzz/targets/derive.rs` | libFuzzer with `#[derive(Arbitrary)]` |
//!
//! A [`trial`] is one tool on one mutant with one seed; [`compare`] runs them all, each in a process of its own, and
//! [`report`] writes tables and the plot.

pub mod alphabet;
#[cfg(feature = "random")]
pub mod bolero_random;
pub mod compare;
pub mod hegel_machine;
pub mod proptest_vec;
pub mod report;
pub mod state_machine;
pub mod trial;
