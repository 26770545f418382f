//! Mutants that leave files open.

use poolproof_core::operation::{Kind, Operation, Response};
use poolproof_core::property::Property::Tidy;

use crate::base::{Base, is_refused};
use crate::faulty::{Bug, Faulty, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("tidy-refusals-keep-a-file", &[Tidy], || Box::new(Leaky::new(|_, response| response.is_err())))
        .in_steps(5),
    Mutant::new("tidy-full-pools-keep-a-file", &[Tidy], || {
        Box::new(Leaky::new(|_, response| is_refused(response, Kind::Exhausted)))
    })
    .in_steps(6),
    Mutant::new("tidy-bad-releases-keep-a-file", &[Tidy], || {
        Box::new(Leaky::new(|operation, response| matches!(operation, Operation::Release { .. }) && response.is_err()))
    })
    .in_steps(5),
];

/// Leaves a file open after some calls.
struct Leaky {
    leaks: fn(&Operation, &Response) -> bool,
    open: u64,
}

impl Leaky {
    fn new(leaks: fn(&Operation, &Response) -> bool) -> Leaky {
        Leaky { leaks, open: 3 }
    }
}

impl Faulty for Leaky {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let response = base.call(operation);
        if bug.is_on() && (self.leaks)(operation, &response) {
            self.open += 1;
        }
        response
    }

    fn open_files(&self) -> Option<u64> {
        Some(self.open)
    }
}
