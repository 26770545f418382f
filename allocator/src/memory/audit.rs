//! The consistency check: everything that is kept twice is worked out from the records and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Tables;
use super::pool::MemoryPool;
use super::records::RecordId;
use crate::address::AddressRange;
use crate::audit::Difference;
use crate::policy::Repeat;
use crate::span::{Span, Spans, merge, subtract};

/// Every difference between what is kept and what follows from the records. So many of them wait for the transaction's end
/// to be forgotten.
pub(super) fn audit(tables: &Tables, waiting: usize) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (id, pool) in &tables.pools {
        audit_pool(tables, *id, pool, &mut differences);
    }
    audit_indexes(tables, waiting, &mut differences);
    differences
}

fn audit_pool(tables: &Tables, id: u32, pool: &MemoryPool, differences: &mut Vec<Difference>) {
    let mut taken = Spans::new();
    let (mut allocated, mut quarantined) = (0_u128, 0_u128);
    let mut before: Option<RecordId> = None;
    for record_id in pool.layout.records() {
        let Some(record) = tables.records.get(record_id).filter(|record| record.pool() == id) else {
            differences.push(index("address", pool, format!("record {}", record_id.0), true));
            continue;
        };
        let (extent, span) = (record.extent(), record.extent().span());
        let resource = extent.resource(pool.facts.prefix.family);
        if let Some(other) = before.and_then(|before| tables.records.get(before))
            && other.extent().span().last() >= span.first()
        {
            let other = other.extent().resource(pool.facts.prefix.family);
            differences.push(Difference::Overlap { pool: pool.name.clone(), one: other, other: resource });
        }
        if !pool.layout.may_hand_out(span) {
            differences.push(Difference::NotAllocatable { pool: pool.name.clone(), resource });
        }
        let count = if record.owner().is_some() { &mut allocated } else { &mut quarantined };
        *count = count.saturating_add(span.size());
        taken.push(span);
        before = Some(record_id);
    }
    let usage = pool.usage();
    compare_count(pool, "allocated addresses", usage.allocated, allocated, differences);
    compare_count(pool, "addresses in quarantine", usage.quarantined, quarantined, differences);
    compare_count(pool, "free addresses", pool.layout.free(), usage.free(), differences);
    compare_free(tables, pool, &subtract(&pool.layout.allocatable, &merge(taken)), differences);
}

fn compare_count(pool: &MemoryPool, what: &'static str, kept: u128, counted: u128, differences: &mut Vec<Difference>) {
    if kept != counted {
        differences.push(Difference::Count { pool: pool.name.clone(), what, kept, counted });
    }
}

/// Compares the free spans that the tree finds with those that there are.
fn compare_free(tables: &Tables, pool: &MemoryPool, free: &[Span], differences: &mut Vec<Difference>) {
    let mut kept = Spans::new();
    let mut from = Some(pool.facts.prefix.span.first());
    while let Some(first) = from.and_then(|from| pool.layout.free_from(&tables.records, from)) {
        // The free span that begins there ends before the next thing that is taken.
        let last = pool.layout.free_until(&tables.records, first);
        kept.extend(Span::new(first, last));
        from = last.checked_add(1);
    }
    let mut report = |spans: Spans, is_kept: bool| {
        for span in spans {
            let range = AddressRange::of(pool.facts.prefix.family, span);
            differences.push(Difference::Free { pool: pool.name.clone(), range, is_kept });
        }
    };
    report(subtract(&kept, free), true);
    report(subtract(free, &kept), false);
}

/// Every record of a pool is among what its owner holds, and nothing else is; so with ends.
fn audit_indexes(tables: &Tables, waiting: usize, differences: &mut Vec<Difference>) {
    let mut held = BTreeSet::new();
    let mut ends = BTreeSet::new();
    let mut repeats = BTreeSet::new();
    let mut owners: BTreeMap<&str, BTreeSet<RecordId>> = BTreeMap::new();
    for pool in tables.pools.values() {
        for id in pool.layout.records() {
            let Some(record) = tables.records.get(id) else { continue };
            held.insert(id);
            ends.extend(tables.end_of(id).map(|end_ms| (end_ms, id)));
            if record.owner().is_some() {
                owners.entry(tables.texts.get(record.owner())).or_default().insert(id);
                repeats.extend((pool.facts.policy.repeat != Repeat::Another).then(|| tables.repeat(id)).flatten());
            }
        }
    }
    let mut compare = Comparison { tables, differences };
    compare.sets("end", &tables.by_end, &ends, |(_, id)| *id);
    compare.sets(
        "record with an end",
        &tables.ends.keys().copied().collect(),
        &ends.into_iter().map(|(_, id)| id).collect(),
        |id| *id,
    );
    compare.sets("pool and owner", &tables.repeats, &repeats, |(.., id)| *id);
    let most = tables.records.len().saturating_add(1);
    for (owner, ids) in &owners {
        let listed = tables.owners.records(&tables.records, &tables.texts, owner).take(most).collect();
        compare.sets("owner", &listed, ids, |id| *id);
    }
    compare.numbers("owner", tables.owners.len(), owners.len());
    compare.numbers("record", tables.records.len(), held.len().saturating_add(waiting));
}

/// What is kept beside what follows from the records.
struct Comparison<'a> {
    tables: &'a Tables,
    differences: &'a mut Vec<Difference>,
}

impl Comparison<'_> {
    fn sets<T: Ord>(
        &mut self,
        what: &'static str,
        kept: &BTreeSet<T>,
        worked_out: &BTreeSet<T>,
        record: impl Fn(&T) -> RecordId,
    ) {
        for (entries, others, is_kept) in [(kept, worked_out, true), (worked_out, kept, false)] {
            for entry in entries.difference(others) {
                let (pool, entry) = self.describe(record(entry));
                self.differences.push(Difference::Index { what, pool, entry, is_kept });
            }
        }
    }

    /// The pool and the addresses of a record.
    fn describe(&self, id: RecordId) -> (Arc<str>, String) {
        let record = self.tables.records.get(id);
        let found = record.and_then(|record| Some((record, self.tables.pools.get(&record.pool())?)));
        match found {
            Some((record, pool)) => (pool.name.clone(), record.extent().resource(pool.facts.prefix.family).to_string()),
            None => ("".into(), format!("record {}", id.0)),
        }
    }

    /// Where single entries cannot be told apart.
    fn numbers(&mut self, what: &'static str, kept: usize, worked_out: usize) {
        if kept != worked_out {
            let entry = format!("{kept} entries for {worked_out}");
            self.differences.push(Difference::Index { what, pool: "".into(), entry, is_kept: kept > worked_out });
        }
    }
}

fn index(what: &'static str, pool: &MemoryPool, entry: String, is_kept: bool) -> Difference {
    Difference::Index { what, pool: pool.name.clone(), entry, is_kept }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryStore;
    use super::super::records::Record;
    use super::*;
    use crate::address::Family;
    use crate::policy::Policy;
    use crate::pool::Prefix;
    use crate::resource::Extent;
    use crate::store::{Access, PoolId, Store};

    const P: u32 = 1;
    const LEASED: RecordId = RecordId(0);
    const BLOCK: RecordId = RecordId(1);

    /// A pool of the addresses 0 to 15, of which 1 to 14 may be handed out: 1 is leased by `a`, 2 in quarantine, the block
    /// from 8 to 11 held by `b`.
    fn store() -> MemoryStore {
        let mut store = MemoryStore::default();
        store.begin(Access::Write).unwrap();
        let prefix = Prefix { family: Family::Ipv4, span: Span::new(0, 15).unwrap() };
        let pool = store.insert_pool("p", "", prefix).unwrap();
        assert_eq!(pool, PoolId(P.into()));
        let policy = Policy { repeat: Repeat::Same, ..Policy::default() };
        store.shape_pool(pool, policy, &[Span::new(1, 14).unwrap()]).unwrap();
        store.hold(pool, Extent::address(1), "a", Some(5), None).unwrap();
        store.hold(pool, Extent::new(8, Some(2)).unwrap(), "b", None, None).unwrap();
        store.hold(pool, Extent::address(2), "c", None, None).unwrap();
        store.end(pool, Extent::address(2), Some(9)).unwrap();
        store.commit().unwrap();
        store
    }

    fn pool(tables: &mut Tables) -> &mut MemoryPool {
        tables.pools.get_mut(&P).unwrap()
    }

    /// The differences after a damage.
    fn after(damage: impl FnOnce(&mut Tables)) -> Vec<String> {
        let mut store = store();
        damage(&mut store.tables);
        store.audit().unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_sound_state_has_no_differences() {
        assert_eq!(after(|_| {}), [""; 0]);
        let mut store = store();
        store.begin(Access::Write).unwrap();
        store.end(PoolId(P.into()), Extent::address(1), None).unwrap();
        assert_eq!(store.audit().unwrap(), [], "what a transaction released waits for its end");
    }

    #[test]
    fn wrong_counts_are_told() {
        let count_again = |tables: &mut Tables, id| {
            let record = *tables.records.get(id).unwrap();
            pool(tables).count_in(&record);
        };
        assert_eq!(
            after(|tables| count_again(tables, BLOCK)),
            [
                r#"pool "p": allocated addresses is kept as 9 and comes to 5"#,
                r#"pool "p": free addresses is kept as 8 and comes to 4"#,
            ]
        );
        let quarantined = |tables: &mut Tables| pool(tables).layout.records().nth(1).unwrap();
        assert_eq!(
            after(|tables| {
                let id = quarantined(tables);
                count_again(tables, id);
            }),
            [
                r#"pool "p": addresses in quarantine is kept as 2 and comes to 1"#,
                r#"pool "p": free addresses is kept as 8 and comes to 7"#,
            ]
        );
    }

    #[test]
    fn what_must_not_be_held_is_told() {
        let narrower = [Span::new(2, 14).unwrap()];
        let lines = after(|tables| pool(tables).layout.allocatable = narrower.into_iter().collect());
        assert_eq!(lines, [r#"pool "p": 0.0.0.1 is not allocatable"#]);
        // The block now reaches from 0 to 3, over both addresses.
        let lines = after(|tables| {
            let record = *tables.records.get(BLOCK).unwrap();
            let wide = Extent::new(0, Some(2)).unwrap();
            *tables.records.get_mut(LEASED).unwrap() = Record::new(P, wide, record.owner(), 1);
        });
        assert!(lines.contains(&r#"pool "p": 0.0.0.0/30 and 0.0.0.2 overlap"#.to_owned()), "{lines:?}");
        assert!(lines.contains(&r#"pool "p": 0.0.0.0/30 is not allocatable"#.to_owned()), "{lines:?}");
        // One beside another overlaps nothing.
        assert!(!lines.iter().any(|line| line.contains("8/30")), "{lines:?}");
    }

    #[test]
    fn free_spans_that_are_not_are_told_and_the_other_way_round() {
        let holed = [Span::new(1, 3).unwrap(), Span::new(6, 14).unwrap()];
        let lines = after(|tables| pool(tables).layout.allocatable = holed.into_iter().collect());
        assert_eq!(lines, [r#"pool "p": 0.0.0.4-0.0.0.5 is kept as free and is not"#]);
        let wider = [Span::new(1, 15).unwrap()];
        let lines = after(|tables| pool(tables).layout.allocatable = wider.into_iter().collect());
        assert_eq!(lines, [r#"pool "p": 0.0.0.15 is free and not kept so"#]);
    }

    #[test]
    fn wrong_indexes_are_told() {
        assert_eq!(
            after(|tables| assert_eq!(tables.ends.remove(&LEASED), Some(5))),
            [r#"pool "p": the index by end has one too many: 0.0.0.1"#]
        );
        assert_eq!(
            after(|tables| assert!(tables.by_end.remove(&(5, LEASED)))),
            [r#"pool "p": the index by end lacks one: 0.0.0.1"#]
        );
        assert_eq!(
            after(|tables| assert_eq!(tables.ends.insert(RecordId(77), 3), None)),
            [r#"pool "": the index by record with an end has one too many: record 77"#]
        );
        assert_eq!(
            after(|tables| tables.repeats.retain(|(.., id)| *id != BLOCK)),
            [r#"pool "p": the index by pool and owner lacks one: 0.0.0.8/30"#]
        );
        assert_eq!(
            after(|tables| tables.owners.unlink(&mut tables.records, &tables.texts, BLOCK)),
            [
                r#"pool "p": the index by owner lacks one: 0.0.0.8/30"#,
                r#"pool "": the index by owner lacks one: 1 entries for 2"#,
            ]
        );
        let leaked = |tables: &mut Tables| {
            let owner = tables.texts.insert("d").unwrap();
            let id = tables.records.insert(Record::new(P, Extent::address(5), owner, 1)).unwrap();
            tables.owners.link(&mut tables.records, &tables.texts, id);
        };
        assert_eq!(
            after(leaked),
            [
                r#"pool "": the index by owner has one too many: 3 entries for 2"#,
                r#"pool "": the index by record has one too many: 4 entries for 3"#,
            ]
        );
    }

    #[test]
    fn records_of_another_pool_are_told() {
        let lines = after(|tables| {
            let owner = tables.records.get(LEASED).unwrap().owner();
            *tables.records.get_mut(LEASED).unwrap() = Record::new(P + 1, Extent::address(1), owner, 1);
        });
        assert_eq!(lines[0], r#"pool "p": the index by address has one too many: record 0"#);
    }
}
