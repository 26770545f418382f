//! Lines that are no request, for systems with a wire. Each must be refused as `invalid` (or, for a
//! method that does not exist, `unsupported`), and change nothing.

use std::sync::Arc;

use fastrand::Rng;

use super::pick;
use crate::contract::{Clock, Contract};

/// For every system.
const LINES: [&[u8]; 46] = [
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
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"pool.update\",\"params\":{\"pool\":\"p0\",\"ranges\":\"10.0.0.1\"}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"pool.update\",\"params\":{\"pool\":\"p0\",\"exclude\":7}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"pool.update\",\"params\":{\"pool\":\"p0\",\"gateway\":[]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"pool.delete\",\"params\":{}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"usage\",\"params\":{}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"usage\",\"params\":{\"pool\":7}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"list\",\"params\":{\"pool\":7}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"release_owner\",\"params\":{}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"release_owner\",\"params\":{\"owner\":7}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"release\",\"params\":{\"pool\":\"p0\",\"address\":167772162,\"owner\":\"a\"}}",
];

/// For systems with leases; others may leave these fields alone.
const OF_LEASES: [&[u8]; 11] = [
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\",\"requests\":[{\"pool\":\"p0\"}],\"ttl_ms\":\"1000\"}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\",\"requests\":[{\"pool\":\"p0\"}],\"ttl_ms\":1.5}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\",\"requests\":[{\"pool\":\"p0\"}],\"ttl_ms\":true}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\",\"requests\":[{\"pool\":\"p0\"}],\"ttl_ms\":-1}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"renew\",\"params\":{\"pool\":\"p0\",\"address\":\"10.0.0.2\",\"ttl_ms\":1000}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"renew\",\"params\":{\"pool\":\"p0\",\"address\":\"10.0.0.2\",\"owner\":\"a\",\"ttl_ms\":-5}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"renew\",\"params\":{\"pool\":\"p0\",\"address\":\"10.0.0.2\",\"owner\":\"a\"}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"advance\",\"params\":{\"ms\":-3}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"advance\",\"params\":{\"ms\":\"5\"}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"advance\",\"params\":{\"ms\":1.5}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"advance\",\"params\":{}}",
];

/// For systems with blocks.
const OF_BLOCKS: [&[u8]; 3] = [
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\",\"requests\":[{\"pool\":\"p0\",\"prefix_len\":\"31\"}]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\",\"requests\":[{\"pool\":\"p0\",\"prefix_len\":-1}]}}",
    b"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"allocate\",\"params\":{\"owner\":\"a\",\"requests\":[{\"pool\":\"p0\",\"prefix_len\":30.5}]}}",
];

/// How deep the nested line goes: enough to overflow a careless recursive parser.
const DEPTH: usize = 100_000;

/// The malformed lines for systems with this contract.
pub(super) fn lines(contract: &Contract) -> impl Iterator<Item = &'static [u8]> {
    let of_leases = OF_LEASES.into_iter().filter(|_| contract.clock != Clock::None);
    let of_blocks = OF_BLOCKS.into_iter().filter(|_| contract.blocks);
    LINES.into_iter().chain(of_leases).chain(of_blocks)
}

/// A malformed line.
pub(super) fn malformed(contract: &Contract, rng: &mut Rng) -> Arc<[u8]> {
    match rng.u8(..64) {
        0 => "[".repeat(DEPTH).into_bytes().into(),
        _ => Arc::from(*pick(&lines(contract).collect::<Vec<_>>(), rng)),
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
        let contract = Contract { clock: Clock::Virtual, blocks: true, ..Contract::default() };
        let mut all: Vec<&[u8]> = lines(&contract).collect();
        all.push(&deep);
        for line in all {
            let scenario = Scenario { steps: vec![Step::Call(Operation::Raw { line: Arc::from(line) })] };
            assert_eq!(parse(&print(&scenario)), Ok(scenario), "{}", line.escape_ascii());
        }
    }
}
