//! `bounded` and `unpredictable` of systems inside this process are looked at, and what cannot be
//! looked at is said.
#![cfg(feature = "reference")]

use poolproof::address::parse_prefix;
use poolproof::contract::Contract;
use poolproof::engine::Silent;
use poolproof::engine::check::{self, Budget, Engine, Options};
use poolproof::generate::Generator;
use poolproof::operation::{Operation, Response};
use poolproof::property::{Property, Verdict};
use poolproof::report::{Report, human, junit};
use poolproof::sut::memory::Memory;
use poolproof::sut::{Failure, Sut};

/// The reference allocator with another promise, and with something done before each call.
struct Changed {
    memory: Memory,
    contract: Contract,
    before: fn(&Operation),
    can_forget: bool,
}

impl Sut for Changed {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.memory.reset()
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        (self.before)(operation);
        self.memory.call(operation)
    }

    fn forget(&mut self) -> bool {
        self.can_forget && self.memory.forget()
    }

    fn is_fast(&self) -> bool {
        true
    }
}

fn nothing(_: &Operation) {}

/// Visits the addresses of a prefix, up to a hundred million, as a naive allocator does.
fn walk(operation: &Operation) {
    let Operation::CreatePool { prefix, .. } = operation else { return };
    let Some(prefix) = parse_prefix(prefix) else { return };
    let bits = u32::from(prefix.max_prefix_len() - prefix.prefix_len()).min(26);
    for address in 0..1_u64 << bits {
        std::hint::black_box(address);
    }
}

fn changed(is_random: bool, before: fn(&Operation)) -> Changed {
    let memory = Memory::new();
    let contract = Contract { unpredictable: is_random, ..memory.contract().clone() };
    Changed { memory, contract, before, can_forget: true }
}

fn campaign(mut sut: Changed) -> Report {
    let save = tempfile::tempdir().unwrap();
    let options = Options {
        engine: Engine::Check,
        sut: "changed".to_owned(),
        budget: Budget::Runs(400),
        seed: 1,
        max_steps: Generator::DEFAULT_MAX_STEPS,
        tours: true,
        properties: Vec::new(),
        keep_going: false,
        save: save.path().to_owned(),
    };
    check::check(&mut sut, &options, &mut Silent).unwrap()
}

fn broken(report: &Report) -> Vec<Property> {
    report.violations.iter().map(|violation| violation.property).collect()
}

/// `bounded`: a walk through the prefix is seen although no single call is timed at first.
#[test]
fn a_walk_through_the_prefix_is_seen() {
    let report = campaign(changed(false, walk));
    assert_eq!(broken(&report), [Property::Bounded], "{}", human::render(&report));
    assert!(report.violations[0].scenario.steps.len() <= 2, "{}", human::render(&report));
}

/// `unpredictable`: the lowest free address is no random one.
#[test]
fn false_randomness_is_seen() {
    let report = campaign(changed(true, nothing));
    assert_eq!(broken(&report), [Property::Unpredictable], "{}", human::render(&report));
}

/// What holds passes, and the report says which properties it does not speak of.
#[test]
fn what_is_not_looked_at_is_said() {
    let report = campaign(changed(false, nothing));
    assert_eq!(report.verdict, Verdict::Pass, "{}", human::render(&report));
    let unchecked: Vec<Property> = report.unchecked.iter().map(|(property, _)| *property).collect();
    let without_memory: &[Property] = if cfg!(feature = "heap") { &[] } else { &[Property::Tidy] };
    let expected = [&[Property::Durable, Property::Linearizable], without_memory, &[Property::Unpredictable]].concat();
    assert_eq!(unchecked, expected);
    let xml = junit::render(&report).unwrap();
    assert_eq!(xml.matches("<skipped").count(), unchecked.len(), "{xml}");
}
