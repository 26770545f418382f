//! Scenarios: everything that influences a run, as data.
//!
//! A [`Scenario`] is a list of [`Step`]s. A step is a call, or a few calls under one name (fill,
//! drain), or something that happens to the system (restart, crash). Addresses may be symbolic, so
//! one scenario serves every system whatever addresses it hands out. [`print()`] and [`parse`] are
//! its text form: `parse(print(x)) = x`.

#[cfg(feature = "arbitrary")]
mod arbitrary;
pub(crate) mod names;
mod parse;
mod print;
mod request;
mod spell;
mod version;

use std::sync::Arc;

use crate::fault::Fault;
use crate::operation::{Operation, Text};

pub use parse::{ParseError, parse};
pub use print::print;
pub use spell::spell;

/// The first line of a scenario text in the newest version.
pub const HEADER: &str = "poolproof scenario 2";

/// What the first line says before the version.
const FORMAT: &str = "poolproof scenario ";

/// A list of steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scenario {
    /// The steps in order. Texts count them from 1.
    pub steps: Vec<Step>,
}

/// One line of a scenario.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// One call.
    Call(Operation<Operand>),
    /// Moves the virtual clock to a lease's expiry, `offset_ms` before or after.
    AdvanceTo {
        /// Whose lease.
        lease: GrantRef,
        /// Milliseconds after the expiry; negative before it.
        offset_ms: i64,
    },
    /// Allocates any address again and again, until refused or `count` times.
    Fill {
        /// The pool.
        pool: Text,
        /// Who takes them. Where the contract gives an owner only one address a pool, a number is
        /// added to the name.
        owner: Text,
        /// At most so many calls.
        count: u32,
        /// Length of each lease in milliseconds.
        ttl_ms: Option<u64>,
    },
    /// Releases what is held in a pool, lowest address first, each by its owner.
    Drain {
        /// The pool.
        pool: Text,
        /// At most so many calls.
        count: u32,
    },
    /// Sends an old step's call again as it was then: a stale message.
    Repeat {
        /// The old step, counted from 0.
        step: u32,
    },
    /// Lists everything, and asks for the usage of each pool: the whole state, as far as the system shows it.
    Audit,
    /// A clean restart of the system.
    Restart,
    /// A sudden death of the system, and a new start.
    Crash,
    /// Something that goes wrong within the next step that is no fault.
    Fault(Fault),
    /// In which order the callers of the lanes go on, each by its number from 0, wherever they can be interrupted. Whoever
    /// cannot interrupt them lets them run as they happen to.
    Turns(Vec<u8>),
    /// From here on come the steps of one more caller, which is at work at the same time as those of other lanes. Whoever
    /// cannot do several things at a time takes one lane after the other.
    Lane,
    /// All callers are done; from here on there is one again.
    Join,
}

/// "What step N was granted": the `nth` grant of a step, both counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantRef {
    /// The step.
    pub step: u32,
    /// Which of its grants.
    pub nth: u32,
}

/// An address in a scenario.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// As written, well formed or not.
    Literal(Text),
    /// What an earlier step was granted.
    Granted(GrantRef, Spelling),
    /// The address at this place in the pool's prefix: 0 is the first, -1 the last.
    Nth(i64, Spelling),
}

/// How an address is written. Spellings that do not exist for a family fall back to the usual one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Spelling {
    /// As everybody writes it.
    #[default]
    Plain,
    /// IPv6 in upper case: `2001:DB8::5`.
    Upper,
    /// IPv6 with every group and digit: `2001:0db8:0000:…`.
    Full,
    /// IPv6 with zeros but no `::`: `2001:db8:0:0:0:0:0:5`.
    Zeros,
    /// IPv6 with its tail as a dotted quad: `2001:db8::0.0.0.5`.
    Dotted,
    /// IPv4 mapped into IPv6: `::ffff:10.0.0.5`. No address of an IPv4 pool.
    Mapped,
    /// IPv4 with leading zeros: `010.000.000.005`. Malformed.
    Octal,
    /// With a zone: `fe80::5%eth0`. Malformed.
    Zone,
    /// With a space before it. Malformed.
    Space,
    /// As a prefix of full length: `10.0.0.5/32`. No address.
    Cidr,
    /// With a line feed behind it. Malformed.
    LineFeed,
}

impl Spelling {
    /// Every spelling.
    pub const ALL: [Spelling; 11] = [
        Spelling::Plain,
        Spelling::Upper,
        Spelling::Full,
        Spelling::Zeros,
        Spelling::Dotted,
        Spelling::Mapped,
        Spelling::Octal,
        Spelling::Zone,
        Spelling::Space,
        Spelling::Cidr,
        Spelling::LineFeed,
    ];

    /// Those that are well formed and mean the same as the usual one.
    pub const SAME: [Spelling; 4] = [Spelling::Upper, Spelling::Full, Spelling::Zeros, Spelling::Dotted];

    /// Its name in scenario texts.
    pub fn name(self) -> &'static str {
        match self {
            Spelling::Plain => "plain",
            Spelling::Upper => "upper",
            Spelling::Full => "full",
            Spelling::Zeros => "zeros",
            Spelling::Dotted => "dotted",
            Spelling::Mapped => "mapped",
            Spelling::Octal => "octal",
            Spelling::Zone => "zone",
            Spelling::Space => "space",
            Spelling::Cidr => "cidr",
            Spelling::LineFeed => "linefeed",
        }
    }
}

impl Step {
    /// The steps that this one refers to, each to be changed in place.
    pub fn references(&mut self) -> impl Iterator<Item = &mut u32> {
        let repeated = match self {
            Step::Repeat { step } => (Some(step), None),
            other => (None, Some(other)),
        };
        let granted = repeated.1.into_iter().flat_map(|step| step.grants().map(|grant| &mut grant.step));
        repeated.0.into_iter().chain(granted)
    }

    /// The grants that this one refers to, each to be changed in place.
    pub fn grants(&mut self) -> impl Iterator<Item = &mut GrantRef> {
        let mut found: smallvec::SmallVec<[&mut GrantRef; 2]> = smallvec::SmallVec::new();
        match self {
            Step::Call(operation) => {
                for operand in operation.addresses_mut() {
                    if let Operand::Granted(grant, _) = operand {
                        found.push(grant);
                    }
                }
            }
            Step::AdvanceTo { lease, .. } => found.push(lease),
            Step::Repeat { .. }
            | Step::Audit
            | Step::Fill { .. }
            | Step::Drain { .. }
            | Step::Restart
            | Step::Crash
            | Step::Fault(_)
            | Step::Turns(_)
            | Step::Lane
            | Step::Join => {}
        }
        found.into_iter()
    }
}

impl Scenario {
    /// Are there callers at work at the same time?
    pub fn has_lanes(&self) -> bool {
        self.steps.contains(&Step::Lane)
    }

    /// The same steps, one caller's after the other's.
    pub fn without_lanes(&self) -> Scenario {
        self.without(|index| matches!(self.steps[index], Step::Turns(_) | Step::Lane | Step::Join))
    }

    /// The scenario with one more step.
    pub(crate) fn followed_by(&self, step: &Step) -> Scenario {
        self.with(self.steps.len(), vec![step.clone()])
    }

    /// The scenario with these steps before the one at this place. References to what comes after them move along; what they
    /// themselves refer to must come before them.
    pub(crate) fn with(&self, at: usize, inserted: Vec<Step>) -> Scenario {
        let mut steps = Vec::with_capacity(self.steps.len() + inserted.len());
        let (before, after) = self.steps.split_at(at);
        let by = inserted.len() as u32;
        steps.extend(before.iter().cloned().chain(inserted).chain(after.iter().cloned()));
        for step in steps.iter_mut().skip(at + by as usize) {
            let later = step.references().filter(|reference| **reference as usize >= at);
            later.for_each(|reference| *reference = reference.saturating_add(by));
        }
        Scenario { steps }
    }

    /// The steps in another order, each with its number in the old one. References move with the steps; those that then
    /// point forward resolve to nothing.
    pub(crate) fn in_order(&self, order: &[usize]) -> Scenario {
        let place_of = |old: u32| order.iter().position(|index| *index == old as usize);
        let moved = order.iter().filter_map(|index| self.steps.get(*index)).map(|step| {
            let mut step = step.clone();
            for reference in step.references() {
                if let Some(place) = place_of(*reference) {
                    *reference = place as u32;
                }
            }
            step
        });
        Scenario { steps: moved.collect() }
    }

    /// The scenario without the steps for which `drop` holds. References to later steps move with
    /// them; steps that refer to a dropped one are dropped too.
    pub fn without(&self, drop: impl Fn(usize) -> bool) -> Scenario {
        let mut new_place: Vec<Option<u32>> = Vec::with_capacity(self.steps.len());
        let mut steps = Vec::with_capacity(self.steps.len());
        for (index, step) in self.steps.iter().enumerate() {
            let kept = if drop(index) { None } else { moved(step, &new_place) };
            new_place.push(kept.as_ref().map(|_| steps.len() as u32));
            steps.extend(kept);
        }
        self.renumber_lanes(&new_place, &mut steps);
        Scenario { steps }
    }

    /// Turns go with their lanes; those of a lane that is gone go with the one that its steps are in now.
    fn renumber_lanes(&self, new_place: &[Option<u32>], steps: &mut [Step]) {
        let lanes = self.steps.iter().zip(new_place).filter(|(step, _)| **step == Step::Lane);
        let mut kept = 0_u8;
        let new_number: Vec<u8> = lanes
            .map(|(_, place)| {
                kept = kept.saturating_add(u8::from(place.is_some()));
                kept.saturating_sub(1)
            })
            .collect();
        for step in steps {
            if let Step::Turns(order) = step {
                let known = order.iter_mut().filter_map(|lane| Some((new_number.get(usize::from(*lane))?, lane)));
                known.for_each(|(new, lane)| *lane = *new);
            }
        }
    }
}

/// The step with its references moved to new places; `None` when one is gone. References that
/// point forward never resolve and stay as they are.
fn moved(step: &Step, new_place: &[Option<u32>]) -> Option<Step> {
    let mut step = step.clone();
    for reference in step.references() {
        if let Some(place) = new_place.get(*reference as usize) {
            *reference = (*place)?;
        }
    }
    Some(step)
}

/// Text from a static or borrowed string.
pub fn text(value: &str) -> Text {
    Arc::from(value)
}
