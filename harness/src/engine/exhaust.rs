//! `exhaust`: every scenario up to a depth over two tiny pools, equal states visited once.
//!
//! Many defects show in a handful of calls on a handful of addresses, and then every such scenario can be tried. Steps come
//! from a small alphabet. After each one the model tells the state; where two scenarios lead to the same one, with the same
//! addresses held by the same owners at some time before and the same steps in vain, only the first of them is gone on with,
//! for both: systems remember what was, though they should not. A system that remembers more than that, such as the order of releases, is then not wholly covered.
//!
//! Scenarios are tried in the order of their length, so what is found first is as short as this alphabet can tell it.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Progress;
use super::campaign::Campaign;
use super::check::{Found, Options, follow_up, on_hang};
use super::examine::Examiner;
use super::minimise::Minimal;
use crate::address::{Family, Grant};
use crate::contract::{Clock, Contract};
use crate::interrupt;
use crate::operation::{Method, Text};
use crate::report::Report;
use crate::scenario::{HEADER, Scenario, Step, parse};
use crate::sut::{Failure, Sut};

/// What was tried: every scenario of these letters and up to this depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// How many steps there are to choose from.
    pub letters: usize,
    /// The most steps of a scenario; 0 where not even all of a single one were tried.
    pub depth: usize,
}

impl Covered {
    /// How many scenarios that are; the largest number where it is larger.
    pub fn scenarios(self) -> u64 {
        let letters = self.letters as u64;
        let of_length = |length: usize| letters.saturating_pow(u32::try_from(length).unwrap_or(u32::MAX));
        (1..=self.depth).map(of_length).fold(0, u64::saturating_add)
    }
}

/// Tries every scenario of up to so many steps.
///
/// # Errors
///
/// What the harness itself could not do; never what the system does wrong.
pub fn exhaust(
    sut: &mut dyn Sut,
    depth: usize,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Report, Failure> {
    let letters = alphabet(sut.contract());
    let reporter = progress.hang_reporter();
    let examiner = Examiner::sparing(sut).keeping_state().watched(sut, on_hang(options, &reporter))?;
    let mut campaign = Campaign::new(Report::new(&options.sut, None).on(sut), examiner, progress);
    let mut covered = Covered { letters: letters.len(), depth: 0 };
    let mut seen: FxHashSet<u64> = FxHashSet::default();
    let mut level = vec![Node { fingerprint: campaign.fingerprint(), ..Node::default() }];
    for depth in 1..=depth {
        let mut next: FxHashMap<u64, Node> = FxHashMap::default();
        for node in &level {
            for (number, letter) in letters.iter().enumerate() {
                if interrupt::requested() {
                    return Ok(conclude(campaign, covered));
                }
                let scenario = Arc::new(node.scenario.followed_by(letter));
                let Some(run) = campaign.run(sut, &scenario)? else { return Ok(conclude(campaign, covered)) };
                let is_late = run.is_late(sut.contract());
                if let Some(finding) = run.finding {
                    if options.counts(&campaign.report, finding.violation.property) {
                        let minimal = Minimal::of(Arc::unwrap_or_clone(scenario), finding, sut);
                        let found = Found { minimal, seed: campaign.report.scenarios, is_late };
                        let reported = follow_up(sut, options, found, &mut campaign, &reporter)?;
                        campaign.report.add(reported);
                        if !options.keep_going {
                            return Ok(conclude(campaign, covered));
                        }
                    }
                    continue;
                }
                // What could not be done is the scenario without it.
                if run.skipped > 0 {
                    continue;
                }
                let fingerprint = campaign.fingerprint();
                let idle = node.idle | if fingerprint == node.fingerprint { 1 << number } else { 0 };
                let past = node.past_and(campaign.held());
                let state = state(fingerprint, &past, idle);
                if seen.contains(&state) {
                    continue;
                }
                let scenario = Arc::unwrap_or_clone(scenario);
                next.entry(state).or_insert(Node { scenario, past, idle, fingerprint });
            }
        }
        seen.extend(next.keys().copied());
        level = next.into_values().collect();
        covered.depth = depth;
        // The order of a hash map is no order; with this one a run is the same each time.
        level.sort_by_cached_key(|node| node.scenario.to_string());
    }
    Ok(conclude(campaign, covered))
}

fn conclude(campaign: Campaign<'_>, covered: Covered) -> Report {
    let mut report = campaign.end();
    report.covered = Some(covered);
    if report.is_interrupted {
        report.missing.push("the rest of the scenarios".to_owned());
    }
    report.settle();
    report
}

/// A state, by the first scenario that led to it.
#[derive(Default)]
struct Node {
    scenario: Scenario,
    /// What was held by whom at some time.
    past: BTreeSet<Past>,
    /// Which letters changed nothing at some time, a bit each; most of them were refused.
    idle: u64,
    /// The model's state.
    fingerprint: u64,
}

type Past = (Text, Grant, Text);

impl Node {
    fn past_and(&self, held: impl Iterator<Item = Past>) -> BTreeSet<Past> {
        self.past.iter().cloned().chain(held).collect()
    }
}

fn state(fingerprint: u64, past: &BTreeSet<Past>, idle: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (fingerprint, past, idle).hash(&mut hasher);
    hasher.finish()
}

/// The steps that scenarios are made of, as far as the contract has them; at most 64.
///
/// Two pools of two addresses each: one that is all allocatable, one with edges.
fn alphabet(contract: &Contract) -> Vec<Step> {
    let has = |method| contract.has(method);
    let family = if contract.families.contains(Family::V4) { Family::V4 } else { Family::V6 };
    let (network, bits) = if family == Family::V4 { ("10.0.0.", 32) } else { ("fd00::", 128) };
    // A pool that may not be that small has its edges around the two.
    let (length, first) = if contract.limits.longest(family) < bits - 1 { (bits - 2, 1) } else { (bits - 1, 0) };
    let second = first + 1;
    let gateway = |number: u8| {
        if contract.limits.gateway_required { format!(" gateway {network}{number}") } else { String::new() }
    };
    let mut letters = vec![
        format!("pool p0 {network}0/{length}{}", gateway(first)),
        format!("pool p1 {network}8/{}{}", bits - 2, gateway(9)),
        "allocate \"a\" p0".to_owned(),
        "allocate \"b\" p0".to_owned(),
        format!("allocate \"a\" p0 [{first}]"),
        format!("allocate \"b\" p0 [{first}]"),
        format!("allocate \"b\" p0 [{second}]"),
        "allocate \"a\" p1".to_owned(),
        "allocate \"a\" p0 + p1".to_owned(),
    ];
    let mut add = |is_there: bool, more: &[&str]| {
        let fill_in = |letter: &&str| {
            letter
                .replace("FIRST", &first.to_string())
                .replace("SECOND", &second.to_string())
                .replace("NETWORK", network)
        };
        letters.extend(more.iter().filter(|_| is_there).map(fill_in));
    };
    let has_leases = contract.clock == Clock::Virtual && has(Method::Advance);
    let has_transactions = contract.has_transactions();
    add(contract.limits.pool_twice, &["allocate \"a\" p0 + p0"]);
    add(contract.blocks, &["allocate \"a\" p0 /BLOCK", "release p0 NETWORK0/BLOCK \"a\""]);
    add(has(Method::Release), &["release p0 [FIRST] \"a\"", "release p0 [FIRST] \"b\"", "drain p0 2"]);
    add(has(Method::ReleaseOwner), &["release-owner \"a\"", "release-owner \"b\""]);
    add(has(Method::PoolUpdate) && contract.limits.exclusions, &["update p0 exclude NETWORKFIRST"]);
    add(has(Method::PoolUpdate), &["update p0 gateway NETWORKSECOND"]);
    add(has(Method::PoolDelete), &["delete p0"]);
    add(has_transactions, &["begin", "commit", "rollback"]);
    add(has_leases, &["allocate \"a\" p0 ttl 1", "allocate \"b\" p0 ttl 2", "advance 1"]);
    add(has_leases && has(Method::Renew), &["renew p0 [FIRST] \"a\" ttl 2", "renew p0 [FIRST] \"b\" ttl 1"]);
    add(contract.durable, &["restart", "crash"]);
    let text = letters.join("\n").replace("BLOCK", &length.to_string());
    // They are written above; a test reads them all.
    parse(&format!("{HEADER}\n{text}\n")).map(|scenario| scenario.steps).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Families, Methods};

    fn full() -> Contract {
        Contract { methods: Methods::all(), clock: Clock::Virtual, durable: true, blocks: true, ..Contract::default() }
    }

    #[test]
    fn every_letter_can_be_read() {
        assert_eq!(alphabet(&full()).len(), 30);
        assert_eq!(alphabet(&Contract::default()).len(), 10);
        let six = Contract { families: Families::only(Family::V6), ..full() };
        assert_eq!(alphabet(&six).len(), 30);
    }

    /// Every scenario of up to two steps, without leaving any out, shows of each mutant what `exhaust` shows.
    #[cfg(feature = "mutants")]
    #[test]
    fn what_is_visited_once_misses_nothing() {
        use super::super::Silent;
        use super::super::check::{Budget, Engine};
        use super::super::run::{Runner, Unwatched};
        use crate::property::Verdict;

        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            engine: Engine::Exhaust,
            sut: String::new(),
            budget: Budget::Runs(u64::MAX),
            seed: 0,
            max_steps: 2,
            tours: false,
            properties: Vec::new(),
            keep_going: false,
            save: folder.path().to_owned(),
        };
        // What hangs ends the process.
        for (_, mutant) in poolproof_mutants::all().filter(|(_, mutant)| mutant.id != "random-spins-when-full") {
            let mut sut = mutant.sut(poolproof_mutants::Bug::On);
            let letters = alphabet(sut.contract());
            let mut runner = Runner::new(sut.as_ref());
            let pairs =
                letters.iter().flat_map(|first| letters.iter().map(|second| vec![first.clone(), second.clone()]));
            let fails = pairs
                .map(|steps| Scenario { steps })
                .find(|scenario| runner.run(sut.as_mut(), scenario, &mut Unwatched).unwrap().finding.is_some());
            let report = exhaust(sut.as_mut(), 2, &options, &mut Silent).unwrap();
            // Beyond that, a second look at a scenario may show more.
            if let Some(scenario) = fails {
                assert_eq!(report.verdict, Verdict::Violated, "{}: {scenario}", mutant.id);
            }
        }
    }
}
