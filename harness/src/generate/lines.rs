//! Lines that are no request, for systems with a wire. Each must be refused as `invalid` (or, for a
//! method that does not exist, `unsupported`), and change nothing.

use std::sync::Arc;

use fastrand::Rng;

use super::pick;

const LINES: [&[u8]; 36] = [
    b"{",
    b"}",
    b"[]",
    b"null",
    b"7",
    b"\"allocate\"",
    b"{}",
    b"not json at all",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":7,\"params\":{}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"no.such.method\",\"params\":{}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":[]}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":\"x\"}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\"}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":7,\"requests\":[{\"pool\":\"p0\"}]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":true,\"requests\":[{\"pool\":\"p0\"}]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":null,\"requests\":[{\"pool\":\"p0\"}]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":[\"a\"],\"requests\":[{\"pool\":\"p0\"}]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\",\"requests\":{}}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\",\"requests\":[]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\",\"requests\":[null]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\",\"requests\":[{\"pool\":0}]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\",\"requests\":[{}]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\",\"requests\":[{\"pool\":\"p0\",\"address\":167772162}]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\",\"requests\":[{\"pool\":\"p0\",\"address\":[]}]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"\\ud800\",\"requests\":[{\"pool\":\"p0\"}]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\xff\",\"requests\":[{\"pool\":\"p0\"}]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"pool.create\",\"params\":{\"pool\":\"q\",\"prefix\":10}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"pool.create\",\"params\":{\"pool\":\"q\"}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"pool.create\",\"params\":{\"pool\":\"q\",\"prefix\":\"10.77.0.0/29\",\"ranges\":[\"10.77.0.1\"]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"pool.create\",\"params\":{\"pool\":\"q\",\"prefix\":\"10.77.0.0/29\",\"ranges\":[[\"10.77.0.1\"]]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"pool.create\",\"params\":{\"pool\":\"q\",\"prefix\":\"10.77.0.0/29\",\"exclude\":\"10.77.0.1\"}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"pool.create\",\"params\":{\"pool\":\"q\",\"prefix\":\"10.77.0.0/29\",\"gateway\":1}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"pool.create\",\"params\":{\"pool\":{},\"prefix\":\"10.77.0.0/29\"}}",
];

/// How deep the nested line goes: enough to overflow a careless recursive parser.
const DEPTH: usize = 100_000;

/// A malformed line.
pub(super) fn malformed(rng: &mut Rng) -> Arc<[u8]> {
    match rng.u8(..64) {
        0 => "[".repeat(DEPTH).into_bytes().into(),
        _ => Arc::from(*pick(&LINES, rng)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Operation;
    use crate::scenario::{Scenario, Step, parse, print};

    #[test]
    fn scenarios_take_every_line() {
        let deep = "[".repeat(DEPTH).into_bytes();
        for line in LINES.iter().copied().chain([deep.as_slice()]) {
            let scenario = Scenario { steps: vec![Step::Call(Operation::Raw { line: Arc::from(line) })] };
            assert_eq!(parse(&print(&scenario)), Ok(scenario), "{}", line.escape_ascii());
        }
    }
}
