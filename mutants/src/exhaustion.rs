//! Refusals although something is free.

use std::collections::BTreeMap;

use poolproof_core::address::{Family, Span, number, parse_address, parse_prefix};
use poolproof_core::operation::{Kind, Operation, PoolShape, Response, Text};
use poolproof_core::property::Property::{Complete, Released, Scoped};

use crate::base::{AnyOne, Base, any_one, refuse, span};
use crate::faulty::{Bug, Calls, Faulty, Mutant};

/// The mutants here.
pub const MUTANTS: &[Mutant] = &[
    Mutant::new("max-plus-one", &[Complete, Released], || Box::new(Calls(max_plus_one))).in_steps(3),
    Mutant::new("excluded-first-livelock", &[Complete], || Box::new(ExcludedFirstLivelock::default())).in_steps(2),
    Mutant::new("size-one-range", &[Complete], || Box::new(Calls(size_one_range))).in_steps(2),
    Mutant::new("one-bad-item-blocks-all", &[Complete, Scoped], || Box::new(Calls(one_bad_item_blocks_all)))
        .in_steps(2),
];

/// The call, if it is for any address of a pool that there is, and the pool's spans.
fn asked_of<'a>(base: &mut Base, operation: &'a Operation, bug: Bug) -> Option<(AnyOne<'a>, Family, Vec<Span>)> {
    let asked = any_one(operation).filter(|asked| bug.is_on() && asked.ttl_ms != Some(0))?;
    let (family, spans) = base.allocatable(asked.pool)?;
    Some((asked, family, spans))
}

/// dora (`insert_max_in_range`): the next address is the highest one held and one more.
fn max_plus_one(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let Some((asked, family, spans)) = asked_of(base, operation, bug) else { return base.call(operation) };
    let Some(highest) = base.held(asked.pool).iter().map(|one| span(&one.resource).last).max() else {
        return base.call(operation);
    };
    let above = spans.iter().find(|span| span.last > highest);
    match above.map(|span| span.first.max(highest.saturating_add(1))) {
        Some(next) => base.grant(asked, family.address(next)),
        None => refuse(Kind::Exhausted),
    }
}

/// dora (the branch for an empty range): the first address of the range is chosen without a look at the exclusions, rejected,
/// and chosen again.
#[derive(Default)]
struct ExcludedFirstLivelock {
    starts: BTreeMap<Text, u128>,
}

impl Faulty for ExcludedFirstLivelock {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        if let Some((asked, _, spans)) = asked_of(base, operation, bug)
            && base.held(asked.pool).is_empty()
            && let Some(start) = self.starts.get(asked.pool)
            && !spans.iter().any(|span| span.contains(*start))
        {
            return refuse(Kind::Exhausted);
        }
        let answer = base.call(operation)?;
        match operation {
            Operation::CreatePool { pool, prefix, shape } => {
                let first = parse_prefix(prefix).map(Span::of_prefix).map(|span| span.first.saturating_add(1));
                self.starts.extend(first_of(shape).or(first).map(|first| (pool.clone(), first)));
            }
            Operation::UpdatePool { pool, shape } => {
                self.starts.extend(first_of(shape).map(|first| (pool.clone(), first)));
            }
            _ => {}
        }
        Ok(answer)
    }
}

/// The first address of the ranges.
fn first_of(shape: &PoolShape) -> Option<u128> {
    shape.ranges.iter().filter_map(|(first, _)| parse_address(first)).map(number).min()
}

/// libnetwork (291de3df), Kea (#4444), vm-allocator (e55eb23), omicron (#10748): a range whose end is its start is taken for
/// empty. (Of the pools of one and two addresses in the same reports, this is the one whose whole range is an address.)
fn size_one_range(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    match asked_of(base, operation, bug) {
        Some((.., spans)) if matches!(spans.as_slice(), [span] if span.first == span.last) => refuse(Kind::Exhausted),
        _ => base.call(operation),
    }
}

/// omicron (oxidecomputer/omicron#9342), metal3 (#988), weave (d1bba977): the search ends at the first range that is full.
fn one_bad_item_blocks_all(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    if let Some((asked, _, spans)) = asked_of(base, operation, bug)
        && let [first, _, ..] = spans.as_slice()
        && base.lowest_free_in(asked.pool, *first).is_none()
    {
        return refuse(Kind::Exhausted);
    }
    base.call(operation)
}
