//! Mutants to which one address is several, or several are one.

use poolproof_allocator::Resource;
use poolproof_core::address::{Grant, parse_address};
use poolproof_core::operation::{Kind, Operation, PoolShape, Request, Response, Text, Want, Written};
use poolproof_core::property::Property::{Accounted, Canonical, Classified, Contained};

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
    Mutant::new("canonical-line-feed-accepted", &[Canonical, Contained, Classified], || {
        Box::new(Calls(line_feed_accepted))
    })
    .in_steps(2),
    Mutant::new("canonical-exclusion-as-text", &[Canonical, Contained, Accounted], || {
        Box::new(Calls(exclusion_as_text))
    })
    .in_steps(1),
    Mutant::new("canonical-gateway-as-text", &[Canonical, Contained, Accounted], || Box::new(Calls(gateway_as_text)))
        .in_steps(1),
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

/// The expression that reads an address ends with `$`, which lets a line feed pass.
fn line_feed_accepted(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    let meant = odd_name(operation).and_then(|(text, asked)| Some((parse_address(text.strip_suffix('\n')?)?, asked)));
    match meant {
        Some((address, asked)) if bug.is_on() && is_refused(&response, Kind::Invalid) => {
            let accepted = base.grant(asked, address);
            if accepted.is_ok() { accepted } else { response }
        }
        _ => response,
    }
}

/// Is this an address in another spelling than addresses are printed in, by which it is looked for?
fn is_never_met(text: &Text) -> bool {
    parse_address(text).is_some_and(|address| address.to_string() != **text)
}

/// Excluded addresses are kept as texts, and compared as such.
fn exclusion_as_text(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    keep_shape(base, operation, bug, |shape| shape.exclude.retain(|text| !is_never_met(text)))
}

/// The gateway is kept as a text, and compared as such.
fn gateway_as_text(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    keep_shape(base, operation, bug, |shape| shape.gateway = shape.gateway.take().filter(|text| !is_never_met(text)))
}

/// Does a call, and keeps another shape than the one that a pool was given.
fn keep_shape(base: &mut Base, operation: &Operation, bug: Bug, change: fn(&mut PoolShape)) -> Response {
    let response = base.call(operation);
    if let Operation::CreatePool { pool, shape, .. } | Operation::UpdatePool { pool, shape } = operation
        && bug.is_on()
        && response.is_ok()
    {
        let mut kept = shape.clone();
        change(&mut kept);
        // What the pool was just given is right, and less of it is, too.
        let _ = base.call(&Operation::UpdatePool { pool: pool.clone(), shape: kept });
    }
    response
}
