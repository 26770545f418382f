//! What the allocator needs from a place that keeps its state.
//!
//! A store keeps pools, what is held and what is free, a clock, and transactions over them all. It knows no rule of
//! allocation: those are written once, in [`Allocator`](crate::Allocator). How it finds free addresses is its own affair, as
//! long as no cost depends on the length of a prefix. Implement [`Store`] to keep the state elsewhere, or wrap one to watch
//! it or make it fail.

use std::net::IpAddr;
use std::sync::Arc;

use crate::address::Family;
use crate::audit::Difference;
use crate::error::Result;
use crate::policy::Policy;
use crate::pool::Prefix;
use crate::resource::{Extent, Resource};
use crate::span::Span;

/// The key of a pool in its store. A new pool gets a higher one than every pool that ever was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub i64);

/// A pool as its store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its key.
    pub id: PoolId,
    /// Its prefix.
    pub prefix: Prefix,
    /// How it hands out addresses.
    pub policy: Policy,
    /// The number of its last allocation. A new pool goes on from the highest number of all pools that were removed, so that
    /// no two allocations by one pool name have the same.
    pub generation: u64,
}

/// How the addresses of a pool are used. Exact at any size: at least one address of `::/0` is reserved, so every count fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many addresses the pool may hand out, held ones included.
    pub allocatable: u128,
    /// How many of them are held; a block counts with all its addresses.
    pub allocated: u128,
    /// How many of them nobody gets for a while after their release.
    pub quarantined: u128,
}

impl Usage {
    /// How many addresses can be had now.
    pub const fn free(&self) -> u128 {
        self.allocatable.saturating_sub(self.allocated).saturating_sub(self.quarantined)
    }
}

/// What somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The pool's name.
    pub pool: Arc<str>,
    /// The address or block.
    pub resource: Resource,
    /// Who holds it.
    pub owner: Arc<str>,
    /// The first millisecond at which the lease is over; `None` for an allocation without end.
    pub expires_ms: Option<u64>,
    /// Tells this allocation from every other one that the pool ever made of these addresses.
    pub generation: u64,
}

/// An allocation without its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// What is held.
    pub extent: Extent,
    /// When it ends; `None` for never.
    pub expires_ms: Option<u64>,
    /// Its number.
    pub generation: u64,
}

/// Who holds something, as seen by one owner: nobody is told another one's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody holds just this: it is free, reserved, in quarantine, or a part or a whole of what is held.
    Nobody,
    /// The owner that asks, byte for byte.
    Owner(Tenure),
    /// Some other owner.
    Other,
}

/// Why an address, or a block, cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Nothing: it is free.
    None,
    /// Some of it is held or in quarantine, and none of it is reserved.
    Taken,
    /// Some of it is never handed out, whatever is held.
    Reserved,
}

/// What a transaction is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only read, from one state throughout.
    Read,
    /// Also write, so that no other writer comes between reading and writing.
    Write,
}

/// Which allocations to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter<'a> {
    /// Those from a place on, at most so many, by pool key and address.
    From(Place, usize),
    /// Those of one pool from an address on, at most so many, by address.
    Pool(PoolId, u128, usize),
    /// All of one owner, by pool key and address.
    Owner(&'a str),
}

/// An address of a pool, as a place to go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The pool.
    pub pool: PoolId,
    /// The address.
    pub address: u128,
}

impl Place {
    /// The one that sorts first.
    pub(crate) const FIRST: Self = Self { pool: PoolId(i64::MIN), address: 0 };
}

/// What is over by some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// The pool.
    pub pool: PoolId,
    /// What was held or in quarantine.
    pub extent: Extent,
    /// When it ended.
    pub ended_ms: u64,
    /// Was it in quarantine, rather than held?
    pub was_quarantined: bool,
}

/// Pools, what is held and free in them, a clock, and transactions over them all.
///
/// Every method but `begin`, `in_transaction` and `clear` is called inside a transaction. Spans and extents lie within the
/// prefix of the pool they are used with; where to look from may be any address or extent. All methods cost at most
/// O(log n) in what is stored, plus what they return or replace, except for `audit`. A failure is
/// [`Error::Busy`](crate::Error::Busy), [`Error::Storage`](crate::Error::Storage) or, from `commit` alone,
/// [`Error::UnknownOutcome`](crate::Error::UnknownOutcome).
pub trait Store {
    /// Opens a transaction, after rolling back one that could not be rolled back before.
    fn begin(&mut self, access: Access) -> Result<()>;
    /// Makes the transaction's changes last. Also when it fails, no transaction is open afterwards.
    fn commit(&mut self) -> Result<()>;
    /// Undoes the transaction's changes.
    fn rollback(&mut self) -> Result<()>;
    /// Whether a transaction is open; a store may lose one to a failure.
    fn in_transaction(&self) -> bool;

    /// Marks this point of the transaction; marks nest.
    fn mark(&mut self) -> Result<()>;
    /// Forgets the last mark and keeps what was changed since.
    fn keep(&mut self) -> Result<()>;
    /// Forgets the last mark and undoes what was changed since.
    fn undo(&mut self) -> Result<()>;

    /// Rolls back an open transaction and empties every table; the clock shows 0.
    fn clear(&mut self) -> Result<()>;

    /// The highest time it was told, in milliseconds.
    fn now_ms(&mut self) -> Result<u64>;
    /// Tells the time.
    fn set_now_ms(&mut self, now_ms: u64) -> Result<()>;

    /// The pool of that name.
    fn find_pool(&mut self, name: &str) -> Result<Option<Pool>>;
    /// The names and keys of all pools in the order of their creation.
    fn pools(&mut self) -> Result<Vec<(Arc<str>, PoolId)>>;
    /// Of the pools of an address space and family that start no higher than `address`, the prefix of the one that starts last.
    fn prefix_up_to(&mut self, space: &str, family: Family, address: u128) -> Result<Option<Span>>;
    /// Adds a pool under a name that is not taken. It has no allocatable addresses yet.
    fn insert_pool(&mut self, name: &str, space: &str, prefix: Prefix) -> Result<PoolId>;
    /// Removes a pool that has no allocations, and its quarantine with it.
    fn remove_pool(&mut self, pool: PoolId) -> Result<()>;
    /// Replaces what a pool may hand out, by ascending spans with gaps between them, and how. Everything held stays so and
    /// lies in the spans; what is in quarantine and does not lie wholly in them is forgotten. The cursor stays.
    fn shape_pool(&mut self, pool: PoolId, policy: Policy, allocatable: &[Span]) -> Result<()>;
    /// What a pool may hand out, as [`shape_pool`](Store::shape_pool) was told.
    fn allocatable(&mut self, pool: PoolId) -> Result<Vec<Span>>;
    /// Where [`Strategy::Next`](crate::Strategy::Next) goes on, as [`hold`](Store::hold) was told last; 0 at first.
    fn cursor(&mut self, pool: PoolId) -> Result<u128>;
    /// How a pool hands out addresses.
    fn policy(&mut self, pool: PoolId) -> Result<Policy>;
    /// How the addresses of a pool are used.
    fn usage(&mut self, pool: PoolId) -> Result<Usage>;

    /// The lowest free address from `address` on.
    fn free_from(&mut self, pool: PoolId, address: u128) -> Result<Option<u128>>;
    /// A numbering of the free addresses: each `n` below their number gives another one, and no `n` beyond gives any. Called
    /// only for pools with [`Strategy::Random`](crate::Strategy::Random).
    fn nth_free(&mut self, pool: PoolId, n: u128) -> Result<Option<u128>>;
    /// Where the lowest free block of `2^host_bits` addresses from `address` on begins. Blocks are aligned to their size.
    fn free_block(&mut self, pool: PoolId, host_bits: u8, address: u128) -> Result<Option<u128>>;
    /// What stands in the way of handing out an extent.
    fn obstacle(&mut self, pool: PoolId, extent: Extent) -> Result<Obstacle>;

    /// Lets an owner hold an extent that is free, and tells the number of the allocation: one more than the pool's last.
    /// Moves the pool's cursor, if one is given.
    fn hold(
        &mut self,
        pool: PoolId,
        extent: Extent,
        owner: &str,
        expires_ms: Option<u64>,
        cursor: Option<u128>,
    ) -> Result<u64>;
    /// Changes when an allocation ends.
    fn set_expiry(&mut self, pool: PoolId, extent: Extent, expires_ms: Option<u64>) -> Result<()>;
    /// Ends an allocation. Its addresses are free at once, or in quarantine until a time.
    fn end(&mut self, pool: PoolId, extent: Extent, quarantine_until_ms: Option<u64>) -> Result<()>;
    /// Ends the quarantine of just this extent: its addresses are free.
    fn end_quarantine(&mut self, pool: PoolId, extent: Extent) -> Result<()>;

    /// Who holds just this extent, as seen by `owner`.
    fn holder(&mut self, pool: PoolId, extent: Extent, owner: &str) -> Result<Holder>;
    /// The first that an owner holds in a pool, in the order of extents, from one on; called only for pools whose policy is
    /// not [`Repeat::Another`](crate::Repeat::Another).
    fn held_from(&mut self, pool: PoolId, owner: &str, from: Extent) -> Result<Option<Tenure>>;
    /// The allocation that holds an address, be it by a block.
    fn find(&mut self, pool: PoolId, address: u128) -> Result<Option<Allocation>>;
    /// The allocations that pass a filter, in the order it states, with their places.
    fn list(&mut self, filter: Filter<'_>) -> Result<Vec<(Place, Allocation)>>;
    /// Leases and quarantines that are over at a time, earliest end first.
    fn over(&mut self, now_ms: u64) -> Result<Vec<Over>>;

    /// Works out every index and count anew from the allocations, and names each difference. O(n log n) in all that is stored.
    fn audit(&mut self) -> Result<Vec<Difference>>;
}

impl Allocation {
    /// The allocation that a tenure is, in its pool and by its owner.
    pub(crate) fn of(pool: Arc<str>, family: Family, owner: Arc<str>, tenure: Tenure) -> Self {
        let Tenure { extent, expires_ms, generation } = tenure;
        Self { pool, resource: extent.resource(family), owner, expires_ms, generation }
    }

    /// The address held, or the lowest one of the block.
    pub fn first(&self) -> IpAddr {
        match self.resource {
            Resource::Address(address) => address,
            Resource::Block(prefix) => prefix.network(),
        }
    }
}
