//! Double allocation and overlap, by one caller after another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;
use poolproof_allocator::Resource;
use poolproof_core::address::{Family, Grant, Span, number};
use poolproof_core::contract::{Contract, ReleaseUnknown};
use poolproof_core::operation::{Answer, Kind, Operation, Request, Response, Text, Want, Written};
use poolproof_core::property::Property::{
    Accounted, Canonical, Classified, Contained, Exclusive, Idempotent, Owned, Scoped,
};
use poolproof_core::sut::reference::Variant;

use crate::base::{AnyOne, Base, any_one, common, granted, is_refused, meant, refuse, span};
use crate::faulty::{Bug, Calls, Faulty, Mutant, Setting};

/// The mutants here.
pub const MUTANTS: &[Mutant] = &[
    Mutant::new("bit-i-not-offset", &[Exclusive, Accounted], || Box::new(Calls(bit_i_not_offset))).in_steps(2),
    Mutant::new("past-last-free-bit", &[Exclusive, Accounted], || Box::new(PastLastFreeBit::default())).in_steps(4),
    Mutant::new("free-of-next-never-allocated", &[Owned, Exclusive], || Box::new(FreeOfNextNeverAllocated::default()))
        .in_steps(2),
    Mutant::new("double-release-dups-freelist", &[Exclusive], || Box::new(DoubleReleaseDupsFreelist::default()))
        .in_steps(4)
        .set(Setting::USUAL.promising(lax_about_releases)),
    Mutant::new("full-pool-returns-last", &[Exclusive], || Box::new(Calls(full_pool_returns_last))).in_steps(2),
    Mutant::new("align-down-overlap", &[Exclusive, Contained], || Box::new(Calls(align_down_overlap))).in_steps(3),
    Mutant::new("alias-forms-two-keys", &[Canonical, Exclusive, Classified], || Box::new(AliasFormsTwoKeys::default()))
        .in_steps(3),
    Mutant::new("offer-not-reserved", &[Exclusive], || Box::new(OfferNotReserved::default())).in_steps(2),
    Mutant::new("pool-create-retry-wipes", &[Idempotent, Exclusive], || Box::new(Calls(pool_create_retry_wipes)))
        .in_steps(2),
    Mutant::new("overlapping-pools-accepted", &[Scoped, Exclusive], || Box::new(Calls(overlapping_pools_accepted)))
        .in_steps(2)
        .set(Setting { variant: Variant { pools_overlap: true, ..Setting::USUAL.variant }, promise: disjoint }),
];

fn lax_about_releases(contract: Contract) -> Contract {
    Contract { release_unknown: ReleaseUnknown::Ok, ..contract }
}

fn disjoint(contract: Contract) -> Contract {
    Contract { disjoint_pools: true, ..contract }
}

/// Antrea (antrea-io/antrea#7944): a run of n free addresses is found and returned, but the first n bits are set.
fn bit_i_not_offset(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let Some((asked, count)) = several(operation).filter(|_| bug.is_on()) else { return base.call(operation) };
    let Some((family, run)) = free_run(base, asked.pool, count) else { return base.call(operation) };
    for index in 0..count as u128 {
        let address = base.allocatable(asked.pool).and_then(|(family, spans)| nth(family, &spans, index));
        if let Some(address) = address {
            // The bit may be set already.
            let _ = base.grant(asked, address);
        }
    }
    base.pretend(run.into_iter().map(|number| Grant::Address(family.address(number))), asked.ttl_ms)
}

/// The call as one for several addresses of one pool, whichever are free.
fn several(operation: &Operation) -> Option<(AnyOne<'_>, usize)> {
    let Operation::Allocate { owner, requests, ttl_ms } = operation else { return None };
    let pool = &requests.first()?.pool;
    let is_alike = |request: &Request| request.pool == *pool && request.want == Want::Any;
    (requests.len() > 1 && *ttl_ms != Some(0) && requests.iter().all(is_alike))
        .then_some((AnyOne { owner, pool, ttl_ms: *ttl_ms }, requests.len()))
}

/// The lowest run of so many free addresses.
fn free_run(base: &mut Base, pool: &str, count: usize) -> Option<(Family, Vec<u128>)> {
    let mut run: Vec<u128> = Vec::new();
    base.lowest_free_that(pool, |address| {
        let address = number(address);
        if run.last().is_some_and(|last| last.checked_add(1) != Some(address)) {
            run.clear();
        }
        run.push(address);
        run.len() == count
    })
    .map(|last| (Family::of(last), run))
}

fn nth(family: Family, spans: &[Span], mut index: u128) -> Option<IpAddr> {
    for span in spans {
        let count = span.count().saturated();
        if index < count {
            return span.first.checked_add(index).map(|number| family.address(number));
        }
        index -= count;
    }
    None
}

/// libnetwork (moby/libnetwork PR #2105): the search within a word begins at the cursor; where the rest of the word is taken
/// and some of the word before the cursor is free, its last bit is returned.
#[derive(Default)]
struct PastLastFreeBit {
    cursors: BTreeMap<Text, u128>,
}

/// Addresses a word.
const WORD: u128 = 32;

impl Faulty for PastLastFreeBit {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let Some(asked) = any_one(operation) else { return base.call(operation) };
        let Some((family, prefix)) = base.prefix(asked.pool) else { return base.call(operation) };
        let cursor = self.cursors.get(asked.pool).copied().filter(|cursor| prefix.contains(*cursor));
        let cursor = cursor.unwrap_or(prefix.first);
        let begin = cursor - cursor % WORD;
        let word = Span { first: begin.max(prefix.first), last: begin.saturating_add(WORD - 1).min(prefix.last) };
        let free = |base: &mut Base, window: Option<Span>| base.lowest_free_in(asked.pool, window?);
        let rest = Span::new(cursor, word.last);
        let response = match free(base, rest) {
            Some(address) => base.grant(asked, address),
            None if bug.is_on() && free(base, Some(word)).is_some() => {
                let spans = base.allocatable(asked.pool).map(|(_, spans)| spans).unwrap_or_default();
                let last = spans.into_iter().filter_map(|span| common(span, word)).next_back();
                base.pretend_one(asked, family.address(last.unwrap_or(word).last))
            }
            None => match free(base, Span::new(word.last, prefix.last)) {
                Some(address) => base.grant(asked, address),
                None => base.call(operation),
            },
        };
        if let Some(address) = granted(&response) {
            self.cursors.insert(asked.pool.clone(), number(address).saturating_add(1));
        }
        response
    }
}

/// rust-vmm/vm-allocator (commit bef7f55): a bump pointer and a list of freed ones; the address that the pointer would give
/// out next can be freed, and is then given out by both.
#[derive(Default)]
struct FreeOfNextNeverAllocated {
    /// Freed before they were allocated.
    listed: BTreeSet<(Text, IpAddr)>,
}

impl Faulty for FreeOfNextNeverAllocated {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        match operation {
            Operation::Release { pool, address: Written::Plain(Grant::Address(address)), .. } if bug.is_on() => {
                let response = base.call(operation);
                let next = base.lowest_free(pool);
                if is_refused(&response, Kind::NotFound) && next == Some(*address) {
                    self.listed.insert((pool.clone(), *address));
                    return Ok(Answer::Done);
                }
                response
            }
            _ => {
                let Some(asked) = any_one(operation) else { return base.call(operation) };
                let listed = self.listed.iter().find(|(pool, _)| pool == asked.pool).cloned();
                match listed {
                    Some(entry) if !base.is_free(asked.pool, entry.1) => {
                        self.listed.remove(&entry);
                        base.pretend_one(asked, entry.1)
                    }
                    _ => base.call(operation),
                }
            }
        }
    }
}

/// Calico (projectcalico/libcalico-go#989): what is released twice is twice in the queue of free ones.
#[derive(Default)]
struct DoubleReleaseDupsFreelist {
    /// Pool, address, and whether it was in the queue already.
    queue: VecDeque<(Text, IpAddr, bool)>,
}

impl DoubleReleaseDupsFreelist {
    fn push(&mut self, pool: &Text, address: IpAddr) {
        let is_double = self.queue.iter().any(|(other, queued, _)| other == pool && *queued == address);
        self.queue.push_back((pool.clone(), address, is_double));
    }

    fn pop(&mut self, pool: &Text) -> Option<(IpAddr, bool)> {
        let place = self.queue.iter().position(|(other, ..)| other == pool)?;
        self.queue.remove(place).map(|(_, address, is_double)| (address, is_double))
    }
}

impl Faulty for DoubleReleaseDupsFreelist {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        if let Operation::Release { pool, address, .. } = operation {
            let response = base.call(operation);
            let was_free = is_refused(&response, Kind::NotFound) && base.prefix(pool).is_some();
            if let Some(Grant::Address(address)) = address.meaning().filter(|_| response.is_ok() || was_free)
                && (bug.is_on() || response.is_ok())
                && base.is_free(pool, address)
            {
                self.push(pool, address);
            }
            return if was_free { Ok(Answer::Done) } else { response };
        }
        let Some(asked) = any_one(operation) else { return base.call(operation) };
        while let Some((address, is_double)) = self.pop(asked.pool) {
            if base.is_free(asked.pool, address) {
                return base.grant(asked, address);
            }
            if is_double && bug.is_on() && base.holder(asked.pool, address).is_some() {
                return base.pretend_one(asked, address);
            }
        }
        base.call(operation)
    }
}

/// n2n (ntop/n2n PR #393), coredhcp (#80), Tailscale (PR #15262): the search leaves its variable at the last address, and that
/// is returned although nothing was found.
fn full_pool_returns_last(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    match any_one(operation) {
        Some(asked) if bug.is_on() && is_refused(&response, Kind::Exhausted) => {
            let Some((family, spans)) = base.allocatable(asked.pool) else { return response };
            let Some(last) = spans.last() else { return response };
            base.pretend_one(asked, family.address(last.last))
        }
        _ => response,
    }
}

/// spatiumddi (#494), giantswarm/ipam (PR #20): where the next block is to begin is masked down to its boundary, not up.
fn align_down_overlap(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let Operation::Allocate { requests, ttl_ms, .. } = operation else { return base.call(operation) };
    let [Request { pool, want: Want::Block(length) }] = requests.as_slice() else { return base.call(operation) };
    let Some(end) = base.held(pool).iter().map(|one| span(&one.resource).last).max() else {
        return base.call(operation);
    };
    let Some((family, prefix)) = base.prefix(pool) else { return base.call(operation) };
    let host_bits = family.bits().saturating_sub(*length);
    let next = end.saturating_add(1);
    let down = next & u128::MAX.checked_shl(host_bits.into()).unwrap_or(0);
    let response = base.call(operation);
    let block = IpNet::new(family.address(down), *length).ok();
    match block.filter(|block| down < next && response.is_ok() && prefix.covers(Span::of_prefix(*block))) {
        Some(block) if bug.is_on() => base.pretend([Grant::Block(block)], *ttl_ms),
        _ => response,
    }
}

/// whereabouts (commits 7e88c264, b871d6ad), CVE-2021-29921 and its kin: what is held is found by its text, and one address
/// has many. In another spelling, well formed or not, it can be had once more, and nobody has it to give back.
#[derive(Default)]
struct AliasFormsTwoKeys {
    keys: BTreeMap<(Text, IpAddr), String>,
}

impl AliasFormsTwoKeys {
    /// Is the address held under another text than this?
    fn is_other(&self, base: &mut Base, pool: &Text, address: IpAddr, text: &str) -> bool {
        let key = self.keys.get(&(pool.clone(), address));
        base.holder(pool, address).is_some() && key.map_or(address.to_string() != text, |key| key != text)
    }
}

impl Faulty for AliasFormsTwoKeys {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        if bug == Bug::Off {
            return base.call(operation);
        }
        match operation {
            Operation::Allocate { requests, ttl_ms, .. } => {
                let [Request { pool, want: Want::Named(written) }] = requests.as_slice() else {
                    return base.call(operation);
                };
                let text = written.to_string();
                let Some(address) = read_leniently(&text) else { return base.call(operation) };
                if self.is_other(base, pool, address, &text) {
                    return base.pretend([Grant::Address(address)], *ttl_ms);
                }
                let response = base.call(operation);
                if response.is_ok() {
                    self.keys.insert((pool.clone(), address), text);
                }
                response
            }
            Operation::Release { pool, address: written, .. } => {
                let text = written.to_string();
                match read_leniently(&text) {
                    Some(address) if self.is_other(base, pool, address, &text) => refuse(Kind::NotFound),
                    _ => base.call(operation),
                }
            }
            _ => base.call(operation),
        }
    }
}

/// The address that a text means to somebody who takes IPv4 mapped into IPv6, and leading zeros, for what they look like.
fn read_leniently(text: &str) -> Option<IpAddr> {
    let numbers: Option<Vec<u8>> = text.split('.').map(|number| number.parse().ok()).collect();
    match numbers.as_deref() {
        Some([a, b, c, d]) => Some(IpAddr::from([*a, *b, *c, *d])),
        _ => text.parse::<IpAddr>().ok().map(|address| address.to_canonical()),
    }
}

/// SoftEtherVPN (#944): an address that was offered counts as free until it is confirmed. Here an allocation with a lease is an
/// offer, and its renewal confirms it.
#[derive(Default)]
struct OfferNotReserved {
    confirmed: BTreeSet<(Text, Resource)>,
}

impl Faulty for OfferNotReserved {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        if let Operation::Renew { pool, address, .. } = operation {
            let response = base.call(operation);
            if let Some(resource) = meant(address).filter(|_| response.is_ok()) {
                self.confirmed.insert((pool.clone(), resource));
            }
            return response;
        }
        let Some(asked) = any_one(operation).filter(|_| bug.is_on()) else { return base.call(operation) };
        let offered = base.held(asked.pool).into_iter().find_map(|one| match one.resource {
            Resource::Address(address) if one.expires_ms.is_some() => {
                (!self.confirmed.contains(&(one.pool, one.resource))).then_some(address)
            }
            _ => None,
        });
        match offered {
            Some(address) => base.pretend_one(asked, address),
            None => base.call(operation),
        }
    }
}

/// OVN-Kubernetes (openshift/ovn-kubernetes PR #1132): creating a pool is tried again, and the second time puts an empty pool
/// in the place of the one in use.
fn pool_create_retry_wipes(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    match operation {
        Operation::CreatePool { pool, .. } if bug.is_on() && is_refused(&response, Kind::Conflict) => {
            if base.prefix(pool).is_none() {
                return response;
            }
            for allocation in base.held(pool) {
                base.end(&allocation);
            }
            // It is empty now.
            let _ = base.call(&Operation::DeletePool { pool: pool.clone() });
            base.call(operation)
        }
        _ => response,
    }
}

/// Antrea (#7306), cluster-api-ipam-provider-in-cluster (#272), libnetwork (6c48c37e): each pool is a name space of its own,
/// and nobody looks whether it overlaps another. (Ranges within a pool may overlap; here that is no defect.)
fn overlapping_pools_accepted(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    let Operation::CreatePool { pool, .. } = operation else { return response };
    if bug.is_on() || response.is_err() {
        return response;
    }
    let Some(new) = base.prefix(pool) else { return response };
    let others: Vec<Text> = base.pools().into_iter().filter(|other| other != pool).collect();
    let overlaps = |(family, span): (Family, Span)| family == new.0 && span.overlaps(new.1);
    if others.into_iter().any(|other| base.prefix(&other).is_some_and(overlaps)) {
        // It was created just now.
        let _ = base.call(&Operation::DeletePool { pool: pool.clone() });
        return refuse(Kind::Conflict);
    }
    response
}
