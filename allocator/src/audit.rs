//! What a consistency check can find.

use std::fmt;
use std::sync::Arc;

use crate::address::AddressRange;
use crate::resource::Resource;

/// Something that is kept and does not follow from the allocations. A sound state has none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// Two things that are held or in quarantine share an address.
    Overlap {
        /// The pool's name.
        pool: Arc<str>,
        /// One of them.
        one: Resource,
        /// The other.
        other: Resource,
    },
    /// What is held or in quarantine may not be handed out.
    NotAllocatable {
        /// The pool's name.
        pool: Arc<str>,
        /// What is held.
        resource: Resource,
    },
    /// Addresses are kept as free that are not, or are free and not kept so.
    Free {
        /// The pool's name.
        pool: Arc<str>,
        /// The addresses.
        range: AddressRange,
        /// Are they kept as free?
        is_kept: bool,
    },
    /// A count is wrong.
    Count {
        /// The pool's name.
        pool: Arc<str>,
        /// What is counted.
        what: &'static str,
        /// The count that is kept.
        kept: u128,
        /// The count that follows from the allocations.
        counted: u128,
    },
    /// An index lacks an entry, or has one too many.
    Index {
        /// What is found by it.
        what: &'static str,
        /// The pool's name; empty where the entry belongs to none.
        pool: Arc<str>,
        /// What the entry is about.
        entry: String,
        /// Is there an entry?
        is_kept: bool,
    },
}

impl fmt::Display for Difference {
    /// Names the pool and the addresses, and no owner.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlap { pool, one, other } => write!(f, "pool {pool:?}: {one} and {other} overlap"),
            Self::NotAllocatable { pool, resource } => write!(f, "pool {pool:?}: {resource} is not allocatable"),
            Self::Free { pool, range, is_kept: true } => write!(f, "pool {pool:?}: {range} is kept as free and is not"),
            Self::Free { pool, range, is_kept: false } => write!(f, "pool {pool:?}: {range} is free and not kept so"),
            Self::Count { pool, what, kept, counted } => {
                write!(f, "pool {pool:?}: {what} is kept as {kept} and comes to {counted}")
            }
            Self::Index { what, pool, entry, is_kept } => {
                let has = if *is_kept { "has one too many" } else { "lacks one" };
                write!(f, "pool {pool:?}: the index by {what} {has}: {entry}")
            }
        }
    }
}
