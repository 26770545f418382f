//! What is lost on the way, or not undone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use poolproof_allocator::{Allocation, Resource};
use poolproof_core::operation::{Answer, Kind, Operation, Refusal, Response, Text};
use poolproof_core::property::Property::{
    Accounted, Atomic, Classified, Complete, Durable, Exclusive, Idempotent, Released,
};
use poolproof_core::sut::Failure;
use smallvec::smallvec;

use crate::base::{AnyOne, Base, any_one, grant, is_refused, meant, refusal, refuse, resource};
use crate::faulty::{Bug, Calls, Faulty, Mutant};

/// The mutants here.
pub const MUTANTS: &[Mutant] = &[
    Mutant::new("dual-stack-half-leak", &[Atomic, Accounted], || Box::new(Calls(dual_stack_half_leak))).in_steps(2),
    Mutant::new("never-freed-on-delete", &[Released, Complete], || Box::new(NeverFreedOnDelete::default())).in_steps(4),
    Mutant::new("one-error-path-forgets-dealloc", &[Atomic, Released], || {
        Box::new(Calls(one_error_path_forgets_dealloc))
    })
    .in_steps(3)
    .in_crash(),
    Mutant::new("rollback-masks-error", &[Classified], || Box::new(Calls(rollback_masks_error))).in_steps(4).in_crash(),
    Mutant::new("owner-index-write-ignored", &[Released, Accounted], || Box::new(OwnerIndexWriteIgnored::default()))
        .in_steps(4)
        .in_crash(),
    Mutant::new("parent-child-two-writes", &[Atomic, Durable], || Box::new(ParentChildTwoWrites::default()))
        .in_steps(4)
        .in_crash(),
    Mutant::new("retry-after-release-without-realloc", &[Exclusive, Accounted], || {
        Box::new(Calls(retry_after_release_without_realloc))
    })
    .in_steps(3)
    .in_crash(),
    Mutant::new("cleanup-uses-dead-deadline", &[Atomic], || Box::new(Calls(cleanup_uses_dead_deadline)))
        .in_steps(3)
        .in_crash(),
    Mutant::new("commit-outcome-unknown", &[Atomic, Idempotent, Released], || Box::new(Calls(commit_outcome_unknown)))
        .in_steps(3)
        .in_crash(),
];

/// Calico (projectcalico/cni-plugin#908), spiderpool (#963), Cilium (PR #48816): the first address is kept when there is none
/// left for the second.
fn dual_stack_half_leak(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Operation::Allocate { owner, requests, ttl_ms } = operation
        && bug.is_on()
        && is_refused(&response, Kind::Exhausted)
        && let [first, _, ..] = requests.as_slice()
    {
        let requests = smallvec![first.clone()];
        // There may be none for the first, either.
        let _ = base.call(&Operation::Allocate { owner: owner.clone(), requests, ttl_ms: *ttl_ms });
    }
    response
}

/// headscale (juanfont/headscale#2907), coredhcp (#182), systemd (PR #21175): the owner's row is deleted, and the set of used
/// addresses is not told.
#[derive(Default)]
struct NeverFreedOnDelete {
    used: BTreeSet<(Text, IpAddr)>,
}

impl Faulty for NeverFreedOnDelete {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let Some(asked) = any_one(operation).filter(|asked| base.prefix(asked.pool).is_some()) else {
            let response = base.call(operation);
            if let Ok(Answer::Released(released)) = &response
                && bug.is_on()
            {
                self.used.extend(released.iter().map(|(pool, grant)| (pool.clone(), grant.first())));
            }
            return response;
        };
        if self.used.is_empty() {
            return base.call(operation);
        }
        let unused = |address| !self.used.contains(&(asked.pool.clone(), address));
        match base.lowest_free_that(asked.pool, unused) {
            Some(address) => base.grant(asked, address),
            None => refuse(Kind::Exhausted),
        }
    }

    fn restart(&mut self, _: &mut Base, _: Bug) -> Result<(), Failure> {
        self.used.clear();
        Ok(())
    }
}

/// The first step of a longer allocation, of one address: it is held from here on, and given back where a later step fails.
#[derive(Clone, Copy)]
struct Claim<'a> {
    asked: AnyOne<'a>,
    address: IpAddr,
}

impl<'a> Claim<'a> {
    /// What a call is about to claim, if it asks for any address and there is one.
    fn of(base: &mut Base, operation: &'a Operation) -> Option<Claim<'a>> {
        let asked = any_one(operation)?;
        let address = base.lowest_free(asked.pool)?;
        Some(Claim { asked, address })
    }

    /// Claims it.
    fn make(self, base: &mut Base) -> Response {
        let written = base.write(|base| base.grant(self.asked, self.address));
        written.unwrap_or_else(|cause| Err(self.fail(base, cause)))
    }

    /// Gives it back, if it is held at all.
    fn undo(self, base: &mut Base) -> Result<(), Refusal> {
        let undone = base.write(|base| {
            let held = base.holder(self.asked.pool, self.address);
            held.iter().for_each(|held| base.end(held));
        });
        undone.map_err(|_| refusal(Kind::UnknownOutcome))
    }

    /// Gives it back because something failed; says what is to be told of that.
    fn fail(self, base: &mut Base, cause: Refusal) -> Refusal {
        self.undo(base).err().unwrap_or(cause)
    }
}

/// podman (containers/podman#25422), AWS (aws/amazon-vpc-cni-k8s#1939), Antrea (PR #5548): several steps follow an allocation,
/// and where one of them fails it is not given back.
fn one_error_path_forgets_dealloc(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let Some(claim) = Claim::of(base, operation) else { return base.call(operation) };
    let answer = claim.make(base)?;
    base.note().map_err(|cause| claim.fail(base, cause))?;
    base.note().map_err(|cause| if bug.is_on() { cause } else { claim.fail(base, cause) })?;
    Ok(answer)
}

/// Neutron (LP#1571666, commits 1f5008564d and 1d8eabaff1): what fails while a batch is undone is told in place of what failed
/// first, so nobody tries again where that would help. The batch itself is a session's, and gone with it in any case.
fn rollback_masks_error(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let Operation::Allocate { requests, .. } = operation else { return base.call(operation) };
    if requests.len() < 2 || requests.iter().any(|request| base.prefix(&request.pool).is_none()) {
        return base.call(operation);
    }
    for staged in 0..requests.len() {
        let Err(cause) = base.lock().and_then(|()| base.note()) else { continue };
        let undone = (0..staged).try_for_each(|_| base.note());
        return Err(undone.err().filter(|_| bug.is_on()).unwrap_or(cause));
    }
    base.commit(operation)
}

/// Calico (libcalico-go, commit bf54ae79): the index by owner is written first, and nobody looks whether that failed. What it
/// lacks is not found when all that an owner has is released.
#[derive(Default)]
struct OwnerIndexWriteIgnored {
    missing: BTreeSet<(Text, IpAddr)>,
}

impl Faulty for OwnerIndexWriteIgnored {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        if let Some(claim) = Claim::of(base, operation) {
            return self.allocate(base, claim, bug);
        }
        match operation {
            Operation::ReleaseOwner { owner } if !self.missing.is_empty() => Ok(self.release_indexed(base, owner)),
            _ => base.call(operation),
        }
    }
}

impl OwnerIndexWriteIgnored {
    fn allocate(&mut self, base: &mut Base, claim: Claim<'_>, bug: Bug) -> Response {
        let mut is_indexed = false;
        let written = base.write(|_| is_indexed = true);
        written.or_else(|cause| if bug.is_on() { Ok(()) } else { Err(cause) })?;
        let answer = claim.make(base)?;
        let key = (claim.asked.pool.clone(), claim.address);
        if is_indexed {
            self.missing.remove(&key)
        } else {
            self.missing.insert(key)
        };
        Ok(answer)
    }

    fn release_indexed(&self, base: &mut Base, owner: &Text) -> Answer {
        let is_missing = |held: &Allocation| matches!(held.resource, Resource::Address(address) if self.missing.contains(&(held.pool.clone(), address)));
        let mut found = base.all_held();
        found.retain(|held| held.owner == *owner && !is_missing(held));
        found.iter().for_each(|held| base.end(held));
        Answer::Released(found.into_iter().map(|held| (held.pool, grant(held.resource))).collect())
    }
}

/// go-ipam (commit f932441, which changes the order): a block is a row of its own and an entry of its parent, and is released
/// by two writes. Where the row goes first and the parent is locked then, its entry stays: the block is nobody's and cannot be
/// had.
#[derive(Default)]
struct ParentChildTwoWrites {
    /// Blocks without a row, whose parents have them still.
    rowless: BTreeSet<(Text, Resource)>,
}

impl Faulty for ParentChildTwoWrites {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        if let Some(child) = released_block(base, operation) {
            return self.release(base, operation, child, bug);
        }
        let mut response = base.call(operation);
        if let Ok(Answer::Listed(listed)) = &mut response {
            listed.retain(|line| !self.rowless.contains(&(line.pool.clone(), resource(line.address))));
        }
        response
    }
}

impl ParentChildTwoWrites {
    fn release(&mut self, base: &mut Base, operation: &Operation, child: (Text, Resource), bug: Bug) -> Response {
        if self.rowless.contains(&child) {
            return refuse(Kind::NotFound);
        }
        if bug.is_on() {
            base.write(|_| self.rowless.insert(child.clone()))?;
        }
        base.lock()?;
        let written = base.write(|base| {
            self.rowless.remove(&child);
            base.call(operation)
        });
        let answer = written.unwrap_or_else(|_| refuse(Kind::UnknownOutcome))?;
        if !bug.is_on() {
            // A row without an entry is as good as none.
            let _ = base.note();
        }
        Ok(answer)
    }
}

/// The block that a call releases, where it is held by whoever says so.
fn released_block(base: &mut Base, operation: &Operation) -> Option<(Text, Resource)> {
    let Operation::Release { pool, address, owner: Some(owner) } = operation else { return None };
    let block = meant(address).filter(|resource| matches!(resource, Resource::Block(_)))?;
    let is_held = base.held(pool).iter().any(|held| held.resource == block && held.owner == *owner);
    is_held.then(|| (pool.clone(), block))
}

/// cloud-provider-azure (#4556, PR #4568): what cannot be published is given back, then published once more, though it was not
/// claimed again.
fn retry_after_release_without_realloc(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let Some(claim) = Claim::of(base, operation) else { return base.call(operation) };
    let answer = claim.make(base)?;
    if base.note().is_ok() {
        return Ok(answer);
    }
    claim.undo(base)?;
    if !bug.is_on() {
        claim.make(base)?;
    }
    base.note().map_err(|cause| claim.fail(base, cause))?;
    Ok(answer)
}

/// Calico (projectcalico/calico PR #10658): what is undone has the deadline of what failed. A wait for a lock that lasts until
/// the deadline leaves no time to undo anything.
fn cleanup_uses_dead_deadline(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let Some(claim) = Claim::of(base, operation) else { return base.call(operation) };
    let answer = claim.make(base)?;
    base.lock().map_err(|cause| {
        let is_late = cause.kind == Kind::Busy;
        if bug.is_on() && is_late { cause } else { claim.fail(base, cause) }
    })?;
    Ok(answer)
}

/// Calico (projectcalico/calico#5203, projectcalico/libcalico-go#1329): a write that is said to have failed is taken for one
/// that was not done.
fn commit_outcome_unknown(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    if any_one(operation).is_none() {
        return base.call(operation);
    }
    if bug.is_on() { base.write(|base| base.call(operation))? } else { base.commit(operation) }
}
