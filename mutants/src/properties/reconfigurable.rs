//! Mutants that lose something, or bring it back, when pools change.

use std::collections::BTreeMap;

use poolproof_core::operation::{Kind, Operation, PoolShape, Response, Text};
use poolproof_core::property::Property::{Accounted, Complete, Reconfigurable};

use crate::base::{Base, is_refused};
use crate::faulty::{Bug, Calls, Faulty, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("reconfigurable-exclusions-come-back", &[Reconfigurable, Accounted, Complete], || {
        Box::new(ExclusionsComeBack::default())
    })
    .in_steps(3),
    Mutant::new("reconfigurable-update-drops-the-last", &[Reconfigurable, Accounted], || {
        Box::new(Calls(update_drops_the_last))
    })
    .in_steps(3),
    Mutant::new("reconfigurable-shrinks-over-held", &[Reconfigurable, Accounted], || {
        Box::new(Calls(shrinks_over_held))
    })
    .in_steps(3),
];

/// The exclusions of a pool outlive it, and belong to the next one of its name.
#[derive(Default)]
struct ExclusionsComeBack {
    exclusions: BTreeMap<Text, Vec<Text>>,
}

impl Faulty for ExclusionsComeBack {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        if let Operation::CreatePool { pool, prefix, shape } = operation
            && let Some(exclusions) = self.exclusions.get(pool).filter(|_| bug.is_on())
        {
            let exclude = shape.exclude.iter().chain(exclusions).cloned().collect();
            let shape = PoolShape { exclude, ..shape.clone() };
            // Those of another prefix are refused here.
            let response = base.call(&Operation::CreatePool { pool: pool.clone(), prefix: prefix.clone(), shape });
            if response.is_ok() {
                return response;
            }
        }
        let response = base.call(operation);
        if let Operation::CreatePool { pool, shape, .. } = operation
            && response.is_ok()
            && !shape.exclude.is_empty()
        {
            self.exclusions.insert(pool.clone(), shape.exclude.clone());
        }
        response
    }
}

/// What is held is carried over to the new layout, all but the last one.
fn update_drops_the_last(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Operation::UpdatePool { pool, .. } = operation
        && bug.is_on()
        && response.is_ok()
        && let Some(last) = base.held(pool).last()
    {
        base.end(last);
    }
    response
}

/// What lies outside the new ranges is dropped.
fn shrinks_over_held(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    let Operation::UpdatePool { pool, .. } = operation else { return response };
    if !bug.is_on() || !is_refused(&response, Kind::InUse) {
        return response;
    }
    // One after the other, until it is accepted.
    for held in base.held(pool) {
        base.end(&held);
        let response = base.call(operation);
        if response.is_ok() {
            return response;
        }
    }
    response
}
