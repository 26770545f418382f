//! Who holds what: each owner's records are a list, and a hash table finds the first of it.
//!
//! The table holds numbers of records, not names, and the hash is keyed, because names come from callers.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::records::{RecordId, Records};
use super::texts::{TextId, Texts};

/// The first record of each owner's list.
#[derive(Debug, Default)]
pub(super) struct Owners {
    firsts: HashTable<RecordId>,
    hasher: DefaultHashBuilder,
}

/// The name that a record's owner has, as bytes.
fn name<'a>(records: &Records, texts: &'a Texts, id: RecordId) -> &'a [u8] {
    texts.bytes(records.get(id).map_or(TextId::NONE, |record| record.owner()))
}

impl Owners {
    /// A number for a name that differs from instance to instance. Different names may have the same.
    pub(super) fn hash(&self, owner: &[u8]) -> u64 {
        self.hasher.hash_one(owner)
    }

    /// The first record of an owner's list.
    pub(super) fn first(&self, records: &Records, texts: &Texts, owner: &str) -> Option<RecordId> {
        let owner = owner.as_bytes();
        self.firsts.find(self.hash(owner), |id| name(records, texts, *id) == owner).copied()
    }

    /// Puts a record into its owner's list, as the second one, so that the table need not change.
    pub(super) fn link(&mut self, records: &mut Records, texts: &Texts, id: RecordId) {
        let owner = name(records, texts, id);
        let hash = self.hash(owner);
        let is_owner = |other: &RecordId| name(records, texts, *other) == owner;
        let rehash = |other: &RecordId| self.hasher.hash_one(name(records, texts, *other));
        let first = match self.firsts.entry(hash, is_owner, rehash) {
            Entry::Vacant(place) => {
                place.insert(id);
                None
            }
            Entry::Occupied(place) => Some(*place.get()),
        };
        let second = first.and_then(|first| records.get(first)?.next());
        if let Some(record) = records.get_mut(id) {
            record.set_previous(first);
            record.set_next(second);
        }
        if let Some(record) = first.and_then(|first| records.get_mut(first)) {
            record.set_next(Some(id));
        }
        if let Some(record) = second.and_then(|second| records.get_mut(second)) {
            record.set_previous(Some(id));
        }
    }

    /// Takes a record out of its owner's list.
    pub(super) fn unlink(&mut self, records: &mut Records, texts: &Texts, id: RecordId) {
        let Some(record) = records.get(id).copied() else { return };
        let (previous, next) = (record.previous(), record.next());
        if let Some(record) = next.and_then(|next| records.get_mut(next)) {
            record.set_previous(previous);
        }
        if let Some(record) = previous.and_then(|previous| records.get_mut(previous)) {
            record.set_next(next);
            return;
        }
        let hash = self.hash(texts.bytes(record.owner()));
        if let Ok(mut place) = self.firsts.find_entry(hash, |other| *other == id) {
            match next {
                Some(next) => *place.get_mut() = next,
                None => drop(place.remove()),
            }
        }
    }

    /// All records of an owner, in no order.
    pub(super) fn records<'a>(
        &self,
        records: &'a Records,
        texts: &Texts,
        owner: &str,
    ) -> impl Iterator<Item = RecordId> + use<'a> {
        std::iter::successors(self.first(records, texts, owner), |id| records.get(*id)?.next())
    }

    /// How many owners hold something.
    pub(super) fn len(&self) -> usize {
        self.firsts.len()
    }
}
