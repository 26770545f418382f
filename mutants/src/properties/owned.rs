//! Mutants that let others change an allocation.

use poolproof_allocator::Allocation;
use poolproof_core::operation::{Answer, Kind, Operation, Response};
use poolproof_core::property::Property::{Accounted, Inert, Owned, Scoped};

use crate::base::{Base, is_refused, meant};
use crate::faulty::{Bug, Calls, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("owned-anyone-may-renew", &[Owned], || Box::new(Calls(anyone_may_renew))).in_steps(3),
    Mutant::new("owned-case-folded", &[Owned, Inert], || Box::new(Calls(case_folded))).in_steps(3),
    Mutant::new("owned-name-as-prefix", &[Owned, Inert, Scoped, Accounted], || Box::new(Calls(name_as_prefix)))
        .in_steps(3),
];

/// What a call on one allocation is about, whoever holds it.
fn subject(base: &mut Base, operation: &Operation) -> Option<Allocation> {
    let (Operation::Release { pool, address, .. } | Operation::Renew { pool, address, .. }) = operation else {
        return None;
    };
    let resource = meant(address)?;
    base.held(pool).into_iter().find(|one| one.resource == resource)
}

/// A renewal looks for the address alone.
fn anyone_may_renew(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Operation::Renew { ttl_ms, .. } = operation
        && bug.is_on()
        && is_refused(&response, Kind::NotOwner)
        && let Some(held) = subject(base, operation)
        && let Ok(expires_ms) = base.allocator().renew(&held.pool, held.resource, &held.owner, *ttl_ms)
    {
        return Ok(Answer::Renewed { expires_ms });
    }
    response
}

/// Owners are compared without a difference between upper and lower case.
fn case_folded(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Operation::Release { owner: Some(owner), .. } = operation
        && bug.is_on()
        && is_refused(&response, Kind::NotOwner)
        && let Some(held) = subject(base, operation).filter(|held| held.owner.to_lowercase() == owner.to_lowercase())
    {
        base.end(&held);
        return Ok(Answer::Done);
    }
    response
}

/// What an owner holds is looked for by the beginning of a name.
fn name_as_prefix(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Operation::ReleaseOwner { owner } = operation
        && bug.is_on()
        && response.is_ok()
    {
        for held in base.all_held() {
            if held.owner.starts_with(&**owner) {
                base.end(&held);
            }
        }
    }
    response
}
