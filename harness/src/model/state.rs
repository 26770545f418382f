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

    /// Records an allocation, unless somebody holds some of its addresses: that is the error.
    pub(super) fn insert(&mut self, name: &Text, held: Held) -> Result<(), Held> {
        let Some(pool) = self.pools.get_mut(name) else { return Ok(()) };
        if let Some((_, other)) = pool.holder_of(held.grant.span()) {
            return Err(other.clone());
        }
        let (first, freed) = (held.grant.span().first, pool.freed);
        if let Some(index) = self.index.get_mut() {
            index.insert(name, first, &held);
        }
        self.next_end = earlier(self.next_end, end_of(&held));
        self.held += 1;
        pool.insert(held);
        self.note(|| Undo::Held { pool: name.clone(), first, before: None, freed });
        Ok(())
    }

    /// Forgets an allocation.
    pub(super) fn remove(&mut self, name: &Text, first: u128, why: Freed) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        let Some(held) = pool.remove(first) else { return };
        if let Some(index) = self.index.get_mut() {
            index.remove(name, first, &held);
        }
        self.held -= 1;
        let freed = std::mem::replace(&mut pool.freed, why);
        self.note(|| Undo::Held { pool: name.clone(), first, before: Some(held), freed });
    }

    /// Gives a lease another end.
    pub(super) fn set_end(&mut self, name: &Text, first: u128, expires: Option<Expiry>) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        let freed = pool.freed;
        let Some(held) = pool.get_mut(first) else { return };
        let before = held.clone();
        held.expires = expires;
        if let Some(index) = self.index.get_mut() {
            index.remove(name, first, &before);
            index.insert(name, first, held);
        }
        self.next_end = earlier(self.next_end, end_of(held));
        self.note(|| Undo::Held { pool: name.clone(), first, before: Some(before), freed });
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

    /// How to undo the open transaction, in words; nothing where none is open.
    pub(super) fn undo_notes(&self) -> Option<String> {
        self.undo.as_ref().map(|notes| format!("{notes:?}"))
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
            Undo::Held { pool, first, before, freed } => self.undo_held(&pool, first, before, freed),
            Undo::Layout { pool, before, freed } => self.set_layout(&pool, before, freed),
            Undo::Pool { pool, before } => self.set_pool(&pool, before),
        }
    }

    fn undo_held(&mut self, name: &Text, first: u128, before: Option<Held>, freed: Freed) {
        self.remove(name, first, freed);
        // Whoever held it before holds it again: nobody has come in between.
        let _free = before.map(|held| self.insert(name, held));
        if let Some(pool) = self.pools.get_mut(name) {
            pool.freed = freed;
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
        let ended = self.ended_by(now.earliest).into_iter().filter(|(_, held)| held.has_expired(now));
        let ended: Vec<(Text, u128)> = ended.map(|(name, held)| (name.clone(), held.grant.span().first)).collect();
        ended.into_iter().for_each(|(name, first)| self.remove(&name, first, Freed::Expired));
        self.next_end = match self.index() {
            Some(index) => index.first_end(),
            None => self.all().map(|(_, held)| end_of(held)).fold(None, earlier),
        };
    }

    /// What the owner holds.
    pub(super) fn held_by(&self, owner: &Text) -> Vec<(Text, Held)> {
        let owned = |(name, held): (&Text, &Held)| (name.clone(), held.clone());
        match self.index() {
            Some(index) => self.found(index.of_owner(owner)).map(owned).collect(),
            None => self.all().filter(|(_, held)| held.owner == *owner).map(owned).collect(),
        }
    }

    /// What the owner holds in one pool.
    pub(super) fn held_in(&self, name: &Text, owner: &Text) -> impl Iterator<Item = &Held> {
        self.pools.get(name).into_iter().flat_map(|pool| pool.held_by(owner))
    }

    /// On a clock of real time: the leases in this pool that may have ended by now.
    pub(super) fn uncertain_in(&self, name: &Text, now: Moment) -> impl Iterator<Item = &Held> {
        let ended = self.ended_by(now.latest).into_iter();
        ended.filter(move |(pool, _)| *pool == name).map(|(_, held)| held)
    }

    /// The leases that may have ended by this time.
    fn ended_by(&self, ms: u64) -> Vec<(&Text, &Held)> {
        if self.next_end.is_none_or(|next| next > ms) {
            return Vec::new();
        }
        match self.index() {
            Some(index) => self.found(index.ended_by(ms)).collect(),
            None => self.all().filter(|(_, held)| end_of(held).is_some_and(|end| end <= ms)).collect(),
        }
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
