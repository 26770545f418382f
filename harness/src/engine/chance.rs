//! Is a choice that is promised to be random a random one? Tests on what one scenario shows.
//!
//! Each test bounds how often chance alone would look like this, as a power of two; what chance does
//! less than once in 2^40 runs is no chance. Only choices in *sparse* pools count, where hardly
//! anything is held: there every way to choose at random, be it among the free addresses or upwards
//! from a random place, comes to the same.

use std::collections::HashSet;

use crate::address::Grant;

/// Chance that looks like this less than once in a trillion runs is no chance.
pub const CHANCE_BITS: f64 = 40.0;

/// Fewer free addresses than this tell too little.
const LEAST_FREE: u128 = 1 << 12;
/// At most one address in so many may be held.
const SPARSE: u128 = 1 << 10;

/// What a system chose in one scenario.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choices {
    /// What was chosen, in order.
    pub grants: Vec<Grant>,
    /// How many ways there were to choose so, as a power of two.
    pub bits: f64,
    /// Those in sparse pools.
    sparse: Vec<Choice>,
}

/// A choice in a sparse pool.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Choice {
    /// How many addresses that may be handed out lie below it. Hardly any of them are held, so that
    /// this is as good as its rank among the free ones, and need not be counted anew each time.
    place: u128,
    /// How many addresses were free.
    free: u128,
    /// How many were held.
    held: u128,
    /// Is it one address, and no block, of which there are fewer places?
    is_single: bool,
}

impl Choice {
    /// Where it lies, from 0 to 1.
    fn share(&self) -> f64 {
        self.place as f64 / self.free as f64
    }
}

impl Choices {
    /// Notes that `grant` was chosen among `free` addresses, while `held` addresses were held, one by one or in blocks;
    /// `place` of all these lie below it.
    pub fn note(&mut self, grant: Grant, place: u128, free: u128, held: u128) {
        self.grants.push(grant);
        self.bits += (free as f64).max(1.0).log2();
        if free >= LEAST_FREE && held.saturating_mul(SPARSE) <= free {
            self.sparse.push(Choice { place, free, held, is_single: matches!(grant, Grant::Address(_)) });
        }
    }

    /// Are there enough choices for every test?
    pub fn can_be_tested(&self) -> bool {
        // A choice from one half of a pool must be seen.
        improbability(self.sparse.len(), 0.5) >= CHANCE_BITS
    }

    /// Why this is no random choice, if chance alone would look like this less than once in 2^`bits`
    /// runs.
    pub fn suspicion(&self, bits: f64) -> Option<String> {
        let tests = [Choices::uneven, Choices::regular, Choices::repeated, Choices::narrow];
        tests.iter().find_map(|test| test(self, bits))
    }

    /// Do the choices lie close together? All of n even ones lie within a share f of what is free at most n f^(n-1) times:
    /// the distribution of the range. In a huge pool two or three choices tell, where an uneven spread takes dozens.
    fn narrow(&self, bits: f64) -> Option<String> {
        let places = || self.sparse.iter().filter(|choice| choice.is_single).map(Choice::share);
        let (first, last) = (places().reduce(f64::min)?, places().reduce(f64::max)?);
        // What is held moves a choice on by this at most, and shares are no more exact than this.
        let moved = |choice: &Choice| (choice.held as f64 + 1.0) / choice.free as f64;
        let slack = self.sparse.iter().map(moved).fold(f64::EPSILON, f64::max);
        let (count, within) = (places().count() as f64, last - first + 2.0 * slack);
        let improbability = (count - 1.0) * -within.log2() - count.log2();
        (improbability >= bits).then(|| {
            format!(
                "{count} addresses chosen at random lie together: within 1 in {:.0} of what was free",
                within.recip()
            )
        })
    }

    /// Do the choices crowd somewhere? The largest distance between the even distribution and the
    /// one seen (Kolmogorov), with the bound of Dvoretzky, Kiefer and Wolfowitz in Massart's form:
    /// it exceeds d with a probability of at most 2 exp(-2 n d^2).
    fn uneven(&self, bits: f64) -> Option<String> {
        let mut places: Vec<f64> = self.sparse.iter().map(Choice::share).collect();
        places.sort_unstable_by(f64::total_cmp);
        let count = places.len() as f64;
        let distance = |(index, place): (usize, &f64)| {
            let (below, upto) = (index as f64 / count, (index + 1) as f64 / count);
            (place - below).max(upto - place)
        };
        // Whole addresses instead of a continuum, and what is held, shift a place by this at most.
        let slack = 2.0 / SPARSE as f64;
        let largest = places.iter().enumerate().map(distance).fold(0.0, f64::max) - slack;
        if largest < 0.0 || improbability(places.len(), largest) < bits {
            return None;
        }
        let (first, last) = (places.first()?, places.last()?);
        Some(format!(
            "{} addresses chosen at random crowd: they lie between {:.3} % and {:.3} % of what was free, {:.0} % of \
             them off an even spread",
            places.len(),
            first * 100.0,
            last * 100.0,
            largest * 100.0
        ))
    }

    /// Is the step from choice to choice the same again and again? By chance that happens once in as
    /// many times as there are free addresses.
    fn regular(&self, bits: f64) -> Option<String> {
        let step = |pair: &[Choice]| {
            (pair[0].free.abs_diff(pair[1].free) <= SPARSE).then(|| pair[1].place.wrapping_sub(pair[0].place))
        };
        let steps: Vec<Option<u128>> = self.sparse.windows(2).map(step).collect();
        // Whoever steps from free address to free address passes over what is held.
        let is_same = |pair: &[Option<u128>]| matches!(pair, [Some(one), Some(other)] if one.wrapping_sub(*other).wrapping_add(2) <= 4);
        let same = steps.windows(2).filter(|pair| is_same(pair)).count();
        let least = self.sparse.iter().map(|choice| choice.free).min()?;
        let each = (least as f64).log2() - 5f64.log2();
        // At most 2^n ways to pick which of the n steps are the same.
        let improbability = same as f64 * each - steps.len() as f64;
        (improbability >= bits).then(|| {
            format!("of {} steps between addresses chosen at random {same} repeat the one before", steps.len())
        })
    }

    /// Are places chosen again that were chosen before? By chance each choice is one of the n before it once in as many times
    /// as there are free addresses, divided by n.
    fn repeated(&self, bits: f64) -> Option<String> {
        let mut seen = HashSet::new();
        let again = self.sparse.iter().filter(|choice| !seen.insert(choice.place)).count();
        let least = self.sparse.iter().map(|choice| choice.free).min()?;
        let count = self.sparse.len() as f64;
        // At most 2^n ways to pick which of the n choices are such.
        let improbability = again as f64 * ((least as f64).log2() - count.log2()) - count;
        (again > 0 && improbability >= bits)
            .then(|| format!("of {count} addresses chosen at random {again} are in places that were chosen before"))
    }
}

/// How improbable it is that `count` places are `distance` off an even spread, as a power of two.
fn improbability(count: usize, distance: f64) -> f64 {
    2.0 * count as f64 * distance * distance * std::f64::consts::LOG2_E - 1.0
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;

    const FREE: u128 = 1 << 16;

    fn choices(ranks: impl IntoIterator<Item = u128>) -> Choices {
        let mut choices = Choices::default();
        let grant = |rank| Grant::Address(IpAddr::from(Ipv6Addr::from(rank)));
        ranks.into_iter().for_each(|rank| choices.note(grant(rank), rank, FREE, 1));
        choices
    }

    #[test]
    fn random_choice_is_not_suspected() {
        for seed in 0..20_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let drawn = choices((0..rng.usize(1..200)).map(|_| rng.u128(..FREE)));
            assert_eq!(drawn.suspicion(CHANCE_BITS), None, "seed {seed}");
        }
    }

    #[test]
    fn what_crowds_is_suspected() {
        let mut rng = fastrand::Rng::with_seed(1);
        for (name, width) in [("eight lowest", 8), ("a quarter", FREE / 4), ("a half", FREE / 2)] {
            let drawn = choices((0..64).map(|_| rng.u128(..width)));
            assert!(drawn.can_be_tested());
            assert!(drawn.suspicion(CHANCE_BITS).is_some_and(|text| text.contains("crowd")), "{name}");
        }
    }

    /// Eight draws from the lowest eight of 2^112 addresses are no matter of luck: neither are two.
    #[test]
    fn what_lies_together_is_suspected() {
        let mut drawn = Choices::default();
        let free = 1 << 112;
        for rank in [3, 5] {
            drawn.note(Grant::Address(IpAddr::from(Ipv6Addr::from(rank))), rank, free, 1);
        }
        assert!(drawn.suspicion(CHANCE_BITS).is_some_and(|text| text.contains("together")));
        let block = Grant::Block("fd00::/17".parse().unwrap());
        let mut blocks = Choices::default();
        (0..8).for_each(|_| blocks.note(block, 0, free, 1));
        assert!(blocks.suspicion(CHANCE_BITS).is_none_or(|text| !text.contains("together")), "few places for blocks");
    }

    #[test]
    fn what_is_regular_is_suspected() {
        for stride in [1, 2, 4_099, FREE - 1] {
            let drawn = choices((0..64).map(|index| (777 + index * stride) % FREE));
            assert!(drawn.suspicion(CHANCE_BITS).is_some(), "stride {stride}");
        }
    }

    #[test]
    fn what_comes_again_is_suspected() {
        let mut rng = fastrand::Rng::with_seed(1);
        let place = rng.u128(..FREE);
        // Twice in three places is chance once in 2^14 runs, and six times it is not.
        assert_eq!(choices([place, 7, place]).suspicion(CHANCE_BITS), None);
        let drawn = choices((0..6).flat_map(|_| [rng.u128(..FREE), place]));
        assert!(drawn.suspicion(CHANCE_BITS).is_some_and(|text| text.contains("chosen before")));
    }

    /// A block is one allocation and many addresses: whoever chooses around it chooses unevenly, and rightly.
    #[test]
    fn beside_a_block_nothing_is_even() {
        let mut choices = Choices::default();
        let grant = Grant::Address(IpAddr::from(Ipv6Addr::from(FREE)));
        (0..300).for_each(|place| choices.note(grant, FREE + place * 200, FREE, FREE / 3));
        assert_eq!(choices.suspicion(CHANCE_BITS), None);
    }

    #[test]
    fn few_choices_tell_nothing() {
        assert_eq!(choices([0, 1, 2, 3]).suspicion(CHANCE_BITS), None);
        assert!(!choices([0, 1, 2, 3]).can_be_tested());
    }
}
