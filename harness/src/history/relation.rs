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
    /// The other lists what is held, and what this one granted is not there, though nobody gave it back.
    Missing,
    /// It is the other.
    Same,
}

/// What a call touches.
#[derive(Default)]
struct Touched<'c> {
    grants: Vec<Grant>,
    pools: BTreeSet<&'c Text>,
    /// Does it touch all pools?
    is_everywhere: bool,
    makes: Option<&'c Text>,
}

/// These calls, and up to a dozen in all that began before an event and are the nearest to them; ascending.
pub(super) fn related(calls: &[Call], these: &[usize], before: Event) -> Vec<usize> {
    let mut touched = Touched::default();
    these.iter().for_each(|index| touched.add(&calls[*index]));
    let missing = missing(calls, these, before);
    let (surroundings, these) = (touched.surroundings(), these.iter().collect::<FxHashSet<_>>());
    let nearness = |index: usize| match () {
        () if these.contains(&index) => Nearness::Same,
        () if missing.contains(&index) => Nearness::Missing,
        () => surroundings.nearness(&calls[index]),
    };
    let earlier = (0..calls.len()).filter(|index| calls[*index].invoked < before);
    let mut near: Vec<(Nearness, Event, usize)> =
        earlier.map(|index| (nearness(index), calls[index].returned.min(before), index)).collect();
    near.sort_unstable_by(|one, other| other.cmp(one));
    near.retain(|(nearness, ..)| *nearness != Nearness::Far);
    let mut shown: Vec<usize> = near.into_iter().take(MOST_SHOWN).map(|(.., index)| index).collect();
    shown.sort_unstable();
    shown
}

/// The grants that began before an event, that these calls should have listed and did not, and that nobody gave back.
fn missing(calls: &[Call], these: &[usize], before: Event) -> FxHashSet<usize> {
    let mut missing = FxHashSet::default();
    for index in these {
        let Call { recorded, .. } = &calls[*index];
        let Operation::List { pool: asked } = &recorded.operation else { continue };
        let Outcome::Answered(Ok(Answer::Listed(listed))) = &recorded.outcome else { continue };
        let mut told: FxHashSet<(&Text, Grant)> = listed.iter().map(|one| (&one.pool, one.address)).collect();
        calls.iter().for_each(|call| told.extend(given_back(call)));
        for (index, call) in calls.iter().enumerate().filter(|(_, call)| call.invoked < before) {
            let in_question = |(pool, _): &(&Text, Grant)| asked.as_ref().is_none_or(|asked| asked == *pool);
            if granted(call).filter(in_question).any(|grant| !told.contains(&grant)) {
                missing.insert(index);
            }
        }
    }
    missing
}

/// What a call was granted.
fn granted(call: &Call) -> impl Iterator<Item = (&Text, Grant)> {
    let both = match (&call.recorded.operation, &call.recorded.outcome) {
        (Operation::Allocate { requests, .. }, Outcome::Answered(Ok(Answer::Granted { grants, .. }))) => {
            Some((requests, grants))
        }
        _ => None,
    };
    both.into_iter()
        .flat_map(|(requests, grants)| requests.iter().map(|request| &request.pool).zip(grants.iter().copied()))
}

/// What a call gave back, or may have.
fn given_back(call: &Call) -> Vec<(&Text, Grant)> {
    match (&call.recorded.operation, &call.recorded.outcome) {
        (_, Outcome::Answered(Err(_))) => Vec::new(),
        (Operation::Release { pool, address, .. }, _) => {
            address.meaning().map(|grant| (pool, grant)).into_iter().collect()
        }
        (_, Outcome::Answered(Ok(Answer::Released(released)))) => {
            released.iter().map(|(pool, grant)| (pool, *grant)).collect()
        }
        _ => Vec::new(),
    }
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
            Operation::List { pool: None } => self.is_everywhere = true,
            Operation::List { pool: Some(pool) } => {
                self.pools.insert(pool);
            }
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
        let spans = Family::ALL.map(|family| (family, of_family(family)));
        let is_everywhere = self.is_everywhere || self.pools.is_empty();
        Surroundings { spans, pools: self.pools, is_everywhere }
    }
}

/// What calls touch, for many others to be compared with.
struct Surroundings<'c> {
    /// Sorted and without overlaps.
    spans: [(Family, Vec<Span>); 2],
    pools: BTreeSet<&'c Text>,
    is_everywhere: bool,
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
        } else if other.makes.is_some_and(|pool| self.is_everywhere || self.pools.contains(pool)) {
            Nearness::Shape
        } else if self.is_everywhere || other.pools.iter().any(|pool| self.pools.contains(pool)) {
            Nearness::Pool
        } else {
            Nearness::Far
        }
    }
}
