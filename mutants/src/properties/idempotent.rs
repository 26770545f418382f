//! Mutants to which a repeated call is another one, or a new one a repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use poolproof_core::operation::{Answer, Kind, Operation, Response, Text};
use poolproof_core::property::Property::{Idempotent, Owned, Reconfigurable};

use super::released;
use crate::base::{Base, any_one, is_refused};
use crate::faulty::{Bug, Faulty, Mutant, Setting};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("idempotent-third-time-another", &[Idempotent], || Box::new(ThirdTimeAnother::default()))
        .in_steps(4)
        .set(Setting::SAME),
    Mutant::new("idempotent-released-twice", &[Idempotent, Owned], || Box::new(ReleasedTwice::default())).in_steps(4),
    Mutant::new("idempotent-deleted-twice", &[Idempotent, Reconfigurable], || Box::new(DeletedTwice::default()))
        .in_steps(3),
];

/// What an owner has is remembered for two calls.
#[derive(Default)]
struct ThirdTimeAnother {
    times: BTreeMap<(Text, Text), u32>,
}

impl Faulty for ThirdTimeAnother {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let Some(asked) = any_one(operation) else { return base.call(operation) };
        let times = self.times.entry((asked.pool.clone(), asked.owner.clone())).or_default();
        *times += 1;
        if bug.is_on() && *times >= 3 && base.held(asked.pool).iter().any(|one| one.owner == *asked.owner) {
            *times = 0;
            if let Some(address) = base.lowest_free(asked.pool) {
                return base.grant(asked, address);
            }
        }
        base.call(operation)
    }
}

/// What was released is released, whoever says so and how often.
#[derive(Default)]
struct ReleasedTwice {
    released: BTreeSet<(Text, IpAddr)>,
}

impl Faulty for ReleasedTwice {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let response = base.call(operation);
        let Some((pool, address)) = released(operation) else { return response };
        let key = (pool.clone(), address);
        if bug.is_on() && is_refused(&response, Kind::NotFound) && self.released.contains(&key) {
            return Ok(Answer::Done);
        }
        if response.is_ok() {
            self.released.insert(key);
        }
        response
    }
}

/// A pool that was deleted is deleted, however often.
#[derive(Default)]
struct DeletedTwice {
    deleted: BTreeSet<Text>,
}

impl Faulty for DeletedTwice {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let response = base.call(operation);
        let Operation::DeletePool { pool } = operation else { return response };
        if bug.is_on() && is_refused(&response, Kind::NotFound) && self.deleted.contains(pool) {
            return Ok(Answer::Done);
        }
        if response.is_ok() {
            self.deleted.insert(pool.clone());
        }
        response
    }
}
