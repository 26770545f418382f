//! Changed copies of scenarios, and two made one: for engines that evolve scenarios, such as a coverage-guided fuzzer.
//!
//! [`CHANGES`] is the table of what may happen to a scenario, and how often. What is drawn for one fits its own pools and
//! owners, and references move with the steps that they refer to.

use fastrand::Rng;

use super::pools::DrawnPool;
use super::steps::{Drawn, Weights};
use super::{Generator, Shape, chance, pick, pools};
use crate::address::{Family, Span, parse_prefix};
use crate::operation::{Operation, PoolShape, Text, Want};
use crate::scenario::names::{names, names_in, visit_names};
use crate::scenario::{GrantRef, Operand, Scenario, Spelling, Step, text};

/// At most so many steps in a row are dropped, repeated or moved.
const LONGEST_RUN: usize = 4;
/// A run of steps is repeated at most so often.
const MOST_COPIES: usize = 6;

/// Changes a scenario; `None` where there is nothing that it could change.
type Change = fn(&Generator, &Scenario, &mut Rng) -> Option<Scenario>;

/// What may happen to a scenario, and how often.
const CHANGES: [(u8, Change); 10] = [
    (4, |_, scenario, rng| Some(dropped(scenario, rng))),
    (5, inserted),
    (3, replaced),
    (6, |_, scenario, rng| tweaked(scenario, rng)),
    (2, reshaped),
    (2, |_, scenario, rng| Some(repeated(scenario, rng))),
    (1, |_, scenario, rng| Some(swapped(scenario, rng))),
    (2, |_, scenario, rng| Some(moved(scenario, rng))),
    // What is wrong for a moment only shows to who looks then.
    (1, |_, scenario, rng| Some(scenario.with(rng.usize(..=scenario.steps.len()), vec![Step::Audit]))),
    (1, |generator, scenario, rng| Some(spliced(scenario.steps.clone(), generator.draw(rng).steps, 0))),
];

impl Generator {
    /// A changed copy: steps dropped, put in, drawn anew, repeated or moved, an operand or the shape of a pool changed, or
    /// another scenario behind it; at times one that has nothing to do with it.
    pub fn mutate(&self, scenario: &Scenario, rng: &mut Rng) -> Scenario {
        if scenario.steps.is_empty() || rng.u8(..) < 8 {
            return self.draw(rng);
        }
        // One change alone often leads nowhere; several at once rarely lead anywhere good.
        let mut changed = self.changed(scenario, rng);
        while chance(5, rng) && !changed.steps.is_empty() {
            changed = self.changed(&changed, rng);
        }
        self.cut(changed)
    }

    /// A changed copy with faults: in half of all cases one comes, goes or strikes elsewhere, else it is as with
    /// [`mutate`](Generator::mutate). What is drawn has none in it, until it is changed again.
    pub fn mutate_with_faults(&self, scenario: &Scenario, rng: &mut Rng) -> Scenario {
        if rng.bool() { super::faults::changed(scenario, rng) } else { self.mutate(scenario, rng) }
    }

    /// The beginning of one scenario and the end of another. The pools of the other become those of the one.
    pub fn cross(&self, one: &Scenario, other: &Scenario, rng: &mut Rng) -> Scenario {
        if one.steps.is_empty() || other.steps.is_empty() {
            return if one.steps.is_empty() { other.clone() } else { one.clone() };
        }
        let (until, from) = (1 + rng.usize(..one.steps.len()), rng.usize(..other.steps.len()));
        let mut beginning = Scenario { steps: one.steps[..until].to_vec() };
        let mut end = Scenario { steps: other.steps[from..].to_vec() };
        if chance(12, rng) {
            rename_pools(&mut end, &mut beginning);
        }
        self.cut(spliced(beginning.steps, end.steps, from))
    }

    fn changed(&self, scenario: &Scenario, rng: &mut Rng) -> Scenario {
        let total: u8 = CHANGES.iter().map(|(weight, _)| weight).sum();
        let mut drawn = rng.u8(..total);
        for (weight, change) in CHANGES {
            if drawn < weight {
                return change(self, scenario, rng).unwrap_or_else(|| dropped(scenario, rng));
            }
            drawn -= weight;
        }
        dropped(scenario, rng)
    }

    /// Twice as long as a drawn one is long enough.
    fn cut(&self, mut scenario: Scenario) -> Scenario {
        scenario.steps.truncate(self.max_steps.saturating_mul(2));
        scenario
    }

    /// The shape that this scenario could have been drawn from; `None` where it makes no pool that exists.
    fn shape_of(&self, scenario: &Scenario, rng: &mut Rng) -> Option<Shape> {
        let pools: Vec<DrawnPool> = scenario.steps.iter().filter_map(drawn_pool).take(usize::from(u8::MAX)).collect();
        if pools.is_empty() {
            return None;
        }
        let (mut owners, _) = names(scenario);
        if owners.is_empty() || chance(1, rng) {
            owners.push(text("new"));
        }
        let weights = Weights::draw(&self.contract, rng);
        let leases_of_16 = *pick(&[0, 4, 12], rng);
        Some(Shape { pools, owners, weights, leases_of_16, odd_of_16: *pick(&[0, 0, 1, 4], rng), steps: 1 })
    }
}

/// The pool that a step makes, as it would have been drawn.
fn drawn_pool(step: &Step) -> Option<DrawnPool> {
    let Step::Call(Operation::CreatePool { pool, prefix, shape }) = step else { return None };
    let net = parse_prefix(prefix)?;
    Some(DrawnPool {
        name: pool.clone(),
        family: Family::of(net.addr()),
        prefix: Span::of_prefix(net),
        prefix_text: prefix.clone(),
        shape: shape.clone(),
    })
}

/// Where some steps in a row begin, and where they end.
fn run(scenario: &Scenario, rng: &mut Rng) -> (usize, usize) {
    let at = rng.usize(..scenario.steps.len());
    (at, (at + 1 + rng.usize(..LONGEST_RUN)).min(scenario.steps.len()))
}

fn dropped(scenario: &Scenario, rng: &mut Rng) -> Scenario {
    let (from, until) = run(scenario, rng);
    scenario.without(|index| (from..until).contains(&index))
}

fn inserted(generator: &Generator, scenario: &Scenario, rng: &mut Rng) -> Option<Scenario> {
    let shape = generator.shape_of(scenario, rng)?;
    let at = rng.usize(1..=scenario.steps.len());
    let mut drawn = Drawn::after(&generator.contract, &shape, &scenario.steps[..at]);
    for _ in 0..1 + rng.usize(..3) {
        drawn.step(rng);
    }
    let new = drawn.into_scenario().steps.split_off(at);
    Some(scenario.with(at, new))
}

fn replaced(generator: &Generator, scenario: &Scenario, rng: &mut Rng) -> Option<Scenario> {
    let shape = generator.shape_of(scenario, rng)?;
    let at = rng.usize(..scenario.steps.len());
    let mut drawn = Drawn::after(&generator.contract, &shape, &scenario.steps[..at]);
    drawn.step(rng);
    let mut changed = scenario.clone();
    changed.steps[at] = drawn.into_scenario().steps.pop()?;
    Some(changed)
}

/// Some steps once or several times more, right behind themselves or at the end.
fn repeated(scenario: &Scenario, rng: &mut Rng) -> Scenario {
    let (from, until) = run(scenario, rng);
    let at = if rng.bool() { until } else { scenario.steps.len() };
    let copies = if rng.bool() { 1 } else { 1 + rng.usize(..MOST_COPIES) };
    let copied: Vec<Step> = (0..copies).flat_map(|_| scenario.steps[from..until].iter().cloned()).collect();
    scenario.with(at, copied)
}

fn swapped(scenario: &Scenario, rng: &mut Rng) -> Scenario {
    let mut changed = scenario.clone();
    let count = changed.steps.len();
    changed.steps.swap(rng.usize(..count), rng.usize(..count));
    changed
}

fn moved(scenario: &Scenario, rng: &mut Rng) -> Scenario {
    let (from, until) = run(scenario, rng);
    let mut order: Vec<usize> = (0..scenario.steps.len()).collect();
    let taken: Vec<usize> = order.drain(from..until).collect();
    let to = rng.usize(..=order.len());
    order.splice(to..to, taken);
    scenario.in_order(&order)
}

/// The beginning of one scenario, and the end of another, from a step on. References to what is left out point to what has come
/// in its place.
fn spliced(mut steps: Vec<Step>, mut end: Vec<Step>, from: usize) -> Scenario {
    let until = steps.len();
    for reference in end.iter_mut().flat_map(Step::references) {
        let is_there = *reference as usize >= from;
        *reference = if is_there { *reference - from as u32 + until as u32 } else { *reference % until as u32 };
    }
    steps.append(&mut end);
    Scenario { steps }
}

/// Gives the pools of a scenario the names of those of another, one after the other.
fn rename_pools(scenario: &mut Scenario, other: &mut Scenario) {
    let ((_, old), (_, new)) = (names_in(scenario), names_in(other));
    if new.is_empty() {
        return;
    }
    visit_names(scenario, |is_owner, name| {
        if !is_owner && let Some(place) = old.iter().position(|old| old == name) {
            *name = new[place % new.len()].clone();
        }
    });
}

/// A pool with another shape, or of another size.
fn reshaped(generator: &Generator, scenario: &Scenario, rng: &mut Rng) -> Option<Scenario> {
    let made: Vec<usize> = (0..scenario.steps.len()).filter(|at| drawn_pool(&scenario.steps[*at]).is_some()).collect();
    let at = *made.get(rng.usize(..made.len().max(1)))?;
    let old = drawn_pool(&scenario.steps[at])?;
    let mut changed = scenario.clone();
    if let Step::Call(Operation::CreatePool { prefix, shape, .. }) = &mut changed.steps[at] {
        match rng.u8(..4) {
            0 => *prefix = resized(&old, rng)?,
            1 => *shape = PoolShape::default(),
            _ => *shape = pools::shape(&generator.contract, old.family, old.prefix, rng),
        }
    }
    Some(changed)
}

/// A prefix a little longer or shorter, at the same place.
fn resized(pool: &DrawnPool, rng: &mut Rng) -> Option<Text> {
    let net = parse_prefix(&pool.prefix_text)?;
    let by = 1 + rng.u8(..3);
    let length = if rng.bool() { net.prefix_len() + by } else { net.prefix_len().saturating_sub(by) };
    let host_bits = pool.family.bits().checked_sub(length)?;
    let first = pool.prefix.first.checked_shr(u32::from(host_bits)).unwrap_or(0);
    let first = first.checked_shl(u32::from(host_bits)).unwrap_or(0);
    Some(text(&format!("{}/{length}", pool.family.address(first))))
}

/// One operand of one step, changed a little or for another that occurs.
fn tweaked(scenario: &Scenario, rng: &mut Rng) -> Option<Scenario> {
    let mut changed = scenario.clone();
    let (owners, pools) = names_in(&mut changed);
    // Some steps have nothing to be changed.
    for _ in 0..4 {
        let at = rng.usize(..scenario.steps.len());
        let mut tweak = Tweak { owners: &owners, pools: &pools, at, rng };
        if tweak.step(&mut changed.steps[at]).is_some() {
            return Some(changed);
        }
    }
    None
}

/// Changes one operand; `None` where there is none.
struct Tweak<'a> {
    owners: &'a [Text],
    pools: &'a [Text],
    /// The step that is changed: it may refer to those before it.
    at: usize,
    rng: &'a mut Rng,
}

impl Tweak<'_> {
    fn step(&mut self, step: &mut Step) -> Option<()> {
        match step {
            Step::Call(operation) => self.call(operation),
            Step::AdvanceTo { lease, offset_ms } => match self.rng.bool() {
                true => self.reference(lease),
                false => {
                    *offset_ms = offset_ms.saturating_add(if self.rng.bool() { 1 } else { -1 });
                    Some(())
                }
            },
            Step::Fill { pool, owner, count, ttl_ms } => match self.rng.u8(..4) {
                0 => self.pool(pool),
                1 => self.owner(owner),
                2 => self.optional(ttl_ms),
                _ => self.count(count),
            },
            Step::Drain { pool, count } => {
                if self.rng.bool() {
                    self.pool(pool)
                } else {
                    self.count(count)
                }
            }
            Step::Repeat { step } => {
                *step = self.rng.u32(..self.at as u32 + 1);
                Some(())
            }
            Step::Audit | Step::Restart | Step::Crash | Step::Fault(_) | Step::Turns(_) | Step::Lane | Step::Join => {
                None
            }
        }
    }

    fn call(&mut self, operation: &mut Operation<Operand>) -> Option<()> {
        match operation {
            Operation::Allocate { owner, requests, ttl_ms } => match self.rng.u8(..8) {
                0 | 1 => self.owner(owner),
                2 => self.optional(ttl_ms),
                drawn => {
                    let nth = self.rng.usize(..requests.len().max(1));
                    let request = requests.get_mut(nth)?;
                    if drawn < 5 { self.pool(&mut request.pool) } else { self.want(&mut request.want) }
                }
            },
            Operation::Release { pool, address, owner } => match (self.rng.u8(..4), owner) {
                (0, _) => self.pool(pool),
                (1, Some(owner)) => self.owner(owner),
                _ => self.operand(address),
            },
            Operation::Renew { pool, address, owner, ttl_ms } => match self.rng.u8(..4) {
                0 => self.pool(pool),
                1 => self.owner(owner),
                2 => self.operand(address),
                _ => self.number(ttl_ms),
            },
            Operation::ReleaseOwner { owner } => self.owner(owner),
            Operation::List { pool: Some(pool) }
            | Operation::Usage { pool }
            | Operation::DeletePool { pool }
            | Operation::UpdatePool { pool, .. } => self.pool(pool),
            Operation::Advance { ms } => self.number(ms),
            Operation::CreatePool { .. }
            | Operation::List { pool: None }
            | Operation::Begin
            | Operation::Commit
            | Operation::Rollback
            | Operation::Raw { .. } => None,
        }
    }

    fn pool(&mut self, pool: &mut Text) -> Option<()> {
        *pool = self.pools.get(self.rng.usize(..self.pools.len().max(1)))?.clone();
        Some(())
    }

    fn owner(&mut self, owner: &mut Text) -> Option<()> {
        *owner = self.owners.get(self.rng.usize(..self.owners.len().max(1)))?.clone();
        Some(())
    }

    fn want(&mut self, want: &mut Want<Operand>) -> Option<()> {
        match want {
            Want::Named(operand) if self.rng.bool() => return self.operand(operand),
            Want::Block(length) if self.rng.bool() => {
                *length = if self.rng.bool() { length.saturating_add(1) } else { length.saturating_sub(1) };
            }
            Want::Any => *want = Want::Named(Operand::Nth(self.rng.i64(-3..6), Spelling::Plain)),
            _ => *want = Want::Any,
        }
        Some(())
    }

    fn operand(&mut self, operand: &mut Operand) -> Option<()> {
        match operand {
            Operand::Granted(reference, spelling) => match self.rng.u8(..4) {
                0 => *spelling = *pick(&Spelling::ALL, self.rng),
                _ => return self.reference(reference),
            },
            Operand::Nth(place, spelling) => match self.rng.u8(..4) {
                0 => *spelling = *pick(&Spelling::ALL, self.rng),
                1 => *place = place.saturating_add(1),
                2 => *place = place.saturating_sub(1),
                _ => *operand = Operand::Granted(self.earlier(), Spelling::Plain),
            },
            Operand::Literal(_) => *operand = Operand::Nth(self.rng.i64(-3..6), Spelling::Plain),
        }
        Some(())
    }

    fn reference(&mut self, reference: &mut GrantRef) -> Option<()> {
        *reference = self.earlier();
        Some(())
    }

    /// The first grants of recent steps are the interesting ones.
    fn earlier(&mut self) -> GrantRef {
        let window = if self.rng.bool() { self.at.min(4) } else { self.at };
        let step = self.at.saturating_sub(1 + self.rng.usize(..window.max(1))) as u32;
        GrantRef { step, nth: if chance(4, self.rng) { self.rng.u32(..4) } else { 0 } }
    }

    fn optional(&mut self, number: &mut Option<u64>) -> Option<()> {
        match number {
            Some(number) if chance(12, self.rng) => return self.number(number),
            Some(_) => *number = None,
            None => *number = Some(*pick(&[1, 10, 1000], self.rng)),
        }
        Some(())
    }

    fn number(&mut self, number: &mut u64) -> Option<()> {
        *number = match self.rng.u8(..5) {
            0 => number.saturating_add(1),
            1 => number.saturating_sub(1),
            2 => number.saturating_mul(2),
            3 => *number / 2,
            _ => *pick(&[0, 1, 10, 1000, 60_000, 86_400_000], self.rng),
        };
        Some(())
    }

    fn count(&mut self, count: &mut u32) -> Option<()> {
        *count = match self.rng.u8(..4) {
            0 => count.saturating_add(1),
            1 => count.saturating_sub(1),
            2 => *count / 2,
            _ => *pick(&[1, 2, 4, 8, 16, 32, 300], self.rng),
        };
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Clock, Contract, Methods};
    use crate::scenario::parse;

    fn generator() -> Generator {
        let contract = Contract { methods: Methods::all(), clock: Clock::Virtual, ..Contract::default() };
        Generator::new(&contract)
    }

    /// A step's reference to what comes before it is to the same step before and after.
    fn scenario() -> Scenario {
        let text =
            "poolproof scenario 1\npool p0 10.0.0.0/29\nallocate \"a\" p0\nallocate \"b\" p0\nrelease p0 @3 \"b\"\n";
        parse(text).unwrap()
    }

    #[test]
    fn the_same_seed_changes_a_scenario_in_the_same_way() {
        let changed = |seed| generator().mutate(&scenario(), &mut Rng::with_seed(seed));
        assert!((0..100).all(|seed| changed(seed) == changed(seed)));
    }

    #[test]
    fn every_change_leads_to_something_else_and_to_a_text_that_is_read_again() {
        let generator = generator();
        for (number, (_, change)) in CHANGES.iter().enumerate() {
            let all: Vec<Scenario> =
                (0..64).filter_map(|seed| change(&generator, &scenario(), &mut Rng::with_seed(seed))).collect();
            assert!(all.iter().any(|changed| *changed != scenario()), "change {number}");
            for changed in all {
                assert_eq!(parse(&changed.to_string()), Ok(changed.clone()), "change {number}");
            }
        }
    }

    #[test]
    fn what_is_put_in_moves_references_with_their_steps() {
        let lines = |scenario: &Scenario| scenario.to_string().lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        let grown = scenario().with(1, vec![Step::Restart]);
        assert_eq!(lines(&grown)[4], "release p0 @4 \"b\"");
        let crossed = spliced(scenario().steps[..2].to_vec(), scenario().steps.split_off(2), 2);
        assert_eq!(lines(&crossed)[2..], ["allocate \"b\" p0", "release p0 @3 \"b\""]);
    }

    #[test]
    fn an_operand_of_every_step_that_has_one_can_be_changed() {
        let generator = generator();
        for seed in 0..50 {
            for (at, step) in generator.scenario(seed).steps.iter().enumerate() {
                let (owners, pools) = ([text("x")], [text("y")]);
                let mut changed = step.clone();
                let mut rng = Rng::with_seed(seed);
                let has_operand = (0..20).any(|_| {
                    Tweak { owners: &owners, pools: &pools, at, rng: &mut rng }.step(&mut changed);
                    changed != *step
                });
                let has_none = matches!(
                    step,
                    Step::Restart
                        | Step::Crash
                        | Step::Call(
                            Operation::CreatePool { .. }
                                | Operation::Begin
                                | Operation::Commit
                                | Operation::Rollback
                                | Operation::List { pool: None }
                                | Operation::Raw { .. }
                        )
                );
                let may_be_empty = matches!(step, Step::Call(Operation::Allocate { .. })) || (at == 0);
                assert!(has_operand != has_none || may_be_empty, "{step}");
            }
        }
    }

    #[test]
    fn a_cross_over_has_something_of_both() {
        let generator = generator();
        let other = parse("poolproof scenario 1\npool q 10.0.1.0/30\nfill q \"c\" 2\ndrain q 2\n").unwrap();
        let crossed: Vec<String> =
            (0..40).map(|seed| generator.cross(&scenario(), &other, &mut Rng::with_seed(seed)).to_string()).collect();
        assert!(crossed.iter().any(|text| text.contains("allocate \"a\" p0") && text.contains("fill p0 \"c\" 2")));
    }
}
