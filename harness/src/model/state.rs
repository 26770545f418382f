//! The state of the model: its pools, and how to undo what an open transaction did to them.
//!
//! Every change of a pool goes through here, so that the notes of a transaction and the index miss
//! none. What has few allocations is looked through; an index is made when something is first looked
//! up among many.

use std::sync::OnceLock;

use rustc_hash::FxHashMap;

use super::index::Index;
use super::layout::Layout;
use super::pool::{Expiry, Freed, Held, Moment, Pool};
use crate::operation::Text;

/// So many pools and allocations are looked through more quickly than an index is kept.
const FEW: usize = 1024;

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pools: FxHashMap<Text, Pool>,
    /// Allocations in all pools.
    held: usize,
    /// Made when first needed.
    index: OnceLock<Index>,
    /// No lease ends before this.
    next_end: Option<u64>,
    /// What undoes the open transaction, from the last to the first.
    undo: Option<Vec<Undo>>,
}

/// What undoes one change.
#[derive(Clone, Debug)]
enum Undo {
    /// What began at this address of the pool, and why the pool had an address set free.
    Held { pool: Text, first: u128, before: Option<Held>, freed: Freed },
    /// The pool's layout.
    Layout { pool: Text, before: Layout, freed: Freed },
    /// The pool of this name.
    Pool { pool: Text, before: Option<Pool> },
}

impl State {
    pub(super) fn pools(&self) -> &FxHashMap<Text, Pool> {
        &self.pools
    }

    /// Back to the empty state; cheaper than a new one.
    pub(super) fn clear(&mut self) {
        self.pools.clear();
        self.held = 0;
        self.index.take();
        self.next_end = None;
        self.undo = None;
    }

    /// Records an allocation on addresses that nobody holds.
    pub(super) fn insert(&mut self, pool: &Text, held: Held) {
        self.set(pool, held.grant.span().first, Some(held), None);
    }

    /// Forgets an allocation.
    pub(super) fn remove(&mut self, pool: &Text, first: u128, why: Freed) {
        self.set(pool, first, None, Some(why));
    }

    /// Gives a lease another end.
    pub(super) fn set_end(&mut self, pool: &Text, first: u128, expires: Option<Expiry>) {
        let held = self.pools.get(pool).and_then(|pool| pool.get(first));
        if let Some(held) = held.cloned() {
            self.set(pool, first, Some(Held { expires, ..held }), None);
        }
    }

    /// Makes a pool, or removes one.
    pub(super) fn set_pool(&mut self, name: &Text, after: Option<Pool>) {
        let before = match after {
            Some(pool) => {
                self.count_in(name, &pool);
                self.pools.insert(name.clone(), pool)
            }
            None => self.pools.remove(name),
        };
        before.iter().for_each(|pool| self.count_out(name, pool));
        self.note(|| Undo::Pool { pool: name.clone(), before });
    }

    /// Gives a pool another layout, in which what it orphans is no longer held.
    pub(super) fn reshape(&mut self, name: &Text, layout: Layout) {
        let Some(pool) = self.pools.get(name) else { return };
        let orphans: Vec<u128> = pool.orphans(&layout).map(|held| held.grant.span().first).collect();
        orphans.into_iter().for_each(|first| self.remove(name, first, Freed::Reshaped));
        self.set_layout(name, layout, Freed::Reshaped);
    }

    fn set_layout(&mut self, name: &Text, layout: Layout, freed: Freed) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        let before = std::mem::replace(&mut pool.layout, layout);
        let freed = std::mem::replace(&mut pool.freed, freed);
        self.note(|| Undo::Layout { pool: name.clone(), before, freed });
    }

    /// Replaces what begins at this address.
    fn set(&mut self, name: &Text, first: u128, after: Option<Held>, freed: Option<Freed>) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        if let Some(index) = self.index.get_mut() {
            pool.get(first).into_iter().for_each(|held| index.remove(name, first, held));
            after.iter().for_each(|held| index.insert(name, first, held));
        }
        let expires = after.as_ref().and_then(|held| held.expires);
        self.next_end = earlier(self.next_end, expires.map(|expiry| expiry.at.earliest));
        self.held += usize::from(after.is_some());
        let before = match after {
            Some(held) => pool.insert(held),
            None => pool.remove(first),
        };
        self.held -= usize::from(before.is_some());
        let after_freed = freed.unwrap_or(pool.freed);
        let freed = std::mem::replace(&mut pool.freed, after_freed);
        self.note(|| Undo::Held { pool: name.clone(), first, before, freed });
    }

    fn count_in(&mut self, name: &Text, pool: &Pool) {
        self.held += pool.len();
        self.next_end = pool.iter().map(end_of).fold(self.next_end, earlier);
        if let Some(index) = self.index.get_mut() {
            pool.iter().for_each(|held| index.insert(name, held.grant.span().first, held));
        }
    }

    fn count_out(&mut self, name: &Text, pool: &Pool) {
        self.held -= pool.len();
        if let Some(index) = self.index.get_mut() {
            pool.iter().for_each(|held| index.remove(name, held.grant.span().first, held));
        }
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.undo.is_some()
    }

    pub(super) fn begin(&mut self) {
        self.undo = Some(Vec::new());
    }

    pub(super) fn commit(&mut self) {
        self.undo = None;
    }

    /// Undoes the open transaction.
    pub(super) fn roll_back(&mut self) {
        let undo = self.undo.take().unwrap_or_default();
        undo.into_iter().rev().for_each(|change| self.undo(change));
    }

    fn undo(&mut self, change: Undo) {
        match change {
            Undo::Held { pool, first, before, freed } => self.set(&pool, first, before, Some(freed)),
            Undo::Layout { pool, before, freed } => self.set_layout(&pool, before, freed),
            Undo::Pool { pool, before } => self.set_pool(&pool, before),
        }
    }

    /// Notes how to undo a change, while a transaction is open.
    fn note(&mut self, undo: impl FnOnce() -> Undo) {
        if let Some(notes) = &mut self.undo {
            notes.push(undo());
        }
    }

    /// Says of every pool why it may have an address set free.
    pub(super) fn set_freed(&mut self, why: Freed) {
        self.pools.values_mut().for_each(|pool| pool.freed = why);
    }

    /// Forgets the leases that have surely ended.
    pub(super) fn sweep(&mut self, now: Moment) {
        if self.next_end.is_none_or(|next| next > now.earliest) {
            return;
        }
        let ended = self.ended_by(now.earliest).filter(|(_, held)| held.has_expired(now));
        let ended: Vec<(Text, u128)> = ended.map(|(name, held)| (name.clone(), held.grant.span().first)).collect();
        ended.into_iter().for_each(|(name, first)| self.remove(&name, first, Freed::Expired));
        self.next_end = match self.index() {
            Some(index) => index.first_end(),
            None => self.all().map(|(_, held)| end_of(held)).fold(None, earlier),
        };
    }

    /// What the owner holds.
    pub(super) fn held_by(&self, owner: &Text) -> impl Iterator<Item = (&Text, &Held)> {
        let index = self.index();
        let scanned = index.is_none().then(|| self.all().filter(move |(_, held)| held.owner == *owner));
        let found = index.map(|index| self.found(index.of_owner(owner)));
        scanned.into_iter().flatten().chain(found.into_iter().flatten())
    }

    /// What the owner holds in one pool.
    pub(super) fn held_in(&self, name: &Text, owner: &Text) -> impl Iterator<Item = &Held> {
        let (index, pool) = (self.index(), self.pools.get(name));
        let scanned = pool.filter(|_| index.is_none()).map(|pool| pool.iter().filter(move |held| held.owner == *owner));
        let firsts = index.map(|index| index.of_owner_in(owner, name));
        let found = firsts.into_iter().flatten().filter_map(move |first| pool?.get(first));
        scanned.into_iter().flatten().chain(found)
    }

    /// On a clock of real time: the leases in this pool that may have ended by now.
    pub(super) fn uncertain_in(&self, name: &Text, now: Moment) -> impl Iterator<Item = &Held> {
        self.ended_by(now.latest).filter(move |(pool, _)| *pool == name).map(|(_, held)| held)
    }

    /// The leases that may have ended by this time.
    fn ended_by(&self, ms: u64) -> impl Iterator<Item = (&Text, &Held)> {
        let is_any = self.next_end.is_some_and(|next| next <= ms);
        let index = if is_any { self.index() } else { None };
        let is_over = move |(_, held): &(&Text, &Held)| end_of(held).is_some_and(|end| end <= ms);
        let scanned = (is_any && index.is_none()).then(|| self.all().filter(is_over));
        let found = index.map(|index| self.found(index.ended_by(ms)));
        scanned.into_iter().flatten().chain(found.into_iter().flatten())
    }

    fn all(&self) -> impl Iterator<Item = (&Text, &Held)> {
        self.pools.iter().flat_map(|(name, pool)| pool.iter().map(move |held| (name, held)))
    }

    fn found<'a>(
        &'a self,
        places: impl Iterator<Item = (&'a Text, u128)>,
    ) -> impl Iterator<Item = (&'a Text, &'a Held)> {
        places.filter_map(|(name, first)| Some((name, self.pools.get(name)?.get(first)?)))
    }

    /// The index, where looking through everything would take longer.
    fn index(&self) -> Option<&Index> {
        let is_worth = self.pools.len() + self.held > FEW;
        is_worth.then(|| self.index.get_or_init(|| self.indexed()))
    }

    fn indexed(&self) -> Index {
        let mut index = Index::default();
        self.all().for_each(|(name, held)| index.insert(name, held.grant.span().first, held));
        index
    }
}

/// When the lease may end at the earliest.
fn end_of(held: &Held) -> Option<u64> {
    held.expires.map(|expiry| expiry.at.earliest)
}

/// The earlier of two times, where there are such.
fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}
