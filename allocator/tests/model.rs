//! Random calls against a naive model that keeps one map entry an address and searches by counting up.
//!
//! The allocator promises the lowest free address, so the model knows every answer exactly, and everything that can be
//! seen is compared after every call, over both stores.

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::{seen, spec};
use poolproof_allocator::store::Store;
use poolproof_allocator::{AddressRange, Allocator, ErrorKind, PoolShape, Request};
use proptest::prelude::*;

const POOLS: [&str; 3] = ["p0", "p1", "p2"];
const OWNERS: [&str; 3] = ["a", "b", "' or 1=1 --"];
/// The prefixes pools are drawn from. The last ones overlap the first ones.
const PREFIXES: [&str; 5] = ["10.0.0.0/29", "255.255.255.254/31", "fd00::/125", "10.0.0.4/30", "fd00::4/128"];

#[derive(Clone, Debug)]
enum Call {
    Create { pool: usize, prefix: usize, shape: Shape },
    Update { pool: usize, shape: Shape },
    Delete { pool: usize },
    Allocate { owner: usize, requests: Vec<(usize, Option<u8>)>, ttl_ms: Option<u64> },
    Release { pool: usize, address: u8, owner: usize },
    ReleaseOwner { owner: usize },
    Renew { pool: usize, address: u8, owner: usize, ttl_ms: u64 },
    Advance { by_ms: u64 },
    Begin,
    Commit,
    Rollback,
}

/// Positions in a prefix; one that passes its end makes the call invalid.
#[derive(Clone, Debug)]
struct Shape {
    ranges: Vec<(u8, u8)>,
    gateway: Option<u8>,
    exclusions: Vec<(u8, u8)>,
}

fn shape() -> impl Strategy<Value = Shape> {
    let position = || prop_oneof![9 => 0_u8..4, 3 => 4_u8..8, 1 => Just(8)];
    let range = move || (position(), position()).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let ranges = proptest::collection::vec(range(), 0..3);
    let exclusions = proptest::collection::vec(range(), 0..2);
    (ranges, proptest::option::of(position()), exclusions).prop_map(|(ranges, gateway, exclusions)| Shape {
        ranges,
        gateway,
        exclusions,
    })
}

fn call() -> impl Strategy<Value = Call> {
    let pool = || 0..POOLS.len();
    let owner = || 0..OWNERS.len();
    let ttl_ms = || prop_oneof![1 => Just(0), 9 => 1_u64..6];
    let requests = proptest::collection::vec((pool(), proptest::option::weighted(0.4, 0_u8..9)), 0..4);
    prop_oneof![
        3 => (pool(), 0..PREFIXES.len(), shape()).prop_map(|(pool, prefix, shape)| Call::Create { pool, prefix, shape }),
        2 => (pool(), shape()).prop_map(|(pool, shape)| Call::Update { pool, shape }),
        1 => pool().prop_map(|pool| Call::Delete { pool }),
        9 => (owner(), requests, proptest::option::of(ttl_ms()))
            .prop_map(|(owner, requests, ttl_ms)| Call::Allocate { owner, requests, ttl_ms }),
        4 => (pool(), 0_u8..9, owner()).prop_map(|(pool, address, owner)| Call::Release { pool, address, owner }),
        1 => owner().prop_map(|owner| Call::ReleaseOwner { owner }),
        2 => (pool(), 0_u8..9, owner(), ttl_ms())
            .prop_map(|(pool, address, owner, ttl_ms)| Call::Renew { pool, address, owner, ttl_ms }),
        2 => (0_u64..4).prop_map(|by_ms| Call::Advance { by_ms }),
        1 => Just(Call::Begin),
        1 => Just(Call::Commit),
        1 => Just(Call::Rollback),
    ]
}

/// The address at a position of a prefix; past the end it may lie outside.
fn at(first: IpAddr, position: u8) -> IpAddr {
    match first {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits().wrapping_add(position.into())).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + u128::from(position)).into(),
    }
}

/// One pool as the model knows it: which positions may be handed out, and who holds them until when.
#[derive(Clone)]
struct ModelPool {
    prefix: usize,
    allocatable: Vec<u8>,
    held: BTreeMap<u8, (usize, Option<u64>)>,
}

#[derive(Clone, Default)]
struct Model {
    now_ms: u64,
    pools: BTreeMap<usize, ModelPool>,
}

type Answer = Result<String, ErrorKind>;

fn first(prefix: usize) -> IpAddr {
    spec(PREFIXES[prefix]).prefix.network()
}

fn size(prefix: usize) -> u8 {
    let prefix = spec(PREFIXES[prefix]).prefix;
    1 << (prefix.max_prefix_len() - prefix.prefix_len())
}

fn allocatable(prefix: usize, shape: &Shape) -> Result<Vec<u8>, ErrorKind> {
    let size = size(prefix);
    let ends = shape.ranges.iter().chain(&shape.exclusions).map(|(_, last)| last).chain(&shape.gateway);
    if ends.copied().any(|last| last >= size) {
        return Err(ErrorKind::Invalid);
    }
    let inside = |ranges: &[(u8, u8)], one| ranges.iter().any(|(first, last)| (*first..=*last).contains(&one));
    let edge = |one| size >= 4 && (one == 0 || (first(prefix).is_ipv4() && one == size - 1));
    let fits = |one: &u8| shape.ranges.is_empty() || inside(&shape.ranges, *one);
    let kept = |one: &u8| !inside(&shape.exclusions, *one) && shape.gateway != Some(*one) && !edge(*one);
    Ok((0..size).filter(fits).filter(kept).collect())
}

impl Model {
    fn pool(&mut self, pool: usize) -> Result<&mut ModelPool, ErrorKind> {
        self.pools.get_mut(&pool).ok_or(ErrorKind::NotFound)
    }

    fn expiry(&self, ttl_ms: u64) -> Result<u64, ErrorKind> {
        if ttl_ms == 0 { Err(ErrorKind::Invalid) } else { Ok(self.now_ms + ttl_ms) }
    }

    fn create(&mut self, pool: usize, prefix: usize, shape: &Shape) -> Answer {
        let allocatable = allocatable(prefix, shape)?;
        let overlaps = |other: &ModelPool| {
            let (mine, its) = (spec(PREFIXES[prefix]).prefix, spec(PREFIXES[other.prefix]).prefix);
            mine.contains(&its) || its.contains(&mine)
        };
        if self.pools.contains_key(&pool) || self.pools.values().any(overlaps) {
            return Err(ErrorKind::Conflict);
        }
        self.pools.insert(pool, ModelPool { prefix, allocatable, held: BTreeMap::new() });
        Ok(String::new())
    }

    fn update(&mut self, pool: usize, shape: &Shape) -> Answer {
        let pool = self.pool(pool)?;
        let allocatable = allocatable(pool.prefix, shape)?;
        if pool.held.keys().any(|held| !allocatable.contains(held)) {
            return Err(ErrorKind::InUse);
        }
        pool.allocatable = allocatable;
        Ok(String::new())
    }

    fn delete(&mut self, pool: usize) -> Answer {
        if !self.pool(pool)?.held.is_empty() {
            return Err(ErrorKind::InUse);
        }
        self.pools.remove(&pool);
        Ok(String::new())
    }

    fn allocate(&mut self, owner: usize, requests: &[(usize, Option<u8>)], ttl_ms: Option<u64>) -> Answer {
        if requests.is_empty() {
            return Err(ErrorKind::Invalid);
        }
        let expires_ms = ttl_ms.map(|ttl_ms| self.expiry(ttl_ms)).transpose()?;
        let mut granted = vec![0; requests.len()];
        for (request, granted) in requests.iter().zip(&mut granted) {
            let pool = self.pool(request.0)?;
            if let Some(one) = request.1 {
                match pool.held.get(&one) {
                    _ if !pool.allocatable.contains(&one) => return Err(ErrorKind::Invalid),
                    Some(_) => return Err(ErrorKind::Conflict),
                    None => pool.held.insert(one, (owner, expires_ms)),
                };
                *granted = one;
            }
        }
        for (request, granted) in requests.iter().zip(&mut granted).filter(|(request, _)| request.1.is_none()) {
            let pool = self.pool(request.0)?;
            let free = |one: &u8| !pool.held.contains_key(one);
            *granted = pool.allocatable.iter().copied().find(free).ok_or(ErrorKind::Exhausted)?;
            pool.held.insert(*granted, (owner, expires_ms));
        }
        let address = |((pool, _), one): (&(usize, _), u8)| at(first(self.pools[pool].prefix), one);
        let granted: Vec<_> = requests.iter().zip(granted).map(address).collect();
        Ok(format!("{granted:?} {expires_ms:?}"))
    }

    fn owned(&mut self, pool: usize, address: u8, owner: usize) -> Result<&mut ModelPool, ErrorKind> {
        let pool = self.pool(pool)?;
        match pool.held.get(&address) {
            _ if address >= size(pool.prefix) => Err(ErrorKind::Invalid),
            None => Err(ErrorKind::NotFound),
            Some((holder, _)) if *holder != owner => Err(ErrorKind::NotOwner),
            Some(_) => Ok(pool),
        }
    }

    /// What is held, pools by name, as `seen` shows it.
    fn listed(&self) -> Vec<String> {
        let of = |(name, pool): (&usize, &ModelPool)| {
            let (name, first) = (*name, first(pool.prefix));
            let text = |(one, (owner, expires_ms)): (&u8, &(usize, Option<u64>))| {
                format!("{} {} {} {expires_ms:?}", POOLS[name], at(first, *one), OWNERS[*owner])
            };
            pool.held.iter().map(text).collect::<Vec<_>>()
        };
        self.pools.iter().flat_map(of).collect()
    }

    fn call(&mut self, call: &Call) -> Answer {
        match call {
            Call::Create { pool, prefix, shape } => self.create(*pool, *prefix, shape),
            Call::Update { pool, shape } => self.update(*pool, shape),
            Call::Delete { pool } => self.delete(*pool),
            Call::Allocate { owner, requests, ttl_ms } => self.allocate(*owner, requests, *ttl_ms),
            Call::Release { pool, address, owner } => {
                self.owned(*pool, *address, *owner)?.held.remove(address);
                Ok(String::new())
            }
            Call::ReleaseOwner { owner } => {
                let before = self.listed().len();
                self.pools.values_mut().for_each(|pool| pool.held.retain(|_, (holder, _)| holder != owner));
                Ok((before - self.listed().len()).to_string())
            }
            Call::Renew { pool, address, owner, ttl_ms } => {
                self.owned(*pool, *address, *owner)?;
                let expires_ms = self.expiry(*ttl_ms)?;
                self.pool(*pool)?.held.insert(*address, (*owner, Some(expires_ms)));
                Ok(expires_ms.to_string())
            }
            Call::Advance { by_ms } => {
                self.now_ms += by_ms;
                let now_ms = self.now_ms;
                let live = |_: &u8, held: &mut (usize, Option<u64>)| held.1.is_none_or(|end_ms| now_ms < end_ms);
                self.pools.values_mut().for_each(|pool| pool.held.retain(live));
                Ok(now_ms.to_string())
            }
            Call::Begin | Call::Commit | Call::Rollback => Ok(String::new()),
        }
    }
}

/// The model with transactions: what to return to, if one is open.
#[derive(Default)]
struct Transactional {
    model: Model,
    before: Option<Model>,
}

impl Transactional {
    fn call(&mut self, call: &Call) -> Answer {
        match (call, self.before.is_some()) {
            (Call::Begin, false) => self.before = Some(self.model.clone()),
            (Call::Commit, true) => self.before = None,
            (Call::Rollback, true) => self.model = self.before.take().unwrap(),
            (Call::Begin | Call::Advance { .. }, true) | (Call::Commit | Call::Rollback, false) => {
                return Err(ErrorKind::Invalid);
            }
            _ => {
                let mut after = self.model.clone();
                let answer = after.call(call)?;
                self.model = after;
                return Ok(answer);
            }
        }
        Ok(String::new())
    }
}

/// A shape in the allocator's terms. A pool that does not exist may have any prefix: the call is refused before.
fn real_shape(first: IpAddr, shape: &Shape) -> PoolShape {
    let range = |(low, high): &(u8, u8)| AddressRange::new(at(first, *low), at(first, *high));
    // At the top of the address space a position past the end wraps, which reverses the range; leave it outside instead.
    let outside = AddressRange::from(IpAddr::from(Ipv4Addr::new(9, 9, 9, 9)));
    let ranges = |ranges: &[(u8, u8)]| ranges.iter().map(|one| range(one).unwrap_or(outside)).collect();
    PoolShape {
        ranges: ranges(&shape.ranges),
        gateway: shape.gateway.map(|one| at(first, one)),
        exclusions: ranges(&shape.exclusions),
    }
}

fn perform<S: Store>(allocator: &mut Allocator<S>, model: &Model, call: &Call) -> poolproof_allocator::Result<String> {
    let first_of = |pool: &usize| model.pools.get(pool).map_or(first(0), |pool| first(pool.prefix));
    let done = |()| String::new();
    match call {
        Call::Create { pool, prefix, shape } => {
            let mut pool_spec = spec(PREFIXES[*prefix]);
            PoolShape { ranges: pool_spec.ranges, gateway: pool_spec.gateway, exclusions: pool_spec.exclusions } =
                real_shape(first(*prefix), shape);
            allocator.create_pool(POOLS[*pool], &pool_spec).map(done)
        }
        Call::Update { pool, shape } => {
            allocator.update_pool(POOLS[*pool], &real_shape(first_of(pool), shape)).map(done)
        }
        Call::Delete { pool } => allocator.delete_pool(POOLS[*pool]).map(done),
        Call::Allocate { owner, requests, ttl_ms } => {
            let request = |(pool, one): &(usize, Option<u8>)| Request {
                pool: POOLS[*pool],
                address: one.map(|one| at(first_of(pool), one)),
            };
            let requests: Vec<_> = requests.iter().map(request).collect();
            let granted = allocator.allocate(OWNERS[*owner], &requests, *ttl_ms)?;
            Ok(format!("{:?} {:?}", granted.addresses.as_slice(), granted.expires_ms))
        }
        Call::Release { pool, address, owner } => {
            allocator.release(POOLS[*pool], at(first_of(pool), *address), OWNERS[*owner]).map(done)
        }
        Call::ReleaseOwner { owner } => Ok(allocator.release_owner(OWNERS[*owner])?.len().to_string()),
        Call::Renew { pool, address, owner, ttl_ms } => {
            let renewed = allocator.renew(POOLS[*pool], at(first_of(pool), *address), OWNERS[*owner], *ttl_ms);
            renewed.map(|expires_ms| expires_ms.to_string())
        }
        Call::Advance { by_ms } => allocator.advance_to(model.now_ms + by_ms).map(|now_ms| now_ms.to_string()),
        Call::Begin => allocator.begin().map(done),
        Call::Commit => allocator.commit().map(done),
        Call::Rollback => allocator.rollback().map(done),
    }
}

fn agrees<S: Store>(allocator: &mut Allocator<S>, calls: &[Call]) -> Result<(), TestCaseError> {
    let mut model = Transactional::default();
    for call in calls {
        let answer = perform(allocator, &model.model, call).map_err(|error| error.kind());
        prop_assert_eq!(answer, model.call(call), "{:?}", call);
        let (listed, _, now_ms) = seen(allocator);
        let text = |one: &poolproof_allocator::Allocation| {
            format!("{} {} {} {:?}", one.pool, one.address, one.owner, one.expires_ms)
        };
        prop_assert_eq!(listed.iter().map(text).collect::<Vec<_>>(), model.model.listed(), "{:?}", call);
        prop_assert_eq!(now_ms, model.model.now_ms);
        for (index, name) in POOLS.iter().enumerate() {
            let usage = allocator.usage(name).ok().map(|usage| (usage.allocatable, usage.allocated));
            let expected = model.model.pools.get(&index).map(|pool| (pool.allocatable.len(), pool.held.len()));
            prop_assert_eq!(usage, expected.map(|(allocatable, held)| (allocatable as u128, held as u128)));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]
    #[test]
    fn memory_agrees_with_the_model(calls in proptest::collection::vec(call(), 0..60)) {
        agrees(&mut Allocator::in_memory(), &calls)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn sqlite_agrees_with_the_model(calls in proptest::collection::vec(call(), 0..60)) {
        let folder = tempfile::tempdir().unwrap();
        let options = poolproof_allocator::SqliteOptions {
            synchronous: poolproof_allocator::Synchronous::Normal,
            ..Default::default()
        };
        agrees(&mut Allocator::open_with(folder.path().join("state.db"), options).unwrap(), &calls)?;
    }
}
