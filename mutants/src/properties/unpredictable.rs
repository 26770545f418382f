//! Mutants that promise random choice.

use poolproof_core::address::{Span, number};
use poolproof_core::operation::{Operation, Response};
use poolproof_core::property::Property::Unpredictable;

use crate::base::{AnyOne, Base, any_one, granted};
use crate::faulty::{Bug, Calls, Faulty, Mutant, Setting};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("unpredictable-lowest", &[Unpredictable], || Box::new(Calls(lowest))).in_steps(2).set(Setting::RANDOM),
    Mutant::new("unpredictable-few-bits", &[Unpredictable], || Box::new(Calls(few_bits)))
        .in_steps(2)
        .set(Setting::RANDOM),
    Mutant::new("unpredictable-strides", &[Unpredictable], || Box::new(Strides::default()))
        .in_steps(2)
        .set(Setting::RANDOM),
];

/// The lowest free address at or above one, or else the lowest.
fn at_or_above(base: &mut Base, asked: AnyOne<'_>, first: u128) -> Option<Response> {
    let above = base.lowest_free_in(asked.pool, Span { first, last: u128::MAX });
    let address = above.or_else(|| base.lowest_free(asked.pool))?;
    Some(base.grant(asked, address))
}

/// The lowest one.
fn lowest(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let asked = any_one(operation).filter(|_| bug.is_on());
    asked.and_then(|asked| at_or_above(base, asked, 0)).unwrap_or_else(|| base.call(operation))
}

/// The upper half of the bits of a number is not random.
fn few_bits(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    let (Some(asked), Some(address)) = (any_one(operation).filter(|_| bug.is_on()), granted(&response)) else {
        return response;
    };
    let Some((_, prefix)) = base.prefix(asked.pool) else { return response };
    let bits = prefix.count().saturated().ilog2() / 2;
    let Some(held) = base.holder(asked.pool, address) else { return response };
    let offset = number(address).wrapping_sub(prefix.first) & ((1 << bits) - 1);
    base.end(&held);
    at_or_above(base, asked, prefix.first.saturating_add(offset)).unwrap_or(response)
}

/// From the first address, which is random, it goes on in equal steps.
#[derive(Default)]
struct Strides {
    last: Option<u128>,
}

/// The length of a step: a prime number.
const STRIDE: u128 = 7919;

impl Faulty for Strides {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let Some(asked) = any_one(operation).filter(|_| bug.is_on()) else { return base.call(operation) };
        let next = self.last.and_then(|last| last.checked_add(STRIDE));
        let strode = next.and_then(|next| at_or_above(base, asked, next));
        let response = strode.unwrap_or_else(|| base.call(operation));
        self.last = granted(&response).map(number).or(self.last);
        response
    }
}
