//! The `dhcp4` adapter: a DHCP server, driven as a relay agent drives it, and started, configured and ended here.
//!
//! A pool is a subnet behind a relay address of its own, an owner a client by its identifier (RFC 2131 section 2, RFC 6842), an
//! allocation a lease that outlasts the run. Whoever holds a lease and asks for any address again is a client that is still
//! there: it renews, reboots, or asks as if it were new, in turn, and is to be given what it holds.
//!
//! | module | what it is |
//! |---|---|
//! | [`client`] | which client an owner is |
//! | [`pools`] | the pools, as the server is told of them, and which client holds what |
//! | [`server`] | what a server must be able to do; [`kea`] does it |
//! | [`v4`] | messages of DHCPv4 |
//!
//! What is the adapter's own and says nothing about the server: names of pools and owners, that pools overlap or are in use, that
//! a pool is malformed where the server takes it, whether an address that was refused is taken or none of the pool's, and who else
//! holds an address that is released. What is held and how much there is, the server says itself.

mod client;
mod kea;
mod pools;
mod server;
mod v4;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::outcome::{self, Outcome, check_owner, refuse};
use super::{Failure, Resources, Sut};
use crate::address::{Family, Grant};
use crate::contract::{Clock, Contract, Families, Limits, ReleaseUnknown, Repeat};
use crate::operation::{
    Allocation, Answer, Kind, Method, Operation, PoolShape, Request, Response, Text, Want, Written, is_name,
};
use crate::property::{Property, Violation};
use client::{client_of, owner_of};
use pools::{Pool, Pools};
use server::{Server, Stop};
use v4::{Bound, Link, Relay, Route, Trouble};

/// A DHCP server.
pub struct Dhcp {
    contract: Contract,
    shared: Arc<Mutex<Shared>>,
    /// A client does one thing after the other, whoever asks it to: each has one of these while it does.
    clients: Arc<[Mutex<()>]>,
    relay: Relay,
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
    pub fn start(program: &Path) -> Result<Dhcp, Failure> {
        let server = server::start(program, Family::V4)?;
        let contract = contract();
        let relay = Relay::new(server.address(), server.reply_port(), Duration::from_millis(contract.timeout_ms));
        let shared = Arc::new(Mutex::new(Shared { server, pools: Pools::default() }));
        let clients = (0..CLIENTS_AT_ONCE).map(|_| Mutex::default()).collect();
        Ok(Dhcp { contract, shared, clients, relay, lane: 0, others: 0, repeats: 0, releases: 0 })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create_pool(&self, name: &Text, prefix: &str, shape: &PoolShape) -> Outcome<Answer> {
        if !is_name(name) {
            return refuse(Kind::Invalid, "the name of the pool is malformed");
        }
        let Shared { server, pools } = &mut *self.shared();
        let Some(pool) = Pool::read(prefix, shape, pools.free_number()) else {
            server.refuse_malformed(prefix, shape)?;
            return refuse(Kind::Invalid, "the pool is malformed");
        };
        if pool.may_grant(Ipv4Addr::UNSPECIFIED) {
            return refuse(Kind::Unsupported, "0.0.0.0 stands for no address in DHCP");
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

    fn update_pool(&self, name: &Text, shape: &PoolShape) -> Outcome<Answer> {
        let Shared { server, pools } = &mut *self.shared();
        let old = pools.find(name)?;
        let Some(pool) = Pool::read(&old.prefix.to_string(), shape, old.number) else {
            return refuse(Kind::Invalid, "the pool is malformed");
        };
        if pool.may_grant(Ipv4Addr::UNSPECIFIED) {
            return refuse(Kind::Unsupported, "0.0.0.0 stands for no address in DHCP");
        }
        if server.leases(old)?.iter().any(|lease| !pool.may_grant(lease.address)) {
            return refuse(Kind::InUse, "the pool has allocations that would be outside");
        }
        let mut changed = pools.clone();
        changed.insert(name, pool);
        server.configure(&changed)?;
        *pools = changed;
        Ok(Answer::Done)
    }

    fn delete_pool(&self, name: &Text) -> Outcome<Answer> {
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
        let (pool, held) = {
            let shared = self.shared();
            let pool = shared.pools.find(&request.pool)?.clone();
            let held = shared.pools.held(&pool, owner);
            (pool, held)
        };
        let address = match (&request.want, held) {
            (Want::Any, Some(held)) => self.hold(&pool, owner, held)?,
            (Want::Any, None) => self.bind(&pool, owner)?,
            (Want::Named(written), _) => self.bind_to(&pool, owner, written)?,
            (Want::Block(_), _) => return refuse(Kind::Unsupported, "DHCPv4 has no blocks"),
        };
        self.shared().pools.hold(&pool, owner, address);
        let grants = [Grant::Address(address.into())].into_iter().collect();
        Ok(Answer::Granted { grants, expires_ms: None })
    }

    fn bind(&mut self, pool: &Pool, owner: &str) -> Outcome<Ipv4Addr> {
        let link = self.link(pool);
        let bound = self.relay.bind(link, &client_of(owner), None);
        match self.unless_troubled(bound)? {
            Bound::To(address) => Ok(address),
            Bound::Unanswered => refuse(Kind::Exhausted, "the server offers nothing"),
            Bound::Offered(_) | Bound::Denied => refuse(Kind::Busy, "what was offered is denied"),
        }
    }

    fn bind_to(&mut self, pool: &Pool, owner: &str, written: &Written) -> Outcome<Ipv4Addr> {
        let Some(Grant::Address(IpAddr::V4(wanted))) = written.meaning() else {
            return refuse(Kind::Invalid, "this is no IPv4 address");
        };
        let link = self.link(pool);
        let bound = self.relay.bind(link, &client_of(owner), Some(wanted));
        match self.unless_troubled(bound)? {
            Bound::To(address) => Ok(address),
            Bound::Denied => refuse(Kind::Busy, "what was offered is denied"),
            Bound::Offered(_) | Bound::Unanswered if pool.may_grant(wanted) => {
                refuse(Kind::Conflict, "the server does not give this address")
            }
            Bound::Offered(_) | Bound::Unanswered => {
                refuse(Kind::Invalid, "this is no address that the pool hands out")
            }
        }
    }

    /// Asks for any address on behalf of a client that has one.
    fn hold(&mut self, pool: &Pool, owner: &Text, held: Ipv4Addr) -> Outcome<Ipv4Addr> {
        let route = [Route::Renew, Route::Anew, Route::Reboot][self.repeats % 3];
        self.repeats += 1;
        let link = self.link(pool);
        let bound = self.relay.hold(Link { is_full: false, ..link }, &client_of(owner), held, route);
        match self.unless_troubled(bound)? {
            Bound::To(address) => Ok(address),
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
        let address = match written.meaning() {
            Some(Grant::Address(IpAddr::V4(address))) if pool.prefix.contains(&address) => address,
            _ => return refuse(Kind::Invalid, "this is no address of the pool"),
        };
        self.give_back(&pool, owner, address, held == Some(address))?;
        if held == Some(address) {
            self.shared().pools.forget(&pool, owner);
            return Ok(Answer::Done);
        }
        match self.shared().pools.is_held(&pool, address) {
            true => refuse(Kind::NotOwner, "somebody else holds it"),
            false => Ok(Answer::Done),
        }
    }

    /// A client gives back what it has; every third time because somebody else uses the address, which is then looked after.
    fn give_back(&mut self, pool: &Pool, owner: &str, address: Ipv4Addr, is_own: bool) -> Outcome<()> {
        let (link, client) = (self.link(pool), client_of(owner));
        self.releases += 1;
        let declines = self.releases.is_multiple_of(3);
        let told = match declines {
            true => self.relay.decline(link, &client, address),
            false => self.relay.release(link, &client, address),
        };
        self.unless_troubled(told)?;
        if declines && is_own {
            self.shared().server.clear(address)?;
        }
        Ok(())
    }

    fn release_owner(&mut self, owner: &Text) -> Outcome<Answer> {
        check_owner(owner)?;
        let mut released = Vec::new();
        let held = self.shared().pools.held_by(owner);
        for (name, pool, address) in held {
            self.give_back(&pool, owner, address, true)?;
            self.shared().pools.forget(&pool, owner);
            released.push((name, Grant::Address(address.into())));
        }
        Ok(Answer::Released(released))
    }

    fn list(&self, pool: Option<&Text>) -> Outcome<Answer> {
        let Shared { server, pools } = &mut *self.shared();
        pool.map_or(Ok(()), |pool| pools.find(pool).map(|_| ()))?;
        let mut listed = Vec::new();
        for (name, pool) in pools.iter().filter(|(name, _)| pool.is_none_or(|pool| pool == *name)) {
            let leases = server.leases(pool)?;
            listed.extend(leases.into_iter().map(|lease| Allocation {
                pool: name.clone(),
                address: Grant::Address(lease.address.into()),
                owner: owner_of(&lease.client, pools.owners()),
                expires_ms: None,
            }));
        }
        Ok(Answer::Listed(listed))
    }

    fn usage(&self, pool: &Text) -> Outcome<Answer> {
        let Shared { server, pools } = &mut *self.shared();
        let (all, held) = server.usage(pools.find(pool)?)?;
        Ok(Answer::Usage { allocatable: all.into(), allocated: held.into() })
    }

    fn link(&self, pool: &Pool) -> Link {
        let shared = self.shared();
        Link { relay: shared.server.relay_address(pool, self.lane), is_full: shared.pools.is_full(pool) }
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
            Operation::Usage { pool } => self.usage(pool),
            _ => refuse(Kind::Unsupported, "DHCP has no such call"),
        }
    }

    fn end_and_start(&mut self, end: Stop) -> Result<(), Failure> {
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
        self.others += 1;
        let (server, reply_port) = {
            let shared = self.shared();
            (shared.server.address(), shared.server.reply_port())
        };
        Ok(Some(Box::new(Dhcp {
            contract: self.contract.clone(),
            shared: self.shared.clone(),
            clients: self.clients.clone(),
            relay: Relay::new(server, reply_port, Duration::from_millis(self.contract.timeout_ms)),
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
fn contract() -> Contract {
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
        families: Families::only(Family::V4),
        durable: true,
        // A client is given again what it holds (RFC 2131 section 4.3.1).
        repeat: Repeat::Same,
        // A release has no answer.
        release_unknown: ReleaseUnknown::Ok,
        clock: Clock::None,
        limits: Limits { unspecified: false, several_requests: false, ..Limits::default() },
        ..Contract::default()
    }
}
