//! The wire form of the system-under-test protocol: operations to request lines, response lines to
//! answers.
//!
//! No I/O here, only functions from bytes to values, so that they can be fuzzed. Decoding is strict:
//! whatever the protocol does not allow is a [`Violation`] that quotes the offending text, escaped
//! and shortened. Only extra fields are tolerated, and `null`, which is the same as absent.

use serde_json::{Map, Value, json};

use super::surrogates;
use crate::address::{Count, Grant};
use crate::contract::Contract;
use crate::operation::{
    Allocation, Answer, Grants, Kind, Method, Operation, PoolShape, Refusal, Request, Response, Text, Want, numbered,
};
use crate::property::{Property, Violation};

/// The version that this harness speaks.
pub const VERSION: u64 = 1;
/// A version that nobody will ever speak.
pub const NO_VERSION: u64 = 1_000_000;
/// How much of an offending text is shown, in bytes.
const EXCERPT: usize = 200;

/// The answer to `initialize`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The system's name.
    pub name: String,
    /// The system's version.
    pub version: String,
    /// What it promises.
    pub contract: Contract,
    /// Names of contract fields that this harness does not know.
    pub unknown_fields: Vec<String>,
}

/// The request line for `initialize` in this version of the protocol, with its newline.
pub fn encode_initialize(id: u64, version: u64) -> Vec<u8> {
    request(id, "initialize", json!({ "protocol": version }))
}

/// The request line for `reset`, with its newline.
pub fn encode_reset(id: u64) -> Vec<u8> {
    request(id, "reset", json!({}))
}

/// How a parameter is sent that is not there, which must mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Not at all.
    LeftOut,
    /// As `null`, or as an empty list.
    WrittenOut,
}

/// The request line for an operation, with its newline.
pub fn encode(id: u64, operation: &Operation, absent: Absent) -> Vec<u8> {
    let params = match operation {
        Operation::Raw { line } => return raw(id, line),
        Operation::CreatePool { pool, prefix, shape } => {
            let mut params = shape_fields(pool, shape, absent);
            params.insert("prefix".to_owned(), json!(**prefix));
            Value::Object(params)
        }
        Operation::UpdatePool { pool, shape } => Value::Object(shape_fields(pool, shape, absent)),
        Operation::DeletePool { pool } | Operation::Usage { pool } => json!({ "pool": **pool }),
        Operation::Allocate { owner, requests, ttl_ms } => {
            let requests: Vec<Value> = requests.iter().map(|request| request_fields(request, absent)).collect();
            let named = [("owner", json!(**owner)), ("requests", json!(requests)), ("ttl_ms", json!(ttl_ms))];
            fields(named, absent)
        }
        Operation::Release { pool, address, owner } => {
            let owner = json!(owner.as_deref());
            fields([("pool", json!(**pool)), ("address", json!(address.to_string())), ("owner", owner)], absent)
        }
        Operation::ReleaseOwner { owner } => json!({ "owner": **owner }),
        Operation::Renew { pool, address, owner, ttl_ms } => {
            json!({ "pool": **pool, "address": address.to_string(), "owner": **owner, "ttl_ms": ttl_ms })
        }
        Operation::List { pool: Some(pool) } => json!({ "pool": **pool }),
        Operation::Advance { ms } => json!({ "ms": ms }),
        Operation::List { pool: None } if absent == Absent::WrittenOut => json!({ "pool": null }),
        Operation::List { pool: None } => json!({}),
        Operation::Begin | Operation::Commit | Operation::Rollback => json!({}),
    };
    request(id, operation.method().name(), params)
}

fn request_fields(request: &Request, absent: Absent) -> Value {
    let (address, length) = match &request.want {
        Want::Any => (None, None),
        Want::Named(address) => (Some(address.to_string()), None),
        Want::Block(length) => (None, Some(*length)),
    };
    let pool = json!(*request.pool);
    fields([("pool", pool), ("address", json!(address)), ("prefix_len", json!(length))], absent)
}

/// An object of these fields; those that are `null` are there or not.
fn fields<const COUNT: usize>(fields: [(&str, Value); COUNT], absent: Absent) -> Value {
    let sent = fields.into_iter().filter(|(_, value)| absent == Absent::WrittenOut || !value.is_null());
    Value::Object(sent.map(|(name, value)| (name.to_owned(), value)).collect())
}

fn shape_fields(pool: &Text, shape: &PoolShape, absent: Absent) -> Map<String, Value> {
    let ranges = shape.ranges.iter().map(|(first, last)| json!([**first, **last]));
    let exclude = shape.exclude.iter().map(|what| json!(**what));
    let fields = [
        ("ranges", ranges.collect::<Value>()),
        ("gateway", shape.gateway.as_ref().map_or(Value::Null, |gateway| json!(**gateway))),
        ("exclude", exclude.collect()),
    ];
    let is_there = |value: &Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
    let sent = fields.into_iter().filter(|(_, value)| absent == Absent::WrittenOut || is_there(value));
    let named = std::iter::once(("pool", json!(**pool)));
    named.chain(sent).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn request(id: u64, method: &str, params: Value) -> Vec<u8> {
    let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    format!("{request}\n").into_bytes()
}

fn raw(id: u64, line: &[u8]) -> Vec<u8> {
    let mut sent = numbered(line, id);
    sent.push(b'\n');
    sent
}

/// The answer to an operation that went out with this number.
pub fn decode(id: u64, operation: &Operation, line: &[u8]) -> Result<Response, Violation> {
    let other_ids = match operation {
        Operation::Raw { line } => ids_of_raw(id, line),
        _ => Vec::new(),
    };
    let answer = Envelope { method: operation.method().name(), line, other_ids };
    match answer.open(id)? {
        Ok(result) => answer.result(operation, &result).map(Ok),
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// The answer in a result that a line holds.
pub fn decode_result(operation: &Operation, result: &Value, line: &[u8]) -> Result<Answer, Violation> {
    let answer = Envelope { method: operation.method().name(), line, other_ids: Vec::new() };
    if result.is_object() { answer.result(operation, result) } else { Err(answer.wrong("`result` is no object")) }
}

/// What an answer to a raw line may have as its `id`: nothing, or what the line itself has there.
fn ids_of_raw(id: u64, line: &[u8]) -> Vec<Value> {
    let sent: Value = serde_json::from_slice(&numbered(line, id)).unwrap_or_default();
    std::iter::once(Value::Null).chain(sent.get("id").cloned()).collect()
}

/// The answer to `reset`.
pub fn decode_reset(id: u64, line: &[u8]) -> Result<Result<(), Refusal>, Violation> {
    let answer = Envelope { method: "reset", line, other_ids: Vec::new() };
    answer.open(id).map(|opened| opened.map(|_| ()))
}

/// The answer to `initialize`, which may not be refused.
pub fn decode_initialize(id: u64, line: &[u8]) -> Result<Introduction, Violation> {
    let answer = Envelope { method: "initialize", line, other_ids: Vec::new() };
    let result = answer.open(id)?.map_err(|refusal| {
        let message = excerpt(refusal.message.as_bytes());
        Violation::new(Property::Total, format!("`initialize` was refused as `{}`: {message}", refusal.kind))
    })?;
    let Some(Value::Object(mut contract)) = present(&result, "contract").cloned() else {
        return Err(answer.wrong("`contract` is no object"));
    };
    contract.retain(|_, value| !value.is_null());
    let mut unknown_fields = unknown_fields(&contract);
    unknown_fields.extend(take_unknown_methods(&mut contract));
    let contract: Contract = serde_json::from_value(Value::Object(contract))
        .map_err(|error| answer.wrong(&format!("the contract is wrong ({error})")))?;
    if contract.timeout_ms == 0 {
        return Err(answer.wrong("`timeout_ms` is 0: no answer could be in time"));
    }
    let name = answer.text(&result, "name")?.to_owned();
    let version = answer.text(&result, "version")?.to_owned();
    Ok(Introduction { name, version, contract, unknown_fields })
}

/// The answer to `initialize` in [`NO_VERSION`], which must be refused as `unsupported`.
pub fn decode_no_version(id: u64, line: &[u8]) -> Result<(), Violation> {
    let answer = Envelope { method: "initialize", line, other_ids: Vec::new() };
    let problem = match answer.open(id)? {
        Err(refusal) if refusal.kind == Kind::Unsupported => return Ok(()),
        Err(refusal) => format!("protocol number {NO_VERSION} is refused as `{}`, not `unsupported`", refusal.kind),
        Ok(_) => format!("protocol number {NO_VERSION} is taken, which must be refused as `unsupported`"),
    };
    Err(answer.breaks(Property::Classified, &problem))
}

/// Fields that the default contract, which writes all of its own, does not have.
pub(crate) fn unknown_fields(contract: &Map<String, Value>) -> Vec<String> {
    let known = serde_json::to_value(Contract::default()).unwrap_or_default();
    contract.keys().filter(|name| known.get(name.as_str()).is_none()).cloned().collect()
}

/// Takes out the methods that the protocol does not have: they are the system's own affair, and are
/// never called.
fn take_unknown_methods(contract: &mut Map<String, Value>) -> Vec<String> {
    let Some(Value::Array(methods)) = contract.get_mut("methods") else { return Vec::new() };
    let is_unknown = |method: &Value| method.as_str().is_some_and(|name| Method::from_name(name).is_none());
    let unknown = methods.extract_if(.., |method| is_unknown(method) && *method != "initialize");
    unknown.filter_map(|method| Some(format!("methods: {}", method.as_str()?))).collect()
}

/// A text from outside, fit for a message: escaped, and cut after some 200 bytes.
pub fn excerpt(bytes: &[u8]) -> String {
    let end = bytes.len().min(EXCERPT);
    // Up to three bytes back to the start of a character that the cut goes through.
    let end = (end.saturating_sub(3)..=end).rev().find(|at| bytes.get(*at).is_none_or(|b| b & 0xC0 != 0x80));
    let shown = &bytes[..end.unwrap_or(0)];
    let text = match std::str::from_utf8(shown) {
        Ok(text) => text.escape_debug().to_string().replace("\\\"", "\""),
        Err(_) => shown.escape_ascii().to_string(),
    };
    if shown.len() == bytes.len() { text } else { format!("{text}… ({} bytes)", bytes.len()) }
}

/// One response line, and what it should answer.
struct Envelope<'a> {
    method: &'a str,
    line: &'a [u8],
    /// Answers to lines that are no request may have another `id` than the request's number.
    other_ids: Vec<Value>,
}

impl Envelope<'_> {
    fn wrong(&self, problem: &str) -> Violation {
        self.breaks(Property::Total, problem)
    }

    fn breaks(&self, property: Property, problem: &str) -> Violation {
        Violation::new(property, format!("`{}` was answered wrongly: {problem}: {}", self.method, excerpt(self.line)))
    }

    /// Checks everything around the result; gives the result, always an object, or the refusal.
    fn open(&self, id: u64) -> Result<Result<Value, Refusal>, Violation> {
        let text = std::str::from_utf8(self.line).map_err(|_| self.wrong("the line is no UTF-8"))?;
        let text = surrogates::replace_lone(text);
        let mut response: Value =
            serde_json::from_str(&text).map_err(|error| self.wrong(&format!("the line is no JSON ({error})")))?;
        if !response.is_object() {
            return Err(self.wrong("the line is no JSON object"));
        }
        if response.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Err(self.wrong("`jsonrpc` is not \"2.0\""));
        }
        self.check_id(id, response.get("id"))?;
        let error = present(&response, "error").map(|error| self.refusal(error)).transpose()?;
        let result = present(&response, "result").is_some();
        match error {
            Some(_) if result => Err(self.wrong("there are both `result` and `error`")),
            Some(refusal) => Ok(Err(refusal)),
            None if !result => Err(self.wrong("there is neither `result` nor `error`")),
            None if response["result"].is_object() => Ok(Ok(response["result"].take())),
            None => Err(self.wrong("`result` is no object")),
        }
    }

    fn check_id(&self, id: u64, found: Option<&Value>) -> Result<(), Violation> {
        match found {
            None => Err(self.wrong("there is no `id`")),
            Some(found) if self.other_ids.contains(found) => Ok(()),
            Some(found) => match found.as_u64() {
                Some(number) if number == id => Ok(()),
                Some(number) if (1..id).contains(&number) => {
                    Err(self.wrong(&format!("request {id} is due, and request {number} is answered a second time")))
                }
                _ => Err(self.wrong(&format!("the `id` is wrong, it should be {id}"))),
            },
        }
    }

    fn refusal(&self, error: &Value) -> Result<Refusal, Violation> {
        let code = error.get("code").and_then(Value::as_i64);
        let code = code.ok_or_else(|| self.wrong("`error.code` is no whole number"))?;
        let message = self.text(error, "message")?;
        let data = error.get("data").unwrap_or(&Value::Null);
        let name = self.text(data, "kind")?;
        let kind = Kind::from_name(name);
        // What is written as `unlisted` has its kind in the message already.
        if kind == Kind::Unlisted && name != kind.name() {
            return Ok(Refusal { kind, message: format!("{}: {message}", excerpt(name.as_bytes())).into() });
        }
        let right = match kind {
            Kind::Invalid => matches!(code, -32602 | -32700 | -32600),
            Kind::Unlisted => true,
            _ => code == -32000,
        };
        if right {
            return Ok(Refusal { kind, message: message.to_owned().into() });
        }
        Err(self.breaks(Property::Classified, &format!("code {code} does not go with kind `{kind}`")))
    }

    fn result(&self, operation: &Operation, result: &Value) -> Result<Answer, Violation> {
        Ok(match operation {
            Operation::Allocate { requests, .. } => {
                let grants = self.grants(result)?;
                if grants.len() != requests.len() {
                    let problem = format!("{} requests were granted {}", requests.len(), grants.len());
                    return Err(self.wrong(&problem));
                }
                Answer::Granted { grants, expires_ms: self.optional_time(result, "expires_ms")? }
            }
            Operation::ReleaseOwner { .. } => Answer::Released(self.released(result)?),
            Operation::Renew { .. } => Answer::Renewed { expires_ms: self.time(result, "expires_ms")? },
            Operation::List { .. } => Answer::Listed(self.listed(result)?),
            Operation::Usage { .. } => Answer::Usage {
                allocatable: self.count(result, "allocatable")?,
                allocated: self.count(result, "allocated")?,
            },
            Operation::Advance { .. } => Answer::Now { now_ms: self.time(result, "now_ms")? },
            Operation::CreatePool { .. }
            | Operation::UpdatePool { .. }
            | Operation::DeletePool { .. }
            | Operation::Release { .. }
            | Operation::Begin
            | Operation::Commit
            | Operation::Rollback
            | Operation::Raw { .. } => Answer::Done,
        })
    }

    fn grants(&self, result: &Value) -> Result<Grants, Violation> {
        let written = self.array(result, "granted")?.iter();
        written.map(|value| self.grant(value.as_str(), "granted")).collect()
    }

    fn released(&self, result: &Value) -> Result<Vec<(Text, Grant)>, Violation> {
        let entries = self.array(result, "released")?.iter();
        entries.map(|entry| Ok((Text::from(self.text(entry, "pool")?), self.address(entry)?))).collect()
    }

    fn listed(&self, result: &Value) -> Result<Vec<Allocation>, Violation> {
        let entries = self.array(result, "allocations")?.iter();
        let allocation = |entry| {
            Ok(Allocation {
                pool: Text::from(self.text(entry, "pool")?),
                address: self.address(entry)?,
                owner: Text::from(self.text(entry, "owner")?),
                expires_ms: self.optional_time(entry, "expires_ms")?,
            })
        };
        entries.map(allocation).collect()
    }

    fn array<'v>(&self, object: &'v Value, field: &str) -> Result<&'v Vec<Value>, Violation> {
        object.get(field).and_then(Value::as_array).ok_or_else(|| self.wrong(&format!("`{field}` is no list")))
    }

    fn text<'v>(&self, object: &'v Value, field: &str) -> Result<&'v str, Violation> {
        object.get(field).and_then(Value::as_str).ok_or_else(|| self.wrong(&format!("`{field}` is no string")))
    }

    fn address(&self, entry: &Value) -> Result<Grant, Violation> {
        self.grant(entry.get("address").and_then(Value::as_str), "address")
    }

    fn grant(&self, text: Option<&str>, field: &str) -> Result<Grant, Violation> {
        text.and_then(Grant::parse).ok_or_else(|| self.wrong(&format!("`{field}` holds what is no address or prefix")))
    }

    fn time(&self, object: &Value, field: &str) -> Result<u64, Violation> {
        let problem = || self.wrong(&format!("`{field}` is no whole number of milliseconds"));
        object.get(field).and_then(Value::as_u64).ok_or_else(problem)
    }

    fn optional_time(&self, object: &Value, field: &str) -> Result<Option<u64>, Violation> {
        present(object, field).map(|_| self.time(object, field)).transpose()
    }

    fn count(&self, object: &Value, field: &str) -> Result<Count, Violation> {
        let problem = || self.wrong(&format!("`{field}` is no decimal number in a string"));
        object.get(field).and_then(Value::as_str).and_then(|text| text.parse().ok()).ok_or_else(problem)
    }
}

/// The field, where it is there and not `null`.
fn present<'v>(object: &'v Value, field: &str) -> Option<&'v Value> {
    object.get(field).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use smallvec::smallvec;

    use crate::operation::Written;
    use crate::scenario::text;

    fn allocate(wants: &[Want]) -> Operation {
        let requests = wants.iter().map(|want| Request { pool: text("p0"), want: want.clone() });
        Operation::Allocate { owner: text("a\"b"), requests: requests.collect(), ttl_ms: None }
    }

    fn raw_line(line: &[u8]) -> Operation {
        Operation::Raw { line: Arc::from(line) }
    }

    fn sent(operation: &Operation) -> String {
        String::from_utf8(encode(7, operation, Absent::LeftOut)).unwrap()
    }

    /// The violation in an answer to `operation`, request 7.
    fn broken(operation: &Operation, line: &[u8]) -> (Property, String) {
        match decode(7, operation, line) {
            Err(violation) => (violation.property, violation.message),
            Ok(response) => panic!("taken as {response:?}"),
        }
    }

    fn with_result(result: &str) -> Vec<u8> {
        format!(r#"{{"jsonrpc":"2.0","id":7,"result":{result}}}"#).into_bytes()
    }

    fn with_error(code: &str, data: &str) -> Vec<u8> {
        let error = format!(r#"{{"code":{code},"message":"no","data":{data}}}"#);
        format!(r#"{{"jsonrpc":"2.0","id":7,"error":{error}}}"#).into_bytes()
    }

    #[test]
    fn requests_are_one_line_each() {
        let operation = allocate(&[Want::Any, Want::Named(Written::Odd(text("x\ny"))), Want::Block(28)]);
        let request: Value = serde_json::from_str(&sent(&operation)).unwrap();
        let requests = json!([{"pool":"p0"},{"pool":"p0","address":"x\ny"},{"pool":"p0","prefix_len":28}]);
        assert_eq!(request["params"], json!({"owner":"a\"b","requests":requests}));
        assert_eq!((&request["method"], &request["id"]), (&json!("allocate"), &json!(7)));
        assert_eq!(sent(&operation).matches('\n').count(), 1);
    }

    #[test]
    fn absent_parts_of_a_pool_are_absent_on_the_wire() {
        let shape = PoolShape { gateway: Some(text("10.0.0.1")), ..PoolShape::default() };
        let operation = Operation::CreatePool { pool: text("p0"), prefix: text("10.0.0.0/29"), shape };
        let request: Value = serde_json::from_str(&sent(&operation)).unwrap();
        assert_eq!(request["params"], json!({"pool":"p0","prefix":"10.0.0.0/29","gateway":"10.0.0.1"}));
    }

    #[test]
    fn absent_parts_of_a_pool_can_be_written_out() {
        let operation = Operation::UpdatePool { pool: text("p0"), shape: PoolShape::default() };
        let params = |absent| {
            let line = encode(7, &operation, absent);
            serde_json::from_slice::<Value>(&line).unwrap()["params"].clone()
        };
        let written_out = json!({"pool":"p0","ranges":[],"gateway":null,"exclude":[]});
        assert_eq!(params(Absent::WrittenOut), written_out);
        assert_eq!(params(Absent::LeftOut), json!({"pool":"p0"}));
    }

    #[test]
    fn absent_parts_of_a_call_can_be_written_out() {
        let params = |operation: &Operation, absent| {
            let line = encode(7, operation, absent);
            serde_json::from_slice::<Value>(&line).unwrap()["params"].clone()
        };
        let requests = smallvec![Request { pool: text("p0"), want: Want::Any }];
        let allocate = Operation::Allocate { owner: text("a"), requests, ttl_ms: None };
        let bare = json!({"owner":"a","requests":[{"pool":"p0"}]});
        assert_eq!(params(&allocate, Absent::LeftOut), bare);
        let whole = json!({"owner":"a","requests":[{"pool":"p0","address":null,"prefix_len":null}],"ttl_ms":null});
        assert_eq!(params(&allocate, Absent::WrittenOut), whole);
        let address = Written::Odd(text("x"));
        let release = Operation::Release { pool: text("p0"), address, owner: None };
        assert_eq!(params(&release, Absent::LeftOut), json!({"pool":"p0","address":"x"}));
        assert_eq!(params(&release, Absent::WrittenOut), json!({"pool":"p0","address":"x","owner":null}));
    }

    #[test]
    fn raw_lines_go_out_as_they_are_with_their_number() {
        assert_eq!(encode(12, &raw_line(b"\xff{$id,$id$i"), Absent::LeftOut), b"\xff{12,12$i\n");
        let parse_error =
            br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"","data":{"kind":"invalid"}}}"#;
        assert_eq!(decode(7, &raw_line(b""), parse_error).unwrap().unwrap_err().kind, Kind::Invalid);
        assert_eq!(decode(7, &raw_line(b""), &with_result("{}")).unwrap(), Ok(Answer::Done));
        assert!(broken(&Operation::Begin, parse_error).1.contains("the `id` is wrong"));
    }

    #[test]
    fn answers_to_raw_lines_may_have_the_line_s_id() {
        let answer = |id: &str| {
            let error = r#"{"code":-32600,"message":"","data":{"kind":"invalid"}}"#;
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#).into_bytes()
        };
        let line = raw_line(br#"{"jsonrpc":"2.0","id":"x","method":7}"#);
        for id in ["null", "7", "\"x\""] {
            assert_eq!(decode(7, &line, &answer(id)).unwrap().unwrap_err().kind, Kind::Invalid);
        }
        assert!(broken(&line, &answer("\"y\"")).1.contains("the `id` is wrong"));
    }

    #[test]
    fn good_answers_are_taken() {
        let one = allocate(&[Want::Any]);
        let expected =
            Answer::Granted { grants: [Grant::parse("fd00::5").unwrap()].into_iter().collect(), expires_ms: None };
        let line = with_result(r#"{"granted":["FD00:0::5"],"expires_ms":null,"more":1}"#);
        assert_eq!(decode(7, &one, &line).unwrap(), Ok(expected));
        let usage = Operation::Usage { pool: text("p0") };
        let line = with_result(r#"{"allocatable":"340282366920938463463374607431768211456","allocated":"0"}"#);
        let expected = Answer::Usage { allocatable: Count::WHOLE, allocated: Count::default() };
        assert_eq!(decode(7, &usage, &line).unwrap(), Ok(expected));
        let refused = decode(7, &one, &with_error("-32000", r#"{"kind":"exhausted"}"#)).unwrap().unwrap_err();
        assert_eq!(refused, Refusal { kind: Kind::Exhausted, message: "no".into() });
    }

    #[test]
    fn envelopes_are_strict() {
        let cases: [(&[u8], &str); 12] = [
            (b"", "no JSON"),
            (b"hello", "no JSON"),
            (b"\xff", "no UTF-8"),
            (b"[]", "no JSON object"),
            (br#"{"id":7,"result":{}}"#, "`jsonrpc` is not"),
            (br#"{"jsonrpc":"2.0","result":{}}"#, "there is no `id`"),
            (br#"{"jsonrpc":"2.0","id":"7","result":{}}"#, "`id` is wrong"),
            (br#"{"jsonrpc":"2.0","id":6,"result":{}}"#, "request 6 is answered a second time"),
            (br#"{"jsonrpc":"2.0","id":8,"result":{}}"#, "`id` is wrong, it should be 7"),
            (br#"{"jsonrpc":"2.0","id":7}"#, "neither `result` nor `error`"),
            (br#"{"jsonrpc":"2.0","id":7,"result":[]}"#, "`result` is no object"),
            (
                br#"{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":-32000,"message":"","data":{"kind":"busy"}}}"#,
                "both",
            ),
        ];
        for (line, expected) in cases {
            let (property, message) = broken(&Operation::Begin, line);
            assert_eq!(property, Property::Total);
            assert!(message.contains(expected), "{message} lacks {expected}");
        }
    }

    #[test]
    fn results_are_strict() {
        let owner = text("a");
        let renew =
            Operation::Renew { pool: text("p"), address: Written::Odd(text("x")), owner: owner.clone(), ttl_ms: 1 };
        let cases = [
            (allocate(&[Want::Any]), r#"{}"#, "`granted` is no list"),
            (allocate(&[Want::Any]), r#"{"granted":[]}"#, "1 requests were granted 0"),
            (allocate(&[Want::Any]), r#"{"granted":[7]}"#, "no address or prefix"),
            (allocate(&[Want::Any]), r#"{"granted":["10.0.0.256"]}"#, "no address or prefix"),
            (allocate(&[Want::Any]), r#"{"granted":["::1"],"expires_ms":1.5}"#, "no whole number"),
            (Operation::ReleaseOwner { owner }, r#"{"released":[{"pool":"p"}]}"#, "no address or prefix"),
            (renew, r#"{}"#, "`expires_ms` is no whole number"),
            (Operation::Advance { ms: 1 }, r#"{"now_ms":-1}"#, "`now_ms` is no whole number"),
            (Operation::List { pool: None }, r#"{"allocations":[{"pool":1}]}"#, "`pool` is no string"),
            (Operation::Usage { pool: text("p") }, r#"{"allocatable":6,"allocated":"2"}"#, "no decimal number"),
            (Operation::Usage { pool: text("p") }, r#"{"allocatable":"06","allocated":"2"}"#, "no decimal number"),
        ];
        for (operation, result, expected) in cases {
            let (property, message) = broken(&operation, &with_result(result));
            assert_eq!(property, Property::Total);
            assert!(message.contains(expected), "{message} lacks {expected}");
        }
    }

    #[test]
    fn codes_and_kinds_go_together() {
        for (code, kind, property) in [
            ("-32602", "exhausted", Property::Classified),
            ("-32000", "invalid", Property::Classified),
            ("-32601", "unsupported", Property::Classified),
            ("-32700", "busy", Property::Classified),
            ("-32600.5", "invalid", Property::Total),
        ] {
            let line = with_error(code, &format!(r#"{{"kind":"{kind}"}}"#));
            assert_eq!(broken(&Operation::Begin, &line).0, property, "{code} {kind}");
        }
        for data in ["null", "{}", r#"{"kind":1}"#, r#""invalid""#] {
            assert_eq!(broken(&Operation::Begin, &with_error("-32000", data)).0, Property::Total);
        }
        let odd = decode(7, &Operation::Begin, &with_error("1", r#"{"kind":"oops"}"#)).unwrap().unwrap_err();
        assert_eq!(odd, Refusal { kind: Kind::Unlisted, message: "oops: no".into() });
        let passed_on = with_error("-32000", r#"{"kind":"unlisted"}"#);
        let again = decode(7, &Operation::Begin, &passed_on).unwrap().unwrap_err();
        assert_eq!(again, Refusal { kind: Kind::Unlisted, message: "no".into() }, "its kind is told once");
    }

    #[test]
    fn introductions_are_strict_about_types_and_tolerate_more() {
        let introduce = |contract: &str| {
            decode_initialize(7, &with_result(&format!(r#"{{"name":"n","version":"1","contract":{contract}}}"#)))
        };
        let taken = introduce(r#"{"methods":["reset","initialize","fly"],"durable":null,"colour":"blue"}"#).unwrap();
        assert_eq!(taken.unknown_fields, ["colour", "methods: fly"]);
        assert!(taken.contract.has(crate::operation::Method::Reset) && !taken.contract.durable);
        for contract in [
            "null",
            "[]",
            r#"{"durable":"yes"}"#,
            r#"{"methods":[7]}"#,
            r#"{"methods":"reset"}"#,
            r#"{"timeout_ms":0}"#,
        ] {
            assert_eq!(introduce(contract).unwrap_err().property, Property::Total, "{contract}");
        }
        let refused = decode_initialize(7, &with_error("-32000", r#"{"kind":"unsupported"}"#));
        assert!(refused.unwrap_err().message.contains("refused as `unsupported`"));
        assert!(decode_initialize(7, &with_result(r#"{"contract":{}}"#)).unwrap_err().message.contains("`name`"));
    }

    #[test]
    fn other_versions_are_refused_as_unsupported_and_nothing_else() {
        let judged = |line: &[u8]| decode_no_version(7, line).map_err(|violation| violation.property);
        assert_eq!(judged(&with_error("-32000", r#"{"kind":"unsupported"}"#)), Ok(()));
        assert_eq!(judged(&with_error("-32602", r#"{"kind":"invalid"}"#)), Err(Property::Classified));
        assert_eq!(judged(&with_result(r#"{"name":"n","version":"1","contract":{}}"#)), Err(Property::Classified));
        assert_eq!(judged(b"no"), Err(Property::Total));
    }

    #[test]
    fn excerpts_are_short_escaped_and_whole_characters() {
        assert_eq!(excerpt(b"a\nb\x1b"), "a\\nb\\u{1b}");
        assert_eq!(excerpt(b"\xff\""), "\\xff\\\"");
        let long = format!("x{}", "ä".repeat(500));
        let shown = excerpt(long.as_bytes());
        assert!(shown.starts_with("xää") && shown.ends_with("ä… (1001 bytes)"), "{shown}");
    }

    #[test]
    fn hostile_lines_never_panic() {
        let deep = [b"[".repeat(100_000), br#"{"jsonrpc":"2.0","id":7,"result":"#.to_vec()].concat();
        assert!(broken(&Operation::Begin, &deep).1.contains("no JSON"));
        let good = with_result(r#"{"granted":["10.0.0.1"]}"#);
        for at in 0..good.len() {
            for byte in [0, b'"', b'{', 0x80, 0xff, b'9'] {
                let mut line = good.clone();
                line[at] = byte;
                let _ = decode(7, &allocate(&[Want::Any]), &line);
                let _ = decode_initialize(7, &line);
                let _ = decode_reset(7, &line[..at]);
            }
        }
    }
}
