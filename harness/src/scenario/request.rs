//! Is a line a well-formed request?
//!
//! A `raw` step is judged as a line that every system must refuse, so no scenario may hold one that a
//! system may rightly do. In doubt a line is taken for a request: then nobody is accused.

use serde_json::{Map, Value};

use crate::operation::{Method, numbered};

/// Could a system rightly do what this line asks for? `$id` in it stands for a number.
pub(super) fn is_request(line: &[u8]) -> bool {
    let Ok(Value::Object(request)) = serde_json::from_slice(&numbered(line, 1)) else { return false };
    let is_numbered = matches!(request.get("id"), Some(Value::Number(_) | Value::String(_)));
    let is_current = request.get("jsonrpc").is_some_and(|version| version == "2.0");
    let method = request.get("method").and_then(Value::as_str);
    let Some(method) = method.filter(|_| is_numbered && is_current) else { return false };
    let nothing = Map::new();
    match request.get("params") {
        None | Some(Value::Null) => has_right_params(method, &nothing),
        // JSON-RPC has lists of parameters, too; an empty one says as little as none.
        Some(Value::Array(list)) if list.is_empty() => has_right_params(method, &nothing),
        Some(Value::Object(params)) => has_right_params(method, params),
        Some(_) => false,
    }
}

fn has_right_params(method: &str, params: &Map<String, Value>) -> bool {
    let has = |field: &str, is_right: fn(&Value) -> bool| params.get(field).is_some_and(is_right);
    let may_have =
        |field: &str, is_right: fn(&Value) -> bool| params.get(field).is_none_or(|v| v.is_null() || is_right(v));
    let has_shape = || may_have("ranges", are_ranges) && may_have("gateway", is_text) && may_have("exclude", are_texts);
    if method == "initialize" {
        return has("protocol", |version| version.as_f64() == Some(1.0));
    }
    let Some(method) = Method::from_name(method) else { return false };
    match method {
        Method::PoolCreate => has("pool", is_text) && has("prefix", is_text) && has_shape(),
        Method::PoolUpdate => has("pool", is_text) && has_shape(),
        Method::PoolDelete | Method::Usage => has("pool", is_text),
        Method::Allocate => has("owner", is_text) && has("requests", are_requests) && may_have("ttl_ms", is_whole),
        Method::Release => has("pool", is_text) && has("address", is_text) && may_have("owner", is_text),
        Method::ReleaseOwner => has("owner", is_text),
        Method::Renew => {
            has("pool", is_text) && has("address", is_text) && has("owner", is_text) && has("ttl_ms", is_whole)
        }
        Method::List => may_have("pool", is_text),
        Method::Advance => has("ms", is_whole),
        Method::Begin | Method::Commit | Method::Rollback | Method::Reset => true,
        Method::Raw => false,
    }
}

fn is_text(value: &Value) -> bool {
    value.is_string()
}

fn are_texts(value: &Value) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(is_text))
}

fn are_ranges(value: &Value) -> bool {
    let is_range = |range: &Value| are_texts(range) && range.as_array().is_some_and(|ends| ends.len() == 2);
    value.as_array().is_some_and(|list| list.iter().all(is_range))
}

fn are_requests(value: &Value) -> bool {
    let is_one = |request: &Value| {
        let may_have = |field: &str, is_right: fn(&Value) -> bool| {
            request.get(field).is_none_or(|value| value.is_null() || is_right(value))
        };
        request.get("pool").is_some_and(is_text) && may_have("address", is_text) && may_have("prefix_len", is_whole)
    };
    value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(is_one))
}

/// Whole and not negative, however it is written and however large it is.
fn is_whole(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number >= 0.0 && number.fract() == 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(method: &str, params: &str) -> Vec<u8> {
        format!(r#"{{"jsonrpc":"2.0","id":$id,"method":"{method}","params":{params}}}"#).into_bytes()
    }

    #[test]
    fn requests_of_every_method_are_known() {
        for (method, params) in [
            ("initialize", r#"{"protocol":1}"#),
            ("reset", "{}"),
            ("begin", "null"),
            ("commit", "[]"),
            ("rollback", r#"{"more":[]}"#),
            ("pool.create", r#"{"pool":"p","prefix":"no prefix"}"#),
            ("pool.create", r#"{"pool":"p","prefix":"::/0","ranges":[["a","b"]],"gateway":null,"exclude":["x"]}"#),
            ("pool.update", r#"{"pool":"p","ranges":[],"exclude":[]}"#),
            ("pool.delete", r#"{"pool":"p"}"#),
            ("allocate", r#"{"owner":"a","requests":[{"pool":"p","address":"x"},{"pool":"p","prefix_len":28}]}"#),
            ("allocate", r#"{"owner":"a","requests":[{"pool":"p","address":null}],"ttl_ms":1e30}"#),
            ("release", r#"{"pool":"p","address":"x"}"#),
            ("release_owner", r#"{"owner":"a"}"#),
            ("renew", r#"{"pool":"p","address":"x","owner":"a","ttl_ms":5.0}"#),
            ("list", r#"{"pool":null}"#),
            ("usage", r#"{"pool":"p"}"#),
            ("advance", r#"{"ms":0}"#),
        ] {
            assert!(is_request(&line(method, params)), "{method} {params}");
        }
        assert!(is_request(br#" {"method":"begin","id":"x","jsonrpc":"2.0"} "#));
    }

    #[test]
    fn what_must_be_refused_is_no_request() {
        for (method, params) in [
            ("raw", "{}"),
            ("fly", "{}"),
            ("begin", r#"[1]"#),
            ("begin", r#""x""#),
            ("initialize", r#"{"protocol":2}"#),
            ("allocate", r#"{"owner":"a","requests":[]}"#),
            ("allocate", r#"{"owner":"a","requests":[{"pool":"p","prefix_len":"28"}]}"#),
            ("allocate", r#"{"owner":"\ud800","requests":[{"pool":"p"}]}"#),
            ("pool.create", r#"{"pool":"p"}"#),
            ("pool.create", r#"{"pool":"p","prefix":"::/0","ranges":[["a"]]}"#),
            ("renew", r#"{"pool":"p","address":"x","owner":"a"}"#),
            ("advance", r#"{"ms":-1}"#),
            ("advance", r#"{"ms":0.5}"#),
        ] {
            assert!(!is_request(&line(method, params)), "{method} {params}");
        }
        let lines: [&[u8]; 6] = [
            b"",
            b"[]",
            br#"[{"jsonrpc":"2.0","id":1,"method":"begin"}]"#,
            br#"{"jsonrpc":"2.0","id":null,"method":"begin"}"#,
            br#"{"jsonrpc":"2.0","method":"begin"}"#,
            br#"{"id":1,"method":"begin"}"#,
        ];
        lines.iter().for_each(|line| assert!(!is_request(line), "{}", line.escape_ascii()));
    }
}
