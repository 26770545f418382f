//! The shrinker's passes: each enumerates candidates by a cursor.

use ipnet::IpNet;

use super::Offer;
use crate::address::{Family, Span, number, parse_address, parse_prefix};
use crate::fault::{Fault, FaultKind, Moment};
use crate::operation::{Operation, PoolShape, Request, Text, Want};
use crate::scenario::names::{names, visit_names};
use crate::scenario::{GrantRef, Operand, Scenario, Spelling, Step, text};

/// Pairs are quadratic; beyond this many steps chunks must do.
const MOST_STEPS_FOR_PAIRS: usize = 80;

/// Leaves out a run of steps: halves first, single steps last, each size from the end on.
pub(super) fn drop_chunk(best: &Scenario, cursor: usize) -> Offer {
    let count = best.steps.len();
    let mut before = 0;
    let mut size = count.div_ceil(2);
    while size > 0 {
        let chunks = count.div_ceil(size);
        if cursor < before + chunks {
            let start = (chunks - 1 - (cursor - before)) * size;
            return Offer::Candidate(best.without(|index| (start..start + size).contains(&index)));
        }
        before += chunks;
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    Offer::End
}

/// Leaves out two steps.
pub(super) fn drop_pair(best: &Scenario, cursor: usize) -> Offer {
    let count = best.steps.len();
    if count > MOST_STEPS_FOR_PAIRS || cursor >= count * count {
        return Offer::End;
    }
    let (first, second) = (cursor / count, cursor % count);
    if first >= second {
        return Offer::Nothing;
    }
    Offer::Candidate(best.without(|index| index == first || index == second))
}

/// A fold spares up to so many of the last allocations, less one: what follows a restart must stay behind it.
const SPARED: usize = 3;

/// The length of the leases of a fold: as all of them have it, or as the first has it, or as one of the others.
const LEASES: usize = 3;

/// Puts allocations of any address of one pool together into one step.
pub(super) fn fold(best: &Scenario, cursor: usize) -> Offer {
    let (index, spared, lease) = (cursor / (SPARED * LEASES), cursor / LEASES % SPARED, cursor % LEASES);
    let Some(step) = best.steps.get(index) else { return Offer::End };
    let Some((pool, owner, own_ttl, count)) = filling(step) else { return Offer::Nothing };
    let is_alike = |other: &Step| {
        filling(other).is_some_and(|(other, _, ttl_ms, _)| other == pool && (lease > 0 || ttl_ms == own_ttl))
    };
    let later = best.steps.iter().enumerate().skip(index + 1).filter(|(_, step)| is_alike(step));
    let mut folded: Vec<usize> = later.map(|(later, _)| later).collect();
    folded.truncate(folded.len().saturating_sub(spared));
    let others = || folded.iter().filter_map(|index| filling(&best.steps[*index]));
    let differing = others().map(|(_, _, ttl_ms, _)| ttl_ms).find(|ttl_ms| *ttl_ms != own_ttl);
    let ttl_ms = match (lease, differing) {
        _ if folded.is_empty() => return Offer::Nothing,
        (0 | 1, _) => own_ttl,
        (_, Some(ttl_ms)) => ttl_ms,
        (_, None) => return Offer::Nothing,
    };
    let count = others().fold(count, |sum, (.., count)| sum.saturating_add(count));
    let mut candidate = best.clone();
    candidate.steps[index] = Step::Fill { pool: pool.clone(), owner: owner.clone(), count, ttl_ms };
    Offer::Candidate(candidate.without(|index| folded.contains(&index)))
}

/// The pool, owner, lease and number of allocations, where a step allocates nothing but any addresses of one pool.
pub(super) fn filling(step: &Step) -> Option<(&Text, &Text, Option<u64>, u32)> {
    match step {
        Step::Fill { pool, owner, count, ttl_ms } => Some((pool, owner, *ttl_ms, *count)),
        Step::Call(Operation::Allocate { owner, requests, ttl_ms }) => {
            let pool = &requests.first()?.pool;
            let is_any = |request: &Request<Operand>| request.pool == *pool && request.want == Want::Any;
            requests.iter().all(is_any).then_some((pool, owner, *ttl_ms, requests.len() as u32))
        }
        _ => None,
    }
}

/// Places that stand in for what a dropped step was granted.
const STAND_INS: [i64; 4] = [0, 1, 2, -2];

/// Leaves out a step that others refer to, and puts into them what it probably gave: a place in the
/// pool, the call itself, the length of its lease.
pub(super) fn drop_and_inline(best: &Scenario, cursor: usize) -> Offer {
    let count = best.steps.len();
    let (dropped, stand_in) = (cursor / STAND_INS.len(), STAND_INS[cursor % STAND_INS.len()]);
    if dropped >= count {
        return Offer::End;
    }
    let mut inlined = best.clone();
    let step = &best.steps[dropped];
    let mut is_needed = false;
    for other in &mut inlined.steps[dropped + 1..] {
        if other.references().any(|reference| *reference as usize == dropped) {
            is_needed = true;
            inline(other, step, stand_in);
        }
    }
    if !is_needed {
        return Offer::Nothing;
    }
    Offer::Candidate(inlined.without(|index| index == dropped))
}

/// Makes `step`, which refers to `dropped`, stand by itself.
fn inline(step: &mut Step, dropped: &Step, stand_in: i64) {
    match step {
        Step::Repeat { .. } => *step = dropped.clone(),
        Step::AdvanceTo { offset_ms, .. } => *step = advance_past(dropped, *offset_ms),
        Step::Call(operation) => {
            for operand in operation.addresses_mut() {
                if let Operand::Granted(_, spelling) = operand {
                    *operand = Operand::Nth(stand_in, *spelling);
                }
            }
        }
        Step::Audit
        | Step::Fill { .. }
        | Step::Drain { .. }
        | Step::Restart
        | Step::Crash
        | Step::Fault(_)
        | Step::Turns(_)
        | Step::Lane
        | Step::Join => {}
    }
}

/// Waits as long as the lease lasts that a step gave, and so much longer.
fn advance_past(leased: &Step, offset_ms: i64) -> Step {
    let ttl_ms = match leased {
        Step::Call(Operation::Allocate { ttl_ms, .. }) | Step::Fill { ttl_ms, .. } => ttl_ms.unwrap_or(0),
        Step::Call(Operation::Renew { ttl_ms, .. }) => *ttl_ms,
        _ => 0,
    };
    Step::Call(Operation::Advance { ms: ttl_ms.saturating_add_signed(offset_ms) })
}

/// Replaces one step by a simpler one.
pub(super) fn simplify_step(best: &Scenario, cursor: usize) -> Offer {
    let mut before = 0;
    for (index, step) in best.steps.iter().enumerate() {
        let mut simpler = simpler_steps(step, &best.steps);
        simpler.extend(granted_instead(step, &best.steps[..index]));
        if let Some(step) = simpler.get(cursor - before) {
            let mut candidate = best.clone();
            candidate.steps[index] = step.clone();
            return Offer::Candidate(candidate);
        }
        before += simpler.len();
    }
    Offer::End
}

/// So many of the allocations before it may a place in a pool be that of.
const MOST_GRANTS: usize = 4;

/// The step with what an earlier one was granted, where it names a place in the pool: that stays right when the pool moves.
fn granted_instead(step: &Step, before: &[Step]) -> Vec<Step> {
    let is_allocation = |step: &Step| matches!(step, Step::Call(Operation::Allocate { .. }));
    let allocations = before.iter().enumerate().rev().filter(|(_, step)| is_allocation(step)).take(MOST_GRANTS);
    let with = |(number, _): (usize, &Step)| {
        let mut changed = step.clone();
        let Step::Call(operation) = &mut changed else { return None };
        let operand = operation.addresses_mut().find(|operand| matches!(operand, Operand::Nth(..)))?;
        if let Operand::Nth(_, spelling) = *operand {
            *operand = Operand::Granted(GrantRef { step: number as u32, nth: 0 }, spelling);
        }
        Some(changed)
    };
    allocations.filter_map(with).collect()
}

/// `steps` are those that it may refer to.
fn simpler_steps(step: &Step, steps: &[Step]) -> Vec<Step> {
    match step {
        Step::Call(operation) => simpler_operations(operation).into_iter().map(Step::Call).collect(),
        Step::AdvanceTo { lease, offset_ms } => {
            let by_itself = steps.get(lease.step as usize).map(|leased| advance_past(leased, *offset_ms));
            std::iter::once(Step::AdvanceTo { lease: *lease, offset_ms: 0 }).chain(by_itself).collect()
        }
        Step::Fill { pool, owner, count, ttl_ms } => {
            let fill = |count, ttl_ms| Step::Fill { pool: pool.clone(), owner: owner.clone(), count, ttl_ms };
            let shorter = simpler_numbers(u64::from(*count)).into_iter().map(|count| fill(count as u32, *ttl_ms));
            let leases = simpler_ttls(*ttl_ms).into_iter().map(|ttl_ms| fill(*count, ttl_ms));
            shorter.chain(leases).collect()
        }
        Step::Drain { pool, count } => {
            let drain = |count| Step::Drain { pool: pool.clone(), count: count as u32 };
            simpler_numbers(u64::from(*count)).into_iter().map(drain).collect()
        }
        Step::Repeat { step } => {
            steps.get(*step as usize).filter(|step| matches!(step, Step::Call(_))).cloned().into_iter().collect()
        }
        Step::Fault(fault) => simpler_faults(*fault).map(Step::Fault).collect(),
        Step::Turns(order) => simpler_turns(order).map(Step::Turns).collect(),
        Step::Audit | Step::Restart | Step::Crash | Step::Lane | Step::Join => Vec::new(),
    }
}

/// Fewer turns: none, the first half, all but one.
fn simpler_turns(order: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let halves = [0, order.len() / 2].into_iter().filter(|half| *half < order.len()).map(|half| order[..half].to_vec());
    let without = (0..order.len()).rev().map(|place| {
        let mut fewer = order.to_vec();
        fewer.remove(place);
        fewer
    });
    halves.chain(without)
}

/// The plainest kinds first, then earlier steps and other draws.
fn simpler_faults(fault: Fault) -> impl Iterator<Item = Fault> {
    let kinds = [FaultKind::Error, FaultKind::Kill, FaultKind::PowerLoss(0)].map(|kind| Fault { kind, ..fault });
    let moment = Fault { moment: Moment::Before, ..fault };
    let steps = (0..fault.step.min(MOST_IO_STEPS)).map(move |step| Fault { step, ..fault });
    let seeds = 0..fault.kind.seed().unwrap_or(0).min(MOST_SEEDS);
    let draws = seeds.map(move |seed| Fault { kind: fault.kind.seeded(seed), ..fault });
    kinds.into_iter().chain([moment]).chain(steps).chain(draws).filter(move |simpler| *simpler != fault)
}

/// So many of the first I/O steps, and so many draws, are tried for a fault.
const MOST_IO_STEPS: u32 = 64;
const MOST_SEEDS: u32 = 4;

fn simpler_operations(operation: &Operation<Operand>) -> Vec<Operation<Operand>> {
    let mut found = match operation {
        Operation::CreatePool { pool, prefix, shape } => {
            let create = |shape| Operation::CreatePool { pool: pool.clone(), prefix: prefix.clone(), shape };
            simpler_shapes(shape).into_iter().map(create).collect()
        }
        Operation::UpdatePool { pool, shape } => {
            let update = |shape| Operation::UpdatePool { pool: pool.clone(), shape };
            simpler_shapes(shape).into_iter().map(update).collect()
        }
        Operation::Allocate { owner, requests, ttl_ms } => {
            let allocate = |requests, ttl_ms| Operation::Allocate { owner: owner.clone(), requests, ttl_ms };
            let mut simpler: Vec<_> =
                simpler_ttls(*ttl_ms).into_iter().map(|ttl| allocate(requests.clone(), ttl)).collect();
            for index in 0..requests.len() {
                let mut fewer = requests.clone();
                fewer.remove(index);
                simpler.push(allocate(fewer, *ttl_ms));
                let mut any = requests.clone();
                any[index].want = Want::Any;
                simpler.push(allocate(any, *ttl_ms));
            }
            simpler
        }
        Operation::Renew { pool, address, owner, ttl_ms } => {
            let renew = |ttl_ms| Operation::Renew {
                pool: pool.clone(),
                address: address.clone(),
                owner: owner.clone(),
                ttl_ms,
            };
            simpler_numbers(*ttl_ms).into_iter().map(renew).collect()
        }
        Operation::List { pool: Some(_) } => vec![Operation::List { pool: None }],
        Operation::Advance { ms } => simpler_numbers(*ms).into_iter().map(|ms| Operation::Advance { ms }).collect(),
        // A cut line might become a request; only a run of one byte stays what it is.
        Operation::Raw { line } if line.windows(2).all(|pair| pair[0] == pair[1]) => simpler_numbers(line.len() as u64)
            .into_iter()
            .map(|length| Operation::Raw { line: line[..length as usize].into() })
            .collect(),
        _ => Vec::new(),
    };
    found.extend(plainer_addresses(operation));
    found
}

/// The same call with one address less unusual.
fn plainer_addresses(operation: &Operation<Operand>) -> Vec<Operation<Operand>> {
    let count = operation.clone().addresses_mut().count();
    let mut found = Vec::new();
    for index in 0..count {
        for choice in 0.. {
            let mut plainer = operation.clone();
            let Some(operand) = plainer.addresses_mut().nth(index) else { break };
            let simpler = simpler_operands(operand);
            let Some(simpler) = simpler.get(choice) else { break };
            *operand = simpler.clone();
            found.push(plainer);
        }
    }
    found
}

fn simpler_operands(operand: &Operand) -> Vec<Operand> {
    match operand {
        Operand::Literal(address) if address.is_empty() => Vec::new(),
        Operand::Literal(_) => {
            vec![Operand::Nth(0, Spelling::Plain), Operand::Nth(1, Spelling::Plain), Operand::Literal(text(""))]
        }
        Operand::Granted(grant, spelling) if *spelling != Spelling::Plain => {
            vec![Operand::Granted(*grant, Spelling::Plain)]
        }
        Operand::Granted(..) => Vec::new(),
        Operand::Nth(place, spelling) => {
            let mut found: Vec<Operand> = [0, 1, -1].map(|place| Operand::Nth(place, *spelling)).to_vec();
            found.push(Operand::Nth(*place, Spelling::Plain));
            found
        }
    }
}

fn simpler_shapes(shape: &PoolShape) -> Vec<PoolShape> {
    let mut found = vec![PoolShape::default(), PoolShape { gateway: None, ..shape.clone() }];
    for index in 0..shape.ranges.len() {
        let mut fewer = shape.clone();
        let (first, last) = fewer.ranges.remove(index);
        found.push(fewer);
        for bound in [&first, &last] {
            let mut single = shape.clone();
            single.ranges[index] = (bound.clone(), bound.clone());
            found.push(single);
        }
    }
    for index in 0..shape.exclude.len() {
        let mut fewer = shape.clone();
        fewer.exclude.remove(index);
        found.push(fewer);
    }
    found
}

/// A few plain ones, then ever smaller steps down: where a border lies somewhere below, it is found as by bisection.
fn simpler_numbers(number: u64) -> Vec<u64> {
    let steps = (1..u64::BITS).map(|halvings| number >> halvings).take_while(|step| *step > 0);
    let mut found: Vec<u64> = [0, 1, 2, 10].into_iter().chain(steps.map(|step| number - step)).collect();
    found.retain(|simpler| *simpler < number);
    found.dedup();
    found
}

fn simpler_ttls(ttl_ms: Option<u64>) -> Vec<Option<u64>> {
    let Some(ttl_ms) = ttl_ms else { return Vec::new() };
    std::iter::once(None).chain(simpler_numbers(ttl_ms).into_iter().map(Some)).collect()
}

/// Names that could not be simpler.
const PLAIN_OWNERS: [&str; 5] = ["a", "b", "c", "d", "e"];
const PLAIN_POOLS: [&str; 3] = ["p0", "p1", "p2"];

/// Gives an owner or pool another name everywhere: that of another one, a plain new one, or a part of its own.
pub(super) fn rename(best: &Scenario, cursor: usize) -> Offer {
    let (owners, pools) = names(best);
    let (owner_names, pool_names) = (PLAIN_OWNERS.map(text), PLAIN_POOLS.map(text));
    let owner_pairs = owners.iter().flat_map(|old| owners.iter().chain(&owner_names).map(move |new| (true, old, new)));
    let pool_pairs = pools.iter().flat_map(|old| pools.iter().chain(&pool_names).map(move |new| (false, old, new)));
    let parts = |is_owner, names: &[Text]| -> Vec<(bool, Text, Text)> {
        names
            .iter()
            .flat_map(|old| shorter_names(old).into_iter().map(move |new| (is_owner, old.clone(), new)))
            .collect()
    };
    let whole = owner_pairs.chain(pool_pairs).map(|(is_owner, old, new)| (is_owner, old.clone(), new.clone()));
    let all = whole.chain(parts(true, &owners)).chain(parts(false, &pools)).nth(cursor);
    let Some((is_owner, old, new)) = all else { return Offer::End };
    if old == new {
        return Offer::Nothing;
    }
    let mut candidate = best.clone();
    visit_names(&mut candidate, |kind_is_owner, name| {
        if kind_is_owner == is_owner && *name == old {
            *name = new.clone();
        }
    });
    Offer::Candidate(candidate)
}

/// The beginnings and the ends of a name that is not plain, from its half down to one character.
pub(super) fn shorter_names(name: &Text) -> Vec<Text> {
    if PLAIN_POOLS.contains(&&**name) {
        return Vec::new();
    }
    let characters: Vec<char> = name.chars().collect();
    let part = |characters: &[char]| text(&characters.iter().collect::<String>());
    let (mut length, mut parts) = (characters.len(), Vec::new());
    while length > 1 {
        length = length.div_ceil(2);
        parts.push(part(&characters[..length]));
        parts.push(part(&characters[characters.len() - length..]));
    }
    parts
}

/// Makes a pool smaller, or moves it to a plain place, with every address in it.
pub(super) fn shrink_pool(best: &Scenario, cursor: usize) -> Offer {
    match plainer_places(best).nth(cursor) {
        None => Offer::End,
        Some((old, new)) if old == new => Offer::Nothing,
        Some((old, new)) => Offer::Candidate(moved_pool(best, old, new)),
    }
}

/// Each prefix with what it may become.
pub(super) fn plainer_places(best: &Scenario) -> impl Iterator<Item = (IpNet, IpNet)> {
    let created = best.steps.iter().filter_map(|step| match step {
        Step::Call(Operation::CreatePool { prefix, .. }) => parse_prefix(prefix),
        _ => None,
    });
    let mut prefixes: Vec<IpNet> = created.collect();
    prefixes.dedup();
    prefixes.into_iter().flat_map(|old| plainer_prefixes(old).into_iter().map(move |new| (old, new)))
}

fn plainer_prefixes(old: IpNet) -> Vec<IpNet> {
    let (bits, length) = (old.max_prefix_len(), old.prefix_len());
    let plain: [&str; 2] = if bits == 32 { ["10.0.0.0", "10.0.1.0"] } else { ["fd00::", "fd01::"] };
    let here = std::iter::once(old.network());
    let places: Vec<_> = here.chain(plain.iter().filter_map(|place| parse_address(place))).collect();
    let lengths = [bits, bits - 1, bits - 2, bits - 3, bits - 4, length.saturating_add(1), length];
    let shorter = lengths.into_iter().filter(|new| (length..=bits).contains(new));
    shorter
        .flat_map(|length| places.iter().filter_map(move |place| IpNet::new(*place, length).ok()))
        .map(|net| net.trunc())
        .collect()
}

/// The same scenario with every pool so large that one choice tells, and nothing of it kept back.
pub fn with_huge_pools(scenario: &Scenario) -> Scenario {
    let mut huge = scenario.clone();
    let mut places = (0xfd00_u32..0xfe00).map(|number| text(&format!("{number:x}::/16")));
    for step in &mut huge.steps {
        match step {
            Step::Call(Operation::CreatePool { prefix, shape, .. }) => {
                *shape = PoolShape::default();
                places.next().into_iter().for_each(|place| *prefix = place);
            }
            Step::Call(Operation::UpdatePool { shape, .. }) => *shape = PoolShape::default(),
            _ => {}
        }
    }
    huge
}

/// The same scenario with every prefix of more than 256 addresses cut to that many, or `None` where
/// there is none so large.
pub fn with_small_pools(scenario: &Scenario) -> Option<Scenario> {
    let created = scenario.steps.iter().filter_map(|step| match step {
        Step::Call(Operation::CreatePool { prefix, .. }) => parse_prefix(prefix),
        _ => None,
    });
    let large: Vec<IpNet> = created.filter(|prefix| prefix.max_prefix_len() - prefix.prefix_len() > 8).collect();
    let cut = |smaller: Scenario, old: &IpNet| match IpNet::new(old.network(), old.max_prefix_len() - 8) {
        Ok(new) => moved_pool(&smaller, *old, new),
        Err(_) => smaller,
    };
    (!large.is_empty()).then(|| large.iter().fold(scenario.clone(), cut))
}

/// Moves every address text within `old` to the same distance from the nearer end of `new`.
pub(super) fn moved_pool(best: &Scenario, old: IpNet, new: IpNet) -> Scenario {
    let mut candidate = best.clone();
    for step in &mut candidate.steps {
        let Step::Call(operation) = step else { continue };
        match operation {
            Operation::CreatePool { prefix, shape, .. } => {
                if parse_prefix(prefix) == Some(old) {
                    *prefix = text(&new.to_string());
                }
                move_shape(shape, old, new);
            }
            Operation::UpdatePool { shape, .. } => move_shape(shape, old, new),
            _ => {
                for operand in operation.addresses_mut() {
                    if let Operand::Literal(address) = operand {
                        move_text(address, old, new);
                    }
                }
            }
        }
    }
    candidate
}

fn move_shape(shape: &mut PoolShape, old: IpNet, new: IpNet) {
    for (first, last) in &mut shape.ranges {
        move_text(first, old, new);
        move_text(last, old, new);
    }
    shape.gateway.iter_mut().for_each(|gateway| move_text(gateway, old, new));
    for exclusion in &mut shape.exclude {
        if let Some((first, last)) = exclusion.split_once('-') {
            let (mut first, mut last) = (text(first), text(last));
            move_text(&mut first, old, new);
            move_text(&mut last, old, new);
            *exclusion = text(&format!("{first}-{last}"));
        } else {
            move_text(exclusion, old, new);
        }
    }
}

fn move_text(address: &mut Text, old: IpNet, new: IpNet) {
    let Some(parsed) = parse_address(address).filter(|parsed| old.contains(parsed)) else { return };
    let (from, to) = (Span::of_prefix(old), Span::of_prefix(new));
    let size = to.last - to.first;
    let (low, high) = (number(parsed) - from.first, from.last - number(parsed));
    let target = if low <= high { to.first + low.min(size) } else { to.last - high.min(size) };
    *address = text(&Family::of(parsed).address(target).to_string());
}
