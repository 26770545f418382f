//! Histories as JSON lines, one event a line, in the spirit of Jepsen's histories.
//!
//! ```
//! use poolproof::history::{Bounds, Judgement, judge, lines::read};
//!
//! let text = r#"
//! {"process":0,"type":"invoke","method":"pool.create","params":{"pool":"p0","prefix":"10.0.0.0/31"}}
//! {"process":0,"type":"return","result":{}}
//! {"process":1,"type":"invoke","method":"allocate","params":{"owner":"a","requests":[{"pool":"p0"}]}}
//! {"process":2,"type":"invoke","method":"allocate","params":{"owner":"b","requests":[{"pool":"p0"}]}}
//! {"process":1,"type":"return","result":{"granted":["10.0.0.0"]}}
//! {"process":2,"type":"return","result":{"granted":["10.0.0.0"]}}
//! "#;
//! let found = read(text.as_bytes())?;
//! let Judgement::Violated(conflict) = judge(&found.history, &found.contract, Bounds::default()) else { panic!() };
//! assert_eq!(conflict.why, "10.0.0.0 in `p0` was granted while somebody held it");
//! # Ok::<(), poolproof::history::lines::Malformed>(())
//! ```
//!
//! | field | holds |
//! |---|---|
//! | `process` | who calls: a string or a whole number; one call at a time |
//! | `type` | `invoke`; then `return`, `fail` or `unknown` |
//! | `method`, `params` | of `invoke`: as in the protocol |
//! | `result` | of `return`: as in the protocol |
//! | `error` | of `fail`: the kind of refusal in `kind` or `data.kind`; a `message` is passed over |
//! | `time` | when, as a whole number in any unit; on every line or on none, then the lines are in order |
//!
//! Each process's own lines are in the order of time. Where a call of one and a call of another end and begin at the same
//! time, nobody knows which came first; where that matters the judgement is *unknown*.
//!
//! `unknown` is for calls that nobody knows the outcome of: the caller died, or gave up. So is a call that never ends. A line
//! with `contract` instead, before all others, holds what the system promises, as in the protocol's `initialize`; what a
//! contract does not have is refused. Empty lines and other fields of events are passed over.

use std::collections::HashMap;
use std::io::{self, BufRead};

use serde::Deserialize;
use serde_json::{Value, json};

use super::unique::Unique;
use super::{Event, History, Outcome, Recorded};
use crate::contract::{Contract, Methods};
use crate::operation::{Kind, Operation, Refusal, Text};
use crate::sut::{call, protocol};

/// A line may be so long, in bytes, as in the protocol.
const LONGEST_LINE: u64 = 16 << 20;

/// What a file holds.
#[derive(Clone, Debug)]
pub struct Found {
    /// The calls.
    pub history: History,
    /// What the system promises; the protocol's defaults and all methods where the file does not say.
    pub contract: Contract,
    /// Are its times told, or the numbers of the lines?
    pub tells_time: bool,
}

/// Why a file holds no history.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// A line is wrong; the first is 1.
    #[error("line {line}: {problem}")]
    Line {
        /// Which.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads a history to its end. Takes memory for all its calls.
///
/// # Errors
///
/// When it cannot be read, or a line is wrong; nothing is guessed.
pub fn read(mut from: impl BufRead) -> Result<Found, Malformed> {
    let mut reader = Reader::default();
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        if io::Read::take(&mut from, LONGEST_LINE + 1).read_until(b'\n', &mut text)? == 0 {
            break;
        }
        let taken = match text.len() as u64 > LONGEST_LINE {
            true => Err(format!("it is longer than {LONGEST_LINE} bytes")),
            false => reader.take(line, text.trim_ascii()),
        };
        // It may quote what was read, which is long, or steers what shows it.
        taken.map_err(|problem| Malformed::Line { line, problem: protocol::excerpt(problem.as_bytes()) })?;
    }
    let (contract, tells_time) = (reader.contract.unwrap_or_else(every_method), reader.tells_time == Some(true));
    Ok(Found { history: History::new(reader.calls), contract, tells_time })
}

/// Writes a history, so that [`read`] reads it again: the contract, then each event. Without times, which the order of the lines
/// stands for.
///
/// # Errors
///
/// When it cannot be written.
pub fn write(history: &History, contract: &Contract, mut to: impl io::Write) -> io::Result<()> {
    writeln!(to, "{}", json!({ "contract": contract }))?;
    let mut events: Vec<(Event, Value)> = Vec::with_capacity(2 * history.calls().len());
    for call in history.calls() {
        let process = &*call.recorded.process;
        let request = protocol::encode(0, &call.recorded.operation, protocol::Absent::LeftOut);
        let request: Value = serde_json::from_slice(&request)?;
        let (method, params) = (&request["method"], &request["params"]);
        let invoked = json!({ "process": process, "type": "invoke", "method": method, "params": params });
        events.push((call.invoked, invoked));
        // Nobody knows when what is unknown ends, but its caller may have gone on.
        let ended = if call.recorded.outcome == Outcome::Unknown { call.invoked } else { call.returned };
        events.push((ended, end(process, &call.recorded.outcome)));
    }
    // An end that is at the same event as its invocation stays behind it.
    events.sort_by_key(|(event, _)| *event);
    events.iter().try_for_each(|(_, event)| writeln!(to, "{event}"))
}

fn end(process: &str, outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Answered(Ok(answer)) => {
            json!({ "process": process, "type": "return", "result": call::encode_answer(answer) })
        }
        Outcome::Answered(Err(refusal)) => {
            json!({ "process": process, "type": "fail", "error": { "kind": refusal.kind.name() } })
        }
        Outcome::Unknown => json!({ "process": process, "type": "unknown" }),
    }
}

fn every_method() -> Contract {
    Contract { methods: Methods::all(), ..Contract::default() }
}

/// A line.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
struct Line {
    #[serde(default)]
    contract: Option<Unique>,
    #[serde(default)]
    process: Option<Value>,
    #[serde(default)]
    time: Option<Value>,
    #[serde(default)]
    r#type: Option<String>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    params: Option<Unique>,
    #[serde(default)]
    result: Option<Unique>,
    #[serde(default)]
    error: Option<Unique>,
}

fn value(unique: Option<Unique>) -> Value {
    unique.map_or(Value::Null, |Unique(value)| value)
}

#[derive(Default)]
struct Reader {
    calls: Vec<Recorded>,
    contract: Option<Contract>,
    /// The call that each process is in, with the line of its invocation.
    under_way: HashMap<Text, (usize, u64)>,
    /// When the last call of each process ended.
    ended: HashMap<Text, u64>,
    /// Names met, each once.
    names: HashMap<String, Text>,
    /// Do lines tell the time? Known after the first.
    tells_time: Option<bool>,
}

impl Reader {
    fn take(&mut self, number: u64, text: &[u8]) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        if !text.starts_with(b"{") {
            return Err("it is no event: it is no JSON object".to_owned());
        }
        let line: Line = serde_json::from_slice(text).map_err(|error| format!("it is no event: {error}"))?;
        if let Some(Unique(contract)) = line.contract {
            return match line.process.is_some() || line.r#type.is_some() {
                true => Err("a line with `contract` is no event as well: write two lines".to_owned()),
                false => self.take_contract(contract),
            };
        }
        let process = match &line.process {
            Some(Value::String(name)) => self.name(name),
            Some(Value::Number(number)) if number.is_u64() => self.name(&number.to_string()),
            _ => return Err("`process` is neither a string nor a whole number".to_owned()),
        };
        let time = self.time(number, line.time.as_ref())?;
        match line.r#type.as_deref() {
            Some("invoke") => self.invoke(number, process, time, line.method.as_deref(), &value(line.params)),
            Some("return") => self.end(&process, time, |operation| {
                let answer = protocol::decode_result(operation, &value(line.result), text);
                answer.map(|answer| Outcome::Answered(Ok(answer))).map_err(|violation| violation.message)
            }),
            Some("fail") => self.end(&process, time, |_| refusal(&value(line.error)).map(outcome)),
            Some("unknown") => self.end(&process, time, |_| Ok(Outcome::Unknown)),
            _ => Err("`type` is none of `invoke`, `return`, `fail` and `unknown`".to_owned()),
        }
    }

    fn take_contract(&mut self, contract: Value) -> Result<(), String> {
        if self.contract.is_some() || !self.calls.is_empty() {
            return Err("`contract` comes once, before all events".to_owned());
        }
        let Value::Object(mut fields) = contract else { return Err("`contract` is no JSON object".to_owned()) };
        if let Some(unknown) = protocol::unknown_fields(&fields).first() {
            return Err(format!("a contract has no `{unknown}`"));
        }
        fields.retain(|_, value| !value.is_null());
        fields.entry("methods").or_insert(serde_json::to_value(Methods::all()).unwrap_or_default());
        let read = serde_json::from_value(Value::Object(fields));
        self.contract = Some(read.map_err(|error| format!("the contract is wrong: {error}"))?);
        Ok(())
    }

    fn time(&mut self, number: u64, time: Option<&Value>) -> Result<u64, String> {
        let tells_time = *self.tells_time.get_or_insert(time.is_some());
        match time {
            Some(time) if tells_time => time.as_u64().ok_or_else(|| "`time` is no whole number".to_owned()),
            None if !tells_time => Ok(number),
            _ => Err("`time` is on every line or on none".to_owned()),
        }
    }

    fn invoke(
        &mut self,
        number: u64,
        process: Text,
        time: u64,
        method: Option<&str>,
        params: &Value,
    ) -> Result<(), String> {
        if let Some((_, line)) = self.under_way.get(&process) {
            return Err(format!("process {process} is still in the call of line {line}"));
        }
        if let Some(ended) = self.ended.get(&process).filter(|ended| **ended > time) {
            return Err(format!("process {process} begins a call at {time}, before its last one ended at {ended}"));
        }
        let method = method.ok_or("`method` is missing")?;
        let operation = call::decode_call(method, params, &mut |name| self.name(name))?;
        self.under_way.insert(process.clone(), (self.calls.len(), number));
        self.calls.push(Recorded { process, operation, invoked: time, returned: None, outcome: Outcome::Unknown });
        Ok(())
    }

    fn end(
        &mut self,
        process: &Text,
        time: u64,
        outcome: impl FnOnce(&Operation) -> Result<Outcome, String>,
    ) -> Result<(), String> {
        let call = self.under_way.remove(process).and_then(|(call, _)| self.calls.get_mut(call));
        let call = call.ok_or_else(|| format!("process {process} is in no call"))?;
        if time < call.invoked {
            return Err("the call ends before it began".to_owned());
        }
        call.outcome = outcome(&call.operation)?;
        call.returned = Some(time);
        self.ended.insert(process.clone(), time);
        Ok(())
    }

    fn name(&mut self, name: &str) -> Text {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let text = Text::from(name);
        self.names.insert(name.to_owned(), text.clone());
        text
    }
}

fn refusal(error: &Value) -> Result<Refusal, String> {
    let own = error.get("kind").filter(|kind| !kind.is_null());
    let name = own.or_else(|| error.get("data")?.get("kind")).and_then(Value::as_str);
    let kind = Kind::from_name(name.ok_or("`error` has no `kind`")?);
    // What the message shows is another property's business.
    Ok(Refusal { kind, message: kind.name().into() })
}

/// A refusal that says that nobody knows is no answer.
fn outcome(refusal: Refusal) -> Outcome {
    match refusal.kind {
        Kind::UnknownOutcome => Outcome::Unknown,
        _ => Outcome::Answered(Err(refusal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = r#"{"process":1,"type":"invoke","method":"release_owner","params":{"owner":"a"}}"#;

    fn problem(text: &str) -> String {
        read(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn every_kind_of_line_is_read() {
        let text = format!(
            "{}\n\n{CALL}\r\n{}\n{CALL}\n{}\n{CALL}\n{}\n{CALL}",
            r#"{"contract":{"repeat":"same"}}"#,
            r#"{"process":1,"type":"return","result":{"released":[]}}"#,
            r#"{"process":1,"type":"fail","error":{"data":{"kind":"busy"}}}"#,
            r#"{"process":1,"type":"unknown","more":1}"#
        );
        let found = read(text.as_bytes()).unwrap();
        assert_eq!(found.contract.repeat, crate::contract::Repeat::Same);
        let outcomes: Vec<bool> =
            found.history.calls().iter().map(|call| call.recorded.outcome == Outcome::Unknown).collect();
        assert_eq!(outcomes, [false, false, true, true]);
    }

    #[test]
    fn what_is_written_twice_or_cannot_be_meant_is_refused() {
        let twice = CALL.replace(r#""owner":"a""#, r#""owner":"a","owner":"b""#);
        let both = CALL.replacen('{', r#"{"contract":{},"#, 1);
        for (text, expected) in [
            (&*twice, "duplicate field `owner`"),
            (r#"{"contract":{"repeat":"same","repeat":"another"}}"#, "duplicate field `repeat`"),
            (r#"{"contract":[]}"#, "no JSON object"),
            (r#"{"contract":{"repaet":"same"}}"#, "has no `repaet`"),
            (&*both, "no event as well"),
        ] {
            assert!(problem(text).contains(expected), "{text}: {}", problem(text));
        }
    }

    #[test]
    fn what_is_quoted_is_short_and_printable() {
        let steering = problem("{\"process\":\"\\u001b[31m\\u0007\",\"type\":\"return\",\"result\":{}}");
        assert!(!steering.chars().any(char::is_control), "{steering:?}");
        let long = format!("{{\"process\":\"{}\",\"type\":\"return\"}}", "x".repeat(1 << 20));
        assert!(problem(&long).len() < 400);
    }

    #[test]
    fn time_decides_and_equal_times_overlap() {
        let event = |process: u8, time: u8, rest: &str| format!("{{\"process\":{process},\"time\":{time},{rest}}}\n");
        let invoke = r#""type":"invoke","method":"list","params":{}"#;
        let back = r#""type":"return","result":{"allocations":[]}"#;
        let text = [event(2, 5, invoke), event(2, 6, back), event(1, 3, invoke), event(1, 5, back)].concat();
        let found = read(text.as_bytes()).unwrap();
        let events: Vec<(u64, u64)> = found.history.calls().iter().map(|call| (call.invoked, call.returned)).collect();
        assert_eq!(events, [(1, 3), (2, 4)]);
    }

    #[test]
    fn what_is_written_is_read() {
        let invoke = |process: u8, method: &str, params: &str| {
            format!("{{\"process\":{process},\"type\":\"invoke\",\"method\":\"{method}\",\"params\":{params}}}\n")
        };
        let text = [
            "{\"contract\":{\"repeat\":\"same\"}}\n",
            &invoke(1, "pool.create", r#"{"pool":"p","prefix":"10.0.0.0/30"}"#),
            &invoke(2, "list", "{}"),
            "{\"process\":1,\"type\":\"return\",\"result\":{}}\n",
            "{\"process\":2,\"type\":\"return\",\"result\":{\"allocations\":[]}}\n",
            &invoke(1, "allocate", r#"{"owner":"a\u0000","requests":[{"pool":"p","address":"x"}],"ttl_ms":5}"#),
            "{\"process\":1,\"type\":\"unknown\"}\n",
            &invoke(1, "release", r#"{"pool":"p","address":"10.0.0.1","owner":"a"}"#),
            &invoke(2, "usage", r#"{"pool":"p"}"#),
            "{\"process\":2,\"type\":\"return\",\"result\":{\"allocatable\":\"2\",\"allocated\":\"0\"}}\n",
            "{\"process\":1,\"type\":\"fail\",\"error\":{\"kind\":\"not_found\"}}\n",
        ]
        .concat();
        let found = read(text.as_bytes()).unwrap();
        let mut written = Vec::new();
        write(&found.history, &found.contract, &mut written).unwrap();
        let again = read(written.as_slice()).unwrap();
        let told = |found: &Found| -> Vec<_> {
            let calls = found.history.calls().iter();
            calls.map(|call| (call.recorded.operation.clone(), call.recorded.outcome.clone())).collect()
        };
        assert_eq!((told(&again), &again.contract), (told(&found), &found.contract));
        let mut twice = Vec::new();
        write(&again.history, &again.contract, &mut twice).unwrap();
        assert_eq!(String::from_utf8(twice), String::from_utf8(written));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, expected) in [
            ("x", "line 1: it is no event"),
            ("\n[1]", "line 2: it is no event"),
            (r#"{"process":1.5}"#, "line 1: `process` is neither"),
            (r#"{"process":1,"type":"stop"}"#, "line 1: `type` is none of"),
            (r#"{"process":1,"type":"invoke"}"#, "line 1: `method` is missing"),
            (r#"{"process":1,"type":"invoke","method":"fly"}"#, "line 1: there is no method `fly`"),
            (r#"{"process":1,"type":"return","result":{}}"#, "line 1: process 1 is in no call"),
            (&format!("{CALL}\n{CALL}"), "line 2: process 1 is still in the call of line 1"),
            (&format!("{CALL}\n{}", r#"{"process":1,"type":"fail","error":{}}"#), "line 2: `error` has no `kind`"),
            (&format!("{CALL}\n{}", r#"{"process":1,"type":"return","result":{}}"#), "line 2: `release_owner` was"),
            (&format!("{CALL}\n{}", r#"{"process":2,"time":1,"type":"unknown"}"#), "line 2: `time` is on every line"),
            (
                &[
                    r#"{"process":1,"time":5,"type":"invoke","method":"list"}"#,
                    r#"{"process":1,"time":9,"type":"fail","error":{"kind":"busy"}}"#,
                    r#"{"process":1,"time":8,"type":"invoke","method":"list"}"#,
                ]
                .join("\n"),
                "line 3: process 1 begins a call at 8, before its last one ended at 9",
            ),
            (r#"{"contract":{"repeat":"never"}}"#, "line 1: the contract is wrong"),
            (&format!("{CALL}\n{}", r#"{"contract":{}}"#), "line 2: `contract` comes once"),
        ] {
            let problem = problem(text);
            assert!(problem.starts_with(expected), "{text}: {problem}");
        }
    }
}
