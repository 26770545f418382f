//! Searches through orders, for histories that do not fall apart.
//!
//! Wing and Gong's algorithm (*Testing and Verifying Concurrent Objects*, 1993) in the form that Lowe calls just-in-time
//! (*Testing for Linearizability*, 2017): the events are gone through in the order of time, with all *configurations* in which
//! the system may be: the state, and which calls under way have already taken effect. Only when a call returns that has not
//! taken effect in some configuration, calls under way take effect there, one after the other in all orders, up to that one.
//! Equal configurations are kept once. Where none is left, there is no order.
//!
//! A call of unknown outcome is under way for ever, and takes effect in any way that it could (`effects`), or never.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::effects::Mentioned;
use super::relation::related;
use super::units::{Unit, units};
use super::{Bounds, Call, Conflict, Deadline, Event, Judgement, LOST, NEVER, Outcome, Recorded};
use crate::model::Model;
use crate::operation::{Operation, Response};

/// So many calls may be under way at once; one bit each.
const MOST_UNDER_WAY: usize = 128;

/// So many allocations may be held in all states together, each of which counts as so many at least.
const MOST_HELD: usize = 8_000_000;
const FEWEST_HELD: usize = 60;

/// A state in which the system may be. What takes effect at once is one call or a whole transaction: a unit.
struct Configuration {
    model: Model,
    /// Which units under way have taken effect, by their places among them.
    done: u128,
    /// The order so far, from the last call to the first.
    order: Option<Arc<Link>>,
}

struct Link {
    unit: usize,
    before: Option<Arc<Link>>,
}

/// Long chains would be dropped one within the other, and the stack has an end.
impl Drop for Link {
    fn drop(&mut self) {
        let mut next = self.before.take();
        while let Some(mut link) = next.and_then(Arc::into_inner) {
            next = link.before.take();
        }
    }
}

/// What tells configurations apart: the units under way that have taken effect, the fingerprint of the model, and what it has
/// learnt.
type Key = (u128, u64, (Option<i128>, bool));

fn key(done: u128, model: &Model) -> Key {
    (done, model.fingerprint(), model.learnt())
}

/// Configurations that differ.
type Configurations = HashMap<Key, Configuration>;

/// Judges all calls from one on, in the state that the model is in. Those before took effect in this order.
pub(super) fn judge(
    model: Model,
    calls: &[Call],
    from: usize,
    before: Vec<usize>,
    bounds: Bounds,
    deadline: Deadline,
) -> Judgement {
    let unknown = |why: &str| Judgement::Unknown { why: why.to_owned() };
    let units = match units(calls, from) {
        Ok(units) => units,
        Err(why) => return unknown(why),
    };
    let is_open = |call: &Call| call.recorded.outcome == Outcome::Unknown && !call.says_nothing();
    let mentioned = match calls[from..].iter().any(is_open) {
        true => Mentioned::by(calls, model.contract()),
        false => None,
    };
    if mentioned.is_none() && calls[from..].iter().any(is_open) {
        return unknown("calls of unknown outcome are not judged beside large pools with blocks, changes or overlaps");
    }
    let mut search = Search {
        calls,
        units: &units,
        mentioned,
        most: bounds.states,
        room: bounds.states,
        deadline,
        under_way: Vec::new(),
        configurations: HashMap::from([((0, 0, (None, false)), Configuration { model, done: 0, order: None })]),
    };
    for (_, unit, is_return) in events(&units) {
        let going_on = if is_return { search.returned(unit) } else { search.invoked(unit) };
        match going_on {
            Ok(()) => {}
            Err(Stop::Bound(why)) => return unknown(why),
            Err(Stop::None) => return Judgement::Violated(search.conflict(unit)),
        }
    }
    // Of a model that has lost track anything is said to be right.
    let last = search.configurations.into_values().find(|configuration| !configuration.model.is_uncertain());
    let Some(last) = last else { return unknown(LOST) };
    let order = last.order;
    let links = std::iter::successors(order.as_deref(), |link| link.before.as_deref());
    let mut last_first: Vec<usize> = links.flat_map(|link| units[link.unit].calls.iter().rev().copied()).collect();
    last_first.reverse();
    Judgement::Linearizable { order: before.into_iter().chain(last_first).collect() }
}

/// Beginnings and ends in the order of time, with the units.
fn events(units: &[Unit]) -> Vec<(Event, usize, bool)> {
    let both = |(index, unit): (usize, &Unit)| [(unit.began, index, false), (unit.ended, index, true)];
    let mut events: Vec<(Event, usize, bool)> = units.iter().enumerate().flat_map(both).collect();
    events.retain(|(event, ..)| *event != NEVER);
    events.sort_unstable();
    events
}

/// Why a search ends early.
enum Stop {
    /// There is no order.
    None,
    /// A bound was hit.
    Bound(&'static str),
}

struct Search<'a> {
    calls: &'a [Call],
    units: &'a [Unit],
    /// Where calls of unknown outcome are among them.
    mentioned: Option<Mentioned>,
    /// So many states at most, and so many of those there are now.
    most: usize,
    room: usize,
    deadline: Deadline,
    /// The units under way; nothing where one has ended.
    under_way: Vec<Option<usize>>,
    configurations: Configurations,
}

impl Search<'_> {
    fn invoked(&mut self, unit: usize) -> Result<(), Stop> {
        match self.under_way.iter().position(Option::is_none) {
            Some(place) => self.under_way[place] = Some(unit),
            None if self.under_way.len() < MOST_UNDER_WAY => self.under_way.push(Some(unit)),
            None => return Err(Stop::Bound("more than 128 calls are under way at once")),
        }
        Ok(())
    }

    /// From here on a unit has taken effect.
    fn returned(&mut self, unit: usize) -> Result<(), Stop> {
        let Some(place) = self.under_way.iter().position(|other| *other == Some(unit)) else { return Ok(()) };
        let bit = 1_u128 << place;
        // A state takes memory for all that is held.
        let held = self.configurations.values().next().map_or(0, |one| one.model.count_held());
        self.room = self.most.min(MOST_HELD / (FEWEST_HELD + held));
        let mut after = Configurations::new();
        let mut seen: HashSet<Key> = HashSet::new();
        let mut open: Vec<Configuration> = std::mem::take(&mut self.configurations).into_values().collect();
        while let Some(configuration) = open.pop() {
            if configuration.done & bit != 0 {
                let done = configuration.done & !bit;
                let key = key(done, &configuration.model);
                after.entry(key).or_insert(Configuration { done, ..configuration });
                continue;
            }
            for (next, key) in self.after(&configuration)? {
                if seen.insert(key) {
                    open.push(next);
                }
            }
            self.demand_room(seen.len())?;
        }
        self.under_way[place] = None;
        self.configurations = after;
        if self.configurations.is_empty() { Err(Stop::None) } else { Ok(()) }
    }

    /// Is there room for so many states, and time to go on?
    fn demand_room(&self, states: usize) -> Result<(), Stop> {
        if states > self.room {
            return Err(Stop::Bound("the system may be in too many states at once"));
        }
        if self.deadline.is_over() { Err(Stop::Bound(self.deadline.why())) } else { Ok(()) }
    }

    /// The configurations after one more unit under way has taken effect.
    fn after(&self, configuration: &Configuration) -> Result<Vec<(Configuration, Key)>, Stop> {
        let mut after = Vec::new();
        for (place, unit) in self.under_way.iter().enumerate() {
            let bit = 1_u128 << place;
            let Some(unit) = unit.filter(|_| configuration.done & bit == 0) else { continue };
            for model in self.moved_on(&configuration.model, &self.units[unit])? {
                let order = Some(Arc::new(Link { unit, before: configuration.order.clone() }));
                let done = configuration.done | bit;
                let key = key(done, &model);
                after.push((Configuration { model, done, order }, key));
            }
            self.demand_room(after.len())?;
        }
        Ok(after)
    }

    /// The states after a unit, if the model allows its answers.
    fn moved_on(&self, model: &Model, unit: &Unit) -> Result<Vec<Model>, Stop> {
        let mut models = vec![model.clone()];
        for call in &unit.calls {
            let recorded = &self.calls[*call].recorded;
            let mut next = Vec::new();
            for model in &models {
                let answers = self.answers(model, recorded)?;
                if recorded.outcome == Outcome::Unknown && !unit.is_open {
                    // Within a transaction it may have come to nothing.
                    next.push(model.clone());
                }
                for response in answers.iter() {
                    next.extend(moved_on(model, &recorded.operation, response));
                    self.demand_room(next.len())?;
                }
            }
            models = next;
        }
        if unit.is_open {
            // Of what nobody knows, only what changes something matters.
            let before = model.fingerprint();
            models.retain(|after| after.fingerprint() != before);
        }
        Ok(models.into_iter().flat_map(|model| unit.ends(model)).collect())
    }

    /// The answer of a call, or those that it could have had.
    fn answers<'r>(&self, model: &Model, recorded: &'r Recorded) -> Result<Cow<'r, [Response]>, Stop> {
        match (&recorded.outcome, &self.mentioned) {
            (Outcome::Answered(response), _) => Ok(Cow::Borrowed(std::slice::from_ref(response))),
            (Outcome::Unknown, Some(mentioned)) => {
                let answers = mentioned.answers(model, &recorded.operation);
                answers.map(Cow::Owned).ok_or(Stop::Bound(
                    "a call of unknown outcome may have done too many things, or its times are unknown",
                ))
            }
            (Outcome::Unknown, None) => Ok(Cow::Borrowed(&[])),
        }
    }

    /// The unit that cannot be explained, with calls that have to do with it.
    fn conflict(&self, last: usize) -> Conflict {
        let unit = &self.units[last];
        let core = related(self.calls, &unit.calls, unit.ended);
        Conflict { core, why: "no order of the calls up to the last of these explains its answer".to_owned() }
    }
}

/// The model after a call, if it allows the answer.
fn moved_on(model: &Model, operation: &Operation, response: &Response) -> Option<Model> {
    let mut model = model.clone();
    model.judge(operation, response).is_ok().then_some(model)
}
