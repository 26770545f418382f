//! Owners confused with others, and calls that come twice or too late.

use std::collections::{BTreeMap, BTreeSet};

use poolproof_allocator::{Allocation, Resource};
use poolproof_core::operation::{Answer, Kind, Operation, Request, Response, Text, Want};
use poolproof_core::property::Property::{
    Accounted, Atomic, Contained, Exclusive, Expiring, Idempotent, Inert, Owned, Scoped,
};

use crate::base::{Base, any_one, granted, is_refused, meant};
use crate::faulty::{Bug, Calls, Faulty, Mutant, Setting};

/// The mutants here.
pub const MUTANTS: &[Mutant] = &[
    Mutant::new("release-ignores-owner", &[Owned, Atomic, Idempotent], || Box::new(Calls(release_ignores_owner)))
        .in_steps(3),
    Mutant::new("stale-del-frees-new-owner", &[Owned, Idempotent], || Box::new(StaleDelFreesNewOwner::default()))
        .in_steps(5),
    Mutant::new("ifname-not-in-key", &[Owned, Inert, Scoped, Accounted], || Box::new(Calls(ifname_not_in_key)))
        .in_steps(3),
    Mutant::new("shared-then-delete-frees", &[Owned, Exclusive, Accounted], || {
        Box::new(SharedThenDeleteFrees::default())
    })
    .in_steps(4),
    Mutant::new("stranger-messages-have-effects", &[Owned, Atomic, Accounted], || {
        Box::new(StrangerMessagesHaveEffects::default())
    })
    .in_steps(3),
    Mutant::new("renew-cache-acks-any-address", &[Owned, Expiring], || Box::new(RenewCacheAcksAnyAddress::default()))
        .in_steps(5),
    Mutant::new("discover-downgrades-lease", &[Expiring, Accounted], || Box::new(Calls(discover_downgrades_lease)))
        .in_steps(3)
        .set(Setting::SAME),
    Mutant::new("scope-bleed", &[Scoped, Contained, Exclusive], || Box::new(Calls(scope_bleed)))
        .in_steps(4)
        .set(Setting::SAME),
];

/// Who holds just what a call names, whoever asks.
fn holder(base: &mut Base, pool: &Text, resource: Resource) -> Option<Allocation> {
    base.held(pool).into_iter().find(|one| one.resource == resource)
}

/// dora (`libs/ip-manager/src/sqlite.rs`, `release_ip`): the answer looks at the owner, the deletion does not.
fn release_ignores_owner(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Operation::Release { pool, address, .. } = operation
        && bug.is_on()
        && is_refused(&response, Kind::NotOwner)
        && let Some(held) = meant(address).and_then(|resource| holder(base, pool, resource))
    {
        base.end(&held);
    }
    response
}

/// Cilium (cilium/cilium#10065), Azure (Azure/azure-container-networking#885), Kubernetes (#44100): a release that comes late
/// frees what somebody else has got since.
#[derive(Default)]
struct StaleDelFreesNewOwner {
    former: BTreeMap<(Text, Resource), Text>,
}

impl Faulty for StaleDelFreesNewOwner {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let response = base.call(operation);
        let Operation::Release { pool, address, owner: Some(owner) } = operation else { return response };
        let Some(resource) = meant(address) else { return response };
        let key = (pool.clone(), resource);
        if response.is_ok() {
            self.former.insert(key, owner.clone());
        } else if bug.is_on()
            && is_refused(&response, Kind::NotOwner)
            && self.former.get(&key) == Some(owner)
            && let Some(held) = holder(base, pool, resource)
        {
            base.end(&held);
            return Ok(Answer::Done);
        }
        response
    }
}

/// CNI host-local (commit 1e8f9525), kube-ovn (PR #5336), whereabouts (00ebc0ee): what one interface of a container holds is
/// kept under the container's name, and goes with that of another one.
fn ifname_not_in_key(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Operation::ReleaseOwner { owner } = operation
        && bug.is_on()
        && response.is_ok()
    {
        for other in base.all_held() {
            if container(&other.owner) == container(owner) {
                base.end(&other);
            }
        }
    }
    response
}

/// An owner's name without that of its interface.
fn container(owner: &str) -> &str {
    owner.split_once('/').map_or(owner, |(container, _)| container)
}

/// Kubernetes (#64466), OVN-Kubernetes (PR #3919): two are noted down for one address, and when one of them goes it is free.
/// Here whoever was refused an address is noted down for it.
#[derive(Default)]
struct SharedThenDeleteFrees {
    noted: BTreeSet<(Text, Text, Resource)>,
}

impl Faulty for SharedThenDeleteFrees {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let response = base.call(operation);
        match operation {
            Operation::Allocate { owner, requests, .. } if is_refused(&response, Kind::Conflict) => {
                if let [Request { pool, want: Want::Named(address) }] = requests.as_slice()
                    && let Some(resource) = meant(address)
                {
                    self.noted.insert((owner.clone(), pool.clone(), resource));
                }
            }
            Operation::ReleaseOwner { owner } if bug.is_on() => {
                for (_, pool, resource) in self.noted.iter().filter(|(noted, ..)| noted == owner) {
                    if let Some(held) = holder(base, pool, *resource) {
                        base.end(&held);
                    }
                }
                self.noted.retain(|(noted, ..)| noted != owner);
            }
            _ => {}
        }
        response
    }
}

/// Kea (ChangeLog 2288): a message about an address that the sender does not hold changes the counters.
#[derive(Default)]
struct StrangerMessagesHaveEffects {
    uncounted: BTreeMap<Text, u128>,
}

impl Faulty for StrangerMessagesHaveEffects {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let response = base.call(operation);
        match (operation, response) {
            (Operation::Release { pool, .. }, response) => {
                if bug.is_on() && is_refused(&response, Kind::NotOwner) {
                    *self.uncounted.entry(pool.clone()).or_default() += 1;
                }
                response
            }
            (Operation::Usage { pool }, Ok(Answer::Usage { allocatable, allocated })) => {
                let uncounted = self.uncounted.get(pool).copied().unwrap_or(0);
                let allocated = allocated.saturated().saturating_sub(uncounted).into();
                Ok(Answer::Usage { allocatable, allocated })
            }
            (_, response) => response,
        }
    }
}

/// dora (plugins/leases, `request`): whoever renewed of late is answered yes, whatever address the renewal names.
#[derive(Default)]
struct RenewCacheAcksAnyAddress {
    seen: BTreeSet<Text>,
}

impl Faulty for RenewCacheAcksAnyAddress {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let response = base.call(operation);
        match operation {
            Operation::Renew { owner, .. } if response.is_ok() => {
                self.seen.insert(owner.clone());
            }
            Operation::Renew { owner, ttl_ms, .. }
                if bug.is_on() && is_refused(&response, Kind::NotOwner) && self.seen.contains(owner) =>
            {
                let now_ms = base.allocator().now_ms().unwrap_or(0);
                return Ok(Answer::Renewed { expires_ms: now_ms.saturating_add(*ttl_ms) });
            }
            _ => {}
        }
        response
    }
}

/// dora (`next_expired`): a client that has a lease and asks anew has it from then on for as long as an offer lasts, a fraction
/// of what it is told. (In dora the offer is told as such; a contract whose `repeat` is `same` allows that, so here the lease
/// that is told is the promise that is broken.)
fn discover_downgrades_lease(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let asked = any_one(operation);
    let had = asked.and_then(|asked| base.held(asked.pool).into_iter().find(|one| one.owner == *asked.owner));
    let response = base.call(operation);
    if let (Some(asked), Some(had), Some(address)) = (asked, had, granted(&response))
        && bug.is_on()
        && had.resource == Resource::Address(address)
        && let Some(fraction_ms) = asked.ttl_ms.map(|ttl_ms| ttl_ms / 4).filter(|ms| *ms > 0)
    {
        // The lease is there: it was granted just now.
        let _ = base.allocator().renew(asked.pool, address, asked.owner, fraction_ms);
    }
    response
}

/// dora (`OR client_id`, not bounded by the range), ISC dhcpd (#41358), Kea (#2409): what an owner has is looked up in all pools.
fn scope_bleed(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    if let Some(asked) = any_one(operation).filter(|_| bug.is_on())
        && base.prefix(asked.pool).is_some()
    {
        let elsewhere = base.all_held().into_iter().find_map(|one| match one.resource {
            Resource::Address(address) if one.owner == *asked.owner && one.pool != *asked.pool => Some(address),
            _ => None,
        });
        if let Some(address) = elsewhere {
            return base.pretend_one(asked, address);
        }
    }
    base.call(operation)
}
