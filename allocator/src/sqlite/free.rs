//! Free space: how it is kept, searched and changed.
//!
//! The free addresses of a pool are kept as spans that never touch, so each is as long as it can be. A span is found by its
//! last address: the first row from an address on is the span around it or else the next one above. Taking the lowest
//! address of a span, the usual case, then leaves the key alone and changes one row in place.
//!
//! The `room` of a span is the host bits of the largest block in it. Spans of one room are found by address, and there are
//! few rooms, so the lowest block that fits is found by a look into each. The room hardly ever changes, and only then is
//! its index written.

use rusqlite::{Row, params};

use super::SqliteStore;
use super::values::{Whole, key, span};
use crate::error::{Error, Result};
use crate::resource::Extent;
use crate::span::Span;
use crate::store::{Obstacle, PoolId};

/// A free span as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Free {
    pub(super) span: Span,
    /// The host bits of the largest block in it.
    pub(super) room: u8,
    /// Its number, in pools that choose at random.
    pub(super) slot: Option<u64>,
}

/// The columns that [`free`] reads.
macro_rules! free {
    ($rest:literal) => {
        concat!("SELECT first, last, room, slot FROM free ", $rest)
    };
}

const FREE_FROM: &str = free!("WHERE pool = ?1 AND last >= ?2 ORDER BY last LIMIT 1");
const TWO_FREE_FROM: &str = free!("WHERE pool = ?1 AND last >= ?2 ORDER BY last LIMIT 2");
const ALL_FREE: &str = free!("WHERE pool = ?1 ORDER BY last");
const ROOM_FROM: &str = "SELECT room FROM free WHERE pool = ?1 AND room >= ?2 ORDER BY room LIMIT 1";
/// By its name, since SQLite takes the primary key for just as good, and would look at every room.
const TWO_OF_ROOM: &str = "SELECT first, last FROM free INDEXED BY free_by_room \
                           WHERE pool = ?1 AND room = ?2 AND last >= ?3 ORDER BY last LIMIT 2";
const ALLOCATABLE_UP_TO: &str =
    "SELECT first, last FROM allocatable WHERE pool = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1";
const MOVE_FIRST: &str = "UPDATE OR FAIL free SET first = ?3 WHERE pool = ?1 AND last = ?2";
const MOVE_BOTH: &str = "UPDATE OR FAIL free SET last = ?3, first = ?4, room = ?5 WHERE pool = ?1 AND last = ?2";
const REMOVE: &str = "DELETE FROM free WHERE pool = ?1 AND last = ?2";

#[cfg(test)]
pub(super) const LOOK_UPS: [(&str, &str); 9] = [
    (FREE_FROM, "PRIMARY KEY (pool=? AND last>?)"),
    (TWO_FREE_FROM, "PRIMARY KEY (pool=? AND last>?)"),
    (ALL_FREE, "PRIMARY KEY (pool=?)"),
    (ROOM_FROM, "COVERING INDEX free_by_room (pool=? AND room>?)"),
    (TWO_OF_ROOM, "INDEX free_by_room (pool=? AND room=? AND last>?)"),
    (ALLOCATABLE_UP_TO, "PRIMARY KEY (pool=? AND first<?)"),
    (MOVE_FIRST, "PRIMARY KEY (pool=? AND last=?)"),
    (MOVE_BOTH, "PRIMARY KEY (pool=? AND last=?)"),
    (REMOVE, "PRIMARY KEY (pool=? AND last=?)"),
];

fn free(row: &Row<'_>) -> rusqlite::Result<Free> {
    let slot = row.get::<_, Option<Whole>>(3)?.map(|Whole(slot)| slot);
    Ok(Free { span: span(row, 0)?, room: row.get(2)?, slot })
}

/// The searches.
impl SqliteStore {
    /// The free span around an address, or else the next one above. It is remembered: what is found is mostly taken next.
    pub(super) fn free_span_from(&mut self, pool: PoolId, address: u128) -> Result<Option<Free>> {
        let found = self.row(FREE_FROM, params![pool.0, key(address)], free)?;
        self.seen = found.map(|free| (pool, free));
        Ok(found)
    }

    /// The free span around all of another one.
    fn free_span_around(&mut self, pool: PoolId, span: Span) -> Result<Option<Free>> {
        let found = match self.seen {
            Some((seen, free)) if seen == pool && free.span.covers(span) => Some(free),
            _ => self.free_span_from(pool, span.first())?,
        };
        Ok(found.filter(|free| free.span.covers(span)))
    }

    /// The lowest free block of so many host bits from an address on.
    pub(super) fn lowest_free_block(&self, pool: PoolId, host_bits: u8, address: u128) -> Result<Option<u128>> {
        let mut lowest = None;
        let mut least = host_bits;
        while let Some(room) = self.row(ROOM_FROM, params![pool.0, least], |row| row.get::<_, u8>(0))? {
            // A span that the address cuts may have no such block above it. The next one is whole.
            let found = self.first(TWO_OF_ROOM, params![pool.0, room, key(address)], |row| {
                Ok(span(row, 0)?.block(host_bits, address))
            })?;
            lowest = lowest.into_iter().chain(found).min();
            least = room.saturating_add(1);
        }
        Ok(lowest)
    }

    /// What stands in the way of handing out an extent.
    pub(super) fn obstacle_to(&mut self, pool: PoolId, extent: Extent) -> Result<Obstacle> {
        let wanted = extent.span();
        if self.free_span_around(pool, wanted)?.is_some() {
            return Ok(Obstacle::None);
        }
        // Allocatable spans do not touch either, so what they hold together one of them holds.
        let allocatable = self.row(ALLOCATABLE_UP_TO, params![pool.0, key(wanted.first())], |row| span(row, 0))?;
        let is_allocatable = allocatable.is_some_and(|allocatable| allocatable.covers(wanted));
        Ok(if is_allocatable { Obstacle::Taken } else { Obstacle::Reserved })
    }

    /// All free spans of a pool.
    pub(super) fn free_spans(&self, pool: PoolId) -> Result<Vec<Free>> {
        self.rows(ALL_FREE, [pool.0], free)
    }
}

/// The changes.
impl SqliteStore {
    /// Takes addresses that are all free.
    pub(super) fn carve(&mut self, pool: PoolId, taken: Span) -> Result<()> {
        let around =
            self.free_span_around(pool, taken)?.ok_or_else(|| Error::storage("what shall be held is not free"))?;
        let below = around.span.below(taken.first());
        match around.span.above(taken.last()).or(below) {
            None => self.remove_free(pool, around),
            Some(rest) => {
                self.replace_free(pool, around, rest)?;
                // If something is left on either side, the lower part is a span of its own.
                let lower = below.filter(|below| *below != rest);
                lower.map_or(Ok(()), |lower| self.insert_free(pool, lower, around.slot.is_some()))
            }
        }
    }

    /// Gives back addresses of which none is free.
    pub(super) fn give_back(&mut self, pool: PoolId, given: Span, is_random: bool) -> Result<()> {
        let (below, above) = self.neighbours(pool, given)?;
        let first = below.map_or(given.first(), |below| below.span.first());
        let last = above.map_or(given.last(), |above| above.span.last());
        let whole = Span::between(first, last);
        match (below, above) {
            (None, None) => self.insert_free(pool, whole, is_random),
            (Some(one), None) | (None, Some(one)) => self.replace_free(pool, one, whole),
            (Some(below), Some(_)) => {
                self.remove_free(pool, below)?;
                // It may have got the slot that is free now.
                let above = self.free_span_from(pool, last)?.ok_or_else(|| Error::storage("a free span is missing"))?;
                self.replace_free(pool, above, whole)
            }
        }
    }

    /// The free spans that end right below a span and begin right above it.
    fn neighbours(&self, pool: PoolId, span: Span) -> Result<(Option<Free>, Option<Free>)> {
        let found = self.rows(TWO_FREE_FROM, params![pool.0, key(span.first().saturating_sub(1))], free)?;
        let below = found.iter().find(|free| free.span.last() < span.first());
        let next = found.iter().find(|free| free.span.last() >= span.first());
        if next.is_some_and(|next| next.span.first() <= span.last()) {
            return Err(Error::storage("what is given back is free already"));
        }
        let above = next.filter(|next| span.last().checked_add(1) == Some(next.span.first()));
        Ok((below.copied(), above.copied()))
    }

    /// Replaces the free space of a pool.
    pub(super) fn fill_free(&mut self, pool: PoolId, spans: &[Span], is_random: bool) -> Result<()> {
        self.run("DELETE FROM free WHERE pool = ?1", [pool.0])?;
        for (slot, span) in (0..).zip(spans) {
            self.add_free(pool, *span, is_random.then_some(slot))?;
        }
        self.fill_tallies(pool, if is_random { spans } else { &[] })
    }

    fn insert_free(&mut self, pool: PoolId, span: Span, is_random: bool) -> Result<()> {
        let slot = is_random.then(|| self.open_slot(pool, span.size())).transpose()?;
        self.add_free(pool, span, slot)
    }

    fn add_free(&mut self, pool: PoolId, span: Span, slot: Option<u64>) -> Result<()> {
        let sql = "INSERT INTO free (pool, last, first, room, slot) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.run(sql, params![pool.0, key(span.last()), key(span.first()), span.room(), slot.map(Whole)])
    }

    fn replace_free(&mut self, pool: PoolId, old: Free, new: Span) -> Result<()> {
        let (last, room) = (old.span.last(), new.room());
        if new.last() == last && room == old.room {
            self.run_one(MOVE_FIRST, params![pool.0, key(last), key(new.first())])?;
        } else {
            self.run_one(MOVE_BOTH, params![pool.0, key(last), key(new.last()), key(new.first()), room])?;
        }
        old.slot.map_or(Ok(()), |slot| self.resize_slot(pool, slot, old.span.size(), new.size()))
    }

    fn remove_free(&mut self, pool: PoolId, old: Free) -> Result<()> {
        self.run_one(REMOVE, params![pool.0, key(old.span.last())])?;
        old.slot.map_or(Ok(()), |slot| self.close_slot(pool, slot, old.span.size()))
    }
}
