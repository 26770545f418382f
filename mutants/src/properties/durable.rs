//! Mutants that forget over a restart or a crash.

use std::collections::BTreeMap;

use poolproof_allocator::Resource;
use poolproof_core::operation::{Answer, Operation, PoolShape, Response, Text};
use poolproof_core::property::Property::{Accounted, Durable, Expiring, Reconfigurable};
use poolproof_core::sut::Failure;

use crate::base::{Base, meant};
use crate::faulty::{Bug, Faulty, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("durable-renewals-are-lost", &[Durable, Expiring, Accounted], || Box::new(RenewalsAreLost::default()))
        .in_steps(4),
    Mutant::new("durable-updates-lost-in-a-crash", &[Durable, Reconfigurable, Accounted], || {
        Box::new(UpdatesLostInACrash::default())
    })
    .in_steps(3),
    Mutant::new("durable-clock-begins-anew", &[Durable, Expiring], || Box::new(ClockBeginsAnew::default())).in_steps(3),
];

/// A renewal changes what is in memory.
#[derive(Default)]
struct RenewalsAreLost {
    ends: BTreeMap<(Text, Resource), u64>,
}

impl Faulty for RenewalsAreLost {
    fn call(&mut self, base: &mut Base, operation: &Operation, _: Bug) -> Response {
        if let Operation::Renew { pool, address, .. } = operation
            && let Some(resource) = meant(address)
            && let Some(held) = base.held(pool).into_iter().find(|one| one.resource == resource)
            && let Some(end_ms) = held.expires_ms
            && !base.in_transaction()
        {
            self.ends.entry((pool.clone(), resource)).or_insert(end_ms);
        }
        base.call(operation)
    }

    fn restart(&mut self, base: &mut Base, bug: Bug) -> Result<(), Failure> {
        let now_ms = base.allocator().now_ms().unwrap_or(0);
        for ((pool, resource), end_ms) in std::mem::take(&mut self.ends) {
            let held = base.held(&pool).into_iter().find(|one| one.resource == resource);
            if let Some(held) = held.filter(|_| bug.is_on() && end_ms > now_ms) {
                // It is held.
                let _ = base.allocator().renew(&pool, resource, &held.owner, end_ms - now_ms);
            }
        }
        Ok(())
    }
}

/// An update is written when the process ends.
#[derive(Default)]
struct UpdatesLostInACrash {
    written: BTreeMap<Text, PoolShape>,
    unwritten: Vec<Text>,
}

impl Faulty for UpdatesLostInACrash {
    fn call(&mut self, base: &mut Base, operation: &Operation, _: Bug) -> Response {
        let response = base.call(operation);
        if response.is_err() || base.in_transaction() {
            return response;
        }
        match operation {
            Operation::CreatePool { pool, shape, .. } => {
                self.written.insert(pool.clone(), shape.clone());
                self.unwritten.retain(|other| other != pool);
            }
            Operation::UpdatePool { pool, .. } => self.unwritten.push(pool.clone()),
            _ => {}
        }
        response
    }

    fn restart(&mut self, _: &mut Base, _: Bug) -> Result<(), Failure> {
        self.written.clear();
        self.unwritten.clear();
        Ok(())
    }

    fn crash(&mut self, base: &mut Base, bug: Bug) -> Result<(), Failure> {
        for pool in self.unwritten.drain(..) {
            if let Some(shape) = self.written.get(&pool).filter(|_| bug.is_on()) {
                // What is held by now may forbid it.
                let _ = base.call(&Operation::UpdatePool { pool, shape: shape.clone() });
            }
        }
        Ok(())
    }
}

/// The clock is that of the process. Here only what it shows begins anew.
#[derive(Default)]
struct ClockBeginsAnew {
    began_ms: u64,
}

impl Faulty for ClockBeginsAnew {
    fn call(&mut self, base: &mut Base, operation: &Operation, _: Bug) -> Response {
        match base.call(operation) {
            Ok(Answer::Now { now_ms }) => Ok(Answer::Now { now_ms: now_ms.saturating_sub(self.began_ms) }),
            response => response,
        }
    }

    fn restart(&mut self, base: &mut Base, bug: Bug) -> Result<(), Failure> {
        if bug.is_on() {
            self.began_ms = base.allocator().now_ms().unwrap_or(0);
        }
        Ok(())
    }
}
