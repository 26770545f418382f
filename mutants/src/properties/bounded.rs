//! Mutants whose cost grows with the prefix.

use std::hint::black_box;

use poolproof_core::operation::{Operation, Request, Response, Want};
use poolproof_core::property::Property::Bounded;

use crate::base::Base;
use crate::faulty::{Bug, Calls, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("bounded-usage-walks", &[Bounded], || Box::new(Calls(usage_walks))).in_steps(1),
    Mutant::new("bounded-creation-walks", &[Bounded], || Box::new(Calls(creation_walks))).in_steps(1),
    Mutant::new("bounded-block-walks", &[Bounded], || Box::new(Calls(block_walks))).in_steps(2),
];

/// So many addresses are walked at most, so that a scenario ends some time.
const LONGEST_WALK: u128 = 1 << 26;

/// Looks at each address of a pool.
fn walk(base: &mut Base, pool: &str, bug: Bug) {
    let Some((_, prefix)) = base.prefix(pool).filter(|_| bug.is_on()) else { return };
    for step in 0..prefix.count().saturated().min(LONGEST_WALK) {
        black_box(step);
    }
}

/// Counts addresses one by one.
fn usage_walks(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    if let Operation::Usage { pool } = operation {
        walk(base, pool, bug);
    }
    base.call(operation)
}

/// Lists all addresses of a new pool.
fn creation_walks(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Operation::CreatePool { pool, .. } = operation
        && response.is_ok()
    {
        walk(base, pool, bug);
    }
    response
}

/// Tries each place for a block.
fn block_walks(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    if let Operation::Allocate { requests, .. } = operation
        && let [Request { pool, want: Want::Block(_) }] = requests.as_slice()
    {
        walk(base, pool, bug);
    }
    base.call(operation)
}
