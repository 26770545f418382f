//! Ranks: how a free address is found by its number, for choice at random.
//!
//! In a pool that chooses at random every free span has a slot, without gaps from 0 on. A tally of level 0 is the size of
//! the spans in 16 neighbouring slots, one of level 1 the sum of 16 tallies of level 0, and so on up to the one root. So the
//! address of a number is found from the root down, and a change of a span changes one tally a level. A span that goes
//! leaves its slot to the last one, so slots are in no order, and numbers neither: that matters to nobody, as long as each
//! number is that of another address.

use rusqlite::params;

use super::SqliteStore;
use super::values::{Whole, key, number, span};
use crate::error::Result;
use crate::span::Span;
use crate::store::PoolId;

/// How many slots a tally of level 0, and how many tallies one of the next level sums.
const WIDTH: u64 = 16;

/// The sum of the free addresses in a run of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tally {
    pub(super) level: u32,
    pub(super) position: u64,
    pub(super) free: u128,
}

const ALL_TALLIES: &str = "SELECT level, position, free FROM tally WHERE pool = ?1 ORDER BY level, position";
const TALLIES: &str = "SELECT position, free FROM tally WHERE pool = ?1 AND level = ?2 AND position >= ?3 \
                       ORDER BY position LIMIT 16";
const SLOTS: &str = "SELECT first, last FROM free WHERE pool = ?1 AND slot >= ?2 ORDER BY slot LIMIT 16";
const LAST_SLOT: &str = "SELECT slot, first, last FROM free WHERE pool = ?1 AND slot >= 0 ORDER BY slot DESC LIMIT 1";
const MOVE_SLOT: &str = "UPDATE OR FAIL free SET slot = ?3 WHERE pool = ?1 AND slot = ?2";
const ADD: &str = "INSERT INTO tally (pool, level, position, free) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT (pool, level, position) DO UPDATE SET free = plus(free, excluded.free)";
const CHANGE: &str =
    "UPDATE OR FAIL tally SET free = plus(minus(free, ?4), ?5) WHERE pool = ?1 AND level = ?2 AND position = ?3";
const REMOVE: &str = "DELETE FROM tally WHERE pool = ?1 AND level = ?2 AND position = ?3";
const RAISE_ROOT: &str = "INSERT INTO tally (pool, level, position, free) \
                          SELECT pool, level + 1, 0, free FROM tally WHERE pool = ?1 AND level = ?2 AND position = 0";

#[cfg(test)]
pub(super) const LOOK_UPS: [(&str, &str); 8] = [
    (ALL_TALLIES, "PRIMARY KEY (pool=?)"),
    (TALLIES, "PRIMARY KEY (pool=? AND level=? AND position>?)"),
    (SLOTS, "INDEX free_by_slot (pool=? AND slot>?)"),
    (LAST_SLOT, "INDEX free_by_slot (pool=? AND slot>?)"),
    (MOVE_SLOT, "INDEX free_by_slot (pool=? AND slot=?)"),
    (CHANGE, "PRIMARY KEY (pool=? AND level=? AND position=?)"),
    (REMOVE, "PRIMARY KEY (pool=? AND level=? AND position=?)"),
    (RAISE_ROOT, "PRIMARY KEY (pool=? AND level=? AND position=?)"),
];

impl SqliteStore {
    /// The free address of a number.
    pub(super) fn free_by_number(&self, pool: PoolId, n: u128) -> Result<Option<u128>> {
        let Some((last, _)) = self.last_slot(pool)? else {
            return Ok(None);
        };
        let (mut position, mut n) = (0_u64, n);
        for level in (0..root(last)).rev() {
            let from = Whole(position.saturating_mul(WIDTH));
            let found = self.first(TALLIES, params![pool.0, level, from], |row| {
                let Whole(position) = row.get(0)?;
                Ok(pass(&mut n, number(row, 1)?).then_some(position))
            })?;
            match found {
                Some(found) => position = found,
                None => return Ok(None),
            }
        }
        let from = Whole(position.saturating_mul(WIDTH));
        self.first(SLOTS, params![pool.0, from], |row| {
            let span = span(row, 0)?;
            Ok(pass(&mut n, span.size()).then(|| span.first().saturating_add(n)))
        })
    }

    /// The last slot, and the size of the span in it.
    fn last_slot(&self, pool: PoolId) -> Result<Option<(u64, u128)>> {
        self.row(LAST_SLOT, [pool.0], |row| {
            let Whole(slot) = row.get(0)?;
            Ok((slot, span(row, 1)?.size()))
        })
    }

    /// Makes a slot for a span that is about to be inserted.
    pub(super) fn open_slot(&mut self, pool: PoolId, size: u128) -> Result<u64> {
        let slot = self.last_slot(pool)?.map_or(0, |(last, _)| last.saturating_add(1));
        let old_root = root(slot.saturating_sub(1));
        if root(slot) > old_root {
            self.run(RAISE_ROOT, params![pool.0, old_root])?;
        }
        for (level, position) in above(slot, root(slot)) {
            self.run(ADD, params![pool.0, level, Whole(position), key(size)])?;
        }
        Ok(slot)
    }

    /// Notes the new size of a span.
    pub(super) fn resize_slot(&mut self, pool: PoolId, slot: u64, old: u128, new: u128) -> Result<()> {
        let last = self.last_slot(pool)?.map_or(0, |(last, _)| last);
        self.change_tallies(pool, slot, root(last), old, new)
    }

    /// Fills the slot of a span that was removed with the last one.
    pub(super) fn close_slot(&mut self, pool: PoolId, slot: u64, size: u128) -> Result<()> {
        match self.last_slot(pool)? {
            Some((last, last_size)) if last > slot => {
                // In this order no sum ever exceeds the addresses that there are.
                self.drop_last(pool, last, last_size)?;
                self.change_tallies(pool, slot, root(last.saturating_sub(1)), size, last_size)?;
                self.run_one(MOVE_SLOT, params![pool.0, Whole(last), Whole(slot)])
            }
            _ => self.drop_last(pool, slot, size),
        }
    }

    fn change_tallies(&mut self, pool: PoolId, slot: u64, root: u32, old: u128, new: u128) -> Result<()> {
        for (level, position) in above(slot, root) {
            self.run_one(CHANGE, params![pool.0, level, Whole(position), key(old), key(new)])?;
        }
        Ok(())
    }

    /// Takes the last slot out of its tallies, and removes those that only it needed.
    fn drop_last(&mut self, pool: PoolId, last: u64, size: u128) -> Result<()> {
        let before = last.checked_sub(1);
        for (level, position) in above(last, root(last)) {
            let is_needed =
                before.is_some_and(|before| above(before, root(before)).any(|one| one == (level, position)));
            if is_needed {
                self.run_one(CHANGE, params![pool.0, level, Whole(position), key(size), key(0)])?;
            } else {
                self.run_one(REMOVE, params![pool.0, level, Whole(position)])?;
            }
        }
        Ok(())
    }

    /// Replaces the tallies of a pool by those over spans in slots from 0 on.
    pub(super) fn fill_tallies(&mut self, pool: PoolId, spans: &[Span]) -> Result<()> {
        self.run("DELETE FROM tally WHERE pool = ?1", [pool.0])?;
        for Tally { level, position, free } in tallies(spans) {
            self.run(ADD, params![pool.0, level, Whole(position), key(free)])?;
        }
        Ok(())
    }

    /// All tallies of a pool, by level and position.
    pub(super) fn kept_tallies(&self, pool: PoolId) -> Result<Vec<Tally>> {
        self.rows(ALL_TALLIES, [pool.0], |row| {
            let Whole(position) = row.get(1)?;
            Ok(Tally { level: row.get(0)?, position, free: number(row, 2)? })
        })
    }
}

/// Goes past so many addresses, or tells that the number lies among them.
fn pass(n: &mut u128, size: u128) -> bool {
    match n.checked_sub(size) {
        Some(rest) => {
            *n = rest;
            false
        }
        None => true,
    }
}

/// The level of the root above the slots up to `last`.
fn root(last: u64) -> u32 {
    last.checked_ilog(WIDTH).unwrap_or(0)
}

/// The levels from 0 to the root, and where the tally above a slot is.
fn above(slot: u64, root: u32) -> impl Iterator<Item = (u32, u64)> {
    let positions = std::iter::successors(slot.checked_div(WIDTH), |position| position.checked_div(WIDTH));
    (0..=root).zip(positions)
}

/// The tallies over spans in slots from 0 on, by level and position.
pub(super) fn tallies(spans: &[Span]) -> Vec<Tally> {
    let mut tallies = Vec::new();
    let mut sums: Vec<u128> = spans.iter().map(|span| span.size()).collect();
    for level in 0.. {
        sums = sums
            .chunks(WIDTH as usize)
            .map(|sums| sums.iter().fold(0_u128, |sum, size| sum.saturating_add(*size)))
            .collect();
        tallies.extend((0..).zip(&sums).map(|(position, free)| Tally { level, position, free: *free }));
        if sums.len() <= 1 {
            break;
        }
    }
    tallies
}
