//! The store in an SQLite file, shared by any number of processes.
//!
//! Nothing is remembered between transactions, so no handle can act on what another has changed. Values reach SQL only as
//! bound parameters of constant statements. Addresses are 16 bytes in network order, which sort as the addresses do.
//! Writing transactions take the write lock before they read; a write-ahead log lets readers go on meanwhile.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Params, Row, params};

use crate::address::Family;
use crate::error::{Error, Result};
use crate::pool::Prefix;
use crate::span::Span;
use crate::store::{Access, Allocation, Filter, Holder, Pool, PoolId, Store};

/// Marks a file as ours in its header: the bytes of "PoPr".
const APPLICATION_ID: i64 = 0x506F_5072;

/// The version of the tables, in the file's header. A file with a higher one is refused.
const SCHEMA_VERSION: i64 = 1;

/// SQLite counts the milliseconds it waits in 31 bits. Longer than this day is no different.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

const SCHEMA: &str = include_str!("schema.sql");

/// How an SQLite file is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqliteOptions {
    /// What an acknowledged change survives.
    pub synchronous: Synchronous,
    /// How long a call waits for others that hold the file before it is [`Error::Busy`].
    pub busy_timeout: Duration,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { synchronous: Synchronous::Full, busy_timeout: Duration::from_secs(2) }
    }
}

/// What an acknowledged change survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    /// A crash of the machine: every commit waits for the disk.
    Full,
    /// A crash of the process. One of the machine may undo the last commits, but not break the file.
    Normal,
}

/// Keeps the state of an [`SqliteAllocator`](crate::SqliteAllocator).
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
}

impl SqliteStore {
    /// Opens or creates a file. It is left as it was if it is not one of ours.
    pub(crate) fn open(path: &Path, options: SqliteOptions) -> Result<Self> {
        // Without SQLITE_OPEN_URI a path is a path, whatever it looks like.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failure)?;
        connection.busy_timeout(options.busy_timeout.min(LONGEST_WAIT)).map_err(failure)?;
        connection.set_prepared_statement_cache_capacity(64);
        let mut store = Self { connection };
        store.within(Access::Read, |store| store.is_new())?;
        store.use_write_ahead_log(options.busy_timeout)?;
        store.run(
            match options.synchronous {
                Synchronous::Full => "PRAGMA synchronous = FULL",
                Synchronous::Normal => "PRAGMA synchronous = NORMAL",
            },
            [],
        )?;
        // Somebody else may have created the tables since the first look.
        store.within(Access::Write, |store| match store.is_new()? {
            true => store.connection.execute_batch(SCHEMA).map_err(failure),
            false => Ok(()),
        })?;
        Ok(store)
    }

    /// Whether the file is still empty.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for a file that this version must not touch.
    fn is_new(&self) -> Result<bool> {
        let number = |sql| self.row(sql, [], |row| row.get::<_, i64>(0)).map(|value| value.unwrap_or(0));
        let application = number("PRAGMA application_id")?;
        let version = number("PRAGMA user_version")?;
        if application == 0 && version == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0 {
            return Ok(true);
        }
        match (application, version) {
            (APPLICATION_ID, SCHEMA_VERSION) => Ok(false),
            (APPLICATION_ID, newer) if newer > SCHEMA_VERSION => {
                Err(Error::Unsupported("the file was written by a newer version"))
            }
            _ => Err(Error::Unsupported("the file belongs to something else")),
        }
    }

    /// Turns on the write-ahead log. SQLite does not wait for locks in every part of that, so this does.
    fn use_write_ahead_log(&self, patience: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            match self.row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)) {
                Ok(Some(mode)) if mode == "wal" => return Ok(()),
                Ok(_) => return Err(Error::Unsupported("the file cannot have a write-ahead log")),
                Err(Error::Busy(_)) if start.elapsed() < patience => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(error),
            }
        }
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

    /// Runs a statement that returns nothing.
    fn run(&self, sql: &'static str, params: impl Params) -> Result<()> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failure)?;
        statement.execute(params).map(|_| ()).map_err(failure)
    }

    /// Runs a query for at most one row.
    fn row<T>(
        &self,
        sql: &'static str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failure)?;
        statement.query_row(params, read).optional().map_err(failure)
    }

    /// Runs a query for allocations.
    fn allocations(&self, sql: &'static str, params: impl Params) -> Result<Vec<(PoolId, Allocation)>> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failure)?;
        let rows = statement.query_map(params, allocation).map_err(failure)?;
        rows.collect::<rusqlite::Result<_>>().map_err(failure)
    }
}

/// The columns that [`allocation`] reads, from allocations joined with their pools, and which of them in which order.
macro_rules! allocations {
    ($rest:literal) => {
        concat!(
            "SELECT pool.id, pool.name, pool.family, allocation.address, allocation.owner, allocation.expires_ms \
             FROM allocation JOIN pool ON pool.id = allocation.pool ",
            $rest
        )
    };
}

const LIST_ALL: &str = allocations!("ORDER BY pool.name, allocation.address");
const LIST_POOL: &str = allocations!("WHERE allocation.pool = ?1 ORDER BY allocation.address");
const LIST_OWNER: &str = allocations!("WHERE allocation.owner = ?1 ORDER BY allocation.pool, allocation.address");
const LIST_EXPIRED: &str = allocations!("WHERE allocation.expires_ms <= ?1 ORDER BY allocation.expires_ms");
const FREE_FROM: &str = "SELECT first, last FROM free WHERE pool = ?1 AND last >= ?2 ORDER BY last LIMIT 1";
const PREFIX_UP_TO: &str = "SELECT first, last FROM pool WHERE family = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1";

fn allocation(row: &Row<'_>) -> rusqlite::Result<(PoolId, Allocation)> {
    let address = row.get::<_, Key>(3)?.value();
    let allocation = Allocation {
        pool: row.get(1)?,
        address: row.get::<_, Family>(2)?.address(address),
        owner: row.get(4)?,
        expires_ms: row.get::<_, Option<Whole>>(5)?.map(|Whole(expires_ms)| expires_ms),
    };
    Ok((PoolId(row.get(0)?), allocation))
}

/// Two neighbouring columns, the first and the last address.
fn span(row: &Row<'_>, column: usize) -> rusqlite::Result<Span> {
    let first = row.get::<_, Key>(column)?;
    let last = row.get::<_, Key>(column.saturating_add(1))?;
    Span::new(first.value(), last.value()).ok_or_else(|| rusqlite::Error::from(FromSqlError::OutOfRange(0)))
}

/// A failure of SQLite before the end of a transaction, which undoes what it did.
fn failure(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy(Box::new(error)),
        _ => Error::Storage(Box::new(error)),
    }
}

/// An address, or a number of them, as SQLite keeps it: 16 bytes in network order.
struct Key([u8; 16]);

const fn key(value: u128) -> Key {
    Key(value.to_be_bytes())
}

impl Key {
    const fn value(self) -> u128 {
        u128::from_be_bytes(self.0)
    }
}

impl ToSql for Key {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0)))
    }
}

impl FromSql for Key {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 16]>::column_result(value).map(Self)
    }
}

/// A time or a number of allocations: whole, and far below 2^63.
struct Whole(u64);

impl ToSql for Whole {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = i64::try_from(self.0).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(ToSqlOutput::from(value))
    }
}

impl FromSql for Whole {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let value = i64::column_result(value)?;
        u64::try_from(value).map(Self).map_err(|_| FromSqlError::OutOfRange(value))
    }
}

impl ToSql for Family {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(match self {
            Self::Ipv4 => 4_i64,
            Self::Ipv6 => 6,
        }))
    }
}

impl FromSql for Family {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match i64::column_result(value)? {
            4 => Ok(Self::Ipv4),
            6 => Ok(Self::Ipv6),
            other => Err(FromSqlError::OutOfRange(other)),
        }
    }
}

impl Store for SqliteStore {
    fn begin(&mut self, access: Access) -> Result<()> {
        // Left over only if undoing an earlier call failed.
        if self.in_transaction() {
            self.rollback()?;
        }
        match access {
            Access::Read => self.run("BEGIN DEFERRED", []),
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
            // The log may already hold the whole transaction, and the next recovery would take it up.
            Error::Storage(cause) => Err(Error::UnknownOutcome(cause)),
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
            // Without a condition SQLite drops a table's pages instead of visiting its rows.
            store.run("DELETE FROM allocation", [])?;
            store.run("DELETE FROM free", [])?;
            store.run("DELETE FROM pool", [])?;
            store.run("UPDATE clock SET now_ms = 0 WHERE now_ms <> 0", [])
        })
    }

    fn now_ms(&mut self) -> Result<u64> {
        let now = self.row("SELECT now_ms FROM clock", [], |row| row.get(0))?;
        now.map(|Whole(now_ms)| now_ms).ok_or_else(|| Error::storage("the clock has no row"))
    }

    fn set_now_ms(&mut self, now_ms: u64) -> Result<()> {
        self.run("UPDATE clock SET now_ms = ?1", [Whole(now_ms)])
    }

    fn find_pool(&mut self, name: &str) -> Result<Option<Pool>> {
        let sql = "SELECT id, family, first, last, allocatable, allocated FROM pool WHERE name = ?1";
        self.row(sql, [name], |row| {
            let (allocatable, Whole(allocated)) = (row.get::<_, Key>(4)?.value(), row.get(5)?);
            let prefix = Prefix { family: row.get(1)?, span: span(row, 2)? };
            Ok(Pool { id: PoolId(row.get(0)?), prefix, allocatable, allocated })
        })
    }

    fn prefix_up_to(&mut self, family: Family, address: u128) -> Result<Option<Span>> {
        self.row(PREFIX_UP_TO, params![family, key(address)], |row| span(row, 0))
    }

    fn insert_pool(&mut self, name: &str, Prefix { family, span }: Prefix) -> Result<PoolId> {
        let sql = "INSERT INTO pool (name, family, first, last, allocatable, allocated) VALUES (?1, ?2, ?3, ?4, ?5, 0)";
        self.run(sql, params![name, family, key(span.first()), key(span.last()), key(0)])?;
        Ok(PoolId(self.connection.last_insert_rowid()))
    }

    fn remove_pool(&mut self, pool: PoolId) -> Result<()> {
        self.run("DELETE FROM free WHERE pool = ?1", [pool.0])?;
        self.run("DELETE FROM pool WHERE id = ?1", [pool.0])
    }

    fn reshape_pool(&mut self, pool: PoolId, allocatable: u128, free: &[Span]) -> Result<()> {
        self.run("UPDATE pool SET allocatable = ?2 WHERE id = ?1", params![pool.0, key(allocatable)])?;
        self.run("DELETE FROM free WHERE pool = ?1", [pool.0])?;
        free.iter().try_for_each(|span| self.put_free(pool, *span))
    }

    fn free_from(&mut self, pool: PoolId, address: u128) -> Result<Option<Span>> {
        self.row(FREE_FROM, params![pool.0, key(address)], |row| span(row, 0))
    }

    fn put_free(&mut self, pool: PoolId, span: Span) -> Result<()> {
        let sql = "INSERT INTO free (pool, last, first) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (pool, last) DO UPDATE SET first = excluded.first";
        self.run(sql, params![pool.0, key(span.last()), key(span.first())])
    }

    fn remove_free(&mut self, pool: PoolId, last: u128) -> Result<()> {
        self.run("DELETE FROM free WHERE pool = ?1 AND last = ?2", params![pool.0, key(last)])
    }

    fn holder(&mut self, pool: PoolId, address: u128, owner: &str) -> Result<Holder> {
        let sql = "SELECT owner = ?3 FROM allocation WHERE pool = ?1 AND address = ?2";
        let mine = self.row(sql, params![pool.0, key(address), owner], |row| row.get(0))?;
        Ok(match mine {
            None => Holder::Nobody,
            Some(true) => Holder::Owner,
            Some(false) => Holder::Other,
        })
    }

    fn insert_allocation(&mut self, pool: PoolId, address: u128, owner: &str, expires_ms: Option<u64>) -> Result<()> {
        let sql = "INSERT INTO allocation (pool, address, owner, expires_ms) VALUES (?1, ?2, ?3, ?4)";
        self.run(sql, params![pool.0, key(address), owner, expires_ms.map(Whole)])?;
        self.run("UPDATE pool SET allocated = allocated + 1 WHERE id = ?1", [pool.0])
    }

    fn set_expiry(&mut self, pool: PoolId, address: u128, expires_ms: u64) -> Result<()> {
        let sql = "UPDATE allocation SET expires_ms = ?3 WHERE pool = ?1 AND address = ?2";
        self.run(sql, params![pool.0, key(address), Whole(expires_ms)])
    }

    fn remove_allocation(&mut self, pool: PoolId, address: u128) -> Result<()> {
        self.run("DELETE FROM allocation WHERE pool = ?1 AND address = ?2", params![pool.0, key(address)])?;
        self.run("UPDATE pool SET allocated = allocated - 1 WHERE id = ?1", [pool.0])
    }

    fn list(&mut self, filter: Filter<'_>) -> Result<Vec<(PoolId, Allocation)>> {
        match filter {
            Filter::All => self.allocations(LIST_ALL, []),
            Filter::Pool(pool) => self.allocations(LIST_POOL, [pool.0]),
            Filter::Owner(owner) => self.allocations(LIST_OWNER, [owner]),
            Filter::ExpiredAt(now_ms) => self.allocations(LIST_EXPIRED, [Whole(now_ms)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_addresses_do() {
        let addresses = [0, 1, 0xff, 0x100, 1 << 64, u128::MAX - 1, u128::MAX];
        assert!(addresses.is_sorted_by_key(|address| key(*address).0));
        assert!(addresses.into_iter().all(|address| key(address).value() == address));
    }

    #[test]
    fn every_look_up_is_served_by_an_index() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        for sql in [LIST_ALL, LIST_POOL, LIST_OWNER, LIST_EXPIRED, FREE_FROM, PREFIX_UP_TO] {
            // A plan needs no values: parameters that are not bound are NULL.
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next().unwrap() {
                let step: String = row.get(3).unwrap();
                assert!(step.contains("USING") && !step.contains("TEMP"), "{sql}: {step}");
            }
        }
    }
}
