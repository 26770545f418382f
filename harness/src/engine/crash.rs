//! `crash`: every fault at every step of I/O and every allocation of every call of a scenario.
//!
//! A dry run counts the steps of I/O and the allocations of memory of each step of the scenario. Then the scenario is run
//! again up to that step with each fault at each of them, and goes on with what shows whether anything was lost or leaked: a
//! restart, and every pool drained and filled; after a grant also with all that its owner has released first. All of that is
//! a scenario in itself: what is found is replayed, explained and made small like any other.
//!
//! In short scenarios a second fault follows the first, at each step of I/O that comes after it in the same call: while the
//! first is undone.
//!
//! Memory is refused in the same way, in short scenarios: each allocation alone, and some with all that come after it.
//!
//! A process that ends before a step leaves the same behind as one that ends before the step after, if that one only reads.
//! Such states are counted and visited once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::smallvec;

use super::Progress;
use super::campaign::Campaign;
use super::check::{Budget, Found, Options, follow_up, mix, on_hang};
use super::examine::Examiner;
use super::minimise::Minimal;
use super::pass::created;
use crate::address::Family;
use crate::contract::Contract;
use crate::fault::{Counted, Fault, FaultKind, IoStep, Moment};
use crate::generate::{Generator, tour};
use crate::interrupt;
use crate::operation::{Method, Operation, PoolShape, Request, Text, Want};
use crate::property::Property;
use crate::report::Report;
use crate::scenario::{Scenario, Step, text};
use crate::sut::{Failure, Sut};

/// What is drawn by chance is drawn so often. 0 keeps nothing that may be lost; what keeps all of it is like a kill.
const POWER_LOSSES: [u32; 4] = [0, 2, 3, 4];
const SYNC_FAILURES: [u32; 3] = [0, 2, 3];

/// A second fault is tried in scenarios of at most so many steps.
const MOST_STEPS_FOR_PAIRS: usize = 12;

/// A scenario without faults is timed so often.
const TIMED_RUNS: u32 = 3;

/// Memory is refused in scenarios of at most so many steps: a call makes hundreds of allocations.
const MOST_STEPS_FOR_MEMORY: usize = 12;

/// One allocation of so many is refused with all that come after it. Most of what that leads to, the first of them leads to.
const MEMORY_PERIOD: u32 = 8;

/// A step of many calls does the same again and again: only so many of its first steps of I/O are struck twice, the second
/// time at one of the next so many, and so many of its first allocations are refused.
const MOST_IO: usize = 64;
const MOST_ALLOCATIONS: u32 = 1024;

/// Each pool is drained of so many, and filled with so many: all of a small pool.
const MANY: u32 = 64;
const MORE: u32 = 16;

/// What was visited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visited {
    /// Scenarios whose steps of I/O were all struck.
    pub scenarios: u64,
    /// Their steps of I/O.
    pub steps: u64,
    /// States after one fault.
    pub singles: u64,
    /// States after two faults.
    pub pairs: u64,
    /// States after an allocation was refused, alone or with all that came after it in the call.
    pub memory: u64,
    /// States that are the same as one of those.
    pub equal: u64,
    /// How long they took.
    pub time: Duration,
    /// How long it takes to run their scenarios as often, without faults.
    pub plain_time: Duration,
}

impl Visited {
    /// All states.
    pub fn states(&self) -> u64 {
        self.singles + self.pairs + self.memory
    }

    /// How many runs of its scenario without faults a state takes as long as.
    pub fn plain_runs(&self) -> f64 {
        self.time.as_secs_f64() / self.plain_time.as_secs_f64()
    }
}

/// Strikes at given scenarios, or at drawn ones for as long as the budget lasts. A budget of runs counts scenarios drawn.
///
/// # Errors
///
/// When no fault can be injected into this system, and what the harness itself could not do.
pub fn crash(
    sut: &mut dyn Sut,
    given: &[Scenario],
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Report, Failure> {
    sut.arm(&[])?;
    sut.disarm();
    let is_outside = sut.ends_late_calls();
    let can_refuse_memory = refusals(1).all(|fault| sut.arm(&[fault]).is_ok());
    sut.disarm();
    let reporter = progress.hang_reporter();
    let examiner = Examiner::sparing(sut).trusting_resets().watched(sut, on_hang(options, &reporter))?;
    let seed = given.is_empty().then_some(options.seed);
    let mut report = Report::new(&options.sut, seed).on(sut);
    if !sut.resets_in_place() && !report.unchecked.iter().any(|(property, _)| *property == Property::Tidy) {
        let why = "a fault strikes a process once, and only a system with a reset is looked at again and again";
        report.unchecked.push((Property::Tidy, why));
    }
    let campaign = Campaign::new(report, examiner, progress);
    let contract = sut.contract().clone();
    let mut strikes = Strikes {
        sut,
        options,
        campaign,
        visited: Visited::default(),
        reporter,
        is_over: false,
        in_runs: Duration::ZERO,
    };
    strikes.all(given, &contract)?;
    let is_cut_short = !given.is_empty() && !strikes.goes_on() && strikes.campaign.report.violations.is_empty();
    let Strikes { campaign, visited, .. } = strikes;
    let mut report = campaign.end();
    report.visited = Some(visited);
    if report.is_interrupted || is_cut_short {
        report.missing.push("the rest of the scenarios".to_owned());
    }
    if visited.singles == 0 {
        report.missing.push("a step of I/O to strike at".to_owned());
    }
    if visited.scenarios == 0 {
        report.missing.push("a scenario that is struck at each step, to its end".to_owned());
    }
    // The memory of another process is its own affair.
    if !can_refuse_memory && !is_outside {
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
    /// Is what was found enough, or the user's patience at its end?
    is_over: bool,
    /// Time spent in runs of scenarios, and not in making them small.
    in_runs: Duration,
}

impl Strikes<'_> {
    /// Strikes at what was given, or at as much as there is time for.
    fn all(&mut self, given: &[Scenario], contract: &Contract) -> Result<(), Failure> {
        if !given.is_empty() {
            return given.iter().try_for_each(|scenario| self.scenario(scenario));
        }
        let generator = Generator::new(contract).with_max_steps(self.options.max_steps);
        let tour = if self.options.tours { tour(contract) } else { Vec::new() };
        let mut tour = std::iter::once(shortest(contract)).chain(tour);
        let mut number = 0;
        while self.goes_on() && !matches!(self.options.budget, Budget::Runs(runs) if number >= runs) {
            let drawn = tour.next().unwrap_or_else(|| generator.scenario(mix(self.options.seed, number)));
            number += 1;
            self.scenario(&drawn)?;
        }
        Ok(())
    }

    fn goes_on(&self) -> bool {
        let is_left = match self.options.budget {
            Budget::Time(time) => self.campaign.elapsed() < time,
            Budget::Executions(executions) => self.campaign.report.scenarios < executions,
            // Those are counted where they are drawn.
            Budget::Runs(_) => true,
        };
        is_left && !self.is_over && !interrupt::requested()
    }

    /// Strikes at each step of a scenario. Of callers at the same time one comes after the other here.
    fn scenario(&mut self, scenario: &Scenario) -> Result<(), Failure> {
        let scenario = &scenario.without_lanes();
        let Some(counted) = self.dry_run(scenario)? else { return Ok(()) };
        let before = self.visited;
        let plain = self.time(scenario)?;
        let in_runs = self.in_runs;
        self.strike_all(scenario, &counted)?;
        self.visited.time += self.in_runs - in_runs;
        let states = self.visited.states() - before.states();
        self.visited.plain_time += plain.mul_f64(states as f64);
        Ok(())
    }

    /// How long a scenario takes; the best of a few runs, after one that was the first.
    fn time(&mut self, scenario: &Scenario) -> Result<Duration, Failure> {
        let mut best = Duration::MAX;
        for _ in 0..TIMED_RUNS {
            let started = Instant::now();
            self.run(scenario.clone())?;
            best = best.min(started.elapsed());
        }
        Ok(best)
    }

    fn strike_all(&mut self, scenario: &Scenario, counted: &[Counted]) -> Result<(), Failure> {
        let pairs = scenario.steps.len() <= MOST_STEPS_FOR_PAIRS;
        for (index, Counted { steps: io, allocations }) in counted.iter().enumerate() {
            let has_many = has_many_calls(&scenario.steps[index]);
            let (most_io, most_allocations) =
                if has_many { (MOST_IO, MOST_ALLOCATIONS) } else { (usize::MAX, u32::MAX) };
            self.visited.steps += io.len() as u64;
            self.visited.equal += equal(io);
            for fault in faults_at(io) {
                if !self.goes_on() {
                    return Ok(());
                }
                self.visited.singles += 1;
                self.strike(scenario, index, &[fault])?;
                let is_early = (fault.step as usize) < most_io;
                // System calls are counted by their names, which does not say what comes after what.
                if pairs && is_early && !fault.kind.ends_the_process() && fault.call.is_none() {
                    self.second(scenario, index, fault, most_io)?;
                }
            }
            if scenario.steps.len() <= MOST_STEPS_FOR_MEMORY {
                self.refuse_memory(scenario, index, (*allocations).min(most_allocations))?;
            }
            if self.sut.restarts_slowly() {
                self.end_after(scenario, index)?;
            }
        }
        self.visited.scenarios += 1;
        Ok(())
    }

    /// Ends a process of its own right after it has answered a step: what it does then, no step of I/O tells.
    fn end_after(&mut self, scenario: &Scenario, index: usize) -> Result<(), Failure> {
        self.visited.singles += 1;
        let steps = &scenario.steps[..=index];
        let refill: Vec<Step> = refill(steps).collect();
        self.run(Scenario { steps: [steps, &[Step::Crash], &refill].concat() }).map(|_passes| ())
    }

    /// Refuses each of so many allocations of a step.
    fn refuse_memory(&mut self, scenario: &Scenario, index: usize, allocations: u32) -> Result<(), Failure> {
        for fault in refusals(allocations) {
            if !self.goes_on() {
                return Ok(());
            }
            self.visited.memory += 1;
            self.strike(scenario, index, &[fault])?;
        }
        Ok(())
    }

    /// Strikes once more, after a first fault in the same step, at each of so many steps of I/O.
    fn second(&mut self, scenario: &Scenario, index: usize, first: Fault, most: usize) -> Result<(), Failure> {
        let Some(counted) = self.dry_run(&struck(&scenario.steps, index, &[first]))? else { return Ok(()) };
        // The fault is a step of its own.
        let io = counted.get(index + 1).into_iter().flat_map(|counted| &counted.steps).copied();
        let later: Vec<IoStep> = io.filter(|step| step.step > first.step).take(most).collect();
        for second in faults_at(&later) {
            if !self.goes_on() {
                return Ok(());
            }
            self.visited.pairs += 1;
            self.strike(scenario, index, &[first, second])?;
        }
        Ok(())
    }

    /// What each step can be struck at; `None` where it fails as it is, which is reported.
    fn dry_run(&mut self, scenario: &Scenario) -> Result<Option<Vec<Counted>>, Failure> {
        self.campaign.count(true);
        let passes = self.run(scenario.clone());
        let counted = self.campaign.count(false);
        Ok(passes?.then_some(counted))
    }

    /// Runs the scenario up to a step that is struck, and looks at what is left. What an allocation left can be given back
    /// in two ways.
    fn strike(&mut self, scenario: &Scenario, index: usize, faults: &[Fault]) -> Result<(), Failure> {
        let mut struck = struck(&scenario.steps, index, faults).steps;
        let refill: Vec<Step> = refill(&struck).collect();
        // Who starts again after its end has been restarted.
        if !faults.iter().any(|fault| fault.kind.ends_the_process()) {
            if self.sut.resets_in_place() {
                // A restart would give back what the process has kept.
                self.run(Scenario { steps: [&struck[..], &refill].concat() })?;
            }
            struck.push(Step::Restart);
        }
        if let Step::Call(Operation::Allocate { owner, .. }) = &scenario.steps[index]
            && self.sut.contract().has(Method::ReleaseOwner)
        {
            let release = Step::Call(Operation::ReleaseOwner { owner: owner.clone() });
            self.run(Scenario { steps: [&struck[..], &[release], &refill].concat() })?;
        }
        self.run(Scenario { steps: [struck, refill].concat() }).map(|_passes| ())
    }

    /// Runs a scenario and reports what it breaks; says whether it passes.
    fn run(&mut self, scenario: Scenario) -> Result<bool, Failure> {
        if !self.goes_on() {
            return Ok(false);
        }
        let scenario = Arc::new(scenario);
        let started = Instant::now();
        let run = self.campaign.run(self.sut, &scenario)?;
        self.in_runs += started.elapsed();
        let Some(run) = run else {
            self.is_over = true;
            return Ok(false);
        };
        let is_late = run.is_late(self.sut.contract());
        let Some(finding) = run.finding else { return Ok(true) };
        if !self.options.counts(&self.campaign.report, finding.violation.property) {
            return Ok(false);
        }
        let seed = self.campaign.report.scenarios;
        let minimal = Minimal::of(Arc::unwrap_or_clone(scenario), finding, self.sut);
        let found = Found { minimal, seed, is_late };
        let reported = follow_up(self.sut, self.options, found, &mut self.campaign, &self.reporter)?;
        self.campaign.report.add(reported);
        self.is_over = !self.options.keep_going;
        Ok(false)
    }
}

/// The shortest scenario worth striking: a system whose calls take long gets no further in a short time.
fn shortest(contract: &Contract) -> Scenario {
    let family = if contract.families.contains(Family::V4) { Family::V4 } else { Family::V6 };
    let (prefix, gateway) = match family {
        Family::V4 => ("10.0.0.0/29", "10.0.0.1"),
        Family::V6 => ("fd00::/125", "fd00::1"),
    };
    let gateway = contract.limits.gateway_required.then(|| text(gateway));
    let shape = PoolShape { gateway, ..PoolShape::default() };
    let (pool, owner) = (text("p0"), text("a"));
    let requests = smallvec![Request { pool: pool.clone(), want: Want::Any }];
    let create = Operation::CreatePool { pool, prefix: text(prefix), shape };
    Scenario { steps: vec![Step::Call(create), Step::Call(Operation::Allocate { owner, requests, ttl_ms: None })] }
}

/// Is a step as many calls as it says?
fn has_many_calls(step: &Step) -> bool {
    matches!(step, Step::Fill { .. } | Step::Drain { .. })
}

/// What shows whether anything was lost or leaked after these steps: a restart, and every pool drained and filled.
pub(super) fn aftermath(steps: &[Step]) -> Vec<Step> {
    std::iter::once(Step::Restart).chain(refill(steps)).collect()
}

/// The steps up to one that is struck by faults.
fn struck(steps: &[Step], index: usize, faults: &[Fault]) -> Scenario {
    let faults = faults.iter().map(|fault| Step::Fault(*fault));
    Scenario { steps: steps[..index].iter().cloned().chain(faults).chain(steps.get(index).cloned()).collect() }
}

/// Every pool that these steps made, drained and filled.
fn refill(steps: &[Step]) -> impl Iterator<Item = Step> + use<> {
    pools(steps).into_iter().flat_map(|pool| {
        let fill = Step::Fill { pool: pool.clone(), owner: text("z"), count: MORE, ttl_ms: None };
        [Step::Drain { pool, count: MANY }, fill]
    })
}

/// The names of the pools that were made, each once.
fn pools(steps: &[Step]) -> Vec<Text> {
    let mut pools: Vec<Text> = steps.iter().filter_map(created).cloned().collect();
    pools.sort_unstable();
    pools.dedup();
    pools
}

/// Every fault at every one of these steps of I/O. What leaves the same behind as another is left out.
fn faults_at(io: &[IoStep]) -> impl Iterator<Item = Fault> {
    let last = io.len().saturating_sub(1);
    io.iter().enumerate().flat_map(move |(place, step)| {
        let (is_new, is_last) = (place == 0 || io[place - 1].io.changes(), place == last);
        kinds()
            .into_iter()
            .flat_map(move |kind| [Moment::Before, Moment::After].map(|moment| (kind, moment)))
            .filter(move |(kind, moment)| match (kind.ends_the_process(), moment) {
                (true, Moment::Before) => is_new,
                // Else it is the same as before the next step.
                (true, Moment::After) => is_last,
                (false, _) => true,
            })
            .filter(|(kind, moment)| step.can_be_struck(*kind, *moment))
            .map(|(kind, moment)| Fault { kind, moment, step: step.step, call: step.call })
    })
}

/// Each of so many allocations refused, alone, and some with all that come after it.
fn refusals(allocations: u32) -> impl Iterator<Item = Fault> {
    let fault = |kind| move |step| Fault { kind, step, moment: Moment::Before, call: None };
    let alone = (0..allocations).map(fault(FaultKind::NoMemoryOnce));
    let from_then_on = (0..allocations).step_by(MEMORY_PERIOD as usize).map(fault(FaultKind::NoMemory));
    alone.chain(from_then_on)
}

/// How many ends of the process are the same as one of those.
fn equal(io: &[IoStep]) -> u64 {
    let ends = |kind: &FaultKind| kind.ends_the_process();
    let at = |step: &IoStep| {
        let moments = [Moment::Before, Moment::After];
        let ways = move |kind| moments.into_iter().filter(move |moment| step.can_be_struck(kind, *moment)).count();
        kinds().into_iter().filter(ends).map(ways).sum::<usize>()
    };
    let all: usize = io.iter().map(at).sum();
    (all - faults_at(io).filter(|fault| ends(&fault.kind)).count()) as u64
}

fn kinds() -> Vec<FaultKind> {
    use FaultKind::{Busy, Error, Full, Interrupted, Kill, ShortRead};
    let plain = [Error, ShortRead, Full, Busy, Interrupted, Kill];
    let power = POWER_LOSSES.map(FaultKind::PowerLoss);
    let sync = SYNC_FAILURES.map(FaultKind::SyncFailure);
    plain.into_iter().chain(power).chain(sync).collect()
}
