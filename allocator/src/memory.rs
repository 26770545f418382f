//! The store in memory: ordered maps, and a log of how to undo what the open transaction did.
//!
//! Every write is a [`Change`], and applying one yields the change that undoes it, so rolling back is applying the log
//! from its end. Names come from callers, so they are looked up in ordered maps or seeded hash maps, whose cost no choice
//! of names can spoil.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::address::Family;
use crate::error::{Error, Result};
use crate::pool::Prefix;
use crate::span::Span;
use crate::store::{Access, Allocation, Filter, Holder, Pool, PoolId, Store};

/// The first addresses of free spans by their last ones.
type FreeSpans = BTreeMap<u128, u128>;

/// Keeps the state of a [`MemoryAllocator`](crate::MemoryAllocator). No call on it fails.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Tables,
    /// The changes that undo the open transaction, last one first to apply.
    undo: Vec<Change>,
    /// How long `undo` was at the mark.
    mark: usize,
    open: bool,
}

#[derive(Debug, Default)]
struct Tables {
    now_ms: u64,
    last_id: i64,
    pools: FxHashMap<PoolId, MemoryPool>,
    names: BTreeMap<Arc<str>, PoolId>,
    prefixes: BTreeMap<(Family, u128), u128>,
    owners: HashMap<Arc<str>, Owner>,
    last_owner: u64,
    by_owner: BTreeSet<(OwnerId, PoolId, u128)>,
    expiries: BTreeSet<(u64, PoolId, u128)>,
}

#[derive(Debug)]
struct MemoryPool {
    name: Arc<str>,
    prefix: Prefix,
    allocatable: u128,
    free: FreeSpans,
    held: BTreeMap<u128, Holding>,
}

/// A number that stands for an owner's name in the index, so that the index needs no names.
type OwnerId = u64;

/// An owner that holds something.
#[derive(Debug)]
struct Owner {
    id: OwnerId,
    /// How many addresses it holds, never 0.
    held: u64,
}

/// Who holds an address, and until when.
#[derive(Debug)]
struct Holding {
    owner: Arc<str>,
    expires_ms: Option<u64>,
}

/// The bounds of pool keys, to look for all pools in an index.
const FIRST: PoolId = PoolId(i64::MIN);
const LAST: PoolId = PoolId(i64::MAX);

/// One write to the tables.
#[derive(Debug)]
enum Change {
    SetNow(u64),
    InsertPool(PoolId, Box<MemoryPool>),
    RemovePool(PoolId),
    Reshape(PoolId, u128, FreeSpans),
    PutFree(PoolId, Span),
    RemoveFree(PoolId, u128),
    Insert(PoolId, u128, Holding),
    SetExpiry(PoolId, u128, Option<u64>),
    Remove(PoolId, u128),
}

impl Tables {
    /// Applies a change and returns the one that undoes it.
    #[inline(always)]
    fn apply(&mut self, change: Change) -> Result<Change> {
        match change {
            Change::SetNow(now_ms) => Ok(Change::SetNow(std::mem::replace(&mut self.now_ms, now_ms))),
            Change::InsertPool(id, pool) => Ok(self.insert_pool(id, *pool)),
            Change::RemovePool(id) => self.remove_pool(id),
            Change::Reshape(id, allocatable, free) => {
                let pool = self.pool_mut(id)?;
                let allocatable = std::mem::replace(&mut pool.allocatable, allocatable);
                Ok(Change::Reshape(id, allocatable, std::mem::replace(&mut pool.free, free)))
            }
            Change::PutFree(id, span) => {
                let replaced = self.pool_mut(id)?.free.insert(span.last(), span.first());
                let replaced = replaced.and_then(|first| Span::new(first, span.last()));
                Ok(replaced.map_or(Change::RemoveFree(id, span.last()), |old| Change::PutFree(id, old)))
            }
            Change::RemoveFree(id, last) => {
                let first = self.pool_mut(id)?.free.remove(&last).ok_or_else(missing)?;
                Ok(Change::PutFree(id, Span::new(first, last).ok_or_else(missing)?))
            }
            Change::Insert(id, address, holding) => self.insert(id, address, holding),
            Change::SetExpiry(id, address, expires_ms) => self.set_expiry(id, address, expires_ms),
            Change::Remove(id, address) => self.remove(id, address),
        }
    }

    fn insert_pool(&mut self, id: PoolId, pool: MemoryPool) -> Change {
        self.last_id = self.last_id.max(id.0);
        self.names.insert(pool.name.clone(), id);
        self.prefixes.insert((pool.prefix.family, pool.prefix.span.first()), pool.prefix.span.last());
        self.pools.insert(id, pool);
        Change::RemovePool(id)
    }

    fn remove_pool(&mut self, id: PoolId) -> Result<Change> {
        let pool = self.pools.remove(&id).ok_or_else(missing)?;
        self.names.remove(&pool.name);
        self.prefixes.remove(&(pool.prefix.family, pool.prefix.span.first()));
        Ok(Change::InsertPool(id, Box::new(pool)))
    }

    #[inline]
    fn insert(&mut self, id: PoolId, address: u128, mut holding: Holding) -> Result<Change> {
        let owner = match self.owners.entry(holding.owner.clone()) {
            Entry::Occupied(known) => {
                holding.owner = known.key().clone();
                known.into_mut()
            }
            Entry::Vacant(new) => {
                self.last_owner = self.last_owner.saturating_add(1);
                new.insert(Owner { id: self.last_owner, held: 0 })
            }
        };
        owner.held = owner.held.saturating_add(1);
        self.by_owner.insert((owner.id, id, address));
        self.expiries.extend(holding.expires_ms.map(|expires_ms| (expires_ms, id, address)));
        self.pool_mut(id)?.held.insert(address, holding);
        Ok(Change::Remove(id, address))
    }

    fn set_expiry(&mut self, id: PoolId, address: u128, expires_ms: Option<u64>) -> Result<Change> {
        let holding = self.pool_mut(id)?.held.get_mut(&address).ok_or_else(missing)?;
        let before_ms = std::mem::replace(&mut holding.expires_ms, expires_ms);
        if let Some(before_ms) = before_ms {
            self.expiries.remove(&(before_ms, id, address));
        }
        self.expiries.extend(expires_ms.map(|expires_ms| (expires_ms, id, address)));
        Ok(Change::SetExpiry(id, address, before_ms))
    }

    #[inline]
    fn remove(&mut self, id: PoolId, address: u128) -> Result<Change> {
        let holding = self.pool_mut(id)?.held.remove(&address).ok_or_else(missing)?;
        if let Some(expires_ms) = holding.expires_ms {
            self.expiries.remove(&(expires_ms, id, address));
        }
        if let Entry::Occupied(mut owner) = self.owners.entry(holding.owner.clone()) {
            self.by_owner.remove(&(owner.get().id, id, address));
            owner.get_mut().held = owner.get().held.saturating_sub(1);
            if owner.get().held == 0 {
                owner.remove();
            }
        }
        Ok(Change::Insert(id, address, holding))
    }

    fn pool(&self, id: PoolId) -> Result<&MemoryPool> {
        self.pools.get(&id).ok_or_else(missing)
    }

    fn pool_mut(&mut self, id: PoolId) -> Result<&mut MemoryPool> {
        self.pools.get_mut(&id).ok_or_else(missing)
    }
}

/// A key that the caller should have had from this store is not in it.
fn missing() -> Error {
    Error::storage("the store does not have that key")
}

impl MemoryPool {
    fn allocation(&self, address: u128, holding: &Holding) -> Allocation {
        Allocation {
            pool: self.name.clone(),
            address: self.prefix.family.address(address),
            owner: holding.owner.clone(),
            expires_ms: holding.expires_ms,
        }
    }
}

impl MemoryStore {
    /// Inlined, so that a caller that names the change pays for no dispatch.
    #[inline(always)]
    fn apply(&mut self, change: Change) -> Result<()> {
        let inverse = self.tables.apply(change)?;
        self.undo.push(inverse);
        Ok(())
    }

    /// Undoes changes until the log is no longer than `length`.
    fn undo_to(&mut self, length: usize) -> Result<()> {
        while self.undo.len() > length {
            let Some(change) = self.undo.pop() else { break };
            self.tables.apply(change)?;
        }
        Ok(())
    }

    /// The allocations at given places, in the order of the places.
    fn at(&self, places: impl Iterator<Item = (PoolId, u128)>) -> Result<Vec<(PoolId, Allocation)>> {
        let allocation = |(id, address)| {
            let pool = self.tables.pool(id)?;
            let holding = pool.held.get(&address).ok_or_else(missing)?;
            Ok((id, pool.allocation(address, holding)))
        };
        places.map(allocation).collect()
    }

    /// The allocations of one pool.
    fn in_pool(&self, id: PoolId) -> Result<impl Iterator<Item = (PoolId, Allocation)>> {
        let pool = self.tables.pool(id)?;
        Ok(pool.held.iter().map(move |(address, holding)| (id, pool.allocation(*address, holding))))
    }
}

impl Store for MemoryStore {
    fn begin(&mut self, _: Access) -> Result<()> {
        self.open = true;
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.open = false;
        self.undo.clear();
        Ok(())
    }

    fn rollback(&mut self) -> Result<()> {
        self.open = false;
        self.undo_to(0)
    }

    fn in_transaction(&self) -> bool {
        self.open
    }

    fn mark(&mut self) -> Result<()> {
        self.mark = self.undo.len();
        Ok(())
    }

    fn keep(&mut self) -> Result<()> {
        Ok(())
    }

    fn undo(&mut self) -> Result<()> {
        self.undo_to(self.mark)
    }

    fn clear(&mut self) -> Result<()> {
        *self = Self::default();
        Ok(())
    }

    fn now_ms(&mut self) -> Result<u64> {
        Ok(self.tables.now_ms)
    }

    fn set_now_ms(&mut self, now_ms: u64) -> Result<()> {
        self.apply(Change::SetNow(now_ms))
    }

    fn find_pool(&mut self, name: &str) -> Result<Option<Pool>> {
        let Some(id) = self.tables.names.get(name).copied() else {
            return Ok(None);
        };
        let MemoryPool { prefix, allocatable, held, .. } = self.tables.pool(id)?;
        Ok(Some(Pool { id, prefix: *prefix, allocatable: *allocatable, allocated: held.len() as u64 }))
    }

    fn prefix_up_to(&mut self, family: Family, address: u128) -> Result<Option<Span>> {
        let prefix = self.tables.prefixes.range((family, 0)..=(family, address)).next_back();
        Ok(prefix.and_then(|((_, first), last)| Span::new(*first, *last)))
    }

    fn insert_pool(&mut self, name: &str, prefix: Prefix) -> Result<PoolId> {
        let id = PoolId(self.tables.last_id.saturating_add(1));
        let (free, held) = (FreeSpans::new(), BTreeMap::new());
        let pool = MemoryPool { name: name.into(), prefix, allocatable: 0, free, held };
        self.apply(Change::InsertPool(id, Box::new(pool)))?;
        Ok(id)
    }

    fn remove_pool(&mut self, pool: PoolId) -> Result<()> {
        self.apply(Change::RemovePool(pool))
    }

    fn reshape_pool(&mut self, pool: PoolId, allocatable: u128, free: &[Span]) -> Result<()> {
        let free = free.iter().map(|span| (span.last(), span.first())).collect();
        self.apply(Change::Reshape(pool, allocatable, free))
    }

    fn free_from(&mut self, pool: PoolId, address: u128) -> Result<Option<Span>> {
        let free = self.tables.pool(pool)?.free.range(address..).next();
        Ok(free.and_then(|(last, first)| Span::new(*first, *last)))
    }

    fn put_free(&mut self, pool: PoolId, span: Span) -> Result<()> {
        self.apply(Change::PutFree(pool, span))
    }

    fn remove_free(&mut self, pool: PoolId, last: u128) -> Result<()> {
        self.apply(Change::RemoveFree(pool, last))
    }

    fn holder(&mut self, pool: PoolId, address: u128, owner: &str) -> Result<Holder> {
        Ok(match self.tables.pool(pool)?.held.get(&address) {
            None => Holder::Nobody,
            Some(holding) if *holding.owner == *owner => Holder::Owner,
            Some(_) => Holder::Other,
        })
    }

    fn insert_allocation(&mut self, pool: PoolId, address: u128, owner: &str, expires_ms: Option<u64>) -> Result<()> {
        self.apply(Change::Insert(pool, address, Holding { owner: owner.into(), expires_ms }))
    }

    fn set_expiry(&mut self, pool: PoolId, address: u128, expires_ms: u64) -> Result<()> {
        self.apply(Change::SetExpiry(pool, address, Some(expires_ms)))
    }

    fn remove_allocation(&mut self, pool: PoolId, address: u128) -> Result<()> {
        self.apply(Change::Remove(pool, address))
    }

    fn list(&mut self, filter: Filter<'_>) -> Result<Vec<(PoolId, Allocation)>> {
        match filter {
            Filter::All => {
                let mut all = Vec::new();
                for id in self.tables.names.values() {
                    all.extend(self.in_pool(*id)?);
                }
                Ok(all)
            }
            Filter::Pool(pool) => Ok(self.in_pool(pool)?.collect()),
            Filter::Owner(owner) => {
                let Some(Owner { id, .. }) = self.tables.owners.get(owner) else {
                    return Ok(Vec::new());
                };
                let held = self.tables.by_owner.range((*id, FIRST, 0)..=(*id, LAST, u128::MAX));
                self.at(held.map(|(_, pool, address)| (*pool, *address)))
            }
            Filter::ExpiredAt(now_ms) => {
                let over = self.tables.expiries.range(..=(now_ms, LAST, u128::MAX));
                self.at(over.map(|(_, pool, address)| (*pool, *address)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(store: &mut MemoryStore) {
        let span = Span::new(0, 9).unwrap();
        let pool = store.insert_pool("p0", Prefix { family: Family::Ipv4, span }).unwrap();
        store.reshape_pool(pool, 10, &[span]).unwrap();
        store.put_free(pool, Span::new(1, 9).unwrap()).unwrap();
        store.insert_allocation(pool, 0, "a", Some(5)).unwrap();
        store.set_expiry(pool, 0, 7).unwrap();
        store.set_now_ms(3).unwrap();
    }

    #[test]
    fn rollback_leaves_no_trace_in_any_table() {
        let mut store = MemoryStore::default();
        store.begin(Access::Write).unwrap();
        fill(&mut store);
        store.rollback().unwrap();
        let Tables { now_ms, pools, names, prefixes, owners, by_owner, expiries, .. } = &store.tables;
        assert!(pools.is_empty() && names.is_empty() && prefixes.is_empty());
        assert!(owners.is_empty() && by_owner.is_empty() && expiries.is_empty());
        assert_eq!((*now_ms, store.undo.len()), (0, 0));
    }

    #[test]
    fn what_is_released_leaves_nothing_behind() {
        let mut store = MemoryStore::default();
        store.begin(Access::Write).unwrap();
        fill(&mut store);
        let pool = store.find_pool("p0").unwrap().unwrap().id;
        store.remove_allocation(pool, 0).unwrap();
        store.remove_pool(pool).unwrap();
        store.commit().unwrap();
        let Tables { pools, names, prefixes, owners, by_owner, expiries, .. } = &store.tables;
        assert!(pools.is_empty() && names.is_empty() && prefixes.is_empty());
        assert!(owners.is_empty() && by_owner.is_empty() && expiries.is_empty());
        assert!(store.undo.is_empty());
    }
}
