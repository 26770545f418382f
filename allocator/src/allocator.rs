//! The rules of allocation, written once over any [`Store`].
//!
//! Every call is one transaction of the store, or a marked part of the one the caller opened, so a call that is refused or
//! fails leaves everything as it was. All stored leases are live: the clock moves only in
//! [`advance_to`](Allocator::advance_to), which removes what expires in the same transaction.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::address::{Family, prefix_span, value};
use crate::error::{Error, Result};
use crate::free;
use crate::memory::MemoryStore;
use crate::pool::{PoolShape, PoolSpec, Prefix, Shape};
use crate::span::{Span, merge, subtract, total};
use crate::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{Access, Allocation, Filter, Holder, Pool, PoolId, Store};

/// The latest time, in milliseconds: 2^53 - 1, the largest whole number that every JSON reader keeps exact.
pub const MAX_MS: u64 = (1 << 53) - 1;

/// The longest owner or pool name, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// An allocator whose state lives as long as it does.
pub type MemoryAllocator = Allocator<MemoryStore>;

/// An allocator whose state lives in an SQLite file.
pub type SqliteAllocator = Allocator<SqliteStore>;

/// One address to allocate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The pool it shall come from.
    pub pool: &'a str,
    /// The address, or `None` for any.
    pub address: Option<IpAddr>,
}

impl<'a> Request<'a> {
    /// Any address of a pool.
    pub const fn any(pool: &'a str) -> Self {
        Self { pool, address: None }
    }

    /// A given address of a pool.
    pub const fn named(pool: &'a str, address: IpAddr) -> Self {
        Self { pool, address: Some(address) }
    }
}

/// What [`Allocator::allocate`] handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// One address a request, in their order.
    pub addresses: SmallVec<[IpAddr; 1]>,
    /// The first millisecond at which the leases are over; `None` without a time to live.
    pub expires_ms: Option<u64>,
}

/// An address that [`Allocator::release_owner`] freed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// The pool's name.
    pub pool: Arc<str>,
    /// The address.
    pub address: IpAddr,
}

/// How full a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// How many addresses the pool may hand out, held ones included.
    pub allocatable: u128,
    /// How many of them are held.
    pub allocated: u128,
}

/// The caller's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    /// Every call is its own.
    None,
    /// Calls belong to it.
    Open,
    /// The store lost it to a failure; only ending it is left to do.
    Lost,
}

/// Hands out addresses of pools to owners and takes them back.
///
/// Names of owners and pools are 1 to 255 bytes of UTF-8 without NUL; every other character is ordinary data. A call with
/// any other name is [`Error::Invalid`]. Any call on a store that fails may also answer [`Error::Busy`],
/// [`Error::Storage`] or, if it writes outside a transaction, [`Error::UnknownOutcome`].
///
/// Dropping an allocator rolls back its open transaction.
#[derive(Debug)]
pub struct Allocator<S: Store> {
    store: S,
    transaction: Transaction,
}

impl Allocator<MemoryStore> {
    /// An empty allocator in memory.
    pub fn in_memory() -> Self {
        Self::with_store(MemoryStore::default())
    }
}

impl Allocator<SqliteStore> {
    /// Opens or creates an SQLite file, with the default options.
    ///
    /// # Errors
    ///
    /// As [`Allocator::open_with`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, SqliteOptions::default())
    }

    /// Opens or creates an SQLite file. Several handles, in one process or many, may use one file at once.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for a file of a newer version, a database of something else, or a file that cannot have a
    /// write-ahead log; [`Error::Storage`] if it cannot be read or written; [`Error::Busy`].
    pub fn open_with(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self> {
        SqliteStore::open(path.as_ref(), options).map(Self::with_store)
    }
}

impl<S: Store> Allocator<S> {
    /// An allocator over any store.
    pub const fn with_store(store: S) -> Self {
        Self { store, transaction: Transaction::None }
    }

    /// Creates a pool. O(k log k) in the ranges and exclusions listed.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the prefix has host bits or any part lies outside it; [`Error::Conflict`] if the name is taken
    /// or the prefix overlaps another pool's.
    pub fn create_pool(&mut self, name: &str, spec: &PoolSpec) -> Result<()> {
        check_name(name)?;
        let prefix = Prefix { family: Family::of(spec.prefix.addr()), span: prefix_span(spec.prefix)? };
        let allocatable = Shape::from(spec).allocatable(prefix)?;
        self.write(|store| {
            if store.find_pool(name)?.is_some() {
                return Err(Error::Conflict("a pool has that name"));
            }
            // Pools are disjoint: of those that start below the end of this one, only the last can reach into it.
            let below = store.prefix_up_to(prefix.family, prefix.span.last())?;
            if below.is_some_and(|other| other.last() >= prefix.span.first()) {
                return Err(Error::Conflict("the prefix overlaps that of another pool"));
            }
            let pool = store.insert_pool(name, prefix)?;
            store.reshape_pool(pool, total(&allocatable), &allocatable)
        })
    }

    /// Replaces the ranges, the gateway and the exclusions of a pool. O(n + k log k) in the addresses held and the ranges
    /// and exclusions listed.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if any part lies outside the prefix; [`Error::NotFound`]; [`Error::InUse`] if an allocation would
    /// no longer be allocatable.
    pub fn update_pool(&mut self, name: &str, shape: &PoolShape) -> Result<()> {
        self.write(|store| {
            let pool = find_pool(store, name)?;
            let allocatable = Shape::from(shape).allocatable(pool.prefix)?;
            let held = store.list(Filter::Pool(pool.id))?;
            let held = merge(held.iter().map(|(_, allocation)| Span::single(value(allocation.address))).collect());
            if !subtract(&held, &allocatable).is_empty() {
                return Err(Error::InUse);
            }
            store.reshape_pool(pool.id, total(&allocatable), &subtract(&allocatable, &held))
        })
    }

    /// Deletes a pool. O(k) in its ranges and exclusions.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::InUse`] if it has allocations.
    pub fn delete_pool(&mut self, name: &str) -> Result<()> {
        self.write(|store| {
            let pool = find_pool(store, name)?;
            if pool.allocated > 0 {
                return Err(Error::InUse);
            }
            store.remove_pool(pool.id)
        })
    }

    /// Allocates an address for each request, all or none.
    ///
    /// A request for any address gets the lowest that is free and that no other request of the call names. An owner that
    /// holds addresses of a pool gets another one. With `ttl_ms`, at least 1, the allocations are leases that end that
    /// many milliseconds from now. O(r log n) in the requests and what is held.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] without requests, for an address that is not allocatable, or if the lease would end beyond
    /// [`MAX_MS`]; [`Error::NotFound`] for a pool; [`Error::Conflict`] if a named address is held; [`Error::Exhausted`].
    pub fn allocate(&mut self, owner: &str, requests: &[Request<'_>], ttl_ms: Option<u64>) -> Result<Granted> {
        check_name(owner)?;
        if requests.is_empty() {
            return Err(Error::Invalid("there is nothing to allocate"));
        }
        self.write(|store| {
            let expires_ms = ttl_ms.map(|ttl_ms| expiry(store, ttl_ms)).transpose()?;
            let grant = Grant { owner, expires_ms };
            let mut targets: SmallVec<[Target; 2]> = SmallVec::new();
            // Named addresses go first, so that no request for any address takes one of them.
            for request in requests {
                let target = Target::of(store, request)?;
                grant.named(store, target)?;
                targets.push(target);
            }
            let mut addresses = SmallVec::new();
            for target in targets {
                addresses.push(grant.settle(store, target)?);
            }
            Ok(Granted { addresses, expires_ms })
        })
    }

    /// Frees an address. O(log n).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an address outside the pool's prefix; [`Error::NotFound`] for a pool, or if nobody holds the
    /// address; [`Error::NotOwner`] if somebody else does.
    pub fn release(&mut self, pool: &str, address: IpAddr, owner: &str) -> Result<()> {
        check_name(owner)?;
        self.write(|store| {
            let (pool, address) = owned(store, pool, address, owner)?;
            remove(store, pool, address)
        })
    }

    /// Frees everything an owner holds, in all pools, and tells what that was: pools in the order of their creation,
    /// addresses ascending. An unknown owner holds nothing. O(k log n) in what is freed.
    ///
    /// # Errors
    ///
    /// None but those of every call.
    pub fn release_owner(&mut self, owner: &str) -> Result<Vec<Released>> {
        check_name(owner)?;
        self.write(|store| {
            let held = store.list(Filter::Owner(owner))?;
            for (pool, allocation) in &held {
                remove(store, *pool, value(allocation.address))?;
            }
            Ok(held.into_iter().map(|(_, Allocation { pool, address, .. })| Released { pool, address }).collect())
        })
    }

    /// Makes an allocation end `ttl_ms` milliseconds from now, at least 1, and tells when that is. It may come
    /// earlier than before, and an allocation without end gets one. O(log n).
    ///
    /// # Errors
    ///
    /// As [`Allocator::release`], and [`Error::Invalid`] if the lease would end beyond [`MAX_MS`].
    pub fn renew(&mut self, pool: &str, address: IpAddr, owner: &str, ttl_ms: u64) -> Result<u64> {
        check_name(owner)?;
        self.write(|store| {
            let (pool, address) = owned(store, pool, address, owner)?;
            let expires_ms = expiry(store, ttl_ms)?;
            store.set_expiry(pool, address, expires_ms)?;
            Ok(expires_ms)
        })
    }

    /// Opens a transaction: until it is committed or rolled back, all calls belong to it and see its changes.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if one is open.
    pub fn begin(&mut self) -> Result<()> {
        if self.transaction != Transaction::None {
            return Err(Error::Invalid("a transaction is open already"));
        }
        self.store.begin(Access::Write)?;
        self.transaction = Transaction::Open;
        Ok(())
    }

    /// Makes the changes of the open transaction last. It is over afterwards, also if this fails.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if none is open; [`Error::Storage`] if an earlier failure already undid it.
    pub fn commit(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.transaction, Transaction::None) {
            Transaction::None => Err(NO_TRANSACTION),
            Transaction::Open => self.store.commit(),
            Transaction::Lost => {
                // The first failure has been reported; one of undoing would add nothing.
                let _ = self.store.rollback();
                Err(lost())
            }
        }
    }

    /// Undoes the changes of the open transaction. It is over afterwards: should this fail, the next call tries again
    /// before it does anything else.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if none is open.
    pub fn rollback(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.transaction, Transaction::None) {
            Transaction::None => Err(NO_TRANSACTION),
            Transaction::Open | Transaction::Lost => self.store.rollback(),
        }
    }

    /// The allocations of a pool, or of all pools by name; addresses ascending. O(n) in what it returns.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a pool.
    pub fn list(&mut self, pool: Option<&str>) -> Result<Vec<Allocation>> {
        self.read(|store| {
            let filter = match pool {
                Some(name) => Filter::Pool(find_pool(store, name)?.id),
                None => Filter::All,
            };
            Ok(store.list(filter)?.into_iter().map(|(_, allocation)| allocation).collect())
        })
    }

    /// How full a pool is. O(log n).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a pool.
    pub fn usage(&mut self, pool: &str) -> Result<Usage> {
        self.read(|store| {
            let pool = find_pool(store, pool)?;
            Ok(Usage { allocatable: pool.allocatable, allocated: pool.allocated.into() })
        })
    }

    /// The highest time the allocator was told, in milliseconds; 0 at first.
    ///
    /// # Errors
    ///
    /// None but those of every call.
    pub fn now_ms(&mut self) -> Result<u64> {
        self.read(S::now_ms)
    }

    /// Tells the time in milliseconds and frees every lease that is over by then: one is held while now < expires. A time
    /// that lies back is ignored. Returns the highest time so far, which the store keeps. O(k log n) in what expired.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] inside a transaction and beyond [`MAX_MS`].
    pub fn advance_to(&mut self, now_ms: u64) -> Result<u64> {
        if self.transaction != Transaction::None {
            return Err(Error::Invalid("time cannot pass inside a transaction"));
        }
        if now_ms > MAX_MS {
            return Err(TOO_LATE);
        }
        self.write(|store| {
            let before_ms = store.now_ms()?;
            if now_ms <= before_ms {
                return Ok(before_ms);
            }
            store.set_now_ms(now_ms)?;
            for (pool, allocation) in store.list(Filter::ExpiredAt(now_ms))? {
                remove(store, pool, value(allocation.address))?;
            }
            Ok(now_ms)
        })
    }

    /// Rolls back an open transaction, also if the rest fails, and returns to the empty state, at time 0.
    ///
    /// # Errors
    ///
    /// None but those of every call.
    pub fn reset(&mut self) -> Result<()> {
        self.transaction = Transaction::None;
        self.store.clear()
    }

    /// Runs a call that changes nothing.
    fn read<T>(&mut self, call: impl FnOnce(&mut S) -> Result<T>) -> Result<T> {
        match self.transaction {
            Transaction::None => {
                self.store.begin(Access::Read)?;
                let answer = call(&mut self.store);
                // There is nothing to undo, so a failure of ending it changes no answer.
                let _ = self.store.rollback();
                answer
            }
            Transaction::Open => {
                let answer = call(&mut self.store);
                self.notice_loss();
                answer
            }
            Transaction::Lost => Err(lost()),
        }
    }

    /// Runs a call all or nothing.
    fn write<T>(&mut self, call: impl FnOnce(&mut S) -> Result<T>) -> Result<T> {
        match self.transaction {
            Transaction::None => {
                self.store.begin(Access::Write)?;
                let answer = call(&mut self.store);
                if answer.is_ok() {
                    self.store.commit()?;
                } else {
                    // Should undoing fail as well, the first cause is what the caller needs. The store tries again at
                    // its next `begin`.
                    let _ = self.store.rollback();
                }
                answer
            }
            Transaction::Open => {
                let answer = self.write_marked(call);
                self.notice_loss();
                answer
            }
            Transaction::Lost => Err(lost()),
        }
    }

    /// Runs a call all or nothing inside the caller's transaction.
    fn write_marked<T>(&mut self, call: impl FnOnce(&mut S) -> Result<T>) -> Result<T> {
        self.store.mark()?;
        let answer = call(&mut self.store).and_then(|answer| self.store.keep().map(|()| answer));
        if answer.is_err() && self.store.undo().is_err() {
            // Half a call must not be committed.
            self.transaction = Transaction::Lost;
        }
        answer
    }

    /// Remembers that the store has given up the caller's transaction: later calls must not slip out of it.
    fn notice_loss(&mut self) {
        if !self.store.in_transaction() {
            self.transaction = Transaction::Lost;
        }
    }
}

const NO_TRANSACTION: Error = Error::Invalid("no transaction is open");
const TOO_LATE: Error = Error::Invalid("a time passes 2^53-1 milliseconds");

fn lost() -> Error {
    Error::storage("an earlier failure ended the transaction")
}

/// What all requests of a call are granted under.
struct Grant<'a> {
    owner: &'a str,
    expires_ms: Option<u64>,
}

impl Grant<'_> {
    /// Allocates the address that a target names, if it names one.
    fn named<S: Store>(&self, store: &mut S, target: Target) -> Result<()> {
        let Some(address) = target.address else {
            return Ok(());
        };
        if free::take(store, target.pool, address)? {
            return store.insert_allocation(target.pool, address, self.owner, self.expires_ms);
        }
        match store.holder(target.pool, address, self.owner)? {
            Holder::Nobody => Err(Error::Invalid("the address is not allocatable")),
            Holder::Owner | Holder::Other => Err(Error::Conflict("the address is taken")),
        }
    }

    /// The address for a target, allocated now unless it was named.
    fn settle<S: Store>(&self, store: &mut S, target: Target) -> Result<IpAddr> {
        let address = match target.address {
            Some(address) => address,
            None => {
                let address = free::take_lowest(store, target.pool)?.ok_or(Error::Exhausted)?;
                store.insert_allocation(target.pool, address, self.owner, self.expires_ms)?;
                address
            }
        };
        Ok(target.family.address(address))
    }
}

/// A request whose pool is known.
#[derive(Clone, Copy)]
struct Target {
    pool: PoolId,
    family: Family,
    address: Option<u128>,
}

impl Target {
    fn of<S: Store>(store: &mut S, request: &Request<'_>) -> Result<Self> {
        let pool = find_pool(store, request.pool)?;
        let address = request.address.map(|address| pool.prefix.locate(address)).transpose()?;
        Ok(Self { pool: pool.id, family: pool.prefix.family, address })
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.as_bytes().contains(&0) {
        return Err(Error::Invalid("a name must be 1 to 255 bytes without NUL"));
    }
    Ok(())
}

fn find_pool<S: Store>(store: &mut S, name: &str) -> Result<Pool> {
    check_name(name)?;
    store.find_pool(name)?.ok_or(Error::NotFound("there is no such pool"))
}

/// Where an address is kept, once it is certain that the owner holds it.
fn owned<S: Store>(store: &mut S, pool: &str, address: IpAddr, owner: &str) -> Result<(PoolId, u128)> {
    let pool = find_pool(store, pool)?;
    let address = pool.prefix.locate(address)?;
    match store.holder(pool.id, address, owner)? {
        Holder::Nobody => Err(Error::NotFound("nobody holds the address")),
        Holder::Other => Err(Error::NotOwner),
        Holder::Owner => Ok((pool.id, address)),
    }
}

/// Ends an allocation and makes its address free.
fn remove<S: Store>(store: &mut S, pool: PoolId, address: u128) -> Result<()> {
    store.remove_allocation(pool, address)?;
    free::give_back(store, pool, address)
}

/// When a lease that starts now ends.
fn expiry<S: Store>(store: &mut S, ttl_ms: u64) -> Result<u64> {
    if ttl_ms == 0 {
        return Err(Error::Invalid("a lease must last at least a millisecond"));
    }
    let expires_ms = store.now_ms()?.checked_add(ttl_ms).ok_or(TOO_LATE)?;
    if expires_ms > MAX_MS { Err(TOO_LATE) } else { Ok(expires_ms) }
}
