//! Makes a failing scenario small on the system it fails on.

use std::time::{Duration, Instant};

use super::examine::Examiner;
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
/// around it. `counts` says which properties the violation may become.
///
/// What is found must fail on a fresh instance of the system, too. Where it does not, it leant on
/// what earlier scenarios had left behind, and it is shrunk again with a fresh instance each time.
///
/// # Errors
///
/// Only what the harness itself could not do; an interruption gives the best so far.
pub fn minimise(
    sut: &mut dyn Sut,
    scenario: Scenario,
    violation: Violation,
    limit: Duration,
    counts: &dyn Fn(Property) -> bool,
) -> Result<Minimal, Failure> {
    let minimal = Minimal { scenario, violation, executions: 0, is_cut_short: false };
    let mut search =
        Search { examiner: Examiner::thorough(sut), deadline: Instant::now() + limit, counts, is_fresh: false };
    let found = search.shrink(sut, minimal.clone())?;
    search.is_fresh = true;
    if search.is_over() || search.fails(sut, &found.scenario, &found.violation)?.is_some() {
        return Ok(found);
    }
    let executions = found.executions + 1;
    match search.fails(sut, &minimal.scenario, &minimal.violation)? {
        Some(violation) => search.shrink(sut, Minimal { violation, executions, ..minimal }),
        None => {
            let note =
                "a fresh instance does not show it with these steps: earlier scenarios or chance have a part in it";
            let message = format!("{}; {note}", found.violation.message);
            Ok(Minimal { violation: Violation::new(found.violation.property, message), executions, ..found })
        }
    }
}

/// What it takes to try a candidate.
struct Search<'a> {
    examiner: Examiner,
    deadline: Instant,
    counts: &'a dyn Fn(Property) -> bool,
    /// Does each candidate get an instance of the system of its own?
    is_fresh: bool,
}

impl Search<'_> {
    fn shrink(&mut self, sut: &mut dyn Sut, mut minimal: Minimal) -> Result<Minimal, Failure> {
        let mut shrinker = Shrinker::new(minimal.scenario);
        while let Some(candidate) = shrinker.propose() {
            if self.is_over() {
                minimal.is_cut_short = true;
                break;
            }
            minimal.executions += 1;
            if let Some(violation) = self.fails(sut, &candidate, &minimal.violation)? {
                minimal.violation = violation;
                shrinker.accept(candidate);
            }
        }
        minimal.scenario = shrinker.best().clone();
        Ok(minimal)
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline || crate::interrupt::requested()
    }

    /// How the scenario fails, if it fails like that. An interruption is no failure of it.
    fn fails(
        &mut self,
        sut: &mut dyn Sut,
        scenario: &Scenario,
        like: &Violation,
    ) -> Result<Option<Violation>, Failure> {
        if self.is_fresh {
            sut.forget();
        }
        let run = match self.examiner.examine(sut, scenario) {
            Ok(run) => run,
            Err(Failure::Interrupted) => return Ok(None),
            Err(other) => return Err(other),
        };
        let violation = run.finding.map(|finding| finding.violation);
        let like = like.property;
        Ok(violation.filter(|Violation { property, .. }| {
            *property == like || (tells_of_books(like) && tells_of_books(*property) && (self.counts)(*property))
        }))
    }
}

/// Is this a property about what the system believes to be held? Which of them a wrong book breaks
/// first is a matter of what is asked next.
fn tells_of_books(property: Property) -> bool {
    use Property::{Accounted, Atomic, Complete, Durable, Expiring, Reconfigurable, Released};
    matches!(property, Accounted | Atomic | Complete | Durable | Expiring | Reconfigurable | Released)
}

/// How long shrinking may last by default, given what a call may cost.
pub fn default_limit(contract: &Contract) -> Duration {
    // A contract may ask for any time; adapters give a minute at most.
    Duration::from_secs(30).max(4 * Duration::from_millis(contract.timeout_ms.min(60_000)))
}
