//! What the allocator needs from a place that keeps its state.
//!
//! A store is a few ordered tables with transactions, and knows no rule of allocation: those are written once, in
//! [`Allocator`](crate::Allocator). Implement [`Store`] to keep the state elsewhere, or wrap one to watch it or make it fail.
//!
//! Free space is kept as spans by their *last* address. Taking the lowest address of a span, the usual case, and giving
//! it back then change one value in place and move no key.

use std::net::IpAddr;
use std::sync::Arc;

use crate::address::Family;
use crate::error::Result;
use crate::pool::Prefix;
use crate::span::Span;

/// The key of a pool in its store. A new pool gets a higher one than every pool that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub i64);

/// A pool as its store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its key.
    pub id: PoolId,
    /// Its prefix.
    pub prefix: Prefix,
    /// How many addresses it may hand out, held ones included.
    pub allocatable: u128,
    /// How many of them are held.
    pub allocated: u64,
}

/// An address that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The pool's name.
    pub pool: Arc<str>,
    /// The address.
    pub address: IpAddr,
    /// Who holds it.
    pub owner: Arc<str>,
    /// The first millisecond at which the lease is over; `None` for an allocation without end.
    pub expires_ms: Option<u64>,
}

/// Who holds an address, as seen by one owner: nobody is told another one's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It is free, or not allocatable.
    Nobody,
    /// The owner that asks, byte for byte.
    Owner,
    /// Some other owner.
    Other,
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
    /// All, by pool name, then address.
    All,
    /// Those of one pool, by address.
    Pool(PoolId),
    /// Those of one owner, by pool key, then address.
    Owner(&'a str),
    /// Those whose lease is over at that time, earliest first.
    ExpiredAt(u64),
}

/// Ordered tables of pools, free spans and allocations, a clock, and transactions over them all.
///
/// Every method but `begin`, `in_transaction` and `clear` is called inside a transaction. All cost at most
/// O(log n) in what is stored, plus what they return or replace. A failure is
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

    /// Marks this point of the transaction; marks do not nest.
    fn mark(&mut self) -> Result<()>;
    /// Forgets the mark and keeps what was changed since.
    fn keep(&mut self) -> Result<()>;
    /// Forgets the mark and undoes what was changed since.
    fn undo(&mut self) -> Result<()>;

    /// Rolls back an open transaction and empties every table; the clock shows 0.
    fn clear(&mut self) -> Result<()>;

    /// The highest time it was told, in milliseconds.
    fn now_ms(&mut self) -> Result<u64>;
    /// Tells the time.
    fn set_now_ms(&mut self, now_ms: u64) -> Result<()>;

    /// The pool of that name.
    fn find_pool(&mut self, name: &str) -> Result<Option<Pool>>;
    /// Of the pools in the family that start no higher than `address`, the prefix of the one that starts last.
    fn prefix_up_to(&mut self, family: Family, address: u128) -> Result<Option<Span>>;
    /// Adds a pool under a name that is not taken.
    fn insert_pool(&mut self, name: &str, prefix: Prefix) -> Result<PoolId>;
    /// Removes a pool that has no allocations.
    fn remove_pool(&mut self, pool: PoolId) -> Result<()>;
    /// Replaces a pool's free space and its number of allocatable addresses.
    fn reshape_pool(&mut self, pool: PoolId, allocatable: u128, free: &[Span]) -> Result<()>;

    /// The first free span that ends no lower than `address`.
    fn free_from(&mut self, pool: PoolId, address: u128) -> Result<Option<Span>>;
    /// Adds a free span, or replaces the one that ends at the same address.
    fn put_free(&mut self, pool: PoolId, span: Span) -> Result<()>;
    /// Removes the free span that ends at `last`.
    fn remove_free(&mut self, pool: PoolId, last: u128) -> Result<()>;

    /// Who holds an address, as seen by `owner`.
    fn holder(&mut self, pool: PoolId, address: u128, owner: &str) -> Result<Holder>;
    /// Adds an allocation of an address that nobody holds.
    fn insert_allocation(&mut self, pool: PoolId, address: u128, owner: &str, expires_ms: Option<u64>) -> Result<()>;
    /// Changes when an allocation ends.
    fn set_expiry(&mut self, pool: PoolId, address: u128, expires_ms: u64) -> Result<()>;
    /// Removes an allocation.
    fn remove_allocation(&mut self, pool: PoolId, address: u128) -> Result<()>;
    /// The allocations that pass a filter, in the order it states.
    fn list(&mut self, filter: Filter<'_>) -> Result<Vec<(PoolId, Allocation)>>;
}
