//! One pass over a scenario: what each of its steps does.
//!
//! Operands are resolved, each call is sent, call and answer go to the model, and the first violation ends it. Steps that the
//! system's contract does not have, or whose operands do not resolve, are skipped and counted.

use std::thread::sleep;
use std::time::{Duration, Instant};

use smallvec::smallvec;

use super::feedback::Event;
use super::run::{Judged, Run, Runner, Stop, Watch, guarded};
use super::stopwatch::{Lap, Stopwatch};
use super::trace::{self, Trace};
use crate::address::{Family, parse_prefix};
use crate::contract::{Clock, Contract, Repeat};
use crate::fault::{Counted, Fault};
use crate::interrupt;
use crate::model::company::Seen;
use crate::operation::{Answer, Kind, Method, Operation, Refusal, Request, Response, Text, Want, Written};
use crate::property::{Property, Violation};
use crate::scenario::{GrantRef, Operand, Scenario, Step};
use crate::sut::{BUSY_PAUSE, BUSY_TRIES, Failure, Growth, Sut};

/// The longest a step may wait for real time to pass, in milliseconds.
const LONGEST_WAIT_MS: u64 = 2_000;

/// Owners' names are cut here before a number is added to them.
const LONGEST_NUMBERED_NAME: usize = 230;

/// One pass over a scenario.
pub(super) struct Pass<'a> {
    pub(super) runner: &'a mut Runner,
    pub(super) sut: &'a mut dyn Sut,
    pub(super) watch: &'a mut dyn Watch,
    pub(super) standing: &'a mut Standing,
}

/// How far a pass has come.
pub(super) struct Standing {
    pub(super) stopwatch: Stopwatch,
    /// Index of the step under way.
    pub(super) at: usize,
    pub(super) run: Run,
    /// What refused calls in a row leave behind.
    pub(super) growth: Option<Growth>,
    /// What goes wrong within the next step.
    pub(super) faults: Vec<Fault>,
    /// Are faults about to strike?
    pub(super) is_armed: bool,
    /// So many of them.
    pub(super) due: usize,
    /// What was counted of the step under way, up to when nothing could go wrong any more.
    pub(super) counted: Counted,
}

impl Standing {
    pub(super) fn start() -> Standing {
        Standing {
            stopwatch: Stopwatch::start(),
            at: 0,
            run: Run::default(),
            growth: None,
            faults: Vec::new(),
            is_armed: false,
            due: 0,
            counted: Counted::default(),
        }
    }
}

impl Pass<'_> {
    pub(super) fn whole(&mut self, scenario: &Scenario) -> Result<(), Stop> {
        self.steps(scenario)?;
        self.end(scenario)
    }

    pub(super) fn steps(&mut self, scenario: &Scenario) -> Result<(), Stop> {
        self.start()?;
        scenario.steps.iter().try_for_each(|step| self.next(step))
    }

    pub(super) fn start(&mut self) -> Result<(), Stop> {
        guarded(&self.runner.watchdog, || self.sut.reset())??;
        self.standing.run.at_start = self.sut.resources();
        Ok(())
    }

    /// The next step; after a violation nothing comes any more.
    pub(super) fn next(&mut self, step: &Step) -> Result<(), Stop> {
        self.standing.at = self.runner.traces.len();
        self.runner.traces.push(Trace::default());
        if self.runner.model.is_uncertain() {
            self.skip("what an earlier step left behind is not known");
            return Ok(());
        }
        if self.is_out_of_time() {
            self.skip("the scenario has lasted long enough");
            return Ok(());
        }
        if let Step::Fault(fault) = step {
            self.standing.faults.push(*fault);
            self.keep_counted();
            return Ok(());
        }
        self.arm()?;
        self.step(step)?;
        self.disarm();
        self.keep_counted();
        if self.sut.is_down() {
            // It answered, and then the fault struck.
            self.start_again(true)?;
            self.runner.model.coverage.crashes += 1;
        }
        Ok(())
    }

    /// After the last step.
    pub(super) fn end(&mut self, scenario: &Scenario) -> Result<(), Stop> {
        self.standing.at = scenario.steps.len();
        self.audit(scenario)?;
        guarded(&self.runner.watchdog, || self.sut.finish())??;
        self.audit_reset(scenario)
    }

    fn step(&mut self, step: &Step) -> Result<(), Stop> {
        match step {
            Step::Call(operation) => self.symbolic(operation),
            Step::AdvanceTo { lease, offset_ms } => self.advance_to(*lease, *offset_ms),
            Step::Fill { pool, owner, count, ttl_ms } => self.fill(pool, owner, *count, *ttl_ms),
            Step::Drain { pool, count } => self.drain(pool, *count),
            Step::Repeat { step } => self.repeat(*step),
            Step::Audit => self.look(Vec::new()),
            Step::Restart => self.start_again(false),
            Step::Crash => self.start_again(true),
            // A fault is kept for the step that follows; lanes are taken one after the other.
            Step::Fault(_) | Step::Turns(_) | Step::Lane | Step::Join => Ok(()),
        }
    }

    fn is_out_of_time(&self) -> bool {
        self.runner.limit.is_some_and(|limit| self.standing.stopwatch.elapsed() >= limit)
    }

    pub(super) fn skip(&mut self, why: &str) {
        self.standing.run.skipped += 1;
        self.watch.noted(self.standing.at, why);
    }

    fn symbolic(&mut self, operation: &Operation<Operand>) -> Result<(), Stop> {
        if let Operation::Advance { ms } = operation
            && self.contract_clock() == Clock::Wall
        {
            return self.wait(*ms);
        }
        if let Some(why) = self.outside_contract(operation) {
            self.skip(why);
            return Ok(());
        }
        let (model, traces) = (&self.runner.model, &self.runner.traces);
        match operation.resolve(|pool, operand| trace::write(model, traces, pool, operand)) {
            Some(call) => self.call_and_keep(call),
            None => {
                self.skip("an operand does not resolve");
                Ok(())
            }
        }
    }

    fn contract_clock(&self) -> Clock {
        self.runner.model.contract().clock
    }

    /// Why the system must not be asked this.
    fn outside_contract<A>(&self, operation: &Operation<A>) -> Option<&'static str> {
        outside(self.runner.model.contract(), operation)
    }

    /// Sends a call, judges it, and keeps what later steps may refer to.
    fn call_and_keep(&mut self, call: Operation) -> Result<(), Stop> {
        let response = self.call(&call)?;
        let trace = &mut self.runner.traces[self.standing.at];
        trace.sent = Some(call);
        if let Ok(answer) = response {
            trace.keep(answer);
        }
        Ok(())
    }

    /// A call of the scenario: judged, and watched for what it leaves behind when it is refused.
    fn call(&mut self, call: &Operation) -> Result<Response, Stop> {
        let response = self.judged(call)?;
        if !self.sut.resets_in_place() {
            self.watch_resources(call, response.is_err())?;
        }
        Ok(response)
    }

    /// Sends a call and judges the answer. One step may be very many calls, so each looks whether the
    /// user still wants it.
    fn judged(&mut self, call: &Operation) -> Result<Response, Stop> {
        if interrupt::requested() {
            return Err(Failure::Interrupted.into());
        }
        let is_wall = self.contract_clock() == Clock::Wall;
        let sent_ms = if is_wall { self.standing.stopwatch.elapsed_ms() } else { 0 };
        let strikes = self.strikes();
        let mut response = self.timed_call(call)?;
        if self.standing.is_armed
            && let Some(ended) = self.after_faults(call, &response, strikes)?
        {
            return Ok(ended);
        }
        for tries in 0..BUSY_TRIES {
            if !matches!(&response, Err(Refusal { kind: Kind::Busy, .. })) || interrupt::requested() {
                break;
            }
            // Whoever was in the way once is often gone at once, and always where that was but a fault.
            if tries > 0 {
                sleep(BUSY_PAUSE);
            }
            response = self.timed_call(call)?;
        }
        if is_wall {
            self.observe_wall_clock(sent_ms);
        }
        self.standing.run.operations += 1;
        let chooses = self.chooses(call);
        let judged = self.runner.model.judge(call, &response);
        let (allowed, violation) = (self.runner.model.allowed(), judged.as_ref().err());
        self.watch.answered(&Judged {
            step: self.standing.at,
            operation: call,
            response: &response,
            allowed,
            violation,
        });
        judged?;
        if let Some(feedback) = &mut self.runner.feedback {
            feedback.answered(&self.runner.model, call, &response);
        }
        if let Ok(answer) = &response {
            self.standing.run.accepted += 1;
            if chooses {
                self.note_choices(call, answer);
            }
        }
        Ok(response)
    }

    fn observe_wall_clock(&mut self, sent_ms: u64) {
        if self.standing.stopwatch.is_disturbed() {
            self.runner.model.lose_track();
        }
        self.runner.model.observe_wall_clock(sent_ms, self.standing.stopwatch.elapsed_ms());
    }

    fn timed_call(&mut self, call: &Operation) -> Result<Response, Stop> {
        if !self.runner.is_timing {
            return Ok(guarded(&self.runner.watchdog, || self.sut.call(call))??);
        }
        let (lap, started) = (self.runner.is_timing_exactly.then(Lap::start), Instant::now());
        let response = guarded(&self.runner.watchdog, || self.sut.call(call));
        let time = lap.map_or_else(|| started.elapsed(), |lap| lap.elapsed());
        self.standing.run.time_in_calls += time;
        self.standing.run.longest_call = self.standing.run.longest_call.max(time);
        Ok(response??)
    }

    /// Is what a call is granted chosen at random? What an owner is given once more is no choice.
    fn chooses(&self, call: &Operation) -> bool {
        let model = &self.runner.model;
        let Operation::Allocate { owner, requests, .. } = call else { return false };
        let may_repeat = || {
            model.contract().repeat == Repeat::Same && requests.iter().any(|request| model.holds(&request.pool, owner))
        };
        model.contract().unpredictable && !may_repeat()
    }

    /// Notes what a system that promises random choice chose, and among how many.
    fn note_choices(&mut self, call: &Operation, answer: &Answer) {
        let (Operation::Allocate { requests, .. }, Answer::Granted { grants, .. }) = (call, answer) else { return };
        let chosen = requests.iter().zip(grants).filter(|(request, _)| matches!(request.want, Want::Any));
        for (request, grant) in chosen {
            let Some(pool) = self.runner.model.pool(&request.pool) else { continue };
            // The model has recorded the grant already: it was free until then.
            let held = pool.allocated();
            let free = pool.layout.capacity.minus(held).saturated().saturating_add(1);
            let place = pool.layout.count_below(grant.span().first);
            self.standing.run.choices.note(*grant, place, free, held.saturated());
        }
    }

    fn advance_to(&mut self, lease: GrantRef, offset_ms: i64) -> Result<(), Stop> {
        let is_wall = self.contract_clock() == Clock::Wall;
        let now_ms = if is_wall { self.standing.stopwatch.elapsed_ms() } else { self.runner.model.now_ms() };
        let expiry = self.runner.traces.get(lease.step as usize).and_then(|trace| trace.expires_ms);
        let target = expiry.and_then(|told| self.runner.model.instant_of(told, offset_ms));
        match target.and_then(|target| target.checked_sub(now_ms)) {
            Some(ms) if is_wall && ms > LONGEST_WAIT_MS => self.skip("that lease ends too late to wait for it"),
            Some(ms) => return self.symbolic(&Operation::Advance { ms }),
            None => self.skip("that lease has no end, or it is past"),
        }
        Ok(())
    }

    /// Lets real time pass.
    fn wait(&mut self, ms: u64) -> Result<(), Stop> {
        let until = Instant::now() + Duration::from_millis(ms.min(LONGEST_WAIT_MS));
        while Instant::now() < until {
            if interrupt::requested() {
                return Err(Failure::Interrupted.into());
            }
            sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
        }
        self.runner.model.let_time_pass();
        self.watch.noted(self.standing.at, "real time passes");
        Ok(())
    }

    fn fill(&mut self, pool: &Text, owner: &Text, count: u32, ttl_ms: Option<u64>) -> Result<(), Stop> {
        if ttl_ms.is_some() && self.contract_clock() == Clock::None {
            self.skip("the system has no leases");
            return Ok(());
        }
        let one_each = self.runner.model.contract().repeat != Repeat::Another;
        for number in 0..count {
            let owner = if one_each { numbered(owner, number) } else { owner.clone() };
            let requests = smallvec![Request { pool: pool.clone(), want: Want::Any }];
            let call = Operation::Allocate { owner, requests, ttl_ms };
            match self.call(&call)? {
                Ok(answer) => self.runner.traces[self.standing.at].keep(answer),
                Err(_) => break,
            }
            if self.is_out_of_time() {
                break;
            }
        }
        Ok(())
    }

    fn drain(&mut self, pool: &Text, count: u32) -> Result<(), Stop> {
        let model = &self.runner.model;
        let held = model.pool(pool).into_iter().flat_map(|pool| pool.iter()).take(count as usize);
        let calls: Vec<Operation> = held
            .map(|held| {
                let (address, owner) = (Written::Plain(held.grant), Some(held.owner.clone()));
                Operation::Release { pool: pool.clone(), address, owner }
            })
            .collect();
        if !model.contract().has(Method::Release) {
            self.skip("the system does not have this method");
            return Ok(());
        }
        for call in &calls {
            let _answer = self.call(call)?;
            if self.is_out_of_time() {
                break;
            }
        }
        Ok(())
    }

    fn repeat(&mut self, step: u32) -> Result<(), Stop> {
        let old = self.runner.traces.get(step as usize).and_then(|trace| trace.sent.clone());
        let Some(call) = old else {
            self.skip("that step sent no call");
            return Ok(());
        };
        // The handle may be shared since.
        if let Some(why) = self.outside_contract(&call) {
            self.skip(why);
            return Ok(());
        }
        self.call_and_keep(call)
    }

    fn start_again(&mut self, crashed: bool) -> Result<(), Stop> {
        if !self.runner.model.contract().durable {
            self.skip("the system is not durable");
            return Ok(());
        }
        self.started_again(crashed)?;
        self.runner.model.restarted(crashed);
        self.runner.feedback.iter_mut().for_each(|feedback| feedback.happened(Event::Restart(!crashed)));
        self.watch.noted(self.standing.at, if crashed { "crashed and started again" } else { "restarted" });
        Ok(())
    }

    /// A last look at the whole state, where the system can show it: at the pools that there are, and at those that there
    /// once were, or never should have been.
    pub(super) fn audit(&mut self, scenario: &Scenario) -> Result<(), Stop> {
        if self.runner.model.is_uncertain() {
            return Ok(());
        }
        let steps = if self.is_audit_due() { scenario.steps.as_slice() } else { &[] };
        let mut gone: Vec<Text> = steps.iter().filter_map(created).cloned().collect();
        gone.retain(|name| self.runner.model.pool(name).is_none());
        gone.sort_unstable();
        gone.dedup();
        self.look(gone)
    }

    /// Lists everything, and asks for the usage of each pool and of these, which are none.
    fn look(&mut self, gone: Vec<Text>) -> Result<(), Stop> {
        let contract = self.runner.model.contract();
        let (has_list, has_usage) = (contract.has(Method::List), contract.has(Method::Usage));
        if has_list {
            let _listed = self.judged(&Operation::List { pool: None })?;
        }
        if has_usage {
            let pools: Vec<Text> = self.runner.model.pools().cloned().collect();
            pools.into_iter().chain(gone).try_for_each(|pool| self.judged(&Operation::Usage { pool }).map(|_| ()))?;
        }
        Ok(())
    }

    /// Shall it be looked at, too, whether what should be gone is gone?
    fn is_audit_due(&self) -> bool {
        self.runner.runs.is_multiple_of(self.runner.audit_period)
    }

    /// A reset leads back to the empty state, on disk as well.
    fn audit_reset(&mut self, scenario: &Scenario) -> Result<(), Stop> {
        let is_due = self.is_audit_due();
        let model = &mut self.runner.model;
        if !is_due || !model.contract().has(Method::List) || model.pools().next().is_none() {
            return Ok(());
        }
        let kept = self.runner.keeps_state.then(|| model.clone());
        model.reset();
        guarded(&self.runner.watchdog, || self.sut.reset())??;
        // Starts may be slow, so only scenarios that have them anyway get another one.
        if scenario.steps.iter().any(|step| matches!(step, Step::Restart | Step::Crash)) {
            self.start_again(true)?;
        }
        let listed = self.judged(&Operation::List { pool: None });
        if let Some(mut kept) = kept {
            std::mem::swap(&mut kept.coverage, &mut self.runner.model.coverage);
            self.runner.model = kept;
        }
        listed.map(|_| ()).map_err(|stop| match stop {
            Stop::Found(violation) => {
                Stop::Found(Violation::new(Property::Reconfigurable, format!("after a reset, {}", violation.message)))
            }
            failed => failed,
        })
    }
}

/// The name of the pool that a step makes, if it does.
pub(super) fn created(step: &Step) -> Option<&Text> {
    match step {
        Step::Call(Operation::CreatePool { pool, .. }) => Some(pool),
        _ => None,
    }
}

fn asks_a_pool_twice<A>(requests: &[Request<A>]) -> bool {
    let mut pools = Seen::new();
    !requests.iter().all(|request| pools.insert(&request.pool))
}

fn numbered(owner: &str, number: u32) -> Text {
    let cut = (0..=LONGEST_NUMBERED_NAME.min(owner.len())).rev().find(|at| owner.is_char_boundary(*at)).unwrap_or(0);
    format!("{}-{}", &owner[..cut], number + 1).into()
}

/// Why a system with this contract must not be asked this.
pub(super) fn outside<A>(contract: &Contract, operation: &Operation<A>) -> Option<&'static str> {
    let method = operation.method();
    if method == Method::Raw {
        return (!contract.limits.raw).then_some("the system has no wire for malformed lines");
    }
    if !contract.has(method) {
        return Some("the system does not have this method");
    }
    match operation {
        Operation::Allocate { ttl_ms: Some(_), .. } if contract.clock == Clock::None => {
            Some("the system has no leases")
        }
        Operation::Allocate { requests, .. } if requests.len() > 1 && !contract.limits.several_requests => {
            Some("the adapter has one request a call")
        }
        Operation::Allocate { requests, .. } if !contract.limits.pool_twice && asks_a_pool_twice(requests) => {
            Some("the adapter cannot ask one pool twice in a call")
        }
        Operation::CreatePool { prefix, .. } if !contract.families.is_both() => {
            let family = parse_prefix(prefix).map(|prefix| Family::of(prefix.network()));
            let unserved = family.is_some_and(|family| !contract.families.contains(family));
            unserved.then_some("the system does not serve this address family")
        }
        _ => None,
    }
}
