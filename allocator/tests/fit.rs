//! A call is refused only if what it asks for does not fit, however it were placed: here every placement is tried.

mod common;

use std::cell::RefCell;

use common::naive::NaiveStore;
use common::{for_some, resource, spec};
use poolproof_allocator::store::Store;
use poolproof_allocator::{Allocator, Policy, Request, Strategy as Choice};
use proptest::collection::vec;
use proptest::prelude::*;

/// A bit for each address of fd00::/124, of which the first one is reserved.
type Places = u32;
const ALL: Places = 0xfffe;

#[derive(Clone, Debug)]
enum Wish {
    Any(u32),
    Block(u8),
    Named { first: u32, host_bits: u8 },
}

fn block(first: u32, host_bits: u8) -> Places {
    let size = 1 << host_bits;
    ((1 << size) - 1) << (first / size * size)
}

fn name(first: u32, host_bits: u8) -> String {
    format!("fd00::{:x}/{}", first >> host_bits << host_bits, 128 - host_bits)
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        2 => (1_u32..4).prop_map(Wish::Any),
        3 => (0_u8..4).prop_map(Wish::Block),
        1 => (0_u32..16, 0_u8..3).prop_map(|(first, host_bits)| Wish::Named { first, host_bits }),
    ]
}

impl Wish {
    fn request(&self) -> Request<'static> {
        match self {
            Self::Any(count) => Request::several("p0", *count),
            Self::Block(host_bits) => Request::block("p0", 128 - host_bits),
            Self::Named { first, host_bits } => Request::named("p0", resource(&name(*first, *host_bits))),
        }
    }

    /// How many single addresses it asks for.
    fn singles(&self) -> u32 {
        if let Self::Any(count) = self { *count } else { 0 }
    }

    /// All the places that a block could have.
    fn places(&self) -> Vec<Places> {
        match self {
            Self::Any(_) => vec![0],
            Self::Block(host_bits) => (0..16).step_by(1 << host_bits).map(|first| block(first, *host_bits)).collect(),
            Self::Named { first, host_bits } => vec![block(*first, *host_bits)],
        }
    }
}

/// Whether there is a placement of blocks that leaves so many single addresses.
fn fits(free: Places, blocks: &[Wish], singles: u32) -> bool {
    let Some((first, rest)) = blocks.split_first() else {
        return free.count_ones() >= singles;
    };
    let mut places = first.places().into_iter();
    places.any(|place| place & !free == 0 && fits(free & !place, rest, singles))
}

fn refused_only_if_nothing_fits<S: Store>(allocator: Allocator<S>) {
    let allocator = RefCell::new(allocator);
    let held = vec((0_u32..16, 0_u8..3), 0..5);
    let strategy = prop_oneof![Just(Choice::Lowest), Just(Choice::Next), Just(Choice::Random)];
    for_some(20_000, &(strategy, held, vec(wish(), 1..6)), |(strategy, held, wishes)| {
        let mut allocator = allocator.borrow_mut();
        allocator.reset().unwrap();
        let policy = Policy { strategy, ..Policy::default() };
        allocator.create_pool("p0", &spec("fd00::/124").with_policy(policy)).unwrap();
        let mut free = ALL;
        for (first, host_bits) in held {
            let request = Request::named("p0", resource(&name(first, host_bits)));
            if allocator.allocate("holder", &[request], None).is_ok() {
                free &= !block(first, host_bits);
            }
        }
        let requests: Vec<_> = wishes.iter().map(Wish::request).collect();
        let is_granted = allocator.allocate("a", &requests, None).is_ok();
        assert_eq!(is_granted, fits(free, &wishes, wishes.iter().map(Wish::singles).sum()));
        assert_eq!(allocator.audit().unwrap(), []);
    });
}

#[test]
fn complete_a_call_is_refused_only_if_no_placement_fits() {
    refused_only_if_nothing_fits(Allocator::in_memory());
    refused_only_if_nothing_fits(Allocator::with_store(NaiveStore::default()));
}
