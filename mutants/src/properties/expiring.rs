//! Mutants that misjudge when a lease ends.

use std::collections::BTreeSet;
use std::net::IpAddr;

use poolproof_allocator::Resource;
use poolproof_core::operation::{Answer, Kind, Operation, Response, Text};
use poolproof_core::property::Property::{Accounted, Expiring, Owned};

use crate::base::{AnyOne, Base, address, is_refused, meant};
use crate::faulty::{Bug, Calls, Faulty, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("expiring-a-moment-late", &[Expiring, Accounted], || Box::new(AMomentLate::default())).in_steps(3),
    Mutant::new("expiring-renewal-adds", &[Expiring, Accounted], || Box::new(Calls(renewal_adds))).in_steps(3),
    Mutant::new("expiring-renewed-when-over", &[Expiring, Owned], || Box::new(RenewedWhenOver::default())).in_steps(4),
];

/// A lease is held while now is its end, too. Here the last millisecond up to an end passes with the next step of time.
#[derive(Default)]
struct AMomentLate {
    owed_ms: u64,
}

impl Faulty for AMomentLate {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let Operation::Advance { ms } = operation else { return base.call(operation) };
        let now_ms = base.allocator().now_ms().unwrap_or(0);
        let ms = ms.saturating_add(self.owed_ms);
        let target_ms = now_ms.saturating_add(ms);
        let is_an_end = ms > 0 && base.all_held().iter().any(|one| one.expires_ms == Some(target_ms));
        let owed_ms = if bug.is_on() && is_an_end { 1 } else { 0 };
        match base.call(&Operation::Advance { ms: ms - owed_ms }) {
            Ok(Answer::Now { now_ms }) => {
                self.owed_ms = owed_ms;
                Ok(Answer::Now { now_ms: now_ms + owed_ms })
            }
            response => response,
        }
    }
}

/// A renewal adds to the end, not to now.
fn renewal_adds(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let Operation::Renew { pool, address, owner, ttl_ms } = operation else { return base.call(operation) };
    let end_ms = meant(address).and_then(|resource| {
        base.held(pool).into_iter().find(|one| one.resource == resource).and_then(|one| one.expires_ms)
    });
    let now_ms = base.allocator().now_ms().unwrap_or(0);
    match end_ms {
        Some(end_ms) if bug.is_on() && *ttl_ms > 0 => {
            let ttl_ms = end_ms.saturating_sub(now_ms).saturating_add(*ttl_ms);
            let (pool, address, owner) = (pool.clone(), address.clone(), owner.clone());
            base.call(&Operation::Renew { pool, address, owner, ttl_ms })
        }
        _ => base.call(operation),
    }
}

/// Whoever is late with a renewal gets it, as long as nobody else has the address.
#[derive(Default)]
struct RenewedWhenOver {
    leases: BTreeSet<(Text, IpAddr, Text)>,
}

impl Faulty for RenewedWhenOver {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let response = base.call(operation);
        match operation {
            Operation::Allocate { .. } if !base.in_transaction() => {
                let leases = base.all_held().into_iter().filter(|one| one.expires_ms.is_some());
                self.leases.extend(leases.filter_map(|one| Some((one.pool, address(&one.resource)?, one.owner))));
            }
            Operation::Renew { pool, address: written, owner, ttl_ms } if is_refused(&response, Kind::NotFound) => {
                if let Some(Resource::Address(address)) = meant(written)
                    && bug.is_on()
                    && self.leases.contains(&(pool.clone(), address, owner.clone()))
                    && base.is_free(pool, address)
                {
                    let asked = AnyOne { owner, pool, ttl_ms: Some(*ttl_ms) };
                    if let Ok(Answer::Granted { expires_ms: Some(expires_ms), .. }) = base.grant(asked, address) {
                        return Ok(Answer::Renewed { expires_ms });
                    }
                }
            }
            _ => {}
        }
        response
    }
}
