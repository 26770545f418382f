//! Makes a failing scenario small on the system it fails on.

use std::time::{Duration, Instant};

use super::examine::Examiner;
use super::run::Run;
use crate::contract::Contract;
use crate::property::{Property, Violation};
use crate::scenario::Scenario;
use crate::shrink::Shrinker;
use crate::sut::{Failure, Sut};

/// A small scenario that fails, and how.
#[derive(Clone, Debug)]
pub struct Minimal {
    /// The scenario.
    pub scenario: Scenario,
    /// What it breaks; told anew, because a smaller scenario often tells better.
    pub violation: Violation,
    /// How many scenarios were run on the way.
    pub executions: u64,
    /// Was it stopped before the fix-point?
    pub is_cut_short: bool,
}

/// Shrinks until nothing simpler fails, or time is up. A candidate counts when it breaks the same
/// property, or one that tells of the same books: which of those shows first depends on the steps
/// around it.
///
/// # Errors
///
/// Only what the harness itself could not do; an interruption gives the best so far.
pub fn minimise(
    sut: &mut dyn Sut,
    scenario: Scenario,
    violation: Violation,
    limit: Duration,
) -> Result<Minimal, Failure> {
    let deadline = Instant::now() + limit;
    let mut examiner = Examiner::thorough(sut);
    let mut shrinker = Shrinker::new(scenario);
    let mut minimal = Minimal { scenario: shrinker.best().clone(), violation, executions: 0, is_cut_short: false };
    while let Some(candidate) = shrinker.propose() {
        if Instant::now() >= deadline || crate::interrupt::requested() {
            minimal.is_cut_short = true;
            break;
        }
        let run = match examiner.examine(sut, &candidate) {
            Ok(run) => run,
            Err(Failure::Interrupted) => continue,
            Err(other) => return Err(other),
        };
        minimal.executions += 1;
        if let Some(violation) = violation_like(run, minimal.violation.property) {
            minimal.violation = violation;
            shrinker.accept(candidate);
        }
    }
    minimal.scenario = shrinker.best().clone();
    Ok(minimal)
}

fn violation_like(run: Run, property: Property) -> Option<Violation> {
    let violation = run.finding?.violation;
    let alike = violation.property == property || (tells_of_books(property) && tells_of_books(violation.property));
    alike.then_some(violation)
}

/// Is this a property about what the system believes to be held? Which of them a wrong book breaks
/// first is a matter of what is asked next.
fn tells_of_books(property: Property) -> bool {
    use Property::{Accounted, Atomic, Complete, Durable, Expiring, Reconfigurable, Released};
    matches!(property, Accounted | Atomic | Complete | Durable | Expiring | Reconfigurable | Released)
}

/// How long shrinking may last by default, given what a call may cost.
pub fn default_limit(contract: &Contract) -> Duration {
    Duration::from_secs(30).max(Duration::from_millis(contract.timeout_ms.saturating_mul(4)))
}
