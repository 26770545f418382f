//! Mutants that are right for one caller at a time.

use std::net::IpAddr;

use poolproof_core::address::Grant;
use poolproof_core::operation::{Answer, Kind, Operation, Request, Response, Text, Want};
use poolproof_core::property::Property::Linearizable;

use crate::base::{address, is_refused, meant, refuse};
use crate::faulty::{Bug, Mutant};
use crate::racing::{Common, Held, Sections};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::racing("linearizable-two-grants", &[Linearizable], || Box::new(Sections(two_grants))).in_steps(6),
    Mutant::racing("linearizable-lost-release", &[Linearizable], || Box::new(Sections(lost_release))).in_steps(8),
    Mutant::racing("linearizable-stale-exhausted", &[Linearizable], || Box::new(Sections(stale_exhausted))).in_steps(7),
];

/// An allocation of one address by its name: the pool and the address.
fn named(operation: &Operation) -> Option<(&Text, IpAddr)> {
    let Operation::Allocate { requests, .. } = operation else { return None };
    match requests.as_slice() {
        [Request { pool, want: Want::Named(written) }] => Some((pool, address(&meant(written)?)?)),
        _ => None,
    }
}

/// Looks whether the address that is asked for is free, and takes it later.
fn two_grants(common: &Common, operation: &Operation, bug: Bug) -> Response {
    let asked = named(operation).filter(|_| bug.is_on());
    let Some((pool, address)) =
        asked.filter(|(pool, address)| common.section(|held| held.base.is_free(pool, *address)))
    else {
        return common.call(operation);
    };
    common.section(|held| match held.base.call(operation) {
        taken if is_refused(&taken, Kind::Conflict) && held.base.holder(pool, address).is_some() => {
            held.base.pretend([Grant::Address(address)], None)
        }
        response => response,
    })
}

/// Finds what is to be released, and does it later; if anything was granted meanwhile, it is not done.
fn lost_release(common: &Common, operation: &Operation, bug: Bug) -> Response {
    let is_granting = matches!(operation, Operation::Allocate { .. });
    let is_release = matches!(operation, Operation::Release { .. });
    let call = |held: &mut Held| {
        let response = held.base.call(operation);
        held.count += u64::from(is_granting && response.is_ok());
        response
    };
    if !is_release || !bug.is_on() {
        return common.section(call);
    }
    let before = common.section(|held| held.count);
    common.section(|held| {
        if held.count == before {
            return call(held);
        }
        // It would have been refused, or not.
        let mut copy = held.base.call(operation);
        if copy.is_ok() {
            copy = undone(held, operation);
        }
        copy
    })
}

/// What was released is held again, and nobody is told.
fn undone(held: &mut Held, operation: &Operation) -> Response {
    let Operation::Release { pool, address, owner: Some(owner) } = operation else { return Ok(Answer::Done) };
    let requests = smallvec::smallvec![Request { pool: pool.clone(), want: Want::Named(address.clone()) }];
    let again = Operation::Allocate { owner: owner.clone(), requests, ttl_ms: None };
    held.base.call(&again).map(|_| Answer::Done)
}

/// Every allocation under way counts as an address, those that come to nothing, too.
fn stale_exhausted(common: &Common, operation: &Operation, bug: Bug) -> Response {
    let Operation::Allocate { requests, .. } = operation else { return common.call(operation) };
    let ([Request { pool, want: Want::Any | Want::Named(_) }], true) = (requests.as_slice(), bug.is_on()) else {
        return common.call(operation);
    };
    let is_full = common.section(|held| {
        let capacity: u128 = match held.base.allocatable(pool) {
            Some((_, spans)) => spans.iter().map(|span| span.last - span.first + 1).sum(),
            None => u128::MAX,
        };
        let is_full = held.base.held(pool).len() as u128 + u128::from(held.count) >= capacity;
        held.count += u64::from(!is_full);
        is_full
    });
    if is_full && named(operation).is_none() {
        return refuse(Kind::Exhausted);
    }
    common.section(|held| {
        held.count -= u64::from(!is_full);
        held.base.call(operation)
    })
}
