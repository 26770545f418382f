//! What the documentation of each public method promises, written down as directly as can be: one map entry for each
//! address that is held or in quarantine, and every search by trying all addresses.
//!
//! It takes what the allocator takes and answers what the allocator answers, so pools must have few allocatable addresses,
//! however long their prefixes are. Where chance decides, it is told what was chosen and checks that it could be. Where a
//! call is wrong in several ways, what is wrong whatever the state comes first, in the order of the requests.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use poolproof_allocator::{
    AddressRange, Allocation, ErrorKind, Family, Grant, Granted, MAX_MS, PoolInfo, PoolShape, PoolSpec, Release,
    Repeat, Request, Resource, Strategy, Usage, Want,
};

pub type Answer<T> = Result<T, ErrorKind>;

#[derive(Clone, Default)]
pub struct Rules {
    pub now_ms: u64,
    /// In the order of their creation.
    pub pools: Vec<RulesPool>,
    /// The highest generation by the name of a pool.
    generations: BTreeMap<String, u64>,
}

#[derive(Clone)]
pub struct RulesPool {
    pub name: String,
    pub spec: PoolSpec,
    allocatable: BTreeSet<u128>,
    /// The last address of what the strategy `Next` chose last.
    chosen: Option<u128>,
    /// By every address of what is held or in quarantine.
    taken: BTreeMap<u128, Taken>,
}

#[derive(Clone)]
struct Taken {
    resource: Resource,
    /// Who holds it by which generation; nobody in quarantine.
    by: Option<(String, u64)>,
    /// The end of the lease or of the quarantine.
    ends_ms: Option<u64>,
}

thread_local! {
    static NOTED: RefCell<BTreeMap<String, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts that something was met, so that a test can tell what it never met.
pub fn note(what: &str) {
    NOTED.with_borrow_mut(|noted| *noted.entry(what.to_owned()).or_default() += 1);
}

/// What this thread has met, and how often.
pub fn noted() -> BTreeMap<String, u64> {
    NOTED.take()
}

pub fn value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn first(resource: Resource) -> u128 {
    match resource {
        Resource::Address(address) => value(address),
        Resource::Block(prefix) => value(prefix.network()),
    }
}

pub fn last(resource: Resource) -> u128 {
    match resource {
        Resource::Address(address) => value(address),
        Resource::Block(prefix) => value(prefix.broadcast()),
    }
}

/// As an extent has them.
pub fn host_bits(resource: Resource) -> Option<u8> {
    match resource {
        Resource::Address(_) => None,
        Resource::Block(prefix) => Some(prefix.max_prefix_len() - prefix.prefix_len()),
    }
}

/// The prefix length of a block; `None` of an address.
fn length(resource: Resource) -> Option<u8> {
    match resource {
        Resource::Address(_) => None,
        Resource::Block(prefix) => Some(prefix.prefix_len()),
    }
}

fn check_name(name: &str) -> Answer<()> {
    let is_good = !name.is_empty() && name.len() <= 255 && !name.contains('\0');
    if is_good { Ok(()) } else { Err(ErrorKind::Invalid) }
}

fn check(is_right: bool, otherwise: ErrorKind) -> Answer<()> {
    if is_right { Ok(()) } else { Err(otherwise) }
}

/// What may be handed out: the union of the ranges, less the gateway, the exclusions and the edges.
fn allocatable(prefix: IpNet, shape: &PoolShape) -> Answer<BTreeSet<u128>> {
    let is_inside = |address: IpAddr| prefix.contains(&address);
    let ranges = || shape.ranges.iter().chain(&shape.exclusions);
    check(ranges().all(|range| is_inside(range.first()) && is_inside(range.last())), ErrorKind::Invalid)?;
    check(shape.gateway.is_none_or(is_inside), ErrorKind::Invalid)?;

    let mut addresses: BTreeSet<u128> = shape.ranges.iter().flat_map(addresses_of).collect();
    if shape.ranges.is_empty() {
        addresses = addresses_of(&AddressRange::from(prefix)).collect();
    }
    let (network, broadcast) = (value(prefix.network()), value(prefix.broadcast()));
    let has_edges = prefix.max_prefix_len() - prefix.prefix_len() >= 2;
    let is_ipv4 = prefix.network().is_ipv4();
    addresses.retain(|one| !has_edges || (*one != network && !(is_ipv4 && *one == broadcast)));
    addresses.retain(|one| shape.gateway.map(value) != Some(*one));
    addresses.retain(|one| !shape.exclusions.iter().any(|range| range.span().contains(*one)));
    Ok(addresses)
}

fn addresses_of(range: &AddressRange) -> impl Iterator<Item = u128> + use<> {
    value(range.first())..=value(range.last())
}

impl RulesPool {
    fn family(&self) -> Family {
        Family::of(self.spec.prefix.network())
    }

    /// Whether a resource lies in the prefix and has no host bits.
    fn locate(&self, resource: Resource) -> Answer<()> {
        let is_inside = match resource {
            Resource::Address(address) => self.spec.prefix.contains(&address),
            Resource::Block(block) => block.trunc() == block && self.spec.prefix.contains(&block),
        };
        check(is_inside, ErrorKind::Invalid)
    }

    fn is_allocatable(&self, resource: Resource) -> bool {
        // A block larger than all there is would take too long to walk through.
        let is_larger = last(resource) - first(resource) >= self.allocatable.len() as u128;
        !is_larger && (first(resource)..=last(resource)).all(|one| self.allocatable.contains(&one))
    }

    fn is_taken(&self, resource: Resource) -> bool {
        (first(resource)..=last(resource)).any(|one| self.taken.contains_key(&one))
    }

    /// What somebody holds, or is in quarantine, by address.
    fn resources(&self) -> impl Iterator<Item = &Taken> {
        self.taken.iter().filter(|(address, taken)| **address == first(taken.resource)).map(|(_, taken)| taken)
    }

    fn held_by<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = &'a Taken> {
        self.resources().filter(move |taken| taken.by.as_ref().is_some_and(|(holder, _)| holder == owner))
    }

    /// Every free address, or free aligned block, from below.
    fn free(&self, length: Option<u8>) -> Vec<Resource> {
        let resource = |one: &u128| match length {
            None => Some(Resource::Address(self.family().address(*one))),
            Some(length) => IpNet::new(self.family().address(*one), length).ok().map(Resource::Block),
        };
        let resources = self.allocatable.iter().filter_map(resource);
        let is_free = |one: &Resource| self.locate(*one).is_ok() && self.is_allocatable(*one) && !self.is_taken(*one);
        resources.filter(is_free).collect()
    }

    fn put(&mut self, taken: &Taken) {
        let addresses = first(taken.resource)..=last(taken.resource);
        self.taken.extend(addresses.map(|one| (one, taken.clone())));
    }

    fn remove(&mut self, resource: Resource) {
        self.taken.retain(|_, taken| taken.resource != resource);
    }

    /// Ends an allocation that was over at a time.
    fn end(&mut self, resource: Resource, ended_ms: u64, now_ms: u64) {
        self.remove(resource);
        let until_ms = (ended_ms + self.spec.policy.quarantine_ms).min(MAX_MS);
        if until_ms > now_ms {
            self.put(&Taken { resource, by: None, ends_ms: Some(until_ms) });
        }
    }

    /// What the strategy chooses. Where that is chance, it is told, and anything free will do.
    fn choose(&mut self, length: Option<u8>, told: Option<&Grant>) -> Answer<Resource> {
        let free = self.free(length);
        let lowest = *free.first().ok_or(ErrorKind::Exhausted)?;
        let what = if length.is_some() { "block" } else { "address" };
        note(&format!("{what} by {:?}", self.spec.policy.strategy));
        match self.spec.policy.strategy {
            Strategy::Lowest => Ok(lowest),
            Strategy::Random => Ok(told.map(|grant| grant.resource).filter(|one| free.contains(one)).unwrap_or(lowest)),
            Strategy::Next => {
                let above = free.into_iter().find(|one| self.chosen.is_none_or(|chosen| first(*one) > chosen));
                if above.is_none() {
                    note("next comes round");
                }
                let next = above.unwrap_or(lowest);
                self.chosen = Some(last(next));
                Ok(next)
            }
        }
    }

    fn usage(&self) -> Usage {
        let allocated = self.taken.values().filter(|taken| taken.by.is_some()).count() as u128;
        let quarantined = self.taken.len() as u128 - allocated;
        Usage { allocatable: self.allocatable.len() as u128, allocated, quarantined }
    }

    fn info(&self) -> PoolInfo {
        let mut ranges: Vec<(u128, u128)> = Vec::new();
        for one in &self.allocatable {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *one => *last = *one,
                _ => ranges.push((*one, *one)),
            }
        }
        let at = |one| self.family().address(one);
        PoolInfo {
            name: self.name.as_str().into(),
            prefix: self.spec.prefix,
            allocatable: ranges.iter().map(|(one, other)| AddressRange::new(at(*one), at(*other)).unwrap()).collect(),
            policy: self.spec.policy,
            usage: self.usage(),
        }
    }

    fn allocation(&self, taken: &Taken) -> Option<Allocation> {
        let (owner, generation) = taken.by.clone()?;
        Some(Allocation {
            pool: self.name.as_str().into(),
            resource: taken.resource,
            owner: owner.into(),
            expires_ms: taken.ends_ms,
            generation,
        })
    }

    fn list(&self) -> Vec<Allocation> {
        self.resources().filter_map(|taken| self.allocation(taken)).collect()
    }
}

/// A call to allocate, while it is being answered.
struct Call<'a> {
    owner: &'a str,
    expires_ms: Option<u64>,
    /// As everything was before the call.
    before: Rules,
    /// What was granted again.
    again: Vec<(&'a str, Resource)>,
}

impl Call<'_> {
    /// What the owner gets again: the lowest of the kind that it held before the call and was not granted again yet.
    fn same(&self, name: &str, length_wanted: Option<u8>) -> Answer<Option<Resource>> {
        let pool = self.before.pool(name)?;
        if pool.spec.policy.repeat != Repeat::Same {
            return Ok(None);
        }
        let held = pool.held_by(self.owner).map(|taken| taken.resource);
        let mut kin = held.filter(|one| length(*one) == length_wanted);
        Ok(kin.find(|one| !self.again.contains(&(name, *one))))
    }
}

impl Rules {
    fn pool(&self, name: &str) -> Answer<&RulesPool> {
        check_name(name)?;
        self.pools.iter().find(|pool| pool.name == name).ok_or(ErrorKind::NotFound)
    }

    fn pool_mut(&mut self, name: &str) -> Answer<&mut RulesPool> {
        self.pool(name)?;
        self.pools.iter_mut().find(|pool| pool.name == name).ok_or(ErrorKind::NotFound)
    }

    fn end_of_lease(&self, ttl_ms: u64) -> Answer<u64> {
        check(ttl_ms > 0 && ttl_ms <= MAX_MS - self.now_ms, ErrorKind::Invalid)?;
        Ok(self.now_ms + ttl_ms)
    }

    pub fn create(&mut self, name: &str, spec: &PoolSpec) -> Answer<()> {
        check_name(name)?;
        check(spec.policy.quarantine_ms <= MAX_MS && spec.prefix.trunc() == spec.prefix, ErrorKind::Invalid)?;
        let PoolSpec { ranges, gateway, exclusions, policy, .. } = spec.clone();
        let allocatable = allocatable(spec.prefix, &PoolShape { ranges, gateway, exclusions, policy })?;
        check(self.pool(name).is_err(), ErrorKind::Conflict)?;
        let overlaps =
            |other: &&RulesPool| other.spec.prefix.contains(&spec.prefix) || spec.prefix.contains(&other.spec.prefix);
        for other in self.pools.iter().filter(overlaps) {
            check(other.spec.space != spec.space, ErrorKind::Conflict)?;
            note("pools of two address spaces overlap");
        }
        let (chosen, taken) = (None, BTreeMap::new());
        self.pools.push(RulesPool { name: name.into(), spec: spec.clone(), allocatable, chosen, taken });
        Ok(())
    }

    pub fn update(&mut self, name: &str, shape: &PoolShape) -> Answer<()> {
        check(shape.policy.quarantine_ms <= MAX_MS, ErrorKind::Invalid)?;
        let pool = self.pool_mut(name)?;
        pool.allocatable = allocatable(pool.spec.prefix, shape)?;
        let is_lost = |taken: &&Taken| !pool.is_allocatable(taken.resource);
        let lost: Vec<Taken> = pool.resources().filter(is_lost).cloned().collect();
        check(lost.iter().all(|taken| taken.by.is_none()), ErrorKind::InUse)?;
        for taken in lost {
            note("update forgets a quarantine");
            pool.remove(taken.resource);
        }
        pool.spec.policy = shape.policy;
        Ok(())
    }

    pub fn delete(&mut self, name: &str) -> Answer<()> {
        check(self.pool(name)?.usage().allocated == 0, ErrorKind::InUse)?;
        self.pools.retain(|pool| pool.name != name);
        Ok(())
    }

    /// Whether a request is wrong whatever is free.
    fn check_request(&self, owner: &str, request: &Request<'_>) -> Answer<()> {
        let pool = self.pool(request.pool)?;
        match request.want {
            Want::Any(count) => check(count > 0, ErrorKind::Invalid)?,
            Want::Block(length) => check(length <= pool.family().bits(), ErrorKind::Invalid)?,
            Want::Named(resource) => pool.locate(resource)?,
        }
        if pool.spec.policy.repeat == Repeat::Conflict && pool.held_by(owner).next().is_some() {
            note("repeat is refused");
            return Err(ErrorKind::Conflict);
        }
        Ok(())
    }

    pub fn allocate(
        &mut self,
        owner: &str,
        requests: &[Request<'_>],
        ttl_ms: Option<u64>,
        told: &[Grant],
    ) -> Answer<Granted> {
        check_name(owner)?;
        check(!requests.is_empty(), ErrorKind::Invalid)?;
        let expires_ms = ttl_ms.map(|ttl_ms| self.end_of_lease(ttl_ms)).transpose()?;
        requests.iter().try_for_each(|request| self.check_request(owner, request))?;
        let mut call = Call { owner, expires_ms, before: self.clone(), again: Vec::new() };
        // Places in the answer: the request that each belongs to. No pool has as many addresses as the limit.
        let count = |want| if let Want::Any(count) = want { count.min(100) } else { 1 };
        let places = requests.iter().flat_map(|request| (0..count(request.want)).map(move |_| request));
        let mut places: Vec<_> = places.enumerate().collect();
        places.sort_by_key(|(_, request)| match request.want {
            Want::Named(_) => (0, Reverse(0)),
            Want::Block(length) => (1, Reverse(self.pool(request.pool).unwrap().family().bits() - length)),
            Want::Any(_) => (2, Reverse(0)),
        });
        let mut grants = BTreeMap::new();
        for (place, request) in places {
            grants.insert(place, self.grant(&mut call, request, told.get(place))?);
        }
        Ok(Granted { grants: grants.into_values().collect(), expires_ms })
    }

    fn grant<'a>(&mut self, call: &mut Call<'a>, request: &Request<'a>, told: Option<&Grant>) -> Answer<Grant> {
        let length_wanted = match request.want {
            Want::Named(resource) => return self.grant_named(call, request.pool, resource, told),
            Want::Block(length) => Some(length),
            Want::Any(_) => None,
        };
        if let Some(same) = call.same(request.pool, length_wanted)? {
            return self.grant_again(call, request.pool, same);
        }
        let chosen = self.pool_mut(request.pool)?.choose(length_wanted, told)?;
        self.grant_new(call, request.pool, chosen, told)
    }

    fn grant_named<'a>(
        &mut self,
        call: &mut Call<'a>,
        name: &'a str,
        resource: Resource,
        told: Option<&Grant>,
    ) -> Answer<Grant> {
        let pool = self.pool(name)?;
        check(pool.is_allocatable(resource), ErrorKind::Invalid)?;
        note(if length(resource).is_some() { "named block" } else { "named address" });
        if !pool.is_taken(resource) {
            return self.grant_new(call, name, resource, told);
        }
        if pool.resources().any(|taken| taken.by.is_none() && taken.resource == resource) {
            note("quarantine refuses a name");
        }
        let is_its_own = call.before.pool(name)?.held_by(call.owner).any(|taken| taken.resource == resource);
        let is_again = call.again.contains(&(name, resource));
        check(pool.spec.policy.repeat == Repeat::Same && is_its_own && !is_again, ErrorKind::Conflict)?;
        self.grant_again(call, name, resource)
    }

    fn grant_again<'a>(&mut self, call: &mut Call<'a>, name: &'a str, resource: Resource) -> Answer<Grant> {
        note(if length(resource).is_some() { "block again" } else { "address again" });
        call.again.push((name, resource));
        let pool = self.pool_mut(name)?;
        let held = pool.held_by(call.owner).find(|taken| taken.resource == resource);
        let again = Taken { ends_ms: call.expires_ms, ..held.unwrap().clone() };
        pool.put(&again);
        Ok(Grant { resource, generation: again.by.unwrap().1 })
    }

    /// The number of a new allocation may be any higher one.
    fn grant_new(&mut self, call: &Call<'_>, name: &str, resource: Resource, told: Option<&Grant>) -> Answer<Grant> {
        let last = self.generations.entry(name.into()).or_default();
        *last = told.map_or(0, |grant| grant.generation).max(*last + 1);
        let generation = *last;
        let by = Some((call.owner.into(), generation));
        self.pool_mut(name)?.put(&Taken { resource, by, ends_ms: call.expires_ms });
        Ok(Grant { resource, generation })
    }

    /// What an owner holds by just that name, and its generation.
    fn owned(&self, pool: &str, resource: Resource, owner: &str) -> Answer<(Taken, u64)> {
        check_name(owner)?;
        let pool = self.pool(pool)?;
        pool.locate(resource)?;
        let found = pool.resources().find(|taken| taken.resource == resource).cloned();
        let held = found.and_then(|taken| Some((taken.by.clone()?, taken)));
        let ((holder, generation), taken) = held.ok_or(ErrorKind::NotFound)?;
        check(holder == owner, ErrorKind::NotOwner)?;
        Ok((taken, generation))
    }

    pub fn release(&mut self, release: &Release<'_>) -> Answer<()> {
        let (_, generation) = self.owned(release.pool, release.resource, release.owner)?;
        check(release.generation.is_none_or(|meant| meant == generation), ErrorKind::NotFound)?;
        let now_ms = self.now_ms;
        self.pool_mut(release.pool)?.end(release.resource, now_ms, now_ms);
        Ok(())
    }

    /// What was given back, with the names of the pools.
    pub fn release_owner(&mut self, owner: &str) -> Answer<Vec<(String, Resource)>> {
        let released = self.find_owner(owner)?;
        for one in &released {
            let now_ms = self.now_ms;
            self.pool_mut(&one.pool)?.end(one.resource, now_ms, now_ms);
        }
        Ok(released.iter().map(|one| (one.pool.to_string(), one.resource)).collect())
    }

    pub fn renew(&mut self, pool: &str, resource: Resource, owner: &str, ttl_ms: u64) -> Answer<u64> {
        let (owned, _) = self.owned(pool, resource, owner)?;
        let expires_ms = self.end_of_lease(ttl_ms)?;
        self.pool_mut(pool)?.put(&Taken { ends_ms: Some(expires_ms), ..owned });
        Ok(expires_ms)
    }

    pub fn advance_to(&mut self, now_ms: u64) -> Answer<u64> {
        check(now_ms <= MAX_MS, ErrorKind::Invalid)?;
        if now_ms < self.now_ms {
            note("clock goes back");
        }
        if now_ms == MAX_MS {
            note("end of time");
        }
        self.now_ms = self.now_ms.max(now_ms);
        let now_ms = self.now_ms;
        for pool in &mut self.pools {
            let is_over = |taken: &&Taken| taken.ends_ms.is_some_and(|ends_ms| ends_ms <= now_ms);
            for over in pool.resources().filter(is_over).cloned().collect::<Vec<_>>() {
                let has_quarantine = pool.spec.policy.quarantine_ms > 0;
                match over.by {
                    None => note("quarantine ends"),
                    Some(_) if has_quarantine => note("lease with a quarantine ends"),
                    Some(_) => note("lease ends"),
                }
                match over.by {
                    None => pool.remove(over.resource),
                    Some(_) => pool.end(over.resource, over.ends_ms.unwrap(), now_ms),
                }
                if has_quarantine && over.by.is_some() && !pool.is_taken(over.resource) {
                    note("quarantine passes in a jump");
                }
            }
        }
        Ok(now_ms)
    }

    pub fn find(&self, pool: &str, address: IpAddr) -> Answer<Option<Allocation>> {
        let pool = self.pool(pool)?;
        pool.locate(address.into())?;
        let found = pool.taken.get(&value(address)).and_then(|taken| pool.allocation(taken));
        note(match found.as_ref().map(|found| length(found.resource)) {
            None => "nothing is found",
            Some(None) => "address is found",
            Some(Some(_)) => "block is found",
        });
        Ok(found)
    }

    pub fn find_owner(&self, owner: &str) -> Answer<Vec<Allocation>> {
        check_name(owner)?;
        let listed = self.list(None)?.into_iter();
        Ok(listed.filter(|one| *one.owner == *owner).collect())
    }

    pub fn list(&self, pool: Option<&str>) -> Answer<Vec<Allocation>> {
        match pool {
            Some(pool) => Ok(self.pool(pool)?.list()),
            None => Ok(self.pools.iter().flat_map(RulesPool::list).collect()),
        }
    }

    pub fn usage(&self, pool: &str) -> Answer<Usage> {
        self.pool(pool).map(RulesPool::usage)
    }

    pub fn info(&self, pool: &str) -> Answer<PoolInfo> {
        self.pool(pool).map(RulesPool::info)
    }

    pub fn infos(&self) -> Vec<PoolInfo> {
        self.pools.iter().map(RulesPool::info).collect()
    }
}
