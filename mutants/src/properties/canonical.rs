//! Mutants to which one address is several, or several are one.

use poolproof_allocator::Resource;
use poolproof_core::address::{Grant, parse_address};
use poolproof_core::operation::{Kind, Operation, Request, Response, Want, Written};
use poolproof_core::property::Property::{Canonical, Classified, Contained};

use crate::base::{AnyOne, Base, is_refused, meant, refuse};
use crate::faulty::{Bug, Calls, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("canonical-other-spelling-not-held", &[Canonical, Classified], || {
        Box::new(Calls(other_spelling_not_held))
    })
    .in_steps(3),
    Mutant::new("canonical-mapped-accepted", &[Canonical, Contained, Classified], || Box::new(Calls(mapped_accepted)))
        .in_steps(2),
    Mutant::new("canonical-zeros-accepted", &[Canonical, Contained, Classified], || Box::new(Calls(zeros_accepted)))
        .in_steps(2),
];

/// What is to be released is looked for by its text.
fn other_spelling_not_held(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    if let Operation::Release { pool, address: written @ Written::Odd(_), .. } = operation
        && bug.is_on()
        && let Some(resource @ Resource::Address(_)) = meant(written)
        && base.held(pool).iter().any(|one| one.resource == resource)
    {
        return refuse(Kind::NotFound);
    }
    base.call(operation)
}

/// The text of a named address, and the call as one for any.
fn odd_name(operation: &Operation) -> Option<(&str, AnyOne<'_>)> {
    let Operation::Allocate { owner, requests, ttl_ms } = operation else { return None };
    match requests.as_slice() {
        [Request { pool, want: Want::Named(Written::Odd(text)) }] => {
            Some((text, AnyOne { owner, pool, ttl_ms: *ttl_ms }))
        }
        _ => None,
    }
}

/// An IPv4 address mapped into IPv6 is taken for the IPv4 address.
fn mapped_accepted(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    let meant =
        odd_name(operation).and_then(|(text, asked)| Some((parse_address(text.strip_prefix("::ffff:")?)?, asked)));
    match meant {
        Some((address, asked)) if bug.is_on() && is_refused(&response, Kind::Invalid) => {
            let accepted = base.grant(asked, address);
            if accepted.is_ok() { accepted } else { response }
        }
        _ => response,
    }
}

/// Leading zeros are skipped.
fn zeros_accepted(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    let stripped = |text: &str| {
        let parts = text.split('.').map(|part| part.trim_start_matches('0'));
        parts.map(|part| if part.is_empty() { "0" } else { part }).collect::<Vec<_>>().join(".")
    };
    let meant = odd_name(operation).and_then(|(text, asked)| Some((Grant::parse(&stripped(text))?, asked)));
    match meant {
        Some((Grant::Address(address), asked)) if bug.is_on() && is_refused(&response, Kind::Invalid) => {
            let accepted = base.grant(asked, address);
            if accepted.is_ok() { accepted } else { response }
        }
        _ => response,
    }
}
