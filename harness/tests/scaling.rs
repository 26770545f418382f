//! Judging a call takes time by what the call says, not by what is held: eight times as much of
//! everything takes about eight times as long, not sixty-four times.

use std::time::{Duration, Instant};

use poolproof::address::{Count, Family, Grant};
use poolproof::contract::{Clock, Contract, Methods, Repeat};
use poolproof::model::Model;
use poolproof::operation::{Answer, Kind, Operation, PoolShape, Refusal, Request, Response, Text, Want, Written};
use poolproof::scenario::text;

/// The larger of two sizes is so many times the smaller.
const FACTOR: u32 = 8;

/// Noise and logarithms are granted so much; what is quadratic would be beyond.
const SLACK: u32 = 4;

/// The first host of the pool `p`, 10.0.0.0/8.
const BASE: u128 = 0x0a00_0001;

#[test]
fn requests_of_one_call() {
    let named = |number| Want::Named(Written::Plain(host(number)));
    for want in [|_| Want::Any, named] {
        scales(4_000, |count| {
            let mut model = model(Contract::default());
            let grants = (0..count).map(host).collect();
            let call = allocate("owner", (0..count).map(want), None);
            judge(&mut model, &call, Ok(Answer::Granted { grants, expires_ms: None }));
        });
    }
}

#[test]
fn requests_for_blocks_of_which_the_last_does_not_fit() {
    scales(4_000, |count| {
        let mut model = Model::new(Contract { blocks: true, ..Contract::default() });
        let range = (host(0).to_string().into(), host(count - 2).to_string().into());
        let shape = PoolShape { ranges: vec![range], ..PoolShape::default() };
        judge(&mut model, &create("p", shape), Ok(Answer::Done));
        judge(&mut model, &allocate("owner", (0..count).map(|_| Want::Block(32)), None), refused(Kind::Exhausted));
    });
}

#[test]
fn owners_that_ask_again() {
    for repeat in [Repeat::Same, Repeat::Conflict] {
        scales(1_500, |count| {
            let mut model = model(Contract { repeat, ..Contract::default() });
            fill(&mut model, count, |_| None);
            for number in 0..count {
                let again = if repeat == Repeat::Same { granted(number, None) } else { refused(Kind::Conflict) };
                judge(&mut model, &allocate(&owner(number), [Want::Any], None), again);
            }
        });
    }
}

#[test]
fn owners_that_release_everything() {
    scales(2_000, |count| {
        let mut model = model(Contract::default());
        fill(&mut model, count, |_| None);
        for number in 0..count {
            let released = Answer::Released(vec![(text("p"), host(number))]);
            judge(&mut model, &Operation::ReleaseOwner { owner: owner(number) }, Ok(released));
        }
    });
}

#[test]
fn leases_that_end_one_by_one() {
    scales(1_500, |count| {
        let mut model = model(Contract { clock: Clock::Virtual, ..Contract::default() });
        fill(&mut model, count, |number| Some(u64::from(number) + 1));
        for now_ms in 1..=u64::from(count) {
            judge(&mut model, &Operation::Advance { ms: 1 }, Ok(Answer::Now { now_ms }));
        }
        assert!(model.pool("p").is_some_and(|pool| pool.is_empty()));
    });
}

#[test]
fn transactions_with_much_held() {
    scales(1_500, |count| {
        let mut model = model(Contract::default());
        fill(&mut model, count, |_| None);
        for number in 0..count {
            judge(&mut model, &Operation::Begin, Ok(Answer::Done));
            judge(&mut model, &allocate("guest", [Want::Any], None), granted(count + number, None));
            judge(&mut model, &Operation::Rollback, Ok(Answer::Done));
        }
        assert!(model.pool("p").is_some_and(|pool| pool.len() == count as usize));
    });
}

#[test]
fn counting_and_reshaping_with_much_held() {
    scales(1_500, |count| {
        let mut model = model(Contract { clock: Clock::Virtual, ..Contract::default() });
        fill(&mut model, count, |number| Some(u64::from(number) + 1_000_000));
        let usage = || Answer::Usage { allocatable: ((1 << 24) - 2).into(), allocated: Count::from(u128::from(count)) };
        for _ in 0..count {
            judge(
                &mut model,
                &Operation::UpdatePool { pool: text("p"), shape: PoolShape::default() },
                Ok(Answer::Done),
            );
            judge(&mut model, &Operation::Usage { pool: text("p") }, Ok(usage()));
        }
    });
}

#[test]
fn pools_of_many_ranges_and_exclusions() {
    scales(1_500, |count| {
        let mut model = Model::new(Contract::default());
        // The ranges of each pool lie in the gaps of the other.
        for (offset, name) in [(0, "even"), (8, "odd")] {
            let place = |number: u32, more: u32| Text::from(host(16 * number + offset + more).to_string());
            let ranges = (0..count).rev().map(|number| (place(number, 0), place(number, 6))).collect();
            let exclude = (0..count).map(|number| place(number, 3)).collect();
            judge(&mut model, &create(name, PoolShape { ranges, gateway: None, exclude }), Ok(Answer::Done));
        }
    });
}

/// A machine that is busy elsewhere makes some measurements useless, but not all of them.
fn scales(count: u32, load: impl Fn(u32)) {
    let shortest = |count| (0..3).map(|_| time_of(|| load(count))).min().unwrap_or_default();
    let mut measured = (0..5).map(|_| (shortest(count), shortest(count * FACTOR)));
    let is_fair = |(small, large): &(Duration, Duration)| *large < *small * FACTOR * SLACK;
    assert!(measured.any(|times| is_fair(&times)), "{FACTOR} times {count} take more than {SLACK} times their share");
}

fn time_of(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

/// A model with one empty pool.
fn model(contract: Contract) -> Model {
    let mut model = Model::new(Contract { methods: Methods::all(), ..contract });
    judge(&mut model, &create("p", PoolShape::default()), Ok(Answer::Done));
    model
}

fn create(name: &str, shape: PoolShape) -> Operation {
    Operation::CreatePool { pool: text(name), prefix: text("10.0.0.0/8"), shape }
}

/// Lets as many owners hold one address each.
fn fill(model: &mut Model, count: u32, end_ms: fn(u32) -> Option<u64>) {
    for number in 0..count {
        let call = allocate(&owner(number), [Want::Any], end_ms(number));
        judge(model, &call, granted(number, end_ms(number)));
    }
}

fn judge(model: &mut Model, call: &Operation, response: Response) {
    if let Err(violation) = model.judge(call, &response) {
        panic!("{violation:?}");
    }
}

fn allocate(owner: &str, wants: impl IntoIterator<Item = Want>, ttl_ms: Option<u64>) -> Operation {
    let pool = text("p");
    let requests = wants.into_iter().map(|want| Request { pool: pool.clone(), want }).collect();
    Operation::Allocate { owner: text(owner), requests, ttl_ms }
}

fn granted(number: u32, expires_ms: Option<u64>) -> Response {
    Ok(Answer::Granted { grants: [host(number)].into_iter().collect(), expires_ms })
}

fn refused(kind: Kind) -> Response {
    Err(Refusal { kind, message: "no".into() })
}

/// Too short to be looked for in texts.
fn owner(number: u32) -> Text {
    format!("{number:x}").into()
}

fn host(number: u32) -> Grant {
    Grant::Address(Family::V4.address(BASE + u128::from(number)))
}
