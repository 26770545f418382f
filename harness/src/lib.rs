//! Poolproof: fuzzing and property testing for allocators of IP addresses and prefixes.
//!
//! Implement [`sut::Sut`] for an allocator and let an engine draw scenarios, run them, judge every
//! answer, and shrink what fails:
//!
//! ```
//! use poolproof::engine::{Silent, check::{Budget, Engine, Options, check}};
//! use poolproof::property::Verdict;
//! use poolproof::sut::memory::Memory;
//!
//! let options = Options {
//!     engine: Engine::Check,
//!     sut: "memory".to_owned(),
//!     budget: Budget::Runs(2_000),
//!     seed: 7,
//!     max_steps: 80,
//!     tours: true,
//!     properties: Vec::new(),
//!     keep_going: false,
//!     save: "counterexamples".into(),
//! };
//! let report = check(&mut Memory::new(), &options, &mut Silent)?;
//! assert_eq!(report.verdict, Verdict::Pass);
//! # Ok::<(), poolproof::sut::Failure>(())
//! ```
//!
//! # Where things are
//!
//! | module | holds |
//! |---|---|
//! | [`operation`], [`contract`], [`property`], [`address`] | the vocabulary |
//! | [`scenario`] | scenarios and their text |
//! | [`model`] | judges answers against the contract |
//! | [`generate`], [`shrink`] | scenarios in; smaller scenarios out |
//! | [`history`] | judges recorded histories of concurrent callers |
//! | [`sut`] | the trait of a system under test, one file an adapter |
//! | [`engine`] | what runs scenarios, one file an engine |
//! | [`report`] | what a campaign came to, and its forms |
//! | `strategy` (feature `proptest`) | scenarios for proptest |
//!
//! # Features
//!
//! `reference`, `process` and `cli` are on by default; without them the core needs no allocator, no
//! processes and no command line. `junit`, which comes with `cli`, is reports in JUnit's form. So is `heap`, which comes with `cli`: it counts the memory that an allocator in this
//! process keeps, and is the global allocator for that; who has another one leaves it out. `proptest` and `arbitrary` make scenarios a `Strategy` and
//! `Arbitrary`.

pub use poolproof_core::{address, contract, fault, operation, property, turns};

pub mod engine;
pub mod generate;
pub mod history;
pub mod interrupt;
pub mod model;
pub mod report;
pub mod scenario;
pub mod shrink;
#[cfg(feature = "proptest")]
pub mod strategy;
pub mod sut;
