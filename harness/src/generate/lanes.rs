//! Scenarios with lanes: a few callers at a pool that is nearly full, or at two.

use fastrand::Rng;

use crate::address::Family;
use crate::contract::{Clock, Contract};
use crate::operation::{Method, Operation, PoolShape, Request, Requests, Text, Want};
use crate::scenario::{GrantRef, Operand, Scenario, Spelling, Step, text};
use crate::sut::Scheduling;

/// A lane has so many steps at most.
const LONGEST_LANE: usize = 4;
/// What is drained and filled at the end: all of a pool this small.
const ALL: u32 = 16;

/// The name of the second pool, where there is one.
const SECOND: &str = "p1";

/// So many turns are given at most; a call of SQLite's has some 30 steps of I/O.
const MOST_TURNS: usize = 160;
/// The same lane goes on so often in a row at most.
const LONGEST_RUN: usize = 24;

/// Draws scenarios with lanes.
#[derive(Clone, Debug)]
pub struct Lanes {
    contract: Contract,
    most: usize,
    scheduling: Scheduling,
}

impl Lanes {
    /// So many lanes are drawn unless told otherwise.
    pub const DEFAULT: usize = 3;

    /// For systems with this contract: two lanes to so many, with or without an order in which they go on.
    pub fn new(contract: &Contract, most: usize, scheduling: Scheduling) -> Lanes {
        Lanes { contract: contract.clone(), most: most.max(2), scheduling }
    }

    /// The scenario of a seed: the same for the same contract and version.
    pub fn scenario(&self, seed: u64) -> Scenario {
        let mut rng = Rng::with_seed(seed);
        let (pool, mut steps) = (text("p0"), Vec::new());
        steps.push(self.pool(&mut rng, &pool));
        if rng.bool() {
            steps.push(Step::Fill { pool: pool.clone(), owner: text("z"), count: rng.u32(1..6), ttl_ms: None });
        }
        let beginning = steps.len();
        let mut pools = vec![pool];
        if rng.u8(..4) == 0 {
            steps.push(self.second_pool(&steps[0]));
            pools.push(text(SECOND));
        }
        let lanes = rng.usize(2..=self.most);
        let has_turns = match self.scheduling {
            Scheduling::Machine => false,
            Scheduling::Turns => true,
            Scheduling::Either => rng.bool(),
        };
        if has_turns {
            steps.push(Step::Turns(turns(&mut rng, lanes)));
        }
        let may_have_transactions = self.contract.has_transactions() && rng.u8(..3) == 0;
        for lane in 0..lanes {
            steps.push(Step::Lane);
            let caller = Caller { lane, pools: &pools, beginning, first: steps.len() };
            let length = rng.usize(1..=LONGEST_LANE);
            let begins = (may_have_transactions && rng.bool()).then(|| rng.usize(..length));
            for place in 0..length {
                if begins == Some(place) {
                    steps.push(Step::Call(Operation::Begin));
                }
                let step = self.step(&mut rng, &caller, &steps);
                steps.push(step);
            }
            steps.extend(begins.and_then(|_| end_of_transaction(&mut rng)));
        }
        steps.push(Step::Join);
        for pool in pools {
            steps.push(Step::Drain { pool: pool.clone(), count: ALL });
            steps.push(Step::Fill { pool, owner: text("y"), count: ALL, ttl_ms: None });
        }
        Scenario { steps }
    }

    /// A changed copy: another order of the lanes, or steps of theirs that are dropped, repeated, moved or drawn anew. For
    /// engines that evolve scenarios.
    pub fn mutate(&self, scenario: &Scenario, rng: &mut Rng) -> Scenario {
        let lanes: Vec<usize> = places(scenario, |step| *step == Step::Lane);
        let within = within_lanes(scenario);
        if within.is_empty() || rng.u8(..) < 8 {
            return self.scenario(rng.u64(..));
        }
        let (at, other) = (within[rng.usize(..within.len())], within[rng.usize(..within.len())]);
        let mut changed = scenario.clone();
        match rng.u8(..6) {
            0 => return scenario.without(|index| index == at),
            1 | 2 => reorder(&mut changed, lanes.len(), rng),
            3 => changed.steps[at] = self.step_instead(scenario, &lanes, at, rng),
            4 => changed.steps.swap(at, other),
            _ => changed.steps[at] = scenario.steps[other].clone(),
        }
        changed
    }

    /// Another step at a place within a lane, of whoever calls there.
    fn step_instead(&self, scenario: &Scenario, lanes: &[usize], at: usize, rng: &mut Rng) -> Step {
        let is_second =
            |step: &Step| matches!(step, Step::Call(Operation::CreatePool { pool, .. }) if **pool == *SECOND);
        let pools = [text("p0"), text(SECOND)];
        let known = if scenario.steps.iter().any(is_second) { &pools[..] } else { &pools[..1] };
        let lane = lanes.partition_point(|start| *start < at).saturating_sub(1);
        let first = lanes.get(lane).map_or(at, |start| start + 1);
        self.step(rng, &Caller { lane, pools: known, beginning: 1, first }, &scenario.steps[..at])
    }

    fn pool(&self, rng: &mut Rng, pool: &Text) -> Step {
        let families = self.contract.families;
        let is_v4 = if families.is_both() { rng.bool() } else { families.contains(Family::V4) };
        // The fewer addresses there are, the fewer calls it takes until callers meet at one.
        let longest =
            if is_v4 { self.contract.limits.longest_prefix[0] } else { self.contract.limits.longest_prefix[1] - 96 };
        let (prefix, gateway) = match (is_v4, rng.u8(..4.min(longest - 28))) {
            (true, 0) => ("10.0.0.0/29", "10.0.0.1"),
            (true, 1) => ("10.0.0.0/30", "10.0.0.1"),
            (true, 2) => ("10.0.0.0/31", "10.0.0.1"),
            (true, _) => ("10.0.0.0/32", "10.0.0.0"),
            (false, 0) => ("fd00::/125", "fd00::1"),
            (false, 1) => ("fd00::/126", "fd00::1"),
            (false, 2) => ("fd00::/127", "fd00::1"),
            (false, _) => ("fd00::/128", "fd00::"),
        };
        let is_tiny = prefix.ends_with("/32") || prefix.ends_with("/128");
        let has_gateway = self.contract.limits.gateway_required || (rng.u8(..4) == 0 && !is_tiny);
        let shape = PoolShape { gateway: has_gateway.then(|| text(gateway)), ..PoolShape::default() };
        Step::Call(Operation::CreatePool { pool: pool.clone(), prefix: text(prefix), shape })
    }

    /// One more pool, of the same family as the first, beside it.
    fn second_pool(&self, first: &Step) -> Step {
        let is_v6 = matches!(first, Step::Call(Operation::CreatePool { prefix, .. }) if prefix.contains(':'));
        let (prefix, gateway) = if is_v6 { ("fd00::100/125", "fd00::101") } else { ("10.0.1.0/29", "10.0.1.1") };
        let gateway = self.contract.limits.gateway_required.then(|| text(gateway));
        let shape = PoolShape { gateway, ..PoolShape::default() };
        Step::Call(Operation::CreatePool { pool: text(SECOND), prefix: text(prefix), shape })
    }

    /// A step of a lane after these: mostly of its own owner, now and then of somebody else's.
    fn step(&self, rng: &mut Rng, caller: &Caller<'_>, steps: &[Step]) -> Step {
        let name = |lane: usize| text(&char::from(b'a' + lane as u8 % 24).to_string());
        // Some callers can give back only what they made.
        let knows_others = self.contract.limits.partial_release;
        let is_other = knows_others && rng.u8(..8) == 0;
        let owner = name(if is_other { rng.usize(..self.most) } else { caller.lane });
        let pool = &caller.pools[rng.usize(..caller.pools.len())];
        let allocate = |want| allocate(&owner, &[(pool, want)], None);
        let nth = |rng: &mut Rng| Operand::Nth(rng.i64(0..6) / rng.i64(1..3), Spelling::Plain);
        let has = |method| self.contract.has(method);
        let release =
            |pool: &Text, address, owner| Operation::Release { pool: pool.clone(), address, owner: Some(owner) };
        Step::Call(match rng.u8(..20) {
            0..6 => allocate(Want::Any),
            6..8 => allocate(Want::Named(nth(rng))),
            8..13 if has(Method::Release) && caller.first < steps.len() => {
                let step = rng.usize(caller.first..steps.len());
                let address = Operand::Granted(GrantRef { step: step as u32, nth: 0 }, Spelling::Plain);
                release(pool_of(&steps[step]).unwrap_or(pool), address, owner)
            }
            13 if has(Method::Release) && caller.beginning > 1 => {
                let address = Operand::Granted(GrantRef { step: 1, nth: rng.u32(..4) }, Spelling::Plain);
                release(&caller.pools[0], address, text("z"))
            }
            14 if has(Method::Release) && knows_others => release(pool, nth(rng), owner),
            15 if has(Method::ReleaseOwner) => Operation::ReleaseOwner { owner },
            16 if has(Method::List) => Operation::List { pool: rng.bool().then(|| pool.clone()) },
            17 if has(Method::Usage) => Operation::Usage { pool: pool.clone() },
            18 => self.rare(rng, caller, pool, &owner),
            _ => allocate(Want::Any),
        })
    }

    /// What touches more than an address.
    fn rare(&self, rng: &mut Rng, caller: &Caller<'_>, pool: &Text, owner: &Text) -> Operation<Operand> {
        let is_second = *pool != caller.pools[0];
        match rng.u8(..4) {
            0 if self.contract.takes_several() && is_second => {
                allocate(owner, &[(&caller.pools[0], Want::Any), (pool, Want::Any)], None)
            }
            1 if self.contract.has(Method::PoolDelete) && is_second => Operation::DeletePool { pool: pool.clone() },
            2 if self.contract.blocks => {
                allocate(owner, &[(pool, Want::Block(if rng.bool() { 31 } else { 127 }))], None)
            }
            _ if self.contract.clock == Clock::Virtual => allocate(owner, &[(pool, Want::Any)], Some(rng.u64(1..100))),
            _ => allocate(owner, &[(pool, Want::Any)], None),
        }
    }
}

/// Who draws steps of a lane.
struct Caller<'a> {
    lane: usize,
    pools: &'a [Text],
    /// Where the steps end that come before all lanes and have to do with the first pool.
    beginning: usize,
    /// The first step of the lane.
    first: usize,
}

fn allocate(owner: &Text, requests: &[(&Text, Want<Operand>)], ttl_ms: Option<u64>) -> Operation<Operand> {
    let requests = requests.iter().map(|(pool, want)| Request { pool: (*pool).clone(), want: want.clone() });
    Operation::Allocate { owner: owner.clone(), requests: Requests::from_iter(requests), ttl_ms }
}

/// The pool that a step takes from first.
fn pool_of(step: &Step) -> Option<&Text> {
    match step {
        Step::Call(Operation::Allocate { requests, .. }) => requests.first().map(|request| &request.pool),
        _ => None,
    }
}

/// Mostly a commit; now and then the caller just goes.
fn end_of_transaction(rng: &mut Rng) -> Option<Step> {
    match rng.u8(..8) {
        0..5 => Some(Step::Call(Operation::Commit)),
        5..7 => Some(Step::Call(Operation::Rollback)),
        _ => None,
    }
}

/// Where steps of a kind are.
fn places(scenario: &Scenario, is_one: impl Fn(&Step) -> bool) -> Vec<usize> {
    (0..scenario.steps.len()).filter(|index| is_one(&scenario.steps[*index])).collect()
}

/// Where the callers' own steps are, from the first lane to where they join.
fn within_lanes(scenario: &Scenario) -> Vec<usize> {
    let first = scenario.steps.iter().position(|step| *step == Step::Lane).unwrap_or(scenario.steps.len());
    let join = scenario.steps.iter().position(|step| *step == Step::Join).unwrap_or(scenario.steps.len());
    (first..join).filter(|index| scenario.steps[*index] != Step::Lane).collect()
}

/// Another order of the lanes, or the same with some of it replaced.
fn reorder(scenario: &mut Scenario, lanes: usize, rng: &mut Rng) {
    let drawn = turns(rng, lanes);
    for step in &mut scenario.steps {
        let Step::Turns(order) = step else { continue };
        let from = rng.usize(..=order.len());
        let until = rng.usize(from..=order.len());
        let kept = order.len() - (until - from);
        order.splice(from..until, drawn.iter().copied().take(MOST_TURNS.saturating_sub(kept)));
    }
}

/// An order in which so many lanes go on: now in short runs, now in long ones, as few interruptions show most defects and
/// some need many (Burckhardt et al., *A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs*, 2010).
fn turns(rng: &mut Rng, lanes: usize) -> Vec<u8> {
    let (places, longest) = (rng.usize(..MOST_TURNS), 1 + rng.usize(..LONGEST_RUN));
    let mut order = Vec::with_capacity(places);
    while order.len() < places {
        let (lane, run) = (rng.u8(..lanes as u8), 1 + rng.usize(..longest));
        order.extend(std::iter::repeat_n(lane, run));
    }
    order
}
