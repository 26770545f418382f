//! Lanes: callers that are at work at the same time, each with a handle of its own.
//!
//! The beginning of a scenario, up to the first lane, is run and judged like any. Then all lanes start at once. Every call is
//! recorded from its invocation to its return, up to the end of the scenario, where there is one caller again; what they saw
//! in all is a [history], and that is judged.
//!
//! Systems that [take turns](crate::turns) are interrupted where the scenario says, so that each run is the same. Of
//! others the machine decides which calls really meet, so a scenario is run several times.
//!
//! [history]: crate::history

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::Progress;
use super::check::{Engine, Options, run_drawn};
use super::examine::Examiner;
use super::feedback::Event;
use super::pass::outside;
use super::run::{Finding, Judged, Run, Runner, Stop, Watch, guarded};
use super::trace::{self, Trace};
use crate::contract::Contract;
use crate::generate::Lanes;
use crate::history::{self, Bounds, Broken, Call, Conflict, History, Judgement, Outcome, Recorded};
use crate::interrupt;
use crate::model::{Model, coverage};
use crate::operation::{
    Allocation, Answer, Kind, Method, Operation, Refusal, Request, Requests, Response, Text, Want, Written,
};
use crate::property::{Property, Violation};
use crate::report::Report;
use crate::report::human::ended;
use crate::scenario::{Operand, Scenario, Step};
use crate::sut::{BUSY_PAUSE, BUSY_TRIES, Failure, Scheduling, Sut};
use crate::turns::{self, Turns};

/// Runs a campaign of scenarios with lanes.
///
/// # Errors
///
/// When the system has one handle only, and what the harness itself could not do.
pub fn race(sut: &mut dyn Sut, options: &Options, progress: &mut dyn Progress) -> Result<Report, Failure> {
    let Engine::Race { lanes } = options.engine else {
        return Err(Failure::Unable("these options are another engine's".to_owned()));
    };
    sut.reset()?;
    let Some(handle) = sut.another()? else {
        let why = "it has one handle only; `race` is for memory, sqlite, and servers whose contract says `shared`";
        return Err(Failure::Unable(why.to_owned()));
    };
    let generator = Lanes::new(handle.contract(), lanes, sut.scheduling());
    drop(handle);
    let mut report = run_drawn(sut, options, progress, |seed| generator.scenario(seed))?;
    if report.scenarios == 0 {
        report.missing.push("a scenario".to_owned());
    } else if report.left_open.0 == report.scenarios {
        report.missing.push("a history that can be judged".to_owned());
    }
    report.settle();
    Ok(report)
}

/// In a campaign a scenario is run so often; looked at by itself, for so long and at least so often, but a slow system no
/// longer than that.
const RUNS_IN_CAMPAIGN: u32 = 4;
const TIME_ALONE: Duration = Duration::from_millis(300);
const FEWEST_ALONE: u32 = 20;
const LONGEST_ALONE: Duration = Duration::from_secs(2);

/// Scenarios are short, so there is little to search through.
const BOUNDS: Bounds = Bounds { states: 20_000, time: Duration::from_secs(2) };

/// The order in which lanes go on, where the scenario says it.
pub(super) fn turns_of(scenario: &Scenario) -> Option<&[turns::Caller]> {
    scenario.steps.iter().find_map(|step| match step {
        Step::Turns(order) => Some(order.as_slice()),
        _ => None,
    })
}

/// Is each run of this scenario the same?
pub(super) fn is_repeatable(sut: &dyn Sut, scenario: &Scenario) -> bool {
    match sut.scheduling() {
        Scheduling::Machine => false,
        Scheduling::Turns => true,
        Scheduling::Either => turns_of(scenario).is_some(),
    }
}

/// Where the parts of a scenario are.
struct Parts {
    beginning: Range<usize>,
    lanes: Vec<Range<usize>>,
    end: Range<usize>,
}

impl Parts {
    fn of(steps: &[Step]) -> Parts {
        let end = steps.iter().position(|step| *step == Step::Join).unwrap_or(steps.len());
        let starts: Vec<usize> = (0..end).filter(|index| steps[*index] == Step::Lane).collect();
        let stops = starts.iter().skip(1).copied().chain([end]);
        let lanes = starts.iter().zip(stops).map(|(start, stop)| start + 1..stop).collect();
        let beginning = 0..starts.first().copied().unwrap_or(end);
        Parts { beginning, lanes, end: (end + 1).min(steps.len())..steps.len() }
    }
}

/// Numbers events in the order in which they happen.
#[derive(Default)]
struct Clock {
    events: AtomicU64,
    /// Calls that came to something else than `busy`.
    done: AtomicU64,
}

impl Clock {
    fn tick(&self) -> u64 {
        self.events.fetch_add(1, Ordering::SeqCst)
    }
}

impl Examiner {
    /// Runs a scenario with lanes until something is found, or often enough; nothing where there is only one handle.
    pub(super) fn race(&mut self, sut: &mut dyn Sut, scenario: &Scenario) -> Result<Option<Run>, Failure> {
        let started = Instant::now();
        let (mut number, mut operations, mut left_open) = (0, 0, None);
        loop {
            let Some(mut run) = self.runner.race(sut, scenario)? else { return Ok(None) };
            number += 1;
            operations += run.operations;
            run.operations = operations;
            left_open = run.left_open.take().or(left_open);
            run.left_open.clone_from(&left_open);
            let is_enough = is_repeatable(sut, scenario)
                || match self.is_sparing() {
                    true => number >= RUNS_IN_CAMPAIGN,
                    false => {
                        let time = started.elapsed();
                        time >= LONGEST_ALONE || (number >= FEWEST_ALONE && time >= TIME_ALONE)
                    }
                };
            if is_enough || run.finding.is_some() || interrupt::requested() {
                return Ok(Some(run));
            }
        }
    }
}

impl Runner {
    /// Runs a scenario with lanes once; nothing where there is only one handle.
    fn race(&mut self, sut: &mut dyn Sut, scenario: &Scenario) -> Result<Option<Run>, Failure> {
        let parts = Parts::of(&scenario.steps);
        if parts.lanes.len() > usize::from(turns::Caller::MAX) {
            return Ok(None);
        }
        let clock = Clock::default();
        let mut alone = Alone { clock: &clock, calls: Vec::new() };
        let beginning = Scenario { steps: scenario.steps[parts.beginning.clone()].to_vec() };
        let mut run = self.play(sut, &beginning, &mut alone)?;
        if run.finding.is_some() {
            return Ok(Some(run));
        }
        if self.model.in_transaction() {
            // It would keep all others waiting.
            return Ok(None);
        }
        if self.model.is_uncertain() {
            run.left_open = Some("what the beginning left behind is not known".to_owned());
            return Ok(Some(run));
        }
        let mut calls = alone.calls;
        let counted = calls.len();
        if let Some(watchdog) = &self.watchdog {
            watchdog.begin(Arc::new(scenario.clone()));
        }
        let mut handles = Vec::new();
        for _ in &parts.lanes {
            match sut.another()? {
                Some(handle) => handles.push(handle),
                None => return Ok(None),
            }
        }
        self.traces.resize_with(scenario.steps.len(), Trace::default);
        // Who shares a handle shares it to the end.
        let contract = handles.first().map_or(sut.contract(), |handle| handle.contract()).clone();
        // What the beginning led to is known; its calls alone would not tell of faults and restarts.
        let beginning = self.model.clone();
        let found = match self.at_once(handles, scenario, &parts, &clock, &mut calls) {
            Ok(skipped) => {
                run.skipped += skipped;
                self.afterwards(sut, &contract, scenario, &parts, &clock, &mut calls)
            }
            stopped => stopped,
        };
        (run.operations, run.is_race) = (calls.len() as u64, true);
        self.count(&calls[counted..]);
        let step = scenario.steps.len();
        run.finding = match found {
            Err(Stop::Failed(failure)) => return Err(failure),
            Err(Stop::Found(violation)) => Some(Finding::new(step, violation)),
            Ok(skipped) => {
                run.skipped += skipped;
                let history = History::new(calls);
                match history::judge_after(&history, counted, &beginning, BOUNDS) {
                    Judgement::Linearizable { .. } => None,
                    Judgement::Unknown { why } => {
                        run.left_open = Some(why);
                        None
                    }
                    Judgement::Violated(conflict) => Some(self.found(step, history, conflict)),
                }
            }
        };
        Ok(Some(run))
    }

    /// Counts calls that were made beside others.
    fn count(&mut self, calls: &[Recorded]) {
        for Recorded { operation, outcome, .. } in calls {
            if let Outcome::Answered(response) = outcome {
                let (method, outcome) = (operation.method(), coverage::Outcome::of(response));
                self.model.coverage.count_call(method, outcome);
                self.feedback.iter_mut().for_each(|feedback| feedback.happened(Event::Call(method, outcome)));
            }
        }
    }

    /// What callers at the same time saw has no order.
    fn found(&self, step: usize, history: History, conflict: Conflict) -> Finding {
        let broken = Broken { history, conflict, contract: self.model.contract().clone() };
        let violation = Violation::new(Property::Linearizable, told(&broken));
        Finding { step, violation, broken: Some(Box::new(broken)) }
    }

    /// All lanes, each in a thread; says how many steps were passed over.
    fn at_once(
        &mut self,
        handles: Vec<Box<dyn Sut + Send>>,
        scenario: &Scenario,
        parts: &Parts,
        clock: &Clock,
        calls: &mut Vec<Recorded>,
    ) -> Result<u64, Stop> {
        // Without an order one caller comes after the other, where they take turns.
        let takes_turns = handles.iter().all(|handle| is_repeatable(handle.as_ref(), scenario));
        let turns = takes_turns.then(|| Turns::new(handles.len(), turns_of(scenario).unwrap_or_default().to_vec()));
        let barrier = Barrier::new(handles.len());
        let (model, traces) = (&self.model, &self.traces);
        let lane = |number: usize, mut handle: Box<dyn Sut + Send>, steps: Range<usize>| {
            let process = Text::from(format!("lane {}", number + 1));
            let contract = handle.contract().clone();
            let mut caller = Caller {
                process,
                contract: &contract,
                clock,
                model,
                traces: traces.clone(),
                calls: Vec::new(),
                skipped: 0,
            };
            let _turn = turns.as_ref().map(|turns| turns.enter(number as u8));
            if turns.is_none() {
                barrier.wait();
            }
            let done = steps.clone().try_for_each(|index| caller.step(handle.as_mut(), index, &scenario.steps[index]));
            // Undoes a transaction that is still open, and may be interrupted at that.
            drop(handle);
            (steps, caller.traces, caller.calls, done.map(|()| caller.skipped))
        };
        let lanes = guarded(&self.watchdog, || {
            thread::scope(|scope| {
                let numbered = handles.into_iter().zip(&parts.lanes).enumerate();
                let lane = &lane;
                let started: Vec<_> = numbered
                    .map(|(number, (handle, steps))| scope.spawn(move || lane(number, handle, steps.clone())))
                    .collect();
                started.into_iter().map(|lane| lane.join()).collect::<Vec<_>>()
            })
        })?;
        self.places = turns.map(|turns| turns.places()).unwrap_or_default();
        let mut done = Ok(0);
        for lane in lanes {
            // Panics of the system are caught where they happen.
            let (steps, traces, seen, ended) = lane.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.traces[steps.clone()].clone_from_slice(&traces[steps]);
            calls.extend(seen);
            done = done.and_then(|before| Ok(before + ended?));
        }
        done
    }

    /// What comes after all lanes; says how many steps were passed over.
    fn afterwards(
        &mut self,
        sut: &mut dyn Sut,
        contract: &Contract,
        scenario: &Scenario,
        parts: &Parts,
        clock: &Clock,
        calls: &mut Vec<Recorded>,
    ) -> Result<u64, Stop> {
        let process = Text::from("one caller");
        let (model, traces) = (&self.model, self.traces.clone());
        let mut caller = Caller { process, contract, clock, model, traces, calls: Vec::new(), skipped: 0 };
        let watchdog = &self.watchdog;
        let done = guarded(watchdog, || {
            parts.end.clone().try_for_each(|index| caller.step(sut, index, &scenario.steps[index]))
        })?;
        calls.extend(caller.calls);
        done.map(|()| caller.skipped)
    }
}

/// The reason, and the calls that cannot be ordered.
fn told(Broken { history, conflict, .. }: &Broken) -> String {
    let call = |call: &Call| {
        let Recorded { process, operation, invoked, returned, outcome } = &call.recorded;
        let outcome = ended(outcome);
        let returned = returned.map_or("?".to_owned(), |returned| returned.to_string());
        format!("{process}, {invoked}-{returned}: {operation}: {outcome}")
    };
    let calls: Vec<String> = conflict.core.iter().filter_map(|index| history.calls().get(*index)).map(call).collect();
    format!("{}: {}", conflict.why, calls.join("; "))
}

/// Records the calls of one caller alone.
struct Alone<'a> {
    clock: &'a Clock,
    calls: Vec<Recorded>,
}

impl Watch for Alone<'_> {
    fn answered(&mut self, call: &Judged<'_>) {
        self.calls.push(Recorded {
            process: Text::from("one caller"),
            operation: call.operation.clone(),
            invoked: self.clock.tick(),
            returned: Some(self.clock.tick()),
            outcome: match call.response {
                Err(Refusal { kind: Kind::UnknownOutcome, .. }) => Outcome::Unknown,
                known => Outcome::Answered(known.clone()),
            },
        });
    }
}

/// A caller, and what it has seen.
struct Caller<'a> {
    process: Text,
    /// What its handle can do.
    contract: &'a Contract,
    clock: &'a Clock,
    /// For pools as they were at the beginning.
    model: &'a Model,
    traces: Vec<Trace>,
    calls: Vec<Recorded>,
    /// Steps that were passed over.
    skipped: u64,
}

impl Caller<'_> {
    /// Takes a step; what cannot be done here is passed over, and counted.
    fn step(&mut self, sut: &mut dyn Sut, index: usize, step: &Step) -> Result<(), Stop> {
        match step {
            Step::Call(operation) => {
                let (model, traces) = (self.model, &self.traces);
                let resolved = operation.resolve(|pool, operand: &Operand| trace::write(model, traces, pool, operand));
                self.send(sut, index, resolved)
            }
            // It may have been sent before this caller came, by one who could do more.
            Step::Repeat { step } => {
                let sent = self.traces.get(*step as usize).and_then(|trace| trace.sent.clone());
                self.send(sut, index, sent)
            }
            Step::Fill { pool, owner, count, .. } => self.fill(sut, index, pool, owner, *count),
            Step::Drain { pool, count } => self.drain(sut, pool, *count),
            // What others do meanwhile is in what it sees.
            Step::Audit if self.contract.has(Method::List) => {
                self.call(sut, &Operation::List { pool: None }).map(|_| ())
            }
            Step::Turns(_) | Step::Lane | Step::Join => Ok(()),
            // Nobody can start a system again, or disturb it, while others are at work; and whose lease it is nobody knows.
            Step::Audit | Step::AdvanceTo { .. } | Step::Restart | Step::Crash | Step::Fault(_) => self.skip(),
        }
    }

    /// Makes a call, if there is one and this caller has it.
    fn send(&mut self, sut: &mut dyn Sut, index: usize, call: Option<Operation>) -> Result<(), Stop> {
        match call.filter(|call| outside(self.contract, call).is_none()) {
            Some(call) => self.keep(sut, index, call).map(|_| ()),
            None => self.skip(),
        }
    }

    fn skip(&mut self) -> Result<(), Stop> {
        self.skipped += 1;
        Ok(())
    }

    /// Makes a call and keeps what later steps may refer to.
    fn keep(&mut self, sut: &mut dyn Sut, index: usize, call: Operation) -> Result<bool, Stop> {
        let response = self.call(sut, &call)?;
        let trace = &mut self.traces[index];
        trace.sent = Some(call);
        let is_done = response.is_ok();
        response.into_iter().for_each(|answer| trace.keep(answer));
        Ok(is_done)
    }

    fn fill(&mut self, sut: &mut dyn Sut, index: usize, pool: &Text, owner: &Text, count: u32) -> Result<(), Stop> {
        for _ in 0..count {
            let requests = Requests::from_iter([Request { pool: pool.clone(), want: Want::Any }]);
            let call = Operation::Allocate { owner: owner.clone(), requests, ttl_ms: None };
            if !self.keep(sut, index, call)? {
                break;
            }
        }
        Ok(())
    }

    /// Gives back what is listed.
    fn drain(&mut self, sut: &mut dyn Sut, pool: &Text, count: u32) -> Result<(), Stop> {
        let contract = self.model.contract();
        if !contract.has(Method::List) || !contract.has(Method::Release) {
            return Ok(());
        }
        let Ok(Answer::Listed(held)) = self.call(sut, &Operation::List { pool: Some(pool.clone()) })? else {
            return Ok(());
        };
        for Allocation { pool, address, owner, .. } in held.into_iter().take(count as usize) {
            let release = Operation::Release { pool, address: Written::Plain(address), owner: Some(owner) };
            let _recorded = self.call(sut, &release)?;
        }
        Ok(())
    }

    /// Makes a call, again while the system is busy, and records it.
    fn call(&mut self, sut: &mut dyn Sut, operation: &Operation) -> Result<Response, Stop> {
        if interrupt::requested() {
            return Err(Failure::Interrupted.into());
        }
        let mut patience = Patience::of(self.clock);
        loop {
            turns::pass();
            let invoked = self.clock.tick();
            let response = guarded(&None, || sut.call(operation))??;
            let returned = Some(self.clock.tick());
            if let Err(Refusal { kind: kind @ (Kind::Storage | Kind::UnknownOutcome), .. }) = &response {
                let message = format!("`{operation}` was refused as `{kind}`, and nothing has failed");
                return Err(Violation::new(Property::Classified, message).into());
            }
            let (process, operation) = (self.process.clone(), operation.clone());
            let outcome = Outcome::Answered(response.clone());
            self.calls.push(Recorded { process, operation, invoked, returned, outcome });
            if !matches!(&response, Err(Refusal { kind: Kind::Busy, .. })) {
                self.clock.done.fetch_add(1, Ordering::SeqCst);
                return Ok(response);
            }
            if !patience.is_left(self.clock) {
                let message = "it is busy for ever: none of the callers gets anything done";
                return Err(Violation::new(Property::Tidy, message).into());
            }
            if !turns::wait_for_others() {
                sleep(BUSY_PAUSE);
            }
        }
    }
}

/// How long a caller waits who is told that the system is busy: as long as others get something done, and a while longer.
struct Patience {
    tries: u32,
    done: u64,
}

impl Patience {
    fn of(clock: &Clock) -> Patience {
        Patience { tries: 0, done: clock.done.load(Ordering::SeqCst) }
    }

    fn is_left(&mut self, clock: &Clock) -> bool {
        let now = Patience::of(clock);
        if now.done != self.done {
            *self = now;
        }
        self.tries += 1;
        // Where turns are taken, a call of another's may be interrupted many times.
        self.tries <= if turns::are_taken() { BUSY_TRIES * BUSY_TRIES } else { BUSY_TRIES }
    }
}
