//! Histories of callers that overlap, as an allocator that is right would have answered: each call takes effect at some
//! instant between its invocation and its return.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr};

use poolproof::address::Grant;
use poolproof::history::{Outcome, Recorded};
use poolproof::operation::{
    Answer, Grants, Kind, Operation, PoolShape, Refusal, Request, Requests, Text, Want, Written,
};
use poolproof::scenario::text;

/// How large.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) calls: usize,
    pub(crate) callers: u32,
    /// Addresses of the pool.
    pub(crate) addresses: u32,
}

/// One call under way.
struct UnderWay {
    index: usize,
    address: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Invocation,
    Effect,
    Return,
}

/// A history of this size, made of that seed; the first call makes the pool.
pub(crate) fn right(size: Size, seed: u64) -> Vec<Recorded> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut free: BTreeSet<u32> = (0..size.addresses).collect();
    let mut held: Vec<Vec<u32>> = vec![Vec::new(); size.callers as usize];
    let mut under_way: Vec<UnderWay> = (0..size.callers).map(|_| UnderWay { index: 0, address: None }).collect();
    let names: Vec<Text> = (0..size.callers).map(|caller| text(&format!("o{caller}"))).collect();
    let pool = text("p0");
    let mut recorded = vec![made(&pool, size.addresses)];
    let first = (0..size.callers).map(|caller| Reverse((2 + u64::from(caller), Phase::Invocation, caller as usize)));
    let mut queue: BinaryHeap<_> = first.collect();
    while let Some(Reverse((now, phase, caller))) = queue.pop() {
        let later = now + 1 + random.u64(..100);
        let call = &mut under_way[caller];
        match phase {
            Phase::Invocation if recorded.len() > size.calls => continue,
            Phase::Invocation => {
                let releases = !held[caller].is_empty() && random.u8(..100) < 48;
                let mine = &mut held[caller];
                let address = releases.then(|| mine.swap_remove(random.usize(..mine.len())));
                *call = UnderWay { index: recorded.len(), address };
                let owner = names[caller].clone();
                let operation = match address {
                    Some(address) => release(&pool, owner, address),
                    None => allocate(&pool, owner),
                };
                let process = names[caller].clone();
                recorded.push(Recorded { process, operation, invoked: now, returned: None, outcome: Outcome::Unknown });
                queue.push(Reverse((later, Phase::Effect, caller)));
            }
            Phase::Effect => {
                recorded[call.index].outcome = Outcome::Answered(match call.address {
                    Some(address) => {
                        free.insert(address);
                        Ok(Answer::Done)
                    }
                    None => match free.pop_first() {
                        None => Err(Refusal { kind: Kind::Exhausted, message: "no".into() }),
                        Some(address) => {
                            held[caller].push(address);
                            Ok(Answer::Granted { grants: Grants::from_iter([grant(address)]), expires_ms: None })
                        }
                    },
                });
                queue.push(Reverse((later, Phase::Return, caller)));
            }
            Phase::Return => {
                recorded[call.index].returned = Some(now);
                queue.push(Reverse((later, Phase::Invocation, caller)));
            }
        }
    }
    recorded
}

/// The same with one answer wrong: in the middle, a grant of what somebody holds for sure.
pub(crate) fn wrong(size: Size, seed: u64) -> Vec<Recorded> {
    let mut recorded = right(size, seed);
    let granted = |call: &Recorded| match &call.outcome {
        Outcome::Answered(Ok(Answer::Granted { grants, .. })) => Some(grants[0]),
        _ => None,
    };
    let middle = (size.calls / 2..).find(|index| granted(&recorded[*index]).is_some()).expect("there are grants");
    let (began, ended) = (recorded[middle].invoked, recorded[middle].returned);
    let is_kept = |grant: &Grant, after: usize| {
        recorded[after..].iter().take_while(|call| Some(call.invoked) < ended).all(|call| match &call.operation {
            Operation::Release { address, .. } => address.meaning() != Some(*grant),
            _ => true,
        })
    };
    let earlier = (0..middle).rev().filter(|index| recorded[*index].returned.is_some_and(|returned| returned < began));
    let mut kept = earlier.filter_map(|index| granted(&recorded[index]).map(|grant| (index, grant)));
    let (_, grant) = kept.find(|(index, grant)| is_kept(grant, *index)).expect("something is held");
    recorded[middle].outcome =
        Outcome::Answered(Ok(Answer::Granted { grants: Grants::from_iter([grant]), expires_ms: None }));
    recorded
}

fn made(pool: &Text, addresses: u32) -> Recorded {
    // Without edges: a range says what may be handed out.
    let last = grant(addresses - 1).to_string();
    let shape = PoolShape { ranges: vec![(text(&grant(0).to_string()), text(&last))], ..PoolShape::default() };
    Recorded {
        process: text("setup"),
        operation: Operation::CreatePool { pool: pool.clone(), prefix: text("10.0.0.0/8"), shape },
        invoked: 0,
        returned: Some(1),
        outcome: Outcome::Answered(Ok(Answer::Done)),
    }
}

fn grant(address: u32) -> Grant {
    Grant::Address(IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + address)))
}

fn allocate(pool: &Text, owner: Text) -> Operation {
    let requests = Requests::from_iter([Request { pool: pool.clone(), want: Want::Any }]);
    Operation::Allocate { owner, requests, ttl_ms: None }
}

fn release(pool: &Text, owner: Text, address: u32) -> Operation {
    Operation::Release { pool: pool.clone(), address: Written::Plain(grant(address)), owner: Some(owner) }
}
