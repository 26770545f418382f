//! Scenarios from raw bytes, for fuzz targets of one's own.
//!
//! The number of steps is drawn first and explicitly, and each step from two bytes of its own: so
//! lengths do not collapse, and a changed byte changes one step.

use arbitrary::{Arbitrary, Result, Unstructured};

use super::Scenario;
use crate::contract::{Clock, Contract, Methods};
use crate::generate::Generator;

/// Steps of a scenario, pools not counted.
const STEPS: std::ops::RangeInclusive<usize> = 1..=80;

impl<'a> Arbitrary<'a> for Scenario {
    /// A scenario for systems that have every method, leases on a virtual clock, and restarts.
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Scenario> {
        let contract =
            Contract { methods: Methods::all(), clock: Clock::Virtual, durable: true, ..Contract::default() };
        let shape = bytes.arbitrary()?;
        let count = bytes.int_in_range(STEPS)?;
        let steps = (0..count).map(|_| bytes.arbitrary::<u16>().map(u64::from)).collect::<Result<Vec<_>>>()?;
        Ok(Generator::new(&contract).from_choices(shape, &steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(bytes: &[u8]) -> Scenario {
        Scenario::arbitrary(&mut Unstructured::new(bytes)).unwrap()
    }

    #[test]
    fn lengths_do_not_collapse() {
        let mut rng = fastrand::Rng::with_seed(1);
        let lengths = (0..200).map(|_| {
            let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(400).collect();
            scenario(&bytes).steps.len()
        });
        let mean = lengths.sum::<usize>() / 200;
        assert!((30..=60).contains(&mean), "{mean} steps on average");
    }

    #[test]
    fn one_byte_changes_one_step() {
        let mut bytes = [7; 200];
        let before = scenario(&bytes);
        bytes[12] ^= 1;
        let after = scenario(&bytes);
        let changed = before.steps.iter().zip(&after.steps).filter(|(one, other)| one != other).count();
        assert!((1..=3).contains(&changed), "{changed} steps changed");
    }
}
