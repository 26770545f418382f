//! What is forgotten over a restart or a crash.

use std::collections::BTreeSet;
use std::net::IpAddr;

use poolproof_allocator::Resource;
use poolproof_core::address::number;
use poolproof_core::operation::{Answer, Operation, Response, Text};
use poolproof_core::property::Property::{Durable, Exclusive, Expiring};
use poolproof_core::property::{Property, Violation};
use poolproof_core::sut::Failure;

use crate::base::{AnyOne, Base, address, any_one, meant, resource};
use crate::faulty::{Bug, Faulty, Mutant};

/// The mutants here.
pub const MUTANTS: &[Mutant] = &[
    Mutant::new("leases-not-reloaded", &[Durable, Exclusive], || Box::new(LeasesNotReloaded::default())).in_steps(4),
    Mutant::new("grant-before-durable", &[Durable], || Box::new(GrantBeforeDurable::default())).in_steps(3),
    Mutant::new("serve-before-replay-done", &[Durable, Exclusive], || Box::new(ServeBeforeReplayDone::default()))
        .in_steps(4),
    Mutant::new("shrunk-range-fatal-at-start", &[Durable, Expiring], || Box::new(ShrunkRangeFatalAtStart::default()))
        .in_steps(5),
];

/// Addresses that are held and taken for free.
#[derive(Default)]
pub(crate) struct Forgotten(BTreeSet<(Text, IpAddr)>);

impl Forgotten {
    /// Forgets that anything of a pool is held.
    pub(crate) fn forget(&mut self, base: &mut Base, pool: &str) {
        let held = base.held(pool).into_iter();
        self.0.extend(held.filter_map(|one| Some((one.pool, address(&one.resource)?))));
    }

    /// Forgets that anything is held.
    pub(crate) fn forget_all(&mut self, base: &mut Base) {
        for pool in base.pools() {
            self.forget(base, &pool);
        }
    }

    /// The lowest of what was forgotten of a pool and is held still, to whoever asks.
    pub(crate) fn hand_out_again(&mut self, base: &mut Base, asked: AnyOne<'_>) -> Option<Response> {
        loop {
            let entry = self.0.iter().find(|(pool, _)| pool == asked.pool).cloned()?;
            self.0.remove(&entry);
            if base.holder(asked.pool, entry.1).is_some() {
                return Some(base.pretend_one(asked, entry.1));
            }
        }
    }
}

/// coredhcp (#153): the records are loaded, and nobody tells the bitmap.
#[derive(Default)]
struct LeasesNotReloaded {
    unmarked: Forgotten,
}

impl Faulty for LeasesNotReloaded {
    fn call(&mut self, base: &mut Base, operation: &Operation, _: Bug) -> Response {
        let again = any_one(operation).and_then(|asked| self.unmarked.hand_out_again(base, asked));
        again.unwrap_or_else(|| base.call(operation))
    }

    fn restart(&mut self, base: &mut Base, bug: Bug) -> Result<(), Failure> {
        if bug.is_on() {
            self.unmarked.forget_all(base);
        }
        Ok(())
    }
}

/// whereabouts (#141), ISC dhcpd (ISC-Bugs #47141): first the answer, then the write, which here happens with the next call.
#[derive(Default)]
struct GrantBeforeDurable {
    unwritten: Vec<(Text, Resource)>,
}

impl Faulty for GrantBeforeDurable {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        self.unwritten.clear();
        let response = base.call(operation);
        if let (Operation::Allocate { requests, .. }, Ok(Answer::Granted { grants, .. })) = (operation, &response)
            && bug.is_on()
            && !base.in_transaction()
        {
            let pools = requests.iter().map(|request| request.pool.clone());
            let resources = grants.iter().map(|grant| resource(*grant));
            self.unwritten = pools.zip(resources).collect();
        }
        response
    }

    fn restart(&mut self, _: &mut Base, _: Bug) -> Result<(), Failure> {
        self.unwritten.clear();
        Ok(())
    }

    fn crash(&mut self, base: &mut Base, _: Bug) -> Result<(), Failure> {
        for (pool, resource) in self.unwritten.drain(..) {
            let held = base.held(&pool).into_iter().find(|one| one.resource == resource);
            if let Some(held) = held {
                base.end(&held);
            }
        }
        Ok(())
    }
}

/// AWS (aws/amazon-vpc-cni-k8s#711), MetalLB (#1774): the first caller after a start is answered before what is held is known.
#[derive(Default)]
struct ServeBeforeReplayDone {
    unknown: Forgotten,
}

impl Faulty for ServeBeforeReplayDone {
    fn call(&mut self, base: &mut Base, operation: &Operation, _: Bug) -> Response {
        let Some(asked) = any_one(operation) else { return base.call(operation) };
        let again = self.unknown.hand_out_again(base, asked);
        self.unknown = Forgotten::default();
        again.unwrap_or_else(|| base.call(operation))
    }

    fn restart(&mut self, base: &mut Base, bug: Bug) -> Result<(), Failure> {
        if bug.is_on() {
            self.unknown.forget_all(base);
        }
        Ok(())
    }
}

/// coredhcp (#287), weave (#2209): a stored lease outside the range, which may be over long since, and the start fails.
#[derive(Default)]
struct ShrunkRangeFatalAtStart {
    /// Leases that nobody gave back, and so are stored until then.
    stored: BTreeSet<(Text, IpAddr)>,
}

impl Faulty for ShrunkRangeFatalAtStart {
    fn call(&mut self, base: &mut Base, operation: &Operation, _: Bug) -> Response {
        let response = base.call(operation);
        match (operation, &response) {
            (Operation::DeletePool { pool }, Ok(_)) => self.stored.retain(|(other, _)| other != pool),
            (Operation::Release { pool, address: released, .. }, Ok(_)) => {
                if let Some(Resource::Address(address)) = meant(released) {
                    self.stored.remove(&(pool.clone(), address));
                }
            }
            (_, Ok(Answer::Released(released))) => {
                for (pool, grant) in released {
                    self.stored.remove(&(pool.clone(), grant.first()));
                }
            }
            (Operation::Advance { .. }, _) => {}
            _ if base.in_transaction() => {}
            _ => {
                let held = base.all_held().into_iter().filter(|one| one.expires_ms.is_some());
                self.stored.extend(held.filter_map(|one| Some((one.pool, address(&one.resource)?))));
            }
        }
        response
    }

    fn restart(&mut self, base: &mut Base, bug: Bug) -> Result<(), Failure> {
        let is_outside = |base: &mut Base, pool: &Text, address: IpAddr| {
            let spans = base.allocatable(pool).map(|(_, spans)| spans).unwrap_or_default();
            !spans.iter().any(|span| span.contains(number(address)))
        };
        match self.stored.iter().find(|(pool, address)| is_outside(base, pool, *address)) {
            Some((_, address)) if bug.is_on() => {
                let message = format!("it does not start: the lease of {address} is outside the range");
                Err(Failure::Misbehaved(Violation::new(Property::Durable, message)))
            }
            _ => Ok(()),
        }
    }
}
