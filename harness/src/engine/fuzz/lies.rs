//! Scenarios, run on an allocator that lies now and then, under a contract that need not be its own.
//!
//! A system under test may answer anything at any time, and may promise anything. The model has to judge all of it, without a
//! panic; and what it says that it would have allowed must agree with its verdict. A plain lie, the first one under the
//! allocator's own contract, must not go unnoticed.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use fastrand::Rng;
use rustc_hash::FxHasher;

use super::super::canary;
use super::super::run::{Judged, Runner, Watch};
use super::unable;
use crate::address::Grant;
use crate::contract::{Clock, Contract, ReleaseBy, ReleaseUnknown, Repeat};
use crate::model::coverage::{AddressClass, Coverage};
use crate::operation::{Allocation, Answer, Kind, Method, Operation, Refusal, Response, Text, Want};
use crate::scenario::{Scenario, Step};
use crate::sut::memory::Memory;
use crate::sut::reference::Variant;
use crate::sut::{Failure, Sut};

/// One answer in so many is a lie.
const LIES: u8 = 12;
/// What refusals say; all but the first should not.
const MESSAGES: [&str; 5] = [
    "no way",
    "UNIQUE constraint failed in INSERT INTO allocation VALUES (?1)",
    "cannot open /var/lib/ipam/leases.db",
    "alice-1 holds that",
    "thread 'main' panicked at src/main.rs:7:5",
];

/// Runs the scenario on an allocator whose lies and contract follow from the input.
///
/// # Panics
///
/// When the model contradicts itself; and when the harness itself cannot go on.
pub(super) fn run(scenario: &Scenario, input: &[u8]) {
    let mut hasher = FxHasher::default();
    input.hash(&mut hasher);
    let mut rng = Rng::with_seed(hasher.finish());
    let mut liar = Liar::drawn(&mut rng);
    let scenario = without_waiting(scenario, &liar.contract);
    let mut runner = Runner::new(&liar).explaining();
    match runner.run(&mut liar, &scenario, &mut Listener) {
        Ok(run) => {
            assert_counts_agree(&runner.model.coverage, liar.contract());
            let is_plain = liar.has_lied == Some(Lie::Plain) && liar.is_own_contract;
            assert!(
                !is_plain || run.finding.is_some() || canary::is_asked_for(),
                "a lie went unnoticed in\n{scenario}"
            );
            let ours = run.finding.filter(|finding| finding.violation.message.contains("the system panicked"));
            assert_eq!(ours.map(|finding| finding.violation.message), None, "the harness panicked");
        }
        Err(failure) => unable(&failure),
    }
}

/// What was seen is not missing, and nothing is counted elsewhere.
fn assert_counts_agree(coverage: &Coverage, contract: &Contract) {
    let missing = coverage.missing(contract);
    let mut total = 0;
    for (method, outcome, count) in coverage.seen() {
        let name = format!("{}: {}", method.name(), outcome.name());
        assert!(!missing.contains(&name), "{name} was seen {count} times and is told as missing");
        total += count;
    }
    assert_eq!(total, coverage.total_calls());
    let classes = AddressClass::ALL.into_iter().filter(|class| coverage.class(*class) > 0);
    classes.for_each(|class| assert!(!missing.iter().any(|name| *name == class.name()), "{} was met", class.name()));
}

/// Real time passes really: nobody has that much of it.
fn without_waiting(scenario: &Scenario, contract: &Contract) -> Scenario {
    let waits = |step: &Step| matches!(step, Step::AdvanceTo { .. } | Step::Call(Operation::Advance { ms: 2.. }));
    scenario.without(|index| contract.clock == Clock::Wall && waits(&scenario.steps[index]))
}

/// Hears what the model says of each answer.
struct Listener;

impl Watch for Listener {
    fn answered(&mut self, call: &Judged<'_>) {
        let Judged { operation, response, allowed, violation, .. } = call;
        // The canary: what is found wrong is let pass.
        let violation = violation.filter(|_| !canary::is_asked_for());
        let is_clear = match response {
            Ok(_) => allowed.starts_with("refused as "),
            Err(_) => *allowed == "done",
        };
        assert!(
            !is_clear || violation.is_some(),
            "`{operation}` → {response:?} was let pass, but allowed was {allowed}"
        );
    }
}

/// How clear the first lie was.
#[derive(Clone, Copy, PartialEq)]
enum Lie {
    /// Another answer might be right, too.
    Vague,
    /// Nothing but the truth is right.
    Plain,
}

/// The reference allocator, when it feels like it.
struct Liar {
    honest: Memory,
    contract: Contract,
    /// Is the contract what the allocator promises?
    is_own_contract: bool,
    has_lied: Option<Lie>,
    rng: Rng,
    seed: u64,
}

impl Liar {
    fn drawn(rng: &mut Rng) -> Liar {
        let variants: Vec<Variant> = Variant::all().collect();
        let variant = variants[rng.usize(..variants.len())];
        let own = variant.contract(rng.bool());
        let contract = drawn_contract(own.clone(), rng);
        let (is_own_contract, seed) = (contract == own, rng.u64(..));
        let honest = Memory::with(variant);
        Liar { honest, contract, is_own_contract, has_lied: None, rng: Rng::with_seed(seed), seed }
    }

    fn lie(&mut self, operation: &Operation, response: Response) -> Response {
        match response {
            Ok(answer) if self.rng.u8(..4) > 0 => Ok(self.distorted(answer)),
            Err(_) if self.rng.bool() && self.done(operation).is_some() => {
                self.done(operation).ok_or_else(|| self.refusal())
            }
            _ => Err(self.refusal()),
        }
    }

    fn refusal(&mut self) -> Refusal {
        let (kind, message) = (self.rng.usize(..Kind::ALL.len()), MESSAGES[self.rng.usize(..MESSAGES.len())]);
        // What a system of this process says is mostly constant; what comes from another never is.
        let message = if self.rng.bool() { message.into() } else { message.to_owned().into() };
        Refusal { kind: Kind::ALL[kind], message }
    }

    /// What somebody could answer who has not even looked.
    fn done(&mut self, operation: &Operation) -> Option<Answer> {
        Some(match operation {
            Operation::Allocate { requests, .. } => Answer::Granted {
                grants: requests.iter().map(|_| Grant::Address(IpAddr::from([10, 0, 0, self.rng.u8(..8)]))).collect(),
                expires_ms: self.rng.bool().then_some(5),
            },
            Operation::Renew { .. } => Answer::Renewed { expires_ms: self.rng.u64(..100) },
            Operation::Advance { ms } => Answer::Now { now_ms: *ms },
            Operation::ReleaseOwner { .. } => Answer::Released(Vec::new()),
            Operation::List { .. } => Answer::Listed(Vec::new()),
            Operation::Usage { .. } => Answer::Usage { allocatable: 0.into(), allocated: 0.into() },
            Operation::Raw { .. } => return None,
            _ => Answer::Done,
        })
    }

    fn distorted(&mut self, answer: Answer) -> Answer {
        let rng = &mut self.rng;
        if rng.u8(..16) == 0 {
            return if answer == Answer::Done { Answer::Now { now_ms: 0 } } else { Answer::Done };
        }
        match answer {
            Answer::Granted { mut grants, expires_ms } => {
                let expires_ms = off(expires_ms, rng);
                let place = rng.usize(..grants.len().max(1));
                match (rng.u8(..4), grants.get_mut(place)) {
                    (0, Some(grant)) => *grant = beside(*grant, rng),
                    (1, Some(_)) => drop(grants.remove(place)),
                    (2, Some(grant)) => {
                        let twice = *grant;
                        grants.push(twice);
                    }
                    _ => {}
                }
                Answer::Granted { grants, expires_ms }
            }
            Answer::Released(mut released) => {
                if let Some((pool, grant)) = released.pop() {
                    released.extend(rng.bool().then(|| (pool, beside(grant, rng))));
                }
                Answer::Released(released)
            }
            Answer::Renewed { expires_ms } => Answer::Renewed { expires_ms: off(Some(expires_ms), rng).unwrap_or(0) },
            Answer::Listed(mut listed) => {
                if let Some(mut one) = listed.pop() {
                    match rng.u8(..5) {
                        0 => one.address = beside(one.address, rng),
                        1 => one.owner = "nobody".into(),
                        2 => one.expires_ms = off(one.expires_ms, rng),
                        3 => listed.push(one.clone()),
                        _ => return Answer::Listed(listed),
                    }
                    listed.push(one);
                }
                Answer::Listed(listed)
            }
            Answer::Usage { allocatable, allocated } => {
                Answer::Usage { allocatable: allocated, allocated: allocatable }
            }
            Answer::Now { now_ms } => Answer::Now { now_ms: off(Some(now_ms), rng).unwrap_or(0) },
            Answer::Done => Answer::Done,
        }
    }
}

/// Is something else told than the only thing that is right? Which address is granted is mostly a choice, and why something is
/// refused may be one.
fn is_plain(operation: &Operation, right: &Response, told: &Response) -> bool {
    use Answer::{Granted, Listed, Released, Renewed, Usage};
    let (Ok(right), Ok(told)) = (right, told) else { return false };
    match (right, told) {
        (Granted { grants: right, .. }, Granted { grants: told, .. }) => {
            let is_named = matches!(operation, Operation::Allocate { requests, .. }
                if requests.iter().all(|request| matches!(request.want, Want::Named(_))));
            right.len() != told.len() || is_named && right != told
        }
        (Listed(right), Listed(told)) => listed(right) != listed(told),
        (Released(right), Released(told)) => {
            let sorted = |released: &[(Text, Grant)]| {
                let mut released = released.to_vec();
                released.sort();
                released
            };
            sorted(right) != sorted(told)
        }
        (Renewed { .. }, Renewed { .. }) | (Usage { .. }, Usage { .. }) => right != told,
        _ => false,
    }
}

/// Who is said to hold what, in order.
fn listed(allocations: &[Allocation]) -> Vec<(&Text, Grant, &Text)> {
    let mut listed: Vec<_> = allocations.iter().map(|one| (&one.pool, one.address, &one.owner)).collect();
    listed.sort();
    listed
}

/// Another time, or none.
fn off(time: Option<u64>, rng: &mut Rng) -> Option<u64> {
    match (time, rng.u8(..4)) {
        (Some(ms), 0) => Some(ms.saturating_add(1)),
        (Some(ms), 1) => Some(ms.saturating_sub(1)),
        (Some(_), 2) => None,
        (None, 0) => Some(rng.u64(..)),
        (same, _) => same,
    }
}

/// What lies beside it, of the other family, or of another kind.
fn beside(grant: Grant, rng: &mut Rng) -> Grant {
    let span = grant.span();
    match rng.u8(..4) {
        0 => Grant::Address(grant.family().address(span.last.wrapping_add(1))),
        1 => Grant::Address(grant.family().address(span.first.wrapping_sub(1))),
        2 => Grant::Address(IpAddr::from([255, 255, 255, 255])),
        _ => Grant::Block(ipnet::IpNet::from(grant.family().address(span.first))),
    }
}

/// The contract with some of it changed.
fn drawn_contract(honest: Contract, rng: &mut Rng) -> Contract {
    let mut contract = honest;
    for _ in 0..rng.u8(..4) {
        match rng.u8(..14) {
            0 => contract.methods = contract.methods.without(Method::ALL[rng.usize(..Method::ALL.len())]),
            1 => contract.repeat = [Repeat::Another, Repeat::Same, Repeat::Conflict][rng.usize(..3)],
            2 => contract.release_unknown = ReleaseUnknown::Ok,
            3 => contract.release_by = ReleaseBy::Anyone,
            4 => contract.reserves_edges = false,
            5 => contract.complete = false,
            6 => contract.atomic = false,
            7 => contract.disjoint_pools = !contract.disjoint_pools,
            8 => contract.blocks = !contract.blocks,
            9 => contract.clock = [Clock::None, Clock::Wall][rng.usize(..2)],
            10 => contract.unpredictable = !contract.unpredictable,
            11 => contract.limits.pool_twice = false,
            12 => contract.limits.raw = true,
            _ => contract.shared = true,
        }
    }
    contract
}

impl Sut for Liar {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.has_lied = None;
        self.rng = Rng::with_seed(self.seed);
        self.honest.reset()
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        let response = self.honest.call(operation)?;
        if self.rng.u8(..LIES) > 0 {
            return Ok(response);
        }
        let told = self.lie(operation, response.clone());
        if told != response {
            let lie = if is_plain(operation, &response, &told) { Lie::Plain } else { Lie::Vague };
            self.has_lied.get_or_insert(lie);
        }
        Ok(told)
    }

    /// It goes on as it is, but for an open transaction.
    fn restart(&mut self) -> Result<(), Failure> {
        self.honest.call(&Operation::Rollback).map(|_| ())
    }

    fn crash(&mut self) -> Result<(), Failure> {
        self.restart()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Generator;

    #[test]
    fn whatever_is_answered_is_judged_and_the_verdict_agrees_with_what_was_allowed() {
        let generator = Generator::new(Memory::new().contract());
        for seed in 0..2_000 {
            run(&generator.scenario(seed), &seed.to_le_bytes());
        }
    }
}
