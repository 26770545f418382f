//! Mutants that do half.

use poolproof_allocator::Allocation;
use poolproof_core::operation::{Operation, Request, Response, Want};
use poolproof_core::property::Property::{Accounted, Atomic};

use crate::base::Base;
use crate::faulty::{Bug, Calls, Faulty, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("atomic-rollback-keeps-pools", &[Atomic, Accounted], || Box::new(RollbackKeepsPools::default()))
        .in_steps(3),
    Mutant::new("atomic-refusal-keeps-named", &[Atomic, Accounted], || Box::new(Calls(refusal_keeps_named)))
        .in_steps(2),
    Mutant::new("atomic-rollback-keeps-releases", &[Atomic, Accounted], || Box::new(RollbackKeepsReleases::default()))
        .in_steps(5),
];

/// Pools are created outside of the transaction.
#[derive(Default)]
struct RollbackKeepsPools {
    created: Vec<Operation>,
}

impl Faulty for RollbackKeepsPools {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let response = base.call(operation);
        match operation {
            Operation::Begin => self.created.clear(),
            Operation::CreatePool { .. } if response.is_ok() && base.in_transaction() => {
                self.created.push(operation.clone());
            }
            Operation::Rollback if bug.is_on() && response.is_ok() => {
                for create in self.created.drain(..) {
                    // Its place may have been taken before.
                    let _ = base.call(&create);
                }
            }
            _ => {}
        }
        response
    }
}

/// What is named is allocated first, and stays when the rest is refused.
fn refusal_keeps_named(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Operation::Allocate { owner, requests, ttl_ms } = operation
        && bug.is_on()
        && requests.len() > 1
        && response.is_err()
    {
        let is_named = |request: &&Request| matches!(request.want, Want::Named(_));
        let requests = requests.iter().filter(is_named).take(1).cloned().collect();
        // It may be what was refused.
        let _ = base.call(&Operation::Allocate { owner: owner.clone(), requests, ttl_ms: *ttl_ms });
    }
    response
}

/// A release tells the bitmap at once.
#[derive(Default)]
struct RollbackKeepsReleases {
    before: Vec<Allocation>,
    released: Vec<Allocation>,
}

impl RollbackKeepsReleases {
    fn is_release(operation: &Operation) -> bool {
        matches!(operation, Operation::Release { .. } | Operation::ReleaseOwner { .. })
    }
}

impl Faulty for RollbackKeepsReleases {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        if Self::is_release(operation) {
            self.before = base.all_held();
        }
        let response = base.call(operation);
        if *operation == Operation::Begin {
            self.released.clear();
        } else if Self::is_release(operation) && base.in_transaction() {
            let after = base.all_held();
            self.released.extend(self.before.drain(..).filter(|one| !after.contains(one)));
        } else if *operation == Operation::Rollback && bug.is_on() && response.is_ok() {
            self.released.iter().for_each(|one| base.end(one));
        }
        response
    }
}
