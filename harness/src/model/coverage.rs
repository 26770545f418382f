//! What a run has exercised, and what it never did.
//!
//! A run that finds nothing is worth only what it tried. Counts are kept per method and outcome and
//! per address class; [`Coverage::missing`] names what the contract has and the run never saw.

use super::placement::HUGE;
use crate::address::Family;
use crate::contract::{Clock, Contract, ReleaseBy, ReleaseUnknown, Repeat};
use crate::operation::{Kind, Method, Response};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused(Kind),
}

impl Outcome {
    /// The outcome of a response.
    pub fn of(response: &Response) -> Outcome {
        match response {
            Ok(_) => Outcome::Done,
            Err(refusal) => Outcome::Refused(refusal.kind),
        }
    }

    /// Its name in output.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Done => "ok",
            Outcome::Refused(kind) => kind.name(),
        }
    }

    fn index(self) -> usize {
        match self {
            Outcome::Done => 0,
            Outcome::Refused(kind) => 1 + kind as usize,
        }
    }

    fn all() -> impl Iterator<Item = Outcome> {
        std::iter::once(Outcome::Done).chain(Kind::ALL.into_iter().map(Outcome::Refused))
    }
}

/// Where an address lies that was handed out or asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AddressClass {
    /// An IPv4 address was handed out.
    GrantedV4,
    /// An IPv6 address was handed out.
    GrantedV6,
    /// The first allocatable address of a pool was handed out.
    GrantedFirst,
    /// The last allocatable address of a pool was handed out.
    GrantedLast,
    /// An address of a pool of eight million and more was handed out.
    GrantedHuge,
    /// A block was handed out.
    GrantedBlock,
    /// A network, broadcast or anycast address was asked for.
    AskedEdge,
    /// A gateway was asked for.
    AskedGateway,
    /// An exclusion was asked for.
    AskedExclusion,
    /// An address outside the prefix was asked for.
    AskedOutside,
    /// An address was asked for in an unusual spelling.
    AskedOddly,
}

impl AddressClass {
    /// Every class.
    pub const ALL: [AddressClass; 11] = [
        AddressClass::GrantedV4,
        AddressClass::GrantedV6,
        AddressClass::GrantedFirst,
        AddressClass::GrantedLast,
        AddressClass::GrantedHuge,
        AddressClass::GrantedBlock,
        AddressClass::AskedEdge,
        AddressClass::AskedGateway,
        AddressClass::AskedExclusion,
        AddressClass::AskedOutside,
        AddressClass::AskedOddly,
    ];

    /// Its name in output.
    pub fn name(self) -> &'static str {
        match self {
            AddressClass::GrantedV4 => "granted-ipv4",
            AddressClass::GrantedV6 => "granted-ipv6",
            AddressClass::GrantedFirst => "granted-first",
            AddressClass::GrantedLast => "granted-last",
            AddressClass::GrantedHuge => "granted-huge",
            AddressClass::GrantedBlock => "granted-block",
            AddressClass::AskedEdge => "asked-edge",
            AddressClass::AskedGateway => "asked-gateway",
            AddressClass::AskedExclusion => "asked-exclusion",
            AddressClass::AskedOutside => "asked-outside",
            AddressClass::AskedOddly => "asked-oddly",
        }
    }

    /// Can a system with this contract meet this class?
    fn applies_to(self, contract: &Contract) -> bool {
        match self {
            AddressClass::GrantedV4 => contract.families.contains(Family::V4),
            AddressClass::GrantedV6 => contract.families.contains(Family::V6),
            AddressClass::GrantedHuge => may_be_huge(contract),
            AddressClass::GrantedBlock => contract.blocks,
            AddressClass::AskedEdge => contract.reserves_edges,
            AddressClass::AskedExclusion => contract.limits.exclusions,
            _ => true,
        }
    }
}

/// May a pool have so many addresses as to count as huge?
fn may_be_huge(contract: &Contract) -> bool {
    let served = Family::ALL.into_iter().filter(|family| contract.families.contains(*family));
    let host_bits = served.map(|family| family.bits() - contract.limits.shortest(family));
    host_bits.max().is_some_and(|bits| u32::from(bits) > HUGE.ilog2())
}

const OUTCOMES: usize = 1 + Kind::ALL.len();

/// Counts of what was exercised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    calls: [[u64; OUTCOMES]; Method::ALL.len()],
    classes: [u64; AddressClass::ALL.len()],
    /// Clean restarts.
    pub restarts: u64,
    /// Crashes.
    pub crashes: u64,
    /// Scenarios with enough random choices for a test, which two instances were given.
    pub tested_choices: u64,
}

impl Coverage {
    /// Counts a call.
    pub fn count_call(&mut self, method: Method, outcome: Outcome) {
        self.calls[method as usize][outcome.index()] += 1;
    }

    /// Counts an address.
    pub fn count_class(&mut self, class: AddressClass) {
        self.classes[class as usize] += 1;
    }

    /// How often a method ended so.
    pub fn calls(&self, method: Method, outcome: Outcome) -> u64 {
        self.calls[method as usize][outcome.index()]
    }

    /// How often a class of address was met.
    pub fn class(&self, class: AddressClass) -> u64 {
        self.classes[class as usize]
    }

    /// All calls judged.
    pub fn total_calls(&self) -> u64 {
        self.calls.iter().flatten().sum()
    }

    /// Every method and outcome that was seen, with its count.
    pub fn seen(&self) -> impl Iterator<Item = (Method, Outcome, u64)> + '_ {
        let pairs = Method::ALL.into_iter().flat_map(|method| Outcome::all().map(move |outcome| (method, outcome)));
        pairs.map(|(method, outcome)| (method, outcome, self.calls(method, outcome))).filter(|seen| seen.2 > 0)
    }

    /// What a system with this contract can do and this run never saw, by name.
    pub fn missing(&self, contract: &Contract) -> Vec<String> {
        let calls = expected(contract).filter(|(method, outcome)| self.calls(*method, *outcome) == 0);
        let calls = calls.map(|(method, outcome)| format!("{}: {}", method.name(), outcome.name()));
        let classes = AddressClass::ALL.into_iter().filter(|class| class.applies_to(contract));
        let classes = classes.filter(|class| self.class(*class) == 0).map(|class| class.name().to_owned());
        let starts = [("restart", self.restarts), ("crash", self.crashes)];
        let starts = starts.into_iter().filter(|(_, count)| contract.durable && *count == 0);
        let choices = (contract.unpredictable && self.tested_choices == 0).then(|| "random choice, tested".to_owned());
        calls.chain(classes).chain(starts.map(|(name, _)| name.to_owned())).chain(choices).collect()
    }
}

/// Every outcome of every method that a system with this contract must have shown.
fn expected(contract: &Contract) -> impl Iterator<Item = (Method, Outcome)> {
    let methods = Method::ALL.into_iter().filter(|method| contract.has(*method) && *method != Method::Reset);
    let done = methods.map(|method| (method, Outcome::Done));
    let refused = refusals(contract).into_iter();
    let refused = refused.filter(|(method, _)| contract.has(*method) || *method == Method::Raw);
    done.chain(refused.map(|(method, kind)| (method, Outcome::Refused(kind))))
}

fn refusals(contract: &Contract) -> Vec<(Method, Kind)> {
    use Kind::{Conflict, Exhausted, InUse, Invalid, NotFound, NotOwner};
    let mut list = vec![
        (Method::PoolCreate, Invalid),
        (Method::PoolCreate, Conflict),
        (Method::PoolUpdate, Invalid),
        (Method::PoolUpdate, InUse),
        (Method::PoolDelete, NotFound),
        (Method::PoolDelete, InUse),
        (Method::Allocate, Invalid),
        (Method::Allocate, NotFound),
        (Method::Allocate, Exhausted),
        (Method::Usage, NotFound),
        (Method::Commit, Invalid),
        (Method::Rollback, Invalid),
        (Method::Begin, Invalid),
    ];
    if contract.repeat != Repeat::Same || contract.disjoint_pools {
        list.push((Method::Allocate, Conflict));
    }
    if contract.release_unknown == ReleaseUnknown::NotFound {
        list.push((Method::Release, NotFound));
    }
    if contract.release_by == ReleaseBy::Owner {
        list.push((Method::Release, NotOwner));
    }
    if contract.clock != Clock::None {
        list.extend([(Method::Renew, NotFound), (Method::Renew, NotOwner)]);
    }
    if contract.limits.raw {
        list.push((Method::Raw, Invalid));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Methods;

    #[test]
    fn an_empty_run_misses_everything_that_the_contract_has() {
        let contract = Contract { methods: Methods::from_iter([Method::Release]), ..Contract::default() };
        let missing = Coverage::default().missing(&contract);
        assert!(missing.contains(&"allocate: exhausted".to_owned()));
        assert!(missing.contains(&"release: not_owner".to_owned()));
        assert!(missing.contains(&"granted-ipv6".to_owned()));
        assert!(!missing.iter().any(|name| name.starts_with("renew")), "not in the contract");
    }

    #[test]
    fn what_was_seen_is_not_missing() {
        let mut coverage = Coverage::default();
        coverage.count_call(Method::Allocate, Outcome::Refused(Kind::Exhausted));
        assert!(!coverage.missing(&Contract::default()).contains(&"allocate: exhausted".to_owned()));
        assert_eq!(coverage.total_calls(), 1);
    }
}
