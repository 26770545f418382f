//! The store in memory: a tree of taken spans for each pool, one record for each of them, and a log of how to undo what the
//! open transaction did.
//!
//! Each change is made by one function that has an inverse, and logs it; rolling back applies the log from its end. What is
//! given back keeps its record and its owner's name until the commit, so undoing only links it in again.
//!
//! | part | holds |
//! |---|---|
//! | [`tree`] | which spans of a pool are taken, by what, and the free ones between them |
//! | [`records`] | what is held or in quarantine, 40 bytes each |
//! | [`owners`], [`texts`] | who holds it, and the names |
//! | [`pool`] | a pool and its tree |
//! | [`audit`] | the consistency check |

mod audit;
mod owners;
mod pool;
mod records;
mod texts;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxHashMap;

use crate::address::Family;
use crate::audit::Difference;
use crate::error::{Error, Result};
use crate::policy::{Policy, Repeat};
use crate::pool::Prefix;
use crate::resource::Extent;
use crate::span::{Span, subtract};
use crate::store::{Access, Allocation, Filter, Holder, Obstacle, Over, Place, Pool, PoolId, Store, Tenure, Usage};
use owners::Owners;
use pool::{Layout, MemoryPool};
use records::{Record, RecordId, Records};
use texts::{TextId, Texts};

/// Keeps the state of a [`MemoryAllocator`](crate::MemoryAllocator). No call on it fails.
///
/// An allocation takes 56 to 62 bytes and its owner's name: 40 for the record, 9 to 13 in the pool's tree, 6 to 12 to find
/// its owner. An end takes 40 more, and a pool that does not grant [`Repeat::Another`] 70 for each allocation.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Tables,
    /// What undoes the open transaction, last one first to apply.
    log: Vec<Undo>,
    /// How long the log was at each mark.
    marks: Vec<usize>,
    is_open: bool,
}

#[derive(Debug, Default)]
struct Tables {
    now_ms: u64,
    last_pool: u32,
    /// No pool that was removed had an allocation with a higher number.
    generation: u64,
    pools: BTreeMap<u32, MemoryPool>,
    names: HashMap<Arc<str>, u32>,
    /// The last addresses of prefixes by address space, family and first address.
    prefixes: BTreeMap<(Arc<str>, Family, u128), u128>,
    records: Records,
    texts: Texts,
    owners: Owners,
    /// Ends of leases and quarantines.
    ends: FxHashMap<RecordId, u64>,
    by_end: BTreeSet<(u64, RecordId)>,
    /// What owners hold in pools where it matters, by pool and hash of the name.
    repeats: BTreeSet<(u32, u64, Extent, RecordId)>,
    /// The record that was looked up last: most are looked up and then changed. None that is not linked in.
    latest: Option<RecordId>,
}

/// How to undo a change.
#[derive(Debug)]
enum Undo {
    SetNow(u64),
    SetGeneration(u64),
    RemovePool(u32),
    InsertPool(u32, Box<MemoryPool>),
    SetLayout(u32, Policy, Box<Layout>),
    SetCursor(u32, u128),
    Unlink(RecordId),
    Link(RecordId),
    SetEnd(RecordId, Option<u64>),
}

impl Tables {
    fn pool(&self, id: PoolId) -> Result<&MemoryPool> {
        self.pools.get(&key(id)).ok_or_else(missing)
    }

    fn pool_mut(&mut self, id: PoolId) -> Result<&mut MemoryPool> {
        self.pools.get_mut(&key(id)).ok_or_else(missing)
    }

    fn insert_pool(&mut self, key: u32, pool: MemoryPool) {
        self.names.insert(pool.name.clone(), key);
        self.prefixes.insert(pool.place(), pool.facts.prefix.span.last());
        self.pools.insert(key, pool);
    }

    fn remove_pool(&mut self, key: u32) -> Result<MemoryPool> {
        let pool = self.pools.remove(&key).ok_or_else(missing)?;
        self.names.remove(&pool.name);
        self.prefixes.remove(&pool.place());
        Ok(pool)
    }

    /// Replaces what a pool may hand out and how, and gives what it was.
    fn set_layout(&mut self, key: u32, policy: Policy, layout: Layout) -> Result<(Policy, Layout)> {
        let pool = self.pools.get_mut(&key).ok_or_else(missing)?;
        let before = (pool.facts.policy, std::mem::replace(&mut pool.layout, layout));
        pool.facts.policy = policy;
        let remembers = |policy: Policy| policy.repeat != Repeat::Another;
        match (remembers(before.0), remembers(policy)) {
            (false, true) => {
                let ids: Vec<RecordId> = pool.layout.records().collect();
                let repeats: Vec<_> = ids.into_iter().filter_map(|id| self.repeat(id)).collect();
                self.repeats.extend(repeats);
            }
            (true, false) => {
                let after = key.checked_add(1);
                let mut others = self.repeats.split_off(&(key, 0, Extent::FIRST, RecordId(0)));
                if let Some(after) = after {
                    self.repeats.append(&mut others.split_off(&(after, 0, Extent::FIRST, RecordId(0))));
                }
            }
            _ => {}
        }
        Ok(before)
    }

    /// The entry of a record among what owners hold.
    fn repeat(&self, id: RecordId) -> Option<(u32, u64, Extent, RecordId)> {
        let record = self.records.get(id)?;
        let owner = Some(record.owner()).filter(|owner| owner.is_some())?;
        Some((record.pool(), self.owners.hash(self.texts.bytes(owner)), record.extent(), id))
    }

    /// Makes a record count: its addresses are taken, its owner has it.
    fn link(&mut self, id: RecordId) -> Result<()> {
        let record = *self.records.get(id).ok_or_else(missing)?;
        let pool = self.pools.get_mut(&record.pool()).ok_or_else(missing)?;
        if !pool.layout.take(&self.records, id) {
            return Err(Error::storage("the addresses are not free"));
        }
        pool.count_in(&record);
        // One that is linked in again has a lower number, or the same.
        pool.facts.generation = pool.facts.generation.max(record.generation());
        let remembers = pool.facts.policy.repeat != Repeat::Another;
        if record.owner().is_some() {
            self.owners.link(&mut self.records, &self.texts, id);
            if remembers {
                self.repeats.extend(self.repeat(id));
            }
        }
        Ok(())
    }

    /// Makes a record count no more. It is kept.
    fn unlink(&mut self, id: RecordId) -> Result<()> {
        self.latest = None;
        let record = *self.records.get(id).ok_or_else(missing)?;
        let pool = self.pools.get_mut(&record.pool()).ok_or_else(missing)?;
        if !pool.layout.give_back(&self.records, id) {
            return Err(missing());
        }
        pool.count_out(&record);
        let remembers = pool.facts.policy.repeat != Repeat::Another;
        if record.owner().is_some() {
            self.owners.unlink(&mut self.records, &self.texts, id);
            if remembers && let Some(repeat) = self.repeat(id) {
                self.repeats.remove(&repeat);
            }
        }
        Ok(())
    }

    /// Changes when a record ends, and gives when it did before.
    fn set_end(&mut self, id: RecordId, end_ms: Option<u64>) -> Option<u64> {
        if end_ms.is_none() && self.ends.is_empty() {
            return None;
        }
        let before = match end_ms {
            Some(end_ms) => self.ends.insert(id, end_ms),
            None => self.ends.remove(&id),
        };
        if let Some(before) = before {
            self.by_end.remove(&(before, id));
        }
        self.by_end.extend(end_ms.map(|end_ms| (end_ms, id)));
        before
    }

    fn end_of(&self, id: RecordId) -> Option<u64> {
        if self.ends.is_empty() { None } else { self.ends.get(&id).copied() }
    }

    /// The number of an allocation is free for another one. What is in quarantine has that of a former one.
    fn take_number_back(&mut self, id: RecordId) {
        let Some(record) = self.records.get(id).filter(|record| record.owner().is_some()) else { return };
        if let Some(pool) = self.pools.get_mut(&record.pool()) {
            pool.facts.generation = record.generation().saturating_sub(1);
        }
    }

    /// Forgets a record that does not count.
    fn forget(&mut self, id: RecordId) {
        self.set_end(id, None);
        if let Some(record) = self.records.get(id) {
            self.texts.remove(record.owner());
        }
        self.records.remove(id);
    }

    /// The record of just this extent.
    fn record_of(&mut self, pool: PoolId, extent: Extent) -> Result<Option<(RecordId, Record)>> {
        let is_it = |record: &Record| record.pool() == key(pool) && record.extent() == extent;
        let get = |id| Some((id, *self.records.get(id).filter(|record| is_it(record))?));
        if let Some(found) = self.latest.and_then(get) {
            return Ok(Some(found));
        }
        let found = self.pool(pool)?.layout.at(&self.records, extent.first()).and_then(get);
        self.latest = found.map(|(id, _)| id);
        Ok(found)
    }

    fn tenure(&self, id: RecordId, record: &Record) -> Tenure {
        Tenure { extent: record.extent(), expires_ms: self.end_of(id), generation: record.generation() }
    }

    /// The allocation that a record is; none if it is in quarantine.
    fn allocation(&self, id: RecordId) -> Option<(Place, Allocation)> {
        let record = self.records.get(id).filter(|record| record.owner().is_some())?;
        let pool = self.pools.get(&record.pool())?;
        let tenure = self.tenure(id, record);
        let owner = self.texts.get(record.owner()).into();
        let place = Place { pool: PoolId(record.pool().into()), address: tenure.extent.first() };
        Some((place, Allocation::of(pool.name.clone(), pool.facts.prefix.family, owner, tenure)))
    }

    /// Allocations of a pool that begin no lower than an address.
    fn allocations_from<'a>(
        &'a self,
        pool: &'a MemoryPool,
        address: u128,
    ) -> impl Iterator<Item = (Place, Allocation)> + use<'a> {
        // The first one may be a block around the address.
        let found = pool.layout.records_from(&self.records, address).filter_map(|id| self.allocation(id));
        found.skip_while(move |(place, _)| place.address < address)
    }
}

/// The number that this store uses for a pool.
fn key(PoolId(id): PoolId) -> u32 {
    // None of this store is beyond, so nothing is found.
    u32::try_from(id).unwrap_or(u32::MAX)
}

/// A key that the caller should have had from this store is not in it.
fn missing() -> Error {
    Error::storage("the store does not have that key")
}

impl MemoryStore {
    /// Adds a record that counts.
    fn add(&mut self, record: Record, end_ms: Option<u64>) -> Result<()> {
        let id = self.tables.records.insert(record).ok_or_else(|| Error::storage("there are 2^31 allocations"))?;
        if let Err(error) = self.tables.link(id) {
            self.tables.forget(id);
            return Err(error);
        }
        if end_ms.is_some() {
            self.tables.set_end(id, end_ms);
        }
        self.log.push(Undo::Unlink(id));
        Ok(())
    }

    /// Lets a record count no more; the commit forgets it.
    fn take_out(&mut self, id: RecordId) -> Result<()> {
        self.tables.unlink(id)?;
        let end_ms = self.tables.set_end(id, None);
        if end_ms.is_some() {
            self.log.push(Undo::SetEnd(id, end_ms));
        }
        self.log.push(Undo::Link(id));
        Ok(())
    }

    fn apply(&mut self, undo: Undo) -> Result<()> {
        match undo {
            Undo::SetNow(now_ms) => self.tables.now_ms = now_ms,
            Undo::SetGeneration(generation) => self.tables.generation = generation,
            Undo::RemovePool(key) => drop(self.tables.remove_pool(key)?),
            Undo::InsertPool(key, pool) => self.tables.insert_pool(key, *pool),
            Undo::SetLayout(key, policy, layout) => drop(self.tables.set_layout(key, policy, *layout)?),
            Undo::SetCursor(key, cursor) => self.tables.pools.get_mut(&key).ok_or_else(missing)?.cursor = cursor,
            Undo::Unlink(id) => {
                self.tables.unlink(id)?;
                self.tables.take_number_back(id);
                self.tables.forget(id);
            }
            Undo::Link(id) => self.tables.link(id)?,
            Undo::SetEnd(id, end_ms) => drop(self.tables.set_end(id, end_ms)),
        }
        Ok(())
    }

    /// Undoes changes until the log is no longer than `length`.
    fn undo_to(&mut self, length: usize) -> Result<()> {
        while self.log.len() > length {
            let Some(undo) = self.log.pop() else { break };
            self.apply(undo)?;
        }
        Ok(())
    }
}

impl Store for MemoryStore {
    fn begin(&mut self, _: Access) -> Result<()> {
        self.is_open = true;
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.is_open = false;
        self.marks.clear();
        while let Some(undo) = self.log.pop() {
            if let Undo::Link(id) = undo {
                self.tables.forget(id);
            }
        }
        Ok(())
    }

    fn rollback(&mut self) -> Result<()> {
        self.is_open = false;
        self.marks.clear();
        self.undo_to(0)
    }

    fn in_transaction(&self) -> bool {
        self.is_open
    }

    fn mark(&mut self) -> Result<()> {
        self.marks.push(self.log.len());
        Ok(())
    }

    fn keep(&mut self) -> Result<()> {
        self.marks.pop();
        Ok(())
    }

    fn undo(&mut self) -> Result<()> {
        let length = self.marks.pop().ok_or_else(missing)?;
        self.undo_to(length)
    }

    fn clear(&mut self) -> Result<()> {
        *self = Self::default();
        Ok(())
    }

    fn now_ms(&mut self) -> Result<u64> {
        Ok(self.tables.now_ms)
    }

    fn set_now_ms(&mut self, now_ms: u64) -> Result<()> {
        self.log.push(Undo::SetNow(std::mem::replace(&mut self.tables.now_ms, now_ms)));
        Ok(())
    }

    fn find_pool(&mut self, name: &str) -> Result<Option<Pool>> {
        let Some(key) = self.tables.names.get(name) else {
            return Ok(None);
        };
        let pool = self.tables.pools.get(key).ok_or_else(missing)?;
        Ok(Some(pool.facts))
    }

    fn pools(&mut self) -> Result<Vec<(Arc<str>, PoolId)>> {
        let pools = self.tables.pools.iter();
        Ok(pools.map(|(key, pool)| (pool.name.clone(), PoolId(i64::from(*key)))).collect())
    }

    fn prefix_up_to(&mut self, space: &str, family: Family, address: u128) -> Result<Option<Span>> {
        let space: Arc<str> = space.into();
        let up_to = self.tables.prefixes.range((space.clone(), family, 0)..=(space, family, address));
        Ok(up_to.last().and_then(|((.., first), last)| Span::new(*first, *last)))
    }

    fn insert_pool(&mut self, name: &str, space: &str, prefix: Prefix) -> Result<PoolId> {
        let last = self.tables.last_pool.checked_add(1);
        let key = last.ok_or_else(|| Error::storage("2^32 pools have been created"))?;
        self.tables.last_pool = key;
        let id = PoolId(key.into());
        let facts = Pool { id, prefix, policy: Policy::default(), generation: self.tables.generation };
        self.tables.insert_pool(key, MemoryPool::new(facts, name.into(), space.into()));
        self.log.push(Undo::RemovePool(key));
        Ok(id)
    }

    fn remove_pool(&mut self, pool: PoolId) -> Result<()> {
        let ids: Vec<RecordId> = self.tables.pool(pool)?.layout.records().collect();
        for id in ids {
            self.take_out(id)?;
        }
        let removed = self.tables.remove_pool(key(pool))?;
        let highest = self.tables.generation.max(removed.facts.generation);
        self.log.push(Undo::SetGeneration(std::mem::replace(&mut self.tables.generation, highest)));
        self.log.push(Undo::InsertPool(key(pool), Box::new(removed)));
        Ok(())
    }

    fn shape_pool(&mut self, pool: PoolId, policy: Policy, allocatable: &[Span]) -> Result<()> {
        let layout = &self.tables.pool(pool)?.layout;
        let mut staying = Vec::new();
        let mut leaving = Vec::new();
        for id in layout.records() {
            let record = self.tables.records.get(id).ok_or_else(missing)?;
            let stays = subtract(&[record.extent().span()], allocatable).is_empty();
            if stays { staying.push(id) } else { leaving.push(id) }
        }
        for id in leaving {
            self.take_out(id)?;
        }
        let prefix = self.tables.pool(pool)?.facts.prefix;
        let mut layout = Layout::new(prefix, allocatable.iter().copied().collect());
        for id in staying {
            if !layout.take(&self.tables.records, id) {
                return Err(Error::storage("what is held overlaps"));
            }
        }
        let (policy, layout) = self.tables.set_layout(key(pool), policy, layout)?;
        self.log.push(Undo::SetLayout(key(pool), policy, Box::new(layout)));
        Ok(())
    }

    fn allocatable(&mut self, pool: PoolId) -> Result<Vec<Span>> {
        Ok(self.tables.pool(pool)?.layout.allocatable.to_vec())
    }

    fn cursor(&mut self, pool: PoolId) -> Result<u128> {
        Ok(self.tables.pool(pool)?.cursor)
    }

    fn policy(&mut self, pool: PoolId) -> Result<Policy> {
        Ok(self.tables.pool(pool)?.facts.policy)
    }

    fn usage(&mut self, pool: PoolId) -> Result<Usage> {
        Ok(self.tables.pool(pool)?.usage())
    }

    fn free_from(&mut self, pool: PoolId, address: u128) -> Result<Option<u128>> {
        Ok(self.tables.pool(pool)?.layout.free_from(&self.tables.records, address))
    }

    fn nth_free(&mut self, pool: PoolId, n: u128) -> Result<Option<u128>> {
        Ok(self.tables.pool(pool)?.layout.nth_free(&self.tables.records, n))
    }

    fn free_block(&mut self, pool: PoolId, host_bits: u8, address: u128) -> Result<Option<u128>> {
        Ok(self.tables.pool(pool)?.layout.free_block(&self.tables.records, host_bits, address))
    }

    fn obstacle(&mut self, pool: PoolId, extent: Extent) -> Result<Obstacle> {
        let layout = &self.tables.pool(pool)?.layout;
        Ok(match layout.is_free(&self.tables.records, extent.span()) {
            true => Obstacle::None,
            false if layout.may_hand_out(extent.span()) => Obstacle::Taken,
            false => Obstacle::Reserved,
        })
    }

    fn hold(
        &mut self,
        pool: PoolId,
        extent: Extent,
        owner: &str,
        expires_ms: Option<u64>,
        cursor: Option<u128>,
    ) -> Result<u64> {
        let generation = self.tables.pool(pool)?.facts.generation.saturating_add(1);
        let owner = self.tables.texts.insert(owner).ok_or_else(|| Error::storage("there are too many names"))?;
        self.add(Record::new(key(pool), extent, owner, generation), expires_ms)?;
        if let Some(cursor) = cursor {
            let before = std::mem::replace(&mut self.tables.pool_mut(pool)?.cursor, cursor);
            self.log.push(Undo::SetCursor(key(pool), before));
        }
        Ok(generation)
    }

    fn set_expiry(&mut self, pool: PoolId, extent: Extent, expires_ms: Option<u64>) -> Result<()> {
        let (id, _) = self.tables.record_of(pool, extent)?.ok_or_else(missing)?;
        let before = self.tables.set_end(id, expires_ms);
        self.log.push(Undo::SetEnd(id, before));
        Ok(())
    }

    fn end(&mut self, pool: PoolId, extent: Extent, quarantine_until_ms: Option<u64>) -> Result<()> {
        let (id, record) = self.tables.record_of(pool, extent)?.ok_or_else(missing)?;
        let generation = record.generation();
        self.take_out(id)?;
        match quarantine_until_ms {
            None => Ok(()),
            Some(_) => self.add(Record::new(key(pool), extent, TextId::NONE, generation), quarantine_until_ms),
        }
    }

    fn end_quarantine(&mut self, pool: PoolId, extent: Extent) -> Result<()> {
        let (id, _) = self.tables.record_of(pool, extent)?.ok_or_else(missing)?;
        self.take_out(id)
    }

    fn holder(&mut self, pool: PoolId, extent: Extent, owner: &str) -> Result<Holder> {
        let Some((id, record)) = self.tables.record_of(pool, extent)? else {
            return Ok(Holder::Nobody);
        };
        Ok(match record.owner() {
            TextId::NONE => Holder::Nobody,
            other if self.tables.texts.bytes(other) == owner.as_bytes() => {
                Holder::Owner(self.tables.tenure(id, &record))
            }
            _ => Holder::Other,
        })
    }

    fn held_from(&mut self, pool: PoolId, owner: &str, from: Extent) -> Result<Option<Tenure>> {
        let Tables { repeats, owners, texts, records, .. } = &self.tables;
        let (key, hash) = (key(pool), owners.hash(owner.as_bytes()));
        let held = repeats
            .range((key, hash, from, RecordId(0))..)
            .take_while(|(other, other_hash, ..)| (*other, *other_hash) == (key, hash));
        for (.., id) in held {
            let record = records.get(*id).ok_or_else(missing)?;
            // Another owner may have the same hash.
            if texts.bytes(record.owner()) == owner.as_bytes() {
                return Ok(Some(self.tables.tenure(*id, record)));
            }
        }
        Ok(None)
    }

    fn find(&mut self, pool: PoolId, address: u128) -> Result<Option<Allocation>> {
        let id = self.tables.pool(pool)?.layout.at(&self.tables.records, address);
        let found = id.and_then(|id| self.tables.allocation(id));
        Ok(found.map(|(_, allocation)| allocation))
    }

    fn list(&mut self, filter: Filter<'_>) -> Result<Vec<(Place, Allocation)>> {
        let tables = &self.tables;
        match filter {
            Filter::From(Place { pool, address }, most) => {
                let first = u32::try_from(pool.0.max(0)).unwrap_or(u32::MAX);
                let start = move |key: u32| if pool == PoolId(key.into()) { address } else { 0 };
                let pools = tables.pools.range(first..);
                Ok(pools.flat_map(|(key, pool)| tables.allocations_from(pool, start(*key))).take(most).collect())
            }
            Filter::Pool(pool, address, most) => {
                Ok(tables.allocations_from(tables.pool(pool)?, address).take(most).collect())
            }
            Filter::Owner(owner) => {
                let ids = tables.owners.records(&tables.records, &tables.texts, owner);
                let mut held: Vec<_> = ids.filter_map(|id| tables.allocation(id)).collect();
                held.sort_unstable_by_key(|(place, _)| *place);
                Ok(held)
            }
        }
    }

    fn over(&mut self, now_ms: u64) -> Result<Vec<Over>> {
        let over = self.tables.by_end.range(..=(now_ms, RecordId(u32::MAX)));
        let over = over.map(|(ended_ms, id)| {
            let record = self.tables.records.get(*id).ok_or_else(missing)?;
            Ok(Over {
                pool: PoolId(record.pool().into()),
                extent: record.extent(),
                ended_ms: *ended_ms,
                was_quarantined: !record.owner().is_some(),
            })
        });
        over.collect()
    }

    fn audit(&mut self) -> Result<Vec<Difference>> {
        let waiting = self.log.iter().filter(|undo| matches!(undo, Undo::Link(_))).count();
        Ok(audit::audit(&self.tables, waiting))
    }
}
