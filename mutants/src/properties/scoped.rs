//! Mutants whose pools leak into each other.

use poolproof_core::address::{Family, number};
use poolproof_core::operation::{Allocation, Answer, Kind, Operation, Request, Response, Want};
use poolproof_core::property::Property::{Accounted, Complete, Inert, Scoped};

use crate::base::{Base, meant, refuse, span};
use crate::faulty::{Bug, Calls, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("scoped-name-as-prefix", &[Scoped, Accounted, Inert], || Box::new(Calls(name_as_prefix))).in_steps(4),
    Mutant::new("scoped-usage-of-both-families", &[Scoped, Accounted], || Box::new(Calls(usage_of_both_families)))
        .in_steps(3),
    Mutant::new("scoped-offset-as-key", &[Scoped, Complete], || Box::new(Calls(offset_as_key))).in_steps(4),
];

/// The rows of a pool are those whose pool begins so.
fn name_as_prefix(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    match (operation, base.call(operation)) {
        (Operation::List { pool: Some(pool) }, Ok(Answer::Listed(rows))) if bug.is_on() => {
            match base.call(&Operation::List { pool: None }) {
                Ok(Answer::Listed(all)) => {
                    let is_alike = |row: &Allocation| row.pool.starts_with(&**pool);
                    Ok(Answer::Listed(all.into_iter().filter(is_alike).collect()))
                }
                _ => Ok(Answer::Listed(rows)),
            }
        }
        (_, response) => response,
    }
}

/// One counter for two families.
fn usage_of_both_families(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    match base.call(operation) {
        Ok(Answer::Usage { allocatable, .. }) if bug.is_on() => {
            let held = base.all_held();
            let counts = held.iter().map(|one| span(&one.resource).count().saturated());
            let allocated: u128 = counts.fold(0, u128::saturating_add);
            Ok(Answer::Usage { allocatable, allocated: allocated.into() })
        }
        response => response,
    }
}

/// What is taken is found by its distance from the start of its pool, in whichever pool.
fn offset_as_key(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let Operation::Allocate { requests, .. } = operation else { return base.call(operation) };
    if let [Request { pool, want: Want::Named(written) }] = requests.as_slice()
        && bug.is_on()
        && let Some((family, prefix)) = base.prefix(pool)
        && let Some(poolproof_allocator::Resource::Address(address)) = meant(written)
        && family == Family::of(address)
        && base.is_free(pool, address)
    {
        let offset = number(address).wrapping_sub(prefix.first);
        let is_taken = base.all_held().into_iter().filter(|one| one.pool != *pool).any(|one| {
            base.prefix(&one.pool).is_some_and(|(_, other)| number(one.first()).wrapping_sub(other.first) == offset)
        });
        if is_taken {
            return refuse(Kind::Conflict);
        }
    }
    base.call(operation)
}
