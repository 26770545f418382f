//! The swarm generator: shape first, then steps.
//!
//! Uniform sequences are all alike: each tries a little of everything, and pools never fill. So
//! every scenario first draws a *shape*: its pools, its few owners, how often each kind of step
//! comes, and which kinds never come. Only then steps are drawn by those weights. (Groce et al.,
//! "Swarm Testing", ISSTA 2012.)
//!
//! Everything drawn fits the contract. To add an operation: a line in `steps`' table.

mod faults;
mod lanes;
mod lines;
mod mutate;
mod names;
mod pools;
mod steps;
mod tour;

use fastrand::Rng;

use crate::contract::Contract;
use crate::operation::Text;
use crate::scenario::Scenario;
pub use lanes::Lanes;
use pools::DrawnPool;
use steps::Weights;
pub use tour::tour;

/// Draws scenarios for systems with one contract.
#[derive(Clone, Debug)]
pub struct Generator {
    contract: Contract,
    max_steps: usize,
    /// Of 16 scenarios, how many may have restarts and crashes in them.
    restarts_of_16: u8,
}

/// What one scenario is made of, before its steps are drawn.
#[derive(Debug)]
struct Shape {
    pools: Vec<DrawnPool>,
    owners: Vec<Text>,
    weights: Weights,
    /// Of 16 allocations, how many are leases.
    leases_of_16: u8,
    /// Of 16 addresses, how many are oddly spelled.
    odd_of_16: u8,
    steps: usize,
}

impl Generator {
    /// How many steps a scenario has at most, unless told otherwise.
    pub const DEFAULT_MAX_STEPS: usize = 120;

    /// A generator for this contract.
    pub fn new(contract: &Contract) -> Generator {
        Generator { contract: contract.clone(), max_steps: Generator::DEFAULT_MAX_STEPS, restarts_of_16: 16 }
    }

    /// The same with scenarios of at most so many steps (at least 1).
    pub fn with_max_steps(self, max_steps: usize) -> Generator {
        Generator { max_steps: max_steps.max(1), ..self }
    }

    /// The same with restarts and crashes in one scenario of 16 only: for systems that take longer to start than to answer
    /// hundreds of calls, so that a campaign is not spent on waiting for them.
    pub fn with_rare_restarts(self) -> Generator {
        Generator { restarts_of_16: 1, ..self }
    }

    /// The scenario of a seed: the same for the same contract and version.
    pub fn scenario(&self, seed: u64) -> Scenario {
        self.draw(&mut Rng::with_seed(seed))
    }

    /// Draws a scenario.
    pub fn draw(&self, rng: &mut Rng) -> Scenario {
        let shape = self.shape(rng);
        let mut drawn = steps::Drawn::new(&self.contract, &shape);
        drawn.create_pools(rng);
        while drawn.len() < shape.steps {
            drawn.step(rng);
        }
        drawn.into_scenario()
    }

    /// A scenario from a seed for its shape, and one for each step: for whoever draws seeds from a
    /// fuzzer's bytes.
    pub fn from_choices(&self, shape: u64, steps: &[u64]) -> Scenario {
        let mut rng = Rng::with_seed(shape);
        let shape = Shape { steps: steps.len(), ..self.shape(&mut rng) };
        let mut drawn = steps::Drawn::new(&self.contract, &shape);
        drawn.create_pools(&mut rng);
        steps.iter().for_each(|seed| drawn.step(&mut Rng::with_seed(*seed)));
        drawn.into_scenario()
    }

    fn shape(&self, rng: &mut Rng) -> Shape {
        let owners = 1 + rng.usize(..4);
        let (owner_names, pool_names) = if chance(1, rng) {
            names::joined(rng)
        } else {
            (names::owners(chance(6, rng), rng), names::pools(chance(3, rng), rng))
        };
        let may_restart = self.restarts_of_16 >= 16 || chance(self.restarts_of_16, rng);
        let weights =
            Weights::draw(&Contract { durable: self.contract.durable && may_restart, ..self.contract.clone() }, rng);
        Shape {
            pools: pools::draw(&self.contract, pool_names, rng),
            owners: owner_names.into_iter().cycle().take(owners).collect(),
            weights,
            leases_of_16: *pick(&[0, 4, 12, 16], rng),
            odd_of_16: *pick(&[0, 0, 1, 4], rng),
            steps: self.length(rng),
        }
    }

    /// Short scenarios are quick and shrink well, long ones fill pools: each order of magnitude is
    /// equally likely.
    fn length(&self, rng: &mut Rng) -> usize {
        let longest = self.max_steps;
        let shortest = longest.min(6);
        let doublings = (longest / shortest).ilog2();
        let base = shortest << rng.u32(..=doublings);
        (base + rng.usize(..base)).min(longest)
    }
}

/// One of the choices; the slice is not empty.
fn pick<'a, T>(choices: &'a [T], rng: &mut Rng) -> &'a T {
    &choices[rng.usize(..choices.len())]
}

/// True in `n` of 16 cases.
fn chance(n: u8, rng: &mut Rng) -> bool {
    rng.u8(..16) < n
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Clock, Methods};
    use crate::operation::{Method, Operation};
    use crate::scenario::Step;

    fn everything() -> Contract {
        let mut contract = Contract {
            methods: Methods::all(),
            clock: Clock::Virtual,
            durable: true,
            blocks: true,
            ..Contract::default()
        };
        contract.limits.raw = true;
        contract
    }

    #[test]
    fn the_same_seed_gives_the_same_scenario() {
        let generator = Generator::new(&everything());
        assert_eq!(generator.scenario(7), generator.scenario(7));
        assert_ne!(generator.scenario(7), generator.scenario(8));
    }

    #[test]
    fn every_method_that_the_contract_has_is_drawn() {
        let generator = Generator::new(&everything());
        let drawn: Vec<Method> = (0..300)
            .flat_map(|seed| generator.scenario(seed).steps)
            .filter_map(|step| match step {
                Step::Call(operation) => Some(operation.method()),
                _ => None,
            })
            .collect();
        for method in Method::ALL.into_iter().filter(|method| *method != Method::Reset) {
            assert!(drawn.contains(&method), "{method:?}");
        }
    }

    #[test]
    fn nothing_is_drawn_that_the_contract_lacks() {
        let contract = Contract { methods: Methods::from_iter([Method::Release]), ..Contract::default() };
        let generator = Generator::new(&contract);
        for step in (0..300).flat_map(|seed| generator.scenario(seed).steps) {
            if let Step::Call(operation) = &step {
                assert!(contract.has(operation.method()), "{step}");
                assert!(!matches!(operation, Operation::Allocate { ttl_ms: Some(_), .. }), "{step}");
            }
            assert!(!matches!(step, Step::Restart | Step::Crash | Step::Fill { ttl_ms: Some(_), .. }), "{step}");
        }
    }

    #[test]
    fn rare_restarts_are_in_few_scenarios_and_in_some() {
        let restarts = |step: &Step| matches!(step, Step::Restart | Step::Crash);
        let generator = Generator::new(&everything()).with_rare_restarts();
        let with_restarts = (0..1600).filter(|seed| generator.scenario(*seed).steps.iter().any(restarts)).count();
        assert!((20..=150).contains(&with_restarts), "{with_restarts} of 1600");
    }

    #[test]
    fn lengths_keep_to_the_maximum() {
        for max in [1, 2, 7, 80] {
            let generator = Generator::new(&everything()).with_max_steps(max);
            assert!((0..100).all(|seed| generator.scenario(seed).steps.len() <= max.max(3) + 3));
        }
    }
}
