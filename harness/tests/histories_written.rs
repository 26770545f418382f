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
