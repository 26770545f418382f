//! Mutants whose refusals have the wrong kind.

use poolproof_core::operation::{Kind, Operation, Refusal, Response};
use poolproof_core::property::Property::Classified;

use crate::base::{Base, refuse};
use crate::faulty::{Bug, Calls, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("classified-full-is-conflict", &[Classified], || Box::new(Calls(full_is_conflict))).in_steps(2),
    Mutant::new("classified-broad-catch", &[Classified], || Box::new(Calls(broad_catch))).in_steps(1),
    Mutant::new("classified-missing-is-in-use", &[Classified], || Box::new(Calls(missing_is_in_use))).in_steps(1),
];

/// Refusals of a kind as those of another.
fn instead(response: Response, kind: Kind, other: Kind) -> Response {
    match response {
        Err(Refusal { kind: told, .. }) if told == kind => refuse(other),
        response => response,
    }
}

/// A full pool is told as one whose address is taken.
fn full_is_conflict(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if bug.is_on() { instead(response, Kind::Exhausted, Kind::Conflict) } else { response }
}

/// One clause catches whatever an allocation meets.
fn broad_catch(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    match operation {
        Operation::Allocate { .. } if bug.is_on() && response.is_err() => refuse(Kind::Internal),
        _ => response,
    }
}

/// A pool that cannot be deleted is told to be in use.
fn missing_is_in_use(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    match operation {
        Operation::DeletePool { .. } if bug.is_on() => instead(response, Kind::NotFound, Kind::InUse),
        _ => response,
    }
}
