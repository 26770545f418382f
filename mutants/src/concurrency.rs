//! What is left held when a call ends.

use poolproof_core::operation::{Kind, Operation, Response};
use poolproof_core::property::Property::{Atomic, Durable, Idempotent};

use crate::base::{Base, is_refused};
use crate::faulty::{Bug, Calls, Mutant};

/// The mutants here.
pub const MUTANTS: &[Mutant] =
    &[Mutant::new("tx-or-stmt-left-open", &[Atomic, Durable, Idempotent], || Box::new(Calls(tx_left_open)))];

/// go-ipam (9bdc2dc), coredhcp (321f8a6): an early return between BEGIN and COMMIT, and all that follows is in that transaction.
fn tx_left_open(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if bug.is_on() && matches!(operation, Operation::CreatePool { .. }) && is_refused(&response, Kind::Conflict) {
        // One may be open already.
        let _ = base.call(&Operation::Begin);
    }
    response
}
