//! Mutants that allocate twice.

use poolproof_allocator::Resource;
use poolproof_core::address::{Grant, Span};
use poolproof_core::operation::{Kind, Operation, Request, Response, Want};
use poolproof_core::property::Property::Exclusive;

use crate::base::{Base, address, any_one, is_refused, meant};
use crate::faulty::{Bug, Calls, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("exclusive-when-many-are-held", &[Exclusive], || Box::new(Calls(when_many_are_held))).in_steps(2),
    Mutant::new("exclusive-block-over-address", &[Exclusive], || Box::new(Calls(block_over_address))).in_steps(3),
    Mutant::new("exclusive-named-within-block", &[Exclusive], || Box::new(Calls(named_within_block))).in_steps(3),
];

/// So many fill the bitmap that it should have grown.
const MANY: usize = 60;

/// The bitmap begins again where it ends.
fn when_many_are_held(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    if let Some(asked) = any_one(operation).filter(|_| bug.is_on()) {
        let held = base.held(asked.pool);
        if held.len() >= MANY
            && let Some(first) = held.first().and_then(|first| address(&first.resource))
        {
            return base.pretend_one(asked, first);
        }
    }
    base.call(operation)
}

/// Room for a block is looked for among blocks only.
fn block_over_address(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    let Operation::Allocate { requests, ttl_ms, .. } = operation else { return response };
    let [Request { pool, want: Want::Block(length) }] = requests.as_slice() else { return response };
    if bug.is_on() && is_refused(&response, Kind::Exhausted) {
        let around = |resource: &Resource| {
            let address = address(resource)?;
            ipnet::IpNet::new(address, *length).ok().map(|block| block.trunc())
        };
        let spans = base.allocatable(pool).map(|(_, spans)| spans).unwrap_or_default();
        let fits = |block: &ipnet::IpNet| spans.iter().any(|span| span.covers(Span::of_prefix(*block)));
        if let Some(block) = base.held(pool).iter().filter_map(|one| around(&one.resource)).find(fits) {
            return base.pretend([Grant::Block(block)], *ttl_ms);
        }
    }
    response
}

/// A named address is looked up among addresses only.
fn named_within_block(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    let Operation::Allocate { requests, ttl_ms, .. } = operation else { return response };
    let [Request { pool, want: Want::Named(written) }] = requests.as_slice() else { return response };
    if bug.is_on()
        && is_refused(&response, Kind::Conflict)
        && let Some(Resource::Address(address)) = meant(written)
        && base.holder(pool, address).is_some_and(|holder| matches!(holder.resource, Resource::Block(_)))
    {
        return base.pretend([Grant::Address(address)], *ttl_ms);
    }
    response
}
