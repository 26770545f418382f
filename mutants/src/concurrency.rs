//! What is left held when a call ends.

use poolproof_core::operation::{Kind, Operation, Response};
use poolproof_core::property::Property::{Classified, Tidy, Total};
use poolproof_core::sut::Failure;

use crate::base::{Base, is_refused, refuse};
use crate::faulty::{Bug, Faulty, Mutant};

/// The mutants here.
pub const MUTANTS: &[Mutant] =
    &[Mutant::new("tx-or-stmt-left-open", &[Tidy, Total, Classified], || Box::new(TxLeftOpen::default())).in_steps(3)];

/// go-ipam (9bdc2dc), coredhcp (321f8a6): an early return between BEGIN and COMMIT. Whatever writes after that would begin a
/// transaction within a transaction, until the process ends.
#[derive(Default)]
struct TxLeftOpen {
    is_open: bool,
}

impl Faulty for TxLeftOpen {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let is_read = matches!(operation, Operation::List { .. } | Operation::Usage { .. });
        if self.is_open && bug.is_on() && !is_read {
            return refuse(Kind::Storage);
        }
        let response = base.call(operation);
        if matches!(operation, Operation::CreatePool { .. }) && is_refused(&response, Kind::Conflict) {
            self.is_open = true;
        }
        response
    }

    fn restart(&mut self, _: &mut Base, _: Bug) -> Result<(), Failure> {
        self.is_open = false;
        Ok(())
    }
}
