//! The other side of the wire: requests read, answers written. Who drives a system does not need it; a server does, and
//! whoever reads what somebody else has recorded.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::address::Grant;
use crate::operation::{Allocation, Answer, Kind, Method, Operation, PoolShape, Refusal, Request, Text, Want, Written};

/// The code of JSON-RPC for parameters that are wrong, and the one of its own that the protocol has for all other refusals.
const INVALID_PARAMS: i64 = -32602;
const REFUSED: i64 = -32000;

/// How names are made of text, so that equal ones are kept once.
type Names<'a> = &'a mut dyn FnMut(&str) -> Text;

/// The operation that this method with these parameters asks for.
///
/// # Errors
///
/// What is wrong with them.
pub fn decode_call(method: &str, params: &Value, names: Names<'_>) -> Result<Operation, String> {
    let known = Method::from_name(method).ok_or_else(|| format!("there is no method `{method}`"))?;
    Ok(match known {
        Method::PoolCreate => create_pool(read(params)?, names),
        Method::PoolUpdate => update_pool(read(params)?, names),
        Method::PoolDelete => Operation::DeletePool { pool: names(&read::<InPool>(params)?.pool) },
        Method::Allocate => allocate(read(params)?, names)?,
        Method::Release => release(read(params)?, names),
        Method::ReleaseOwner => Operation::ReleaseOwner { owner: names(&read::<OfOwner>(params)?.owner) },
        Method::Renew => renew(read(params)?, names),
        Method::Begin => Operation::Begin,
        Method::Commit => Operation::Commit,
        Method::Rollback => Operation::Rollback,
        Method::List => Operation::List { pool: read::<Listing>(params)?.pool.map(|pool| names(&pool)) },
        Method::Usage => Operation::Usage { pool: names(&read::<InPool>(params)?.pool) },
        Method::Advance => Operation::Advance { ms: read::<Advancing>(params)?.ms },
        Method::Reset | Method::Raw => return Err(format!("`{method}` has no place in a history")),
    })
}

/// What `params` holds. Fields have names: where an object is due, serde alone would take a list of their values, too.
fn read<T: DeserializeOwned>(params: &Value) -> Result<T, String> {
    let params = if params.is_null() { json!({}) } else { params.clone() };
    let is_object = |value: &Value| value.is_object();
    let has_objects = |list: &Value| list.as_array().is_none_or(|list| list.iter().all(is_object));
    if !is_object(&params) || !params.get("requests").is_none_or(has_objects) {
        return Err("`params` is wrong: a list stands where an object is due".to_owned());
    }
    serde_json::from_value(params).map_err(|error| format!("`params` is wrong: {error}"))
}

/// The result that tells this answer.
pub fn encode_answer(answer: &Answer) -> Value {
    match answer {
        Answer::Done => json!({}),
        Answer::Granted { grants, expires_ms } => {
            let mut result = json!({ "granted": grants.iter().map(Grant::to_string).collect::<Vec<_>>() });
            expires_ms.iter().for_each(|expires_ms| result["expires_ms"] = json!(expires_ms));
            result
        }
        Answer::Released(released) => {
            let one = |(pool, address): &(Text, Grant)| json!({ "pool": **pool, "address": address.to_string() });
            json!({ "released": released.iter().map(one).collect::<Vec<_>>() })
        }
        Answer::Renewed { expires_ms } => json!({ "expires_ms": expires_ms }),
        Answer::Listed(listed) => json!({ "allocations": listed.iter().map(encode_allocation).collect::<Vec<_>>() }),
        Answer::Usage { allocatable, allocated } => {
            json!({ "allocatable": allocatable.to_string(), "allocated": allocated.to_string() })
        }
        Answer::Now { now_ms } => json!({ "now_ms": now_ms }),
    }
}

fn encode_allocation(allocation: &Allocation) -> Value {
    let Allocation { pool, address, owner, expires_ms } = allocation;
    let mut encoded = json!({ "pool": **pool, "address": address.to_string(), "owner": **owner });
    expires_ms.iter().for_each(|expires_ms| encoded["expires_ms"] = json!(expires_ms));
    encoded
}

/// The error that tells this refusal.
pub fn encode_refusal(refusal: &Refusal) -> Value {
    let code = if refusal.kind == Kind::Invalid { INVALID_PARAMS } else { REFUSED };
    json!({ "code": code, "message": refusal.message, "data": { "kind": refusal.kind.name() } })
}

#[derive(Deserialize)]
struct InPool {
    pool: String,
}

#[derive(Deserialize)]
struct OfOwner {
    owner: String,
}

#[derive(Deserialize)]
struct Listing {
    pool: Option<String>,
}

#[derive(Deserialize)]
struct Advancing {
    ms: u64,
}

#[derive(Deserialize)]
struct Shape {
    pool: String,
    prefix: Option<String>,
    ranges: Option<Vec<(String, String)>>,
    gateway: Option<String>,
    exclude: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Allocating {
    owner: String,
    requests: Vec<Wanted>,
    ttl_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Wanted {
    pool: String,
    address: Option<String>,
    prefix_len: Option<u8>,
}

#[derive(Deserialize)]
struct Releasing {
    pool: String,
    address: String,
    owner: Option<String>,
}

#[derive(Deserialize)]
struct Renewing {
    pool: String,
    address: String,
    owner: String,
    ttl_ms: u64,
}

fn create_pool(params: Shape, names: Names<'_>) -> Operation {
    let (pool, prefix) = (names(&params.pool), params.prefix.as_deref().unwrap_or_default().into());
    Operation::CreatePool { pool, prefix, shape: shape(&params) }
}

fn update_pool(params: Shape, names: Names<'_>) -> Operation {
    Operation::UpdatePool { pool: names(&params.pool), shape: shape(&params) }
}

fn shape(params: &Shape) -> PoolShape {
    let text = |text: &String| Text::from(text.as_str());
    let ranges = params.ranges.iter().flatten();
    PoolShape {
        ranges: ranges.map(|(first, last)| (text(first), text(last))).collect(),
        gateway: params.gateway.as_ref().map(text),
        exclude: params.exclude.iter().flatten().map(text).collect(),
    }
}

fn allocate(params: Allocating, names: Names<'_>) -> Result<Operation, String> {
    let mut request = |wanted: Wanted| {
        let want = match (wanted.address, wanted.prefix_len) {
            (None, None) => Want::Any,
            (Some(address), None) => Want::Named(written(&address)),
            (None, Some(length)) => Want::Block(length),
            (Some(_), Some(_)) => return Err("a request has both `address` and `prefix_len`".to_owned()),
        };
        Ok(Request { pool: names(&wanted.pool), want })
    };
    let requests = params.requests.into_iter().map(&mut request).collect::<Result<_, String>>()?;
    Ok(Operation::Allocate { owner: names(&params.owner), requests, ttl_ms: params.ttl_ms })
}

fn release(params: Releasing, names: Names<'_>) -> Operation {
    let owner = params.owner.map(|owner| names(&owner));
    Operation::Release { pool: names(&params.pool), address: written(&params.address), owner }
}

fn renew(params: Renewing, names: Names<'_>) -> Operation {
    let (pool, owner) = (names(&params.pool), names(&params.owner));
    Operation::Renew { pool, address: written(&params.address), owner, ttl_ms: params.ttl_ms }
}

/// The usual spelling is told from the others.
fn written(address: &str) -> Written {
    match Grant::parse(address).filter(|grant| grant.to_string() == address) {
        Some(grant) => Written::Plain(grant),
        None => Written::Odd(address.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Contract;
    use crate::generate::Generator;
    use crate::scenario::text;
    use crate::scenario::{Operand, Step};
    use crate::sut::protocol::{Absent, encode};

    /// Whatever goes out can be read again.
    #[test]
    fn what_is_written_is_read() {
        let contract = Contract { methods: crate::contract::Methods::all(), blocks: true, ..Contract::default() };
        let generator = Generator::new(&contract);
        let mut count = 0;
        for seed in 0..200 {
            for step in generator.scenario(seed).steps {
                let Step::Call(operation) = step else { continue };
                let literal = |_: &Text, operand: &Operand| match operand {
                    Operand::Literal(text) => Some(written(text)),
                    _ => None,
                };
                let Some(operation) = operation.resolve(literal).filter(|call| call.method() != Method::Raw) else {
                    continue;
                };
                for absent in [Absent::LeftOut, Absent::WrittenOut] {
                    let request: Value = serde_json::from_slice(&encode(1, &operation, absent)).unwrap();
                    let method = request["method"].as_str().unwrap();
                    assert_eq!(decode_call(method, &request["params"], &mut text).as_ref(), Ok(&operation));
                }
                count += 1;
            }
        }
        assert!(count > 1000, "{count}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (method, params, expected) in [
            ("fly", "{}", "there is no method `fly`"),
            ("reset", "{}", "`reset` has no place in a history"),
            ("usage", "{}", "`params` is wrong: missing field `pool`"),
            ("advance", r#"{"ms":-1}"#, "`params` is wrong: invalid value"),
            (
                "allocate",
                r#"{"owner":"a","requests":[{"pool":"p","address":"x","prefix_len":3}]}"#,
                "a request has both",
            ),
        ] {
            let params: Value = serde_json::from_str(params).unwrap();
            let problem = decode_call(method, &params, &mut text).unwrap_err();
            assert!(problem.starts_with(expected), "{problem}");
        }
    }
}
