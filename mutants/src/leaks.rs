//! What is lost on the way, or not undone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use poolproof_core::operation::{Answer, Kind, Operation, Response, Text};
use poolproof_core::property::Property::{Accounted, Atomic, Complete, Released};
use poolproof_core::sut::Failure;
use smallvec::smallvec;

use crate::base::{Base, any_one, is_refused, refuse};
use crate::faulty::{Bug, Calls, Faulty, Mutant};

/// The mutants here.
pub const MUTANTS: &[Mutant] = &[
    Mutant::new("dual-stack-half-leak", &[Atomic, Accounted], || Box::new(Calls(dual_stack_half_leak))).in_steps(2),
    Mutant::new("never-freed-on-delete", &[Released, Complete], || Box::new(NeverFreedOnDelete::default())).in_steps(4),
];

/// Calico (projectcalico/cni-plugin#908), spiderpool (#963), Cilium (PR #48816): the first address is kept when there is none
/// left for the second.
fn dual_stack_half_leak(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Operation::Allocate { owner, requests, ttl_ms } = operation
        && bug.is_on()
        && is_refused(&response, Kind::Exhausted)
        && let [first, _, ..] = requests.as_slice()
    {
        let requests = smallvec![first.clone()];
        // There may be none for the first, either.
        let _ = base.call(&Operation::Allocate { owner: owner.clone(), requests, ttl_ms: *ttl_ms });
    }
    response
}

/// headscale (juanfont/headscale#2907), coredhcp (#182), systemd (PR #21175): the owner's row is deleted, and the set of used
/// addresses is not told.
#[derive(Default)]
struct NeverFreedOnDelete {
    used: BTreeSet<(Text, IpAddr)>,
}

impl Faulty for NeverFreedOnDelete {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let Some(asked) = any_one(operation).filter(|asked| base.prefix(asked.pool).is_some()) else {
            let response = base.call(operation);
            if let Ok(Answer::Released(released)) = &response
                && bug.is_on()
            {
                self.used.extend(released.iter().map(|(pool, grant)| (pool.clone(), grant.first())));
            }
            return response;
        };
        if self.used.is_empty() {
            return base.call(operation);
        }
        let unused = |address| !self.used.contains(&(asked.pool.clone(), address));
        match base.lowest_free_that(asked.pool, unused) {
            Some(address) => base.grant(asked, address),
            None => refuse(Kind::Exhausted),
        }
    }

    fn restart(&mut self, _: &mut Base, _: Bug) -> Result<(), Failure> {
        self.used.clear();
        Ok(())
    }
}
