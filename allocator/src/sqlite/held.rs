//! What is held and what is in quarantine: how it begins, ends and is looked up.

use rusqlite::{Row, params};

use super::SqliteStore;
use super::pools::no_pool;
use super::values::{HostBits, Whole, extent, key, time};
use crate::error::Result;
use crate::policy::Strategy;
use crate::resource::Extent;
use crate::store::{Allocation, Filter, Holder, Over, Place, PoolId, Tenure};

/// The columns that [`allocation`] reads. CROSS JOIN keeps the order of the allocations, whatever SQLite thinks of it.
macro_rules! allocations {
    ($rest:literal) => {
        concat!(
            "SELECT allocation.pool, allocation.first, host_bits, expires_ms, allocation.generation, owner, name, family \
             FROM allocation CROSS JOIN pool ON pool.id = allocation.pool ",
            $rest
        )
    };
}

const LIST_FROM: &str = allocations!(
    "WHERE (allocation.pool, allocation.first) >= (?1, ?2) ORDER BY allocation.pool, allocation.first LIMIT ?3"
);
const LIST_POOL: &str =
    allocations!("WHERE allocation.pool = ?1 AND allocation.first >= ?2 ORDER BY allocation.first LIMIT ?3");
const LIST_OWNER: &str = allocations!("WHERE owner = ?1");
const FIND: &str =
    allocations!("WHERE allocation.pool = ?1 AND allocation.first <= ?2 ORDER BY allocation.first DESC LIMIT 1");
const HOLDER: &str = "SELECT first, host_bits, expires_ms, generation, owner = ?4 FROM allocation \
                      WHERE pool = ?1 AND first = ?2 AND host_bits = ?3";
const HELD_FROM: &str = "SELECT first, host_bits, expires_ms, generation FROM allocation \
                         WHERE owner = ?1 AND pool = ?2 AND (host_bits, first) >= (?3, ?4) \
                         ORDER BY host_bits, first LIMIT 1";
const OVER: &str = "SELECT pool, first, host_bits, expires_ms, 0 FROM allocation WHERE expires_ms <= ?1 UNION ALL \
                    SELECT pool, first, host_bits, until_ms, 1 FROM quarantine WHERE until_ms <= ?1 ORDER BY 4";
const EXPIRE: &str = "UPDATE OR FAIL allocation SET expires_ms = ?4 WHERE pool = ?1 AND first = ?2 AND host_bits = ?3";
const REMOVE: &str = "DELETE FROM allocation WHERE pool = ?1 AND first = ?2 AND host_bits = ?3";
const REMOVE_QUARANTINE: &str = "DELETE FROM quarantine WHERE pool = ?1 AND first = ?2 AND host_bits = ?3";

#[cfg(test)]
pub(super) const LOOK_UPS: [(&str, &str); 10] = [
    (LIST_FROM, "PRIMARY KEY ((pool,first)>(?,?)); INTEGER PRIMARY KEY (rowid=?)"),
    (LIST_POOL, "PRIMARY KEY (pool=? AND first>?); INTEGER PRIMARY KEY (rowid=?)"),
    (LIST_OWNER, "INDEX allocation_by_owner (owner=?); INTEGER PRIMARY KEY (rowid=?)"),
    (FIND, "PRIMARY KEY (pool=? AND first<?); INTEGER PRIMARY KEY (rowid=?)"),
    (HOLDER, "PRIMARY KEY (pool=? AND first=?)"),
    (HELD_FROM, "INDEX allocation_by_owner (owner=? AND pool=? AND (host_bits,first)>(?,?))"),
    (OVER, "INDEX allocation_by_expiry (expires_ms<?); COVERING INDEX quarantine_by_end (until_ms<?)"),
    (EXPIRE, "PRIMARY KEY (pool=? AND first=?)"),
    (REMOVE, "PRIMARY KEY (pool=? AND first=?)"),
    (REMOVE_QUARANTINE, "PRIMARY KEY (pool=? AND first=?)"),
];

fn allocation(row: &Row<'_>) -> rusqlite::Result<(Place, Allocation)> {
    let tenure = tenure(row, 1)?;
    let place = Place { pool: PoolId(row.get(0)?), address: tenure.extent.first() };
    Ok((place, Allocation::of(row.get(6)?, row.get(7)?, row.get(5)?, tenure)))
}

/// Four neighbouring columns.
fn tenure(row: &Row<'_>, column: usize) -> rusqlite::Result<Tenure> {
    let Whole(generation) = row.get(column.saturating_add(3))?;
    Ok(Tenure { extent: extent(row, column)?, expires_ms: time(row, column.saturating_add(2))?, generation })
}

/// The changes.
impl SqliteStore {
    pub(super) fn begin_holding(
        &mut self,
        pool: PoolId,
        extent: Extent,
        owner: &str,
        expires_ms: Option<u64>,
        cursor: Option<u128>,
    ) -> Result<u64> {
        self.carve(pool, extent.span())?;
        let count = "UPDATE OR FAIL pool SET allocated = plus(allocated, ?2), cursor = coalesce(?3, cursor), \
                     generation = generation + 1 WHERE id = ?1";
        self.run_one(count, params![pool.0, key(extent.span().size()), cursor.map(key)])?;
        let counted = self.row("SELECT generation FROM pool WHERE id = ?1", [pool.0], |row| row.get(0))?;
        let Whole(generation) = counted.ok_or_else(no_pool)?;
        let insert = "INSERT INTO allocation (pool, first, host_bits, expires_ms, generation, owner) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let (first, bits) = (key(extent.first()), HostBits(extent.host_bits()));
        self.run(insert, params![pool.0, first, bits, expires_ms.map(Whole), Whole(generation), owner])?;
        Ok(generation)
    }

    pub(super) fn expire_at(&mut self, pool: PoolId, extent: Extent, expires_ms: Option<u64>) -> Result<()> {
        let (first, bits) = (key(extent.first()), HostBits(extent.host_bits()));
        self.run_one(EXPIRE, params![pool.0, first, bits, expires_ms.map(Whole)])
    }

    pub(super) fn end_holding(&mut self, pool: PoolId, extent: Extent, until_ms: Option<u64>) -> Result<()> {
        self.run_one(REMOVE, params![pool.0, key(extent.first()), HostBits(extent.host_bits())])?;
        let Some(until_ms) = until_ms else {
            return self.give_back_counted(
                pool,
                extent,
                "UPDATE OR FAIL pool SET allocated = minus(allocated, ?2) WHERE id = ?1",
            );
        };
        self.run_one(
            "UPDATE OR FAIL pool SET allocated = minus(allocated, ?2), quarantined = plus(quarantined, ?2) WHERE id = ?1",
            params![pool.0, key(extent.span().size())],
        )?;
        let insert = "INSERT INTO quarantine (pool, first, host_bits, until_ms) VALUES (?1, ?2, ?3, ?4)";
        let (first, bits) = (key(extent.first()), HostBits(extent.host_bits()));
        self.run(insert, params![pool.0, first, bits, Whole(until_ms)])
    }

    pub(super) fn leave_quarantine(&mut self, pool: PoolId, extent: Extent) -> Result<()> {
        self.run_one(REMOVE_QUARANTINE, params![pool.0, key(extent.first()), HostBits(extent.host_bits())])?;
        self.give_back_counted(
            pool,
            extent,
            "UPDATE OR FAIL pool SET quarantined = minus(quarantined, ?2) WHERE id = ?1",
        )
    }

    /// Makes an extent free, after a statement that counts it out.
    fn give_back_counted(&mut self, pool: PoolId, extent: Extent, count: &'static str) -> Result<()> {
        self.run_one(count, params![pool.0, key(extent.span().size())])?;
        let is_random = self.policy_of(pool)?.strategy == Strategy::Random;
        self.give_back(pool, extent.span(), is_random)
    }
}

/// The look-ups.
impl SqliteStore {
    pub(super) fn holder_of(&self, pool: PoolId, extent: Extent, owner: &str) -> Result<Holder> {
        let (first, bits) = (key(extent.first()), HostBits(extent.host_bits()));
        let holder = self.row(HOLDER, params![pool.0, first, bits, owner], |row| {
            Ok(if row.get(4)? { Holder::Owner(tenure(row, 0)?) } else { Holder::Other })
        })?;
        Ok(holder.unwrap_or(Holder::Nobody))
    }

    pub(super) fn first_held_from(&self, pool: PoolId, owner: &str, from: Extent) -> Result<Option<Tenure>> {
        let (first, bits) = (key(from.first()), HostBits(from.host_bits()));
        self.row(HELD_FROM, params![owner, pool.0, bits, first], |row| tenure(row, 0))
    }

    pub(super) fn find_around(&self, pool: PoolId, address: u128) -> Result<Option<Allocation>> {
        // The last one that begins no higher holds the address, if any does.
        self.first(FIND, params![pool.0, key(address)], |row| {
            let holds = extent(row, 1)?.span().contains(address);
            Ok(if holds { Some(allocation(row)?.1) } else { None })
        })
    }

    pub(super) fn filtered(&self, filter: Filter<'_>) -> Result<Vec<(Place, Allocation)>> {
        match filter {
            Filter::From(Place { pool, address }, most) => {
                self.rows(LIST_FROM, params![pool.0, key(address), limit(most)], allocation)
            }
            Filter::Pool(pool, address, most) => {
                self.rows(LIST_POOL, params![pool.0, key(address), limit(most)], allocation)
            }
            Filter::Owner(owner) => {
                let mut held = self.rows(LIST_OWNER, [owner], allocation)?;
                // The index of owners sorts what is held in a pool by size.
                held.sort_unstable_by_key(|(place, _)| *place);
                Ok(held)
            }
        }
    }

    pub(super) fn over_by(&self, now_ms: u64) -> Result<Vec<Over>> {
        self.rows(OVER, [Whole(now_ms)], |row| {
            let Whole(ended_ms) = row.get(3)?;
            Ok(Over { pool: PoolId(row.get(0)?), extent: extent(row, 1)?, ended_ms, was_quarantined: row.get(4)? })
        })
    }
}

/// A limit as SQLite counts.
fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::address::Family;
    use crate::resource::Resource;
    use crate::sqlite::tests::{pool, span, store};
    use crate::store::Store;

    /// Two pools; "a" holds addresses and blocks of both, in no order, among what "b" holds.
    fn filled() -> (SqliteStore, [PoolId; 2], BTreeMap<Place, (Extent, &'static str)>) {
        let mut store = store();
        let pools = ["p0", "p1"].map(|name| {
            let first = if name == "p0" { 0 } else { 256 };
            pool(&mut store, name, span(first, first + 255), Strategy::Lowest)
        });
        let mut held = BTreeMap::new();
        for (n, first, host_bits, owner) in [
            (1, 256 + 9, None, "a"),
            (0, 64, Some(4), "a"),
            (0, 200, None, "a"),
            (0, 32, Some(2), "b"),
            (1, 256, Some(3), "a"),
            (0, 80, Some(0), "a"),
            (0, 3, None, "b"),
            (0, 16, Some(4), "a"),
            (0, 5, None, "a"),
        ] {
            let extent = Extent::new(first, host_bits).unwrap();
            store.hold(pools[n], extent, owner, None, None).unwrap();
            held.insert(Place { pool: pools[n], address: first }, (extent, owner));
        }
        (store, pools, held)
    }

    #[test]
    fn lists_hold_what_passes_the_filter_in_its_order() {
        let (mut store, pools, held) = filled();
        let mut list = |filter| {
            let listed = store.list(filter).unwrap();
            listed.into_iter().map(|(place, one)| (place, one.resource)).collect::<Vec<(Place, Resource)>>()
        };
        let resource = |(place, (extent, _)): (&Place, &(Extent, &str))| (*place, extent.resource(Family::Ipv6));
        let of_a = held.iter().filter(|(_, (_, owner))| *owner == "a").map(resource).collect::<Vec<_>>();
        assert_eq!(list(Filter::Owner("a")), of_a);
        assert_eq!(list(Filter::Owner("c")), []);
        for most in [0, 1, 3, usize::MAX] {
            let from_first: Vec<_> = held.iter().map(resource).take(most).collect();
            assert_eq!(list(Filter::From(Place::FIRST, most)), from_first);
            for address in 0..512 {
                let from = Place { pool: pools[usize::from(address > 255)], address };
                let all_from = held.range(from..).map(resource);
                assert_eq!(list(Filter::From(from, most)), all_from.clone().take(most).collect::<Vec<_>>());
                let of_pool: Vec<_> = all_from.filter(|(place, _)| place.pool == from.pool).take(most).collect();
                assert_eq!(list(Filter::Pool(from.pool, address, most)), of_pool);
            }
        }
    }

    #[test]
    fn what_an_owner_holds_is_found_in_the_order_of_extents() {
        let (mut store, pools, held) = filled();
        let of_a = held.iter().filter(|(place, (_, owner))| place.pool == pools[0] && *owner == "a");
        let mut of_a: Vec<_> = of_a.map(|(_, (extent, _))| *extent).collect();
        of_a.sort_unstable();
        for host_bits in [None, Some(0), Some(2), Some(4), Some(8)] {
            for from in (0..256).filter_map(|first| Extent::new(first, host_bits)) {
                let found = store.held_from(pools[0], "a", from).unwrap().map(|tenure| tenure.extent);
                assert_eq!(found, of_a.iter().copied().find(|extent| *extent >= from), "{from:?}");
            }
        }
    }

    #[test]
    fn an_address_is_found_in_its_block_and_a_holder_by_the_whole_extent() {
        let (mut store, pools, held) = filled();
        for address in 0..256 {
            let around =
                held.iter().find(|(place, (extent, _))| place.pool == pools[0] && extent.span().contains(address));
            let found = store.find(pools[0], address).unwrap();
            let found = found.map(|one| (one.resource, one.owner.to_string()));
            assert_eq!(found, around.map(|(_, (extent, owner))| (extent.resource(Family::Ipv6), (*owner).to_owned())));
            for extent in [None, Some(0), Some(2), Some(4)].into_iter().filter_map(|bits| Extent::new(address, bits)) {
                let expected = held.values().find(|(held, _)| *held == extent).map(|(_, owner)| *owner);
                match store.holder(pools[0], extent, "a").unwrap() {
                    Holder::Nobody => assert_eq!(expected, None),
                    Holder::Other => assert_eq!(expected, Some("b")),
                    Holder::Owner(tenure) => assert_eq!((expected, tenure.extent), (Some("a"), extent)),
                }
            }
        }
    }
}
