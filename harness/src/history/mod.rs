//! Histories of concurrent callers: who called what when, and what came of it. Is there a sequential order that explains it?
//!
//! A history is *linearizable* when every call can be given an instant between its invocation and its return so that the
//! calls, in the order of their instants, are answered as one caller after another would have been answered: Herlihy and
//! Wing, *Linearizability: A Correctness Condition for Concurrent Objects*, 1990. What the model allows in sequence
//! ([`Model`]) is what decides that.
//!
//! To look for such an order among all of them takes time that grows with their number. An allocator's calls tell more than
//! those of other objects: a grant names its address. So nearly all of a history falls apart into one short story an address,
//! whose order is no choice at all; see `chain` for those, `local` for what they have in common. What they propose is
//! given to the model, call by call, before it is believed. What falls apart in no such way is searched, within
//! bounds; beyond them the answer is *unknown*.
//!
//! | module | holds |
//! |---|---|
//! | this one | histories, and what judging one comes to |
//! | [`lines`], `unique` | histories as JSON lines, whose objects have each field once |
//! | `local` | sorts calls by what they touch, and puts the stories together again |
//! | `chain`, `stories` | the story of one address, and all of them where it has several |
//! | `search` | the search through orders, for what is left |
//! | `units` | calls that take effect together: transactions |
//! | `effects` | what calls of unknown outcome may have done |
//! | `relation` | which calls have to do with one that cannot be explained |

mod chain;
mod effects;
pub mod lines;
mod local;
mod relation;
mod search;
mod stories;
mod unique;
mod units;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::contract::{Clock, Contract};
use crate::interrupt;
use crate::model::Model;
use crate::operation::{Kind, Operation, Refusal, Response, Text};

/// A place among the invocations and returns of a history, in the order of their time: the first has number 1.
pub type Event = u64;

/// So many calls are shown with a violation at most.
const MOST_SHOWN: usize = 12;

/// Why nothing is said after an answer that leaves open what it has done.
const LOST: &str = "an answer leaves open what is held, and whatever comes after it could be right";

/// After every event: what never returned does so then.
const NEVER: Event = Event::MAX;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a result or a refusal.
    Answered(Response),
    /// Nobody knows: it may have happened, may happen later, or never.
    Unknown,
}

/// A call as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Who called.
    pub process: Text,
    /// What was called.
    pub operation: Operation,
    /// When, in any unit.
    pub invoked: u64,
    /// When it ended, in the same unit, not before; a call whose outcome is unknown need not end.
    pub returned: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// A call of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// As it was recorded.
    pub recorded: Recorded,
    /// Its invocation.
    pub invoked: Event,
    /// Its return; after all others where the outcome is unknown: until then it may take effect.
    pub returned: Event,
}

/// Calls in the order of their invocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    calls: Vec<Call>,
    /// Where a caller's call begins at the very time at which its last one ended, and others do something at that time, too:
    /// invocations and returns of all calls as they are when nothing is known of the order of events at such a time.
    loose: Vec<(Event, Event)>,
}

/// Its time, what comes before what at that time, whether it is a return, and the call.
type Timed = (u64, u64, bool, usize);

/// The numbers of the invocation and the return of each call.
fn numbered(mut events: Vec<Timed>) -> Vec<(Event, Event)> {
    events.sort_unstable();
    let calls = events.iter().filter(|(.., is_return, _)| !is_return).count();
    let mut numbers = vec![(0, NEVER); calls];
    for ((.., is_return, index), event) in events.into_iter().zip(1..) {
        let (invoked, returned) = &mut numbers[index];
        *if is_return { returned } else { invoked } = event;
    }
    numbers
}

/// The events with nothing known of the order of those of several callers at the same time; nothing where all is known.
fn loosened(mut events: Vec<Timed>, recorded: &[Recorded]) -> Option<Vec<Timed>> {
    events.sort_unstable();
    let mut is_loose = false;
    for same in events.chunk_by_mut(|one, next| one.0 == next.0) {
        let process = |(.., index): &Timed| &recorded[*index].process;
        let is_of_one = same.iter().all(|event| process(event) == process(&same[0]));
        let has_tie = same.iter().any(|(_, level, is_return, _)| !is_return && *level > 0);
        if has_tie && !is_of_one {
            is_loose = true;
            same.iter_mut().for_each(|(_, level, is_return, _)| *level = u64::from(*is_return));
        }
    }
    is_loose.then_some(events)
}

impl History {
    /// A history of these calls; those of one caller in its order. Where an invocation and a return have the same time,
    /// nobody knows which came first: the calls overlap, if they are not the same caller's.
    pub fn new(recorded: Vec<Recorded>) -> History {
        // Of events at the same time, a return comes after invocations, and what a caller does next after its return.
        let mut last: HashMap<Text, (u64, u64)> = HashMap::new();
        let mut events: Vec<Timed> = Vec::with_capacity(2 * recorded.len());
        for (index, call) in recorded.iter().enumerate() {
            let before = last.get(&call.process).filter(|(time, _)| *time == call.invoked);
            let level = before.map_or(0, |(_, level)| level + 1);
            events.push((call.invoked, level, false, index));
            if let (Outcome::Answered(_), Some(returned)) = (&call.outcome, call.returned) {
                let returned = returned.max(call.invoked);
                let level = if returned == call.invoked { level + 1 } else { 1 };
                events.push((returned, level, true, index));
                last.insert(call.process.clone(), (returned, level));
            }
        }
        let has_ties = events.iter().any(|(_, level, is_return, _)| !is_return && *level > 0);
        let loose = if has_ties { loosened(events.clone(), &recorded).map(numbered) } else { None };
        let numbers = numbered(events);
        let new = |(index, recorded): (usize, Recorded)| {
            let (invoked, returned) = numbers[index];
            (index, Call { recorded, invoked, returned })
        };
        let mut calls: Vec<(usize, Call)> = recorded.into_iter().enumerate().map(new).collect();
        calls.sort_unstable_by_key(|(_, call)| call.invoked);
        let loose = loose.map(|loose| calls.iter().map(|(index, _)| loose[*index]).collect()).unwrap_or_default();
        History { calls: calls.into_iter().map(|(_, call)| call).collect(), loose }
    }

    /// The calls, in the order of their invocations.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }
}

/// How far a search may go.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// So many states in which the system may be at once, at most.
    pub states: usize,
    /// So long at most.
    pub time: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { states: 100_000, time: Duration::from_secs(20) }
    }
}

/// When judging must end. It also does when the user wants it to.
#[derive(Clone, Copy, Debug)]
struct Deadline(Option<Instant>);

impl Deadline {
    fn after(time: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(time))
    }

    fn is_over(self) -> bool {
        interrupt::requested() || self.0.is_some_and(|end| Instant::now() >= end)
    }

    /// Why judging ended.
    fn why(self) -> &'static str {
        if interrupt::requested() { "judging was interrupted" } else { "the search takes too long" }
    }
}

/// What judging a history comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// There is an order that explains it: these calls, one after the other. Those of unknown outcome that are not there
    /// did not happen; neither did those that were refused because of trouble elsewhere.
    Linearizable {
        /// Places in [`History::calls`].
        order: Vec<usize>,
    },
    /// There is none.
    Violated(Conflict),
    /// It is not known.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// Why there is no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The calls that cannot be ordered: places in [`History::calls`], ascending.
    pub core: Vec<usize>,
    /// The reason, in a sentence.
    pub why: String,
}

impl Conflict {
    /// The same with one more call that belongs to it.
    fn with(mut self, call: Option<usize>) -> Conflict {
        if let (Some(call), true) = (call, self.core.len() < MOST_SHOWN)
            && let Err(place) = self.core.binary_search(&call)
        {
            self.core.insert(place, call);
        }
        self
    }
}

/// A history that no order explains, and why none does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The history.
    pub history: History,
    /// Why.
    pub conflict: Conflict,
    /// What the system promises.
    pub contract: Contract,
}

/// Judges a history of a system with this contract that was empty at first. Takes n log n where the history falls apart into
/// stories of single addresses; otherwise as much as the bounds allow.
pub fn judge(history: &History, contract: &Contract, bounds: Bounds) -> Judgement {
    judge_after(history, 0, &Model::new(contract.clone()), bounds)
}

/// The same, but the first calls are known to have been right and to have led to this state, outside of any transaction.
pub(crate) fn judge_after(history: &History, from: usize, model: &Model, bounds: Bounds) -> Judgement {
    let deadline = Deadline::after(bounds.time);
    let judgement = judge_ordered(history.calls(), from, model, bounds, deadline);
    if history.loose.is_empty() || !matches!(judgement, Judgement::Violated(_)) {
        return judgement;
    }
    // More orders may be possible than were looked at. Those that are too many are no excuse, if none of them will do.
    let loose = history.calls().iter().zip(&history.loose).enumerate();
    let mut calls: Vec<(usize, Call)> = loose
        .map(|(place, (call, (invoked, returned)))| {
            (place, Call { recorded: call.recorded.clone(), invoked: *invoked, returned: *returned })
        })
        .collect();
    calls.sort_unstable_by_key(|(_, call)| call.invoked);
    let (places, calls): (Vec<usize>, Vec<Call>) = calls.into_iter().unzip();
    match judge_ordered(&calls, from, model, bounds, deadline) {
        Judgement::Violated(Conflict { core, why }) => {
            let mut core: Vec<usize> = core.into_iter().map(|place| places[place]).collect();
            core.sort_unstable();
            Judgement::Violated(Conflict { core, why })
        }
        _ => Judgement::Unknown { why: "calls end and begin at the same time; finer times would tell".to_owned() },
    }
}

fn judge_ordered(calls: &[Call], from: usize, first: &Model, bounds: Bounds, deadline: Deadline) -> Judgement {
    let contract = first.contract();
    if let Some(conflict) = calls.iter().enumerate().find_map(|(index, call)| never(index, call)) {
        return Judgement::Violated(conflict);
    }
    if contract.clock == Clock::Wall && calls.iter().any(has_lease) {
        return Judgement::Unknown { why: "leases on real time are not judged yet".to_owned() };
    }
    let mut model = first.clone();
    let mut order: Vec<usize> = (0..from).collect();
    if has_transactions_of_several(&calls[from..]) {
        return search::judge(model, calls, from, order, bounds, deadline);
    }
    let first_overlap = match in_sequence(&mut model, calls, &mut order, deadline) {
        Ok(next) => next,
        Err(conflict) => return Judgement::Violated(conflict),
    };
    if model.in_transaction() && first_overlap < calls.len() {
        // What comes of a transaction its end tells, so it is judged as a whole.
        let began = order.iter().copied().rfind(|index| calls[*index].has_begun()).unwrap_or(from);
        (model, order) = (first.clone(), (0..from).collect());
        return match in_sequence(&mut model, &calls[..began], &mut order, deadline) {
            Err(conflict) => Judgement::Violated(conflict),
            Ok(next) if next < began => Judgement::Unknown { why: deadline.why().to_owned() },
            Ok(_) => search::judge(model, calls, began, order, bounds, deadline),
        };
    }
    if model.is_uncertain() {
        return Judgement::Unknown { why: LOST.to_owned() };
    }
    if first_overlap == calls.len() {
        return Judgement::Linearizable { order };
    }
    match local::judge(&model, calls, first_overlap, deadline) {
        local::Judgement::Ordered(rest) => {
            order.extend(rest);
            Judgement::Linearizable { order }
        }
        local::Judgement::Violated(conflict) => Judgement::Violated(conflict),
        local::Judgement::Coupled => search::judge(model, calls, first_overlap, order, bounds, deadline),
    }
}

/// Are there transactions, and others who come in between?
fn has_transactions_of_several(calls: &[Call]) -> bool {
    let is_one = |call: &Call| matches!(call.recorded.operation, Operation::Begin);
    calls.iter().any(is_one) && calls.iter().any(|call| call.recorded.process != calls[0].recorded.process)
}

/// Judges the calls that are not in the order yet, for as long as each returns before the next is invoked and there is time;
/// gives the first that was not judged.
fn in_sequence(
    model: &mut Model,
    calls: &[Call],
    order: &mut Vec<usize>,
    deadline: Deadline,
) -> Result<usize, Conflict> {
    for (index, call) in calls.iter().enumerate().skip(order.len()) {
        if index.is_multiple_of(256) && deadline.is_over() {
            return Ok(index);
        }
        let next = calls.get(index + 1).map_or(NEVER, |next| next.invoked);
        if call.says_nothing() {
            continue;
        }
        let Outcome::Answered(response) = &call.recorded.outcome else { return Ok(index) };
        if call.returned > next {
            return Ok(index);
        }
        let judged = model.judge(&call.recorded.operation, response);
        let core = || relation::related(calls, &[index], call.returned);
        judged.map_err(|violation| Conflict { core: core(), why: violation.message })?;
        order.push(index);
    }
    Ok(calls.len())
}

fn has_lease(call: &Call) -> bool {
    matches!(&call.recorded.operation, Operation::Allocate { ttl_ms: Some(_), .. } | Operation::Renew { .. })
}

/// What no caller may be told, whatever was done.
fn never(index: usize, call: &Call) -> Option<Conflict> {
    match &call.recorded.outcome {
        Outcome::Answered(Err(Refusal { kind: kind @ (Kind::Internal | Kind::Unlisted), .. })) => {
            Some(Conflict { core: vec![index], why: format!("a call was refused as `{kind}`, which explains nothing") })
        }
        _ => None,
    }
}

impl Call {
    /// Is it known when it returned, and with what?
    pub fn has_returned(&self) -> bool {
        self.returned != NEVER
    }

    /// Is there a transaction since?
    fn has_begun(&self) -> bool {
        self.recorded.operation == Operation::Begin && matches!(self.recorded.outcome, Outcome::Answered(Ok(_)))
    }

    /// Is it a refusal because of trouble elsewhere, or an attempt to read that came to nothing? Any state allows it, and
    /// changes by nothing.
    fn says_nothing(&self) -> bool {
        match &self.recorded.outcome {
            Outcome::Answered(response) => matches!(response, Err(Refusal { kind: Kind::Busy | Kind::Storage, .. })),
            Outcome::Unknown => matches!(self.recorded.operation, Operation::List { .. } | Operation::Usage { .. }),
        }
    }
}
