//! Hands out IP addresses of pools to owners, and takes them back: IPv4 and IPv6, with or without an end, in memory or in
//! an SQLite file that several processes share.
//!
//! ```
//! use poolproof_allocator::{Allocator, ErrorKind, PoolSpec, Request, parse_address, parse_prefix};
//!
//! let mut allocator = Allocator::in_memory(); // or Allocator::open("addresses.db")?
//! let office = PoolSpec::new(parse_prefix("10.0.0.0/29")?).with_gateway(parse_address("10.0.0.1")?);
//! allocator.create_pool("office", &office)?;
//! allocator.create_pool("office6", &PoolSpec::new(parse_prefix("fd00::/64")?))?;
//!
//! // Dual stack in one call: both addresses or none, for a minute.
//! let requests = [Request::any("office"), Request::named("office6", parse_address("fd00::5")?)];
//! let granted = allocator.allocate("printer", &requests, Some(60_000))?;
//! assert_eq!(granted.address(), Some(parse_address("10.0.0.2")?));
//! assert_eq!(granted.expires_ms, Some(60_000));
//!
//! // Only the owner can give an address back.
//! let refused = allocator.release("office", granted.grants[0].resource, "scanner").unwrap_err();
//! assert_eq!(refused.kind(), ErrorKind::NotOwner);
//!
//! // The caller tells the time; what has expired is free again.
//! allocator.advance_to(60_000)?;
//! assert_eq!(allocator.usage("office")?.allocated, 0);
//! # Ok::<(), poolproof_allocator::Error>(())
//! ```
//!
//! Every call is all or nothing: what is refused or fails leaves everything as it was. No call's cost depends on the
//! length of a prefix, so `::/0` and a full `10.0.0.0/8` are ordinary; allocating and releasing cost O(log n) in what is held.
//!
//! In memory an allocation takes some 60 bytes and its owner's name ([`MemoryStore`] says what for). In a file a call that
//! changes something is a commit, which waits for the disk unless [`SqliteOptions`] say otherwise; [`SharedAllocator`] lets
//! threads share an allocator, and each commit.
//!
//! # Where things are
//!
//! | module | holds |
//! |---|---|
//! | `address` | addresses, prefixes and ranges as strict text and as numbers |
//! | `span` | arithmetic on runs of addresses |
//! | `pool` | what a pool is made of, and which addresses it may hand out |
//! | `resource` | what can be held: an address, or a block |
//! | `policy` | how a pool hands out addresses |
//! | `allocator` | the rules, written once over any store, and transactions |
//! | `shared` | one allocator for all threads of a process |
//! | [`store`] | what the rules need from a store |
//! | `memory`, `sqlite` | the two stores |
//! | `audit` | what a consistency check can find |
//! | `error` | why a call did not do what it was asked |

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod address;
mod allocator;
mod audit;
mod error;
mod memory;
mod policy;
mod pool;
mod resource;
mod shared;
mod span;
mod sqlite;
mod sync;

pub mod store;

pub use address::{AddressRange, Family, parse_address, parse_prefix};
pub use allocator::{
    Allocator, Cursor, Grant, Granted, MAX_MS, MAX_NAME_BYTES, MemoryAllocator, Page, PoolInfo, Release, Released,
    Request, Savepoint, SqliteAllocator, Want,
};
pub use audit::Difference;
pub use error::{Cause, Error, ErrorKind, Result};
pub use memory::MemoryStore;
pub use policy::{Policy, Repeat, Strategy};
pub use pool::{PoolShape, PoolSpec, Prefix};
pub use resource::{Extent, Resource};
pub use shared::SharedAllocator;
pub use span::Span;
pub use sqlite::{SqliteOptions, SqliteStore, Synchronous};
pub use store::{Allocation, Usage};
#[cfg(feature = "schedule")]
pub use sync::{Scheduler, set_scheduler};
