//! Makes a failing scenario small on the system it fails on.

use std::time::{Duration, Instant};

use super::check::Budget;
use super::examine::Examiner;
use super::race::is_repeatable;
use super::run::Finding;
use super::watchdog::OnHang;
use crate::contract::{Clock, Contract};
use crate::history::Broken;
use crate::interrupt;
use crate::operation::Operation;
use crate::property::{Property, Violation};
use crate::scenario::{Scenario, Step};
use crate::shrink::{Shrinker, with_huge_pools};
use crate::sut::{Failure, Sut};

/// While a hang is made small, a call is late after the contract's time divided by this.
const HURRY: u32 = 8;
/// But never sooner: a slow machine is no hang.
const LEAST_HURRY: Duration = Duration::from_millis(250);

/// So many times in a row must a scenario fail where a system draws by chance: what remains when it
/// is small must fail for everybody.
const CHANCE_TIMES: u32 = 4;
/// And so many times at the end: of many candidates that fail by chance the luckiest gets that far.
const CHANCE_TIMES_FRESH: u32 = 16;

/// While a violation that is measured or left to chance is made small, it must be so many times as
/// clear as usual: at the border it would fail here and not there.
const MARGIN: u32 = 2;

/// However long a campaign lasts, a counterexample is shrunk no longer than this.
const LONGEST_SHRINKING: Duration = Duration::from_secs(5 * 60);

/// A small scenario that fails, and how.
#[derive(Clone, Debug)]
pub struct Minimal {
    /// The scenario.
    pub scenario: Scenario,
    /// What it breaks; told anew, because a smaller scenario often tells better.
    pub violation: Violation,
    /// What callers at the same time saw, if that is what breaks it.
    pub broken: Option<Box<Broken>>,
    /// What the system wrote for people when it failed like that.
    pub diagnostics: String,
    /// How many scenarios were run on the way.
    pub executions: u64,
    /// Why it was stopped before the fix-point, if it was.
    pub cut_short: Option<String>,
    /// Does a fresh instance of the system show it with these steps alone, as far as was tried?
    pub is_reproducible: bool,
}

impl Minimal {
    /// A scenario as it was found, or written.
    pub fn of(scenario: Scenario, finding: Finding, sut: &dyn Sut) -> Minimal {
        Minimal {
            scenario,
            violation: finding.violation,
            broken: finding.broken,
            diagnostics: sut.diagnostics(),
            executions: 0,
            cut_short: None,
            is_reproducible: true,
        }
    }

    /// The same, as it fails now.
    fn failing(self, finding: Finding, sut: &dyn Sut) -> Minimal {
        Minimal { violation: finding.violation, broken: finding.broken, diagnostics: sut.diagnostics(), ..self }
    }
}

/// How long to go on.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// At most so long without getting any smaller.
    pub without_progress: Duration,
    /// At most so long in all.
    pub in_all: Duration,
}

impl Patience {
    /// What a person waits for gladly, given what a call may cost: a quarter of a minute without progress, half a
    /// minute in all, and more where calls may take longer than seconds.
    pub fn with(contract: &Contract) -> Patience {
        // A contract may ask for any time; adapters give a minute at most.
        let call = Duration::from_millis(contract.timeout_ms.min(60_000));
        let without_progress = Duration::from_secs(15).max(3 * call);
        Patience { without_progress, in_all: 2 * without_progress }
    }

    /// The same in a campaign: whoever gives that much time may be kept waiting as long again.
    pub fn within(self, budget: Budget) -> Patience {
        let time = match budget {
            Budget::Time(time) => time,
            Budget::Runs(_) | Budget::Executions(_) => Duration::ZERO,
        };
        Patience { in_all: self.in_all.max(time).min(LONGEST_SHRINKING.max(self.in_all)), ..self }
    }
}

/// How to go about it.
pub struct Minimiser<'a> {
    /// How long to go on.
    pub patience: Patience,
    /// Which properties the violation may become.
    pub counts: &'a dyn Fn(Property) -> bool,
    /// Does it fail because a call is late?
    pub is_late: bool,
    /// Who is told when a smaller scenario hangs in this process.
    pub on_hang: OnHang,
}

impl Minimiser<'_> {
    /// Shrinks until nothing simpler fails, or patience is at its end. A candidate counts when it
    /// breaks the same property, or one that tells of the same books: which of those shows first
    /// depends on the steps around it. With fewer steps it may also break one that tells of a deed
    /// instead of the book, and the other way round: the shorter way to the same defect tells more.
    ///
    /// What is found must fail on a fresh instance of the system, too. Where it does not, it leant
    /// on what earlier scenarios had left behind, and it is shrunk again with a fresh instance each
    /// time.
    ///
    /// # Errors
    ///
    /// When not even a beginning can be made. Whatever comes in between later, an interruption or a
    /// system that cannot be started any more, gives the best so far and says why.
    pub fn minimise(self, sut: &mut dyn Sut, found: Minimal) -> Result<Minimal, Failure> {
        let examiner = Examiner::thorough(sut).watched(sut, self.on_hang)?;
        let now = Instant::now();
        let mut search = Search {
            examiner,
            patience: self.patience,
            counts: self.counts,
            times: (sut.contract().clock == Clock::Wall).then(|| times_of(&found.scenario)),
            began: now,
            last_progress: now,
            is_fresh: false,
            is_shorter: false,
        };
        // A hang is waited for in each candidate that shows it. Waiting less long loses nothing, since
        // the result is confirmed with the whole time.
        let timeout = Duration::from_millis(sut.contract().timeout_ms);
        sut.hurry(self.is_late.then(|| (timeout / HURRY).max(LEAST_HURRY)));
        let found = search.with_more_to_choose_from(sut, found);
        // What does not fail again on this instance depends on what came before, and so would every candidate.
        let small = match search.fails(sut, &found.scenario, &found.violation) {
            Ok(None) => None,
            _ => Some(search.shrink_with_margin(sut, found.clone())),
        };
        sut.hurry(None);
        Ok(search.confirm(sut, found, small))
    }
}

/// What it takes to try a candidate.
struct Search<'a> {
    examiner: Examiner,
    patience: Patience,
    counts: &'a dyn Fn(Property) -> bool,
    /// On real time: the times that a candidate may hold. Shorter ones would lead to where it is chance
    /// whether it fails.
    times: Option<Vec<u64>>,
    began: Instant,
    last_progress: Instant,
    /// Does each candidate get an instance of the system of its own?
    is_fresh: bool,
    /// Has the candidate fewer steps than the best so far?
    is_shorter: bool,
}

/// How a candidate failed, or why it is not known whether it does.
type Tried = Result<Option<Finding>, String>;

impl Search<'_> {
    /// Shrinks with a margin, where what was found has one.
    fn shrink_with_margin(&mut self, sut: &mut dyn Sut, found: Minimal) -> Minimal {
        if !matches!(found.violation.property, Property::Bounded | Property::Unpredictable) {
            return self.shrink(sut, found);
        }
        self.examiner.demand(MARGIN);
        let is_clear = matches!(self.fails(sut, &found.scenario, &found.violation), Ok(Some(_)));
        if !is_clear {
            self.examiner.demand(1);
        }
        let small = self.shrink(sut, found);
        self.examiner.demand(1);
        small
    }

    /// The more there is to choose from at random, the fewer choices tell: the same on huge pools, where that fails as well.
    fn with_more_to_choose_from(&mut self, sut: &mut dyn Sut, found: Minimal) -> Minimal {
        if found.violation.property != Property::Unpredictable {
            return found;
        }
        let scenario = with_huge_pools(&found.scenario);
        match self.fails(sut, &scenario, &found.violation) {
            Ok(Some(finding)) => Minimal { scenario, ..found }.failing(finding, sut),
            _ => found,
        }
    }

    fn shrink(&mut self, sut: &mut dyn Sut, mut minimal: Minimal) -> Minimal {
        let mut shrinker = Shrinker::new(minimal.scenario.clone());
        let is_repeatable = is_repeatable(sut, &minimal.scenario);
        self.last_progress = Instant::now();
        while let Some(candidate) = shrinker.propose() {
            minimal.cut_short = self.is_over();
            if minimal.cut_short.is_some() {
                break;
            }
            if self.times.as_ref().is_some_and(|times| !times_of(&candidate).iter().all(|time| times.contains(time))) {
                continue;
            }
            if is_repeatable && leaves_to_chance(sut, &candidate) {
                continue;
            }
            minimal.executions += 1;
            self.is_shorter = candidate.steps.len() < minimal.scenario.steps.len();
            match self.fails(sut, &candidate, &minimal.violation) {
                Ok(None) => {}
                Ok(Some(finding)) => {
                    minimal = Minimal { scenario: candidate.clone(), ..minimal }.failing(finding, sut);
                    shrinker.accept(candidate);
                    self.last_progress = Instant::now();
                }
                Err(why) => {
                    minimal.cut_short = Some(why);
                    break;
                }
            }
        }
        self.is_shorter = false;
        minimal
    }

    /// Sees to it that the result fails on a fresh instance.
    fn confirm(&mut self, sut: &mut dyn Sut, found: Minimal, small: Option<Minimal>) -> Minimal {
        self.is_fresh = true;
        let Some(small) = small else {
            return self.shrink_on_fresh_instances(sut, found.clone(), found);
        };
        if interrupt::requested() {
            return small;
        }
        let executions = small.executions + 1;
        match self.fails(sut, &small.scenario, &small.violation) {
            Ok(Some(finding)) => Minimal { executions, ..small }.failing(finding, sut),
            Ok(None) => self.shrink_on_fresh_instances(sut, found, Minimal { executions, ..small }),
            Err(why) => Minimal { cut_short: Some(why), ..small },
        }
    }

    fn shrink_on_fresh_instances(&mut self, sut: &mut dyn Sut, found: Minimal, small: Minimal) -> Minimal {
        let executions = small.executions + 1;
        match self.fails(sut, &found.scenario, &found.violation) {
            Ok(Some(finding)) => {
                let failing = Minimal { executions, ..found }.failing(finding, sut);
                self.shrink_with_margin(sut, failing)
            }
            Ok(None) => {
                let note =
                    "a fresh instance does not show it with these steps: earlier scenarios or chance have a part in it";
                let message = format!("{}; {note}", small.violation.message);
                let violation = Violation::new(small.violation.property, message);
                Minimal { violation, executions, is_reproducible: false, ..small }
            }
            Err(why) => Minimal { cut_short: Some(why), ..small },
        }
    }

    /// Why there should be no more candidates.
    fn is_over(&self) -> Option<String> {
        let Patience { without_progress, in_all } = self.patience;
        if interrupt::requested() {
            Some("interrupted".to_owned())
        } else if self.last_progress.elapsed() >= without_progress {
            Some(format!("{without_progress:?} without progress"))
        } else if self.began.elapsed() >= in_all {
            Some(format!("{in_all:?} are enough"))
        } else {
            None
        }
    }

    /// How the scenario fails, if it fails like that. Where chance has a part in it, or how fast the machine is just now, it
    /// must do so each time.
    fn fails(&mut self, sut: &mut dyn Sut, scenario: &Scenario, like: &Violation) -> Tried {
        let is_close = self.times.is_some() && like.property == Property::Expiring;
        let times = match like.property {
            Property::Unpredictable if self.is_fresh => CHANCE_TIMES_FRESH,
            Property::Unpredictable => CHANCE_TIMES,
            _ if is_close => CHANCE_TIMES,
            _ => 1,
        };
        let mut last = None;
        for _ in 0..times {
            last = self.fails_once(sut, scenario, like)?;
            if last.is_none() {
                break;
            }
        }
        Ok(last)
    }

    fn fails_once(&mut self, sut: &mut dyn Sut, scenario: &Scenario, like: &Violation) -> Tried {
        if self.is_fresh {
            sut.forget();
        }
        let run = self.examiner.examine(sut, scenario).map_err(|failure| failure.to_string())?;
        let is_kin = |property: Property| match (kinship(like.property), kinship(property)) {
            (Some(Kin::Books), Some(Kin::Books)) => (self.counts)(property),
            (Some(_), Some(_)) => self.is_shorter && (self.counts)(property),
            _ => false,
        };
        let is_like = |property: Property| property == like.property || is_kin(property);
        Ok(run.finding.filter(|finding| is_like(finding.violation.property)))
    }
}

/// Does the machine decide which calls of this scenario meet?
fn leaves_to_chance(sut: &dyn Sut, scenario: &Scenario) -> bool {
    scenario.has_lanes() && !is_repeatable(sut, scenario)
}

/// The lengths of leases and waits in a scenario.
fn times_of(scenario: &Scenario) -> Vec<u64> {
    let time = |step: &Step| match step {
        Step::Call(Operation::Allocate { ttl_ms, .. }) | Step::Fill { ttl_ms, .. } => *ttl_ms,
        Step::Call(Operation::Renew { ttl_ms, .. }) => Some(*ttl_ms),
        Step::Call(Operation::Advance { ms }) => Some(*ms),
        _ => None,
    };
    scenario.steps.iter().filter_map(time).collect()
}

/// What a property tells of, where others tell of the same in other words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kin {
    /// Of what the system believes to be held. Which of them a wrong book breaks first is a matter of what is asked next.
    Books,
    /// Of who gets and keeps what: what is done by a wrong book.
    Deeds,
    /// Of how that is refused.
    Words,
}

pub(super) fn kinship(property: Property) -> Option<Kin> {
    use Property::{
        Accounted, Atomic, Canonical, Classified, Complete, Contained, Durable, Exclusive, Expiring, Idempotent, Inert,
        Owned, Reconfigurable, Released, Scoped,
    };
    match property {
        Accounted | Atomic | Complete | Durable | Expiring | Reconfigurable | Released => Some(Kin::Books),
        Canonical | Contained | Exclusive | Idempotent | Inert | Owned | Scoped => Some(Kin::Deeds),
        Classified => Some(Kin::Words),
        _ => None,
    }
}
