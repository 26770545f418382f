//! The protocol from the system's side: a system inside this process, served to whoever writes to it. So several processes
//! can be put on one file of the reference allocator, and the adapter for processes on a pipe can be tried on systems that
//! are known inside out.

use std::io::{self, BufRead, Read, Write};

use serde_json::{Value, json};

use super::call::{decode_call, encode_answer, encode_refusal};
use super::protocol::{VERSION, excerpt};
use super::{Failure, Sut};
use crate::contract::Contract;
use crate::operation::{Kind, Method, Refusal, Text};

/// A request may be so long, in bytes, as an answer may.
const LONGEST_LINE: u64 = 16 << 20;

/// The codes of JSON-RPC for lines that are no JSON, and for JSON that is no request.
const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;

/// Why no more is served.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// Requests cannot be read, or answers not be written.
    #[error("{0}")]
    Broken(#[from] io::Error),
    /// A request is too long.
    #[error("a request is longer than {LONGEST_LINE} bytes")]
    TooLong,
    /// The system failed in a way that no answer tells.
    #[error("{0}")]
    Failed(Failure),
}

/// Answers requests, one a line, until there are no more.
///
/// # Errors
///
/// When it had to stop before that.
pub fn serve(sut: &mut dyn Sut, contract: &Contract, input: impl BufRead, mut output: impl Write) -> Result<(), Ended> {
    let (mut input, mut line) = (input, Vec::new());
    loop {
        line.clear();
        if Read::take(&mut input, LONGEST_LINE + 1).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.len() as u64 > LONGEST_LINE {
            return Err(Ended::TooLong);
        }
        let mut answer = answer(sut, contract, &line).map_err(Ended::Failed)?.to_string();
        answer.push('\n');
        output.write_all(answer.as_bytes())?;
        output.flush()?;
    }
}

fn answer(sut: &mut dyn Sut, contract: &Contract, line: &[u8]) -> Result<Value, Failure> {
    let request: Value = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return Ok(no_request(&Value::Null, PARSE_ERROR, &format!("the line is no JSON: {error}"))),
    };
    let id = request.get("id").filter(|id| id.is_string() || id.is_number()).unwrap_or(&Value::Null);
    let method = request.get("method").and_then(Value::as_str);
    let (Some("2.0"), Some(method), false) = (request.get("jsonrpc").and_then(Value::as_str), method, id.is_null())
    else {
        return Ok(no_request(id, INVALID_REQUEST, "the line is no request of JSON-RPC 2.0"));
    };
    Ok(match result(sut, contract, method, request.get("params").unwrap_or(&Value::Null))? {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(refusal) => json!({ "jsonrpc": "2.0", "id": id, "error": encode_refusal(&refusal) }),
    })
}

/// The answer to what asks for nothing.
fn no_request(id: &Value, code: i64, message: &str) -> Value {
    let error = json!({ "code": code, "message": message, "data": { "kind": Kind::Invalid.name() } });
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}

/// What a call comes to.
type Served = Result<Value, Refusal>;

fn result(sut: &mut dyn Sut, contract: &Contract, method: &str, params: &Value) -> Result<Served, Failure> {
    match method {
        "initialize" => Ok(introduce(contract, params)),
        "reset" => sut.reset().map(|()| Ok(json!({}))),
        method if !Method::from_name(method).is_some_and(|known| contract.has(known)) => {
            Ok(Err(refusal(Kind::Unsupported, format!("there is no method `{}`", excerpt(method.as_bytes())))))
        }
        method => match decode_call(method, params, &mut |name| Text::from(name)) {
            Ok(operation) => Ok(sut.call(&operation)?.map(|answer| encode_answer(&answer))),
            Err(problem) => Ok(Err(refusal(Kind::Invalid, problem))),
        },
    }
}

fn introduce(contract: &Contract, params: &Value) -> Served {
    match params.get("protocol") {
        Some(version) if *version == json!(VERSION) => {
            Ok(json!({ "name": "poolproof", "version": env!("CARGO_PKG_VERSION"), "contract": contract }))
        }
        Some(Value::Number(_)) => {
            Err(refusal(Kind::Unsupported, format!("only version {VERSION} of the protocol is spoken here")))
        }
        _ => Err(refusal(Kind::Invalid, "`protocol` is no number".to_owned())),
    }
}

fn refusal(kind: Kind, message: String) -> Refusal {
    Refusal { kind, message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sut::memory::Memory;

    fn answers(lines: &str) -> Vec<Value> {
        let (mut sut, mut output) = (Memory::new(), Vec::new());
        let contract = sut.contract().clone();
        serve(&mut sut, &contract, lines.as_bytes(), &mut output).unwrap();
        String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn total_every_line_has_an_answer_that_says_what_is_wrong() {
        for (line, id, code, kind) in [
            ("", Value::Null, -32700, "invalid"),
            ("[1", Value::Null, -32700, "invalid"),
            ("7", Value::Null, -32600, "invalid"),
            (r#"{"jsonrpc":"2.0","id":5}"#, json!(5), -32600, "invalid"),
            (r#"{"jsonrpc":"2.0","method":"begin"}"#, Value::Null, -32600, "invalid"),
            (r#"{"jsonrpc":"1.0","id":"x","method":"begin"}"#, json!("x"), -32600, "invalid"),
            (r#"{"jsonrpc":"2.0","id":5,"method":"fly"}"#, json!(5), -32000, "unsupported"),
            (r#"{"jsonrpc":"2.0","id":5,"method":"usage"}"#, json!(5), -32602, "invalid"),
            (r#"{"jsonrpc":"2.0","id":5,"method":"usage","params":["p"]}"#, json!(5), -32602, "invalid"),
            (r#"{"jsonrpc":"2.0","id":5,"method":"usage","params":{"pool":"p"}}"#, json!(5), -32000, "not_found"),
            (r#"{"jsonrpc":"2.0","id":5,"method":"initialize","params":{}}"#, json!(5), -32602, "invalid"),
        ] {
            let answer = &answers(&format!("{line}\n"))[0];
            let error = &answer["error"];
            assert_eq!(
                (&answer["id"], &error["code"], &error["data"]["kind"]),
                (&id, &json!(code), &json!(kind)),
                "{line}"
            );
        }
    }

    #[test]
    fn total_a_line_without_end_is_not_kept() {
        let endless = io::BufReader::new(io::repeat(b'x'));
        let mut sut = Memory::new();
        let contract = sut.contract().clone();
        let ended = serve(&mut sut, &contract, endless, io::sink());
        assert!(matches!(ended, Err(Ended::TooLong)));
    }
}
