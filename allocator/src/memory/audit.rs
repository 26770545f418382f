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
