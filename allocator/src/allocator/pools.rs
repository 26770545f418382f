//! Pools: created, updated, deleted, told of.

use std::sync::Arc;

use ipnet::IpNet;

use super::{Allocator, MAX_MS, TOO_LATE, check_name, find_pool};
use crate::address::{AddressRange, Family, prefix_span};
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::pool::{PoolShape, PoolSpec, Prefix, Shape};
use crate::span::{merge, subtract};
use crate::store::{Filter, Store, Usage};

/// A pool as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Its prefix.
    pub prefix: IpNet,
    /// What it may hand out, ascending with gaps between; edges, gateway and exclusions are taken out.
    pub allocatable: Vec<AddressRange>,
    /// How it hands out addresses.
    pub policy: Policy,
    /// How its addresses are used.
    pub usage: Usage,
}

impl<S: Store> Allocator<S> {
    /// Creates a pool. O(k log k) in the ranges and exclusions listed.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the prefix has host bits, any part lies outside it, or the quarantine passes [`MAX_MS`];
    /// [`Error::Conflict`] if the name is taken or the prefix overlaps another pool's in the same address space.
    pub fn create_pool(&mut self, name: &str, spec: &PoolSpec) -> Result<()> {
        check_name(name)?;
        if !spec.space.is_empty() {
            check_name(&spec.space)?;
        }
        check_policy(spec.policy)?;
        let prefix = Prefix { family: Family::of(spec.prefix.addr()), span: prefix_span(spec.prefix)? };
        let allocatable = Shape::from(spec).allocatable(prefix)?;
        self.write(|store| {
            if store.find_pool(name)?.is_some() {
                return Err(Error::Conflict("a pool has that name"));
            }
            // Pools are disjoint: of those that start below the end of this one, only the last can reach into it.
            let below = store.prefix_up_to(&spec.space, prefix.family, prefix.span.last())?;
            if below.is_some_and(|other| other.last() >= prefix.span.first()) {
                return Err(Error::Conflict("the prefix overlaps that of another pool"));
            }
            let pool = store.insert_pool(name, &spec.space, prefix)?;
            store.shape_pool(pool, spec.policy, &allocatable)
        })
    }

    /// Replaces the ranges, the gateway, the exclusions and the policy of a pool. O(n + k log k) in the addresses held and
    /// the ranges and exclusions listed.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if any part lies outside the prefix or the quarantine passes [`MAX_MS`]; [`Error::NotFound`];
    /// [`Error::InUse`] if an allocation would no longer be allocatable.
    pub fn update_pool(&mut self, name: &str, shape: &PoolShape) -> Result<()> {
        check_policy(shape.policy)?;
        self.write(|store| {
            let pool = find_pool(store, name)?;
            let allocatable = Shape::from(shape).allocatable(pool.prefix)?;
            let mut held = crate::span::Spans::new();
            for (_, allocation) in store.list(Filter::Pool(pool.id, 0, usize::MAX))? {
                held.push(allocation.resource.extent()?.span());
            }
            if !subtract(&merge(held), &allocatable).is_empty() {
                return Err(Error::InUse);
            }
            store.shape_pool(pool.id, shape.policy, &allocatable)
        })
    }

    /// Deletes a pool, and what is in its quarantine. O(k log n) in its ranges, exclusions and quarantine.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::InUse`] if it has allocations.
    pub fn delete_pool(&mut self, name: &str) -> Result<()> {
        self.write(|store| {
            let pool = find_pool(store, name)?;
            if store.usage(pool.id)?.allocated > 0 {
                return Err(Error::InUse);
            }
            store.remove_pool(pool.id)
        })
    }

    /// How the addresses of a pool are used. O(log n).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a pool.
    pub fn usage(&mut self, pool: &str) -> Result<Usage> {
        self.read(|store| {
            let pool = find_pool(store, pool)?;
            store.usage(pool.id)
        })
    }

    /// A pool as it is now. O(k + log n) in its ranges and exclusions.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a pool.
    pub fn pool(&mut self, name: &str) -> Result<PoolInfo> {
        self.read(|store| info(store, name.into()))
    }

    /// All pools in the order of their creation. O(n) in pools and their ranges and exclusions.
    ///
    /// # Errors
    ///
    /// None but those of every call.
    pub fn pools(&mut self) -> Result<Vec<PoolInfo>> {
        self.read(|store| store.pools()?.into_iter().map(|(name, _)| info(store, name)).collect())
    }
}

fn info<S: Store>(store: &mut S, name: Arc<str>) -> Result<PoolInfo> {
    let pool = find_pool(store, &name)?;
    let spans = store.allocatable(pool.id)?.into_iter();
    let allocatable = spans.map(|span| AddressRange::of(pool.prefix.family, span)).collect();
    let usage = store.usage(pool.id)?;
    Ok(PoolInfo { name, prefix: pool.prefix.net(), allocatable, policy: pool.policy, usage })
}

fn check_policy(policy: Policy) -> Result<()> {
    if policy.quarantine_ms > MAX_MS { Err(TOO_LATE) } else { Ok(()) }
}
