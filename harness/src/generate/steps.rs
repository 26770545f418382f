//! Steps by weight.
//!
//! [`KINDS`] is the table of everything that can be drawn: what the contract must have for it, how
//! often it comes, and the function that draws it. References to earlier steps prefer recent ones.

use fastrand::Rng;
use smallvec::smallvec;

use super::pools::{self, DrawnPool};
use super::{Shape, chance, lines, names, pick};
use crate::contract::{Clock, Contract, ReleaseBy, Repeat};
use crate::operation::{Method, Operation, PoolShape, Request, Requests, Text, Want};
use crate::scenario::{GrantRef, Operand, Scenario, Spelling, Step, text};

/// One kind of step.
struct Kind {
    /// How often it comes where it comes at all.
    weight: u16,
    /// Is it never left out?
    always: bool,
    /// Does the contract have it?
    applies: fn(&Contract) -> bool,
    /// Draws it; `None` when there is nothing to refer to yet.
    draw: fn(&mut Drawn<'_>, &mut Rng) -> Option<Step>,
}

const fn kind(weight: u16, applies: fn(&Contract) -> bool, draw: fn(&mut Drawn<'_>, &mut Rng) -> Option<Step>) -> Kind {
    Kind { weight, always: false, applies, draw }
}

const KINDS: [Kind; 25] = [
    Kind { weight: 40, always: true, applies: |_| true, draw: |d, rng| d.allocate_any(rng) },
    kind(16, |_| true, |d, rng| d.allocate_named(rng)),
    kind(6, Contract::takes_several, |d, rng| d.allocate_several(rng)),
    kind(10, |c| c.blocks, |d, rng| d.allocate_block(rng)),
    kind(30, |c| c.has(Method::Release), |d, rng| d.release_own(rng)),
    kind(8, |c| c.has(Method::Release), |d, rng| d.release_odd(rng)),
    kind(4, |c| c.has(Method::ReleaseOwner), |d, rng| d.release_owner(rng)),
    kind(10, |c| c.has(Method::Renew) && c.clock != Clock::None, |d, rng| d.renew(rng)),
    kind(5, |c| c.has(Method::Begin), |d, rng| d.transaction(Operation::Begin, rng)),
    kind(5, |c| c.has(Method::Commit), |d, rng| d.transaction(Operation::Commit, rng)),
    kind(5, |c| c.has(Method::Rollback), |d, rng| d.transaction(Operation::Rollback, rng)),
    kind(3, |c| c.has(Method::List), |d, rng| d.list(rng)),
    kind(3, |c| c.has(Method::Usage), |d, rng| d.usage(rng)),
    kind(6, can_advance, |d, rng| d.advance(rng)),
    kind(10, can_advance, |d, rng| d.advance_to(rng)),
    kind(8, |_| true, |d, rng| d.fill(rng)),
    kind(5, |c| c.has(Method::Release), |d, rng| d.drain(rng)),
    kind(6, |_| true, |d, rng| d.replay(rng)),
    kind(2, |c| c.has(Method::PoolDelete), |d, rng| d.delete(rng)),
    kind(2, |_| true, |d, rng| d.create_again(rng)),
    kind(2, |_| true, |d, rng| d.create_malformed(rng)),
    kind(4, |c| c.has(Method::PoolUpdate), |d, rng| d.update(rng)),
    kind(2, |c| c.durable, |_, _| Some(Step::Restart)),
    kind(2, |c| c.durable, |_, _| Some(Step::Crash)),
    kind(3, |c| c.limits.raw, |d, rng| d.raw(rng)),
];

fn can_advance(contract: &Contract) -> bool {
    match contract.clock {
        Clock::None => false,
        Clock::Virtual => contract.has(Method::Advance),
        Clock::Wall => true,
    }
}

/// How often each kind comes in one scenario.
#[derive(Debug)]
pub(super) struct Weights {
    /// Running sums, for a draw by one number.
    sums: [u16; KINDS.len()],
}

impl Weights {
    /// Some kinds are left out, some come four times as often.
    pub(super) fn draw(contract: &Contract, rng: &mut Rng) -> Weights {
        let mut sum = 0;
        let sums = std::array::from_fn(|index| {
            let kind = &KINDS[index];
            let factor = if kind.always { 1 + rng.u16(..4) } else { *pick(&[0, 0, 1, 1, 2, 4], rng) };
            if (kind.applies)(contract) {
                sum += kind.weight * factor;
            }
            sum
        });
        Weights { sums }
    }

    fn kind(&self, rng: &mut Rng) -> &'static Kind {
        let drawn = rng.u16(..self.sums[KINDS.len() - 1]);
        &KINDS[self.sums.partition_point(|sum| *sum <= drawn)]
    }
}

/// An earlier step that was granted something, if all went well.
#[derive(Clone, Debug)]
struct Granting {
    step: u32,
    owner: Text,
    /// One a grant, in order.
    pools: smallvec::SmallVec<[u8; 2]>,
    is_lease: bool,
}

/// The steps drawn so far, and what later ones may refer to.
pub(super) struct Drawn<'a> {
    contract: &'a Contract,
    shape: &'a Shape,
    steps: Vec<Step>,
    granting: Vec<Granting>,
    in_transaction: bool,
}

impl<'a> Drawn<'a> {
    pub(super) fn new(contract: &'a Contract, shape: &'a Shape) -> Drawn<'a> {
        let steps = Vec::with_capacity(shape.steps + shape.pools.len());
        Drawn { contract, shape, steps, granting: Vec::with_capacity(shape.steps), in_transaction: false }
    }

    /// Goes on after these steps, which may refer to pools and owners of the shape and to others.
    pub(super) fn after(contract: &'a Contract, shape: &'a Shape, steps: &[Step]) -> Drawn<'a> {
        let mut drawn = Drawn::new(contract, shape);
        for step in steps {
            drawn.note(step);
            drawn.steps.push(step.clone());
        }
        drawn
    }

    /// Notes what later steps can refer to in the step about to be pushed.
    fn note(&mut self, step: &Step) {
        let place = |name: &Text| self.shape.pools.iter().position(|pool| pool.name == *name).unwrap_or(0) as u8;
        match step {
            Step::Call(Operation::Allocate { owner, requests, ttl_ms }) => {
                let pools: Vec<u8> = requests.iter().map(|request| place(&request.pool)).collect();
                self.will_grant(owner, pools, ttl_ms.is_some());
            }
            Step::Fill { pool, owner, ttl_ms, .. } => {
                let pool = place(pool);
                self.will_grant(owner, std::iter::repeat_n(pool, 3), ttl_ms.is_some());
            }
            Step::Call(Operation::Begin) => self.in_transaction = true,
            Step::Call(Operation::Commit | Operation::Rollback) => self.in_transaction = false,
            _ => {}
        }
    }

    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    pub(super) fn into_scenario(self) -> Scenario {
        Scenario { steps: self.steps }
    }

    pub(super) fn create_pools(&mut self, rng: &mut Rng) {
        let shape = self.shape;
        // Rarely a pool is missing: everything about it must then be `not_found`.
        let made = shape.pools.iter().filter(|_| !chance(1, rng) || rng.bool());
        self.steps.extend(made.map(create));
        if self.steps.is_empty() {
            self.steps.extend(shape.pools.first().map(create));
        }
    }

    pub(super) fn step(&mut self, rng: &mut Rng) {
        let kind = self.shape.weights.kind(rng);
        if let Some(step) = (kind.draw)(self, rng) {
            self.steps.push(step);
        } else if let Some(step) = self.allocate_any(rng) {
            self.steps.push(step);
        }
    }

    fn pool_index(&self, rng: &mut Rng) -> u8 {
        rng.u8(..self.shape.pools.len() as u8)
    }

    fn pool(&self, index: u8) -> &'a DrawnPool {
        &self.shape.pools[usize::from(index)]
    }

    /// A pool's name; rarely one that does not exist or must be refused.
    fn pool_name(&self, index: u8, rng: &mut Rng) -> Text {
        match rng.u8(..) {
            0 => names::malformed(rng),
            1..=3 => text("nowhere"),
            _ => self.pool(index).name.clone(),
        }
    }

    fn owner(&self, rng: &mut Rng) -> Text {
        if rng.u8(..) < 2 { names::malformed(rng) } else { pick(&self.shape.owners, rng).clone() }
    }

    fn ttl(&self, rng: &mut Rng) -> Option<u64> {
        if self.contract.clock == Clock::None || !chance(self.shape.leases_of_16, rng) {
            return None;
        }
        Some(match (self.contract.clock, rng.u8(..16)) {
            (Clock::Wall, _) => *pick(&[20, 40, 60_000], rng),
            // None, the longest, and what is more than some integer holds.
            (_, 0) => *pick(&[0, u64::MAX >> 12, (1 << 53) - 1, 1 << 31, 1 << 32], rng),
            _ => *pick(&[1, 2, 10, 10, 1000, 60_000], rng),
        })
    }

    fn spelling(&self, rng: &mut Rng) -> Spelling {
        if chance(self.shape.odd_of_16, rng) { *pick(&Spelling::ALL, rng) } else { Spelling::Plain }
    }

    /// An earlier granting step: one of the last few, or any.
    fn earlier(&self, rng: &mut Rng) -> Option<(&Granting, GrantRef, u8)> {
        let count = self.granting.len();
        let window = if rng.bool() { count.min(4) } else { count };
        if window == 0 {
            return None;
        }
        let granting = &self.granting[count - 1 - rng.usize(..window)];
        let nth = rng.usize(..granting.pools.len().max(1));
        let pool = *granting.pools.get(nth)?;
        let reference = GrantRef { step: granting.step, nth: nth as u32 };
        Some((granting, reference, pool))
    }

    /// An address to ask for or to give back: what was granted, or a place in the prefix, at times
    /// one step outside it.
    fn operand(&self, pool: u8, rng: &mut Rng) -> Operand {
        let spelling = self.spelling(rng);
        match rng.u8(..16) {
            0..=4 => match self.earlier(rng) {
                Some((_, reference, _)) => Operand::Granted(reference, spelling),
                None => Operand::Nth(i64::from(rng.u8(..8)), spelling),
            },
            5 if rng.bool() => {
                let DrawnPool { family, prefix, .. } = self.pool(pool);
                Operand::Literal(text(&family.address(pools::place_within(*prefix, rng)).to_string()))
            }
            5 => Operand::Literal(self.foreign_address(pool, rng)),
            6..=8 => Operand::Nth(-1 - i64::from(rng.u8(..4)), spelling),
            9..=11 => match &self.pool(pool).shape.gateway {
                Some(gateway) if rng.bool() => Operand::Literal(gateway.clone()),
                _ => Operand::Nth(i64::from(rng.u8(..3)), spelling),
            },
            _ => Operand::Nth(i64::from(rng.u8(..8)), spelling),
        }
    }

    /// An address that the pool does not have, or no address at all.
    fn foreign_address(&self, pool: u8, rng: &mut Rng) -> Text {
        let pool = self.pool(pool);
        let number = match rng.u8(..8) {
            0 | 1 => pool.prefix.first.wrapping_sub(1),
            2 | 3 => pool.prefix.last.wrapping_add(1),
            4 => {
                return text(pick::<&str>(
                    &["", "a", "0", "10.0.0", "10.0.0.256", "::g", "1:2:3:4:5:6:7:8:9", ":", "0x0a.0.0.1"],
                    rng,
                ));
            }
            5 => {
                // A block that may or may not be, and may be a part of one that is.
                let host_bits = rng.u8(..4);
                let first = pools::place_within(pool.prefix, rng) & !((1 << host_bits) - 1);
                return text(&format!("{}/{}", pool.family.address(first), pool.family.bits() - host_bits));
            }
            6 => {
                return text(pick::<&str>(
                    &["127.0.0.1", "0.0.0.0", "255.255.255.255", "::", "::1", "::ffff:10.0.0.1"],
                    rng,
                ));
            }
            _ => pools::place_within(self.pool(self.pool_index(rng)).prefix, rng),
        };
        text(&pool.family.address(number).to_string())
    }

    /// Notes that the step about to be pushed may be granted something.
    fn will_grant(&mut self, owner: &Text, pools: impl IntoIterator<Item = u8>, is_lease: bool) {
        let step = self.steps.len() as u32;
        self.granting.push(Granting { step, owner: owner.clone(), pools: pools.into_iter().collect(), is_lease });
    }

    fn allocate(&mut self, requests: Requests<Operand>, pools: impl IntoIterator<Item = u8>, rng: &mut Rng) -> Step {
        let (owner, ttl_ms) = (self.owner(rng), self.ttl(rng));
        self.will_grant(&owner, pools, ttl_ms.is_some());
        Step::Call(Operation::Allocate { owner, requests, ttl_ms })
    }

    fn allocate_any(&mut self, rng: &mut Rng) -> Option<Step> {
        let pool = self.pool_index(rng);
        let requests = smallvec![Request { pool: self.pool_name(pool, rng), want: Want::Any }];
        Some(self.allocate(requests, [pool], rng))
    }

    fn allocate_named(&mut self, rng: &mut Rng) -> Option<Step> {
        let pool = self.pool_index(rng);
        let want = Want::Named(self.operand(pool, rng));
        let requests = smallvec![Request { pool: self.pool_name(pool, rng), want }];
        Some(self.allocate(requests, [pool], rng))
    }

    fn allocate_block(&mut self, rng: &mut Rng) -> Option<Step> {
        let pool = self.pool_index(rng);
        let want = Want::Block(self.block_length(pool, rng));
        let requests = smallvec![Request { pool: self.pool_name(pool, rng), want }];
        Some(self.allocate(requests, [pool], rng))
    }

    fn block_length(&self, pool: u8, rng: &mut Rng) -> u8 {
        let DrawnPool { family, prefix, .. } = self.pool(pool);
        let bits = family.bits();
        match rng.u8(..16) {
            0 => rng.u8(..),
            1 => 0,
            // A few of the pool's own kind.
            2..=5 => {
                let length = bits - (prefix.last - prefix.first).count_ones() as u8;
                length.saturating_add(*pick(&[0, 1, 2, 3, 4, 8, 16, 24, 32], rng)).min(bits)
            }
            _ => bits - rng.u8(..5),
        }
    }

    /// Two or three requests; one address a pool where the contract or the adapter has no more.
    fn allocate_several(&mut self, rng: &mut Rng) -> Option<Step> {
        let one_a_pool = !self.contract.limits.pool_twice || self.contract.repeat != Repeat::Another;
        let mut wanted: Vec<u8> = (0..2 + rng.u8(..2)).map(|_| self.pool_index(rng)).collect();
        if one_a_pool {
            wanted.sort_unstable();
            wanted.dedup();
        }
        let draw = |this: &Self, pool: u8, rng: &mut Rng| {
            let want = match rng.u8(..8) {
                0..=3 => Want::Any,
                4 if this.contract.blocks => Want::Block(this.block_length(pool, rng)),
                _ => Want::Named(this.operand(pool, rng)),
            };
            Request { pool: this.pool_name(pool, rng), want }
        };
        let requests = wanted.iter().map(|pool| draw(self, *pool, rng)).collect();
        // An empty call is malformed, and worth a try.
        let requests = if rng.u8(..) < 4 { Requests::new() } else { requests };
        Some(self.allocate(requests, wanted, rng))
    }

    fn release_own(&mut self, rng: &mut Rng) -> Option<Step> {
        let (granting, reference, pool) = self.earlier(rng)?;
        let address = Operand::Granted(reference, self.spelling(rng));
        let silent = self.contract.release_by == ReleaseBy::Anyone && rng.bool();
        let owner = (!silent).then(|| granting.owner.clone());
        Some(Step::Call(Operation::Release { pool: self.pool(pool).name.clone(), address, owner }))
    }

    /// A stranger's release, one of another pool, or of anything at all.
    fn release_odd(&mut self, rng: &mut Rng) -> Option<Step> {
        let pool = self.pool_index(rng);
        let (owner, name) = (self.owner(rng), self.pool_name(pool, rng));
        let address = match self.earlier(rng) {
            Some((_, reference, _)) if rng.bool() => Operand::Granted(reference, self.spelling(rng)),
            _ => self.operand(pool, rng),
        };
        Some(Step::Call(Operation::Release { pool: name, address, owner: Some(owner) }))
    }

    fn release_owner(&mut self, rng: &mut Rng) -> Option<Step> {
        Some(Step::Call(Operation::ReleaseOwner { owner: self.owner(rng) }))
    }

    fn renew(&mut self, rng: &mut Rng) -> Option<Step> {
        let (granting, reference, pool) = self.earlier(rng)?;
        let owner = if chance(13, rng) { granting.owner.clone() } else { self.owner(rng) };
        let (pool, address) = (self.pool_name(pool, rng), Operand::Granted(reference, self.spelling(rng)));
        let ttl_ms = *pick(&[1, 10, 1000, 60_000, 0, 5_000_000_000], rng);
        Some(Step::Call(Operation::Renew { pool, address, owner, ttl_ms }))
    }

    /// Begins where none is open and ends where one is; rarely the other way round.
    fn transaction(&mut self, operation: Operation<Operand>, rng: &mut Rng) -> Option<Step> {
        let begins = matches!(operation, Operation::Begin);
        if begins == self.in_transaction && !chance(2, rng) {
            return None;
        }
        self.in_transaction = begins;
        Some(Step::Call(operation))
    }

    fn list(&mut self, rng: &mut Rng) -> Option<Step> {
        let pool = self.pool_index(rng);
        let pool = rng.bool().then(|| self.pool_name(pool, rng));
        Some(Step::Call(Operation::List { pool }))
    }

    fn usage(&mut self, rng: &mut Rng) -> Option<Step> {
        let pool = self.pool_index(rng);
        let pool = if chance(1, rng) { text("nowhere") } else { self.pool(pool).name.clone() };
        Some(Step::Call(Operation::Usage { pool }))
    }

    fn advance(&mut self, rng: &mut Rng) -> Option<Step> {
        let ms = match self.contract.clock {
            Clock::Wall => *pick(&[1, 10, 30], rng),
            _ => *pick(&[0, 1, 1, 9, 10, 11, 999, 1000, 60_000, 86_400_000], rng),
        };
        Some(Step::Call(Operation::Advance { ms }))
    }

    /// To an earlier lease's end, exactly or one millisecond beside it.
    fn advance_to(&mut self, rng: &mut Rng) -> Option<Step> {
        let leases: Vec<u32> = self.granting.iter().filter(|one| one.is_lease).map(|one| one.step).collect();
        let recent = &leases[leases.len().saturating_sub(6)..];
        if recent.is_empty() {
            return None;
        }
        let lease = GrantRef { step: *pick(recent, rng), nth: 0 };
        Some(Step::AdvanceTo { lease, offset_ms: *pick(&[-1, 0, 0, 1], rng) })
    }

    fn fill(&mut self, rng: &mut Rng) -> Option<Step> {
        let pool = self.pool_index(rng);
        let DrawnPool { prefix, .. } = self.pool(pool);
        // What has some hundred addresses is rarely filled but on purpose.
        let is_large = (64..2048).contains(&(prefix.last - prefix.first));
        let count = if chance(if is_large { 4 } else { 1 }, rng) { 300 } else { *pick(&[2, 8, 16, 32], rng) };
        let (owner, ttl_ms) = (pick(&self.shape.owners, rng).clone(), self.ttl(rng));
        self.will_grant(&owner, std::iter::repeat_n(pool, 3), ttl_ms.is_some());
        Some(Step::Fill { pool: self.pool(pool).name.clone(), owner, count, ttl_ms })
    }

    fn drain(&mut self, rng: &mut Rng) -> Option<Step> {
        let pool = self.pool(self.pool_index(rng)).name.clone();
        Some(Step::Drain { pool, count: *pick(&[1, 2, 300], rng) })
    }

    fn replay(&mut self, rng: &mut Rng) -> Option<Step> {
        let count = self.steps.len() as u32;
        let window = if rng.bool() { count.min(6) } else { count };
        (window > 0).then(|| Step::Repeat { step: count - 1 - rng.u32(..window) })
    }

    fn delete(&mut self, rng: &mut Rng) -> Option<Step> {
        let pool = self.pool_index(rng);
        Some(Step::Call(Operation::DeletePool { pool: self.pool_name(pool, rng) }))
    }

    /// A pool once more, at times in another shape: taken, or overlapping, or deleted before.
    fn create_again(&mut self, rng: &mut Rng) -> Option<Step> {
        let pool = self.pool(self.pool_index(rng));
        let Step::Call(Operation::CreatePool { pool: name, prefix, mut shape }) = create(pool) else { return None };
        if rng.bool() {
            shape = pools::shape(self.contract, pool.family, pool.prefix, rng);
        }
        let name = if rng.bool() { name } else { text("again") };
        Some(Step::Call(Operation::CreatePool { pool: name, prefix, shape }))
    }

    fn create_malformed(&mut self, rng: &mut Rng) -> Option<Step> {
        const PREFIXES: [&str; 12] = [
            "10.9.0.1/24",
            "10.9.0.0/33",
            "10.9.0.0",
            "10.9.0.0/",
            "10.9.0.0/024",
            "10.9.0.0/255.255.255.0",
            "fd09::1/64",
            "fd09::/129",
            "fd09::%eth0/64",
            "/24",
            "",
            "10.9.0.0/-1",
        ];
        let pool = self.pool(self.pool_index(rng));
        let (name, mut shape) = (text("malformed"), pool.shape.clone());
        let (first, last) = (pool.family.address(pool.prefix.first), pool.family.address(pool.prefix.last));
        let mut prefix = pool.prefix_text.clone();
        match rng.u8(..8) {
            0 | 1 => (prefix, shape) = (text(pick::<&str>(&PREFIXES, rng)), PoolShape::default()),
            2 if first != last => shape.ranges.push((text(&last.to_string()), text(&first.to_string()))),
            3 => shape.ranges.push((text(""), text(&last.to_string()))),
            5 => shape.ranges = vec![(text(&first.to_string()), self.foreign_address(self.pool_index(rng), rng))],
            6 => shape.exclude.push(self.foreign_address(self.pool_index(rng), rng)),
            4 => shape.gateway = Some(self.foreign_address(self.pool_index(rng), rng)),
            _ => return Some(Step::Call(Operation::CreatePool { pool: names::malformed(rng), prefix, shape })),
        }
        Some(Step::Call(Operation::CreatePool { pool: name, prefix, shape }))
    }

    fn update(&mut self, rng: &mut Rng) -> Option<Step> {
        let index = self.pool_index(rng);
        let pool = self.pool(index);
        let mut shape = if rng.bool() {
            PoolShape { ranges: Vec::new(), ..pool.shape.clone() }
        } else {
            pools::shape(self.contract, pool.family, pool.prefix, rng)
        };
        if chance(1, rng) {
            shape.exclude.push(self.foreign_address(index, rng));
        }
        Some(Step::Call(Operation::UpdatePool { pool: self.pool_name(index, rng), shape }))
    }

    fn raw(&mut self, rng: &mut Rng) -> Option<Step> {
        Some(Step::Call(Operation::Raw { line: lines::malformed(self.contract, rng) }))
    }
}

fn create(pool: &DrawnPool) -> Step {
    let (pool, prefix, shape) = (pool.name.clone(), pool.prefix_text.clone(), pool.shape.clone());
    Step::Call(Operation::CreatePool { pool, prefix, shape })
}
