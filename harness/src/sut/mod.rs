//! The system under test: the one trait that an adapter implements, one file an adapter.
//!
//! To put an allocator of your own under test in Rust, implement [`Sut`] and hand it to an engine.
//! To add an adapter to the command line, add a file here and a line in [`spec`].

use std::time::Duration;

#[cfg(feature = "reference")]
pub use poolproof_core::sut::reference;
pub use poolproof_core::sut::{Failure, Growth, Resource, Resources, Scheduling, Sut};

pub mod call;
#[cfg(feature = "process")]
pub mod cni;
#[cfg(feature = "process")]
pub mod dhcp;
#[cfg(feature = "process")]
mod home;
#[cfg(feature = "reference")]
pub mod memory;
#[cfg(feature = "process")]
pub mod orphans;
#[cfg(feature = "process")]
mod outcome;
#[cfg(feature = "process")]
pub mod process;
#[cfg(feature = "process")]
mod procfs;
pub mod protocol;
pub mod serve;
#[cfg(feature = "reference")]
pub mod simulated;
pub mod spec;
#[cfg(feature = "reference")]
pub mod sqlite;
#[cfg(feature = "process")]
pub mod stdio;
#[cfg(feature = "process")]
mod strace;
mod surrogates;

/// How often a `busy` call is tried again, and how long to wait in between.
pub(crate) const BUSY_TRIES: u32 = 100;
pub(crate) const BUSY_PAUSE: Duration = Duration::from_millis(10);
