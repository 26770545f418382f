//! The right allocator that every mutant is built on, as mutants see it: a call at a time, and a look at what is held.

use std::net::IpAddr;

use poolproof_allocator::{Allocation, Allocator, MemoryAllocator, Resource};
use poolproof_core::address::{Family, Grant, Span, number};
use poolproof_core::operation::{Answer, Kind, Operation, Refusal, Request, Response, Text, Want, Written};
use poolproof_core::sut::reference::{self, Variant};
use smallvec::smallvec;

use crate::io::Disk;

/// The reference allocator in memory. What it holds outlives a restart; an open transaction does not.
#[derive(Debug)]
pub struct Base {
    allocator: MemoryAllocator,
    variant: Variant,
    pub(crate) disk: Disk,
}

/// An allocation of one address, whichever is free: the call that most defects are about.
#[derive(Clone, Copy, Debug)]
pub struct AnyOne<'a> {
    /// Who asks.
    pub owner: &'a Text,
    /// The pool asked.
    pub pool: &'a Text,
    /// The length of the lease.
    pub ttl_ms: Option<u64>,
}

/// The call as one for any address of one pool, if that is what it is.
pub fn any_one(operation: &Operation) -> Option<AnyOne<'_>> {
    match operation {
        Operation::Allocate { owner, requests, ttl_ms } => match requests.as_slice() {
            [Request { pool, want: Want::Any }] => Some(AnyOne { owner, pool, ttl_ms: *ttl_ms }),
            _ => None,
        },
        _ => None,
    }
}

/// What a call was granted, if it was one address.
pub fn granted(response: &Response) -> Option<IpAddr> {
    match response {
        Ok(Answer::Granted { grants, .. }) => match grants.as_slice() {
            [Grant::Address(address)] => Some(*address),
            _ => None,
        },
        _ => None,
    }
}

/// All there are.
const EVERYWHERE: Span = Span { first: 0, last: u128::MAX };

/// What two spans have in common.
pub fn common(one: Span, other: Span) -> Option<Span> {
    Span::new(one.first.max(other.first), one.last.min(other.last))
}

/// The addresses that something takes up.
pub fn span(resource: &Resource) -> Span {
    match resource {
        Resource::Address(address) => Span::one(number(*address)),
        Resource::Block(prefix) => Span::of_prefix(*prefix),
    }
}

/// The address, if it is one.
pub fn address(resource: &Resource) -> Option<IpAddr> {
    match resource {
        Resource::Address(address) => Some(*address),
        Resource::Block(_) => None,
    }
}

/// A grant as the allocator has it.
pub fn resource(grant: Grant) -> Resource {
    match grant {
        Grant::Address(address) => Resource::Address(address),
        Grant::Block(prefix) => Resource::Block(prefix),
    }
}

/// What the allocator has, as a grant.
pub fn grant(resource: Resource) -> Grant {
    match resource {
        Resource::Address(address) => Grant::Address(address),
        Resource::Block(prefix) => Grant::Block(prefix),
    }
}

/// The address or block that a call names in this way, if it is one.
pub fn meant(written: &Written) -> Option<Resource> {
    written.meaning().map(resource)
}

/// A refusal of a kind.
pub fn refusal(kind: Kind) -> Refusal {
    Refusal { kind, message: kind.name().into() }
}

/// An answer that refuses.
pub fn refuse(kind: Kind) -> Response {
    Err(refusal(kind))
}

/// Was the call refused like that?
pub fn is_refused(response: &Response, kind: Kind) -> bool {
    matches!(response, Err(refusal) if refusal.kind == kind)
}

impl Base {
    pub(crate) fn new(variant: Variant) -> Base {
        Base { allocator: Allocator::in_memory(), variant, disk: Disk::default() }
    }

    /// Does a call as it should be done.
    pub fn call(&mut self, operation: &Operation) -> Response {
        reference::call(&mut self.allocator, self.variant, operation)
    }

    /// Is a transaction open?
    pub fn in_transaction(&mut self) -> bool {
        // Time cannot pass in one, and by nothing it does not pass.
        is_refused(&self.call(&Operation::Advance { ms: 0 }), Kind::Invalid)
    }

    /// The allocator itself.
    pub fn allocator(&mut self) -> &mut MemoryAllocator {
        &mut self.allocator
    }

    /// The family of a pool, and the spans that it may hand out, ascending; nothing where there is no such pool.
    pub fn allocatable(&mut self, pool: &str) -> Option<(Family, Vec<Span>)> {
        let info = self.allocator.pool(pool).ok()?;
        let spans =
            info.allocatable.iter().map(|range| Span { first: range.span().first(), last: range.span().last() });
        Some((Family::of(info.prefix.addr()), spans.collect()))
    }

    /// The addresses of a pool, its edges and all; nothing where there is no such pool.
    pub fn prefix(&mut self, pool: &str) -> Option<(Family, Span)> {
        let info = self.allocator.pool(pool).ok()?;
        Some((Family::of(info.prefix.addr()), Span::of_prefix(info.prefix)))
    }

    /// The lowest free address of a pool.
    pub fn lowest_free(&mut self, pool: &str) -> Option<IpAddr> {
        self.lowest_free_where(pool, EVERYWHERE, |_| true)
    }

    /// The lowest free address of a pool within a span.
    pub fn lowest_free_in(&mut self, pool: &str, window: Span) -> Option<IpAddr> {
        self.lowest_free_where(pool, window, |_| true)
    }

    /// The lowest free address of a pool that passes a test, which only a few may fail: each is tried.
    pub fn lowest_free_that(&mut self, pool: &str, passes: impl FnMut(IpAddr) -> bool) -> Option<IpAddr> {
        self.lowest_free_where(pool, EVERYWHERE, passes)
    }

    fn lowest_free_where(
        &mut self,
        pool: &str,
        window: Span,
        mut passes: impl FnMut(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let (family, spans) = self.allocatable(pool)?;
        let held: Vec<Span> = self.held(pool).iter().map(|one| span(&one.resource)).collect();
        for part in spans.into_iter().filter_map(|span| common(span, window)) {
            let mut next = Some(part.first);
            while let Some(number) = next.filter(|number| *number <= part.last) {
                let after = match held.iter().find(|held| held.contains(number)) {
                    Some(held) => held.last,
                    None if passes(family.address(number)) => return Some(family.address(number)),
                    None => number,
                };
                next = after.checked_add(1);
            }
        }
        None
    }

    /// What is held in a pool, ascending.
    pub fn held(&mut self, pool: &str) -> Vec<Allocation> {
        self.allocator.list(Some(pool)).unwrap_or_default()
    }

    /// Who holds an address, be it by a block.
    pub fn holder(&mut self, pool: &str, address: IpAddr) -> Option<Allocation> {
        self.allocator.find(pool, address).ok().flatten()
    }

    /// Could this address be had?
    pub fn is_free(&mut self, pool: &str, address: IpAddr) -> bool {
        let Some((family, spans)) = self.allocatable(pool) else { return false };
        family == Family::of(address)
            && spans.iter().any(|span| span.contains(number(address)))
            && self.holder(pool, address).is_none()
    }

    /// Gives an owner this very address, if it can be had.
    pub fn grant(&mut self, asked: AnyOne<'_>, address: IpAddr) -> Response {
        let want = Want::Named(Written::Plain(Grant::Address(address)));
        let requests = smallvec![Request { pool: asked.pool.clone(), want }];
        self.call(&Operation::Allocate { owner: asked.owner.clone(), requests, ttl_ms: asked.ttl_ms })
    }

    /// Tells somebody of grants, whatever is true.
    pub fn pretend(&mut self, grants: impl IntoIterator<Item = Grant>, ttl_ms: Option<u64>) -> Response {
        let now_ms = self.allocator.now_ms().unwrap_or(0);
        let expires_ms = ttl_ms.map(|ttl_ms| now_ms.saturating_add(ttl_ms));
        Ok(Answer::Granted { grants: grants.into_iter().collect(), expires_ms })
    }

    /// Tells who asked for any address that it has been granted this one, whatever is true.
    pub fn pretend_one(&mut self, asked: AnyOne<'_>, address: IpAddr) -> Response {
        self.pretend([Grant::Address(address)], asked.ttl_ms)
    }

    /// The names of all pools.
    pub fn pools(&mut self) -> Vec<Text> {
        self.allocator.pools().unwrap_or_default().into_iter().map(|pool| pool.name).collect()
    }

    /// All that is held.
    pub fn all_held(&mut self) -> Vec<Allocation> {
        self.allocator.list(None).unwrap_or_default()
    }

    /// Ends an allocation, as its owner would.
    pub fn end(&mut self, allocation: &Allocation) {
        let Allocation { pool, resource, owner, .. } = allocation;
        // It may be over already.
        let _ = self.allocator.release(pool, *resource, owner);
    }
}
