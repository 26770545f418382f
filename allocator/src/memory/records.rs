//! One record for each address or block that is held or in quarantine, in 40 bytes.

use super::texts::TextId;
use crate::resource::Extent;

/// So many records a piece, because a single vector would reserve up to twice what it holds.
const PIECE: usize = 1024;

/// The number of a record; below [`RecordId::END`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RecordId(pub(super) u32);

impl RecordId {
    /// Numbers from here on have another use.
    pub(super) const END: u32 = 1 << 31;
}

/// Where there is no record.
const NOWHERE: u32 = u32::MAX;

/// In place of the host bits of a block.
const NO_BLOCK: u8 = u8::MAX;

/// What is held, or in quarantine; then it has no owner. Kept in bytes and small numbers, so that nothing is lost to
/// alignment: at a million records each byte is a megabyte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    first: [u8; 16],
    owner: u32,
    /// What else the owner holds, as a list in both directions.
    next: u32,
    previous: u32,
    pool: u32,
    generation: [u8; 6],
    owner_length: u8,
    host_bits: u8,
}

impl Record {
    /// A record that is in no list yet.
    pub(super) fn new(pool: u32, extent: Extent, owner: TextId, generation: u64) -> Self {
        let (owner, owner_length) = owner.parts();
        // A million allocations a second use up 48 bits in nine years.
        let [one, two, three, four, five, six, ..] = generation.to_le_bytes();
        Self {
            first: extent.first().to_ne_bytes(),
            owner,
            next: NOWHERE,
            previous: NOWHERE,
            pool,
            generation: [one, two, three, four, five, six],
            owner_length,
            host_bits: extent.host_bits().unwrap_or(NO_BLOCK),
        }
    }

    pub(super) fn extent(&self) -> Extent {
        let first = u128::from_ne_bytes(self.first);
        let host_bits = (self.host_bits != NO_BLOCK).then_some(self.host_bits);
        Extent::new(first, host_bits).unwrap_or(Extent::address(first))
    }

    pub(super) const fn pool(&self) -> u32 {
        self.pool
    }

    pub(super) const fn generation(&self) -> u64 {
        let [one, two, three, four, five, six] = self.generation;
        u64::from_le_bytes([one, two, three, four, five, six, 0, 0])
    }

    /// The owner's name; none in quarantine.
    pub(super) const fn owner(&self) -> TextId {
        TextId::from_parts((self.owner, self.owner_length))
    }

    pub(super) fn next(&self) -> Option<RecordId> {
        (self.next != NOWHERE).then_some(RecordId(self.next))
    }

    pub(super) fn previous(&self) -> Option<RecordId> {
        (self.previous != NOWHERE).then_some(RecordId(self.previous))
    }

    pub(super) fn set_next(&mut self, next: Option<RecordId>) {
        self.next = next.map_or(NOWHERE, |RecordId(next)| next);
    }

    pub(super) fn set_previous(&mut self, previous: Option<RecordId>) {
        self.previous = previous.map_or(NOWHERE, |RecordId(previous)| previous);
    }
}

/// All records, by number.
#[derive(Debug, Default)]
pub(super) struct Records {
    pieces: Vec<Vec<Record>>,
    /// How many there are, free ones included.
    count: usize,
    free: Vec<RecordId>,
}

impl Records {
    /// Adds a record; `None` where there are 2^31.
    pub(super) fn insert(&mut self, record: Record) -> Option<RecordId> {
        if let Some(id) = self.free.pop() {
            *self.get_mut(id)? = record;
            return Some(id);
        }
        let id = u32::try_from(self.count).ok().filter(|id| *id < RecordId::END)?;
        let piece = self.count / PIECE;
        if self.pieces.len() <= piece {
            self.pieces.push(Vec::new());
        }
        self.pieces.get_mut(piece)?.push(record);
        self.count = self.count.saturating_add(1);
        Some(RecordId(id))
    }

    /// Makes a number free for another record.
    pub(super) fn remove(&mut self, id: RecordId) {
        self.free.push(id);
    }

    pub(super) fn get(&self, id: RecordId) -> Option<&Record> {
        let index = index(id);
        self.pieces.get(index / PIECE)?.get(index % PIECE)
    }

    pub(super) fn get_mut(&mut self, id: RecordId) -> Option<&mut Record> {
        let index = index(id);
        self.pieces.get_mut(index / PIECE)?.get_mut(index % PIECE)
    }

    /// How many are in use.
    pub(super) fn len(&self) -> usize {
        self.count.saturating_sub(self.free.len())
    }
}

fn index(id: RecordId) -> usize {
    usize::try_from(id.0).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_40_bytes_and_keeps_what_it_is_given() {
        assert_eq!(size_of::<Record>(), 40);
        for extent in [Extent::address(u128::MAX), Extent::new(0, Some(128)).unwrap(), Extent::new(8, Some(0)).unwrap()]
        {
            let record = Record::new(7, extent, TextId::NONE, (1 << 48) - 1);
            assert_eq!((record.extent(), record.pool(), record.generation()), (extent, 7, (1 << 48) - 1));
            assert_eq!((record.next(), record.previous()), (None, None));
        }
    }
}
