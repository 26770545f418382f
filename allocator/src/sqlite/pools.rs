//! Pools: their rows, and what follows when their shape changes.

use std::sync::Arc;

use rusqlite::params;

use super::SqliteStore;
use super::values::{Whole, extent, key, number, policy, span};
use crate::address::Family;
use crate::error::{Error, Result};
use crate::policy::{Policy, Strategy};
use crate::pool::Prefix;
use crate::resource::Extent;
use crate::span::{Span, Spans, merge, subtract, total};
use crate::store::{Pool, PoolId, Usage};

const FIND: &str =
    "SELECT id, family, first, last, strategy, repeat, quarantine_ms, generation FROM pool WHERE name = ?1";
const UP_TO: &str =
    "SELECT first, last FROM pool WHERE space = ?1 AND family = ?2 AND first <= ?3 ORDER BY first DESC LIMIT 1";
const ALLOCATABLE: &str = "SELECT first, last FROM allocatable WHERE pool = ?1 ORDER BY first";
const HELD: &str = "SELECT first, host_bits FROM allocation WHERE pool = ?1 ORDER BY first";
const QUARANTINED: &str = "SELECT first, host_bits FROM quarantine WHERE pool = ?1 ORDER BY first";

#[cfg(test)]
pub(super) const LOOK_UPS: [(&str, &str); 5] = [
    (FIND, "INDEX sqlite_autoindex_pool_1 (name=?)"),
    (UP_TO, "INDEX sqlite_autoindex_pool_2 (space=? AND family=? AND first<?)"),
    (ALLOCATABLE, "PRIMARY KEY (pool=?)"),
    (HELD, "PRIMARY KEY (pool=?)"),
    (QUARANTINED, "PRIMARY KEY (pool=?)"),
];

impl SqliteStore {
    pub(super) fn pool_named(&self, name: &str) -> Result<Option<Pool>> {
        self.row(FIND, [name], |row| {
            let (prefix, Whole(generation)) = (Prefix { family: row.get(1)?, span: span(row, 2)? }, row.get(7)?);
            Ok(Pool { id: PoolId(row.get(0)?), prefix, policy: policy(row, 4)?, generation })
        })
    }

    pub(super) fn all_pools(&self) -> Result<Vec<(Arc<str>, PoolId)>> {
        self.rows("SELECT name, id FROM pool ORDER BY id", [], |row| Ok((row.get(0)?, PoolId(row.get(1)?))))
    }

    pub(super) fn last_prefix_up_to(&self, space: &str, family: Family, address: u128) -> Result<Option<Span>> {
        self.row(UP_TO, params![space, family, key(address)], |row| span(row, 0))
    }

    pub(super) fn add_pool(&mut self, name: &str, space: &str, prefix: Prefix) -> Result<PoolId> {
        let sql = "INSERT INTO pool (name, space, family, first, last, strategy, repeat, quarantine_ms, allocatable, \
                   allocated, quarantined, cursor, generation) \
                   SELECT ?1, ?2, ?3, ?4, ?5, 0, 0, 0, ?6, ?6, ?6, ?6, generation FROM state";
        let Prefix { family, span } = prefix;
        self.run_one(sql, params![name, space, family, key(span.first()), key(span.last()), key(0)])?;
        Ok(PoolId(self.connection.last_insert_rowid()))
    }

    pub(super) fn drop_pool(&mut self, pool: PoolId) -> Result<()> {
        let keep_generation =
            "UPDATE state SET generation = max(generation, (SELECT generation FROM pool WHERE id = ?1))";
        self.run(keep_generation, [pool.0])?;
        self.run("DELETE FROM quarantine WHERE pool = ?1", [pool.0])?;
        self.run("DELETE FROM allocatable WHERE pool = ?1", [pool.0])?;
        self.fill_free(pool, &[], false)?;
        self.run_one("DELETE FROM pool WHERE id = ?1", [pool.0])
    }

    /// Replaces what a pool may hand out, and how; free is what remains of that beside what is held and in quarantine.
    pub(super) fn reshape(&mut self, pool: PoolId, policy: Policy, allocatable: &[Span]) -> Result<()> {
        let quarantined = self.cut_quarantine(pool, allocatable)?;
        let mut taken = spans(&self.held(pool)?);
        taken.extend_from_slice(&quarantined);
        self.run_one(
            "UPDATE OR FAIL pool SET strategy = ?2, repeat = ?3, quarantine_ms = ?4, allocatable = ?5, quarantined = ?6 \
             WHERE id = ?1",
            params![
                pool.0,
                policy.strategy,
                policy.repeat,
                Whole(policy.quarantine_ms),
                key(total(allocatable)),
                key(total(&quarantined))
            ],
        )?;
        self.run("DELETE FROM allocatable WHERE pool = ?1", [pool.0])?;
        for span in allocatable {
            let sql = "INSERT INTO allocatable (pool, first, last) VALUES (?1, ?2, ?3)";
            self.run(sql, params![pool.0, key(span.first()), key(span.last())])?;
        }
        let free = subtract(allocatable, &merge(taken));
        self.fill_free(pool, &free, policy.strategy == Strategy::Random)
    }

    /// Forgets what is in quarantine and is no longer allocatable, and tells what remains there.
    fn cut_quarantine(&mut self, pool: PoolId, allocatable: &[Span]) -> Result<Spans> {
        let mut remaining = Spans::new();
        for extent in self.quarantined(pool)? {
            if covers(allocatable, extent.span()) {
                remaining.push(extent.span());
            } else {
                let sql = "DELETE FROM quarantine WHERE pool = ?1 AND first = ?2";
                self.run_one(sql, params![pool.0, key(extent.first())])?;
            }
        }
        Ok(remaining)
    }

    pub(super) fn allocatable_of(&self, pool: PoolId) -> Result<Vec<Span>> {
        self.rows(ALLOCATABLE, [pool.0], |row| span(row, 0))
    }

    /// What is held of a pool, by address.
    pub(super) fn held(&self, pool: PoolId) -> Result<Vec<Extent>> {
        self.rows(HELD, [pool.0], |row| extent(row, 0))
    }

    /// What is in a pool's quarantine, by address.
    pub(super) fn quarantined(&self, pool: PoolId) -> Result<Vec<Extent>> {
        self.rows(QUARANTINED, [pool.0], |row| extent(row, 0))
    }

    pub(super) fn cursor_of(&self, pool: PoolId) -> Result<u128> {
        let sql = "SELECT cursor FROM pool WHERE id = ?1";
        self.row(sql, [pool.0], |row| number(row, 0))?.ok_or_else(no_pool)
    }

    pub(super) fn policy_of(&self, pool: PoolId) -> Result<Policy> {
        let sql = "SELECT strategy, repeat, quarantine_ms FROM pool WHERE id = ?1";
        self.row(sql, [pool.0], |row| policy(row, 0))?.ok_or_else(no_pool)
    }

    pub(super) fn usage_of(&self, pool: PoolId) -> Result<Usage> {
        let sql = "SELECT allocatable, allocated, quarantined FROM pool WHERE id = ?1";
        let usage = self.row(sql, [pool.0], |row| {
            Ok(Usage { allocatable: number(row, 0)?, allocated: number(row, 1)?, quarantined: number(row, 2)? })
        })?;
        usage.ok_or_else(no_pool)
    }
}

pub(super) fn no_pool() -> Error {
    Error::storage("the pool is missing")
}

/// The spans of extents.
pub(super) fn spans(extents: &[Extent]) -> Spans {
    extents.iter().map(|extent| extent.span()).collect()
}

/// Whether one of ascending spans covers another span.
pub(super) fn covers(spans: &[Span], span: Span) -> bool {
    let next = spans.partition_point(|one| one.last() < span.first());
    spans.get(next).is_some_and(|one| one.covers(span))
}
