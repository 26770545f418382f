//! `race` on given scenarios: every schedule of their lanes, those with fewer interruptions first.
//!
//! Wherever a caller can be interrupted, somebody goes on; a schedule says who. The number of schedules grows exponentially
//! with the length of the lanes, but that of those in which a caller who could go on is interrupted at most a few times is a
//! polynomial, and most defects need no more: Musuvathi and Qadeer, *Iterative Context Bounding for Systematic Testing of
//! Multithreaded Programs*, 2007. Who goes on where a caller waits for others is no choice, and nor is it taken for one.
//!
//! A schedule is the `turns` of the scenario, so what is found is replayed and made small like anything else.

use std::sync::Arc;

use super::Progress;
use super::campaign::Campaign;
use super::check::{Budget, Found, Options, follow_up, on_hang};
use super::examine::Examiner;
use super::minimise::Minimal;
use super::race::turns_of;
use crate::interrupt;
use crate::report::Report;
use crate::scenario::{Scenario, Step};
use crate::sut::{Failure, Scheduling, Sut};
use crate::turns::{Caller, Place};

/// Which schedules were tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Scenarios with lanes whose schedules were tried.
    pub scenarios: u64,
    /// Their schedules.
    pub schedules: u64,
    /// Those of up to so many interruptions were to be tried.
    pub interruptions: u32,
    /// Were these all there are, however many interruptions?
    pub is_all: bool,
}

/// Tries every schedule of each of these scenarios that interrupts callers at most so often; the turns that it
/// has itself are not followed. Scenarios without lanes are passed over.
///
/// # Errors
///
/// When it is the machine that decides which calls meet, and what the harness itself could not do.
pub fn enumerate(
    sut: &mut dyn Sut,
    given: &[Scenario],
    interruptions: u32,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Report, Failure> {
    if sut.scheduling() == Scheduling::Machine {
        let why = "here the machine decides which calls meet, so that schedules cannot be tried one by one; `replay` runs a \
                   scenario again and again";
        return Err(Failure::Unable(why.to_owned()));
    }
    let reporter = progress.hang_reporter();
    let examiner = Examiner::sparing(sut).trusting_resets().watched(sut, on_hang(options, &reporter))?;
    let campaign = Campaign::new(Report::new(&options.sut, None).on(sut), examiner, progress);
    let tried = Tried { scenarios: 0, schedules: 0, interruptions, is_all: true };
    let mut schedules = Schedules { sut, options, campaign, reporter, tried, is_over: false };
    for scenario in given.iter().filter(|scenario| scenario.has_lanes()) {
        schedules.all_of(scenario)?;
    }
    let has_lanes = given.iter().any(Scenario::has_lanes);
    let is_cut_short = has_lanes && !schedules.goes_on() && schedules.campaign.report.violations.is_empty();
    let Schedules { campaign, tried, .. } = schedules;
    let mut report = campaign.end();
    report.tried = Some(tried);
    if is_cut_short {
        report.missing.push("the rest of the schedules".to_owned());
    }
    if !has_lanes {
        report.missing.push("a scenario with lanes".to_owned());
    }
    report.settle();
    Ok(report)
}

/// A schedule that is to be tried: as one that was tried up to a place, and then another caller.
struct Branch {
    as_before: Arc<[Caller]>,
    until: usize,
    then: Option<Caller>,
}

impl Branch {
    /// Where nobody is interrupted.
    fn root() -> Branch {
        Branch { as_before: Arc::default(), until: 0, then: None }
    }

    fn turns(&self) -> Vec<Caller> {
        self.as_before[..self.until].iter().copied().chain(self.then).collect()
    }
}

/// A campaign under way.
struct Schedules<'a> {
    sut: &'a mut dyn Sut,
    options: &'a Options,
    campaign: Campaign<'a>,
    reporter: super::HangReporter,
    tried: Tried,
    /// Is what was found enough, or the user's patience at its end?
    is_over: bool,
}

impl Schedules<'_> {
    fn goes_on(&self) -> bool {
        let is_left = match self.options.budget {
            Budget::Time(time) => self.campaign.elapsed() < time,
            Budget::Runs(runs) | Budget::Executions(runs) => self.campaign.report.scenarios < runs,
        };
        is_left && !self.is_over && !interrupt::requested()
    }

    fn all_of(&mut self, scenario: &Scenario) -> Result<(), Failure> {
        self.tried.scenarios += 1;
        let scenario = with_turns(scenario);
        // Those that are left with the number of interruptions that it is about, and those with one more.
        let (mut left, mut more) = (vec![Branch::root()], Vec::new());
        for interruptions in 0..=self.tried.interruptions {
            while let Some(branch) = left.pop() {
                if !self.goes_on() {
                    self.tried.is_all = false;
                    return Ok(());
                }
                let turns = branch.turns();
                let places = self.run(&scenario, &turns)?;
                branches(&places, turns.len(), &mut left, &mut more);
                if interruptions == self.tried.interruptions {
                    self.tried.is_all &= more.is_empty();
                    more.clear();
                }
            }
            left.append(&mut more);
        }
        Ok(())
    }

    /// Runs a schedule and reports what it breaks; gives the places where callers could have been interrupted.
    fn run(&mut self, scenario: &Scenario, turns: &[Caller]) -> Result<Vec<Place>, Failure> {
        let mut scheduled = scenario.clone();
        for step in &mut scheduled.steps {
            if let Step::Turns(order) = step {
                *order = turns.to_vec();
            }
        }
        let scheduled = Arc::new(scheduled);
        self.tried.schedules += 1;
        let Some(run) = self.campaign.run(self.sut, &scheduled)? else {
            self.is_over = true;
            return Ok(Vec::new());
        };
        let places = self.campaign.places();
        let is_late = run.is_late(self.sut.contract());
        let Some(finding) = run.finding else { return Ok(places) };
        if !self.options.counts(&self.campaign.report, finding.violation.property) {
            return Ok(places);
        }
        let minimal = Minimal::of(Arc::unwrap_or_clone(scheduled), finding, self.sut);
        let found = Found { minimal, seed: self.campaign.report.scenarios, is_late };
        let reported = follow_up(self.sut, self.options, found, &mut self.campaign, &self.reporter)?;
        self.campaign.report.add(reported);
        self.is_over = !self.options.keep_going;
        Ok(places)
    }
}

/// The scenario with turns in it, which say nothing yet if it had none.
fn with_turns(scenario: &Scenario) -> Scenario {
    let Some(first) = scenario.steps.iter().position(|step| *step == Step::Lane) else { return scenario.clone() };
    if turns_of(scenario).is_some() {
        return scenario.clone();
    }
    let last = scenario.steps.len();
    let order: Vec<usize> = (0..first).chain([last]).chain(first..last).collect();
    scenario.followed_by(&Step::Turns(Vec::new())).in_order(&order)
}

/// The schedules that differ from one that was tried, first of all in what comes after its given turns. Who takes the place
/// of a caller that could go on has interrupted it.
fn branches(places: &[Place], given: usize, left: &mut Vec<Branch>, more: &mut Vec<Branch>) {
    let taken: Arc<[Caller]> = places.iter().map(|place| place.chosen).collect();
    for (until, place) in places.iter().enumerate().skip(given) {
        let into = if place.running.is_some() { &mut *more } else { &mut *left };
        let others = place.others.iter().copied();
        into.extend(others.map(|other| Branch { as_before: taken.clone(), until, then: Some(other) }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two callers that can be interrupted in the middle, twice: all six orders of their four halves, each once.
    #[test]
    fn every_schedule_is_tried_once() {
        let run = |given: &[Caller]| {
            let mut left = [2, 2];
            let (mut running, mut places, mut next) = (None, Vec::new(), 0);
            while left != [0, 0] {
                let present: Vec<Caller> = (0..2).filter(|caller| left[usize::from(*caller)] > 0).collect();
                running = running.filter(|caller| present.contains(caller));
                let chosen = given.get(next).copied().or(running).unwrap_or(present[0]);
                let others = present.into_iter().filter(|caller| *caller != chosen).collect();
                places.push(Place { running, chosen, others });
                left[usize::from(chosen)] -= 1;
                (running, next) = (Some(chosen), next + 1);
            }
            places
        };
        let (mut left, mut seen) = (vec![Branch::root()], Vec::new());
        while let Some(branch) = left.pop() {
            let places = run(&branch.turns());
            let mut more = Vec::new();
            branches(&places, branch.turns().len(), &mut left, &mut more);
            left.append(&mut more);
            seen.push(places.iter().map(|place| place.chosen).collect::<Vec<_>>());
        }
        seen.sort();
        let expected = [[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 1, 0], [1, 1, 0, 0]];
        assert_eq!(seen, expected);
    }
}
