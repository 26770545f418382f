//! Allocation: any address by the pool's strategy, several at once, named ones, blocks; all or nothing.

use std::cmp::Reverse;
use std::net::IpAddr;

use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng};
use smallvec::SmallVec;

use super::again::Again;
use super::{Allocator, check_name, end_of_lease, find_pool};
use crate::error::{Error, Result};
use crate::policy::{Repeat, Strategy};
use crate::resource::{Extent, Resource};
use crate::store::{Holder, Obstacle, Pool, PoolId, Store, Tenure};

/// One thing to allocate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The pool it shall come from.
    pub pool: &'a str,
    /// What it shall be.
    pub want: Want,
}

/// What a [`Request`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// So many addresses, at least one, each chosen by the pool's strategy.
    Any(u32),
    /// This very address or block.
    Named(Resource),
    /// A free block of this prefix length. With the strategy [`Next`](Strategy::Next) or [`Random`](Strategy::Random) the search
    /// starts elsewhere; it always finds one if there is one.
    Block(u8),
}

impl<'a> Request<'a> {
    /// Any address of a pool.
    pub const fn any(pool: &'a str) -> Self {
        Self::several(pool, 1)
    }

    /// So many addresses of a pool, at least one.
    pub const fn several(pool: &'a str, count: u32) -> Self {
        Self { pool, want: Want::Any(count) }
    }

    /// A given address or block of a pool.
    pub fn named(pool: &'a str, resource: impl Into<Resource>) -> Self {
        Self { pool, want: Want::Named(resource.into()) }
    }

    /// Any block of a prefix length.
    pub const fn block(pool: &'a str, prefix_length: u8) -> Self {
        Self { pool, want: Want::Block(prefix_length) }
    }
}

/// One thing that [`Allocator::allocate`] handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The address or block.
    pub resource: Resource,
    /// Tells this allocation from every other one that the pool ever makes of these addresses.
    pub generation: u64,
}

/// What [`Allocator::allocate`] handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// What was granted, in the order of the requests.
    pub grants: SmallVec<[Grant; 1]>,
    /// The first millisecond at which the leases are over; `None` without a time to live.
    pub expires_ms: Option<u64>,
}

impl Granted {
    /// The first address granted, which is all of it for a call with one request for one address.
    pub fn address(&self) -> Option<IpAddr> {
        match self.grants.first()?.resource {
            Resource::Address(address) => Some(address),
            Resource::Block(prefix) => Some(prefix.network()),
        }
    }
}

impl<S: Store> Allocator<S> {
    /// Allocates what each request asks for, all or nothing.
    ///
    /// What is named is placed first, then blocks, large ones before small ones, then single addresses: a call is refused
    /// for want of room only if what it asks for does not fit, however it were placed. With `ttl_ms`, at least 1, the
    /// allocations are leases that end that many milliseconds from now. O(r log n) in what is asked for and what is held.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] without requests, for a name that is not allocatable, a prefix length that the family does not
    /// have, or if the lease would end beyond [`MAX_MS`](super::MAX_MS); [`Error::NotFound`] for a pool;
    /// [`Error::Conflict`] if what is named is taken or in quarantine, or by the pool's [`Repeat`]; [`Error::Exhausted`].
    pub fn allocate(&mut self, owner: &str, requests: &[Request<'_>], ttl_ms: Option<u64>) -> Result<Granted> {
        check_name(owner)?;
        let mut random = self.random.take();
        let granted = self.write(|store| {
            let expires_ms = ttl_ms.map(|ttl_ms| end_of_lease(store, ttl_ms)).transpose()?;
            let mut call = Call::new(owner, expires_ms, &mut random);
            let grants = match requests {
                [] => return Err(Error::Invalid("there is nothing to allocate")),
                [request] => call.grant_one(store, request)?,
                _ => call.grant_all(store, requests)?,
            };
            Ok(Granted { grants, expires_ms })
        });
        self.random = random;
        granted
    }
}

/// What a request asks for, in terms of the pool's family.
#[derive(Clone, Copy)]
enum Wanted {
    Named(Extent),
    Block { host_bits: u8 },
    Any { count: u32 },
}

impl Wanted {
    fn of(want: Want, pool: &Pool) -> Result<Self> {
        match want {
            Want::Any(0) => Err(Error::Invalid("a request must ask for at least one address")),
            Want::Any(count) => Ok(Self::Any { count }),
            Want::Block(length) => {
                let host_bits = pool.prefix.family.bits().checked_sub(length);
                Ok(Self::Block {
                    host_bits: host_bits.ok_or(Error::Invalid("the family has no prefixes of that length"))?,
                })
            }
            Want::Named(resource) => Ok(Self::Named(pool.prefix.locate(resource)?)),
        }
    }

    /// When it is its turn.
    fn turn(&self) -> (u8, Reverse<u8>) {
        match self {
            Self::Named(_) => (0, Reverse(0)),
            Self::Block { host_bits } => (1, Reverse(*host_bits)),
            Self::Any { .. } => (2, Reverse(0)),
        }
    }
}

/// What all requests of a call have in common.
struct Call<'a> {
    owner: &'a str,
    expires_ms: Option<u64>,
    random: &'a mut Option<Box<StdRng>>,
    /// Only for pools that matter to it: most calls have none.
    again: Option<Box<Again>>,
}

impl<'a> Call<'a> {
    fn new(owner: &'a str, expires_ms: Option<u64>, random: &'a mut Option<Box<StdRng>>) -> Self {
        Self { owner, expires_ms, random, again: None }
    }

    /// Grants the only request of a call.
    fn grant_one<S: Store>(&mut self, store: &mut S, request: &Request<'_>) -> Result<SmallVec<[Grant; 1]>> {
        let pool = find_pool(store, request.pool)?;
        let want = Wanted::of(request.want, &pool)?;
        self.meet(store, &pool)?;
        let mut grants = SmallVec::new();
        self.grant(store, &pool, want, |grant| grants.push(grant))?;
        Ok(grants)
    }

    /// Grants several requests, in the order in which they find room, and tells them in their own.
    fn grant_all<S: Store>(&mut self, store: &mut S, requests: &[Request<'_>]) -> Result<SmallVec<[Grant; 1]>> {
        let mut targets = Vec::with_capacity(requests.len());
        for (index, request) in requests.iter().enumerate() {
            let pool = find_pool(store, request.pool)?;
            targets.push((index, Wanted::of(request.want, &pool)?, pool));
            self.meet(store, &pool)?;
        }
        // Named ones come first, so that nothing else takes them, and large blocks before small ones: each block takes as
        // much room from smaller ones wherever it lies, so this order finds room whenever there is enough.
        targets.sort_by_key(|(_, want, _)| want.turn());
        let mut grants = Vec::with_capacity(targets.len());
        for (index, want, pool) in &targets {
            self.grant(store, pool, *want, |grant| grants.push((*index, grant)))?;
        }
        grants.sort_by_key(|(index, _)| *index);
        Ok(grants.into_iter().map(|(_, grant)| grant).collect())
    }

    /// Looks at what the owner holds in a pool, where that matters, before the call changes it.
    fn meet<S: Store>(&mut self, store: &mut S, pool: &Pool) -> Result<()> {
        match pool.policy.repeat {
            Repeat::Another => {}
            Repeat::Same => self.again.get_or_insert_default().meet(pool),
            Repeat::Conflict => {
                if store.held_from(pool.id, self.owner, Extent::FIRST)?.is_some() {
                    return Err(Error::Conflict("the owner has an allocation of the pool"));
                }
            }
        }
        Ok(())
    }

    /// Allocates what a request wants, and tells each grant.
    fn grant<S: Store>(&mut self, store: &mut S, pool: &Pool, want: Wanted, mut tell: impl FnMut(Grant)) -> Result<()> {
        let mut add = |Tenure { extent, generation, .. }: Tenure| {
            tell(Grant { resource: extent.resource(pool.prefix.family), generation });
        };
        match want {
            Wanted::Named(extent) => add(self.take_named(store, pool, extent)?),
            Wanted::Block { host_bits } => add(self.take_any(store, pool, Some(host_bits))?),
            Wanted::Any { count: 1 } => add(self.take_any(store, pool, None)?),
            Wanted::Any { count } => {
                // So that a call which cannot end well is no long one.
                if u128::from(count) > store.usage(pool.id)?.allocatable {
                    return Err(Error::Exhausted);
                }
                for _ in 0..count {
                    add(self.take_any(store, pool, None)?);
                }
            }
        }
        Ok(())
    }

    fn take_named<S: Store>(&mut self, store: &mut S, pool: &Pool, extent: Extent) -> Result<Tenure> {
        match store.obstacle(pool.id, extent)? {
            Obstacle::None => self.hold(store, pool, extent, None),
            Obstacle::Reserved => Err(Error::Invalid("the address is not allocatable")),
            Obstacle::Taken => match store.holder(pool.id, extent, self.owner)? {
                Holder::Owner(tenure) if self.again.as_mut().is_some_and(|again| again.name(pool.id, tenure)) => {
                    self.renew(store, pool.id, tenure)
                }
                _ => Err(Error::Conflict("the address is taken")),
            },
        }
    }

    /// Any address, or any block of so many host bits: what the owner had, or else what the strategy chooses.
    fn take_any<S: Store>(&mut self, store: &mut S, pool: &Pool, host_bits: Option<u8>) -> Result<Tenure> {
        if let Some(again) = &mut self.again
            && let Some(tenure) = again.next(store, self.owner, pool.id, host_bits)?
        {
            return self.renew(store, pool.id, tenure);
        }
        let lowest = pool.prefix.span.first();
        let start = self.start(store, pool)?;
        let mut found = seek(store, pool.id, host_bits, start)?;
        if found.is_none() && start > lowest {
            found = seek(store, pool.id, host_bits, lowest)?;
        }
        let extent = found.ok_or(Error::Exhausted)?;
        // Behind the top of the address space comes its bottom.
        let cursor = (pool.policy.strategy == Strategy::Next).then(|| extent.span().last().wrapping_add(1));
        self.hold(store, pool, extent, cursor)
    }

    /// Where the strategy begins to look.
    fn start<S: Store>(&mut self, store: &mut S, pool: &Pool) -> Result<u128> {
        match pool.policy.strategy {
            Strategy::Lowest => Ok(pool.prefix.span.first()),
            // It moves with each grant of the call.
            Strategy::Next => store.cursor(pool.id),
            Strategy::Random => {
                let free = store.usage(pool.id)?.free();
                if free == 0 {
                    return Err(Error::Exhausted);
                }
                let n = generator(self.random)?.random_range(0..free);
                store.nth_free(pool.id, n)?.ok_or_else(|| Error::storage("fewer addresses are free than counted"))
            }
        }
    }

    /// Holds what is free. What was named leaves the pool's cursor where it is.
    fn hold<S: Store>(&self, store: &mut S, pool: &Pool, extent: Extent, cursor: Option<u128>) -> Result<Tenure> {
        let generation = store.hold(pool.id, extent, self.owner, self.expires_ms, cursor)?;
        Ok(Tenure { extent, expires_ms: self.expires_ms, generation })
    }

    /// Grants again what the owner has.
    fn renew<S: Store>(&self, store: &mut S, pool: PoolId, tenure: Tenure) -> Result<Tenure> {
        if tenure.expires_ms != self.expires_ms {
            store.set_expiry(pool, tenure.extent, self.expires_ms)?;
        }
        Ok(tenure)
    }
}

/// The lowest free address, or block, from an address on.
fn seek<S: Store>(store: &mut S, pool: PoolId, host_bits: Option<u8>, from: u128) -> Result<Option<Extent>> {
    match host_bits {
        None => Ok(store.free_from(pool, from)?.map(Extent::address)),
        Some(host_bits) => {
            Ok(store.free_block(pool, host_bits, from)?.and_then(|first| Extent::new(first, Some(host_bits))))
        }
    }
}

/// The generator, seeded by the operating system when it is first needed.
fn generator(random: &mut Option<Box<StdRng>>) -> Result<&mut StdRng> {
    let seeded = match random.take() {
        Some(seeded) => seeded,
        None => Box::new(StdRng::try_from_rng(&mut SysRng).map_err(|error| Error::Storage(Box::new(error)))?),
    };
    Ok(random.insert(seeded))
}
