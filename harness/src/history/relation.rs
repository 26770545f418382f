//! Which calls are shown with one that no order explains: those that touch what it touches, and the latest of them first.

use std::collections::BTreeSet;

use rustc_hash::FxHashSet;

use super::{Call, Event, MOST_SHOWN, Outcome};
use crate::address::{Family, Grant, Span};
use crate::model::spans::{merge, overlapping};
use crate::operation::{Answer, Operation, Text, Want, Written};

/// How near a call is to another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    Far,
    /// It touches a pool that the other touches.
    Pool,
    /// It makes, changes or deletes such a pool.
    Shape,
    /// It touches an address that the other touches.
    Address,
    /// It is the other.
    Same,
}

/// What a call touches.
#[derive(Default)]
struct Touched<'c> {
    grants: Vec<Grant>,
    pools: BTreeSet<&'c Text>,
    makes: Option<&'c Text>,
}

/// These calls, and up to a dozen in all that began before an event and are the nearest to them; ascending.
pub(super) fn related(calls: &[Call], these: &[usize], before: Event) -> Vec<usize> {
    let mut touched = Touched::default();
    these.iter().for_each(|index| touched.add(&calls[*index]));
    let (surroundings, these) = (touched.surroundings(), these.iter().collect::<FxHashSet<_>>());
    let nearness =
        |index: usize| if these.contains(&index) { Nearness::Same } else { surroundings.nearness(&calls[index]) };
    let earlier = (0..calls.len()).filter(|index| calls[*index].invoked < before);
    let mut near: Vec<(Nearness, Event, usize)> =
        earlier.map(|index| (nearness(index), calls[index].returned.min(before), index)).collect();
    near.sort_unstable_by(|one, other| other.cmp(one));
    near.retain(|(nearness, ..)| *nearness != Nearness::Far);
    let mut shown: Vec<usize> = near.into_iter().take(MOST_SHOWN).map(|(.., index)| index).collect();
    shown.sort_unstable();
    shown
}

impl<'c> Touched<'c> {
    fn of(call: &'c Call) -> Touched<'c> {
        let mut touched = Touched::default();
        touched.add(call);
        touched
    }

    fn add(&mut self, call: &'c Call) {
        match &call.recorded.operation {
            Operation::CreatePool { pool, .. }
            | Operation::UpdatePool { pool, .. }
            | Operation::DeletePool { pool } => {
                self.pools.insert(pool);
                self.makes = Some(pool);
            }
            Operation::Allocate { requests, .. } => {
                for request in requests {
                    self.pools.insert(&request.pool);
                    if let Want::Named(written) = &request.want {
                        self.name(written);
                    }
                }
            }
            Operation::Release { pool, address, .. } | Operation::Renew { pool, address, .. } => {
                self.pools.insert(pool);
                self.name(address);
            }
            Operation::List { pool } => self.pools.extend(pool),
            Operation::Usage { pool } => {
                self.pools.insert(pool);
            }
            _ => {}
        }
        if let Outcome::Answered(Ok(answer)) = &call.recorded.outcome {
            self.add_answer(answer);
        }
    }

    fn add_answer(&mut self, answer: &'c Answer) {
        match answer {
            Answer::Granted { grants, .. } => self.grants.extend(grants),
            Answer::Released(released) => {
                for (pool, grant) in released {
                    self.pools.insert(pool);
                    self.grants.push(*grant);
                }
            }
            // Everything is listed, and everything would be near.
            Answer::Listed(listed) => self.pools.extend(listed.iter().map(|one| &one.pool)),
            _ => {}
        }
    }

    fn name(&mut self, written: &Written) {
        self.grants.extend(written.meaning());
    }

    fn surroundings(self) -> Surroundings<'c> {
        let of_family = |family| {
            let of_it = self.grants.iter().filter(|grant| grant.family() == family);
            let mut spans = of_it.map(|grant| grant.span()).collect();
            merge(&mut spans);
            spans
        };
        Surroundings { spans: Family::ALL.map(|family| (family, of_family(family))), pools: self.pools }
    }
}

/// What calls touch, for many others to be compared with.
struct Surroundings<'c> {
    /// Sorted and without overlaps.
    spans: [(Family, Vec<Span>); 2],
    pools: BTreeSet<&'c Text>,
}

impl Surroundings<'_> {
    fn meets(&self, grant: &Grant) -> bool {
        let of_family = self.spans.iter().filter(|(family, _)| *family == grant.family());
        of_family.into_iter().any(|(_, spans)| overlapping(spans, grant.span()).next().is_some())
    }

    fn nearness(&self, call: &Call) -> Nearness {
        let other = Touched::of(call);
        if other.grants.iter().any(|grant| self.meets(grant)) {
            Nearness::Address
        } else if other.makes.is_some_and(|pool| self.pools.contains(pool)) {
            Nearness::Shape
        } else if other.pools.iter().any(|pool| self.pools.contains(pool)) || self.pools.is_empty() {
            Nearness::Pool
        } else {
            Nearness::Far
        }
    }
}
