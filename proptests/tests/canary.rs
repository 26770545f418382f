//! Faulty allocators that the suites must find: a suite that cannot fail shows nothing.
//!
//! Each fault is a few lines around the reference allocator in memory. The suite of its family must
//! find it and shrink it to a scenario of a stated length; shorter ones do not show the fault.

use poolproof::address::Count;
use poolproof::contract::Contract;
use poolproof::engine::run::{Runner, Unwatched};
use poolproof::operation::{
    Allocation, Answer, Grants, Kind, Operation, PoolShape, Refusal, Request, Response, Text, Want, Written,
};
use poolproof::property::Property::{self, *};
use poolproof::sut::memory::Memory;
use poolproof::sut::{Failure, Sut};
use poolproof_proptests::{Suite, fresh_config};
use proptest::test_runner::{Config, RngSeed};
use smallvec::smallvec;

/// What is wrong with an allocator.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// What is released stands in the list of free addresses twice.
    FreesTwice,
    /// An update forgets the exclusions.
    ForgetsExclusions,
    /// The last address is never handed out.
    SparesTheLast,
    /// An address in an unusual spelling is another address.
    ComparesTexts,
    /// Anybody may release.
    IgnoresTheOwner,
    /// A release is acknowledged and not done.
    KeepsWhatIsReleased,
    /// Releasing what nobody holds is fine.
    ReleasesTheUnknown,
    /// A pool is deleted with everything in it.
    DeletesFullPools,
    /// A rollback commits.
    KeepsOnRollback,
    /// A call that is refused keeps what it was granted before the refusal.
    KeepsOnRefusal,
    /// The clock stops one millisecond early, so that leases end late.
    ExpiresLate,
    /// A renewal is acknowledged and not done.
    ForgetsRenewals,
    /// A crash loses everything.
    ForgetsInCrash,
    /// A transaction survives a crash.
    KeepsTransactionsInCrash,
}

/// The reference allocator with a fault.
struct Faulty {
    fault: Fault,
    inner: Memory,
    contract: Contract,
    /// Released, and to be handed out (again).
    free_twice: Vec<(Text, Written)>,
    /// How far its clock is behind what it says.
    lost_ms: u64,
}

impl Faulty {
    fn new(fault: Fault) -> Faulty {
        let inner = Memory::new();
        let durable = matches!(fault, Fault::ForgetsInCrash | Fault::KeepsTransactionsInCrash);
        let contract = Contract { durable, ..inner.contract().clone() };
        Faulty { fault, inner, contract, free_twice: Vec::new(), lost_ms: 0 }
    }

    /// The release as it would be right, by whoever holds the address.
    fn release_by_holder(&mut self, pool: &Text, address: &Written) -> Result<Response, Failure> {
        let listed = self.inner.call(&Operation::List { pool: Some(pool.clone()) })?;
        let Ok(Answer::Listed(held)) = listed else { return Ok(listed) };
        let holder = held.into_iter().find(|held| Some(held.address) == address.meaning());
        let owner = holder.map(|held| held.owner);
        self.inner.call(&Operation::Release { pool: pool.clone(), address: address.clone(), owner })
    }

    /// Deletes a pool and what it holds.
    fn delete_all(&mut self, pool: &Text) -> Result<Response, Failure> {
        if let Ok(Answer::Listed(held)) = self.inner.call(&Operation::List { pool: Some(pool.clone()) })? {
            for Allocation { pool, address, owner, .. } in held {
                let call = Operation::Release { pool, address: Written::Plain(address), owner: Some(owner) };
                let _released = self.inner.call(&call)?;
            }
        }
        self.inner.call(&Operation::DeletePool { pool: pool.clone() })
    }

    /// Hands out what was released, once as it should be and once more.
    fn allocate_released(&mut self, call: &Operation, request: &Request) -> Result<Response, Failure> {
        let Some(place) = self.free_twice.iter().position(|(pool, _)| *pool == request.pool) else {
            return self.inner.call(call);
        };
        let Operation::Allocate { owner, ttl_ms, .. } = call else { return self.inner.call(call) };
        let (pool, address) = self.free_twice.remove(place);
        let requests = smallvec![Request { pool, want: Want::Named(address.clone()) }];
        let named = self.inner.call(&Operation::Allocate { owner: owner.clone(), requests, ttl_ms: *ttl_ms })?;
        Ok(match named {
            Err(refusal) if refusal.kind == Kind::Conflict => granted(address.meaning().into_iter().collect()),
            other => other,
        })
    }

    /// Refuses to hand out the last free address.
    fn allocate_all_but_one(&mut self, call: &Operation, request: &Request) -> Result<Response, Failure> {
        let usage = self.inner.call(&Operation::Usage { pool: request.pool.clone() })?;
        match usage {
            Ok(Answer::Usage { allocatable, allocated }) if allocatable.minus(allocated) == Count::from(1) => {
                Ok(Err(Refusal { kind: Kind::Exhausted, message: "the pool is exhausted".into() }))
            }
            _ => self.inner.call(call),
        }
    }

    /// All requests of a call one by one, without a way back.
    fn allocate_one_by_one(&mut self, call: &Operation) -> Result<Response, Failure> {
        let Operation::Allocate { owner, requests, ttl_ms } = call else { return self.inner.call(call) };
        let mut grants = Grants::new();
        for request in requests {
            let requests = smallvec![request.clone()];
            let one = Operation::Allocate { owner: owner.clone(), requests, ttl_ms: *ttl_ms };
            match self.inner.call(&one)? {
                Ok(Answer::Granted { grants: one, .. }) => grants.extend(one),
                other => return Ok(other),
            }
        }
        Ok(granted(grants))
    }

    /// Moves the clock one millisecond less than it says.
    fn advance_short(&mut self, ms: u64) -> Result<Response, Failure> {
        let lost = ms.min(1);
        let response = self.inner.call(&Operation::Advance { ms: ms - lost })?;
        Ok(response.map(|answer| match answer {
            Answer::Now { now_ms } => {
                self.lost_ms += lost;
                Answer::Now { now_ms: now_ms + self.lost_ms }
            }
            other => other,
        }))
    }

    /// Acknowledges a call that would be done, without doing it.
    fn pretend(&mut self, call: &Operation) -> Result<Response, Failure> {
        let _opened = self.inner.call(&Operation::Begin)?;
        let response = self.inner.call(call)?;
        let _undone = self.inner.call(&Operation::Rollback)?;
        Ok(response)
    }
}

fn granted(grants: Grants) -> Response {
    Ok(Answer::Granted { grants, expires_ms: None })
}

impl Sut for Faulty {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.free_twice.clear();
        self.lost_ms = 0;
        self.inner.reset()
    }

    fn call(&mut self, call: &Operation) -> Result<Response, Failure> {
        match (self.fault, call) {
            (Fault::FreesTwice, Operation::Release { pool, address, .. }) => {
                let response = self.inner.call(call)?;
                if response.is_ok() {
                    self.free_twice.extend(std::iter::repeat_n((pool.clone(), address.clone()), 2));
                }
                Ok(response)
            }
            (Fault::FreesTwice, Operation::Allocate { requests, .. }) => match requests.as_slice() {
                [request] if request.want == Want::Any => self.allocate_released(call, request),
                _ => self.inner.call(call),
            },
            (Fault::ForgetsExclusions, Operation::UpdatePool { pool, shape }) => {
                let response = self.inner.call(call)?;
                let shape = PoolShape { exclude: Vec::new(), ..shape.clone() };
                let update = Operation::UpdatePool { pool: pool.clone(), shape };
                if response.is_ok() { self.inner.call(&update) } else { Ok(response) }
            }
            (Fault::SparesTheLast, Operation::Allocate { requests, .. }) => match requests.as_slice() {
                [request] if request.want == Want::Any => self.allocate_all_but_one(call, request),
                _ => self.inner.call(call),
            },
            (Fault::ComparesTexts, Operation::Allocate { requests, .. }) => {
                let response = self.inner.call(call)?;
                let odd = requests.iter().all(|one| matches!(one.want, Want::Named(Written::Odd(_))));
                let meant = requests.iter().filter_map(|one| match &one.want {
                    Want::Named(address) => address.meaning(),
                    _ => None,
                });
                let taken = matches!(&response, Err(refusal) if refusal.kind == Kind::Conflict);
                Ok(if taken && odd { granted(meant.collect()) } else { response })
            }
            (Fault::IgnoresTheOwner, Operation::Release { pool, address, .. }) => match self.inner.call(call)? {
                Err(refusal) if refusal.kind == Kind::NotOwner => self.release_by_holder(pool, address),
                response => Ok(response),
            },
            (Fault::KeepsWhatIsReleased, Operation::Release { .. })
            | (Fault::ForgetsRenewals, Operation::Renew { .. }) => self.pretend(call),
            (Fault::ReleasesTheUnknown, Operation::Release { .. }) => match self.inner.call(call)? {
                Err(refusal) if refusal.kind == Kind::NotFound => Ok(Ok(Answer::Done)),
                response => Ok(response),
            },
            (Fault::DeletesFullPools, Operation::DeletePool { pool }) => self.delete_all(pool),
            (Fault::KeepsOnRollback, Operation::Rollback) => self.inner.call(&Operation::Commit),
            (Fault::KeepsOnRefusal, Operation::Allocate { requests, .. }) if !requests.is_empty() => {
                self.allocate_one_by_one(call)
            }
            (Fault::ExpiresLate, Operation::Advance { ms }) => self.advance_short(*ms),
            _ => self.inner.call(call),
        }
    }

    fn restart(&mut self) -> Result<(), Failure> {
        // A transaction that is open is rolled back; a refusal says that none was.
        self.inner.call(&Operation::Rollback).map(|_| ())
    }

    fn crash(&mut self) -> Result<(), Failure> {
        if self.fault == Fault::ForgetsInCrash { self.inner.reset() } else { Ok(()) }
    }
}

/// The suite finds the fault from every seed, and its least scenario breaks this property in so many
/// steps. From a single seed the shrinker may end a step above the least.
fn is_found(fault: Fault, suite: &Suite, property: Property, steps: usize) {
    let found = (0..4).map(|seed| {
        let mut sut = Faulty::new(fault);
        let mut runner = Runner::new(&sut);
        let config = Config { rng_seed: RngSeed::Fixed(seed), ..fresh_config(4_000) };
        match suite.run(&mut runner, &mut sut, config, &mut Unwatched) {
            Err(found) => found,
            Ok(()) => panic!("{fault:?} is not found from seed {seed}"),
        }
    });
    let Some(least) = found.min_by_key(|found| found.scenario.steps.len()) else { return };
    let seen = (least.finding.violation.property, least.scenario.steps.len());
    assert_eq!(seen, (property, steps), "{fault:?} is found as {least}");
}

#[test]
fn the_exclusive_suite_can_fail() {
    // A pool; take its one address, release it, take it twice with a fill.
    is_found(Fault::FreesTwice, &Suite::exclusive(), Exclusive, 4);
    is_found(Fault::ForgetsExclusions, &Suite::lifecycle(), Accounted, 2);
    is_found(Fault::SparesTheLast, &Suite::exclusive(), Complete, 2);
    is_found(Fault::ComparesTexts, &Suite::exclusive(), Exclusive, 3);
}

#[test]
fn the_lifecycle_suite_can_fail() {
    is_found(Fault::IgnoresTheOwner, &Suite::lifecycle(), Owned, 3);
    is_found(Fault::KeepsWhatIsReleased, &Suite::lifecycle(), Accounted, 3);
    is_found(Fault::ReleasesTheUnknown, &Suite::lifecycle(), Owned, 2);
    is_found(Fault::DeletesFullPools, &Suite::lifecycle(), Reconfigurable, 3);
}

#[test]
fn the_transactions_suite_can_fail() {
    // Begin; a pool; roll back: it is still there.
    is_found(Fault::KeepsOnRollback, &Suite::transactions(), Atomic, 3);
    is_found(Fault::KeepsOnRefusal, &Suite::transactions(), Atomic, 2);
}

#[test]
fn the_leases_suite_can_fail() {
    is_found(Fault::ExpiresLate, &Suite::leases(), Expiring, 3);
    is_found(Fault::ForgetsRenewals, &Suite::leases(), Expiring, 3);
}

#[test]
fn the_durability_suite_can_fail() {
    is_found(Fault::ForgetsInCrash, &Suite::durability(), Durable, 2);
    is_found(Fault::KeepsTransactionsInCrash, &Suite::durability(), Classified, 3);
}
