//! The rules of allocation, written once over any [`Store`]; here is what holds every call together.
//!
//! Every call is one transaction of the store, or a marked part of the one the caller opened, so a call that is refused or
//! fails leaves everything as it was. All stored leases are live: the clock moves only in
//! [`advance_to`](Allocator::advance_to), which ends what is over in the same transaction.
//!
//! The calls themselves are in `pools`, `allocate`, `release` and `look_up`; `again` is what an owner is granted once more.

mod again;
mod allocate;
mod batch;
mod look_up;
mod pools;
mod release;

use std::path::Path;

use rand::rngs::StdRng;

pub use allocate::{Grant, Granted, Request, Want};
pub use look_up::{Cursor, Page};
pub use pools::PoolInfo;
pub use release::{Release, Released};

use crate::audit::Difference;
use crate::error::{Error, Result};
use crate::memory::MemoryStore;
use crate::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{Access, Pool, Store};

/// The latest time, in milliseconds: 2^53 - 1, the largest whole number that every JSON reader keeps exact.
pub const MAX_MS: u64 = (1 << 53) - 1;

/// The longest name of an owner, a pool or an address space, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// An allocator whose state lives as long as it does.
pub type MemoryAllocator = Allocator<MemoryStore>;

/// An allocator whose state lives in an SQLite file.
pub type SqliteAllocator = Allocator<SqliteStore>;

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

/// A point of a transaction to go back to. Savepoints nest: going back to one, or forgetting it, forgets those set after it.
///
/// Its number tells it from every other savepoint of its allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Savepoint(u64);

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
    /// Is the open transaction one of several callers, of whom none may end it?
    is_batch: bool,
    /// Those of the open transaction, in their order, which is that of their numbers.
    savepoints: Vec<Savepoint>,
    /// The last one that ever was.
    last_savepoint: Savepoint,
    /// Seeded when it is first needed.
    random: Option<Box<StdRng>>,
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
    /// [`Error::Unsupported`] for a file of a newer version, a database of something else, a file that cannot have a
    /// write-ahead log, or one of an older version that shall only be read; [`Error::Storage`] if it cannot be read or
    /// written; [`Error::Busy`].
    pub fn open_with(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self> {
        SqliteStore::open(path.as_ref(), options).map(Self::with_store)
    }

    /// What SQLite's own check of the whole file finds, a line each; none in a sound file. O(n) in its size.
    ///
    /// # Errors
    ///
    /// None but those of every call.
    pub fn integrity_check(&mut self) -> Result<Vec<String>> {
        self.read(SqliteStore::integrity_check)
    }
}

impl<S: Store> Allocator<S> {
    /// An allocator over any store.
    pub const fn with_store(store: S) -> Self {
        Self {
            store,
            transaction: Transaction::None,
            is_batch: false,
            savepoints: Vec::new(),
            last_savepoint: Savepoint(0),
            random: None,
        }
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
        self.savepoints.clear();
        self.transaction = Transaction::Open;
        Ok(())
    }

    /// Makes the changes of the open transaction last. It is over afterwards, also if this fails.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if none is open; [`Error::Storage`] if an earlier failure already undid it.
    pub fn commit(&mut self) -> Result<()> {
        self.check_own()?;
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
        self.check_own()?;
        match std::mem::replace(&mut self.transaction, Transaction::None) {
            Transaction::None => Err(NO_TRANSACTION),
            Transaction::Open | Transaction::Lost => self.store.rollback(),
        }
    }

    /// Marks a point of the open transaction to go back to.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if no transaction is open; [`Error::Storage`] if an earlier failure undid it.
    pub fn savepoint(&mut self) -> Result<Savepoint> {
        self.check_open()?;
        let marked = self.store.mark();
        self.notice_loss();
        marked?;
        self.last_savepoint = Savepoint(self.last_savepoint.0.saturating_add(1));
        self.savepoints.push(self.last_savepoint);
        Ok(self.last_savepoint)
    }

    /// Undoes what was changed since a savepoint. It can be gone back to again; those set after it are forgotten.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a savepoint that is forgotten or of another transaction.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        self.end_savepoints(savepoint, S::undo)?;
        self.store.mark().inspect_err(|_| self.transaction = Transaction::Lost)?;
        self.savepoints.push(savepoint);
        Ok(())
    }

    /// Forgets a savepoint and those set after it, and keeps what was changed since.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a savepoint that is forgotten or of another transaction.
    pub fn release_savepoint(&mut self, savepoint: Savepoint) -> Result<()> {
        self.end_savepoints(savepoint, S::keep)
    }

    /// Ends a savepoint, and those set after it first.
    fn end_savepoints(&mut self, savepoint: Savepoint, end: fn(&mut S) -> Result<()>) -> Result<()> {
        self.check_open()?;
        let found = self.savepoints.binary_search_by_key(&savepoint.0, |one| one.0);
        let depth = found.map_err(|_| Error::Invalid("there is no such savepoint"))?;
        for _ in self.savepoints.drain(depth..) {
            // After a failure it is not known which of them are left.
            end(&mut self.store).inspect_err(|_| self.transaction = Transaction::Lost)?;
        }
        Ok(())
    }

    /// What ends the transaction is not for one of many to do.
    fn check_own(&self) -> Result<()> {
        if self.is_batch { Err(Error::Invalid("the transaction is not this caller's")) } else { Ok(()) }
    }

    fn check_open(&self) -> Result<()> {
        match self.transaction {
            Transaction::None => Err(NO_TRANSACTION),
            Transaction::Open => Ok(()),
            Transaction::Lost => Err(lost()),
        }
    }

    /// The highest time the allocator was told, in milliseconds; 0 at first.
    ///
    /// # Errors
    ///
    /// None but those of every call.
    pub fn now_ms(&mut self) -> Result<u64> {
        self.read(S::now_ms)
    }

    /// Tells the time in milliseconds, and ends every lease and quarantine that is over by then: one lasts while now <
    /// its end. A time that lies back is ignored. Returns the highest time so far, which the store keeps. O(k log n) in
    /// what is over.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] inside a transaction and beyond [`MAX_MS`].
    pub fn advance_to(&mut self, now_ms: u64) -> Result<u64> {
        self.advance(|_| now_ms)
    }

    /// Tells that so many milliseconds have passed since the highest time so far, in one step with looking at it: what several
    /// callers tell at once adds up. Otherwise as [`advance_to`](Allocator::advance_to).
    ///
    /// # Errors
    ///
    /// As [`advance_to`](Allocator::advance_to).
    pub fn advance_by(&mut self, ms: u64) -> Result<u64> {
        self.advance(|before_ms| before_ms.saturating_add(ms))
    }

    /// Goes on from the highest time so far to another.
    fn advance(&mut self, to: impl FnOnce(u64) -> u64) -> Result<u64> {
        if self.transaction != Transaction::None && !self.is_batch {
            return Err(Error::Invalid("time cannot pass inside a transaction"));
        }
        self.write(|store| {
            let before_ms = store.now_ms()?;
            let now_ms = to(before_ms);
            if now_ms > MAX_MS {
                return Err(TOO_LATE);
            }
            if now_ms <= before_ms {
                return Ok(before_ms);
            }
            store.set_now_ms(now_ms)?;
            release::end_what_is_over(store, now_ms)?;
            Ok(now_ms)
        })
    }

    /// Rolls back an open transaction, also if the rest fails, and returns to the empty state, at time 0.
    ///
    /// # Errors
    ///
    /// None but those of every call.
    pub fn reset(&mut self) -> Result<()> {
        self.check_own()?;
        self.transaction = Transaction::None;
        self.store.clear()
    }

    /// Works out every index and count anew from the allocations, and names each difference from what is kept; none in a
    /// sound state. O(n log n) in all that is stored.
    ///
    /// # Errors
    ///
    /// None but those of every call.
    pub fn audit(&mut self) -> Result<Vec<Difference>> {
        self.read(S::audit)
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
        let Err(cause) = answer else { return answer };
        let Err(failure) = self.store.undo() else { return Err(cause) };
        // Half a call must not be committed.
        self.transaction = Transaction::Lost;
        // Of two failures the first is the one to report. It is no mere refusal any more.
        Err(if cause.is_failure() { cause } else { failure })
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

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.as_bytes().contains(&0) {
        return Err(Error::Invalid("a name must be 1 to 255 bytes without NUL"));
    }
    Ok(())
}

fn find_pool<S: Store>(store: &mut S, name: &str) -> Result<Pool> {
    match store.find_pool(name) {
        Ok(Some(pool)) => Ok(pool),
        // No pool has a name that is none.
        Ok(None) => check_name(name).and(Err(Error::NotFound("there is no such pool"))),
        Err(error) => Err(error),
    }
}

/// When a lease that starts now ends.
fn end_of_lease<S: Store>(store: &mut S, ttl_ms: u64) -> Result<u64> {
    if ttl_ms == 0 {
        return Err(Error::Invalid("a lease must last at least a millisecond"));
    }
    let end_ms = store.now_ms()?.checked_add(ttl_ms).ok_or(TOO_LATE)?;
    if end_ms > MAX_MS { Err(TOO_LATE) } else { Ok(end_ms) }
}
