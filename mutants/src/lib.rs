//! Faulty allocators of IP addresses, each with one defect that a real allocator had, or with one that breaks a property and,
//! as nearly as can be, no other.
//!
//! A check that cannot fail is worthless, so whoever tests allocators should be able to catch these. Each mutant is the
//! reference allocator but for one thing: it implements [`Faulty`], whose every method does by default what is right, and
//! has its defect only where it is told that the [`Bug`] is on.
//!
//! | module | mutants |
//! |---|---|
//! | [`double`] | that allocate twice, or overlapping |
//! | [`forbidden`] | that hand out what must not be |
//! | [`ownership`] | that confuse owners, or do things again |
//! | [`leaks`] | that leak, or do not roll back |
//! | [`exhaustion`] | that refuse although something is free |
//! | [`input`] | that stumble over input, or take for ever |
//! | [`persistence`] | that forget |
//! | [`concurrency`] | that leave something held, or let others come in between |
//! | [`time`] | that misjudge time, or use again too soon |
//! | [`properties`] | that break a property and, as nearly as can be, no other: three for each |
//!
//! Most of them show in calls one after another. Those that need I/O to fail within a call do it in the steps of [`io`], and say
//! so by [`Mutant::in_crash`]. Those that need callers at the same time are made of [critical sections](racing), and listed by
//! [`Mutant::racing`].
//!
//! To add one, write it in the file of its family, with a citation of where it comes from, and put it into that file's list.

pub mod base;
pub mod concurrency;
pub mod double;
pub mod exhaustion;
pub mod faulty;
pub mod forbidden;
pub mod input;
pub mod io;
pub mod leaks;
pub mod ownership;
pub mod persistence;
pub mod properties;
pub mod racing;
pub mod time;

pub use faulty::{Bug, Engine, Faulty, Make, Mutant};
pub use racing::Racing;

/// Every mutant with the name of its family, family by family.
pub fn all() -> impl Iterator<Item = (&'static str, &'static Mutant)> {
    let families = FAMILIES.into_iter().chain(properties::LISTS.map(|list| ("properties", list)));
    families.flat_map(|(family, mutants)| mutants.iter().map(move |mutant| (family, mutant)))
}

/// The mutant of that name.
pub fn find(id: &str) -> Option<&'static Mutant> {
    all().map(|(_, mutant)| mutant).find(|mutant| mutant.id == id)
}

/// The families of defects that real allocators had.
const FAMILIES: [(&str, &[Mutant]); 9] = [
    ("double", double::MUTANTS),
    ("forbidden", forbidden::MUTANTS),
    ("ownership", ownership::MUTANTS),
    ("leaks", leaks::MUTANTS),
    ("exhaustion", exhaustion::MUTANTS),
    ("input", input::MUTANTS),
    ("persistence", persistence::MUTANTS),
    ("concurrency", concurrency::MUTANTS),
    ("time", time::MUTANTS),
];
