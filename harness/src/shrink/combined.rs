//! Passes that change several things at once, for scenarios that no single change makes smaller.

use smallvec::smallvec;

use super::Offer;
use super::passes::{filling, moved_pool, plainer_places, shorter_names, shrink_pool};
use crate::address::{Family, Span, parse_prefix};
use crate::operation::{Operation, PoolShape, Request, Text, Want};
use crate::scenario::names::{names, visit_names};
use crate::scenario::{GrantRef, Operand, Scenario, Spelling, Step, text};

/// Beyond this many steps there are too many ways to change one and drop others.
const FEW: usize = 8;

/// A lane goes on so often before another does, and that one so often, where turns are dealt anew.
const DEALT: usize = 6;

/// So many smaller pools are tried with turns dealt anew.
const MOST_POOLS: usize = 16;

/// Leaves out a step or two, or shrinks a pool and maybe leaves out a step, and deals the turns anew: with fewer steps callers
/// are interrupted elsewhere. One lane goes on for a while, then another, then the first again; most defects need no more.
pub(super) fn turns_anew(best: &Scenario, cursor: usize) -> Offer {
    let lanes = best.steps.iter().filter(|step| **step == Step::Lane).count();
    let deals = lanes * lanes.saturating_sub(1) * DEALT * DEALT;
    if deals == 0 || !best.steps.iter().any(|step| matches!(step, Step::Turns(_))) {
        return Offer::End;
    }
    let offer = smaller(best, cursor / deals);
    let Offer::Candidate(mut candidate) = offer else { return offer };
    let order = dealt(lanes, cursor % deals);
    for step in &mut candidate.steps {
        if let Step::Turns(turns) = step {
            turns.clone_from(&order);
        }
    }
    Offer::Candidate(candidate)
}

/// Smaller scenarios: first those without one step, then with a smaller pool, then both, then those without two steps.
fn smaller(best: &Scenario, cursor: usize) -> Offer {
    let count = best.steps.len();
    let (pool, dropped) = (cursor / (count + 1), cursor % (count + 1));
    // No pool is changed at first, and no step is left out last.
    let shrunk = match pool.checked_sub(1) {
        None => best.clone(),
        Some(place) if place < MOST_POOLS => match shrink_pool(best, place) {
            Offer::Candidate(candidate) => candidate,
            Offer::Nothing => return Offer::Nothing,
            Offer::End => return without_two(best, cursor - pool.min(1 + pools_in(best)) * (count + 1)),
        },
        Some(_) => return without_two(best, cursor - (1 + MOST_POOLS) * (count + 1)),
    };
    Offer::Candidate(shrunk.without(|index| index == dropped))
}

/// How many smaller pools there are to try.
fn pools_in(best: &Scenario) -> usize {
    plainer_places(best).take(MOST_POOLS).count()
}

fn without_two(best: &Scenario, cursor: usize) -> Offer {
    let count = best.steps.len();
    let (first, second) = (cursor / count, cursor % count);
    match first {
        first if first >= count => Offer::End,
        first if first >= second => Offer::Nothing,
        _ => Offer::Candidate(best.without(|index| index == first || index == second)),
    }
}

/// One lane so often, another so often, then the first.
fn dealt(lanes: usize, deal: usize) -> Vec<u8> {
    let (pair, first, second) = (deal / (DEALT * DEALT), 1 + deal / DEALT % DEALT, 1 + deal % DEALT);
    let (one, other) = (pair / (lanes - 1), pair % (lanes - 1));
    let other = if other < one { other } else { other + 1 };
    let run = |lane: usize, times| std::iter::repeat_n(lane as u8, times);
    run(one, first).chain(run(other, second)).chain([one as u8]).collect()
}

/// Leaves out a request of an allocation; whoever refers to a later one of the call then refers to the same one.
pub(super) fn fewer_requests(best: &Scenario, cursor: usize) -> Offer {
    let counted = |step: &Step| match step {
        Step::Call(Operation::Allocate { requests, .. }) if requests.len() > 1 => requests.len(),
        _ => 0,
    };
    let places =
        best.steps.iter().enumerate().flat_map(|(index, step)| (0..counted(step)).map(move |nth| (index, nth)));
    let Some((index, dropped)) = places.into_iter().nth(cursor) else { return Offer::End };
    let mut candidate = best.clone();
    if let Some(Step::Call(Operation::Allocate { requests, .. })) = candidate.steps.get_mut(index) {
        requests.remove(dropped);
    }
    for step in &mut candidate.steps[index + 1..] {
        for grant in step.grants() {
            if grant.step as usize == index && grant.nth as usize > dropped {
                grant.nth -= 1;
            }
        }
    }
    Offer::Candidate(candidate)
}

/// Does in bulk what is done in a pool one by one: all that is allocated first, then all that is released, and then as much
/// as before once more. The pool grows, with its shape or without, so that there is room.
pub(super) fn in_bulk(best: &Scenario, cursor: usize) -> Offer {
    let (_, pools) = names(best);
    let Some(pool) = pools.get(cursor / 2) else { return Offer::End };
    let allocated = |step: &Step| filling(step).filter(|(other, ..)| *other == pool).map_or(0, |(.., count)| count);
    // What is allocated elsewhere may count as well.
    let counts = best.steps.iter().filter_map(filling).map(|(.., count)| count);
    let count = counts.fold(0, u32::saturating_add);
    let last_release = best.steps.iter().rposition(|step| releases_in(step, pool));
    let (Some(last_release), 1..) = (last_release, count) else { return Offer::Nothing };
    let Some(first) = best.steps.iter().position(|step| allocated(step) > 0) else { return Offer::Nothing };
    let Some((owner, ttl_ms)) = filling(&best.steps[first]).map(|(_, owner, ttl_ms, _)| (owner.clone(), ttl_ms)) else {
        return Offer::Nothing;
    };
    let fill = |count| Step::Fill { pool: pool.clone(), owner: owner.clone(), count, ttl_ms };
    let mut candidate = best.clone();
    for step in &mut candidate.steps {
        if let Step::Call(Operation::CreatePool { pool: other, prefix, .. }) = step
            && other == pool
        {
            *prefix = widened(prefix, count);
        }
    }
    if cursor % 2 == 1 {
        without_shapes(&mut candidate);
    }
    candidate.steps[first] = fill(count);
    candidate.steps[last_release] = Step::Drain { pool: pool.clone(), count };
    let is_needless = |index: usize| {
        let step = &best.steps[index];
        index != first && index != last_release && (allocated(step) > 0 || releases_in(step, pool))
    };
    candidate.steps.push(fill(count.saturating_mul(2).saturating_add(8)));
    let end = candidate.steps.len() - 1;
    Offer::Candidate(candidate.without(|index| index < end && is_needless(index)))
}

/// Lets every new pool hand out all of its prefix.
fn without_shapes(scenario: &mut Scenario) {
    for step in &mut scenario.steps {
        if let Step::Call(Operation::CreatePool { shape, .. }) = step {
            *shape = PoolShape::default();
        }
    }
}

/// Does the step give back something of this pool?
fn releases_in(step: &Step, pool: &Text) -> bool {
    match step {
        Step::Drain { pool: other, .. } | Step::Call(Operation::Release { pool: other, .. }) => other == pool,
        _ => false,
    }
}

/// A prefix around this one with room for so many addresses.
fn widened(prefix: &Text, count: u32) -> Text {
    let Some(parsed) = parse_prefix(prefix) else { return prefix.clone() };
    // The edges take two more.
    let bits = u32::BITS - count.saturating_add(1).leading_zeros();
    let length = u32::from(parsed.max_prefix_len()).saturating_sub(bits).min(parsed.prefix_len().into());
    let wide = ipnet::IpNet::new(parsed.network(), length as u8);
    wide.map_or_else(|_| prefix.clone(), |wide| text(&wide.trunc().to_string()))
}

/// Leaves out a pool, and writes out the addresses in it that others name by their place.
pub(super) fn without_pool(best: &Scenario, cursor: usize) -> Offer {
    let Some(step) = best.steps.get(cursor) else { return Offer::End };
    let Step::Call(Operation::CreatePool { pool: dropped, prefix, .. }) = step else { return Offer::Nothing };
    let Some(prefix) = parse_prefix(prefix) else { return Offer::Nothing };
    let Span { first, last } = Span::of_prefix(prefix);
    let written = |pool: &Text, operand: &Operand| match operand {
        Operand::Nth(place, _) if pool == dropped => {
            let (from, place) = if *place < 0 { (last, *place + 1) } else { (first, *place) };
            let number = from.wrapping_add_signed(i128::from(place));
            Operand::Literal(text(&Family::of(prefix.network()).address(number).to_string()))
        }
        other => other.clone(),
    };
    let mut candidate = best.clone();
    for step in &mut candidate.steps {
        if let Step::Call(operation) = step
            && let Some(rewritten) = operation.resolve(|pool, operand| Some(written(pool, operand)))
        {
            *operation = rewritten;
        }
    }
    Offer::Candidate(candidate.without(|index| index == cursor))
}

/// Makes a pool smaller, with its shape or without, and leaves out a step at the same time: one that only took up the room.
pub(super) fn shrink_pool_and_drop(best: &Scenario, cursor: usize) -> Offer {
    let count = best.steps.len();
    if !(2..=FEW).contains(&count) {
        return Offer::End;
    }
    let (place, dropped) = (cursor / (4 * count), cursor / 4 % count);
    let (fills, clears) = (cursor % 2 == 1, cursor / 2 % 2 == 1);
    let Some((old, new)) = plainer_places(best).nth(place) else { return Offer::End };
    let mut candidate = moved_pool(best, old, new);
    if clears {
        without_shapes(&mut candidate);
    }
    if fills && !with_blocks_of(&mut candidate, new.prefix_len()) {
        return Offer::Nothing;
    }
    Offer::Candidate(candidate.without(|index| index == dropped))
}

/// Asks for blocks as large as the pool, and for any address where a place in it was named; says whether there are any blocks.
fn with_blocks_of(scenario: &mut Scenario, length: u8) -> bool {
    let mut is_any = false;
    for step in &mut scenario.steps {
        let Step::Call(Operation::Allocate { requests, .. }) = step else { continue };
        for want in requests.iter_mut().map(|request| &mut request.want) {
            match want {
                Want::Block(wanted) => (*wanted, is_any) = (length, true),
                Want::Named(Operand::Nth(..)) => *want = Want::Any,
                Want::Named(_) | Want::Any => {}
            }
        }
    }
    is_any
}

/// Moves a step to another place and leaves out one that this makes needless.
pub(super) fn move_and_drop(best: &Scenario, cursor: usize) -> Offer {
    let count = best.steps.len();
    if !(2..=FEW).contains(&count) || cursor >= count * count * count {
        return Offer::End;
    }
    let (from, to, dropped) = (cursor / (count * count), cursor / count % count, cursor % count);
    if from == to || dropped == from {
        return Offer::Nothing;
    }
    let mut order: Vec<usize> = (0..count).collect();
    order.remove(from);
    order.insert(to, from);
    Offer::Candidate(best.in_order(&order).without(|index| order[index] == dropped))
}

/// Changes one step into another that may do as well, and leaves out one or two others that this makes needless. What is
/// left of a long scenario may need its last useless steps only because of how another one is written.
pub(super) fn alter_and_drop(best: &Scenario, cursor: usize) -> Offer {
    let count = best.steps.len();
    if !(2..=FEW).contains(&count) {
        return Offer::End;
    }
    let (altered, dropped) = (cursor / (count * count), cursor % (count * count));
    let Some((index, step)) = alterations(best).nth(altered) else { return Offer::End };
    let (first, second) = (dropped / count, dropped % count);
    if first > second || first == index || second == index {
        return Offer::Nothing;
    }
    let mut candidate = best.clone();
    candidate.steps[index] = step;
    Offer::Candidate(candidate.without(|index| index == first || index == second))
}

/// Each step with what may stand in its place.
fn alterations(best: &Scenario) -> impl Iterator<Item = (usize, Step)> {
    let (owners, _) = names(best);
    best.steps.iter().enumerate().flat_map(move |(index, step)| {
        let mut others: Vec<Step> = owners.iter().map(|owner| owned_by(step, owner)).collect();
        others.extend(owner_of(step).iter().flat_map(shorter_names).map(|owner| owned_by(step, &owner)));
        others.retain(|other| other != step);
        match step {
            Step::Drain { pool, .. } => others.extend(releases(&best.steps[..index], pool)),
            Step::Fill { pool, owner, count, ttl_ms } => {
                let renewed = best.steps[index + 1..].iter().filter_map(renewal).map(|ttl_ms| Step::Fill {
                    pool: pool.clone(),
                    owner: owner.clone(),
                    count: *count,
                    ttl_ms: Some(ttl_ms),
                });
                others.extend(renewed);
                let requests = smallvec![Request { pool: pool.clone(), want: Want::Any }];
                others.push(Step::Call(Operation::Allocate { owner: owner.clone(), requests, ttl_ms: *ttl_ms }));
                // What fills a pool must take more when others take less.
                let count = count.saturating_mul(2).saturating_add(2);
                others.push(Step::Fill { pool: pool.clone(), owner: owner.clone(), count, ttl_ms: *ttl_ms });
            }
            Step::Call(operation) => {
                others.extend(merged(operation, &best.steps[index + 1..]).map(Step::Call));
                others.extend(with_holes(operation).into_iter().map(Step::Call));
                others.extend(at_first_places(operation).map(Step::Call));
            }
            _ => {}
        }
        others.into_iter().map(move |other| (index, other))
    })
}

/// Who does the step, if it says so.
fn owner_of(step: &Step) -> Option<Text> {
    names(&Scenario { steps: vec![step.clone()] }).0.pop()
}

/// The step as if this owner did it.
fn owned_by(step: &Step, owner: &Text) -> Step {
    let mut single = Scenario { steps: vec![step.clone()] };
    visit_names(&mut single, |is_owner, name| {
        if is_owner {
            *name = owner.clone();
        }
    });
    single.steps.pop().unwrap_or_else(|| step.clone())
}

/// The call with what a later one changes about it: the shape of a pool, the length of a lease.
fn merged<'a>(
    operation: &'a Operation<Operand>,
    later: &'a [Step],
) -> impl Iterator<Item = Operation<Operand>> + use<'a> {
    later.iter().filter_map(move |step| match (operation, step) {
        (Operation::CreatePool { pool, prefix, .. }, Step::Call(Operation::UpdatePool { pool: other, shape }))
            if pool == other =>
        {
            Some(Operation::CreatePool { pool: pool.clone(), prefix: prefix.clone(), shape: shape.clone() })
        }
        (Operation::Allocate { owner, requests, .. }, other) => {
            let ttl_ms = Some(renewal(other)?);
            Some(Operation::Allocate { owner: owner.clone(), requests: requests.clone(), ttl_ms })
        }
        (Operation::Advance { ms }, Step::Call(Operation::Advance { ms: more })) => {
            Some(Operation::Advance { ms: ms.saturating_add(*more) })
        }
        _ => None,
    })
}

/// The length of the lease that a step gives to what is held.
fn renewal(step: &Step) -> Option<u64> {
    match step {
        Step::Call(Operation::Renew { ttl_ms, .. }) => Some(*ttl_ms),
        _ => None,
    }
}

/// So many of the first places of a pool may stand in for an address.
const PLACES: i64 = 3;

/// The call with a place in the pool for each of its addresses: then it needs nobody that was granted one.
fn at_first_places(operation: &Operation<Operand>) -> impl Iterator<Item = Operation<Operand>> {
    let count = operation.clone().addresses_mut().count();
    (0..count).flat_map(|nth| (0..PLACES).map(move |place| (nth, place))).filter_map(move |(nth, place)| {
        let mut changed = operation.clone();
        let operand = changed.addresses_mut().nth(nth)?;
        let at = match operand {
            Operand::Granted(_, spelling) => Operand::Nth(place, *spelling),
            Operand::Nth(other, spelling) if *other != place => Operand::Nth(place, *spelling),
            _ => return None,
        };
        *operand = at;
        Some(changed)
    })
}

/// So many of the first addresses of a pool may become a hole, and by so many bits it may grow for that.
const HOLES: u128 = 4;
const GROWTH: u8 = 2;

/// A new pool with one more exclusion, and room instead: what is excluded need not be held.
fn with_holes(operation: &Operation<Operand>) -> Vec<Operation<Operand>> {
    let Operation::CreatePool { pool, prefix, shape } = operation else { return Vec::new() };
    let Some(parsed) = parse_prefix(prefix) else { return Vec::new() };
    let lengths = (0..GROWTH).filter_map(|bits| parsed.prefix_len().checked_sub(bits));
    let wider = lengths.filter_map(|length| ipnet::IpNet::new(parsed.network(), length).ok()).map(|wide| wide.trunc());
    let holed = |wide: ipnet::IpNet, place: u128| {
        let hole = Family::of(wide.network()).address(Span::of_prefix(wide).first.saturating_add(place));
        let mut shape = shape.clone();
        shape.exclude.push(text(&hole.to_string()));
        Operation::CreatePool { pool: pool.clone(), prefix: text(&wide.to_string()), shape }
    };
    wider.flat_map(|wide| (0..HOLES).map(move |place| (wide, place))).map(|(wide, place)| holed(wide, place)).collect()
}

/// A release of what each step was granted in a pool.
fn releases(steps: &[Step], pool: &Text) -> impl Iterator<Item = Step> {
    steps.iter().zip(0..).filter_map(move |(step, number)| match step {
        Step::Call(Operation::Allocate { owner, requests, .. }) => {
            let nth = requests.iter().position(|request| request.pool == *pool)?;
            let grant = GrantRef { step: number, nth: nth as u32 };
            let address = Operand::Granted(grant, Spelling::Plain);
            Some(Step::Call(Operation::Release { pool: pool.clone(), address, owner: Some(owner.clone()) }))
        }
        _ => None,
    })
}
