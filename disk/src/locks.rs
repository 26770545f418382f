//! Locks on a file, as SQLite knows them, and on the slots of what processes share.

use std::collections::BTreeMap;

/// Who holds a lock: one opened file.
pub(crate) type Holder = u64;

/// How a file is locked. Each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    #[default]
    None,
    Shared,
    Reserved,
    Pending,
    Exclusive,
}

/// Somebody else has the lock.
#[derive(Debug)]
pub(crate) struct Taken;

/// The locks on one file.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    levels: BTreeMap<Holder, Level>,
    slots: BTreeMap<u32, Slot>,
}

/// A slot is held by one, or shared by many.
#[derive(Debug)]
enum Slot {
    Exclusive(Holder),
    Shared(Vec<Holder>),
}

impl Locks {
    /// Raises a holder's lock to a level. Readers may stay while a writer prepares, and no new ones come while it waits
    /// for them to go: <https://www.sqlite.org/lockingv3.html>.
    pub(crate) fn raise(&mut self, holder: Holder, level: Level) -> Result<(), Taken> {
        let own = self.level(holder);
        if own >= level {
            return Ok(());
        }
        let highest = self.levels.iter().filter(|(other, _)| **other != holder).map(|(_, level)| *level).max();
        let others = highest.unwrap_or_default();
        let is_free = match level {
            Level::None => true,
            Level::Shared => others < Level::Pending,
            Level::Reserved | Level::Pending => others < Level::Reserved,
            Level::Exclusive => others == Level::None,
        };
        if is_free {
            self.levels.insert(holder, level);
            return Ok(());
        }
        // Who wants it for itself alone keeps new readers out from now on.
        if level == Level::Exclusive && others < Level::Reserved {
            self.levels.insert(holder, Level::Pending);
        }
        Err(Taken)
    }

    /// Lowers a holder's lock to a level.
    pub(crate) fn lower(&mut self, holder: Holder, level: Level) {
        if self.level(holder) > level {
            self.levels.insert(holder, level);
        }
    }

    pub(crate) fn is_reserved(&self) -> bool {
        self.levels.values().any(|level| *level >= Level::Reserved)
    }

    fn level(&self, holder: Holder) -> Level {
        self.levels.get(&holder).copied().unwrap_or_default()
    }

    /// Takes slots, all or none.
    pub(crate) fn take(&mut self, holder: Holder, slots: std::ops::Range<u32>, is_shared: bool) -> Result<(), Taken> {
        let is_free = |slot: &u32| match self.slots.get(slot) {
            None => true,
            Some(Slot::Exclusive(other)) => *other == holder,
            Some(Slot::Shared(others)) => is_shared || others.iter().all(|other| *other == holder),
        };
        if !slots.clone().all(|slot| is_free(&slot)) {
            return Err(Taken);
        }
        for slot in slots {
            match self.slots.get_mut(&slot) {
                Some(Slot::Shared(holders)) if is_shared => {
                    if !holders.contains(&holder) {
                        holders.push(holder);
                    }
                }
                _ if is_shared => drop(self.slots.insert(slot, Slot::Shared(vec![holder]))),
                _ => drop(self.slots.insert(slot, Slot::Exclusive(holder))),
            }
        }
        Ok(())
    }

    /// Gives slots back.
    pub(crate) fn give(&mut self, holder: Holder, slots: std::ops::Range<u32>) {
        for slot in slots {
            let is_empty = match self.slots.get_mut(&slot) {
                None => false,
                Some(Slot::Exclusive(other)) => *other == holder,
                Some(Slot::Shared(holders)) => {
                    holders.retain(|other| *other != holder);
                    holders.is_empty()
                }
            };
            if is_empty {
                self.slots.remove(&slot);
            }
        }
    }

    /// Gives back all that a holder has.
    pub(crate) fn leave(&mut self, holder: Holder) {
        self.levels.remove(&holder);
        let slots: Vec<u32> = self.slots.keys().copied().collect();
        slots.into_iter().for_each(|slot| self.give(holder, slot..slot + 1));
    }

    /// How many holders there are.
    pub(crate) fn count(&self) -> usize {
        self.levels.values().filter(|level| **level > Level::None).count() + self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_keep_a_writer_from_writing_but_not_from_preparing() {
        let mut locks = Locks::default();
        locks.raise(1, Level::Shared).unwrap();
        locks.raise(2, Level::Shared).unwrap();
        locks.raise(2, Level::Reserved).unwrap();
        assert!(locks.raise(1, Level::Reserved).is_err());
        assert!(locks.raise(2, Level::Exclusive).is_err());
        assert!(locks.raise(3, Level::Shared).is_err(), "no new reader while a writer waits");
        locks.lower(1, Level::None);
        locks.raise(2, Level::Exclusive).unwrap();
        locks.lower(2, Level::None);
        locks.raise(3, Level::Shared).unwrap();
    }

    #[test]
    fn a_slot_is_shared_or_one_has_it() {
        let mut locks = Locks::default();
        locks.take(1, 0..1, true).unwrap();
        locks.take(2, 0..1, true).unwrap();
        assert!(locks.take(3, 0..2, false).is_err());
        locks.take(3, 1..2, false).unwrap();
        assert!(locks.take(1, 1..2, true).is_err());
        locks.leave(1);
        locks.leave(2);
        locks.take(3, 0..2, false).unwrap();
        locks.leave(3);
        assert_eq!(locks.count(), 0);
    }
}
