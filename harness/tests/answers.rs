//! Answers that are right, though the harness once took them for violations; beside most of them one that
//! differs in little and must still be found. They come from servers that others wrote from the protocol alone, under
//! contracts that the reference allocator does not have, so the corpus cannot hold them.
#![cfg(feature = "process")]

use poolproof::contract::Clock;
use poolproof::model::Model;
use poolproof::operation::{Operation, Written};
use poolproof::property::Violation;
use poolproof::scenario::{Operand, Step, parse};
use poolproof::sut::protocol;

/// When the call is made on a clock of real time, in milliseconds; the call as a step of a scenario; its answer.
type Call = (u64, &'static str, &'static str);

const POOL: Call = (0, "pool p0 10.0.0.0/29", DONE);
const DONE: &str = r#""result":{}"#;

/// Judges every call under a contract, given by its fields.
fn judge(contract: &str, calls: &[Call]) -> Result<(), Violation> {
    let introduction = format!(r#""result":{{"name":"toy","version":"1","contract":{{{contract}}}}}"#);
    let contract = protocol::decode_initialize(1, &line(&introduction))?.contract;
    let is_on_real_time = contract.clock == Clock::Wall;
    let mut model = Model::new(contract);
    for (now_ms, step, answer) in calls {
        let call = operation(step);
        let response = protocol::decode(1, &call, &line(answer))?;
        if is_on_real_time {
            model.observe_wall_clock(*now_ms, *now_ms);
        }
        model.judge(&call, &response)?;
    }
    Ok(())
}

/// A line of the protocol around a `result` or an `error`.
fn line(answer: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":1,{answer}}}"#).into_bytes()
}

fn holds(contract: &str, calls: &[Call]) {
    judge(contract, calls).unwrap_or_else(|violation| panic!("{violation}\n{calls:#?}"));
}

fn is_violated(contract: &str, calls: &[Call], why: &str) {
    let violation = judge(contract, calls).expect_err(why).to_string();
    assert!(violation.contains(why), "{violation}");
}

/// One step of a scenario whose addresses are written out.
fn operation(step: &str) -> Operation {
    let scenario = parse(&format!("poolproof scenario 1\n{step}\n")).unwrap();
    let Step::Call(call) = &scenario.steps[0] else { panic!("{step} is no call") };
    let written = |_: &_, operand: &Operand| match operand {
        Operand::Literal(text) => Some(Written::Odd(text.clone())),
        _ => None,
    };
    call.resolve(written).unwrap_or_else(|| panic!("{step}: an address is not written out"))
}

/// `total`: who echoes half a character of a malformed name sends what JSON's grammar allows.
#[test]
fn lone_surrogates_in_messages() {
    let step = "allocate \"a\" nowhere";
    let half = r#""error":{"code":-32000,"message":"no pool \ud83d here","data":{"kind":"not_found"}}"#;
    holds("", &[(0, step, half)]);
    let no_json = r#""error":{"code":-32000,"message":"no pool \u12 here","data":{"kind":"not_found"}}"#;
    is_violated("", &[(0, step, no_json)], "no JSON");
}

/// `classified`: a system without blocks may look at the form of an address before it looks for the pool.
#[test]
fn blocks_of_pools_that_are_not_there() {
    let unsupported = r#""error":{"code":-32000,"message":"no","data":{"kind":"unsupported"}}"#;
    holds("", &[(0, "allocate \"a\" nowhere 10.0.0.5/32", unsupported)]);
    is_violated("", &[(0, "allocate \"a\" nowhere 10.0.0.5", unsupported)], "classified");
}

/// `idempotent`, `expiring`: of two addresses that an owner has, either may be given again, with its own end.
#[test]
fn the_end_of_the_other_of_two_own_allocations() {
    let contract = r#""methods":["advance","renew"],"repeat":"same","clock":"virtual""#;
    let history = |again| {
        [
            (0, "advance 0", r#""result":{"now_ms":0}"#),
            POOL,
            (0, "allocate \"a\" p0 10.0.0.2 + p0 10.0.0.3", r#""result":{"granted":["10.0.0.2","10.0.0.3"]}"#),
            (0, "renew p0 10.0.0.3 \"a\" ttl 2000", r#""result":{"expires_ms":2000}"#),
            (0, "allocate \"a\" p0 ttl 5000", again),
        ]
    };
    holds(contract, &history(r#""result":{"granted":["10.0.0.3"],"expires_ms":2000}"#));
    holds(contract, &history(r#""result":{"granted":["10.0.0.2"],"expires_ms":5000}"#));
    is_violated(contract, &history(r#""result":{"granted":["10.0.0.2"],"expires_ms":2000}"#), "expiring");
}

/// `owned`: where releasing what nobody holds is `ok`, a stranger may be told so of a lease that may just have ended.
#[test]
fn releases_of_leases_that_may_have_ended() {
    let contract = r#""methods":["release"],"clock":"wall","release_unknown":"ok""#;
    let leased = (0, "allocate \"a\" p0 ttl 1000", r#""result":{"granted":["10.0.0.2"],"expires_ms":1000}"#);
    holds(contract, &[POOL, leased, (1000, "release p0 10.0.0.2 \"b\"", DONE)]);
    is_violated(contract, &[POOL, leased, (500, "release p0 10.0.0.2 \"b\"", DONE)], "owned");
}

/// `classified`: as long as the clock has not told where it started, a far time may pass 2^53-1 there.
#[test]
fn far_times_on_a_clock_that_has_not_told_its_start() {
    let contract = r#""methods":["advance"],"clock":"virtual""#;
    let invalid = r#""error":{"code":-32602,"message":"too late","data":{"kind":"invalid"}}"#;
    let far = (0, "allocate \"a\" p0 ttl 9007199254740000", invalid);
    holds(contract, &[POOL, far]);
    is_violated(contract, &[(0, "advance 0", r#""result":{"now_ms":0}"#), POOL, far], "classified");
}

/// `discreet`: a name that begins with a space is in every sentence with that word.
#[test]
fn names_that_begin_with_a_space() {
    let conflict = r#""error":{"code":-32000,"message":"held since lease-7 began","data":{"kind":"conflict"}}"#;
    let by = |held, owner| [POOL, (0, held, r#""result":{"granted":["10.0.0.2"]}"#), (0, owner, conflict)];
    holds("", &by("allocate \" lease-7\" p0", "allocate \"b\" p0 10.0.0.2"));
    is_violated("", &by("allocate \"lease-7\" p0", "allocate \"b\" p0 10.0.0.2"), "discreet");
}

/// `idempotent`: whoever holds a block and asks for an address has not said what it gets again.
#[test]
fn an_address_for_the_holder_of_a_block() {
    let contract = r#""repeat":"same","blocks":true"#;
    let asked = |held, granted, again| [POOL, (0, held, granted), (0, "allocate \"a\" p0", again)];
    let block = |again| asked("allocate \"a\" p0 /31", r#""result":{"granted":["10.0.0.2/31"]}"#, again);
    holds(contract, &block(r#""result":{"granted":["10.0.0.1"]}"#));
    holds(contract, &block(r#""result":{"granted":["10.0.0.2/31"]}"#));
    holds(contract, &block(r#""error":{"code":-32000,"message":"no","data":{"kind":"conflict"}}"#));
    is_violated(contract, &block(r#""result":{"granted":["10.0.0.3"]}"#), "exclusive");
    let address =
        asked("allocate \"a\" p0", r#""result":{"granted":["10.0.0.1"]}"#, r#""result":{"granted":["10.0.0.2"]}"#);
    is_violated(contract, &address, "idempotent");
}

/// `complete`: where pools overlap, what one of them is granted may be taken for the other, in the same call too.
#[test]
fn one_call_on_pools_that_overlap() {
    let conflict = r#""error":{"code":-32000,"message":"no","data":{"kind":"conflict"}}"#;
    let twice = |second| [POOL, second, (0, "allocate \"a\" p0 10.0.0.2 + p1 10.0.0.2", conflict)];
    holds(r#""disjoint_pools":false"#, &twice((0, "pool p1 10.0.0.0/28", DONE)));
    is_violated(r#""disjoint_pools":false"#, &twice((0, "pool p1 10.0.0.8/29", DONE)), "invalid");
    let apart = [POOL, (0, "pool p1 10.0.0.8/29", DONE), (0, "allocate \"a\" p0 10.0.0.2 + p1 10.0.0.10", conflict)];
    is_violated(r#""disjoint_pools":false"#, &apart, "complete");
}
