//! The store by brute force: the oracle that the real stores are measured by.
//!
//! It keeps one map entry for each thing that is held or in quarantine, and nothing that follows from those: what is free,
//! counted, due or found by owner is worked out anew each time. A transaction and each mark in it are copies of all that
//! there is. It also panics when the rules break a promise that [`Store`] asks of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use poolproof_allocator::store::{
    Access, Allocation, Filter, Holder, Obstacle, Over, Place, Pool, PoolId, Store, Tenure, Usage,
};
use poolproof_allocator::{Difference, Extent, Family, Policy, Prefix, Repeat, Resource, Result, Span, Strategy};

#[derive(Debug, Default)]
pub struct NaiveStore {
    state: State,
    /// What to return to: as it was at the beginning of the transaction, and at each mark since.
    before: Vec<State>,
    may_write: bool,
}

#[derive(Clone, Debug, Default)]
struct State {
    now_ms: u64,
    last_pool: i64,
    pools: BTreeMap<PoolId, NaivePool>,
    /// The highest generation of all pools that were removed.
    generation: u64,
}

#[derive(Clone, Debug)]
struct NaivePool {
    name: Arc<str>,
    space: String,
    prefix: Prefix,
    policy: Policy,
    allocatable: Vec<Span>,
    cursor: u128,
    /// That of its last allocation, or where its numbers begin.
    generation: u64,
    /// By lowest address; no two share one.
    taken: BTreeMap<u128, Taken>,
}

#[derive(Clone, Debug)]
struct Taken {
    extent: Extent,
    /// The end of the lease or of the quarantine.
    ends_ms: Option<u64>,
    /// Who holds it by which generation; nobody in quarantine.
    by: Option<(Arc<str>, u64)>,
}

impl Taken {
    fn tenure(&self) -> Option<Tenure> {
        let (_, generation) = self.by.as_ref()?;
        Some(Tenure { extent: self.extent, expires_ms: self.ends_ms, generation: *generation })
    }

    fn is_of(&self, owner: &str) -> bool {
        self.by.as_ref().is_some_and(|(holder, _)| **holder == *owner)
    }
}

fn overlap(one: Span, other: Span) -> bool {
    one.first() <= other.last() && other.first() <= one.last()
}

impl NaivePool {
    /// The free addresses, in spans that are as long as can be.
    fn free(&self) -> Vec<Span> {
        let mut free = Vec::new();
        for span in &self.allocatable {
            let mut from = Some(span.first());
            for taken in self.taken.range(span.first()..=span.last()).map(|(_, taken)| taken.extent.span()) {
                let below = taken.first().checked_sub(1);
                free.extend(from.zip(below).and_then(|(from, below)| Span::new(from, below)));
                from = taken.last().checked_add(1);
            }
            free.extend(from.and_then(|from| Span::new(from, span.last())));
        }
        free
    }

    fn obstacle(&self, extent: Extent) -> Obstacle {
        let span = extent.span();
        if !self.allocatable.iter().any(|allocatable| allocatable.covers(span)) {
            return Obstacle::Reserved;
        }
        match self.taken.values().any(|taken| overlap(taken.extent.span(), span)) {
            true => Obstacle::Taken,
            false => Obstacle::None,
        }
    }

    /// How many addresses are held, or in quarantine.
    fn count(&self, is_held: bool) -> u128 {
        let counted = self.taken.values().filter(|taken| taken.by.is_some() == is_held);
        counted.map(|taken| taken.extent.span().size()).sum()
    }

    fn usage(&self) -> Usage {
        let allocatable = self.allocatable.iter().map(|span| span.size()).sum();
        Usage { allocatable, allocated: self.count(true), quarantined: self.count(false) }
    }

    /// What is taken just so, held or not.
    fn exactly(&mut self, extent: Extent) -> Option<&mut Taken> {
        self.taken.get_mut(&extent.first()).filter(|taken| taken.extent == extent)
    }

    fn held(&mut self, extent: Extent) -> &mut Taken {
        self.exactly(extent).filter(|taken| taken.by.is_some()).expect("the extent is held")
    }

    fn allocation(&self, taken: &Taken) -> Option<Allocation> {
        let (owner, generation) = taken.by.clone()?;
        let resource = resource(self.prefix.family, taken.extent);
        Some(Allocation { pool: self.name.clone(), resource, owner, expires_ms: taken.ends_ms, generation })
    }
}

/// An extent in terms of its family.
pub fn resource(family: Family, extent: Extent) -> Resource {
    let address = family.address(extent.first());
    match extent.host_bits() {
        None => Resource::Address(address),
        Some(host_bits) => Resource::Block(IpNet::new(address, family.bits() - host_bits).unwrap()),
    }
}

/// The lowest multiple of `2^host_bits` from an address on.
fn align(address: u128, host_bits: u8) -> Option<u128> {
    let Some(size) = 1_u128.checked_shl(host_bits.into()) else {
        return (address == 0).then_some(0);
    };
    address.checked_next_multiple_of(size)
}

impl NaiveStore {
    fn read(&self) -> &State {
        assert!(self.in_transaction(), "a store is read in a transaction");
        &self.state
    }

    fn write(&mut self) -> &mut State {
        assert!(self.in_transaction() && self.may_write, "a store is changed in a transaction for writing");
        &mut self.state
    }

    fn of(&self, pool: PoolId) -> &NaivePool {
        &self.read().pools[&pool]
    }

    fn of_mut(&mut self, pool: PoolId) -> &mut NaivePool {
        self.write().pools.get_mut(&pool).expect("the pool exists")
    }

    /// Everything taken, by pool key and address.
    fn taken(&self) -> impl Iterator<Item = (Place, &NaivePool, &Taken)> {
        self.read().pools.iter().flat_map(|(id, pool)| {
            let place = |address| Place { pool: *id, address };
            pool.taken.iter().map(move |(address, taken)| (place(*address), pool, taken))
        })
    }
}

impl Store for NaiveStore {
    fn begin(&mut self, access: Access) -> Result<()> {
        assert!(!self.in_transaction(), "transactions do not nest");
        self.before.push(self.state.clone());
        self.may_write = access == Access::Write;
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        assert!(self.in_transaction(), "a transaction is open");
        self.before.clear();
        Ok(())
    }

    fn rollback(&mut self) -> Result<()> {
        self.state = self.before.drain(..).next().expect("a transaction is open");
        Ok(())
    }

    fn in_transaction(&self) -> bool {
        !self.before.is_empty()
    }

    fn mark(&mut self) -> Result<()> {
        let state = self.write().clone();
        self.before.push(state);
        Ok(())
    }

    fn keep(&mut self) -> Result<()> {
        assert!(self.before.len() > 1, "there is a mark");
        self.before.pop();
        Ok(())
    }

    fn undo(&mut self) -> Result<()> {
        assert!(self.before.len() > 1, "there is a mark");
        self.state = self.before.pop().unwrap();
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        *self = Self::default();
        Ok(())
    }

    fn now_ms(&mut self) -> Result<u64> {
        Ok(self.read().now_ms)
    }

    fn set_now_ms(&mut self, now_ms: u64) -> Result<()> {
        self.write().now_ms = now_ms;
        Ok(())
    }

    fn find_pool(&mut self, name: &str) -> Result<Option<Pool>> {
        let told = |(id, pool): (&PoolId, &NaivePool)| Pool {
            id: *id,
            prefix: pool.prefix,
            policy: pool.policy,
            generation: pool.generation,
        };
        Ok(self.read().pools.iter().find(|(_, pool)| *pool.name == *name).map(told))
    }

    fn pools(&mut self) -> Result<Vec<(Arc<str>, PoolId)>> {
        Ok(self.read().pools.iter().map(|(id, pool)| (pool.name.clone(), *id)).collect())
    }

    fn prefix_up_to(&mut self, space: &str, family: Family, address: u128) -> Result<Option<Span>> {
        let pools = self.read().pools.values();
        let near = pools.filter(|pool| pool.space == space && pool.prefix.family == family);
        let spans = near.map(|pool| pool.prefix.span).filter(|span| span.first() <= address);
        Ok(spans.max_by_key(|span| span.first()))
    }

    fn insert_pool(&mut self, name: &str, space: &str, prefix: Prefix) -> Result<PoolId> {
        assert!(self.find_pool(name)?.is_none(), "the name is not taken");
        let state = self.write();
        state.last_pool += 1;
        let id = PoolId(state.last_pool);
        let (name, space) = (name.into(), space.into());
        let (policy, allocatable, taken) = (Policy::default(), Vec::new(), BTreeMap::new());
        let generation = state.generation;
        let pool = NaivePool { name, space, prefix, policy, allocatable, cursor: 0, generation, taken };
        state.pools.insert(id, pool);
        Ok(id)
    }

    fn remove_pool(&mut self, pool: PoolId) -> Result<()> {
        assert_eq!(self.of_mut(pool).count(true), 0, "the pool has no allocations");
        let state = self.write();
        let removed = state.pools.remove(&pool).expect("the pool is there");
        state.generation = state.generation.max(removed.generation);
        Ok(())
    }

    fn shape_pool(&mut self, pool: PoolId, policy: Policy, allocatable: &[Span]) -> Result<()> {
        let pool = self.of_mut(pool);
        let lies_within = |taken: &Taken| allocatable.iter().any(|span| span.covers(taken.extent.span()));
        assert!(allocatable.iter().all(|span| pool.prefix.span.covers(*span)), "spans lie within the prefix");
        assert!(allocatable.windows(2).all(|pair| pair[1].first() - pair[0].last() > 1), "spans have gaps");
        pool.taken.retain(|_, taken| {
            assert!(taken.by.is_none() || lies_within(taken), "what is held lies in the spans");
            lies_within(taken)
        });
        (pool.policy, pool.allocatable) = (policy, allocatable.to_vec());
        Ok(())
    }

    fn allocatable(&mut self, pool: PoolId) -> Result<Vec<Span>> {
        Ok(self.of(pool).allocatable.clone())
    }

    fn cursor(&mut self, pool: PoolId) -> Result<u128> {
        Ok(self.of(pool).cursor)
    }

    fn policy(&mut self, pool: PoolId) -> Result<Policy> {
        Ok(self.of(pool).policy)
    }

    fn usage(&mut self, pool: PoolId) -> Result<Usage> {
        Ok(self.of(pool).usage())
    }

    fn free_from(&mut self, pool: PoolId, address: u128) -> Result<Option<u128>> {
        let free = self.of(pool).free();
        Ok(free.iter().find(|span| span.last() >= address).map(|span| span.first().max(address)))
    }

    fn nth_free(&mut self, pool: PoolId, mut n: u128) -> Result<Option<u128>> {
        assert_eq!(self.of(pool).policy.strategy, Strategy::Random);
        for span in self.of(pool).free() {
            if n < span.size() {
                return Ok(Some(span.first() + n));
            }
            n -= span.size();
        }
        Ok(None)
    }

    fn free_block(&mut self, pool: PoolId, host_bits: u8, address: u128) -> Result<Option<u128>> {
        let begins = |span: &Span| {
            let first = align(span.first().max(address), host_bits)?;
            let block = Extent::new(first, Some(host_bits))?.span();
            span.covers(block).then_some(first)
        };
        Ok(self.of(pool).free().iter().find_map(begins))
    }

    fn obstacle(&mut self, pool: PoolId, extent: Extent) -> Result<Obstacle> {
        assert!(self.of(pool).prefix.span.covers(extent.span()), "extents lie within the prefix");
        Ok(self.of(pool).obstacle(extent))
    }

    fn hold(
        &mut self,
        pool: PoolId,
        extent: Extent,
        owner: &str,
        expires_ms: Option<u64>,
        cursor: Option<u128>,
    ) -> Result<u64> {
        assert_eq!(self.of(pool).obstacle(extent), Obstacle::None, "the extent is free");
        let pool = self.of_mut(pool);
        pool.generation += 1;
        let by = (owner.into(), pool.generation);
        pool.cursor = cursor.unwrap_or(pool.cursor);
        pool.taken.insert(extent.first(), Taken { extent, ends_ms: expires_ms, by: Some(by.clone()) });
        Ok(by.1)
    }

    fn set_expiry(&mut self, pool: PoolId, extent: Extent, expires_ms: Option<u64>) -> Result<()> {
        self.of_mut(pool).held(extent).ends_ms = expires_ms;
        Ok(())
    }

    fn end(&mut self, pool: PoolId, extent: Extent, quarantine_until_ms: Option<u64>) -> Result<()> {
        let pool = self.of_mut(pool);
        let held = pool.held(extent);
        (held.by, held.ends_ms) = (None, quarantine_until_ms);
        if quarantine_until_ms.is_none() {
            pool.taken.remove(&extent.first());
        }
        Ok(())
    }

    fn end_quarantine(&mut self, pool: PoolId, extent: Extent) -> Result<()> {
        let pool = self.of_mut(pool);
        assert!(pool.exactly(extent).is_some_and(|taken| taken.by.is_none()), "the extent is in quarantine");
        pool.taken.remove(&extent.first());
        Ok(())
    }

    fn holder(&mut self, pool: PoolId, extent: Extent, owner: &str) -> Result<Holder> {
        let taken = self.of(pool).taken.get(&extent.first()).filter(|taken| taken.extent == extent);
        Ok(match taken.and_then(|taken| taken.tenure().map(|tenure| (taken, tenure))) {
            None => Holder::Nobody,
            Some((taken, tenure)) if taken.is_of(owner) => Holder::Owner(tenure),
            Some(_) => Holder::Other,
        })
    }

    fn held_from(&mut self, pool: PoolId, owner: &str, from: Extent) -> Result<Option<Tenure>> {
        assert_ne!(self.of(pool).policy.repeat, Repeat::Another);
        let held = self.of(pool).taken.values().filter(|taken| taken.is_of(owner) && taken.extent >= from);
        Ok(held.min_by_key(|taken| taken.extent).and_then(Taken::tenure))
    }

    fn find(&mut self, pool: PoolId, address: u128) -> Result<Option<Allocation>> {
        let pool = self.of(pool);
        let taken = pool.taken.values().find(|taken| taken.extent.span().contains(address));
        Ok(taken.and_then(|taken| pool.allocation(taken)))
    }

    fn list(&mut self, filter: Filter<'_>) -> Result<Vec<(Place, Allocation)>> {
        let most = match filter {
            Filter::From(_, most) | Filter::Pool(_, _, most) => most,
            Filter::Owner(_) => usize::MAX,
        };
        let passes = |place: Place, taken: &Taken| match filter {
            Filter::From(from, _) => place >= from,
            Filter::Pool(pool, from, _) => place.pool == pool && place.address >= from,
            Filter::Owner(owner) => taken.is_of(owner),
        };
        let passed = self.taken().filter(|(place, _, taken)| passes(*place, taken));
        let listed = passed.filter_map(|(place, pool, taken)| Some((place, pool.allocation(taken)?)));
        Ok(listed.take(most).collect())
    }

    fn over(&mut self, now_ms: u64) -> Result<Vec<Over>> {
        let over = |(place, _, taken): (Place, &NaivePool, &Taken)| {
            let ended_ms = taken.ends_ms.filter(|ends_ms| *ends_ms <= now_ms)?;
            Some(Over { pool: place.pool, extent: taken.extent, ended_ms, was_quarantined: taken.by.is_none() })
        };
        let mut over: Vec<_> = self.taken().filter_map(over).collect();
        over.sort_by_key(|over| over.ended_ms);
        Ok(over)
    }

    /// There is no index or count to be wrong; what is taken may still overlap or lie outside.
    fn audit(&mut self) -> Result<Vec<Difference>> {
        let mut differences = Vec::new();
        let mut last: Option<(Place, &Taken)> = None;
        for (place, pool, taken) in self.taken() {
            let (name, span) = (pool.name.clone(), taken.extent.span());
            let this = resource(pool.prefix.family, taken.extent);
            if !pool.allocatable.iter().any(|allocatable| allocatable.covers(span)) {
                differences.push(Difference::NotAllocatable { pool: name.clone(), resource: this });
            }
            let below = last.filter(|(below, taken)| below.pool == place.pool && overlap(taken.extent.span(), span));
            differences.extend(below.map(|(_, below)| {
                let one = resource(pool.prefix.family, below.extent);
                Difference::Overlap { pool: name, one, other: this }
            }));
            last = Some((place, taken));
        }
        Ok(differences)
    }
}
