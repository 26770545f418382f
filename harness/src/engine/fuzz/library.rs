//! The reference allocator as a library: calls that no scenario makes, such as savepoints, pages of a listing, quarantines and
//! opening a file again, on both stores at once.
//!
//! Input is one call a line, as JSON. What is right follows from a few rules: both stores answer alike; what is told in
//! several ways is told alike; what is undone is as it was before; a release is of the allocation that it means, and what it
//! gives back rests as long as the pool says; a renewed lease lasts from now on.

use std::error::Error as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use ipnet::IpNet;
use poolproof_allocator::store::{Allocation, Store};
use poolproof_allocator::{
    Allocator, Error, ErrorKind, MemoryStore, Policy, PoolInfo, PoolShape, PoolSpec, Release, Repeat, Request,
    Resource, Savepoint, SharedAllocator, SqliteOptions, SqliteStore, Strategy, Want,
};
use poolproof_disk::{Disk, Fault, FaultKind, Moment, Snapshot};
use serde::{Deserialize, Serialize};

use super::super::canary;

/// One call. Numbers stand for names, addresses and times, of which there are a few each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Call {
    Create {
        pool: u8,
        shape: u8,
        policy: u8,
    },
    Update {
        pool: u8,
        shape: u8,
        policy: u8,
    },
    Delete {
        pool: u8,
    },
    Several {
        owner: u8,
        pool: u8,
        count: u8,
        ttl: Option<u8>,
    },
    Name {
        owner: u8,
        pool: u8,
        host: u8,
        length: Option<u8>,
    },
    Block {
        owner: u8,
        pool: u8,
        length: u8,
        beside: u8,
    },
    Release {
        owner: u8,
        pool: u8,
        host: u8,
        length: Option<u8>,
        generation: Option<u8>,
    },
    ReleaseOwner {
        owner: u8,
    },
    Renew {
        owner: u8,
        pool: u8,
        host: u8,
        ttl: u8,
    },
    Advance {
        ms: u8,
    },
    Begin,
    Commit,
    Rollback,
    Savepoint,
    RollbackTo {
        savepoint: u8,
    },
    ReleaseSavepoint {
        savepoint: u8,
    },
    Page {
        pool: Option<u8>,
        most: u8,
    },
    Find {
        pool: u8,
        host: u8,
    },
    Owner {
        owner: u8,
    },
    /// Calls of a caller among several, which fail in the end or do not.
    Share {
        owner: u8,
        pool: u8,
        fails: bool,
    },
    /// The same, and the disk fails at this step of it.
    Strike {
        owner: u8,
        pool: u8,
        step: u8,
        after: bool,
    },
    /// Opens the file again, first only to look at it.
    Reopen,
    Reset,
}

/// Pools: `a` and `d` want the same prefix, so that at most one of them is there; `b` has it in a space of its own.
const POOLS: [&str; 4] = ["a", "b", "c", "d"];
const OWNERS: [&str; 3] = ["one", "two", "three"];

/// At most so many calls are drawn at once.
const MOST_DRAWN: usize = 12;
/// What passes this is cut.
const MOST_CALLS: usize = 200;

const FILE: &str = "allocator.db";

/// Both stores, and how they came to be as they are.
pub struct Library {
    disk: Arc<Disk>,
    /// The disk with nothing on it.
    empty: Snapshot,
}

impl Library {
    /// With a simulated disk of its own.
    ///
    /// # Panics
    ///
    /// When SQLite does not take the disk.
    pub fn new() -> Library {
        let disk = Arc::new(Disk::new().expect("SQLite takes a simulated disk"));
        disk.start();
        let empty = disk.snapshot();
        Library { disk, empty }
    }

    /// Makes the calls; says whether the input had any.
    ///
    /// # Panics
    ///
    /// When an answer is wrong.
    pub fn run(&self, input: &[u8]) -> bool {
        let calls = read(input);
        self.disk.restore(&self.empty);
        self.disk.start();
        let mut twins = Twins::new(&self.disk);
        calls.iter().for_each(|call| twins.call(*call));
        twins.check();
        !calls.is_empty()
    }
}

impl Default for Library {
    fn default() -> Library {
        Library::new()
    }
}

/// The calls of an input, but for lines that are none.
fn read(input: &[u8]) -> Vec<Call> {
    let lines = input.split(|byte| *byte == b'\n');
    lines.filter_map(|line| serde_json::from_slice(line).ok()).take(MOST_CALLS).collect()
}

/// Changes the calls in the first `size` bytes of `data`; gives the new size. Deterministic in `seed`.
pub fn mutate(data: &mut [u8], size: usize, seed: u32) -> usize {
    let mut rng = Rng::with_seed(u64::from(seed));
    let mut calls = read(data.get(..size).unwrap_or_default());
    let at = rng.usize(..=calls.len());
    match rng.u8(..6) {
        0 if at < calls.len() => drop(calls.remove(at)),
        1 if at < calls.len() => calls[at] = drawn(&mut rng),
        2 if at < calls.len() => calls.insert(rng.usize(..=calls.len()), calls[at]),
        3 if calls.is_empty() => calls.extend((0..MOST_DRAWN).map(|_| drawn(&mut rng))),
        _ => calls.insert(at, drawn(&mut rng)),
    }
    write(&calls, data)
}

/// Writes as many of the calls as there is room for.
fn write(calls: &[Call], data: &mut [u8]) -> usize {
    let mut size = 0;
    for call in calls {
        let line = serde_json::to_string(call).expect("a call is JSON") + "\n";
        let Some(place) = data.get_mut(size..size + line.len()) else { break };
        place.copy_from_slice(line.as_bytes());
        size += line.len();
    }
    size
}

fn drawn(rng: &mut Rng) -> Call {
    let (owner, pool, host) = (rng.u8(..3), rng.u8(..16) % 5 % 4, rng.u8(..16));
    let length = rng.bool().then(|| 28 + rng.u8(..6));
    let ttl = rng.bool().then(|| rng.u8(..40));
    match rng.u8(..27) {
        0..3 => Call::Create { pool, shape: rng.u8(..), policy: rng.u8(..) },
        3 => Call::Update { pool, shape: rng.u8(..), policy: rng.u8(..) },
        4 => Call::Delete { pool },
        5..8 => Call::Several { owner, pool, count: rng.u8(..5), ttl },
        8 => Call::Name { owner, pool, host, length },
        9 => Call::Block { owner, pool, length: 27 + rng.u8(..8), beside: rng.u8(..3) },
        10 | 11 => Call::Release { owner, pool, host, length, generation: rng.bool().then(|| rng.u8(..6)) },
        12 => Call::ReleaseOwner { owner },
        13 => Call::Renew { owner, pool, host, ttl: rng.u8(..40) },
        14 => Call::Advance { ms: rng.u8(..40) },
        15 => Call::Begin,
        16 => Call::Commit,
        17 => Call::Rollback,
        18 => Call::Savepoint,
        19 => Call::RollbackTo { savepoint: rng.u8(..3) },
        20 => Call::ReleaseSavepoint { savepoint: rng.u8(..3) },
        21 => Call::Page { pool: rng.bool().then_some(pool), most: rng.u8(..4) },
        22 => Call::Find { pool, host },
        23 => Call::Owner { owner },
        24 => Call::Share { owner, pool, fails: rng.bool() },
        25 => Call::Strike { owner, pool, step: rng.u8(..16), after: rng.bool() },
        _ if rng.u8(..4) == 0 => Call::Reset,
        _ => Call::Reopen,
    }
}

fn pool_name(pool: u8) -> &'static str {
    POOLS[usize::from(pool) % POOLS.len()]
}

fn owner_name(owner: u8) -> &'static str {
    OWNERS[usize::from(owner) % OWNERS.len()]
}

/// 10.0.0.0/28 in two spaces, and fd00::/124.
fn prefix(pool: u8) -> IpNet {
    let text = if pool_name(pool) == "c" { "fd00::/124" } else { "10.0.0.0/28" };
    text.parse().expect("a prefix")
}

/// An address of the pool, or one just outside.
fn address(pool: u8, host: u8) -> IpAddr {
    match prefix(pool) {
        IpNet::V4(_) => Ipv4Addr::new(10, 0, 0, host % 17).into(),
        IpNet::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host % 17)).into(),
    }
}

fn resource(pool: u8, host: u8, length: Option<u8>) -> Resource {
    let address = address(pool, host);
    let longer = if address.is_ipv6() { 96 } else { 0 };
    match length.and_then(|length| IpNet::new(address, length.checked_add(longer)?).ok()) {
        Some(block) => Resource::Block(block),
        None => Resource::Address(address),
    }
}

fn policy(number: u8) -> Policy {
    // What is drawn at random differs from store to store, and so it should.
    let strategy = if number & 1 == 0 { Strategy::Lowest } else { Strategy::Next };
    let repeat = [Repeat::Another, Repeat::Same, Repeat::Conflict][usize::from(number >> 1) % 3];
    let quarantine_ms = if number & 0x80 == 0 { 0 } else { u64::from(number & 0x0f) };
    Policy { strategy, repeat, quarantine_ms }
}

fn shape(pool: u8, number: u8, policy: Policy) -> PoolShape {
    let range = |first, last| format!("{}-{}", address(pool, first), address(pool, last)).parse();
    let ranges = match number & 3 {
        0 | 1 => Vec::new(),
        2 => vec![range(2, 9).expect("a range")],
        _ => vec![range(1, 3).expect("a range"), range(8, 8 + (number >> 4) % 8).expect("a range")],
    };
    let gateway = (number & 4 != 0).then(|| address(pool, number >> 4));
    let exclusions = if number & 8 == 0 { Vec::new() } else { vec![range(4, 5).expect("a range")] };
    PoolShape { ranges, gateway, exclusions, policy }
}

/// A pool of this shape.
fn spec(pool: u8, shape: &PoolShape) -> PoolSpec {
    let space = if pool_name(pool) == "b" { "another" } else { "" };
    let mut spec = PoolSpec::new(prefix(pool)).with_space(space).with_policy(shape.policy);
    spec = shape.ranges.iter().fold(spec, |spec, range| spec.with_range(*range));
    spec = shape.exclusions.iter().fold(spec, |spec, exclusion| spec.with_exclusion(*exclusion));
    shape.gateway.into_iter().fold(spec, PoolSpec::with_gateway)
}

/// Everything that an allocator tells.
type Told = (Vec<Allocation>, Vec<PoolInfo>, u64);

fn told<S: Store>(allocator: &mut Allocator<S>) -> Result<Told, Error> {
    Ok((allocator.list(None)?, allocator.pools()?, allocator.now_ms()?))
}

/// One of the two, and its own names of savepoints.
struct Twin<S: Store> {
    /// Gone only while it is shared, or its file opened again.
    allocator: Option<Allocator<S>>,
    savepoints: Vec<Savepoint>,
    /// What it told when the transaction began, and at each savepoint since.
    before: Vec<Told>,
}

impl<S: Store + Send + 'static> Twin<S> {
    fn new(allocator: Allocator<S>) -> Twin<S> {
        Twin { allocator: Some(allocator), savepoints: Vec::new(), before: Vec::new() }
    }

    fn allocator(&mut self) -> &mut Allocator<S> {
        self.allocator.as_mut().expect("it is back")
    }

    /// An open transaction is undone.
    fn forget_transaction(&mut self) {
        self.savepoints.clear();
        self.before.clear();
    }

    /// The answer, in words.
    fn call(&mut self, call: Call) -> Result<String, Error> {
        let allocator = self.allocator();
        match call {
            Call::Begin | Call::Commit | Call::Rollback => return self.transaction(call).map(|()| String::new()),
            Call::Savepoint | Call::RollbackTo { .. } | Call::ReleaseSavepoint { .. } => {
                return self.savepoint(call).map(|()| String::new());
            }
            Call::Create { pool, shape: number, policy: of } => {
                allocator.create_pool(pool_name(pool), &spec(pool, &shape(pool, number, policy(of))))?;
            }
            Call::Update { pool, shape: number, policy: of } => {
                allocator.update_pool(pool_name(pool), &shape(pool, number, policy(of)))?;
            }
            Call::Delete { pool } => allocator.delete_pool(pool_name(pool))?,
            Call::Several { owner, pool, count, ttl } => {
                let request = Request::several(pool_name(pool), u32::from(count));
                let granted = allocator.allocate(owner_name(owner), &[request], ttl.map(u64::from))?;
                let first = granted.grants.first().map(|grant| grant.resource);
                assert_eq!(granted.address().map(Resource::Address), first, "addresses were asked for");
                return Ok(format!("{granted:?}"));
            }
            Call::Name { owner, pool, host, length } => {
                let request = Request::named(pool_name(pool), resource(pool, host, length));
                return Ok(format!("{:?}", allocator.allocate(owner_name(owner), &[request], None)?));
            }
            Call::Block { owner, pool, length, beside } => {
                let length = length.saturating_add(if prefix(pool).addr().is_ipv6() { 96 } else { 0 });
                let mut requests = vec![Request::block(pool_name(pool), length)];
                let want = Want::Any(u32::from(beside));
                requests.extend((beside > 0).then_some(Request { pool: pool_name(pool.wrapping_add(1)), want }));
                return Ok(format!("{:?}", allocator.allocate(owner_name(owner), &requests, Some(20))?));
            }
            Call::Release { owner, pool, host, length, generation } => {
                let release = Release {
                    pool: pool_name(pool),
                    resource: resource(pool, host, length),
                    owner: owner_name(owner),
                    generation: generation.map(u64::from),
                };
                self.release(&release, address(pool, host))?;
            }
            Call::ReleaseOwner { owner } => {
                return Ok(format!("{:?}", allocator.release_owner(owner_name(owner))?));
            }
            Call::Renew { owner, pool, host, ttl } => {
                let until = allocator.renew(pool_name(pool), address(pool, host), owner_name(owner), ttl.into())?;
                assert_eq!(until, allocator.now_ms()? + u64::from(ttl), "renewed for {ttl}");
                return Ok(until.to_string());
            }
            Call::Advance { ms } => {
                let now = allocator.now_ms()?;
                return Ok(allocator.advance_to(now + u64::from(ms))?.to_string());
            }
            Call::Page { pool, most } => return self.pages(pool.map(pool_name), most.into()),
            Call::Find { pool, host } => {
                return Ok(format!("{:?}", allocator.find(pool_name(pool), address(pool, host))?));
            }
            Call::Owner { owner } => return Ok(format!("{:?}", allocator.find_owner(owner_name(owner))?)),
            Call::Share { owner, pool, fails } => return self.share(owner_name(owner), pool_name(pool), fails),
            Call::Reset => {
                allocator.reset()?;
                self.forget_transaction();
            }
            // They are for both at once.
            Call::Strike { .. } | Call::Reopen => {}
        }
        Ok(String::new())
    }

    /// Gives back what is at an address, and tries to take it before its time.
    fn release(&mut self, release: &Release<'_>, at: IpAddr) -> Result<(), Error> {
        let allocator = self.allocator();
        let held = allocator.find(release.pool, at)?;
        allocator.release_exactly(release)?;
        let held = held.expect("what was given back was held");
        let is_meant = release.generation.is_none_or(|generation| generation == held.generation);
        assert!(is_meant, "{release:?} gave back {held:?}");
        if allocator.pool(release.pool)?.policy.quarantine_ms > 0 {
            let taken = allocator.allocate("another", &[Request::named(release.pool, held.resource)], None);
            assert!(taken.is_err(), "{held:?} was given back and is to rest, but {taken:?}");
        }
        Ok(())
    }

    /// Numbers allocations up to this, one at least, in a pool that is gone then: later ones go on from there. Gives the last
    /// number.
    fn count(&mut self, up_to: u64) -> u64 {
        const SCRATCH: &str = "scratch";
        let allocator = self.allocator();
        let spec = PoolSpec::new("192.168.0.0/24".parse().expect("a prefix")).with_space(SCRATCH);
        allocator.create_pool(SCRATCH, &spec).expect("nobody else has it");
        let last = loop {
            let granted = allocator.allocate(SCRATCH, &[Request::any(SCRATCH)], None).expect("there is room");
            let number = granted.grants[0].generation;
            if number >= up_to {
                break number;
            }
        };
        allocator.release_owner(SCRATCH).expect("it is there");
        allocator.delete_pool(SCRATCH).expect("it is empty");
        last
    }

    fn transaction(&mut self, call: Call) -> Result<(), Error> {
        match call {
            Call::Begin => {
                let before = told(self.allocator())?;
                self.allocator().begin()?;
                self.before = vec![before];
            }
            Call::Commit => self.allocator().commit()?,
            _ => {
                self.allocator().rollback()?;
                assert_eq!(told(self.allocator()).ok().as_ref(), self.before.first(), "rolled back");
            }
        }
        self.savepoints.clear();
        Ok(())
    }

    fn savepoint(&mut self, call: Call) -> Result<(), Error> {
        let place = |savepoint: u8| usize::from(savepoint) % self.savepoints.len().max(1);
        let of_nobody = || Error::Invalid("there are no savepoints");
        match call {
            Call::RollbackTo { savepoint } => {
                let place = place(savepoint);
                let savepoint = *self.savepoints.get(place).ok_or_else(of_nobody)?;
                // The canary: it does not go back.
                if !canary::is_asked_for() {
                    self.allocator().rollback_to(savepoint)?;
                }
                assert_eq!(Some(&told(self.allocator())?), self.before.get(place + 1), "back at a savepoint");
                self.savepoints.truncate(place + 1);
                self.before.truncate(place + 2);
            }
            Call::ReleaseSavepoint { savepoint } => {
                let place = place(savepoint);
                let savepoint = *self.savepoints.get(place).ok_or_else(of_nobody)?;
                self.allocator().release_savepoint(savepoint)?;
                assert!(self.allocator().rollback_to(savepoint).is_err(), "a savepoint that is forgotten");
                self.savepoints.truncate(place);
                self.before.truncate(place + 1);
            }
            _ => {
                let savepoint = self.allocator().savepoint()?;
                let now = told(self.allocator())?;
                self.savepoints.push(savepoint);
                self.before.push(now);
            }
        }
        Ok(())
    }

    /// A listing page by page, which is that in one piece.
    fn pages(&mut self, pool: Option<&str>, most: usize) -> Result<String, Error> {
        let mut page = self.allocator().list_page(pool, None, most)?;
        let mut listed = std::mem::take(&mut page.allocations);
        while let Some(cursor) = page.next.filter(|_| most > 0) {
            page = self.allocator().list_page(pool, Some(cursor), most)?;
            listed.append(&mut page.allocations);
        }
        let all = self.allocator().list(pool)?;
        assert!(most == 0 || listed == all, "pages of {most}: {listed:?}, in one piece {all:?}");
        Ok(format!("{listed:?}"))
    }

    /// Shares the allocator, with which an open transaction ends. What fails leaves nothing behind.
    fn share(&mut self, owner: &'static str, pool: &'static str, fails: bool) -> Result<String, Error> {
        let shared = SharedAllocator::new(self.allocator.take().expect("it is back"));
        self.forget_transaction();
        let before = shared.run(told)?;
        let done = shared.run(move |allocator| {
            assert!(allocator.commit().is_err(), "the transaction is not this caller's");
            let granted = allocator.allocate(owner, &[Request::any(pool)], None)?;
            if fails { Err(Error::InUse) } else { Ok(format!("{granted:?}")) }
        });
        if done.is_err() {
            assert_eq!(shared.run(told)?, before, "calls that failed left something");
        }
        let another = shared.clone();
        let Err(shared) = shared.into_inner() else { panic!("there is another handle") };
        drop(another);
        self.allocator = shared.into_inner().ok();
        done
    }

    /// Whatever is told in several ways is told alike, and all that is kept follows from the allocations.
    fn check(&mut self) {
        let allocator = self.allocator();
        let differences = allocator.audit().expect("an audit is no error");
        assert!(differences.is_empty(), "{differences:?}");
        let listed = allocator.list(None).expect("a listing is no error");
        let pools = allocator.pools().expect("pools can be told");
        for pool in &pools {
            let of_pool = allocator.list(Some(&pool.name)).expect("the pool is there");
            let expected: Vec<&Allocation> = listed.iter().filter(|one| one.pool == pool.name).collect();
            assert_eq!(of_pool.iter().collect::<Vec<_>>(), expected, "{}", pool.name);
            assert_eq!(allocator.pool(&pool.name).ok().as_ref(), Some(pool));
            assert_eq!(allocator.usage(&pool.name).ok(), Some(pool.usage));
            for host in 0..16 {
                let number = POOLS.iter().position(|name| **name == *pool.name).expect("one of ours") as u8;
                let found = allocator.find(&pool.name, address(number, host)).expect("an address of the pool");
                let holder = expected.iter().find(|one| covers(one.resource, address(number, host)));
                assert_eq!(found.as_ref(), holder.copied(), "{} {host}", pool.name);
            }
        }
        for one in &listed {
            assert!(covers(one.resource, one.first()), "{one:?}");
            let shown = one.resource.to_string();
            let read = shown.parse().map(Resource::Address).or_else(|_| shown.parse().map(IpNet::into));
            assert_eq!(read.ok(), Some(one.resource), "{shown} is read as it is shown");
        }
        for owner in OWNERS {
            let own = allocator.find_owner(owner).expect("an owner can be looked up");
            assert_eq!(own, listed.iter().filter(|one| *one.owner == *owner).cloned().collect::<Vec<_>>(), "{owner}");
        }
    }
}

/// The same allocator in memory and on a simulated disk.
struct Twins<'a> {
    disk: &'a Disk,
    memory: Twin<MemoryStore>,
    sqlite: Twin<SqliteStore>,
}

impl Twins<'_> {
    fn new(disk: &Disk) -> Twins<'_> {
        let opened = open(disk, false).expect("an empty disk");
        Twins { disk, memory: Twin::new(Allocator::in_memory()), sqlite: Twin::new(opened) }
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::Reopen => return self.reopen(),
            Call::Strike { owner, pool, step, after } => {
                let moment = if after { Moment::After } else { Moment::Before };
                let fault = Fault { kind: FaultKind::Error, step: step.into(), call: None, moment };
                return self.strike(owner_name(owner), pool_name(pool), fault);
            }
            _ => {}
        }
        let told = |error: Error| {
            assert_eq!(error.to_string(), error.text(), "what is shown has no more than what callers are told");
            assert!(error.source().is_none(), "nothing failed: {:?}", error.source());
            (error.kind().name(), error.text())
        };
        let (one, other) = (self.memory.call(call).map_err(told), self.sqlite.call(call).map_err(told));
        assert_eq!(one, other, "in memory and on SQLite: {call:?}");
    }

    /// Shares the allocator on a disk that fails, with which an open transaction ends. All that the caller wanted has happened,
    /// or nothing, and what it is told is true.
    fn strike(&mut self, owner: &'static str, pool: &'static str, fault: Fault) {
        self.end_transaction();
        let before = told(self.memory.allocator()).expect("memory does not fail");
        let shared = SharedAllocator::new(self.sqlite.allocator.take().expect("it is back"));
        self.disk.arm(&[fault]);
        let done = shared.run(move |allocator| allocator.allocate(owner, &[Request::any(pool)], None));
        self.disk.arm(&[]);
        let now = shared.run(told).expect("the disk is well again");
        self.sqlite.allocator = shared.into_inner().ok();
        let kind = done.as_ref().err().map(Error::kind);
        self.level();
        if kind == Some(ErrorKind::Storage) || kind == Some(ErrorKind::UnknownOutcome) && now == before {
            assert_eq!(now, before, "what failed left something");
            return;
        }
        let right = self.memory.allocator().allocate(owner, &[Request::any(pool)], None);
        if kind != Some(ErrorKind::UnknownOutcome) {
            assert_eq!(done.map_err(|error| error.kind()), right.map_err(|error| error.kind()));
        }
        assert_eq!(now, told(self.memory.allocator()).expect("memory does not fail"), "what was done lasts");
    }

    /// A store that has settled what was in doubt numbers the allocations of later pools from one more: makes both go on from
    /// the same number.
    fn level(&mut self) {
        let (one, other) = (self.memory.count(0), self.sqlite.count(0));
        let both = one.max(other) + 1;
        assert_eq!(self.memory.count(both), self.sqlite.count(both));
    }

    /// On both.
    fn end_transaction(&mut self) {
        let _ = self.memory.allocator().rollback(); // there need not be one
        self.memory.forget_transaction();
        self.sqlite.forget_transaction();
    }

    /// Opens the file again, with which an open transaction ends: first only to look at it.
    fn reopen(&mut self) {
        self.end_transaction();
        self.sqlite.allocator = None;
        let mut looking = open(self.disk, true).expect("a sound file");
        assert_eq!(told(&mut looking).ok(), told(self.memory.allocator()).ok(), "after it was opened again");
        let refused = looking.reset().expect_err("it is only to be looked at");
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
        assert_eq!(looking.integrity_check().expect("a sound file"), [""; 0]);
        drop(looking);
        self.sqlite.allocator = Some(open(self.disk, false).expect("a sound file"));
    }

    fn check(&mut self) {
        self.memory.check();
        self.sqlite.check();
    }
}

fn open(disk: &Disk, read_only: bool) -> Result<Allocator<SqliteStore>, Error> {
    let busy_timeout = Duration::ZERO; // there are no others to wait for
    let options =
        SqliteOptions { busy_timeout, read_only, verify: true, vfs: Some(Disk::VFS), ..SqliteOptions::default() };
    Allocator::open_with(disk.path(FILE), options)
}

fn covers(resource: Resource, address: IpAddr) -> bool {
    match resource {
        Resource::Address(held) => held == address,
        Resource::Block(held) => held.contains(&address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_answered_alike_and_rightly() {
        let library = Library::new();
        let mut data = vec![0; 4096];
        let mut size = 0;
        for seed in 0..250 {
            size = mutate(&mut data, size, seed);
            library.run(&data[..size]);
        }
    }

    #[test]
    fn lines_that_are_no_calls_are_passed_over() {
        let calls = read(b"\"begin\"\nnonsense\n{\"find\":{\"pool\":1,\"host\":2}}\n{\"find\":{}}\n");
        assert_eq!(calls, [Call::Begin, Call::Find { pool: 1, host: 2 }]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut rng = Rng::with_seed(0);
        let calls: Vec<Call> = (0..100).map(|_| drawn(&mut rng)).collect();
        let mut data = vec![0; 10_000];
        let size = write(&calls, &mut data);
        assert_eq!(read(&data[..size]), calls);
    }
}
