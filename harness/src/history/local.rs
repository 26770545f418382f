//! Takes a history apart into stories of single addresses, and puts them together again.
//!
//! Calls that touch one address each are independent of those that touch others: by locality (Herlihy and Wing, theorem 1) they
//! have an order together if those of each address have one. What they share is `exhausted`: at one instant of such a call,
//! every address of the pool must be held. So it needs an instant at which none is [surely free](Chain::free); there all can
//! be held at once, and at any number of such instants, whichever each of those calls takes. A sweep over the ends of those
//! times finds them.
//!
//! Calls of unknown outcome have not happened, but for those that must have: a release without which an address is granted
//! twice, a grant without which something is given back that nobody had. If that does not do, it is left to the search.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::chain::{Act, Chain, Instant, Problem, Side, Touch};
use super::stories::Effort;
use super::{Call, Conflict, Deadline, Event, MOST_SHOWN, Outcome};
use smallvec::smallvec;

use crate::address::{Family, Grant, Span, number};
use crate::contract::{Contract, ReleaseBy, ReleaseUnknown, Repeat};
use crate::model::Model;
use crate::model::pool::Pool;
use crate::operation::{Answer, Kind, Operation, Refusal, Request, Response, Text, Want, Written};

/// What a history comes to that is taken apart.
pub(super) enum Judgement {
    /// An order, which the model has followed.
    Ordered(Vec<usize>),
    /// There is none.
    Violated(Conflict),
    /// It does not fall apart, or leaves a choice.
    Coupled,
}

/// An address of a pool.
type Place = (Text, u128);

/// What a call says, as far as this goes.
enum Tale {
    /// Something about one address.
    Of(Place, Act, Option<Text>),
    /// Every address of the pool was held.
    Full(Text),
    /// Nothing that hangs on when it was.
    Nothing,
    /// Maybe a grant or a release; nobody knows.
    Unknown(Possible),
    /// What no state allows.
    Never(String),
}

/// What may have happened.
#[derive(Clone)]
struct Possible {
    act: Act,
    pool: Text,
    /// Any, where nobody knows.
    address: Option<u128>,
    owner: Option<Text>,
}

/// Judges all calls from one on, in the state that the model is in.
pub(super) fn judge(model: &Model, calls: &[Call], from: usize, deadline: Deadline) -> Judgement {
    match Parts::of(model, calls, from, deadline) {
        Some(parts) => parts.judge(model, calls, from, deadline),
        None => Judgement::Coupled,
    }
}

/// The calls, by what they touch.
#[derive(Default)]
struct Parts {
    touches: Vec<(Place, Touch)>,
    /// Calls that found a pool full.
    full: Vec<(Text, usize)>,
    /// Calls that can take place at any time, with their invocations.
    rest: Vec<(usize, Event)>,
    unknown: Vec<(usize, Possible)>,
    /// What those of unknown outcome came to that must have happened.
    adopted: HashMap<usize, Response>,
    never: Option<Conflict>,
}

impl Parts {
    /// Takes the calls apart; nothing where a call touches several addresses, or something else, or there is no time.
    fn of(model: &Model, calls: &[Call], from: usize, deadline: Deadline) -> Option<Parts> {
        // Where pools overlap, what one of them has handed out may be taken in the others.
        let is_coupled = !model.contract().disjoint_pools && model.has_overlapping_pools();
        if model.contract().repeat != Repeat::Another || is_coupled {
            return None;
        }
        let mut parts = Parts::default();
        // Judging refusals changes nothing that matters here.
        let mut scratch = model.clone();
        for (index, call) in calls.iter().enumerate().skip(from) {
            if call.says_nothing() {
                continue;
            }
            if index.is_multiple_of(256) && deadline.is_over() {
                return None;
            }
            match told(&mut scratch, call)? {
                // Who holds a block does not hold each of its addresses.
                Tale::Of((pool, number), ..) if is_in_a_block(model, &pool, number) => return None,
                Tale::Of(place, act, owner) => {
                    let touch = Touch { call: index, act, owner, invoked: call.invoked, returned: call.returned };
                    parts.touches.push((place, touch));
                }
                Tale::Full(pool) => parts.full.push((pool, index)),
                Tale::Nothing => parts.rest.push((index, call.invoked)),
                Tale::Unknown(possible) => parts.unknown.push((index, possible)),
                Tale::Never(why) => parts.never = parts.never.or(Some(Conflict { core: vec![index], why })),
            }
        }
        Some(parts)
    }

    fn judge(mut self, model: &Model, calls: &[Call], from: usize, deadline: Deadline) -> Judgement {
        if let Some(conflict) = self.never {
            return Judgement::Violated(conflict);
        }
        // Whether there is no order at all is another question where more may have happened than this.
        let unknown = std::mem::take(&mut self.unknown);
        let open = Open::of(&unknown);
        self.adopt(model, calls, &unknown);
        let (mut is_decided, mut effort) = (true, Effort::new());
        let mut instants: Vec<(Instant, usize)> =
            self.rest.iter().map(|(call, invoked)| ((*invoked, Side::Full, 0), *call)).collect();
        let mut pools = Pools::of(model, &self.full);
        self.touches.sort_unstable_by(|(one, _), (next, _)| one.cmp(next));
        let mut touches = self.touches.into_iter().peekable();
        while let Some((place, first)) = touches.next() {
            if deadline.is_over() {
                return Judgement::Coupled;
            }
            let mut same = vec![first];
            while let Some((_, touch)) = touches.next_if(|(next, _)| *next == place) {
                same.push(touch);
            }
            let chain = match Chain::of(&name(model, &place), holder(model, &place), same, &mut effort) {
                Ok(chain) => Some(chain),
                // Another address may have none, and that decides it.
                Err(Problem::Undecided) => None,
                Err(Problem::Impossible(_)) if open.touches(&place) => None,
                Err(Problem::Impossible(conflict)) => {
                    return Judgement::Violated(conflict.with(first_grant(model, calls, from, &place)));
                }
            };
            is_decided &= chain.is_some();
            instants.extend(chain.iter().flat_map(Chain::instants).map(|(call, instant)| (instant, call)));
            pools.note(&place, holder(model, &place).is_some(), chain.as_ref());
        }
        let (open_pools, closed_pools): (Vec<_>, Vec<_>) =
            self.full.into_iter().partition(|(pool, _)| open.is_in(pool));
        match pools.instants(calls, &closed_pools) {
            Ok(full) => instants.extend(full),
            Err(Problem::Impossible(conflict)) => return Judgement::Violated(conflict),
            Err(Problem::Undecided) => is_decided = false,
        }
        match pools.instants(calls, &open_pools) {
            Ok(full) => instants.extend(full),
            Err(_) => is_decided = false,
        }
        if !is_decided {
            return Judgement::Coupled;
        }
        instants.sort_unstable();
        let order: Vec<usize> = instants.into_iter().map(|(_, call)| call).collect();
        match follows(model, calls, &order, &self.adopted) {
            true => Judgement::Ordered(order),
            false => Judgement::Coupled,
        }
    }

    /// Takes those calls of unknown outcome for done without which the others make no sense.
    fn adopt(&mut self, model: &Model, calls: &[Call], unknown: &[(usize, Possible)]) {
        if unknown.is_empty() {
            return;
        }
        let mut candidates = Candidates::of(unknown);
        for (place, owner, act) in self.missing(model) {
            if let Some(call) = candidates.take(act, &place, owner.as_ref()) {
                let (invoked, returned) = (calls[call].invoked, calls[call].returned);
                self.adopted.insert(call, answer(model, &place, act));
                self.touches.push((place, Touch { call, act, owner, invoked, returned }));
            }
        }
    }

    /// Grants and releases of which others tell that there must have been some.
    fn missing(&self, model: &Model) -> Vec<(Place, Option<Text>, Act)> {
        let mut balance: HashMap<(Place, Option<Text>), i64> = HashMap::new();
        for (pool, grant, owner) in model.held() {
            *balance.entry(((pool, grant.span().first), Some(owner))).or_default() += 1;
        }
        let mut held: HashMap<Place, i64> = HashMap::new();
        for (place, touch) in &self.touches {
            let change = match touch.act {
                Act::Grant => 1,
                Act::Release => -1,
                _ => continue,
            };
            *balance.entry((place.clone(), touch.owner.clone())).or_default() += change;
        }
        for ((place, _), count) in &balance {
            *held.entry(place.clone()).or_default() += count;
        }
        let mut missing: Vec<(Place, Option<Text>, Act)> = Vec::new();
        for ((place, owner), count) in balance {
            if count < 0 {
                missing.push((place, owner, Act::Grant));
            } else if count > 0 && held.get(&place).is_some_and(|held| *held > 1) {
                missing.push((place, owner, Act::Release));
            }
        }
        missing.sort_unstable_by(|one, next| (&one.0, &one.1).cmp(&(&next.0, &next.1)));
        missing
    }
}

/// What a call of unknown outcome may have done: a grant or release in a pool, for whom, of which address or of any.
type Deed = (Act, Text, Option<Text>, Option<u128>);

/// Calls of unknown outcome by what they may have done.
struct Candidates(HashMap<Deed, Vec<usize>>);

impl Candidates {
    fn of(unknown: &[(usize, Possible)]) -> Candidates {
        let mut deeds: HashMap<Deed, Vec<usize>> = HashMap::new();
        for (call, Possible { act, pool, address, owner }) in unknown.iter().rev() {
            deeds.entry((*act, pool.clone(), owner.clone(), *address)).or_default().push(*call);
        }
        Candidates(deeds)
    }

    /// The first call that may have done this.
    fn take(&mut self, act: Act, (pool, number): &Place, owner: Option<&Text>) -> Option<usize> {
        let deed = |address: Option<u128>| (act, pool.clone(), owner.cloned(), address);
        let first = |deed: &Deed| self.0.get(deed).and_then(|calls| calls.last().copied());
        let deeds = [deed(Some(*number)), deed(None)];
        let earlier = deeds.into_iter().filter(|deed| first(deed).is_some()).min_by_key(first)?;
        self.0.get_mut(&earlier)?.pop()
    }
}

/// What calls of unknown outcome may have touched.
struct Open<'p> {
    places: HashSet<(&'p Text, u128)>,
    /// Pools in which they may have touched any address.
    anywhere: HashSet<&'p Text>,
    pools: HashSet<&'p Text>,
}

impl<'p> Open<'p> {
    fn of(unknown: &'p [(usize, Possible)]) -> Open<'p> {
        let possible = || unknown.iter().map(|(_, possible)| possible);
        Open {
            places: possible().filter_map(|possible| Some((&possible.pool, possible.address?))).collect(),
            anywhere: possible().filter(|possible| possible.address.is_none()).map(|possible| &possible.pool).collect(),
            pools: possible().map(|possible| &possible.pool).collect(),
        }
    }

    fn touches(&self, (pool, number): &Place) -> bool {
        self.anywhere.contains(pool) || self.places.contains(&(pool, *number))
    }

    fn is_in(&self, pool: &Text) -> bool {
        self.pools.contains(pool)
    }
}

/// The call by which an address is held at first, if it is.
fn first_grant(model: &Model, calls: &[Call], from: usize, place: &Place) -> Option<usize> {
    let family = model.pool(&place.0)?.layout.family;
    holder(model, place)?;
    let grants = |call: &Call| {
        let Outcome::Answered(Ok(Answer::Granted { grants, .. })) = &call.recorded.outcome else { return false };
        let Operation::Allocate { requests, .. } = &call.recorded.operation else { return false };
        let mut granted = requests.iter().zip(grants);
        let address = Grant::Address(family.address(place.1));
        granted.any(|(request, grant)| request.pool == place.0 && *grant == address)
    };
    calls[..from].iter().rposition(grants)
}

/// How a call was answered, had it been, that did this.
fn answer(model: &Model, (pool, number): &Place, act: Act) -> Response {
    let family = model.pool(pool).map_or(Family::V4, |pool| pool.layout.family);
    Ok(match act {
        Act::Grant => Answer::Granted { grants: smallvec![Grant::Address(family.address(*number))], expires_ms: None },
        _ => Answer::Done,
    })
}

/// What a call says; nothing where it is more than this can take.
fn told(model: &mut Model, call: &Call) -> Option<Tale> {
    let recorded = &call.recorded;
    let response = match &recorded.outcome {
        Outcome::Unknown => return possible(model, &recorded.operation).map(Tale::Unknown),
        Outcome::Answered(response) => response,
    };
    match &recorded.operation {
        Operation::Allocate { owner, requests, ttl_ms: None } => {
            let [request] = requests.as_slice() else { return None };
            told_by_allocate(model.pool(&request.pool)?, model.contract(), owner, request, response)
                .or_else(|| told_by_words(model, &recorded.operation, response))
        }
        Operation::Release { pool, address, owner } => {
            let Some(Grant::Address(address)) = address.meaning() else { return None };
            let found = model.pool(pool)?;
            if Family::of(address) != found.layout.family {
                return told_outside(response);
            }
            let place = (pool.clone(), number(address));
            told_by_release(found, model.contract(), place, owner.clone(), response)
                .or_else(|| told_by_words(model, &recorded.operation, response))
        }
        // Where nothing else is under way they find what is there. Elsewhere the model will say.
        Operation::List { .. } | Operation::Usage { .. } => Some(Tale::Nothing),
        _ => None,
    }
}

/// What a release says of an address that the pool cannot have.
fn told_outside(response: &Response) -> Option<Tale> {
    matches!(response, Err(Refusal { kind: Kind::NotFound | Kind::Invalid, .. })).then_some(Tale::Nothing)
}

/// Refusals for what was asked, and not for when.
fn told_by_words(model: &mut Model, operation: &Operation, response: &Response) -> Option<Tale> {
    if !matches!(response, Err(Refusal { kind: Kind::Invalid, .. })) {
        return None;
    }
    Some(model.judge(operation, response).map_or_else(|violation| Tale::Never(violation.message), |()| Tale::Nothing))
}

fn told_by_allocate(
    pool: &Pool,
    contract: &Contract,
    owner: &Text,
    request: &Request,
    response: &Response,
) -> Option<Tale> {
    let name = request.pool.clone();
    match (response, &request.want) {
        (Ok(Answer::Granted { grants, expires_ms: None }), Want::Any | Want::Named(_)) => {
            let [Grant::Address(address)] = grants.as_slice() else { return None };
            let is_of_family = Family::of(*address) == pool.layout.family;
            if !is_of_family || !pool.layout.allows(Span::one(number(*address))) {
                return Some(Tale::Never(format!("{address} was granted, which `{name}` may not hand out")));
            }
            Some(Tale::Of((name, number(*address)), Act::Grant, Some(owner.clone())))
        }
        (Err(Refusal { kind: Kind::Exhausted, .. }), Want::Any) if contract.complete => Some(Tale::Full(name)),
        (Err(Refusal { kind: Kind::Exhausted, .. }), Want::Any) => Some(Tale::Nothing),
        (Err(Refusal { kind: Kind::Conflict, .. }), Want::Named(address)) => {
            let Some(Grant::Address(address)) = address.meaning() else { return None };
            let is_of_family = Family::of(address) == pool.layout.family;
            is_of_family.then(|| Tale::Of((name, number(address)), Act::ToldHeld, None))
        }
        _ => None,
    }
}

fn told_by_release(
    pool: &Pool,
    contract: &Contract,
    place: Place,
    owner: Option<Text>,
    response: &Response,
) -> Option<Tale> {
    let owner = owner.filter(|_| contract.release_by == ReleaseBy::Owner);
    match response {
        // It may have been free as well.
        Ok(_) if contract.release_unknown == ReleaseUnknown::Ok => None,
        Ok(_) => Some(Tale::Of(place, Act::Release, owner)),
        Err(Refusal { kind: Kind::NotFound, .. }) if pool.layout.allows(Span::one(place.1)) => {
            Some(Tale::Of(place, Act::ToldFree, owner))
        }
        Err(Refusal { kind: Kind::NotFound, .. }) => Some(Tale::Nothing),
        Err(Refusal { kind: Kind::NotOwner, .. }) => Some(Tale::Of(place, Act::ToldOthers, owner)),
        Err(_) => None,
    }
}

/// What a call may have done that nobody knows the outcome of.
fn possible(model: &Model, operation: &Operation) -> Option<Possible> {
    let of = |pool: &Text, written: &Written| match written.meaning() {
        Some(Grant::Address(address)) if Family::of(address) == model.pool(pool)?.layout.family => {
            Some(number(address))
        }
        _ => None,
    };
    match operation {
        Operation::Allocate { owner, requests, ttl_ms: None } => {
            let [request] = requests.as_slice() else { return None };
            let address = match &request.want {
                Want::Any => None,
                Want::Named(address) => Some(of(&request.pool, address)?),
                Want::Block(_) => return None,
            };
            Some(Possible { act: Act::Grant, pool: request.pool.clone(), address, owner: Some(owner.clone()) })
        }
        Operation::Release { pool, address, owner } => {
            let owner = owner.clone().filter(|_| model.contract().release_by == ReleaseBy::Owner);
            Some(Possible { act: Act::Release, pool: pool.clone(), address: Some(of(pool, address)?), owner })
        }
        _ => None,
    }
}

/// What an address is called in messages.
fn name(model: &Model, (pool, number): &Place) -> String {
    match model.pool(pool) {
        Some(found) => format!("{} in `{pool}`", found.layout.family.address(*number)),
        None => format!("an address in `{pool}`"),
    }
}

fn is_in_a_block(model: &Model, pool: &Text, number: u128) -> bool {
    let found = model.pool(pool).and_then(|pool| pool.holder_of(Span::one(number)));
    found.is_some_and(|(_, held)| matches!(held.grant, Grant::Block(_)))
}

fn holder(model: &Model, (pool, number): &Place) -> Option<Text> {
    let (_, held) = model.pool(pool)?.holder_of(Span::one(*number))?;
    Some(held.owner.clone())
}

/// Does the model follow this order?
fn follows(model: &Model, calls: &[Call], order: &[usize], adopted: &HashMap<usize, Response>) -> bool {
    let mut model = model.clone();
    order.iter().all(|index| {
        let recorded = &calls[*index].recorded;
        let response = match &recorded.outcome {
            Outcome::Answered(response) => Some(response),
            Outcome::Unknown => adopted.get(index),
        };
        response.is_some_and(|response| model.judge(&recorded.operation, response).is_ok() && !model.is_uncertain())
    })
}

/// Pools in which calls found nothing free.
struct Pools(HashMap<Text, Fullness>);

/// When a pool can be full.
#[derive(Default)]
struct Fullness {
    /// Addresses that nobody holds at first, and that no call touches.
    untouched: u128,
    /// When an address is surely free.
    free: Vec<Gap>,
}

/// After one event and before another an address is surely free; these calls make it so.
struct Gap {
    from: Event,
    to: Event,
    calls: Vec<usize>,
    /// In each story of the address?
    is_sure: bool,
}

impl Pools {
    fn of(model: &Model, full: &[(Text, usize)]) -> Pools {
        let fullness = |name: &Text| {
            let pool = model.pool(name)?;
            let untouched = pool.layout.capacity.saturated().saturating_sub(pool.allocated().saturated());
            Some((name.clone(), Fullness { untouched, free: Vec::new() }))
        };
        Pools(full.iter().filter_map(|(name, _)| fullness(name)).collect())
    }

    /// Notes the story of an address, or that it is not known.
    fn note(&mut self, (pool, _): &Place, is_held_at_first: bool, chain: Option<&Chain>) {
        let Some(fullness) = self.0.get_mut(pool) else { return };
        if !is_held_at_first {
            fullness.untouched = fullness.untouched.saturating_sub(1);
        }
        if let Some(chain) = chain {
            let is_sure = !chain.has_choice();
            let gap =
                |(free, calls): (Range<Event>, Vec<usize>)| Gap { from: free.start, to: free.end, calls, is_sure };
            fullness.free.extend(chain.free().map(gap));
        }
    }

    /// An instant for each call that found its pool full.
    fn instants(&mut self, calls: &[Call], full: &[(Text, usize)]) -> Result<Vec<(Instant, usize)>, Problem> {
        self.0.values_mut().for_each(|fullness| fullness.free.sort_unstable_by_key(|gap| gap.from));
        let sorted: HashMap<&Text, (Vec<Range<Event>>, Reach<'_>)> =
            self.0.iter().map(|(name, Fullness { free, .. })| (name, (merge(free), Reach::of(free)))).collect();
        let mut instants = Vec::with_capacity(full.len());
        let mut is_decided = true;
        for (pool, index) in full {
            let (call, fullness, (merged, reach)) = (&calls[*index], &self.0[pool], &sorted[pool]);
            let instant = first_outside(merged, call.invoked);
            if fullness.untouched == 0 && instant < call.returned {
                instants.push(((instant, Side::Full, 0), *index));
                continue;
            }
            if let Some(conflict) = fullness.conflict(pool, reach, call, *index) {
                return Err(Problem::Impossible(conflict));
            }
            is_decided = false;
        }
        if is_decided { Ok(instants) } else { Err(Problem::Undecided) }
    }
}

impl Fullness {
    /// Why the pool cannot have been full during this call, if that is so in every story.
    fn conflict(&self, pool: &Text, reach: &Reach<'_>, call: &Call, index: usize) -> Option<Conflict> {
        let mut core = vec![index];
        let mut covered = call.invoked;
        while self.untouched == 0 && covered < call.returned {
            let gap = reach.furthest_from(covered).filter(|gap| gap.to > covered)?;
            core.extend(&gap.calls);
            covered = gap.to;
        }
        core.truncate(MOST_SHOWN);
        core.sort_unstable();
        core.dedup();
        let what = if self.untouched > 0 { "an address that no call touches" } else { "some address" };
        let why = format!("`{pool}` was said to be exhausted, but {what} was free at any time of that call");
        Some(Conflict { core, why })
    }
}

/// Which gap reaches furthest, among those that are in every story.
struct Reach<'g> {
    /// When each begins; they are sorted by that.
    begins: Vec<Event>,
    /// The one that reaches furthest up to there.
    furthest: Vec<&'g Gap>,
}

impl<'g> Reach<'g> {
    fn of(free: &'g [Gap]) -> Reach<'g> {
        let mut reach = Reach { begins: Vec::new(), furthest: Vec::<&Gap>::new() };
        for gap in free.iter().filter(|gap| gap.is_sure) {
            reach.begins.push(gap.from);
            let furthest = reach.furthest.last().copied().filter(|before| before.to >= gap.to);
            reach.furthest.push(furthest.unwrap_or(gap));
        }
        reach
    }

    /// The one that reaches furthest of those that have begun by this event.
    fn furthest_from(&self, event: Event) -> Option<&'g Gap> {
        let begun = self.begins.partition_point(|begins| *begins <= event);
        begun.checked_sub(1).map(|last| self.furthest[last])
    }
}

/// The times covered by these gaps, which are sorted, without overlaps.
fn merge(gaps: &[Gap]) -> Vec<Range<Event>> {
    let mut merged: Vec<Range<Event>> = Vec::new();
    for gap in gaps {
        match merged.last_mut().filter(|last| last.end >= gap.from) {
            Some(last) => last.end = last.end.max(gap.to),
            None => merged.push(gap.from..gap.to),
        }
    }
    merged
}

/// The first event from this one on that no range covers.
fn first_outside(ranges: &[Range<Event>], event: Event) -> Event {
    let after = ranges.partition_point(|range| range.end <= event);
    ranges.get(after).filter(|range| range.contains(&event)).map_or(event, |range| range.end)
}
