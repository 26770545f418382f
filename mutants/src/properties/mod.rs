//! Three mutants a property and more: each breaks it and, as nearly as can be, no other one.
//!
//! The defects of real allocators crowd around a few properties. These see to it that each one has somebody to catch.

use std::collections::BTreeSet;
use std::net::IpAddr;

use poolproof_core::operation::{Kind, Operation, Response, Text};

use crate::base::{Base, any_one, is_refused, meant, refuse};
use crate::faulty::Mutant;

mod accounted;
mod atomic;
mod bounded;
mod canonical;
mod classified;
mod complete;
mod contained;
mod discreet;
mod durable;
mod exclusive;
mod expiring;
mod idempotent;
mod inert;
mod linearizable;
mod owned;
mod reconfigurable;
mod released;
mod scoped;
mod tidy;
mod total;
mod unpredictable;

/// The mutants here, property by property.
pub(crate) const LISTS: [&[Mutant]; 21] = [
    linearizable::MUTANTS,
    exclusive::MUTANTS,
    contained::MUTANTS,
    complete::MUTANTS,
    owned::MUTANTS,
    released::MUTANTS,
    atomic::MUTANTS,
    idempotent::MUTANTS,
    accounted::MUTANTS,
    scoped::MUTANTS,
    canonical::MUTANTS,
    reconfigurable::MUTANTS,
    expiring::MUTANTS,
    durable::MUTANTS,
    total::MUTANTS,
    bounded::MUTANTS,
    classified::MUTANTS,
    discreet::MUTANTS,
    inert::MUTANTS,
    tidy::MUTANTS,
    unpredictable::MUTANTS,
];

/// Addresses that are free and are never handed out again.
#[derive(Default)]
struct Lost(BTreeSet<(Text, IpAddr)>);

impl Lost {
    fn lose(&mut self, pool: &Text, address: IpAddr) {
        self.0.insert((pool.clone(), address));
    }

    /// A call, as if what is lost were taken.
    fn call(&self, base: &mut Base, operation: &Operation) -> Response {
        let Some(asked) = any_one(operation).filter(|asked| self.0.iter().any(|(pool, _)| pool == asked.pool)) else {
            return base.call(operation);
        };
        if is_refused(&base.call(&Operation::Usage { pool: asked.pool.clone() }), Kind::NotFound) {
            return base.call(operation);
        }
        match base.lowest_free_that(asked.pool, |address| !self.0.contains(&(asked.pool.clone(), address))) {
            Some(address) => base.grant(asked, address),
            None => refuse(Kind::Exhausted),
        }
    }
}

/// The address that a release names, if it is one.
fn released(operation: &Operation) -> Option<(&Text, IpAddr)> {
    let Operation::Release { pool, address, .. } = operation else { return None };
    match meant(address)? {
        poolproof_allocator::Resource::Address(address) => Some((pool, address)),
        poolproof_allocator::Resource::Block(_) => None,
    }
}
