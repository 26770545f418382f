//! Every name and every address that occurs in a scenario, to be read or changed.

use super::{Operand, Scenario, Step};
use crate::operation::{Operation, PoolShape, Text};

/// All owners and all pools, each once.
pub(crate) fn names(scenario: &Scenario) -> (Vec<Text>, Vec<Text>) {
    names_in(&mut scenario.clone())
}

/// The same of a scenario that may be written to, which needs no copy. It is as it was.
pub(crate) fn names_in(scenario: &mut Scenario) -> (Vec<Text>, Vec<Text>) {
    let (mut owners, mut pools) = (Vec::new(), Vec::new());
    visit_names(scenario, |is_owner, name| {
        let list: &mut Vec<Text> = if is_owner { &mut owners } else { &mut pools };
        if !list.contains(name) {
            list.push(name.clone());
        }
    });
    (owners, pools)
}

/// Shows every name in the scenario: (is it an owner's, the name).
pub(crate) fn visit_names(scenario: &mut Scenario, mut visit: impl FnMut(bool, &mut Text)) {
    for step in &mut scenario.steps {
        match step {
            Step::Fill { pool, owner, .. } => {
                visit(false, pool);
                visit(true, owner);
            }
            Step::Drain { pool, .. } => visit(false, pool),
            Step::Call(operation) => visit_call_names(operation, &mut visit),
            Step::AdvanceTo { .. }
            | Step::Repeat { .. }
            | Step::Audit
            | Step::Restart
            | Step::Crash
            | Step::Fault(_)
            | Step::Turns(_)
            | Step::Lane
            | Step::Join => {}
        }
    }
}

/// The same for one call.
pub(crate) fn visit_call_names<A>(operation: &mut Operation<A>, visit: &mut impl FnMut(bool, &mut Text)) {
    match operation {
        Operation::CreatePool { pool, .. }
        | Operation::UpdatePool { pool, .. }
        | Operation::DeletePool { pool }
        | Operation::Usage { pool }
        | Operation::List { pool: Some(pool) } => visit(false, pool),
        Operation::Allocate { owner, requests, .. } => {
            visit(true, owner);
            requests.iter_mut().for_each(|request| visit(false, &mut request.pool));
        }
        Operation::Release { pool, owner, .. } => {
            visit(false, pool);
            owner.iter_mut().for_each(|owner| visit(true, owner));
        }
        Operation::Renew { pool, owner, .. } => {
            visit(false, pool);
            visit(true, owner);
        }
        Operation::ReleaseOwner { owner } => visit(true, owner),
        Operation::Begin
        | Operation::Commit
        | Operation::Rollback
        | Operation::List { pool: None }
        | Operation::Advance { .. }
        | Operation::Raw { .. } => {}
    }
}

/// Shows every text in the scenario that stands for an address, a prefix or a range.
pub(crate) fn visit_addresses(scenario: &mut Scenario, visit: &mut dyn FnMut(&mut Text)) {
    for step in &mut scenario.steps {
        let Step::Call(operation) = step else { continue };
        match operation {
            Operation::CreatePool { prefix, shape, .. } => {
                visit(prefix);
                visit_shape(shape, visit);
            }
            Operation::UpdatePool { shape, .. } => visit_shape(shape, visit),
            _ => {
                for operand in operation.addresses_mut() {
                    if let Operand::Literal(text) = operand {
                        visit(text);
                    }
                }
            }
        }
    }
}

fn visit_shape(PoolShape { ranges, gateway, exclude }: &mut PoolShape, visit: &mut dyn FnMut(&mut Text)) {
    let ends = ranges.iter_mut().flat_map(|(first, last)| [first, last]);
    ends.chain(gateway).chain(exclude).for_each(visit);
}
