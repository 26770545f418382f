//! Mutants that hand out what is not allocatable.

use std::net::IpAddr;

use ipnet::IpNet;
use poolproof_core::address::{Family, Grant, Span, number};
use poolproof_core::operation::{Kind, Operation, Request, Response, Want};
use poolproof_core::property::Property::Contained;
use poolproof_core::sut::Failure;

use crate::base::{AnyOne, Base, any_one, is_refused};
use crate::faulty::{Bug, Calls, Faulty, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("contained-broadcast-when-full", &[Contained], || Box::new(Calls(broadcast_when_full))).in_steps(2),
    Mutant::new("contained-exclusions-until-restart", &[Contained], || Box::new(ExclusionsUntilRestart::default()))
        .in_steps(3),
    Mutant::new("contained-block-over-gateway", &[Contained], || Box::new(Calls(block_over_gateway))).in_steps(2),
];

/// The last resort of a full pool is its last address.
fn broadcast_when_full(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    match any_one(operation).and_then(|asked| Some((asked, base.prefix(asked.pool)?))) {
        Some((asked, (family, prefix))) if bug.is_on() && is_refused(&response, Kind::Exhausted) => {
            let last = family.address(prefix.last);
            if base.holder(asked.pool, last).is_none() { base.pretend_one(asked, last) } else { response }
        }
        _ => response,
    }
}

/// What is excluded is known to the process that was told of it.
#[derive(Default)]
struct ExclusionsUntilRestart {
    is_restarted: bool,
}

impl Faulty for ExclusionsUntilRestart {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let asked = any_one(operation).filter(|_| bug.is_on() && self.is_restarted);
        match asked.and_then(|asked| Some((asked, excluded(base, asked)?))) {
            Some((asked, address)) => base.pretend_one(asked, address),
            None => base.call(operation),
        }
    }

    fn restart(&mut self, _: &mut Base, _: Bug) -> Result<(), Failure> {
        self.is_restarted = true;
        Ok(())
    }
}

/// An address of the pool between those that may be handed out.
fn excluded(base: &mut Base, asked: AnyOne<'_>) -> Option<IpAddr> {
    let (family, spans) = base.allocatable(asked.pool)?;
    let [below, _, ..] = spans.as_slice() else { return None };
    Some(family.address(below.last.checked_add(1)?))
}

/// Where a block has room, nobody looks for the gateway.
fn block_over_gateway(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    let Operation::Allocate { requests, ttl_ms, .. } = operation else { return response };
    let [Request { pool, want: Want::Block(length) }] = requests.as_slice() else { return response };
    if !bug.is_on() || !is_refused(&response, Kind::Exhausted) {
        return response;
    }
    let Some((family, prefix)) = base.prefix(pool) else { return response };
    let Ok(block) = IpNet::new(family.address(prefix.first), *length) else { return response };
    let span = Span::of_prefix(block);
    let is_free = !base.held(pool).iter().any(|one| span.contains(number(one.first())));
    if prefix.covers(span) && Family::of(block.addr()) == family && is_free {
        return base.pretend([Grant::Block(block)], *ttl_ms);
    }
    response
}
