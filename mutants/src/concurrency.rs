//! What is left held when a call ends, and callers who come in between.

use std::collections::BTreeSet;

use poolproof_core::address::number;
use poolproof_core::operation::{Kind, Operation, Response, Text};
use poolproof_core::property::Property::{
    Accounted, Classified, Complete, Exclusive, Linearizable, Owned, Tidy, Total,
};
use poolproof_core::sut::Failure;

use crate::base::{Base, any_one, is_refused, refuse};
use crate::faulty::{Bug, Faulty, Mutant};
use crate::racing::{Common, Held, Racing, Sections};

/// The mutants here.
pub const MUTANTS: &[Mutant] = &[
    Mutant::new("tx-or-stmt-left-open", &[Tidy, Total, Classified], || Box::new(TxLeftOpen::default())).in_steps(3),
    Mutant::racing("read-pick-insert", &[Exclusive, Linearizable], || Box::new(Sections(read_pick_insert))).in_steps(6),
    Mutant::racing("lost-update", &[Linearizable, Accounted], || Box::new(Sections(lost_update))).in_steps(6),
    Mutant::racing("stale-full-flag", &[Complete, Linearizable], || Box::new(StaleFullFlag::default())).in_steps(8),
    Mutant::racing("collisions-eat-the-retries", &[Complete, Linearizable], || {
        Box::new(Sections(collisions_eat_the_retries))
    })
    .in_steps(6),
    Mutant::racing("gc-snapshot-order", &[Linearizable, Accounted, Exclusive, Owned], || {
        Box::new(Sections(gc_snapshot_order))
    })
    .in_steps(7),
    Mutant::new("lock-order-and-stuck-holder", &[Tidy, Total], || Box::new(StuckHolder::default())).in_steps(3),
];

/// go-ipam (9bdc2dc), coredhcp (321f8a6): an early return between BEGIN and COMMIT. Whatever writes after that would begin a
/// transaction within a transaction, until the process ends.
#[derive(Default)]
struct TxLeftOpen {
    is_open: bool,
}

impl Faulty for TxLeftOpen {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let is_read = matches!(operation, Operation::List { .. } | Operation::Usage { .. });
        if self.is_open && bug.is_on() && !is_read {
            return refuse(Kind::Storage);
        }
        let response = base.call(operation);
        if matches!(operation, Operation::CreatePool { .. }) && is_refused(&response, Kind::Conflict) {
            self.is_open = true;
        }
        response
    }

    fn restart(&mut self, _: &mut Base, _: Bug) -> Result<(), Failure> {
        self.is_open = false;
        Ok(())
    }
}

/// netbox (#2519, #3475, #10282), apache/cloudstack (#7907), headscale (eda0a9f8): lists what is used, picks the first that is
/// free, and inserts it, with neither a lock nor a unique index.
fn read_pick_insert(common: &Common, operation: &Operation, bug: Bug) -> Response {
    let Some(asked) = any_one(operation).filter(|_| bug.is_on()) else { return common.call(operation) };
    let Some(picked) = common.section(|held| held.base.lowest_free(asked.pool)) else { return common.call(operation) };
    common.section(|held| match held.base.grant(asked, picked) {
        taken if is_refused(&taken, Kind::Conflict) => held.base.pretend_one(asked, picked),
        response => response,
    })
}

/// libnetwork (742900cf, 93eccb7f), go-ipam (8a01530): copies the state, changes the copy, and writes it back. Who does that
/// later erases what others did meanwhile. Each owner has a part of the pool of its own, so that they do not collide.
fn lost_update(common: &Common, operation: &Operation, bug: Bug) -> Response {
    let Some(asked) = any_one(operation).filter(|_| bug.is_on()) else { return common.call(operation) };
    let parity = u128::from(asked.owner.len() as u8 ^ asked.owner.bytes().last().unwrap_or(0)) % 2;
    let (copy, picked) = common.section(|held| {
        let picked = held.base.lowest_free_that(asked.pool, |address| number(address) % 2 == parity);
        (held.base.held(asked.pool), picked)
    });
    let Some(picked) = picked else { return common.call(operation) };
    common.section(|held| {
        let is_new = |one: &poolproof_allocator::Allocation| copy.iter().all(|old| old.resource != one.resource);
        let erased: Vec<_> = held.base.held(asked.pool).into_iter().filter(is_new).collect();
        erased.iter().for_each(|one| held.base.end(one));
        held.base.grant(asked, picked)
    })
}

/// libnetwork (#1933), Kubernetes (#85894, #92285): each instance remembers that a pool was full, and refuses before it looks at
/// what all share, though others may have given something back.
#[derive(Default)]
struct StaleFullFlag {
    full: BTreeSet<Text>,
}

impl Racing for StaleFullFlag {
    fn call(&mut self, common: &Common, operation: &Operation, bug: Bug) -> Response {
        let asked = any_one(operation).map(|asked| asked.pool.clone());
        if let Some(pool) = &asked
            && bug.is_on()
            && self.full.contains(pool)
        {
            return refuse(Kind::Exhausted);
        }
        let response = common.call(operation);
        if let Some(pool) = asked
            && is_refused(&response, Kind::Exhausted)
        {
            self.full.insert(pool);
        } else if response.is_ok() {
            // What it gives back itself it knows.
            self.full.clear();
        }
        response
    }
}

/// Meridio (Nordix/Meridio#569), FreeRADIUS (PR #3544), NIPAP (#1175): picks, collides with somebody, picks again, and after two
/// collisions says that the pool is full.
fn collisions_eat_the_retries(common: &Common, operation: &Operation, bug: Bug) -> Response {
    let Some(asked) = any_one(operation).filter(|_| bug.is_on()) else { return common.call(operation) };
    for _ in 0..2 {
        let Some(picked) = common.section(|held| held.base.lowest_free(asked.pool)) else {
            return common.call(operation);
        };
        let response = common.section(|held| held.base.grant(asked, picked));
        if !is_refused(&response, Kind::Conflict) {
            return response;
        }
    }
    refuse(Kind::Exhausted)
}

/// Kubernetes (#37488), Cilium (#32531), whereabouts (47e5b17d): a collector looks first who there is and then what is held, and
/// frees what nobody holds that it has seen. Who came in between loses what was just granted. Here it comes when an owner goes.
fn gc_snapshot_order(common: &Common, operation: &Operation, bug: Bug) -> Response {
    if !matches!(operation, Operation::ReleaseOwner { .. }) || !bug.is_on() {
        return common.call(operation);
    }
    let all = |held: &mut Held| held.base.allocator().list(None).unwrap_or_default();
    let owners: BTreeSet<Text> = common.section(|held| all(held).into_iter().map(|one| one.owner).collect());
    let response = common.call(operation);
    common.section(|held| {
        let orphans = all(held).into_iter().filter(|one| !owners.contains(&one.owner));
        orphans.for_each(|one| held.base.end(&one));
    });
    response
}

/// whereabouts (2a2c93c8), containernetworking/plugins (#561): the locks of several pools are taken one after the other, and
/// whoever fails at one of them keeps those that it has. From then on everybody waits for it.
#[derive(Default)]
struct StuckHolder {
    locked: BTreeSet<Text>,
}

impl Faulty for StuckHolder {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let Operation::Allocate { requests, .. } = operation else { return base.call(operation) };
        if requests.iter().any(|request| self.locked.contains(&request.pool)) {
            return refuse(Kind::Busy);
        }
        let response = base.call(operation);
        if response.is_err() && bug.is_on() {
            let held = requests.iter().rev().skip(1).map(|request| request.pool.clone());
            self.locked.extend(held.filter(|pool| base.allocatable(pool).is_some()));
        }
        response
    }

    fn restart(&mut self, _: &mut Base, _: Bug) -> Result<(), Failure> {
        self.locked.clear();
        Ok(())
    }
}
