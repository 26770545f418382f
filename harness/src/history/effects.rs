//! What a call may have done that nobody knows the outcome of: nothing, or what one of a few answers would tell.
//!
//! A grant of any address could be one of very many. But of the addresses that no call of the history names and no answer
//! tells, one is as good as another: exchanging two of them in all states changes no answer. So those that are mentioned are
//! looked at one by one, and of all others the lowest that is free. Blocks have neighbours, and pools that change have
//! borders, so there others are not alike: all addresses of all pools are looked at, if they are few, else nothing is said.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::{Family, Grant, Span, parse_prefix};
use crate::contract::{Clock, Contract, Repeat};
use crate::model::Model;
use crate::operation::{Answer, Operation, Request, Response, Text, Want, Written};

use super::{Call, Outcome};

/// So many answers of one call are looked at.
const MOST_ANSWERS: usize = 256;

/// So many addresses are looked at one by one where no two are alike.
const MOST_ADDRESSES: usize = 256;

/// The addresses that a history mentions.
#[derive(Default)]
pub(super) struct Mentioned {
    addresses: BTreeSet<IpAddr>,
    /// Are these all the addresses of all pools?
    is_all: bool,
}

impl Mentioned {
    /// In these calls; nothing where other addresses are not all alike, and too many to look at each.
    pub(super) fn by(calls: &[Call], contract: &Contract) -> Option<Mentioned> {
        let mut mentioned = Mentioned::default();
        let may_overlap = !contract.disjoint_pools && have_overlaps(calls);
        if !may_overlap && calls.iter().all(|call| mentioned.takes(call)) {
            return Some(mentioned);
        }
        Mentioned::all_of_pools(calls)
    }

    /// Every address of every pool, if they are few.
    fn all_of_pools(calls: &[Call]) -> Option<Mentioned> {
        let mut addresses = BTreeSet::new();
        for call in calls {
            let Operation::CreatePool { prefix, .. } = &call.recorded.operation else { continue };
            let Some(prefix) = parse_prefix(prefix) else { continue };
            let host_bits = prefix.max_prefix_len() - prefix.prefix_len();
            if 1_usize.checked_shl(host_bits.into()).is_none_or(|size| addresses.len() + size > MOST_ADDRESSES) {
                return None;
            }
            let span = Grant::Block(prefix).span();
            addresses.extend((span.first..=span.last).map(|number| Family::of(prefix.addr()).address(number)));
        }
        Some(Mentioned { addresses, is_all: true })
    }

    fn takes(&mut self, call: &Call) -> bool {
        let is_taken = match &call.recorded.operation {
            Operation::UpdatePool { .. } => false,
            Operation::Allocate { requests, .. } => requests.iter().all(|request| match &request.want {
                Want::Any => true,
                Want::Named(written) => self.names(written),
                Want::Block(_) => false,
            }),
            Operation::Release { address, .. } | Operation::Renew { address, .. } => self.names(address),
            _ => true,
        };
        let Outcome::Answered(Ok(answer)) = &call.recorded.outcome else { return is_taken };
        let tells = match answer {
            Answer::Granted { grants, .. } => grants.iter().all(|grant| self.has(*grant)),
            Answer::Released(released) => released.iter().all(|(_, grant)| self.has(*grant)),
            Answer::Listed(listed) => listed.iter().all(|one| self.has(one.address)),
            _ => true,
        };
        is_taken && tells
    }

    /// What names no address names none that could be granted.
    fn names(&mut self, written: &Written) -> bool {
        written.meaning().is_none_or(|grant| self.has(grant))
    }

    fn has(&mut self, grant: Grant) -> bool {
        let Grant::Address(address) = grant else { return false };
        self.addresses.insert(address);
        true
    }

    /// The answers with which this call would change something in the state of the model; nothing where they are too many,
    /// or tell a time and nobody has told yet what the clock reads. Those that the model does not allow may be among them.
    pub(super) fn answers(&self, model: &Model, operation: &Operation) -> Option<Vec<Response>> {
        let answer = match operation {
            Operation::Allocate { owner, requests, ttl_ms } => return self.grants(model, owner, requests, *ttl_ms),
            Operation::ReleaseOwner { owner } => {
                let held = model.held().filter(|(.., holder)| holder == owner);
                Answer::Released(held.map(|(pool, grant, _)| (pool, grant)).collect())
            }
            Operation::Renew { ttl_ms, .. } => Answer::Renewed { expires_ms: model.told_after(*ttl_ms)? },
            Operation::Advance { ms } => Answer::Now { now_ms: model.told_after(*ms)? },
            _ => Answer::Done,
        };
        Some(vec![Ok(answer)])
    }

    /// Every way to grant these requests; nothing where a part of them may have been granted.
    fn grants(&self, model: &Model, owner: &Text, requests: &[Request], ttl_ms: Option<u64>) -> Option<Vec<Response>> {
        if requests.len() > 1 && !model.contract().atomic {
            return None;
        }
        let expires_ms = match ttl_ms.filter(|_| model.contract().clock != Clock::None) {
            Some(ttl_ms) => Some(model.told_after(ttl_ms)?),
            None => None,
        };
        let mut ways: Vec<Vec<Grant>> = vec![Vec::new()];
        for request in requests {
            let mut longer = Vec::new();
            for way in &ways {
                let others = requests.iter().zip(way).filter(|(other, _)| other.pool == request.pool);
                let beside: Vec<Grant> = others.map(|(_, grant)| *grant).collect();
                let mut candidates = self.candidates(model, request, &beside);
                if model.contract().repeat == Repeat::Same {
                    candidates.extend(own(model, &request.pool, owner));
                }
                longer.extend(candidates.into_iter().map(|grant| way.iter().copied().chain([grant]).collect()));
            }
            if longer.len() > MOST_ANSWERS {
                return None;
            }
            ways = longer;
        }
        let granted = |way: Vec<Grant>| Ok(Answer::Granted { grants: way.into_iter().collect(), expires_ms });
        Some(ways.into_iter().map(granted).collect())
    }

    /// What this request could be granted, beside what others of the same call are.
    fn candidates(&self, model: &Model, request: &Request, beside: &[Grant]) -> Vec<Grant> {
        match &request.want {
            Want::Any => {}
            Want::Named(written) => return written.meaning().into_iter().collect(),
            Want::Block(length) => return self.blocks(model, &request.pool, *length, beside),
        }
        let mentioned = self.addresses.iter().copied().map(Grant::Address);
        let mentioned = mentioned.filter(|grant| is_free(model, &request.pool, *grant, beside));
        let other = if self.is_all { None } else { self.other(model, &request.pool, beside) };
        mentioned.chain(other.map(Grant::Address)).collect()
    }

    /// The free blocks of this length.
    fn blocks(&self, model: &Model, pool: &Text, length: u8, beside: &[Grant]) -> Vec<Grant> {
        let blocks = self.addresses.iter().filter_map(|address| IpNet::new(*address, length).ok());
        let blocks = blocks.filter(|block| block.addr() == block.network()).map(Grant::Block);
        blocks.filter(|block| is_free(model, pool, *block, beside)).collect()
    }

    /// The lowest free address of a pool that nobody mentions.
    fn other(&self, model: &Model, pool: &Text, beside: &[Grant]) -> Option<IpAddr> {
        let layout = &model.pool(pool)?.layout;
        let addresses = layout.allocatable.iter().flat_map(|span| span.first..=span.last);
        let mut addresses = addresses.map(|number| layout.family.address(number));
        addresses
            .find(|address| !self.addresses.contains(address) && is_free(model, pool, Grant::Address(*address), beside))
    }
}

/// What an owner holds in a pool.
fn own(model: &Model, pool: &Text, owner: &Text) -> Vec<Grant> {
    let held = model.pool(pool).into_iter().flat_map(|pool| pool.iter()).filter(|held| held.owner == *owner);
    held.map(|held| held.grant).collect()
}

/// Do pools overlap?
fn have_overlaps(calls: &[Call]) -> bool {
    let prefixes = calls.iter().filter_map(|call| match &call.recorded.operation {
        Operation::CreatePool { prefix, .. } => parse_prefix(prefix),
        _ => None,
    });
    let mut spans: Vec<(Family, Span)> =
        prefixes.map(|prefix| (Family::of(prefix.addr()), Span::of_prefix(prefix))).collect();
    spans.sort_unstable_by_key(|(family, span)| (*family, span.first, span.last));
    // Prefixes lie within each other or apart, so one that overlaps any overlaps its neighbour.
    spans.windows(2).any(|two| two[0].0 == two[1].0 && two[0].1.overlaps(two[1].1))
}

/// Could this be granted, beside what others of the same call are?
fn is_free(model: &Model, pool: &Text, grant: Grant, beside: &[Grant]) -> bool {
    let Some(pool) = model.pool(pool) else { return false };
    let (family, span) = (grant.family(), grant.span());
    let overlaps = |other: &Grant| other.family() == family && other.span().overlaps(span);
    pool.layout.family == family
        && pool.layout.allows(span)
        && pool.holder_of(span).is_none()
        && !beside.iter().any(overlaps)
}
