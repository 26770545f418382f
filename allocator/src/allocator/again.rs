//! What an owner gets again, in pools that grant [`Repeat::Same`](crate::Repeat::Same).

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::resource::Extent;
use crate::store::{Pool, PoolId, Store, Tenure};

/// What an owner held before a call in such pools, and how much of it the call has granted again.
#[derive(Default)]
pub(super) struct Again {
    /// The pools, and the last generation there before the call.
    pools: BTreeMap<PoolId, u64>,
    /// What it named and was granted again.
    named: BTreeSet<(PoolId, Extent)>,
    /// Where to look for what else it held, by pool and kind; `None` behind the top of the address space.
    next: BTreeMap<(PoolId, Option<u8>), Option<Extent>>,
}

impl Again {
    /// One of the pools, before the call changes it.
    pub(super) fn meet(&mut self, pool: &Pool) {
        self.pools.insert(pool.id, pool.generation);
    }

    /// May the owner, who holds it, be granted by name what it held before the call? Once it may.
    pub(super) fn name(&mut self, pool: PoolId, tenure: Tenure) -> bool {
        self.was_held(pool, tenure) && self.named.insert((pool, tenure.extent))
    }

    /// The lowest of what the owner held before the call, of the kind asked for, that it was not granted again yet.
    pub(super) fn next<S: Store>(
        &mut self,
        store: &mut S,
        owner: &str,
        pool: PoolId,
        host_bits: Option<u8>,
    ) -> Result<Option<Tenure>> {
        if !self.pools.contains_key(&pool) {
            return Ok(None);
        }
        let kind = (pool, host_bits);
        let mut place = self.next.get(&kind).copied().unwrap_or(Extent::new(0, host_bits));
        while let Some(from) = place {
            let held = store.held_from(pool, owner, from)?;
            let Some(tenure) = held.filter(|tenure| tenure.extent.host_bits() == host_bits) else { break };
            place = tenure.extent.next();
            if self.was_held(pool, tenure) && !self.named.contains(&(pool, tenure.extent)) {
                self.next.insert(kind, place);
                return Ok(Some(tenure));
            }
        }
        // Nothing it held is left from here on, so what this call grants is passed over but once.
        self.next.insert(kind, place);
        Ok(None)
    }

    /// Did the owner hold this before the call, in a pool where it then has it again?
    fn was_held(&self, pool: PoolId, tenure: Tenure) -> bool {
        self.pools.get(&pool).is_some_and(|last| tenure.generation <= *last)
    }
}
