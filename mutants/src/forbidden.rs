//! Addresses handed out that must not be.

use std::collections::BTreeSet;

use poolproof_core::address::{Family, Grant, number};
use poolproof_core::operation::{Kind, Operation, PoolShape, Request, Response, Text, Want, Written};
use poolproof_core::property::Property::{Accounted, Classified, Contained, Exclusive, Reconfigurable};

use crate::base::{Base, any_one, granted, is_refused};
use crate::faulty::{Bug, Calls, Faulty, Mutant, Setting};
use crate::persistence::Forgotten;

/// The mutants here.
pub const MUTANTS: &[Mutant] = &[
    Mutant::new("own-or-static-address-in-pool", &[Contained, Accounted], || {
        Box::new(Calls(own_or_static_address_in_pool))
    })
    .in_steps(2),
    Mutant::new("explicit-request-bypasses-reservation", &[Contained], || {
        Box::new(Calls(explicit_request_bypasses_reservation))
    })
    .in_steps(2),
    Mutant::new("past-range-end-after-wrap", &[Contained], || Box::new(PastRangeEndAfterWrap::default()))
        .in_steps(2)
        .set(Setting::NEXT),
    Mutant::new("cast-leaves-the-prefix", &[Contained], || Box::new(Calls(cast_leaves_the_prefix)))
        .in_steps(2)
        .set(Setting::RANDOM),
    Mutant::new("rebuild-forgets-excludes-or-in-use", &[Reconfigurable, Exclusive, Classified], || {
        Box::new(RebuildForgetsInUse::default())
    })
    .in_steps(4),
];

/// systemd (PR #22542), Neutron (LP#1479514), kube-ovn (PR #6975): the gateway is kept out when the pool is made, not when it
/// is changed.
fn own_or_static_address_in_pool(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Operation::UpdatePool { pool, shape } = operation
        && bug.is_on()
        && response.is_ok()
    {
        let shape = PoolShape { gateway: None, ..shape.clone() };
        return base.call(&Operation::UpdatePool { pool: pool.clone(), shape });
    }
    response
}

/// Kea (ChangeLog 889, and 1325 again): what is reserved is looked at only where any address is wanted.
fn explicit_request_bypasses_reservation(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    let Operation::Allocate { requests, ttl_ms, .. } = operation else { return response };
    let [Request { pool, want: Want::Named(Written::Plain(grant @ Grant::Address(address))) }] = requests.as_slice()
    else {
        return response;
    };
    let Some((family, prefix)) = base.prefix(pool) else { return response };
    let is_inside = family == Family::of(*address) && prefix.contains(number(*address));
    let is_lease_right = *ttl_ms != Some(0);
    if bug.is_on() && is_inside && is_lease_right && is_refused(&response, Kind::Invalid) {
        return base.pretend([*grant], *ttl_ms);
    }
    response
}

/// CNI host-local (containernetworking/plugins commit dfc4f7cd): the end of the range is stored as the address behind it and
/// compared as the last one in it, once the last one has been handed out.
#[derive(Default)]
struct PastRangeEndAfterWrap {
    at_end: BTreeSet<Text>,
}

impl Faulty for PastRangeEndAfterWrap {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let Some(asked) = any_one(operation) else { return base.call(operation) };
        let end = base.allocatable(asked.pool).and_then(|(family, spans)| Some((family, spans.last()?.last)));
        let Some((family, end)) = end else { return base.call(operation) };
        if self.at_end.remove(asked.pool)
            && bug.is_on()
            && let Some(past) = end.checked_add(1)
        {
            return base.pretend_one(asked, family.address(past));
        }
        let response = base.call(operation);
        if granted(&response).is_some_and(|address| number(address) == end) {
            self.at_end.insert(asked.pool.clone());
        }
        response
    }
}

/// Kubernetes (PR #134193): a random offset of 64 bits is cast to a signed number before it is added.
fn cast_leaves_the_prefix(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    let (Some(asked), Some(address)) = (any_one(operation), granted(&response)) else { return response };
    let Some((family, prefix)) = base.prefix(asked.pool) else { return response };
    let offset = number(address).wrapping_sub(prefix.first);
    match u64::try_from(offset) {
        Ok(offset) if bug.is_on() && family == Family::V6 => {
            let signed = i128::from(offset.cast_signed());
            base.pretend_one(asked, family.address(prefix.first.wrapping_add_signed(signed)))
        }
        _ => response,
    }
}

/// kube-ovn (PR #3455, PR #5668): when a pool is changed, what is free is worked out from its prefix without what is in use.
/// (What forgets the exclusions instead is `reconfigurable-exclusions-come-back`.)
#[derive(Default)]
struct RebuildForgetsInUse {
    in_use: Forgotten,
}

impl Faulty for RebuildForgetsInUse {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let again = any_one(operation).and_then(|asked| self.in_use.hand_out_again(base, asked));
        let response = again.unwrap_or_else(|| base.call(operation));
        if let Operation::UpdatePool { pool, .. } = operation
            && bug.is_on()
            && response.is_ok()
        {
            self.in_use.forget(base, pool);
        }
        response
    }
}
