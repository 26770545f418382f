//! Mutants that refuse although something is free.

use std::collections::{BTreeMap, BTreeSet};

use poolproof_core::address::{Span, number};
use poolproof_core::operation::{Kind, Operation, Request, Response, Text, Want};
use poolproof_core::property::Property::{Complete, Expiring, Released};

use crate::base::{Base, any_one, granted, is_refused, refuse};
use crate::faulty::{Bug, Calls, Faulty, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("complete-keeps-the-last-one", &[Complete], || Box::new(Calls(keeps_the_last_one))).in_steps(2),
    Mutant::new("complete-full-for-ever", &[Complete, Released, Expiring], || Box::new(FullForEver::default()))
        .in_steps(4),
    Mutant::new("complete-named-moves-the-start", &[Complete, Expiring], || Box::new(NamedMovesTheStart::default()))
        .in_steps(3),
];

/// The last free address is compared with `<` where `<=` is meant.
fn keeps_the_last_one(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    if let Some(asked) = any_one(operation).filter(|_| bug.is_on())
        && let Ok(usage) = base.allocator().usage(asked.pool)
        && usage.free() == 1
        && usage.allocatable > 1
    {
        return refuse(Kind::Exhausted);
    }
    base.call(operation)
}

/// A pool that was full once is marked so, and no release takes the mark away.
#[derive(Default)]
struct FullForEver {
    full: BTreeSet<Text>,
}

impl Faulty for FullForEver {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let Some(asked) = any_one(operation).filter(|asked| base.prefix(asked.pool).is_some()) else {
            return base.call(operation);
        };
        if bug.is_on() && self.full.contains(asked.pool) {
            return refuse(Kind::Exhausted);
        }
        let response = base.call(operation);
        if is_refused(&response, Kind::Exhausted) {
            self.full.insert(asked.pool.clone());
        }
        response
    }
}

/// Whatever was named last is where the search for any address begins, and it does not come round.
#[derive(Default)]
struct NamedMovesTheStart {
    starts: BTreeMap<Text, u128>,
}

impl Faulty for NamedMovesTheStart {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        if let Some(asked) = any_one(operation)
            && let Some(start) = self.starts.get(asked.pool).filter(|_| bug.is_on())
            && base.prefix(asked.pool).is_some()
        {
            let above = Span { first: *start, last: u128::MAX };
            return match base.lowest_free_in(asked.pool, above) {
                Some(address) => base.grant(asked, address),
                None => refuse(Kind::Exhausted),
            };
        }
        let response = base.call(operation);
        if let Operation::Allocate { requests, .. } = operation
            && let [Request { pool, want: Want::Named(_) }] = requests.as_slice()
            && let Some(address) = granted(&response)
        {
            self.starts.insert(pool.clone(), number(address).saturating_add(1));
        }
        response
    }
}
