//! `tidy` of systems inside this process: memory that is kept for nothing is seen, and what is kept within bounds is not
//! accused.
#![cfg(all(feature = "reference", feature = "heap"))]

use std::collections::VecDeque;

use poolproof::contract::Contract;
use poolproof::engine::Silent;
use poolproof::engine::check::{self, Budget, Engine, Options};
use poolproof::generate::Generator;
use poolproof::operation::{Operation, Response};
use poolproof::property::{Property, Verdict};
use poolproof::report::{Report, human};
use poolproof::sut::memory::Memory;
use poolproof::sut::{Failure, Sut};

/// The reference allocator, which keeps something for each call, over resets too.
struct Hoarder<K> {
    memory: Memory,
    kept: K,
    keep: fn(&mut K, &Operation, &Response),
}

impl<K: Default> Sut for Hoarder<K> {
    fn contract(&self) -> &Contract {
        self.memory.contract()
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.memory.reset()
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        let response = self.memory.call(operation)?;
        (self.keep)(&mut self.kept, operation, &response);
        Ok(response)
    }

    fn forget(&mut self) -> bool {
        self.kept = K::default();
        self.memory.forget()
    }

    fn is_fast(&self) -> bool {
        true
    }
}

fn campaign<K: Default>(keep: fn(&mut K, &Operation, &Response)) -> Report {
    let mut sut = Hoarder { memory: Memory::new(), kept: K::default(), keep };
    let save = tempfile::tempdir().unwrap();
    let options = Options {
        engine: Engine::Check,
        sut: "hoarder".to_owned(),
        budget: Budget::Runs(2_000),
        seed: 1,
        max_steps: Generator::DEFAULT_MAX_STEPS,
        tours: true,
        properties: Vec::new(),
        keep_going: false,
        save: save.path().to_owned(),
    };
    check::check(&mut sut, &options, &mut Silent).unwrap()
}

/// Found, named, and made as short as can be.
fn assert_found(report: &Report, fewest_steps: usize) {
    let found: Vec<(Property, usize)> =
        report.violations.iter().map(|violation| (violation.property, violation.scenario.steps.len())).collect();
    assert_eq!(found, [(Property::Tidy, fewest_steps)], "{}", human::render(report));
}

fn assert_passes(report: &Report) {
    assert_eq!(report.verdict, Verdict::Pass, "{}", human::render(report));
}

#[test]
fn a_note_for_each_refusal_is_seen() {
    let report = campaign(|kept: &mut Vec<Box<u64>>, _, response| {
        if response.is_err() {
            kept.push(Box::new(1));
        }
    });
    assert_found(&report, 1);
}

/// A list takes more memory only when it is full.
#[test]
fn a_list_that_grows_by_doubling_is_seen() {
    let report = campaign(|kept: &mut Vec<u64>, _, response| {
        if response.is_err() {
            kept.push(1);
        }
    });
    assert_found(&report, 1);
}

#[test]
fn a_note_for_each_grant_is_seen() {
    let report = campaign(|kept: &mut Vec<Box<u64>>, operation, response| {
        if matches!(operation, Operation::Allocate { .. }) && response.is_ok() {
            kept.push(Box::new(1));
        }
    });
    assert_found(&report, 2);
}

#[test]
fn a_log_of_the_last_refusals_is_no_leak() {
    let report = campaign(|kept: &mut VecDeque<String>, operation, response| {
        if response.is_err() {
            kept.push_back(operation.to_string());
            if kept.len() > 100 {
                kept.pop_front();
            }
        }
    });
    assert_passes(&report);
}

#[test]
fn counters_are_no_leak() {
    let report = campaign(|kept: &mut std::collections::BTreeMap<String, u64>, operation, response| {
        *kept.entry(format!("{:?} {}", operation.method(), response.is_ok())).or_default() += 1;
    });
    assert_passes(&report);
}
