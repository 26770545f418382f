//! The store in an SQLite file, shared by any number of processes.
//!
//! Nothing is remembered between transactions, so no handle can act on what another has changed. Values reach SQL only as
//! bound parameters of constant statements. Writing transactions take the write lock before they read; a write-ahead log
//! lets readers go on meanwhile.
//!
//! Updates are `OR FAIL`, and none has a `RETURNING`: SQLite would keep what each of them replaces, to undo it alone, but what
//! fails here is undone with all of its call.
//!
//! Here is what every file below shares: statements, transactions, and the way from the trait to the rest.
//!
//! | module | holds |
//! |---|---|
//! | `open` | options, and how a file is opened and checked |
//! | `migrate` | how a file of an older version is brought up |
//! | `values` | how values lie in the tables |
//! | `pools` | pools and their shape |
//! | `free` | free space |
//! | `tally` | choice at random |
//! | `held` | allocations and quarantine |
//! | `audit` | the consistency check |

mod audit;
mod free;
mod held;
mod migrate;
mod open;
mod pools;
mod tally;
#[cfg(test)]
mod tests;
mod values;

use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, Params, Row};

pub use open::{SqliteOptions, Synchronous};

use crate::address::Family;
use crate::audit::Difference;
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::pool::Prefix;
use crate::resource::Extent;
use crate::span::Span;
use crate::store::{Access, Allocation, Filter, Holder, Obstacle, Over, Place, Pool, PoolId, Store, Tenure, Usage};
use free::Free;
use values::Whole;

/// Keeps the state of an [`SqliteAllocator`](crate::SqliteAllocator).
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    is_read_only: bool,
    /// Has a commit failed that the log may hold all the same? See [`settle`](SqliteStore::settle).
    is_in_doubt: bool,
    /// The free span that was found last, until the next statement that may change something.
    seen: Option<(PoolId, Free)>,
}

/// Statements.
impl SqliteStore {
    /// Runs a statement that returns nothing, and tells how many rows it changed.
    fn change(&mut self, sql: &'static str, params: impl Params) -> Result<usize> {
        self.seen = None;
        let mut statement = self.connection.prepare_cached(sql).map_err(failure)?;
        statement.execute(params).map_err(failure)
    }

    /// Runs a statement that returns nothing.
    fn run(&mut self, sql: &'static str, params: impl Params) -> Result<()> {
        self.change(sql, params).map(|_| ())
    }

    /// Runs a statement that must find the row it is about.
    fn run_one(&mut self, sql: &'static str, params: impl Params) -> Result<()> {
        match self.change(sql, params)? {
            1 => Ok(()),
            _ => Err(Error::storage("a row is missing")),
        }
    }

    /// Runs a query for at most one row.
    fn row<T>(
        &self,
        sql: &'static str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        self.first(sql, params, |row| read(row).map(Some))
    }

    /// Runs a query until a row has an answer.
    fn first<T>(
        &self,
        sql: &'static str,
        params: impl Params,
        mut pick: impl FnMut(&Row<'_>) -> rusqlite::Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failure)?;
        let mut rows = statement.query(params).map_err(failure)?;
        while let Some(row) = rows.next().map_err(failure)? {
            let picked = pick(row).map_err(failure)?;
            if picked.is_some() {
                return Ok(picked);
            }
        }
        Ok(None)
    }

    /// Runs a query for any number of rows.
    fn rows<T>(
        &self,
        sql: &'static str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failure)?;
        let rows = statement.query_map(params, read).map_err(failure)?;
        rows.collect::<rusqlite::Result<_>>().map_err(failure)
    }

    /// Makes sure that a commit that failed has not happened.
    ///
    /// The log may hold all of it, while nobody is shown it: the next recovery would take it up, after others saw that it was
    /// not there. Whatever is written next takes its place in the log. An `UPDATE` that changes nothing would write nothing, so
    /// later pools count their allocations from one more.
    fn settle(&mut self) -> Result<()> {
        self.run("BEGIN IMMEDIATE", [])?;
        let written =
            self.run("UPDATE state SET generation = generation + 1", []).and_then(|()| self.run("COMMIT", []));
        match written {
            Ok(()) => self.is_in_doubt = false,
            // The first cause is the one to report; `begin` tries again to undo.
            Err(_) => drop(self.rollback()),
        }
        written
    }

    /// Runs a transaction of the store's own.
    fn within<T>(&mut self, access: Access, call: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.begin(access)?;
        let answer = call(self);
        if answer.is_ok() {
            self.commit()?;
        } else {
            // The first cause is the one to report; `begin` tries again to undo.
            let _ = self.rollback();
        }
        answer
    }
}

/// A failure of SQLite before the end of a transaction, which undoes what it did.
fn failure(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        // The last is how a write-ahead log says that others kept a lock for too long.
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            Error::Busy(Box::new(error))
        }
        _ => Error::Storage(Box::new(error)),
    }
}

/// How to look into a table, and how to empty it: without a condition SQLite drops its pages instead of visiting its rows.
const CLEAR: [(&str, &str); 6] = [
    ("SELECT 1 FROM allocation LIMIT 1", "DELETE FROM allocation"),
    ("SELECT 1 FROM quarantine LIMIT 1", "DELETE FROM quarantine"),
    ("SELECT 1 FROM tally LIMIT 1", "DELETE FROM tally"),
    ("SELECT 1 FROM free LIMIT 1", "DELETE FROM free"),
    ("SELECT 1 FROM allocatable LIMIT 1", "DELETE FROM allocatable"),
    ("SELECT 1 FROM pool LIMIT 1", "DELETE FROM pool"),
];

impl Store for SqliteStore {
    fn begin(&mut self, access: Access) -> Result<()> {
        // Left over only if undoing an earlier call failed.
        if self.in_transaction() {
            self.rollback()?;
        }
        if self.is_in_doubt {
            self.settle()?;
        }
        match access {
            Access::Read => self.run("BEGIN DEFERRED", []),
            Access::Write if self.is_read_only => Err(Error::Unsupported("the file was opened for reading only")),
            Access::Write => self.run("BEGIN IMMEDIATE", []),
        }
    }

    fn commit(&mut self) -> Result<()> {
        let Err(error) = self.run("COMMIT", []) else {
            return Ok(());
        };
        // The first cause is the one to report; `begin` tries again to undo.
        let _ = self.rollback();
        match error {
            Error::Storage(cause) if self.is_read_only => Err(Error::Storage(cause)),
            Error::Storage(cause) => {
                self.is_in_doubt = true;
                match self.settle() {
                    Ok(()) => Err(Error::Storage(cause)),
                    Err(_) => Err(Error::UnknownOutcome(cause)),
                }
            }
            before_writing => Err(before_writing),
        }
    }

    fn rollback(&mut self) -> Result<()> {
        // SQLite ends a transaction by itself after some failures.
        if self.in_transaction() { self.run("ROLLBACK", []) } else { Ok(()) }
    }

    fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    fn mark(&mut self) -> Result<()> {
        self.run("SAVEPOINT mark", [])
    }

    fn keep(&mut self) -> Result<()> {
        self.run("RELEASE mark", [])
    }

    fn undo(&mut self) -> Result<()> {
        self.run("ROLLBACK TO mark", [])?;
        self.run("RELEASE mark", [])
    }

    fn clear(&mut self) -> Result<()> {
        self.within(Access::Write, |store| {
            for (any, delete) in CLEAR {
                // What is empty stays unwritten.
                if store.row(any, [], |_| Ok(()))?.is_some() {
                    store.run(delete, [])?;
                }
            }
            store.run("UPDATE state SET now_ms = 0, generation = 0 WHERE now_ms > 0 OR generation > 0", [])
        })
    }

    fn now_ms(&mut self) -> Result<u64> {
        let now = self.row("SELECT now_ms FROM state", [], |row| row.get(0))?;
        now.map(|Whole(now_ms)| now_ms).ok_or_else(|| Error::storage("the clock is missing"))
    }

    fn set_now_ms(&mut self, now_ms: u64) -> Result<()> {
        self.run_one("UPDATE state SET now_ms = ?1", [Whole(now_ms)])
    }

    fn find_pool(&mut self, name: &str) -> Result<Option<Pool>> {
        self.pool_named(name)
    }

    fn pools(&mut self) -> Result<Vec<(Arc<str>, PoolId)>> {
        self.all_pools()
    }

    fn prefix_up_to(&mut self, space: &str, family: Family, address: u128) -> Result<Option<Span>> {
        self.last_prefix_up_to(space, family, address)
    }

    fn insert_pool(&mut self, name: &str, space: &str, prefix: Prefix) -> Result<PoolId> {
        self.add_pool(name, space, prefix)
    }

    fn remove_pool(&mut self, pool: PoolId) -> Result<()> {
        self.drop_pool(pool)
    }

    fn shape_pool(&mut self, pool: PoolId, policy: Policy, allocatable: &[Span]) -> Result<()> {
        self.reshape(pool, policy, allocatable)
    }

    fn allocatable(&mut self, pool: PoolId) -> Result<Vec<Span>> {
        self.allocatable_of(pool)
    }

    fn cursor(&mut self, pool: PoolId) -> Result<u128> {
        self.cursor_of(pool)
    }

    fn policy(&mut self, pool: PoolId) -> Result<Policy> {
        self.policy_of(pool)
    }

    fn usage(&mut self, pool: PoolId) -> Result<Usage> {
        self.usage_of(pool)
    }

    fn free_from(&mut self, pool: PoolId, address: u128) -> Result<Option<u128>> {
        let found = self.free_span_from(pool, address)?;
        Ok(found.map(|free| free.span.first().max(address)))
    }

    fn nth_free(&mut self, pool: PoolId, n: u128) -> Result<Option<u128>> {
        self.free_by_number(pool, n)
    }

    fn free_block(&mut self, pool: PoolId, host_bits: u8, address: u128) -> Result<Option<u128>> {
        self.lowest_free_block(pool, host_bits, address)
    }

    fn obstacle(&mut self, pool: PoolId, extent: Extent) -> Result<Obstacle> {
        self.obstacle_to(pool, extent)
    }

    fn hold(
        &mut self,
        pool: PoolId,
        extent: Extent,
        owner: &str,
        expires_ms: Option<u64>,
        cursor: Option<u128>,
    ) -> Result<u64> {
        self.begin_holding(pool, extent, owner, expires_ms, cursor)
    }

    fn set_expiry(&mut self, pool: PoolId, extent: Extent, expires_ms: Option<u64>) -> Result<()> {
        self.expire_at(pool, extent, expires_ms)
    }

    fn end(&mut self, pool: PoolId, extent: Extent, quarantine_until_ms: Option<u64>) -> Result<()> {
        self.end_holding(pool, extent, quarantine_until_ms)
    }

    fn end_quarantine(&mut self, pool: PoolId, extent: Extent) -> Result<()> {
        self.leave_quarantine(pool, extent)
    }

    fn holder(&mut self, pool: PoolId, extent: Extent, owner: &str) -> Result<Holder> {
        self.holder_of(pool, extent, owner)
    }

    fn held_from(&mut self, pool: PoolId, owner: &str, from: Extent) -> Result<Option<Tenure>> {
        self.first_held_from(pool, owner, from)
    }

    fn find(&mut self, pool: PoolId, address: u128) -> Result<Option<Allocation>> {
        self.find_around(pool, address)
    }

    fn list(&mut self, filter: Filter<'_>) -> Result<Vec<(Place, Allocation)>> {
        self.filtered(filter)
    }

    fn over(&mut self, now_ms: u64) -> Result<Vec<Over>> {
        self.over_by(now_ms)
    }

    fn audit(&mut self) -> Result<Vec<Difference>> {
        self.differences()
    }
}
