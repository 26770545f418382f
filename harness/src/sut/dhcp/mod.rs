//! The `dhcp4` and `dhcp6` adapters: a DHCP server, driven as a relay agent drives it, and started, configured and ended here.
//!
//! A pool is a subnet behind a relay address of its own, an owner a client by its identifier (RFC 2131 section 2, RFC 6842) or
//! DUID (RFC 8415 section 11), an allocation a lease that outlasts the run, a block a delegated prefix. Whoever holds a lease and
//! asks for any address again is a client that is still there: it renews, remembers, or asks as if it were new, in turn, and is to
//! be given what it holds.
//!
//! | module | what it is |
//! |---|---|
//! | `client` | which client an owner is |
//! | `pools` | the pools, as the server is told of them, and which client holds what |
//! | `server` | what a server must be able to do; `kea` and `dnsmasq` do it |
//! | `relay` | what a relay agent is asked |
//! | `v4`, `v6` | messages of DHCPv4 and of DHCPv6 |
//!
//! What is the adapter's own and says nothing about the server: names of pools and owners, that pools overlap or are in use, that
//! a pool is malformed where the server takes it, whether an address that was refused is taken or none of the pool's, and who else
//! holds an address that is released. What is held and how much there is, the server says itself.

mod client;
mod dnsmasq;
mod kea;
mod pools;
mod relay;
mod server;
mod v4;
mod v6;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::outcome::{self, Outcome, check_owner, refuse};
use super::{Failure, Resources, Sut};
use crate::address::{Family, Grant, Span};
use crate::contract::{Clock, Contract, Families, Limits, ReleaseUnknown, Repeat};
use crate::operation::{
    Allocation, Answer, Kind, Method, Operation, PoolShape, Request, Response, Text, Want, Written, is_name,
};
use crate::property::{Property, Violation};
use pools::{Pool, Pools};
use relay::{Bound, Link, Reason, Relay, Route, Trouble, Wanted};
use server::{LANES, Server, Stop};

/// A DHCP server.
pub struct Dhcp {
    contract: Contract,
    shared: Arc<Mutex<Shared>>,
    /// A client does one thing after the other, whoever asks it to: each has one of these while it does.
    clients: Arc<[Mutex<()>]>,
    relay: Box<dyn Relay>,
    /// Which of several callers this is; the first is 0.
    lane: u8,
    /// How many others there are.
    others: u8,
    /// How often somebody has asked for what it holds already.
    repeats: usize,
    /// How often somebody has given something back.
    releases: usize,
}

/// More clients than this sometimes wait for each other, which nobody minds.
const CLIENTS_AT_ONCE: usize = 64;

/// Kea 2.2 counts with 64 bits and a sign.
const LARGEST_USAGE: u128 = i64::MAX as u128;

/// One release in so many is a decline.
const DECLINES: usize = 16;

/// What all callers have in common.
struct Shared {
    server: Box<dyn Server>,
    pools: Pools,
}

impl Dhcp {
    /// Starts the server, by the path or the name of its program.
    ///
    /// # Errors
    ///
    /// [`Failure::Unable`] where there is no such server, or it does not start.
    pub fn start(program: &Path, family: Family) -> Result<Dhcp, Failure> {
        let server = server::start(program, family)?;
        let contract = server.contract(contract(family));
        let relay = server.relay(Duration::from_millis(contract.timeout_ms));
        let shared = Arc::new(Mutex::new(Shared { server, pools: Pools::default() }));
        let clients = (0..CLIENTS_AT_ONCE).map(|_| Mutex::default()).collect();
        Ok(Dhcp { contract, shared, clients, relay, lane: 0, others: 0, repeats: 0, releases: 0 })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create_pool(&mut self, name: &Text, prefix: &str, shape: &PoolShape) -> Outcome<Answer> {
        if !is_name(name) {
            return refuse(Kind::Invalid, "the name of the pool is malformed");
        }
        self.settle()?;
        let Shared { server, pools } = &mut *self.shared();
        let pool = Pool::read(prefix, shape, pools.free_number());
        let Some(pool) = pool.filter(|pool| self.contract.families.contains(pool.family())) else {
            server.refuse_malformed(prefix, shape)?;
            return refuse(Kind::Invalid, "the pool is malformed");
        };
        if pool.has_special_addresses() {
            return refuse(Kind::Unsupported, "no host can have some of these addresses");
        }
        if pools.get(name).is_some() || pools.iter().any(|(_, other)| other.overlaps(&pool)) {
            return refuse(Kind::Conflict, "the name is taken, or the prefix overlaps another pool");
        }
        let mut changed = pools.clone();
        changed.insert(name, pool);
        server.configure(&changed)?;
        *pools = changed;
        Ok(Answer::Done)
    }

    fn update_pool(&mut self, name: &Text, shape: &PoolShape) -> Outcome<Answer> {
        self.settle()?;
        let Shared { server, pools } = &mut *self.shared();
        let old = pools.find(name)?;
        let Some(pool) = Pool::read(&old.prefix.to_string(), shape, old.number) else {
            return refuse(Kind::Invalid, "the pool is malformed");
        };
        let pool = Pool { blocks: old.blocks, ..pool };
        if pool.has_special_addresses() {
            return refuse(Kind::Unsupported, "no host can have some of these addresses");
        }
        if server.leases(old)?.iter().any(|lease| !pool.may_grant(lease.grant)) {
            return refuse(Kind::InUse, "the pool has allocations that would be outside");
        }
        let mut changed = pools.clone();
        changed.insert(name, pool);
        server.configure(&changed)?;
        *pools = changed;
        Ok(Answer::Done)
    }

    fn delete_pool(&mut self, name: &Text) -> Outcome<Answer> {
        self.settle()?;
        let Shared { server, pools } = &mut *self.shared();
        if !server.leases(pools.find(name)?)?.is_empty() {
            return refuse(Kind::InUse, "the pool has allocations");
        }
        let mut changed = pools.clone();
        changed.remove(name);
        server.configure(&changed)?;
        *pools = changed;
        Ok(Answer::Done)
    }

    fn allocate(&mut self, owner: &Text, requests: &[Request], ttl_ms: Option<u64>) -> Outcome<Answer> {
        check_owner(owner)?;
        if ttl_ms.is_some() {
            return refuse(Kind::Unsupported, "leases outlast the run here");
        }
        let request = match requests {
            [] => return refuse(Kind::Invalid, "there are no requests"),
            [request] => request,
            _ => return refuse(Kind::Unsupported, "a client of DHCP has one address of a subnet"),
        };
        let blocks = match request.want {
            Want::Block(length) => Some(length),
            _ => None,
        };
        let pool = self.pool_for(&request.pool, blocks)?;
        let held = self.shared().pools.held(&pool, owner);
        let grant = match (&request.want, held) {
            (Want::Any, Some(held)) => self.hold(&pool, owner, held)?,
            (Want::Any, None) => self.bind(&pool, owner, Wanted::Any)?,
            (Want::Block(_), _) => self.bind(&pool, owner, Wanted::Block)?,
            (Want::Named(written), _) => self.bind_to(&pool, owner, written)?,
        };
        self.shared().pools.hold(&pool, owner, grant);
        Ok(Answer::Granted { grants: [grant].into_iter().collect(), expires_ms: None })
    }

    /// The pool, made one for blocks of this length, or for addresses, where nothing is held in it.
    fn pool_for(&mut self, name: &Text, blocks: Option<u8>) -> Outcome<Pool> {
        let pool = self.shared().pools.find(name)?.clone();
        if pool.blocks == blocks {
            return Ok(pool);
        }
        if !self.contract.blocks {
            return refuse(Kind::Unsupported, "DHCPv4 has no blocks");
        }
        if let Some(length) = blocks
            && (length > pool.family().bits() || length < pool.prefix.prefix_len())
        {
            return refuse(Kind::Invalid, "the pool can have no blocks of this length");
        }
        self.settle()?;
        let is_alone = self.is_alone();
        let Shared { server, pools } = &mut *self.shared();
        if !is_alone || !server.leases(&pool)?.is_empty() {
            return refuse(Kind::Unsupported, "a pool of DHCPv6 is for addresses, or for blocks of one length");
        }
        let pool = Pool { blocks, ..pool };
        let mut changed = pools.clone();
        changed.insert(name, pool.clone());
        server.configure(&changed)?;
        *pools = changed;
        Ok(pool)
    }

    fn bind(&mut self, pool: &Pool, owner: &str, wanted: Wanted) -> Outcome<Grant> {
        let (link, client) = (self.link(pool), self.client(pool, owner));
        let bound = self.relay.bind(link, &client, wanted);
        match self.unless_troubled(bound)? {
            Bound::To(grant) => Ok(grant),
            Bound::Nothing => refuse(Kind::Exhausted, "the server has nothing to give"),
            Bound::OfferedOther | Bound::Denied => refuse(Kind::Busy, "what was offered is denied"),
        }
    }

    fn bind_to(&mut self, pool: &Pool, owner: &str, written: &Written) -> Outcome<Grant> {
        let wanted = match written.meaning() {
            Some(Grant::Address(address)) if Family::of(address) == pool.family() => address,
            _ => return refuse(Kind::Invalid, "this is no address of the pool's family"),
        };
        let (link, client) = (self.link(pool), self.client(pool, owner));
        let bound = self.relay.bind(link, &client, Wanted::Address(wanted));
        match self.unless_troubled(bound)? {
            Bound::To(grant) => Ok(grant),
            Bound::Denied => refuse(Kind::Busy, "what was offered is denied"),
            Bound::OfferedOther | Bound::Nothing if pool.may_grant(Grant::Address(wanted)) => {
                refuse(Kind::Conflict, "the server does not give this address")
            }
            Bound::OfferedOther | Bound::Nothing => refuse(Kind::Invalid, "this is no address that the pool hands out"),
        }
    }

    /// Asks for any address on behalf of a client that has one.
    fn hold(&mut self, pool: &Pool, owner: &Text, held: Grant) -> Outcome<Grant> {
        let route = [Route::Renew, Route::Anew, Route::Remember][self.repeats % 3];
        self.repeats += 1;
        let (link, client) = (self.link(pool), self.client(pool, owner));
        let bound = self.relay.hold(Link { is_full: false, ..link }, &client, held, route);
        match self.unless_troubled(bound)? {
            Bound::To(grant) => Ok(grant),
            _ => {
                self.shared().pools.forget(pool, owner);
                // Another caller may have given it back in the meantime; else the server has forgotten it.
                let kind = if self.is_alone() { Kind::Conflict } else { Kind::Busy };
                refuse(kind, "the server denies a client what it holds")
            }
        }
    }

    fn release(&mut self, name: &Text, written: &Written, owner: Option<&Text>) -> Outcome<Answer> {
        let Some(owner) = owner else { return refuse(Kind::Invalid, "an owner is needed") };
        check_owner(owner)?;
        let (pool, held) = {
            let shared = self.shared();
            let pool = shared.pools.find(name)?.clone();
            let held = shared.pools.held(&pool, owner);
            (pool, held)
        };
        let within =
            |grant: &Grant| grant.family() == pool.family() && Span::of_prefix(pool.prefix).covers(grant.span());
        let Some(grant) = written.meaning().filter(within) else {
            return refuse(Kind::Invalid, "this is nothing of the pool's");
        };
        if matches!(grant, Grant::Block(_)) && !self.contract.blocks {
            return refuse(Kind::Invalid, "DHCPv4 has no blocks");
        }
        self.give_back(&pool, owner, grant, held == Some(grant))?;
        if held == Some(grant) {
            self.shared().pools.forget(&pool, owner);
            return Ok(Answer::Done);
        }
        match self.shared().pools.is_held(&pool, grant) {
            true => refuse(Kind::NotOwner, "somebody else holds it"),
            false => Ok(Answer::Done),
        }
    }

    /// A client gives back what it has; now and then because somebody else uses it, which is then looked after.
    fn give_back(&mut self, pool: &Pool, owner: &str, grant: Grant, is_own: bool) -> Outcome<()> {
        let (link, client) = (self.link(pool), self.client(pool, owner));
        self.releases += 1;
        let reason = if self.releases.is_multiple_of(DECLINES) { Reason::InUse } else { Reason::Done };
        let given = self.relay.give_back(link, &client, grant, reason);
        self.unless_troubled(given)?;
        if !self.is_alone() {
            // Others may ask the server by other ways.
            self.settle()?;
        }
        if let (Reason::InUse, Grant::Address(address), true) = (reason, grant, is_own) {
            self.settle()?;
            self.shared().server.clear(pool, address)?;
        }
        Ok(())
    }

    fn release_owner(&mut self, owner: &Text) -> Outcome<Answer> {
        check_owner(owner)?;
        let mut released = Vec::new();
        let held = self.shared().pools.held_by(owner);
        for (name, pool, grant) in held {
            self.give_back(&pool, owner, grant, true)?;
            self.shared().pools.forget(&pool, owner);
            released.push((name, grant));
        }
        Ok(Answer::Released(released))
    }

    fn list(&mut self, pool: Option<&Text>) -> Outcome<Answer> {
        self.settle()?;
        let Shared { server, pools } = &mut *self.shared();
        pool.map_or(Ok(()), |pool| pools.find(pool).map(|_| ()))?;
        let mut listed = Vec::new();
        for (name, pool) in pools.iter().filter(|(name, _)| pool.is_none_or(|pool| pool == *name)) {
            let leases = server.leases(pool)?;
            listed.extend(leases.into_iter().map(|lease| Allocation {
                pool: name.clone(),
                address: lease.grant,
                owner: server.owner(&lease.client, pools),
                expires_ms: None,
            }));
        }
        Ok(Answer::Listed(listed))
    }

    fn usage(&mut self, pool: &Text) -> Outcome<Answer> {
        self.settle()?;
        let Shared { server, pools } = &mut *self.shared();
        let pool = pools.find(pool)?;
        if pool.capacity() > LARGEST_USAGE.into() {
            return refuse(Kind::Unsupported, "the server does not count so many");
        }
        let (all, held) = server.usage(pool)?;
        let (allocatable, allocated) = match pool.blocks {
            None => (all.into(), held.into()),
            // The server counts blocks, and knows nothing of what is too small for one.
            Some(length) => (pool.capacity(), (held << (pool.family().bits() - length)).into()),
        };
        Ok(Answer::Usage { allocatable, allocated })
    }

    /// The server has read all that was sent to it.
    fn settle(&mut self) -> Result<(), Failure> {
        let settled = self.relay.settle();
        self.unless_troubled(settled)
    }

    fn client(&self, pool: &Pool, owner: &str) -> Vec<u8> {
        self.shared().server.client(pool, owner)
    }

    fn link(&self, pool: &Pool) -> Link {
        let shared = self.shared();
        Link {
            relay: shared.server.relay_address(pool, self.lane),
            is_full: shared.pools.is_full(pool),
            offset: shared.server.offset(pool),
        }
    }

    /// No other caller is there, nor was one since the last reset.
    fn is_alone(&self) -> bool {
        self.lane == 0 && self.others == 0
    }

    /// What was exchanged with the server, or what has happened to it.
    fn unless_troubled<T>(&self, exchanged: Result<T, Trouble>) -> Result<T, Failure> {
        exchanged.map_err(|trouble| match trouble {
            Trouble::Failed(failure) => failure,
            Trouble::Silent => {
                let limit = self.contract.timeout_ms;
                let silent =
                    || format!("the server has said nothing within {limit} ms, not even what it always answers");
                Failure::total(self.shared().server.has_ended().unwrap_or_else(silent))
            }
        })
    }

    fn answer(&mut self, operation: &Operation) -> Outcome<Answer> {
        match operation {
            Operation::CreatePool { pool, prefix, shape } => self.create_pool(pool, prefix, shape),
            Operation::UpdatePool { pool, shape } => self.update_pool(pool, shape),
            Operation::DeletePool { pool } => self.delete_pool(pool),
            Operation::Allocate { owner, requests, ttl_ms } => self.allocate(owner, requests, *ttl_ms),
            Operation::Release { pool, address, owner } => self.release(pool, address, owner.as_ref()),
            Operation::ReleaseOwner { owner } => self.release_owner(owner),
            Operation::List { pool } => self.list(pool.as_ref()),
            Operation::Usage { pool } if self.contract.has(Method::Usage) => self.usage(pool),
            _ => refuse(Kind::Unsupported, "DHCP has no such call"),
        }
    }

    fn end_and_start(&mut self, end: Stop) -> Result<(), Failure> {
        self.settle()?;
        let Shared { server, pools } = &mut *self.shared();
        server.stop(end)?;
        server.start_again(pools).map_err(|failure| match failure {
            Failure::Unable(why) => Failure::Misbehaved(Violation::new(Property::Durable, why)),
            other => other,
        })
    }
}

impl Sut for Dhcp {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.others = 0;
        self.relay.forget();
        let Shared { server, pools } = &mut *self.shared();
        *pools = Pools::default();
        server.empty()
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        let clients = self.clients.clone();
        let _turn = client_in(operation).map(|owner| turn(&clients, owner));
        outcome::respond(self.answer(operation))
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.end_and_start(Stop::Clean)
    }

    fn crash(&mut self) -> Result<(), Failure> {
        self.end_and_start(Stop::Kill)
    }

    fn forget(&mut self) -> bool {
        // The next reset starts another one.
        self.shared().server.stop(Stop::Kill).is_ok()
    }

    fn restarts_slowly(&self) -> bool {
        true
    }

    fn ends_late_calls(&self) -> bool {
        true
    }

    fn resources(&self) -> Resources {
        self.shared().server.resources()
    }

    fn resets_in_place(&self) -> bool {
        true
    }

    /// Another relay agent on the same links.
    fn another(&mut self) -> Result<Option<Box<dyn Sut + Send>>, Failure> {
        if self.others + 1 >= LANES {
            return Err(Failure::Unable(format!("there are relay addresses for {LANES} callers, and no more")));
        }
        self.others += 1;
        let shared = self.shared();
        let relay = shared.server.relay(Duration::from_millis(self.contract.timeout_ms));
        let methods = match shared.server.lists_in_passing() {
            true => self.contract.methods,
            false => self.contract.methods.without(Method::List),
        };
        drop(shared);
        Ok(Some(Box::new(Dhcp {
            contract: Contract { methods, ..self.contract.clone() },
            shared: self.shared.clone(),
            clients: self.clients.clone(),
            relay,
            lane: self.others,
            others: 0,
            repeats: 0,
            releases: 0,
        })))
    }

    fn diagnostics(&self) -> String {
        self.shared().server.diagnostics()
    }
}

/// Who is to do something.
fn client_in(operation: &Operation) -> Option<&Text> {
    match operation {
        Operation::Allocate { owner, .. } | Operation::ReleaseOwner { owner } => Some(owner),
        Operation::Release { owner, .. } => owner.as_ref(),
        _ => None,
    }
}

/// Waits until this client does nothing else.
fn turn<'a>(clients: &'a [Mutex<()>], owner: &Text) -> MutexGuard<'a, ()> {
    let mut hasher = DefaultHasher::new();
    owner.hash(&mut hasher);
    clients[hasher.finish() as usize % clients.len()].lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a DHCP server promises.
fn contract(family: Family) -> Contract {
    let methods = [
        Method::PoolUpdate,
        Method::PoolDelete,
        Method::Release,
        Method::ReleaseOwner,
        Method::List,
        Method::Usage,
        Method::Reset,
    ];
    Contract {
        methods: methods.into_iter().collect(),
        families: Families::only(family),
        blocks: family == Family::V6,
        durable: true,
        // A client is given again what it holds (RFC 2131 section 4.3.1, RFC 8415 section 13.1).
        repeat: Repeat::Same,
        // A release has no answer.
        release_unknown: ReleaseUnknown::Ok,
        clock: Clock::None,
        limits: Limits {
            special_addresses: false,
            largest_usage: LARGEST_USAGE,
            several_requests: false,
            mixed_blocks: false,
            ..Limits::default()
        },
        ..Contract::default()
    }
}
