//! Mutants whose books are wrong.

use std::collections::BTreeMap;

use poolproof_core::address::Count;
use poolproof_core::operation::{Answer, Operation, Response, Text};
use poolproof_core::property::Property::{Accounted, Expiring};

use crate::base::Base;
use crate::faulty::{Bug, Calls, Faulty, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("accounted-block-counts-as-one", &[Accounted], || Box::new(Calls(block_counts_as_one))).in_steps(2),
    Mutant::new("accounted-page-loses-one", &[Accounted], || Box::new(Calls(page_loses_one))).in_steps(2),
    Mutant::new("accounted-expired-count-on", &[Accounted, Expiring], || Box::new(ExpiredCountOn::default()))
        .in_steps(3),
];

/// Rows are counted, not addresses.
fn block_counts_as_one(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    match (operation, base.call(operation)) {
        (Operation::Usage { pool }, Ok(Answer::Usage { allocatable, .. })) if bug.is_on() => {
            let rows = base.held(pool).len() as u128;
            Ok(Answer::Usage { allocatable, allocated: rows.into() })
        }
        (_, response) => response,
    }
}

/// Rows a page.
const PAGE: usize = 16;

/// The next page of a list begins one behind the end of the last one.
fn page_loses_one(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    match base.call(operation) {
        Ok(Answer::Listed(mut rows)) if bug.is_on() && rows.len() > PAGE => {
            rows.remove(PAGE);
            Ok(Answer::Listed(rows))
        }
        response => response,
    }
}

/// The count goes down when somebody sweeps, which is when a pool is changed next.
#[derive(Default)]
struct ExpiredCountOn {
    counts: BTreeMap<Text, Count>,
}

impl Faulty for ExpiredCountOn {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        match operation {
            Operation::Advance { .. } => {
                for pool in base.pools() {
                    if let Ok(usage) = base.allocator().usage(&pool) {
                        self.counts.entry(pool).or_insert(usage.allocated.into());
                    }
                }
            }
            Operation::Usage { .. } | Operation::List { .. } => {}
            _ => self.counts.clear(),
        }
        match (operation, base.call(operation)) {
            (Operation::Usage { pool }, Ok(Answer::Usage { allocatable, allocated })) if bug.is_on() => {
                let allocated = self.counts.get(pool).copied().unwrap_or(allocated);
                Ok(Answer::Usage { allocatable, allocated })
            }
            (_, response) => response,
        }
    }
}
