//! The model against a brute-force judge that was written from the text of the protocol alone.
//!
//! Both are given the same random calls on tiny pools and the same answers, right ones and lies, and
//! must agree on every answer up to the first illegal one. What the protocol leaves open is left
//! out, each time with the sentence beside it.

mod draw;
mod judge;

use std::cell::Cell;
use std::fmt::Write;

use fastrand::Rng;
use poolproof::contract::{Clock, Contract, Methods, ReleaseBy, ReleaseUnknown, Repeat};
use poolproof::model::Model;
use poolproof::operation::{Answer, Operation};
use poolproof_proptests::fresh_config;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use judge::{Judge, Ruling};

/// Sequences a contract in the committed budget.
const SEQUENCES: u32 = 1_500;

/// Calls that both must have judged by then.
const LEAST_CALLS: u64 = 100_000;

/// One answer in so many is a lie.
const LIES: u32 = 16;

/// The default contract, and each switch that the judge knows.
fn contracts() -> Vec<Contract> {
    let default = Contract { methods: Methods::all(), durable: true, ..Contract::default() };
    let with = |change: fn(&mut Contract)| {
        let mut contract = default.clone();
        change(&mut contract);
        contract
    };
    vec![
        default.clone(),
        with(|contract| contract.repeat = Repeat::Same),
        with(|contract| contract.repeat = Repeat::Conflict),
        with(|contract| contract.release_unknown = ReleaseUnknown::Ok),
        with(|contract| contract.release_by = ReleaseBy::Anyone),
        with(|contract| contract.reserves_edges = false),
        with(|contract| contract.disjoint_pools = false),
        with(|contract| contract.blocks = true),
        with(|contract| contract.clock = Clock::Virtual),
        with(|contract| (contract.blocks, contract.clock) = (true, Clock::Virtual)),
    ]
}

/// What was judged.
#[derive(Default)]
struct Tally {
    legal: Cell<u64>,
    illegal: Cell<u64>,
    open: Cell<u64>,
}

fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

/// One sequence of calls, each from its seed, up to the first illegal answer.
fn agree(contract: &Contract, seeds: &[u64], tally: &Tally) -> Result<(), TestCaseError> {
    agree_with(Model::new(contract.clone()), contract, seeds, tally)
}

fn agree_with(mut model: Model, contract: &Contract, seeds: &[u64], tally: &Tally) -> Result<(), TestCaseError> {
    let mut judge = Judge::new(contract.clone());
    if seeds.len() % 2 == 1 {
        // A model that says what it allows must judge alike.
        model = model.explaining();
    }
    let mut history = String::new();
    if contract.clock == Clock::Virtual {
        // "`advance` moves the virtual clock": the protocol does not say where it starts, so both are told.
        let told = model.judge(&Operation::Advance { ms: 0 }, &Ok(Answer::Now { now_ms: judge.now_ms() }));
        prop_assert_eq!(told, Ok(()));
    }
    for seed in seeds {
        let rng = &mut Rng::with_seed(*seed);
        if rng.u8(..60) == 0 {
            judge.restarted();
            model.restarted(rng.bool());
            history += "restart\n";
            continue;
        }
        let call = draw::call(&judge, rng);
        let is_lie = rng.u32(..LIES) == 0;
        let response = if is_lie { Some(draw::lie(&judge, &call, rng)) } else { draw::right(&judge, &call, rng) };
        let Some(response) = response else { continue };
        let ruling = judge.rule(&call, &response);
        if ruling == Ruling::Open {
            count(&tally.open);
            continue;
        }
        let judged = model.judge(&call, &response);
        let _ = writeln!(history, "{call}\n    {response:?}");
        let agreed = (ruling == Ruling::Legal) == judged.is_ok();
        prop_assert!(agreed, "the judge says {ruling:?}, the model {judged:?}\n{history}{contract:?}");
        match &response {
            _ if ruling == Ruling::Illegal => {
                count(&tally.illegal);
                return Ok(());
            }
            Ok(answer) => judge.apply(&call, answer),
            Err(_) => {}
        }
        count(&tally.legal);
    }
    Ok(())
}

#[test]
fn the_model_agrees_with_the_protocol() {
    let tally = Tally::default();
    for contract in contracts() {
        let mut runner = TestRunner::new(fresh_config(SEQUENCES));
        let sequences = vec(any::<u64>(), 1..60);
        runner.run(&sequences, |seeds| agree(&contract, &seeds, &tally)).unwrap_or_else(|error| panic!("{error}"));
    }
    let (legal, illegal, open) = (tally.legal.get(), tally.illegal.get(), tally.open.get());
    println!("{legal} legal answers, {illegal} illegal ones, {open} left open");
    assert!(legal + illegal >= LEAST_CALLS, "only {legal} + {illegal} calls were judged");
    assert!(illegal >= LEAST_CALLS / 100, "only {illegal} answers were illegal");
    assert!(open <= legal / 20, "{open} answers are open");
}

/// The canary: a judge of another contract than the model's is found out, whichever switch it is.
#[test]
fn a_judge_of_another_contract_disagrees() {
    let contracts = contracts();
    let (default, others) = contracts.split_first().expect("there are some");
    for other in others {
        let mut runner = TestRunner::new(fresh_config(SEQUENCES));
        let agreed = runner.run(&vec(any::<u64>(), 1..60), |seeds| {
            agree_with(Model::new(default.clone()), other, &seeds, &Tally::default())
        });
        assert!(agreed.is_err(), "nothing told a judge of {other:?} from one of {default:?}");
    }
}
