//! Mutants whose messages tell too much.

use poolproof_core::operation::{Kind, Operation, Refusal, Response};
use poolproof_core::property::Property::Discreet;

use crate::base::{Base, is_refused, meant};
use crate::faulty::{Bug, Calls, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("discreet-names-the-owner", &[Discreet], || Box::new(Calls(names_the_owner))).in_steps(3),
    Mutant::new("discreet-shows-the-statement", &[Discreet], || Box::new(Calls(shows_the_statement))).in_steps(2),
    Mutant::new("discreet-shows-the-file", &[Discreet], || Box::new(Calls(shows_the_file))).in_steps(2),
];

/// The same refusal with another message.
fn saying(response: Response, message: String) -> Response {
    response.map_err(|refusal| Refusal { message: message.into(), ..refusal })
}

/// Whoever may not release an address learns who may.
fn names_the_owner(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Operation::Release { pool, address, .. } = operation
        && bug.is_on()
        && is_refused(&response, Kind::NotOwner)
        && let Some(resource) = meant(address)
        && let Some(held) = base.held(pool).into_iter().find(|one| one.resource == resource)
    {
        return saying(response, format!("it belongs to {}", held.owner));
    }
    response
}

/// A conflict is what the data base says.
fn shows_the_statement(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if bug.is_on() && is_refused(&response, Kind::Conflict) {
        return saying(response, "INSERT INTO allocations VALUES (?1, ?2): UNIQUE constraint failed".to_owned());
    }
    response
}

/// A full pool is told with the file that says so.
fn shows_the_file(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if bug.is_on() && is_refused(&response, Kind::Exhausted) {
        return saying(response, "nothing is free in /var/lib/ipam/networks/state.db".to_owned());
    }
    response
}
