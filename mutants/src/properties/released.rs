//! Mutants that lose what was given back.

use poolproof_allocator::Resource;
use poolproof_core::operation::{Operation, Response};
use poolproof_core::property::Property::{Complete, Expiring, Released};

use super::{Lost, released};
use crate::base::{Base, address, meant};
use crate::faulty::{Bug, Faulty, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("released-block-keeps-its-first", &[Released, Complete], || Box::new(BlockKeepsItsFirst::default()))
        .in_steps(4),
    Mutant::new("released-each-eighth-is-lost", &[Released, Complete], || Box::new(EachEighthIsLost::default()))
        .in_steps(4),
    Mutant::new("released-but-not-by-expiry", &[Released, Expiring, Complete], || Box::new(NotByExpiry::default()))
        .in_steps(4),
];

/// The first address of a block stands for the block, and stays when the rest goes.
#[derive(Default)]
struct BlockKeepsItsFirst {
    lost: Lost,
}

impl Faulty for BlockKeepsItsFirst {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let response = self.lost.call(base, operation);
        if let Operation::Release { pool, address, .. } = operation
            && let Some(Resource::Block(block)) = meant(address)
            && bug.is_on()
            && response.is_ok()
        {
            self.lost.lose(pool, block.network());
        }
        response
    }
}

/// The queue of what is to be freed has room for seven.
#[derive(Default)]
struct EachEighthIsLost {
    count: u32,
    lost: Lost,
}

impl Faulty for EachEighthIsLost {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let response = self.lost.call(base, operation);
        if let Some((pool, address)) = released(operation).filter(|_| response.is_ok()) {
            self.count += 1;
            if bug.is_on() && self.count.is_multiple_of(8) {
                self.lost.lose(pool, address);
            }
        }
        response
    }
}

/// What ends by itself is struck from the table and not freed.
#[derive(Default)]
struct NotByExpiry {
    lost: Lost,
}

impl Faulty for NotByExpiry {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let is_advance = matches!(operation, Operation::Advance { .. });
        let before = if is_advance { base.all_held() } else { Vec::new() };
        let response = self.lost.call(base, operation);
        for held in before.iter().filter(|_| bug.is_on()) {
            if let Some(address) = address(&held.resource)
                && base.holder(&held.pool, address).is_none()
            {
                self.lost.lose(&held.pool, address);
            }
        }
        response
    }
}
