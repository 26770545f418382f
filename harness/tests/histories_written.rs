//! Histories that are written by hand, as `poolproof history` reads them, and the exit code that each has there.

use poolproof::history::lines::read;
use poolproof::history::{Bounds, Judgement, judge};

fn exit_code(judgement: &Judgement) -> u8 {
    match judgement {
        Judgement::Linearizable { .. } => 0,
        Judgement::Violated(_) => 1,
        Judgement::Unknown { .. } => 3,
    }
}

/// Lines of a history, briefly: `1>` begins a call of caller 1, `1<` ends it; a call that is `1=` does both.
fn lines(text: &str) -> String {
    let call = |what: &str| match what.split_once(' ') {
        Some(("allocate", owner)) => {
            format!(r#""method":"allocate","params":{{"owner":"{owner}","requests":[{{"pool":"p"}}]}}"#)
        }
        Some(("release", owner)) => {
            format!(r#""method":"release","params":{{"pool":"p","address":"10.0.0.0","owner":"{owner}"}}"#)
        }
        Some(("pool", prefix)) => format!(r#""method":"pool.create","params":{{"pool":"p","prefix":"{prefix}"}}"#),
        _ if what == "usage" => r#""method":"usage","params":{"pool":"p"}"#.to_owned(),
        _ => format!(r#""method":"{what}""#),
    };
    let end = |what: &str| match what.split_once(' ') {
        Some(("granted", address)) => format!(r#""type":"return","result":{{"granted":["{address}"]}}"#),
        Some(("used", number)) => {
            format!(r#""type":"return","result":{{"allocatable":"2","allocated":"{number}"}}"#)
        }
        Some(("fail", kind)) => format!(r#""type":"fail","error":{{"kind":"{kind}"}}"#),
        _ if what == "unknown" => r#""type":"unknown""#.to_owned(),
        _ => r#""type":"return","result":{}"#.to_owned(),
    };
    let event = |line: &str| {
        let (process, what) = line.split_at(1);
        let begun = |what: &str| format!("{{\"process\":{process},\"type\":\"invoke\",{}}}\n", call(what.trim()));
        let ended = |what: &str| format!("{{\"process\":{process},{}}}\n", end(what.trim()));
        match (what.split_at(1), what.split_once(':')) {
            ((">", what), _) => begun(what),
            (("<", what), _) => ended(what),
            (("=", _), Some((what, answer))) => format!("{}{}", begun(&what[1..]), ended(answer)),
            _ => panic!("{line}"),
        }
    };
    text.split(';').map(str::trim).map(event).collect()
}

/// Histories with transactions, and the exit code that `poolproof history` has for each.
const TRANSACTIONS: [(&str, &str, u8); 25] = [
    ("one after the other", "1=begin: done; 1=allocate a: granted 10.0.0.0; 1=commit: done; 2=usage: used 1", 0),
    (
        "what is not committed is seen",
        "1=begin: done; 1=allocate a: granted 10.0.0.0; 2=usage: used 1; 1=commit: done",
        0,
    ),
    (
        "half of one is seen",
        "1=begin: done; 1=allocate a: granted 10.0.0.0; 2=usage: used 1; 1=allocate a: granted 10.0.0.1; 1=commit: done",
        1,
    ),
    (
        "what is rolled back is seen",
        "1=begin: done; 1=allocate a: granted 10.0.0.0; 2=usage: used 1; 1=rollback: done",
        1,
    ),
    (
        "what is rolled back is free",
        "1=begin: done; 1=allocate a: granted 10.0.0.0; 1=rollback: done; 2=allocate b: granted 10.0.0.0",
        0,
    ),
    (
        "two take the same",
        "1=begin: done; 2=begin: done; 1=allocate a: granted 10.0.0.0; 2=allocate b: granted 10.0.0.0; 1=commit: done; 2=commit: done",
        1,
    ),
    (
        "each reads what the other has not written",
        "1=begin: done; 2=begin: done; 1=usage: used 0; 2=usage: used 0; 1=allocate a: granted 10.0.0.0; 2=allocate b: granted 10.0.0.1; 1=commit: done; 2=commit: done",
        1,
    ),
    (
        "one waits for the other",
        "1=begin: done; 2>begin; 1=allocate a: granted 10.0.0.0; 1=commit: done; 2<done; 2=usage: used 1; 2=commit: done",
        0,
    ),
    (
        "the later one does not see the earlier",
        "1=begin: done; 1=allocate a: granted 10.0.0.0; 1=commit: done; 2=begin: done; 2=usage: used 0; 2=commit: done",
        1,
    ),
    (
        "nobody knows, and it is there",
        "1=begin: done; 1=allocate a: granted 10.0.0.0; 1=commit: unknown; 2=usage: used 1",
        0,
    ),
    (
        "nobody knows, and it is not there",
        "1=begin: done; 1=allocate a: granted 10.0.0.0; 1=commit: unknown; 2=usage: used 0",
        0,
    ),
    (
        "nobody knows, and it comes and goes",
        "1=begin: done; 1=allocate a: granted 10.0.0.0; 1=commit: unknown; 2=usage: used 1; 2=usage: used 0",
        1,
    ),
    (
        "its caller dies within it",
        "1=begin: done; 1=allocate a: granted 10.0.0.0; 1=allocate a: unknown; 2=usage: used 0",
        0,
    ),
    (
        "nobody knows, and there is more than it did",
        "1=begin: done; 1=allocate a: granted 10.0.0.0; 1>commit; 2=usage: used 2",
        1,
    ),
    (
        "it goes on without knowing, and both were granted",
        "1=begin: done; 1=allocate a: unknown; 1=allocate a: granted 10.0.0.1; 1=commit: done; 2=usage: used 2",
        0,
    ),
    (
        "it goes on without knowing, and one was granted",
        "1=begin: done; 1=allocate a: unknown; 1=allocate a: granted 10.0.0.1; 1=commit: done; 2=usage: used 1",
        0,
    ),
    (
        "it goes on without knowing, and none is there",
        "1=begin: done; 1=allocate a: unknown; 1=allocate a: granted 10.0.0.1; 1=commit: done; 2=usage: used 0",
        1,
    ),
    (
        "it is not there, though it was not refused for any reason",
        "1=begin: done; 1=allocate a: granted 10.0.0.0; 1=commit: fail conflict; 2=usage: used 0",
        1,
    ),
    (
        "nobody knows, and its caller begins anew",
        "1=begin: done; 1=allocate a: granted 10.0.0.0; 1=commit: unknown; 1=begin: done; 1=usage: used 0; 1=commit: done; 2=usage: used 0",
        0,
    ),
    (
        "nobody knows whether it ended, and its caller goes on",
        "1=begin: done; 1=allocate a: granted 10.0.0.0; 1=rollback: unknown; 1=allocate a: granted 10.0.0.1; 2=usage: used 1",
        3,
    ),
    (
        "nobody knows whether it began, and nothing follows",
        "1=begin: unknown; 2=allocate a: granted 10.0.0.0; 2=usage: used 1",
        0,
    ),
    (
        "nobody knows whether it began, and its caller goes on",
        "1=begin: unknown; 1=allocate a: granted 10.0.0.0; 2=usage: used 0; 1=commit: done",
        3,
    ),
    (
        "nobody knows whether it began, and its caller undoes what another has done",
        "1=begin: unknown; 2=allocate a: granted 10.0.0.0; 1=rollback: done; 2=usage: used 0",
        3,
    ),
    (
        "nobody knows whether it ended, and its caller ends it",
        "1=begin: done; 1=allocate a: granted 10.0.0.0; 1=commit: unknown; 1=rollback: done; 2=usage: used 0",
        3,
    ),
    (
        "a second one is refused",
        "1=begin: done; 1=begin: fail invalid; 2=usage: used 0; 1=commit: done; 1=commit: fail invalid",
        0,
    ),
];

/// A transaction takes effect at one instant, with all of its calls, or not at all.
#[test]
fn transactions_of_several_callers_are_judged_as_a_whole() {
    const POOL: &str = "0=pool 10.0.0.0/31: done; ";
    for (name, history, expected) in TRANSACTIONS {
        let found =
            read(lines(&format!("{POOL}{history}")).as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let judged = judge(&found.history, &found.contract, Bounds::default());
        assert_eq!(exit_code(&judged), expected, "{name}: {judged:?}");
    }
}

/// Histories under other contracts, and the exit code that `poolproof history` has for each.
const CONTRACTS: [(&str, &str, &str, u8); 11] = [
    (
        "a clock that does not begin at 0, moved by a call of unknown outcome",
        r#""clock":"virtual""#,
        r#"1=advance {"ms":100}: {"now_ms":5100}; 2=advance {"ms":50}: ?; 1=advance {"ms":0}: {"now_ms":5150}"#,
        0,
    ),
    (
        "a lease of unknown outcome on such a clock",
        r#""clock":"virtual""#,
        r#"1=allocate {"owner":"a","requests":[{"pool":"p"}],"ttl_ms":50}: ?; 2=allocate {"owner":"b","requests":[{"pool":"p"}],"ttl_ms":10}: {"granted":["10.0.0.0"],"expires_ms":5010}; 1=list {}: {"allocations":[{"pool":"p","address":"10.0.0.0","owner":"b","expires_ms":5010},{"pool":"p","address":"10.0.0.1","owner":"a","expires_ms":5050}]}"#,
        3,
    ),
    (
        "pools that overlap, full of what one of them has handed out",
        r#""disjoint_pools":false"#,
        r#"1=allocate {"owner":"a","requests":[{"pool":"p"}]}: {"granted":["10.0.0.0"]}; 1=allocate {"owner":"a","requests":[{"pool":"p"}]}: {"granted":["10.0.0.1"]}; 2>allocate {"owner":"b","requests":[{"pool":"q"}]}; 3=allocate {"owner":"b","requests":[{"pool":"q"}]}: !exhausted; 2<!exhausted"#,
        0,
    ),
    (
        "pools that overlap, and what one of them has handed out is taken in the other",
        r#""disjoint_pools":false"#,
        r#"1=allocate {"owner":"a","requests":[{"pool":"p"}]}: {"granted":["10.0.0.0"]}; 2>allocate {"owner":"b","requests":[{"pool":"q","address":"10.0.0.0"}]}; 3=allocate {"owner":"b","requests":[{"pool":"q"}]}: {"granted":["10.0.0.1"]}; 2<!conflict"#,
        0,
    ),
    (
        "pools that overlap, and one that is not full",
        r#""disjoint_pools":false"#,
        r#"1=allocate {"owner":"a","requests":[{"pool":"p"}]}: {"granted":["10.0.0.0"]}; 2=allocate {"owner":"b","requests":[{"pool":"q"}]}: !exhausted"#,
        1,
    ),
    (
        "pools that overlap, and one that is not full, at the same time",
        r#""disjoint_pools":false"#,
        r#"1=allocate {"owner":"a","requests":[{"pool":"p"}]}: {"granted":["10.0.0.0"]}; 2>allocate {"owner":"b","requests":[{"pool":"q"}]}; 3=usage {"pool":"q"}: {"allocatable":"2","allocated":"0"}; 2<!exhausted"#,
        1,
    ),
    (
        "an address that is free, named, is not exhausted",
        r#""disjoint_pools":false"#,
        r#"1=allocate {"owner":"a","requests":[{"pool":"p"}]}: {"granted":["10.0.0.0"]}; 2=allocate {"owner":"b","requests":[{"pool":"q","address":"10.0.0.1"}]}: !exhausted"#,
        1,
    ),
    (
        "requests are counted, though two of them name the same address",
        r#""blocks":false"#,
        r#"1=allocate {"owner":"a","requests":[{"pool":"p"},{"pool":"p","address":"10.0.0.1"},{"pool":"p","address":"10.0.0.1"}]}: !exhausted"#,
        0,
    ),
    (
        "whatever follows a call that may have been done in part",
        r#""atomic":false"#,
        r#"1=allocate {"owner":"a","requests":[{"pool":"p"},{"pool":"x"}]}: !not_found; 1=allocate {"owner":"a","requests":[{"pool":"p"}]}: {"granted":["10.0.0.1"]}; 2=allocate {"owner":"b","requests":[{"pool":"p"}]}: {"granted":["10.0.0.1"]}"#,
        3,
    ),
    (
        "whatever follows such a call, at the same time",
        r#""atomic":false"#,
        r#"1=allocate {"owner":"a","requests":[{"pool":"p"},{"pool":"x"}]}: !not_found; 1>allocate {"owner":"a","requests":[{"pool":"p"}]}; 2=allocate {"owner":"b","requests":[{"pool":"p"}]}: {"granted":["10.0.0.1"]}; 1<{"granted":["10.0.0.1"]}"#,
        3,
    ),
    (
        "what is wrong before such a call",
        r#""atomic":false"#,
        r#"1=allocate {"owner":"a","requests":[{"pool":"p"}]}: {"granted":["10.0.0.1"]}; 2=allocate {"owner":"b","requests":[{"pool":"p"}]}: {"granted":["10.0.0.1"]}; 1=allocate {"owner":"a","requests":[{"pool":"p"},{"pool":"x"}]}: !not_found"#,
        1,
    ),
];

/// Lines of a history: `1>` begins a call, `1<` ends it, `1=` does both; a refusal has a `!`, and `?` is unknown.
fn spelled_out(history: &str) -> String {
    let begun = |process: &str, call: &str| {
        let (method, parameters) = call.split_once(' ').unwrap();
        format!(r#"{{"process":{process},"type":"invoke","method":"{method}","params":{parameters}}}"#)
    };
    let ended = |process: &str, end: &str| match end.split_at(1) {
        ("?", _) => format!(r#"{{"process":{process},"type":"unknown"}}"#),
        ("!", kind) => format!(r#"{{"process":{process},"type":"fail","error":{{"kind":"{kind}"}}}}"#),
        _ => format!(r#"{{"process":{process},"type":"return","result":{end}}}"#),
    };
    let event = |line: &str| {
        let (process, what) = (&line[..1], &line[2..]);
        match &line[1..2] {
            ">" => begun(process, what),
            "<" => ended(process, what),
            _ => {
                let (call, end) = what.split_once(": ").unwrap();
                format!("{}\n{}", begun(process, call), ended(process, end))
            }
        }
    };
    history.split("; ").map(event).collect::<Vec<String>>().join("\n")
}

/// What an answer means hangs on what was promised, and on what the clock read at first; where the answers leave it open
/// what is held, nothing is said.
#[test]
fn contracts_are_kept_to() {
    for (name, contract, history, expected) in CONTRACTS {
        let pools = r#"0=pool.create {"pool":"p","prefix":"10.0.0.0/31"}: {}; 0=pool.create {"pool":"q","prefix":"10.0.0.0/31"}: "#;
        let second = if contract.contains("disjoint") { "{}" } else { "!conflict" };
        let text = format!(
            "{{\"contract\":{{{contract}}}}}\n{}\n{}",
            spelled_out(&format!("{pools}{second}")),
            spelled_out(history)
        );
        let found = read(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let judged = judge(&found.history, &found.contract, Bounds::default());
        assert_eq!(exit_code(&judged), expected, "{name}: {judged:?}");
    }
}

/// What was once judged wrongly: the contract, the history, and the exit code.
const MISJUDGED: [(&str, &str, &str, u8); 11] = [
    (
        "a block fills a pool",
        r#""blocks":true"#,
        r#"0=pool.create {"pool":"p","prefix":"10.0.0.0/29","ranges":[["10.0.0.2","10.0.0.4"]]}: {}; 1=allocate {"owner":"a","requests":[{"pool":"p","prefix_len":31}]}: {"granted":["10.0.0.2/31"]}; 1>allocate {"owner":"a","requests":[{"pool":"p"}]}; 2>allocate {"owner":"b","requests":[{"pool":"p"}]}; 1<{"granted":["10.0.0.4"]}; 2<!exhausted"#,
        0,
    ),
    (
        "nobody holds an address of a block",
        r#""blocks":true"#,
        r#"0=pool.create {"pool":"p","prefix":"10.0.0.0/29","ranges":[["10.0.0.2","10.0.0.4"]]}: {}; 1=allocate {"owner":"a","requests":[{"pool":"p","prefix_len":31}]}: {"granted":["10.0.0.2/31"]}; 1>release {"pool":"p","address":"10.0.0.2","owner":"a"}; 2>allocate {"owner":"b","requests":[{"pool":"p"}]}; 1<!not_found; 2<{"granted":["10.0.0.4"]}"#,
        0,
    ),
    (
        "a commit of unknown outcome, alone, and another transaction",
        r#""#,
        r#"0=pool.create {"pool":"p","prefix":"10.0.0.0/29"}: {}; 0=begin {}: {}; 0=allocate {"owner":"a","requests":[{"pool":"p"}]}: {"granted":["10.0.0.1"]}; 0=commit {}: ?; 0=begin {}: {}; 0=list {}: {"allocations":[]}"#,
        0,
    ),
    (
        "a commit of unknown outcome, alone",
        r#""#,
        r#"0=pool.create {"pool":"p","prefix":"10.0.0.0/29"}: {}; 0=begin {}: {}; 0=allocate {"owner":"a","requests":[{"pool":"p"}]}: {"granted":["10.0.0.1"]}; 0=commit {}: ?; 0=list {}: {"allocations":[]}"#,
        3,
    ),
    (
        "what a transaction did is undone, alone",
        r#""#,
        r#"0=pool.create {"pool":"p","prefix":"10.0.0.0/29"}: {}; 0=begin {}: {}; 0=allocate {"owner":"a","requests":[{"pool":"p"}]}: ?; 0=rollback {}: {}; 0=list {}: {"allocations":[{"pool":"p","address":"10.0.0.1","owner":"a"}]}"#,
        1,
    ),
    (
        "the same, and a second beginning is refused",
        r#""#,
        r#"0=pool.create {"pool":"p","prefix":"10.0.0.0/29"}: {}; 0=begin {}: {}; 0=begin {}: !invalid; 0=allocate {"owner":"a","requests":[{"pool":"p"}]}: ?; 0=rollback {}: {}; 0=list {}: {"allocations":[{"pool":"p","address":"10.0.0.1","owner":"a"}]}"#,
        1,
    ),
    (
        "overlapping pools make addresses differ",
        r#""disjoint_pools":false,"reserves_edges":false"#,
        r#"0=pool.create {"pool":"p","prefix":"10.0.0.0/29"}: {}; 0=pool.create {"pool":"q","prefix":"10.0.0.7/32"}: {}; 1=allocate {"owner":"a","requests":[{"pool":"p"}]}: ?; 2=allocate {"owner":"b","requests":[{"pool":"q"}]}: !exhausted"#,
        0,
    ),
    (
        "overlapping pools lend the same address",
        r#""disjoint_pools":false"#,
        r#"0=pool.create {"pool":"p","prefix":"10.0.0.0/31"}: {}; 0=pool.create {"pool":"q","prefix":"10.0.0.1/32"}: {}; 1=allocate {"owner":"c","requests":[{"pool":"p"},{"pool":"q"}]}: ?; 2=release {"pool":"p","address":"10.0.0.1","owner":"c"}: {}"#,
        0,
    ),
    (
        "a lease granted again has a new end",
        r#""repeat":"same","clock":"virtual""#,
        r#"0=pool.create {"pool":"p","prefix":"10.0.0.0/29"}: {}; 1=allocate {"owner":"a","requests":[{"pool":"p"}],"ttl_ms":10}: {"granted":["10.0.0.1"],"expires_ms":10}; 1=allocate {"owner":"a","requests":[{"pool":"p"}],"ttl_ms":20}: ?; 2=list {}: {"allocations":[{"pool":"p","address":"10.0.0.1","owner":"a","expires_ms":20}]}"#,
        0,
    ),
    (
        "the same is granted in one of two pools",
        r#""repeat":"same""#,
        r#"0=pool.create {"pool":"p","prefix":"10.0.0.0/29"}: {}; 0=pool.create {"pool":"q","prefix":"10.0.1.0/29"}: {}; 1=allocate {"owner":"a","requests":[{"pool":"p"}]}: {"granted":["10.0.0.1"]}; 1=allocate {"owner":"a","requests":[{"pool":"p"},{"pool":"q"}]}: ?; 2=list {}: {"allocations":[{"pool":"p","address":"10.0.0.1","owner":"a"},{"pool":"q","address":"10.0.1.1","owner":"a"}]}"#,
        0,
    ),
    (
        "a part of a call",
        r#""atomic":false"#,
        r#"0=pool.create {"pool":"p","prefix":"10.0.0.0/29"}: {}; 0=pool.create {"pool":"q","prefix":"10.0.1.0/29"}: {}; 1=allocate {"owner":"a","requests":[{"pool":"p"},{"pool":"q"}]}: ?; 2=list {}: {"allocations":[{"pool":"p","address":"10.0.0.1","owner":"a"}]}"#,
        3,
    ),
];

#[test]
fn what_was_judged_wrongly_is_judged_as_the_protocol_says() {
    for (name, contract, history, expected) in MISJUDGED {
        let text = format!("{{\"contract\":{{{contract}}}}}\n{}", spelled_out(history));
        let found = read(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let judged = judge(&found.history, &found.contract, Bounds::default());
        assert_eq!(exit_code(&judged), expected, "{name}: {judged:?}");
    }
}

/// The calls that are shown with a violation cannot be ordered by themselves either.
#[test]
fn what_is_shown_is_enough() {
    let pools = r#"0=pool.create {"pool":"p","prefix":"10.0.0.0/30"}: {}; 0=pool.create {"pool":"q","prefix":"10.0.1.0/32"}: {}; "#;
    let allocate =
        |owner: &str, pool: &str| format!(r#"allocate {{"owner":"{owner}","requests":[{{"pool":"{pool}"}}]}}"#);
    let granted = |address: &str| format!(r#"{{"granted":["{address}"]}}"#);
    let [first, second] = [granted("10.0.0.1"), granted("10.0.0.2")];
    let twice = format!(
        "{pools}1={}: {first}; 2>{}; 3>{}; 2<{first}; 3<{second}",
        allocate("a", "p"),
        allocate("b", "p"),
        allocate("c", "p")
    );
    let lost = format!(
        "{pools}1={}: {}; 1>{}; 2>usage {{\"pool\":\"p\"}}; 1<{first}; 2<{{\"allocatable\":\"2\",\"allocated\":\"1\"}}; 3=list {{}}: {}",
        allocate("c", "q"),
        granted("10.0.1.0"),
        allocate("a", "p"),
        r#"{"allocations":[{"pool":"p","address":"10.0.0.1","owner":"a"}]}"#
    );
    for (history, needed) in [(twice, [2, 3]), (lost, [2, 5])] {
        let found = read(spelled_out(&history).as_bytes()).unwrap();
        let judged = judge(&found.history, &found.contract, Bounds::default());
        let Judgement::Violated(conflict) = judged else { panic!("{history}: {judged:?}") };
        assert!(needed.iter().all(|call| conflict.core.contains(call)), "{history}: {conflict:?}");
    }
}

/// At one time nobody knows what came first, but for a caller who is alone then.
#[test]
fn a_caller_alone_knows_its_order() {
    let event = |process: u8, time: u8, rest: &str| format!("{{\"process\":{process},\"time\":{time},{rest}}}\n");
    let pool = r#""type":"invoke","method":"pool.create","params":{"pool":"p","prefix":"10.0.0.0/29"}"#;
    let allocate = r#""type":"invoke","method":"allocate","params":{"owner":"a","requests":[{"pool":"p"}]}"#;
    let release = r#""type":"invoke","method":"release","params":{"pool":"p","address":"10.0.0.1","owner":"a"}"#;
    let (done, granted) = (r#""type":"return","result":{}"#, r#""type":"return","result":{"granted":["10.0.0.1"]}"#);
    let alone = [
        event(1, 1, pool),
        event(1, 2, done),
        event(1, 5, allocate),
        event(1, 6, granted),
        event(1, 6, release),
        event(1, 7, r#""type":"fail","error":{"kind":"not_found"}"#),
    ]
    .concat();
    let list = [
        event(2, 6, r#""type":"invoke","method":"usage","params":{"pool":"p"}"#),
        event(2, 8, r#""type":"return","result":{"allocatable":"6","allocated":"1"}"#),
    ]
    .concat();
    for (text, expected) in [(alone.clone(), 1), (alone + &list, 3)] {
        let found = read(text.as_bytes()).unwrap();
        let judged = judge(&found.history, &found.contract, Bounds::default());
        assert_eq!(exit_code(&judged), expected, "{text}: {judged:?}");
    }
}
