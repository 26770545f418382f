//! `crash`: every fault at every step of I/O and every allocation of every call of a scenario.
//!
//! A dry run counts the steps of I/O and the allocations of each step of the scenario. Then the scenario is run again up to
//! that step with each fault at each of them, and goes on with what shows whether anything was lost or leaked: a restart, and
//! every pool drained and filled. All of that is a scenario in itself: what is found is replayed, explained and made small
//! like any other.
//!
//! In short scenarios a second fault follows the first, at each step of I/O that comes after it in the same call: while the
//! first is undone.
//!
//! Memory is refused in the same way, in short scenarios: each allocation alone, and some with all that come after it.
//!
//! A process that ends before a step leaves the same behind as one that ends before the step after, if that one only reads.
//! Such states are counted and visited once.

use std::sync::Arc;

use super::Progress;
use super::campaign::Campaign;
use super::check::{Budget, Found, Options, follow_up, mix, on_hang};
use super::examine::Examiner;
use super::faults::Counted;
use super::minimise::Minimal;
use super::run::created;
use crate::contract::Contract;
use crate::fault::{Fault, FaultKind, Io, Moment};
use crate::generate::{Generator, tour};
use crate::interrupt;
use crate::operation::Text;
use crate::report::Report;
use crate::scenario::{Scenario, Step, text};
use crate::sut::{Failure, Sut};

/// What is drawn by chance is drawn so often. 0 keeps nothing that may be lost; what keeps all of it is like a kill.
const POWER_LOSSES: [u32; 4] = [0, 2, 3, 4];
const SYNC_FAILURES: [u32; 3] = [0, 2, 3];

/// A second fault is tried in scenarios of at most so many steps.
const MOST_STEPS_FOR_PAIRS: usize = 12;

/// Memory is refused in scenarios of at most so many steps: a call makes hundreds of allocations.
const MOST_STEPS_FOR_MEMORY: usize = 12;

/// One allocation of so many is refused with all that come after it. Most of what that leads to, the first of them leads to.
const MEMORY_PERIOD: u32 = 8;

/// Each pool is drained of so many, and filled with so many: all of a small pool.
const MANY: u32 = 64;
const MORE: u32 = 16;

/// What was visited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visited {
    /// Scenarios whose steps of I/O were all struck.
    pub scenarios: u64,
    /// States after one fault, and after two.
    pub singles: u64,
    /// States after two faults.
    pub pairs: u64,
    /// States after an allocation was refused, alone or with all that came after it in the call.
    pub memory: u64,
    /// States that are the same as one of those.
    pub equal: u64,
}

/// Strikes at given scenarios, or at drawn ones for as long as the budget lasts. A budget of runs counts scenarios drawn.
///
/// # Errors
///
/// When no fault can be injected into this system, and what the harness itself could not do.
pub fn crash(
    sut: &mut dyn Sut,
    given: Vec<Scenario>,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Report, Failure> {
    let refuses_memory = sut.arm(&[Fault { kind: FaultKind::NoMemory, step: 0, moment: Moment::Before }]);
    if !sut.arm(&[]) {
        let why = format!("faults cannot be injected into `{}`; `simulated` is on a disk that can fail", options.sut);
        return Err(Failure::Unable(why));
    }
    let reporter = progress.hang_reporter();
    let examiner = Examiner::sparing(sut).watched(sut, on_hang(options, &reporter))?;
    let is_drawn = given.is_empty();
    let seed = is_drawn.then_some(options.seed);
    let campaign = Campaign::new(Report::new(&options.sut, seed).on(sut), examiner, progress);
    let contract = sut.contract().clone();
    let mut strikes = Strikes { sut, options, campaign, visited: Visited::default(), reporter };
    let is_over = strikes.all(given, is_drawn, &contract)?;
    let Strikes { campaign, visited, .. } = strikes;
    let mut report = campaign.end();
    report.visited = Some(visited);
    if report.is_interrupted || !is_over {
        report.missing.push("the rest of the scenarios".to_owned());
    }
    if visited.singles == 0 {
        report.missing.push("a step of I/O to strike at".to_owned());
    }
    if !refuses_memory {
        report.missing.push("memory that can be refused".to_owned());
    }
    report.settle();
    Ok(report)
}

/// A campaign of faults under way.
struct Strikes<'a> {
    sut: &'a mut dyn Sut,
    options: &'a Options,
    campaign: Campaign<'a>,
    visited: Visited,
    reporter: super::HangReporter,
}

/// Shall it go on?
type GoesOn = Result<bool, Failure>;

impl Strikes<'_> {
    /// Says whether nothing that was given is left.
    fn all(&mut self, given: Vec<Scenario>, is_drawn: bool, contract: &Contract) -> GoesOn {
        if !is_drawn {
            for scenario in &given {
                if !self.is_in_time() || !self.scenario(scenario)? {
                    return Ok(!self.campaign.report.violations.is_empty());
                }
            }
            return Ok(true);
        }
        let generator = Generator::new(contract).with_max_steps(self.options.max_steps);
        let mut tour = if self.options.tours { tour(contract) } else { Vec::new() }.into_iter();
        let mut number = 0;
        while self.is_in_time() && !matches!(self.options.budget, Budget::Runs(runs) if number >= runs) {
            let drawn = tour.next().unwrap_or_else(|| generator.scenario(mix(self.options.seed, number)));
            number += 1;
            if !self.scenario(&drawn)? {
                break;
            }
        }
        Ok(true)
    }

    fn is_in_time(&self) -> bool {
        let is_over = matches!(self.options.budget, Budget::Time(time) if self.campaign.elapsed() >= time);
        !is_over && !interrupt::requested()
    }

    /// Strikes at each step of a scenario.
    fn scenario(&mut self, scenario: &Scenario) -> GoesOn {
        let Some(steps) = self.dry_run(scenario)? else { return Ok(true) };
        let pairs = scenario.steps.len() <= MOST_STEPS_FOR_PAIRS;
        for (index, Counted { io, allocations }) in steps.iter().enumerate() {
            let faults: Vec<Fault> = faults_at(io, 0).collect();
            self.visited.equal += equal(io);
            for fault in faults {
                if !self.is_in_time() {
                    return Ok(false);
                }
                self.visited.singles += 1;
                if !self.strike(scenario, index, &[fault])? {
                    return Ok(false);
                }
                if pairs && !fault.kind.ends_the_process() && !self.second(scenario, index, fault)? {
                    return Ok(false);
                }
            }
            if scenario.steps.len() <= MOST_STEPS_FOR_MEMORY && !self.refuse_memory(scenario, index, *allocations)? {
                return Ok(false);
            }
        }
        self.visited.scenarios += 1;
        Ok(true)
    }

    /// Refuses each of so many allocations of a step.
    fn refuse_memory(&mut self, scenario: &Scenario, index: usize, allocations: u32) -> GoesOn {
        for fault in refusals(allocations) {
            if !self.is_in_time() {
                return Ok(false);
            }
            self.visited.memory += 1;
            if !self.strike(scenario, index, &[fault])? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Strikes once more, after a first fault in the same step.
    fn second(&mut self, scenario: &Scenario, index: usize, first: Fault) -> GoesOn {
        let once = struck(&scenario.steps, index, &[first]);
        let Some(steps) = self.dry_run(&once)? else { return Ok(true) };
        // The fault is a step of its own.
        let io = steps.get(index + 1).map_or(&[][..], |counted| &counted.io);
        let from = first.step as usize + 1;
        if from >= io.len() {
            return Ok(true);
        }
        for second in faults_at(&io[from..], from as u32) {
            if !self.is_in_time() {
                return Ok(false);
            }
            self.visited.pairs += 1;
            if !self.strike(scenario, index, &[first, second])? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What each step can be struck at; `None` where it fails as it is, which is reported, or where the user wants to stop.
    fn dry_run(&mut self, scenario: &Scenario) -> Result<Option<Vec<Counted>>, Failure> {
        self.campaign.count(true);
        let run = self.run(scenario.clone());
        let counted = self.campaign.count(false);
        Ok(run?.then_some(counted))
    }

    /// Runs the scenario up to a step that is struck, and looks at what is left.
    fn strike(&mut self, scenario: &Scenario, index: usize, faults: &[Fault]) -> GoesOn {
        let Scenario { mut steps } = struck(&scenario.steps, index, faults);
        steps.extend(aftermath(&steps));
        self.run(Scenario { steps })
    }

    /// Runs a scenario; says whether to go on.
    fn run(&mut self, scenario: Scenario) -> GoesOn {
        let scenario = Arc::new(scenario);
        let Some(run) = self.campaign.run(self.sut, &scenario)? else { return Ok(false) };
        let is_late = run.is_late(self.sut.contract());
        let Some(finding) = run.finding else { return Ok(true) };
        if !self.options.counts(&self.campaign.report, finding.violation.property) {
            return Ok(true);
        }
        let seed = self.campaign.report.scenarios;
        let minimal = Minimal::of(Arc::unwrap_or_clone(scenario), finding.violation, self.sut);
        let found = Found { minimal, seed, is_late };
        let reported = follow_up(self.sut, self.options, found, &mut self.campaign, &self.reporter)?;
        self.campaign.report.add(reported);
        Ok(self.options.keep_going)
    }
}

/// What shows whether anything was lost or leaked after these steps: a restart, and every pool drained and filled.
pub(super) fn aftermath(steps: &[Step]) -> Vec<Step> {
    let drain_and_fill = |pool: Text| {
        let fill = Step::Fill { pool: pool.clone(), owner: text("z"), count: MORE, ttl_ms: None };
        [Step::Drain { pool, count: MANY }, fill]
    };
    std::iter::once(Step::Restart).chain(pools(steps).into_iter().flat_map(drain_and_fill)).collect()
}

/// The steps up to one that is struck by faults.
fn struck(steps: &[Step], index: usize, faults: &[Fault]) -> Scenario {
    let faults = faults.iter().map(|fault| Step::Fault(*fault));
    Scenario { steps: steps[..index].iter().cloned().chain(faults).chain(steps.get(index).cloned()).collect() }
}

/// The names of the pools that were made, each once.
fn pools(steps: &[Step]) -> Vec<Text> {
    let mut pools: Vec<Text> = steps.iter().filter_map(created).cloned().collect();
    pools.sort_unstable();
    pools.dedup();
    pools
}

/// Every fault at every one of these steps of I/O, of which the first has this number. What leaves the same behind as
/// another is left out.
fn faults_at(io: &[Io], first: u32) -> impl Iterator<Item = Fault> {
    let last = io.len().saturating_sub(1);
    io.iter().enumerate().flat_map(move |(place, step)| {
        let (is_new, is_last) = (place == 0 || io[place - 1].changes(), place == last);
        kinds()
            .into_iter()
            .flat_map(move |kind| [Moment::Before, Moment::After].map(|moment| (kind, moment)))
            .filter_map(move |(kind, moment)| {
                let is_wanted = match (kind.ends_the_process(), moment) {
                    (true, Moment::Before) => is_new,
                    // Else it is the same as before the next step.
                    (true, Moment::After) => is_last,
                    (false, _) => true,
                };
                let step_number = first + place as u32;
                (is_wanted && kind.strikes(*step, moment)).then_some(Fault { kind, moment, step: step_number })
            })
    })
}

/// Each of so many allocations refused, alone, and some with all that come after it.
fn refusals(allocations: u32) -> impl Iterator<Item = Fault> {
    let fault = |kind| move |step| Fault { kind, step, moment: Moment::Before };
    let alone = (0..allocations).map(fault(FaultKind::NoMemoryOnce));
    let from_then_on = (0..allocations).step_by(MEMORY_PERIOD as usize).map(fault(FaultKind::NoMemory));
    alone.chain(from_then_on)
}

/// How many ends of the process are the same as one of those.
fn equal(io: &[Io]) -> u64 {
    let ends = kinds().iter().filter(|kind| kind.ends_the_process()).count() as u64;
    let all = 2 * ends * io.len() as u64;
    all - faults_at(io, 0).filter(|fault| fault.kind.ends_the_process()).count() as u64
}

fn kinds() -> Vec<FaultKind> {
    let plain = [FaultKind::Error, FaultKind::ShortRead, FaultKind::Full, FaultKind::Busy, FaultKind::Kill];
    let power = POWER_LOSSES.map(FaultKind::PowerLoss);
    let sync = SYNC_FAILURES.map(FaultKind::SyncFailure);
    plain.into_iter().chain(power).chain(sync).collect()
}
