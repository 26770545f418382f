//! Where an address lies in its pool: what was handed out, for the coverage, and why something must not be.

use super::coverage::{AddressClass, Coverage};
use super::layout::{Layout, edges};
use super::pool::Pool;
use crate::address::{Count, Family, Grant, Span};

/// Whoever walks through so many addresses takes long enough to be seen.
pub(super) const HUGE: u128 = 1 << 23;

/// Counts where what was handed out lies.
pub(super) fn count_granted(coverage: &mut Coverage, layout: &Layout, grant: Grant) {
    let span = grant.span();
    coverage.count_class(match layout.family {
        Family::V4 => AddressClass::GrantedV4,
        Family::V6 => AddressClass::GrantedV6,
    });
    if layout.allocatable.first().is_some_and(|first| first.first == span.first) {
        coverage.count_class(AddressClass::GrantedFirst);
    }
    if layout.allocatable.last().is_some_and(|last| last.last == span.last) {
        coverage.count_class(AddressClass::GrantedLast);
    }
    if layout.capacity >= Count::from(HUGE) {
        coverage.count_class(AddressClass::GrantedHuge);
    }
    if let Grant::Block(_) = grant {
        coverage.count_class(AddressClass::GrantedBlock);
    }
}

/// Why the pool must not hand this out.
pub(super) fn forbidden_because(pool: &Pool, span: Span) -> &'static str {
    match class_of_forbidden(pool, span) {
        Some(AddressClass::AskedEdge) => "that is an edge of the prefix",
        Some(AddressClass::AskedGateway) => "that is the gateway",
        Some(AddressClass::AskedExclusion) => "that is excluded",
        _ => "that is outside the pool's ranges",
    }
}

pub(super) fn class_of_forbidden(pool: &Pool, span: Span) -> Option<AddressClass> {
    let layout = &pool.layout;
    if !layout.prefix.covers(span) {
        return Some(AddressClass::AskedOutside);
    }
    if layout.gateway.is_some_and(|gateway| span.contains(gateway)) {
        return Some(AddressClass::AskedGateway);
    }
    if layout.excludes(span) {
        return Some(AddressClass::AskedExclusion);
    }
    let is_edge = edges(layout.family, layout.length, layout.prefix).any(|edge| edge.overlaps(span));
    is_edge.then_some(AddressClass::AskedEdge)
}
