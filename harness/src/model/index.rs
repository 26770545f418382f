//! Allocations by owner and by end, so that one owner's or those that end are found among very many.

use std::collections::BTreeSet;

use super::pool::Held;
use crate::operation::Text;

/// Allocations are named by pool and first address.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    by_owner: BTreeSet<(Text, Text, u128)>,
    /// By the first millisecond at which the lease may have ended.
    by_end: BTreeSet<(u64, Text, u128)>,
}

impl Index {
    pub(super) fn insert(&mut self, pool: &Text, first: u128, held: &Held) {
        self.by_owner.insert((held.owner.clone(), pool.clone(), first));
        if let Some(expiry) = held.expires {
            self.by_end.insert((expiry.at.earliest, pool.clone(), first));
        }
    }

    pub(super) fn remove(&mut self, pool: &Text, first: u128, held: &Held) {
        self.by_owner.remove(&(held.owner.clone(), pool.clone(), first));
        if let Some(expiry) = held.expires {
            self.by_end.remove(&(expiry.at.earliest, pool.clone(), first));
        }
    }

    /// What the owner holds.
    pub(super) fn of_owner(&self, owner: &Text) -> impl Iterator<Item = (&Text, u128)> {
        let from = (owner.clone(), Text::default(), 0);
        let own = self.by_owner.range(from..).take_while(move |(other, ..)| other == owner);
        own.map(|(_, pool, first)| (pool, *first))
    }

    /// What may have ended by this time, first ends first.
    pub(super) fn ended_by(&self, ms: u64) -> impl Iterator<Item = (&Text, u128)> {
        self.by_end.iter().take_while(move |(end, ..)| *end <= ms).map(|(_, pool, first)| (pool, *first))
    }

    /// When the first lease may end.
    pub(super) fn first_end(&self) -> Option<u64> {
        self.by_end.first().map(|(end, ..)| *end)
    }
}
