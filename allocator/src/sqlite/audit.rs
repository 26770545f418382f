//! The consistency check: everything that is kept to find things fast is worked out anew from what is allocatable, held and
//! in quarantine, and compared.
//!
//! Whether SQLite's own indexes match their tables is what `integrity_check` tells.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::SqliteStore;
use super::free::Free;
use super::pools::{covers, no_pool, spans};
use super::tally::{Tally, tallies};
use super::values::Whole;
use crate::address::AddressRange;
use crate::audit::Difference;
use crate::error::Result;
use crate::policy::Strategy;
use crate::resource::Extent;
use crate::span::{Span, Spans, merge, subtract, total};
use crate::store::{Pool, Usage};

const STRAYS: &str = "
    SELECT DISTINCT 'allocatable spans', pool FROM allocatable WHERE pool NOT IN (SELECT id FROM pool) UNION ALL
    SELECT DISTINCT 'free spans', pool FROM free WHERE pool NOT IN (SELECT id FROM pool) UNION ALL
    SELECT DISTINCT 'tallies', pool FROM tally WHERE pool NOT IN (SELECT id FROM pool) UNION ALL
    SELECT DISTINCT 'allocations', pool FROM allocation WHERE pool NOT IN (SELECT id FROM pool) UNION ALL
    SELECT DISTINCT 'quarantine', pool FROM quarantine WHERE pool NOT IN (SELECT id FROM pool)";

const LAST_GENERATION: &str = "SELECT coalesce(max(generation), 0) FROM allocation WHERE pool = ?1";

/// All that is kept about a pool.
struct Account {
    name: Arc<str>,
    pool: Pool,
    usage: Usage,
    allocatable: Vec<Span>,
    held: Vec<Extent>,
    quarantined: Vec<Extent>,
    free: Vec<Free>,
    tallies: Vec<Tally>,
    /// The highest number of an allocation there is.
    generation: u64,
}

impl SqliteStore {
    pub(super) fn differences(&self) -> Result<Vec<Difference>> {
        let mut differences = self.strays()?;
        for (name, _) in self.all_pools()? {
            self.account(name)?.differences(&mut differences);
        }
        Ok(differences)
    }

    /// What belongs to no pool.
    fn strays(&self) -> Result<Vec<Difference>> {
        self.rows(STRAYS, [], |row| {
            let entry = format!("{} of pool {}", row.get::<_, String>(0)?, row.get::<_, i64>(1)?);
            Ok(Difference::Index { what: "pool", pool: "".into(), entry, is_kept: true })
        })
    }

    fn account(&self, name: Arc<str>) -> Result<Account> {
        let pool = self.pool_named(&name)?.ok_or_else(no_pool)?;
        let generation = self.row(LAST_GENERATION, [pool.id.0], |row| row.get(0))?;
        Ok(Account {
            name,
            pool,
            usage: self.usage_of(pool.id)?,
            allocatable: self.allocatable_of(pool.id)?,
            held: self.held(pool.id)?,
            quarantined: self.quarantined(pool.id)?,
            free: self.free_spans(pool.id)?,
            tallies: self.kept_tallies(pool.id)?,
            generation: generation.map_or(0, |Whole(generation)| generation),
        })
    }
}

impl Account {
    fn differences(&self, differences: &mut Vec<Difference>) {
        self.overlaps(differences);
        self.not_allocatable(differences);
        self.counts(differences);
        self.allocatable(differences);
        self.free(differences);
        self.rooms(differences);
        self.slots(differences);
        self.tallies(differences);
    }

    /// What is held or in quarantine, by address.
    fn taken(&self) -> Vec<Extent> {
        let mut taken = [self.held.as_slice(), &self.quarantined].concat();
        taken.sort_unstable_by_key(|extent| extent.first());
        taken
    }

    fn overlaps(&self, differences: &mut Vec<Difference>) {
        let family = self.pool.prefix.family;
        let mut reaching: Option<Extent> = None;
        for extent in self.taken() {
            if let Some(one) = reaching.filter(|one| one.span().contains(extent.first())) {
                let (one, other) = (one.resource(family), extent.resource(family));
                differences.push(Difference::Overlap { pool: self.name.clone(), one, other });
            }
            // The one that reaches furthest so far.
            reaching = reaching.into_iter().chain([extent]).max_by_key(|extent| extent.span().last());
        }
    }

    fn not_allocatable(&self, differences: &mut Vec<Difference>) {
        let allocatable = merge(self.allocatable.iter().copied().collect());
        for extent in self.taken().into_iter().filter(|extent| !covers(&allocatable, extent.span())) {
            let resource = extent.resource(self.pool.prefix.family);
            differences.push(Difference::NotAllocatable { pool: self.name.clone(), resource });
        }
    }

    fn counts(&self, differences: &mut Vec<Difference>) {
        let usage = self.usage;
        for (what, kept, counted) in [
            ("allocatable", usage.allocatable, total(&self.allocatable)),
            ("allocated", usage.allocated, total(&spans(&self.held))),
            ("quarantined", usage.quarantined, total(&spans(&self.quarantined))),
            // The last allocations may be over, so this one may be higher.
            ("generation", self.pool.generation.into(), self.pool.generation.max(self.generation).into()),
        ] {
            if kept != counted {
                differences.push(Difference::Count { pool: self.name.clone(), what, kept, counted });
            }
        }
    }

    /// Allocatable spans have gaps between them.
    fn allocatable(&self, differences: &mut Vec<Difference>) {
        self.compare_spans("allocatable spans", self.allocatable.iter().copied().collect(), differences);
    }

    fn free(&self, differences: &mut Vec<Difference>) {
        let allocatable = merge(self.allocatable.iter().copied().collect());
        let expected = subtract(&allocatable, &merge(spans(&self.taken())));
        let kept: Spans = self.free.iter().map(|free| free.span).collect();
        let merged = merge(kept.clone());
        for (spans, is_kept) in [(subtract(&merged, &expected), true), (subtract(&expected, &merged), false)] {
            let ranges = spans.iter().map(|span| self.range(*span));
            differences.extend(ranges.map(|range| Difference::Free { pool: self.name.clone(), range, is_kept }));
        }
        self.compare_spans("free spans", kept, differences);
    }

    fn rooms(&self, differences: &mut Vec<Difference>) {
        let entry = |span, room| format!("{}, {room} host bits", self.range(span));
        let kept = self.free.iter().map(|free| entry(free.span, free.room));
        let expected = self.free.iter().map(|free| entry(free.span, free.span.room()));
        self.compare("room", kept, expected, differences);
    }

    /// The slots are the numbers from 0 on, or none at all.
    fn slots(&self, differences: &mut Vec<Difference>) {
        let kept = self.free.iter().filter_map(|free| free.slot);
        let expected = (0_u64..).zip(self.chosen_at_random()).map(|(slot, _)| slot);
        self.compare("slot", kept.map(|slot| slot.to_string()), expected.map(|slot| slot.to_string()), differences);
    }

    fn tallies(&self, differences: &mut Vec<Difference>) {
        let mut free = self.chosen_at_random().to_vec();
        free.sort_unstable_by_key(|free| free.slot);
        let spans: Spans = free.into_iter().map(|free| free.span).collect();
        let entry = |Tally { level, position, free }| format!("level {level}, position {position}, {free} addresses");
        self.compare(
            "tally",
            self.tallies.iter().copied().map(entry),
            tallies(&spans).into_iter().map(entry),
            differences,
        );
    }

    /// The free spans that have slots: all or none.
    fn chosen_at_random(&self) -> &[Free] {
        if self.pool.policy.strategy == Strategy::Random { &self.free } else { &[] }
    }

    fn range(&self, span: Span) -> AddressRange {
        AddressRange::of(self.pool.prefix.family, span)
    }

    /// Names spans that overlap or touch, and what they are together.
    fn compare_spans(&self, what: &'static str, kept: Spans, differences: &mut Vec<Difference>) {
        let entry = |span: Span| self.range(span).to_string();
        self.compare(what, kept.clone().into_iter().map(entry), merge(kept).into_iter().map(entry), differences);
    }

    /// Names the entries of an index that are kept and do not follow, and those that follow and are not kept.
    fn compare(
        &self,
        what: &'static str,
        kept: impl Iterator<Item = String>,
        expected: impl Iterator<Item = String>,
        differences: &mut Vec<Difference>,
    ) {
        let (kept, expected): (BTreeSet<_>, BTreeSet<_>) = (kept.collect(), expected.collect());
        for entry in kept.symmetric_difference(&expected) {
            let is_kept = kept.contains(entry);
            differences.push(Difference::Index { what, pool: self.name.clone(), entry: entry.clone(), is_kept });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Family;
    use crate::policy::Policy;
    use crate::pool::Prefix;
    use crate::sqlite::tests::{choosing, pool, span, store};
    use crate::store::Store;

    /// Pool 1 chooses at random and has a bit of everything; pool 2 is plain.
    fn sound() -> SqliteStore {
        let mut store = store();
        let random = store.insert_pool("p1", "", Prefix { family: Family::Ipv6, span: span(0, 255) }).unwrap();
        let policy = Policy { quarantine_ms: 5, ..choosing(Strategy::Random) };
        store.shape_pool(random, policy, &[span(16, 239)]).unwrap();
        for n in 0..20 {
            store.hold(random, Extent::address(20 + 2 * n), "a", Some(9), None).unwrap();
        }
        let block = Extent::new(64, Some(4)).unwrap();
        store.hold(random, block, "b", None, None).unwrap();
        store.end(random, Extent::address(20), Some(12)).unwrap();
        let plain = pool(&mut store, "p2", span(256, 511), Strategy::Lowest);
        store.hold(plain, Extent::address(256), "a", None, None).unwrap();
        assert_eq!(store.differences().unwrap(), []);
        store
    }

    #[test]
    fn every_damage_is_found() {
        let mut store = sound();
        for (damage, trace) in [
            ("DELETE FROM free WHERE pool = 2", "is free and not kept so"),
            ("DELETE FROM allocation WHERE pool = 2", "is free and not kept so"),
            ("DELETE FROM allocation WHERE pool = 2", "allocated is kept as 1 and comes to 0"),
            (
                "UPDATE free SET first = plus(first, x'00000000000000000000000000000001') WHERE pool = 2",
                "::101 is free and not",
            ),
            (
                "UPDATE free SET first = minus(first, x'00000000000000000000000000000001') WHERE pool = 2",
                "::100 is kept as free",
            ),
            ("INSERT INTO free VALUES (1, zeroblob(16), zeroblob(16), 0, 99)", ":: is kept as free and is not"),
            (
                "INSERT INTO free VALUES (2, plus(zeroblob(16), x'000000000000000000000000000001f0'), x'000000000000000000000000000001f0', 0, NULL)",
                "the index by free spans has one too many: ::1f0",
            ),
            ("UPDATE free SET room = room + 1 WHERE pool = 2", "the index by room"),
            ("UPDATE free SET slot = 77 WHERE pool = 1 AND slot = 3", "the index by slot lacks one: 3"),
            ("UPDATE free SET slot = NULL WHERE pool = 1 AND slot = 3", "the index by slot lacks one"),
            ("UPDATE free SET slot = 0 WHERE pool = 2", "the index by slot has one too many: 0"),
            ("UPDATE tally SET free = zeroblob(16) WHERE level = 1", "the index by tally has one too many: level 1"),
            ("DELETE FROM tally WHERE level = 0 AND position = 1", "the index by tally lacks one: level 0, position 1"),
            ("INSERT INTO tally VALUES (2, 0, 0, zeroblob(16))", "the index by tally has one too many"),
            ("UPDATE pool SET allocatable = zeroblob(16) WHERE id = 2", "allocatable is kept as 0 and comes to 256"),
            ("UPDATE pool SET allocated = zeroblob(16) WHERE id = 2", "allocated is kept as 0 and comes to 1"),
            ("UPDATE pool SET quarantined = zeroblob(16) WHERE id = 1", "quarantined is kept as 0 and comes to 1"),
            ("UPDATE pool SET generation = 20 WHERE id = 1", "generation is kept as 20 and comes to 21"),
            ("UPDATE pool SET strategy = 0 WHERE id = 1", "the index by slot has one too many"),
            ("UPDATE pool SET strategy = 2 WHERE id = 2", "the index by tally lacks one"),
            ("DELETE FROM allocatable WHERE pool = 2", "::100 is not allocatable"),
            (
                "UPDATE allocatable SET last = x'000000000000000000000000000000f8' WHERE pool = 1",
                "allocatable is kept as",
            ),
            (
                "INSERT INTO allocatable SELECT pool, last, last FROM allocatable WHERE pool = 2",
                "the index by allocatable spans",
            ),
            (
                "UPDATE allocation SET host_bits = 2 WHERE pool = 1 AND first = x'00000000000000000000000000000018'",
                "::18/126 and ::1a overlap",
            ),
            ("INSERT INTO quarantine VALUES (2, x'00000000000000000000000000000100', 3, 9)", "overlap"),
            ("INSERT INTO quarantine VALUES (1, zeroblob(16), -1, 9)", ":: is not allocatable"),
            ("DELETE FROM quarantine", "::14 is free and not kept so"),
            ("DELETE FROM pool WHERE id = 1", "has one too many: allocations of pool 1"),
            ("DELETE FROM pool WHERE id = 1", "has one too many: tallies of pool 1"),
            ("INSERT INTO allocatable VALUES (9, zeroblob(16), zeroblob(16))", "allocatable spans of pool 9"),
            ("INSERT INTO free VALUES (9, zeroblob(16), zeroblob(16), 0, NULL)", "free spans of pool 9"),
            ("INSERT INTO quarantine VALUES (9, zeroblob(16), -1, 9)", "quarantine of pool 9"),
        ] {
            store.mark().unwrap();
            store.connection.execute_batch(damage).unwrap();
            let found: Vec<_> = store.audit().unwrap().iter().map(ToString::to_string).collect();
            assert!(found.iter().any(|found| found.contains(trace)), "{damage}: {found:?}");
            store.undo().unwrap();
        }
        assert_eq!(store.audit().unwrap(), []);
    }
}
