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
//! | [`lines`] | histories as JSON lines |
//! | `local` | sorts calls by what they touch, and puts the stories together again |
//! | `chain`, `stories` | the story of one address, and all of them where it has several |
//! | `search` | the search through orders, for what is left |

mod chain;
pub mod lines;
mod local;
mod search;
mod stories;

use std::time::Duration;

use crate::contract::{Clock, Contract};
use crate::model::Model;
use crate::operation::{Kind, Operation, Refusal, Response, Text};

/// A place among the invocations and returns of a history, in the order of their time: the first has number 1.
pub type Event = u64;

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
#[derive(Clone, Debug)]
pub struct Call {
    /// As it was recorded.
    pub recorded: Recorded,
    /// Its invocation.
    pub invoked: Event,
    /// Its return; after all others where the outcome is unknown: until then it may take effect.
    pub returned: Event,
}

/// Calls in the order of their invocations.
#[derive(Clone, Debug, Default)]
pub struct History {
    calls: Vec<Call>,
}

impl History {
    /// A history of these calls. Where an invocation and a return have the same time, nobody knows which came first: the
    /// calls overlap.
    pub fn new(recorded: Vec<Recorded>) -> History {
        let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * recorded.len());
        for (index, call) in recorded.iter().enumerate() {
            events.push((call.invoked, false, index));
            if let (Outcome::Answered(_), Some(returned)) = (&call.outcome, call.returned) {
                events.push((returned.max(call.invoked), true, index));
            }
        }
        events.sort_unstable();
        let new = |recorded| Call { recorded, invoked: 0, returned: NEVER };
        let mut calls: Vec<Call> = recorded.into_iter().map(new).collect();
        for ((_, is_return, index), event) in events.into_iter().zip(1..) {
            let call = &mut calls[index];
            *if is_return { &mut call.returned } else { &mut call.invoked } = event;
        }
        calls.sort_unstable_by_key(|call| call.invoked);
        History { calls }
    }

    /// The calls, in the order of their invocations.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }
}

/// How far a search may go.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// So many states of the system at most.
    pub states: usize,
    /// So long at most.
    pub time: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { states: 100_000, time: Duration::from_secs(20) }
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

/// Judges a history of a system with this contract that was empty at first. Takes n log n where the history falls apart into
/// stories of single addresses; otherwise as much as the bounds allow.
pub fn judge(history: &History, contract: &Contract, bounds: Bounds) -> Judgement {
    let calls = history.calls();
    if contract.clock == Clock::Wall && calls.iter().any(has_lease) {
        return Judgement::Unknown { why: "leases on real time are not judged yet".to_owned() };
    }
    let mut model = Model::new(contract.clone());
    let mut order = Vec::with_capacity(calls.len());
    let first_overlap = match in_sequence(&mut model, calls, &mut order) {
        Ok(next) => next,
        Err(conflict) => return Judgement::Violated(conflict),
    };
    if first_overlap == calls.len() {
        return Judgement::Linearizable { order };
    }
    match local::judge(&model, calls, first_overlap) {
        local::Judgement::Ordered(rest) => {
            order.extend(rest);
            Judgement::Linearizable { order }
        }
        local::Judgement::Violated(conflict) => Judgement::Violated(conflict),
        local::Judgement::Coupled => search::judge(model, calls, first_overlap, order, bounds),
    }
}

/// Judges calls for as long as each returns before the next is invoked; gives the first that does not.
fn in_sequence(model: &mut Model, calls: &[Call], order: &mut Vec<usize>) -> Result<usize, Conflict> {
    for (index, call) in calls.iter().enumerate() {
        let next = calls.get(index + 1).map_or(NEVER, |next| next.invoked);
        let Outcome::Answered(response) = &call.recorded.outcome else { return Ok(index) };
        if call.returned > next {
            return Ok(index);
        }
        if !says_nothing(response) {
            let judged = model.judge(&call.recorded.operation, response);
            judged.map_err(|violation| Conflict { core: vec![index], why: violation.message })?;
            order.push(index);
        }
    }
    Ok(calls.len())
}

fn has_lease(call: &Call) -> bool {
    matches!(&call.recorded.operation, Operation::Allocate { ttl_ms: Some(_), .. } | Operation::Renew { .. })
}

/// Is it a refusal because of trouble elsewhere? Nothing happened then, and any state allows it.
fn says_nothing(response: &Response) -> bool {
    matches!(response, Err(Refusal { kind: Kind::Busy | Kind::Storage, .. }))
}
