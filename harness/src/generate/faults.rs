//! Faults in a scenario: put in, moved, and taken away again.

use fastrand::Rng;

use super::pick;
use crate::fault::{Fault, FaultKind, Io, Moment};
use crate::scenario::{Scenario, Step};

/// A call takes fewer than 2^6 steps of I/O, and fewer than 2^10 allocations, most of them far fewer.
const IO_DOUBLINGS: u32 = 6;
const MEMORY_DOUBLINGS: u32 = 10;

/// What is drawn by chance is drawn in so many ways.
const SEEDS: u32 = 5;

/// Draws a fault: each kind is as likely as another, and each order of magnitude of its step.
pub(super) fn fault(rng: &mut Rng) -> Fault {
    let kind = pick(&FaultKind::ALL, rng).seeded(rng.u32(..SEEDS));
    let doublings = if kind.is_of_memory() { MEMORY_DOUBLINGS } else { IO_DOUBLINGS };
    // What can follow any step can follow a write.
    let may_follow = kind.strikes(Io::Write, Moment::After);
    let moment = if may_follow && rng.bool() { Moment::After } else { Moment::Before };
    let steps = 1 << rng.u32(1..=doublings);
    Fault { kind, moment, step: rng.u32(..steps), call: None }
}

/// The scenario with one more fault, or with one taken away, or drawn anew.
pub(super) fn changed(scenario: &Scenario, rng: &mut Rng) -> Scenario {
    let is_fault = |index: &usize| matches!(scenario.steps[*index], Step::Fault(_));
    let faults: Vec<usize> = (0..scenario.steps.len()).filter(is_fault).collect();
    if faults.is_empty() || rng.bool() {
        return scenario.with(rng.usize(..=scenario.steps.len()), vec![Step::Fault(fault(rng))]);
    }
    let at = *pick(&faults, rng);
    if rng.bool() {
        return scenario.without(|index| index == at);
    }
    let mut changed = scenario.clone();
    changed.steps[at] = Step::Fault(fault(rng));
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse;

    #[test]
    fn every_kind_is_drawn_where_it_can_strike() {
        let mut rng = Rng::with_seed(1);
        let drawn: Vec<Fault> = (0..500).map(|_| fault(&mut rng)).collect();
        for kind in FaultKind::ALL {
            assert!(drawn.iter().any(|fault| fault.kind.seeded(0) == kind), "{}", kind.name());
        }
        let follows = |fault: &&Fault| fault.moment == Moment::After;
        assert!(drawn.iter().filter(follows).all(|fault| fault.kind.strikes(Io::Write, Moment::After)));
    }

    #[test]
    fn references_move_with_what_they_refer_to() {
        let scenario = parse("poolproof scenario 1\npool p0 10.0.0.0/29\nallocate \"a\" p0\nrelease p0 @2\n").unwrap();
        let fault = Fault { kind: FaultKind::NoMemory, step: 4, moment: Moment::Before, call: None };
        let text = scenario.with(1, vec![Step::Fault(fault)]).to_string();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(lines[1..], ["fault no-memory before 5", "allocate \"a\" p0", "release p0 @3"]);
    }
}
