//! The text form of scenarios: parse(print(x)) = x for every x, and the parser answers any text, in
//! linear time, with a place that exists.

use std::time::{Duration, Instant};

use poolproof::contract::{Clock, Contract, Methods};
use poolproof::fault::{Fault, FaultKind, Moment, SystemCall};
use poolproof::operation::{Operation, PoolShape, Request, Requests, Text, Want};
use poolproof::scenario::{GrantRef, HEADER, Operand, Scenario, Spelling, Step, parse, print};
use poolproof::strategy::scenarios;
use poolproof_proptests::{Suite, fresh_config};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

/// Words that mean something in the text form, and marks that begin or end something there.
const TOKENS: [&str; 43] = [
    "fault",
    "kill",
    "power-loss",
    "no-memory",
    "before",
    "ttl",
    "range",
    "gateway",
    "exclude",
    "pool",
    "update",
    "delete",
    "allocate",
    "release",
    "release-owner",
    "renew",
    "begin",
    "list",
    "advance",
    "fill",
    "drain",
    "repeat",
    "audit",
    "restart",
    "raw",
    HEADER,
    "\"",
    "\\",
    "\\x",
    "\\u{",
    "}",
    "@",
    "[",
    "]",
    "~",
    "+",
    "/",
    "#",
    "\n",
    "\r",
    "\u{feff}",
    "\t",
    " ",
];

/// Any text: any characters, the format's own words, what looks like addresses and names.
fn any_text() -> impl Strategy<Value = Text> {
    let of_characters = vec(any::<char>(), 0..8).prop_map(String::from_iter);
    let token = select(&TOKENS[..]).prop_map(str::to_owned);
    let of_tokens = vec(select(&TOKENS[..]), 0..4).prop_map(|tokens| tokens.concat());
    prop_oneof![of_characters, token, of_tokens, "[0-9a-f:./-]{0,12}", "[a-zA-Z0-9_.-]{0,6}"].prop_map(Text::from)
}

/// Any number, the extreme ones often.
fn any_u64() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()]
}

fn any_i64() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(-1), Just(i64::MIN), Just(i64::MAX), any::<i64>()]
}

fn any_u32() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), any::<u32>()]
}

fn any_grant() -> impl Strategy<Value = GrantRef> {
    (any_u32(), any_u32()).prop_map(|(step, nth)| GrantRef { step, nth })
}

fn any_operand() -> impl Strategy<Value = Operand> {
    let spelling = || select(&Spelling::ALL[..]);
    prop_oneof![
        any_text().prop_map(Operand::Literal),
        (any_grant(), spelling()).prop_map(|(grant, spelling)| Operand::Granted(grant, spelling)),
        (any_i64(), spelling()).prop_map(|(place, spelling)| Operand::Nth(place, spelling)),
    ]
}

fn any_shape() -> impl Strategy<Value = PoolShape> {
    let ranges = vec((any_text(), any_text()), 0..3);
    (ranges, option::of(any_text()), vec(any_text(), 0..3)).prop_map(|(ranges, gateway, exclude)| PoolShape {
        ranges,
        gateway,
        exclude,
    })
}

fn any_requests() -> impl Strategy<Value = Requests<Operand>> {
    let want = prop_oneof![Just(Want::Any), any_operand().prop_map(Want::Named), any::<u8>().prop_map(Want::Block)];
    vec((any_text(), want).prop_map(|(pool, want)| Request { pool, want }), 0..4).prop_map(Requests::from_vec)
}

fn any_operation() -> impl Strategy<Value = Operation<Operand>> {
    let pool_calls = prop_oneof![
        (any_text(), any_text(), any_shape()).prop_map(|(pool, prefix, shape)| Operation::CreatePool {
            pool,
            prefix,
            shape
        }),
        (any_text(), any_shape()).prop_map(|(pool, shape)| Operation::UpdatePool { pool, shape }),
        any_text().prop_map(|pool| Operation::DeletePool { pool }),
        option::of(any_text()).prop_map(|pool| Operation::List { pool }),
        any_text().prop_map(|pool| Operation::Usage { pool }),
    ];
    let holder_calls =
        prop_oneof![
            (any_text(), any_requests(), option::of(any_u64()))
                .prop_map(|(owner, requests, ttl_ms)| Operation::Allocate { owner, requests, ttl_ms }),
            (any_text(), any_operand(), option::of(any_text())).prop_map(|(pool, address, owner)| Operation::Release {
                pool,
                address,
                owner
            }),
            any_text().prop_map(|owner| Operation::ReleaseOwner { owner }),
            (any_text(), any_operand(), any_text(), any_u64())
                .prop_map(|(pool, address, owner, ttl_ms)| Operation::Renew { pool, address, owner, ttl_ms }),
        ];
    let other_calls = prop_oneof![
        select(vec![Operation::Begin, Operation::Commit, Operation::Rollback]),
        any_u64().prop_map(|ms| Operation::Advance { ms }),
        vec(any::<u8>(), 0..12).prop_map(|line| Operation::Raw { line: line.into() }),
    ];
    prop_oneof![pool_calls, holder_calls, other_calls]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any_operation().prop_map(Step::Call),
        1 => (any_grant(), any_i64()).prop_map(|(lease, offset_ms)| Step::AdvanceTo { lease, offset_ms }),
        1 => (any_text(), any_text(), any_u32(), option::of(any_u64()))
            .prop_map(|(pool, owner, count, ttl_ms)| Step::Fill { pool, owner, count, ttl_ms }),
        1 => (any_text(), any_u32()).prop_map(|(pool, count)| Step::Drain { pool, count }),
        1 => any_u32().prop_map(|step| Step::Repeat { step }),
        1 => select(vec![Step::Restart, Step::Crash, Step::Audit]),
        1 => any_fault().prop_map(Step::Fault),
        1 => vec(any::<u8>(), 0..6).prop_map(Step::Turns),
        1 => select(vec![Step::Lane, Step::Join]),
    ]
}

fn any_fault() -> impl Strategy<Value = Fault> {
    let moment = select(vec![Moment::Before, Moment::After]);
    let call = option::of(select(&SystemCall::ALL[..]));
    (select(&FaultKind::ALL[..]), any_u32(), any_u32(), moment, call)
        .prop_map(|(kind, seed, step, moment, call)| Fault { kind: kind.seeded(seed), step, moment, call })
}

fn any_scenario() -> impl Strategy<Value = Scenario> {
    vec(any_step(), 0..6).prop_map(|steps| Scenario { steps })
}

/// A valid text with some of its characters cut out or overwritten with tokens.
fn mutated_text() -> impl Strategy<Value = String> {
    let edit = (any::<Index>(), 0..3usize, select(&TOKENS[..]));
    (any_scenario(), vec(edit, 1..4)).prop_map(|(scenario, edits)| {
        edits.into_iter().fold(print(&scenario), |text, (place, cut, token)| {
            let at = place.index(text.chars().count() + 1);
            let before: String = text.chars().take(at).collect();
            let after: String = text.chars().skip(at + cut).collect();
            before + token + &after
        })
    })
}

fn round_trip(scenario: &Scenario) -> Result<(), TestCaseError> {
    survives(scenario, &print(scenario))
}

/// The text is that of the scenario.
fn survives(scenario: &Scenario, text: &str) -> Result<(), TestCaseError> {
    match parse(text) {
        Ok(read) => prop_assert_eq!(&read, scenario, "in\n{}", text),
        Err(error) => prop_assert!(false, "{} in\n{}", error, text),
    }
    let on_windows = parse(&text.replace('\n', "\r\n"));
    prop_assert!(on_windows.as_ref() == Ok(scenario), "{:?} with Windows' line ends in\n{}", on_windows, text);
    prop_assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)), "unprintable: {text:?}");
    Ok(())
}

/// Whatever the text, it is a scenario that survives, or an error at a place that exists.
fn answered(source: &str) -> Result<(), TestCaseError> {
    let error = match parse(source) {
        Ok(scenario) => return round_trip(&scenario),
        Err(error) => error,
    };
    // An empty text has its error at its beginning.
    let lines: Vec<&str> = if source.is_empty() { vec![""] } else { source.lines().collect() };
    let line = error.line.checked_sub(1).and_then(|index| lines.get(index));
    let Some(line) = line else { return Err(TestCaseError::fail(format!("{error}: no such line in {source:?}"))) };
    prop_assert!((1..=line.chars().count() + 1).contains(&error.column), "{}: no such column in {:?}", error, source);
    Ok(())
}

proptest! {
    #![proptest_config(fresh_config(4_000))]

    #[test]
    fn any_scenario_survives(scenario in any_scenario()) {
        round_trip(&scenario)?;
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200)) {
        answered(&String::from_utf8_lossy(&bytes))?;
        answered(&format!("{HEADER}\n{}", String::from_utf8_lossy(&bytes)))?;
    }

    #[test]
    fn any_tokens_are_answered(words in vec(prop_oneof![any_text(), select(&TOKENS[..]).prop_map(Text::from)], 0..12)) {
        answered(&format!("{HEADER}\n{}", words.concat()))?;
        answered(&format!("{HEADER}\n{}", words.join(" ")))?;
    }

    #[test]
    fn mutated_texts_are_answered(text in mutated_text()) {
        answered(&text)?;
    }
}

/// The canary: a printer that loses a step, or writes one that is another.
#[test]
fn a_text_of_another_scenario_does_not_survive() {
    let scenario = parse(&format!("{HEADER}\npool p0 10.0.0.0/29\nallocate \"a\" p0 ttl 5\n")).unwrap();
    let text = print(&scenario);
    survives(&scenario, &text).unwrap();
    assert!(survives(&scenario, text.trim_end().rsplit_once('\n').unwrap().0).is_err());
    assert!(survives(&scenario, &text.replace("ttl 5", "ttl 6")).is_err());
}

#[test]
fn generated_scenarios_survive() {
    let mut everything =
        Contract { methods: Methods::all(), clock: Clock::Virtual, durable: true, blocks: true, ..Contract::default() };
    everything.limits.raw = true;
    let contracts = [everything, Contract::default(), Suite::exclusive().contract, Suite::transactions().contract];
    for contract in contracts {
        let mut runner = TestRunner::new(fresh_config(1_000));
        runner.run(&scenarios(&contract), |scenario| round_trip(&scenario)).unwrap();
    }
}

/// Length of the shorter hostile texts, in bytes.
const SHORT: usize = 1 << 16;

/// How many times longer the longer ones are, and how many times longer they may take.
const LONGER: usize = 8;
const SLOWER: u32 = 20;

/// Texts that invite a parser to look at the same bytes again and again, each a beginning, a part
/// that is repeated, and an end.
const HOSTILE: [(&str, &str, &str); 21] = [
    ("raw \"", "\\\"", "\""),
    ("raw ", "\"", ""),
    ("raw \"", "\\x41", "\""),
    ("raw \"", "\\u{41}", "\""),
    ("raw \"", "\\u{", "\""),
    ("raw \"\\u{", "4", "}\""),
    ("raw \"", "a", ""),
    ("raw \"", "\u{e9}", ""),
    ("raw \"", "\\\\", ""),
    ("", "raw \"\n", ""),
    ("", "begin\n", ""),
    ("", "begin # \"\n", "raw \""),
    ("begin ", "#", ""),
    ("", "\u{1f980}", ""),
    ("", " ", "nonsense"),
    ("allocate \"a\" p", " + p", " + "),
    ("pool p0 10.0.0.0/8", " exclude 10.0.0.1", " gateway"),
    ("advance ", "9", ""),
    ("drain p0 8", "x", ""),
    ("raw \"", "$id", "\""),
    ("raw \"[", "{},", "{}]\""),
];

/// Other work on the machine slows one measurement down, a parser that is not linear all of them.
const MEASUREMENTS: usize = 6;

#[test]
fn parsing_takes_linear_time() {
    for (beginning, part, end) in HOSTILE {
        let text = |length: usize| format!("{HEADER}\n{beginning}{}{end}", part.repeat(length / part.len()));
        let (short, long) = (text(SHORT), text(LONGER * SHORT));
        let times = || (shortest_time(&short), shortest_time(&long));
        // Times below the clock's noise say nothing.
        let is_linear = |(short, long): (Duration, Duration)| long <= SLOWER * short.max(Duration::from_micros(100));
        let linear = (0..MEASUREMENTS).any(|_| is_linear(times()));
        assert!(linear, "{beginning:?}, many {part:?}, {end:?}: {:?} for {LONGER} times the length", times());
    }
}

/// Noise only adds to a time, so the shortest of several is the true one.
fn shortest_time(source: &str) -> Duration {
    let times = (0..5).map(|_| {
        let started = Instant::now();
        let _answer = parse(source);
        started.elapsed()
    });
    times.min().unwrap_or_default()
}
