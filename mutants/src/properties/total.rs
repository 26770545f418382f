//! Mutants that panic.

use poolproof_core::address::{Family, number};
use poolproof_core::operation::{Operation, Response};
use poolproof_core::property::Property::Total;

use crate::base::{Base, granted};
use crate::faulty::{Bug, Calls, Mutant};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant::new("total-top-of-the-space", &[Total], || Box::new(Calls(top_of_the_space))).in_steps(2),
    Mutant::new("total-time-in-32-bits", &[Total], || Box::new(Calls(time_in_32_bits))).in_steps(2),
    Mutant::new("total-cut-within-a-character", &[Total], || Box::new(Calls(cut_within_a_character))).in_steps(1),
];

/// The address behind the one that was granted is worked out, and there may be none.
fn top_of_the_space(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Some(address) = granted(&response).filter(|_| bug.is_on()) {
        let last = match Family::of(address) {
            Family::V4 => u32::MAX.into(),
            Family::V6 => u128::MAX,
        };
        assert!(number(address) < last, "attempt to add with overflow");
    }
    response
}

/// The end of a lease has 32 bits.
fn time_in_32_bits(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if let Operation::Allocate { ttl_ms: Some(ttl_ms), .. } = operation
        && bug.is_on()
        && response.is_ok()
    {
        let now_ms = base.allocator().now_ms().unwrap_or(0);
        assert!(u32::try_from(now_ms + ttl_ms).is_ok(), "attempt to convert with overflow");
    }
    response
}

/// Names are cut for the log, wherever that is.
fn cut_within_a_character(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    if let Operation::Allocate { owner, .. } = operation
        && bug.is_on()
    {
        let cut = owner.len().min(3);
        assert!(owner.is_char_boundary(cut), "byte index {cut} is not a char boundary");
    }
    base.call(operation)
}
