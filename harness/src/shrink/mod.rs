//! The shrinker: scenarios in, smaller scenarios out, to a fix-point.
//!
//! [`Shrinker`] proposes one candidate at a time and is told whether it still fails; engines and
//! proptest's value tree drive the same machine. Passes, each a function from (best so far, cursor)
//! to a candidate, are repeated until a whole round improves nothing:
//!
//! 1. drop chunks of steps, from half of them down to one;
//! 2. drop steps that others refer to, with a stand-in put into those;
//! 3. drop pairs, because many calls only make sense together with another;
//! 4. put allocations of any address of a pool together;
//! 5. simplify each step: fewer requests, no lease, plain spelling, smaller counts;
//! 6. rename owners and pools to plain ones, and fewer;
//! 7. shrink pools and move them to plain places;
//! 8. drop a step or shrink a pool, and deal the turns of lanes anew;
//! 9. ask for less in one call, with those who refer to the rest;
//! 10. do in bulk what is done one by one;
//! 11. drop a pool whose addresses are only named;
//! 12. shrink a pool and drop a step that only filled it;
//! 13. where few steps are left, move one and drop another at the same time;
//! 14. change one and drop one or two others.
//!
//! A candidate is proposed only when it is simpler by `complexity`, a well-founded order, so the
//! loop ends whatever the answers are. To add a pass: a function and a line in `PASSES`.

mod combined;
mod passes;

pub use passes::{with_huge_pools, with_small_pools};

use crate::address::parse_prefix;
use crate::operation::Operation;
use crate::scenario::{Scenario, Step};

/// Proposes ever simpler scenarios.
#[derive(Clone, Debug)]
pub struct Shrinker {
    best: Scenario,
    complexity: Complexity,
    pass: usize,
    cursor: usize,
    improved: bool,
}

/// What a pass has to offer at a cursor.
enum Offer {
    /// Try this.
    Candidate(Scenario),
    /// Nothing here; go on.
    Nothing,
    /// The pass is over.
    End,
}

type Pass = fn(&Scenario, usize) -> Offer;

const PASSES: [Pass; 14] = [
    passes::drop_chunk,
    passes::drop_and_inline,
    passes::drop_pair,
    passes::fold,
    passes::simplify_step,
    passes::rename,
    passes::shrink_pool,
    combined::turns_anew,
    combined::fewer_requests,
    combined::in_bulk,
    combined::without_pool,
    combined::shrink_pool_and_drop,
    combined::move_and_drop,
    combined::alter_and_drop,
];

/// Fewer steps come first, then fewer that only repeat others, then smaller pools, then a shorter text, then the text itself.
type Complexity = (usize, usize, u64, usize, String);

impl Shrinker {
    /// A shrinker for a scenario that fails.
    pub fn new(failing: Scenario) -> Shrinker {
        let complexity = complexity(&failing);
        Shrinker { best: failing, complexity, pass: 0, cursor: 0, improved: false }
    }

    /// The simplest scenario known to fail.
    pub fn best(&self) -> &Scenario {
        &self.best
    }

    /// The next candidate, or `None` when nothing simpler is left to try. Tell with
    /// [`accept`](Shrinker::accept) if it fails too; otherwise just ask again.
    pub fn propose(&mut self) -> Option<Scenario> {
        loop {
            let offer = match PASSES.get(self.pass) {
                Some(pass) => pass(&self.best, self.cursor),
                None if self.improved => {
                    (self.pass, self.cursor, self.improved) = (0, 0, false);
                    continue;
                }
                None => return None,
            };
            self.cursor += 1;
            match offer {
                Offer::Candidate(candidate) if complexity(&candidate) < self.complexity => return Some(candidate),
                Offer::Candidate(_) | Offer::Nothing => {}
                Offer::End => (self.pass, self.cursor) = (self.pass + 1, 0),
            }
        }
    }

    /// The candidate fails too: it is the best from now on.
    pub fn accept(&mut self, candidate: Scenario) {
        self.complexity = complexity(&candidate);
        self.best = candidate;
        self.improved = true;
        // What stood behind the dropped or changed place now stands at it.
        self.cursor = self.cursor.saturating_sub(1);
    }
}

/// How simple a scenario is, as an order without infinite descent.
fn complexity(scenario: &Scenario) -> Complexity {
    let text = scenario.to_string();
    let repeats = scenario.steps.iter().filter(|step| matches!(step, Step::Repeat { .. })).count();
    (scenario.steps.len(), repeats, scenario.steps.iter().map(pool_size).sum(), text.len(), text)
}

/// The size of a pool in bits, with IPv6 after IPv4.
fn pool_size(step: &Step) -> u64 {
    let Step::Call(Operation::CreatePool { prefix, .. }) = step else { return 0 };
    parse_prefix(prefix).map_or(0, |prefix| u64::from(prefix.max_prefix_len() - prefix.prefix_len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Clock, Contract, Methods};
    use crate::generate::Generator;
    use crate::scenario::parse;

    /// Shrinks under a predicate; gives the result and the number of candidates tried.
    fn shrink(scenario: Scenario, fails: impl Fn(&Scenario) -> bool) -> (Scenario, usize) {
        let mut shrinker = Shrinker::new(scenario);
        let mut tried = 0;
        while let Some(candidate) = shrinker.propose() {
            tried += 1;
            if fails(&candidate) {
                shrinker.accept(candidate);
            }
        }
        (shrinker.best().clone(), tried)
    }

    fn drawn(seed: u64) -> Scenario {
        let mut contract = Contract { methods: Methods::all(), clock: Clock::Virtual, ..Contract::default() };
        contract.blocks = true;
        Generator::new(&contract).scenario(seed)
    }

    #[test]
    fn what_always_fails_shrinks_to_nothing() {
        for seed in 0..50 {
            assert!(shrink(drawn(seed), |_| true).0.steps.is_empty());
        }
    }

    #[test]
    fn what_never_fails_again_stays_as_it_is_and_ends() {
        for seed in 0..20 {
            assert_eq!(shrink(drawn(seed), |_| false).0, drawn(seed));
        }
    }

    #[test]
    fn two_steps_that_need_each_other_are_found_together() {
        let has =
            |scenario: &Scenario, wanted: fn(&Step) -> bool| scenario.steps.iter().filter(|step| wanted(step)).count();
        let begins = |step: &Step| matches!(step, Step::Call(Operation::Begin));
        let commits = |step: &Step| matches!(step, Step::Call(Operation::Commit));
        // Fails only while begins and commits are as many, and there is an allocation.
        let fails = |scenario: &Scenario| {
            has(scenario, begins) == has(scenario, commits)
                && has(scenario, |step| matches!(step, Step::Call(Operation::Allocate { .. }))) > 0
        };
        for scenario in (0..400).map(drawn).filter(fails).take(20) {
            assert_eq!(shrink(scenario, fails).0.steps.len(), 1);
        }
    }

    #[test]
    fn operands_names_and_pools_become_plain() {
        let source = "poolproof scenario 1\n\
            pool \"%0\" 192.168.0.16/28 range 192.168.0.18 192.168.0.20 gateway 192.168.0.17\n\
            allocate \"' or 1=1 --\" \"%0\" ttl 60000\n\
            release \"%0\" @2~octal \"bob-1\"\n";
        let fails = |scenario: &Scenario| {
            let [_, Step::Call(Operation::Allocate { requests, .. }), Step::Call(Operation::Release { .. })] =
                scenario.steps.as_slice()
            else {
                return false;
            };
            requests.len() == 1
        };
        let (least, _) = shrink(parse(source).unwrap(), fails);
        assert_eq!(
            least.to_string(),
            "poolproof scenario 1\npool p0 10.0.0.0/32\nallocate \"a\" p0\nrelease p0 @2 \"a\"\n"
        );
    }

    #[test]
    fn a_border_among_numbers_is_found_as_by_bisection() {
        let border = 8_589_795_848;
        let start = parse("poolproof scenario 1\nallocate \"a\" p0 ttl 9007199254740991\n").unwrap();
        let ttl = |scenario: &Scenario| match scenario.steps.first() {
            Some(Step::Call(Operation::Allocate { ttl_ms, .. })) => *ttl_ms,
            _ => None,
        };
        let (small, tried) = shrink(start, |scenario| ttl(scenario).is_some_and(|ttl| ttl >= border));
        assert_eq!(ttl(&small), Some(border));
        assert!(tried < 5_000, "{tried}");
    }

    /// An injection that frees everything is found by what it frees; the shorter way to it is another name and no pool.
    #[test]
    fn a_name_shrinks_while_what_led_to_it_is_dropped() {
        let source = "poolproof scenario 1\npool p0 10.0.0.0/30\nfill p0 \"a\" 1\nrelease-owner \"' or 1=1 --\"\n";
        let fails = |scenario: &Scenario| match scenario.steps.as_slice() {
            [_, _, Step::Call(Operation::ReleaseOwner { owner })] => owner.contains("' or 1=1"),
            [Step::Call(Operation::ReleaseOwner { owner })] => {
                owner.matches('\'').count() % 2 == 1 && !owner.contains("--")
            }
            _ => false,
        };
        let (least, _) = shrink(parse(source).unwrap(), fails);
        assert_eq!(least.to_string(), "poolproof scenario 1\nrelease-owner \"'\"\n");
    }

    /// `restarts_lose_the_cursor`: many must be held before, and one is asked for afterwards.
    #[test]
    fn allocations_are_put_together() {
        let held = "allocate \"a\" p0\nusage p0\nallocate \"b\" p0\n".repeat(10);
        let source = format!("poolproof scenario 1\npool p0 10.0.0.0/26\n{held}crash\nallocate \"a\" p0\n");
        let fails = |scenario: &Scenario| {
            let Some(crash) = scenario.steps.iter().position(|step| *step == Step::Crash) else { return false };
            let count = |steps: &[Step]| -> u32 {
                let count_of = |step: &Step| match step {
                    Step::Fill { count, .. } => *count,
                    Step::Call(Operation::Allocate { requests, .. }) => requests.len() as u32,
                    _ => 0,
                };
                steps.iter().map(count_of).sum()
            };
            count(&scenario.steps[..crash]) >= 17 && count(&scenario.steps[crash..]) >= 1
        };
        let (least, _) = shrink(parse(&source).unwrap(), fails);
        let expected = "poolproof scenario 1\nfill p0 \"a\" 17\ncrash\nallocate \"a\" p0\n";
        assert_eq!(least.to_string(), expected);
    }

    #[test]
    fn shrinking_is_quick() {
        let needs_fill = |scenario: &Scenario| scenario.steps.iter().any(|step| matches!(step, Step::Fill { .. }));
        for scenario in (0..200).map(drawn).filter(needs_fill).take(20) {
            let (least, tried) = shrink(scenario, needs_fill);
            assert_eq!(least.steps.len(), 1);
            assert!(tried < 200, "{tried} candidates");
        }
    }
}
