//! What is given back, renewed, or over.

use std::sync::Arc;

use super::{Allocator, MAX_MS, check_name, end_of_lease, find_pool};
use crate::error::{Error, Result};
use crate::resource::{Extent, Resource};
use crate::store::{Filter, Holder, Pool, PoolId, Store, Tenure};

/// What is to be given back, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release<'a> {
    /// The pool.
    pub pool: &'a str,
    /// The address or block, just as it is held: no part of it.
    pub resource: Resource,
    /// Who holds it.
    pub owner: &'a str,
    /// Which allocation of it is meant, as [`Grant::generation`](super::Grant::generation) told; `None` for the present one,
    /// whichever that is. A late message that names the generation cannot release what the owner got since.
    pub generation: Option<u64>,
}

/// What [`Allocator::release_owner`] gave back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// The pool's name.
    pub pool: Arc<str>,
    /// The address or block.
    pub resource: Resource,
}

impl<S: Store> Allocator<S> {
    /// Gives back an address or block. O(log n).
    ///
    /// # Errors
    ///
    /// As [`Allocator::release_exactly`].
    pub fn release(&mut self, pool: &str, resource: impl Into<Resource>, owner: &str) -> Result<()> {
        self.release_exactly(&Release { pool, resource: resource.into(), owner, generation: None })
    }

    /// Gives back an address or block of a given generation. O(log n).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for what lies outside the pool's prefix; [`Error::NotFound`] for a pool, if nobody holds just
    /// this, or if the owner holds it by a later allocation than the one meant; [`Error::NotOwner`] if somebody else does.
    pub fn release_exactly(&mut self, release: &Release<'_>) -> Result<()> {
        let Release { pool, resource, owner, generation } = *release;
        check_name(owner)?;
        self.write(|store| {
            let pool = find_pool(store, pool)?;
            let tenure = owned(store, &pool, resource, owner)?;
            if generation.is_some_and(|generation| generation != tenure.generation) {
                return Err(Error::NotFound("that allocation is over"));
            }
            end_now(store, pool.id, tenure.extent, pool.policy.quarantine_ms)
        })
    }

    /// Gives back everything an owner holds, in all pools, and tells what that was: pools in the order of their creation,
    /// addresses ascending. An unknown owner holds nothing. O(k log n) in what is given back.
    ///
    /// # Errors
    ///
    /// None but those of every call.
    pub fn release_owner(&mut self, owner: &str) -> Result<Vec<Released>> {
        check_name(owner)?;
        self.write(|store| {
            let held = store.list(Filter::Owner(owner))?;
            let mut released = Vec::with_capacity(held.len());
            for (place, allocation) in held {
                let quarantine_ms = store.policy(place.pool)?.quarantine_ms;
                end_now(store, place.pool, allocation.resource.extent()?, quarantine_ms)?;
                released.push(Released { pool: allocation.pool, resource: allocation.resource });
            }
            Ok(released)
        })
    }

    /// Makes an allocation end `ttl_ms` milliseconds from now, at least 1, and tells when that is. It may come
    /// earlier than before, and an allocation without end gets one. O(log n).
    ///
    /// # Errors
    ///
    /// As [`Allocator::release`], and [`Error::Invalid`] if the lease would end beyond [`MAX_MS`].
    pub fn renew(&mut self, pool: &str, resource: impl Into<Resource>, owner: &str, ttl_ms: u64) -> Result<u64> {
        check_name(owner)?;
        let resource = resource.into();
        self.write(|store| {
            let pool = find_pool(store, pool)?;
            let tenure = owned(store, &pool, resource, owner)?;
            let expires_ms = end_of_lease(store, ttl_ms)?;
            store.set_expiry(pool.id, tenure.extent, Some(expires_ms))?;
            Ok(expires_ms)
        })
    }
}

/// An allocation, once it is certain that the owner holds just this.
fn owned<S: Store>(store: &mut S, pool: &Pool, resource: Resource, owner: &str) -> Result<Tenure> {
    let extent = pool.prefix.locate(resource)?;
    match store.holder(pool.id, extent, owner)? {
        Holder::Nobody => Err(Error::NotFound("nobody holds that")),
        Holder::Other => Err(Error::NotOwner),
        Holder::Owner(tenure) => Ok(tenure),
    }
}

/// Ends an allocation now; what its pool puts in quarantine is not free yet.
fn end_now<S: Store>(store: &mut S, pool: PoolId, extent: Extent, quarantine_ms: u64) -> Result<()> {
    if quarantine_ms == 0 {
        return store.end(pool, extent, None);
    }
    let now_ms = store.now_ms()?;
    store.end(pool, extent, end_of_quarantine(now_ms, quarantine_ms, now_ms))
}

/// When a quarantine ends, at the end of time at the latest; `None` if it is over by now.
fn end_of_quarantine(began_ms: u64, quarantine_ms: u64, now_ms: u64) -> Option<u64> {
    let until_ms = began_ms.saturating_add(quarantine_ms).min(MAX_MS);
    (until_ms > now_ms).then_some(until_ms)
}

/// Ends every lease and quarantine that is over. A lease that ended long ago has had its quarantine meanwhile.
pub(super) fn end_what_is_over<S: Store>(store: &mut S, now_ms: u64) -> Result<()> {
    for over in store.over(now_ms)? {
        if over.was_quarantined {
            store.end_quarantine(over.pool, over.extent)?;
            continue;
        }
        let quarantine_ms = store.policy(over.pool)?.quarantine_ms;
        store.end(over.pool, over.extent, end_of_quarantine(over.ended_ms, quarantine_ms, now_ms))?;
    }
    Ok(())
}
