//! How the free space of a pool changes when one address is taken or given back.
//!
//! Invariant: a pool's free spans are disjoint and never touch, so each is as long as it can be, and the lowest free
//! address is where the first one starts. Each change is a fixed number of ordered look-ups.

use crate::error::Result;
use crate::span::Span;
use crate::store::{PoolId, Store};

/// Takes a given address; `false` if it is not free.
pub(crate) fn take<S: Store>(store: &mut S, pool: PoolId, address: u128) -> Result<bool> {
    match store.free_from(pool, address)? {
        Some(span) if span.contains(address) => carve(store, pool, span, address).map(|()| true),
        _ => Ok(false),
    }
}

/// Takes the lowest free address, if there is one.
pub(crate) fn take_lowest<S: Store>(store: &mut S, pool: PoolId) -> Result<Option<u128>> {
    let Some(span) = store.free_from(pool, 0)? else {
        return Ok(None);
    };
    carve(store, pool, span, span.first())?;
    Ok(Some(span.first()))
}

/// Makes an address free that is held.
pub(crate) fn give_back<S: Store>(store: &mut S, pool: PoolId, address: u128) -> Result<()> {
    // What ends no lower than the address below is the neighbour below or, without one, the first span above.
    let mut next = store.free_from(pool, address.saturating_sub(1))?;
    let below = next.filter(|span| span.last() < address);
    if let Some(below) = below {
        next = store.free_from(pool, address)?;
        store.remove_free(pool, below.last())?;
    }
    let above = next.filter(|span| address.checked_add(1) == Some(span.first()));
    let first = below.map_or(address, Span::first);
    let last = above.map_or(address, Span::last);
    Span::new(first, last).map_or(Ok(()), |span| store.put_free(pool, span))
}

/// Takes an address out of the free span around it. What is left above replaces the span, since it ends alike.
fn carve<S: Store>(store: &mut S, pool: PoolId, span: Span, address: u128) -> Result<()> {
    match span.above(address) {
        Some(above) => store.put_free(pool, above)?,
        None => store.remove_free(pool, span.last())?,
    }
    span.below(address).map_or(Ok(()), |below| store.put_free(pool, below))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Family;
    use crate::memory::MemoryStore;
    use crate::pool::Prefix;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A store with one pool whose free space is one span.
    fn store(span: Span) -> (MemoryStore, PoolId) {
        let mut store = MemoryStore::default();
        let pool = store.insert_pool("p0", Prefix { family: Family::Ipv6, span }).unwrap();
        store.reshape_pool(pool, span.size(), &[span]).unwrap();
        (store, pool)
    }

    fn spans(store: &mut MemoryStore, pool: PoolId) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut next = Some(0);
        while let Some(span) = next.and_then(|from| store.free_from(pool, from).unwrap()) {
            spans.push(span);
            next = span.last().checked_add(1);
        }
        spans
    }

    proptest! {
        #[test]
        fn free_spans_are_the_free_addresses_and_never_touch(
            picks in proptest::collection::vec(proptest::option::of(0_u128..12), 0..60),
            at_top in any::<bool>(),
        ) {
            let base = if at_top { u128::MAX - 11 } else { 0 };
            let (mut store, pool) = store(Span::new(base, base + 11).unwrap());
            let mut free: BTreeSet<u128> = (base..=base + 11).collect();
            for pick in picks {
                match pick.map(|offset| base + offset) {
                    None => prop_assert_eq!(take_lowest(&mut store, pool).unwrap(), free.pop_first()),
                    Some(address) if free.remove(&address) => prop_assert!(take(&mut store, pool, address).unwrap()),
                    Some(address) => {
                        prop_assert!(!take(&mut store, pool, address).unwrap());
                        give_back(&mut store, pool, address).unwrap();
                        free.insert(address);
                    }
                }
                let spans = spans(&mut store, pool);
                let covered: BTreeSet<u128> = spans.iter().flat_map(|span| span.first()..=span.last()).collect();
                prop_assert_eq!(&covered, &free);
                prop_assert!(spans.windows(2).all(|pair| pair[0].last() + 1 < pair[1].first()));
            }
        }
    }
}
