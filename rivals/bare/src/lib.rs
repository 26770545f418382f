//! Operations that `arbitrary` derives, and a `BTreeMap` that knows who holds what: a fuzz target as the book of cargo-fuzz
//! shows it for stateful code.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use arbitrary::Arbitrary;
use ipnet::{IpNet, Ipv4Net};
use poolproof_allocator::store::Store;
use poolproof_allocator::{Allocator, ErrorKind, PoolSpec, Request};

/// One call. Numbers name owners, pools and addresses, a few of each.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Op {
    CreatePool { pool: u8 },
    DeletePool { pool: u8 },
    Allocate { owner: u8, pool: u8, ttl: Option<u8> },
    AllocateNamed { owner: u8, pool: u8, host: u8 },
    Release { owner: u8, pool: u8, host: u8 },
    ReleaseOwner { owner: u8 },
    Renew { owner: u8, pool: u8, host: u8, ttl: u8 },
    Advance { ms: u8 },
    Begin,
    Commit,
    Rollback,
    Usage { pool: u8 },
    List,
}

const POOLS: [&str; 3] = ["a", "b", "c"];
const OWNERS: [&str; 4] = ["one", "two", "three", "four"];

#[derive(Clone, Debug, PartialEq)]
struct Held {
    owner: &'static str,
    expires: Option<u64>,
}

/// Who holds what in which pool, and the time.
#[derive(Clone, Debug, Default)]
struct Model {
    pools: BTreeMap<&'static str, BTreeMap<IpAddr, Held>>,
    now: u64,
}

/// Runs the operations and compares each answer with the model's.
pub fn run<S: Store>(allocator: &mut Allocator<S>, ops: &[Op]) {
    count(ops.len() as u64);
    let (mut model, mut saved) = (Model::default(), None);
    for op in ops {
        match *op {
            Op::Begin => {
                assert_eq!(allocator.begin().is_ok(), saved.is_none());
                saved.get_or_insert_with(|| model.clone());
            }
            Op::Commit => assert_eq!(allocator.commit().is_ok(), saved.take().is_some()),
            Op::Rollback => {
                let before = saved.take();
                assert_eq!(allocator.rollback().is_ok(), before.is_some());
                model = before.unwrap_or(model);
            }
            // Time cannot pass inside a transaction.
            Op::Advance { ms } if saved.is_some() => assert!(allocator.advance_to(model.now + u64::from(ms)).is_err()),
            op => model.call(allocator, op),
        }
    }
}

fn pool_name(pool: u8) -> &'static str {
    POOLS[usize::from(pool) % POOLS.len()]
}

fn owner_name(owner: u8) -> &'static str {
    OWNERS[usize::from(owner) % OWNERS.len()]
}

fn prefix(pool: u8) -> Ipv4Net {
    Ipv4Net::new(Ipv4Addr::new(10, 0, pool % POOLS.len() as u8, 0), 29).expect("a prefix")
}

fn address(pool: u8, host: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, pool % POOLS.len() as u8, host % 8).into()
}

impl Model {
    fn call<S: Store>(&mut self, allocator: &mut Allocator<S>, op: Op) {
        match op {
            Op::CreatePool { pool } => {
                let created = allocator.create_pool(pool_name(pool), &PoolSpec::new(IpNet::V4(prefix(pool))));
                assert_eq!(created.is_ok(), !self.pools.contains_key(pool_name(pool)));
                self.pools.entry(pool_name(pool)).or_default();
            }
            Op::DeletePool { pool } => {
                let is_empty = self.pools.get(pool_name(pool)).is_some_and(BTreeMap::is_empty);
                assert_eq!(allocator.delete_pool(pool_name(pool)).is_ok(), is_empty);
                if is_empty {
                    self.pools.remove(pool_name(pool));
                }
            }
            Op::Allocate { owner, pool, ttl } => {
                let ttl = ttl.map(|ttl| u64::from(ttl) + 1);
                self.allocate(allocator, owner, pool, &Request::any(pool_name(pool)), ttl);
            }
            Op::AllocateNamed { owner, pool, host } => {
                self.allocate(allocator, owner, pool, &Request::named(pool_name(pool), address(pool, host)), None);
            }
            Op::Release { owner, pool, host } => {
                let released = allocator.release(pool_name(pool), address(pool, host), owner_name(owner));
                let is_held = self.is_held(owner, pool, host);
                assert_eq!(released.is_ok(), is_held);
                if is_held {
                    self.pools.entry(pool_name(pool)).or_default().remove(&address(pool, host));
                }
            }
            Op::ReleaseOwner { owner } => {
                let released = allocator.release_owner(owner_name(owner)).expect("releasing is no error");
                let mut count = 0;
                for pool in self.pools.values_mut() {
                    let before = pool.len();
                    pool.retain(|_, held| held.owner != owner_name(owner));
                    count += before - pool.len();
                }
                assert_eq!(released.len(), count);
            }
            Op::Renew { owner, pool, host, ttl } => {
                let ttl = u64::from(ttl) + 1;
                let renewed = allocator.renew(pool_name(pool), address(pool, host), owner_name(owner), ttl);
                let expires = self.now + ttl;
                match self.pools.get_mut(pool_name(pool)).and_then(|pool_held| pool_held.get_mut(&address(pool, host)))
                {
                    Some(held) if held.owner == owner_name(owner) => {
                        held.expires = Some(expires);
                        assert_eq!(renewed.ok(), Some(expires));
                    }
                    _ => assert!(renewed.is_err()),
                }
            }
            Op::Advance { ms } => {
                self.now += u64::from(ms);
                assert_eq!(allocator.advance_to(self.now).ok(), Some(self.now));
                let now = self.now;
                let is_over = |held: &Held| held.expires.is_some_and(|expires| expires <= now);
                self.pools.values_mut().for_each(|pool| pool.retain(|_, held| !is_over(held)));
            }
            Op::Usage { pool } => {
                let usage = allocator.usage(pool_name(pool)).ok();
                let held = self.pools.get(pool_name(pool)).map(|pool| pool.len() as u128);
                assert_eq!(usage.map(|usage| usage.allocated), held);
            }
            Op::List => {
                let listed = allocator.list(None).expect("listing is no error");
                assert_eq!(listed.len(), self.pools.values().map(BTreeMap::len).sum::<usize>());
            }
            Op::Begin | Op::Commit | Op::Rollback => unreachable!("a transaction is the whole model's"),
        }
    }

    fn allocate<S: Store>(
        &mut self,
        allocator: &mut Allocator<S>,
        owner: u8,
        pool: u8,
        request: &Request<'_>,
        ttl: Option<u64>,
    ) {
        let granted = allocator.allocate(owner_name(owner), std::slice::from_ref(request), ttl);
        let Some(held) = self.pools.get_mut(pool_name(pool)) else {
            assert_eq!(granted.expect_err("there is no such pool").kind(), ErrorKind::NotFound);
            return;
        };
        match granted {
            Ok(granted) => {
                let address = granted.address().expect("one address");
                let new = Held { owner: owner_name(owner), expires: ttl.map(|ttl| self.now + ttl) };
                assert_eq!(granted.expires_ms, new.expires);
                assert_eq!(held.insert(address, new), None, "granted twice");
            }
            // Of 8 addresses the first and the last are not handed out.
            Err(error) if error.kind() == ErrorKind::Exhausted => assert_eq!(held.len(), 6),
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Invalid), "{error}"),
        }
    }

    fn is_held(&self, owner: u8, pool: u8, host: u8) -> bool {
        let held = self.pools.get(pool_name(pool)).and_then(|held| held.get(&address(pool, host)));
        held.is_some_and(|held| held.owner == owner_name(owner))
    }
}

/// Says at the end how many operations an input had.
struct Steps {
    runs: Cell<u64>,
    steps: Cell<u64>,
}

thread_local! {
    static STEPS: Steps = const { Steps { runs: Cell::new(0), steps: Cell::new(0) } };
}

fn count(steps: u64) {
    STEPS.with(|counted| {
        counted.runs.set(counted.runs.get() + 1);
        counted.steps.set(counted.steps.get() + steps);
    });
}

impl Drop for Steps {
    fn drop(&mut self) {
        eprintln!("stat::mean_steps:               {}", self.steps.get().div_ceil(self.runs.get().max(1)));
    }
}
