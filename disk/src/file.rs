//! One file: what processes see of it, what the disk has of it, and what is under way in between.

/// The disk writes a sector wholly or not at all, and in any order.
const SECTOR: usize = 512;

/// Lets through what comes out of a loss of power.
pub(crate) enum Loss {
    /// Nothing that was under way arrived.
    All,
    /// All of it arrived.
    None,
    /// Some of it, as drawn.
    Some(fastrand::Rng),
}

impl Loss {
    pub(crate) fn seeded(seed: u32) -> Loss {
        match seed {
            0 => Loss::All,
            1 => Loss::None,
            _ => Loss::Some(fastrand::Rng::with_seed(seed.into())),
        }
    }

    /// Did the next thing arrive?
    pub(crate) fn arrives(&mut self) -> bool {
        match self {
            Loss::All => false,
            Loss::None => true,
            Loss::Some(rng) => rng.bool(),
        }
    }
}

/// A file.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    /// As processes see it.
    content: Vec<u8>,
    /// As the disk has it.
    stored: Vec<u8>,
    /// What is on its way to the disk, in order.
    under_way: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

impl File {
    pub(crate) fn len(&self) -> usize {
        self.content.len()
    }

    /// Reads what there is from `offset` on, and tells how many bytes that were; the rest of the buffer is zeros.
    pub(crate) fn read(&self, offset: usize, buffer: &mut [u8]) -> usize {
        let there = self.content.get(offset..).unwrap_or_default();
        let count = there.len().min(buffer.len());
        buffer[..count].copy_from_slice(&there[..count]);
        buffer[count..].fill(0);
        count
    }

    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let change = Change::Write { offset, bytes: bytes.to_vec() };
        change.apply(&mut self.content);
        self.under_way.push(change);
    }

    pub(crate) fn resize(&mut self, size: usize) {
        self.content.resize(size, 0);
        self.under_way.push(Change::Resize(size));
    }

    /// Brings everything to the disk.
    pub(crate) fn sync(&mut self) {
        self.store(&mut Loss::None);
    }

    /// The disk failed to take what was under way. Nobody tries again to bring it there: each sector has arrived or has not.
    pub(crate) fn fail_to_sync(&mut self, loss: &mut Loss) {
        self.store(loss);
    }

    /// What processes see once the power is back.
    pub(crate) fn lose_power(&mut self, loss: &mut Loss) {
        self.store(loss);
        self.content.clone_from(&self.stored);
    }

    fn store(&mut self, loss: &mut Loss) {
        for change in self.under_way.drain(..) {
            change.arrive(&mut self.stored, loss);
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => put(content, *offset, bytes),
            Change::Resize(size) => content.resize(*size, 0),
        }
    }

    /// Applies what arrives of it, sector by sector.
    fn arrive(&self, stored: &mut Vec<u8>, loss: &mut Loss) {
        match (self, &*loss) {
            (_, Loss::All) => {}
            (_, Loss::None) => self.apply(stored),
            (Change::Resize(size), Loss::Some(_)) => {
                if loss.arrives() {
                    stored.resize(*size, 0);
                }
            }
            (Change::Write { offset, bytes }, Loss::Some(_)) => {
                for (at, sector) in sectors(*offset, bytes) {
                    if loss.arrives() {
                        put(stored, at, sector);
                    }
                }
            }
        }
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

/// What is written, cut at the borders of sectors.
fn sectors(mut offset: usize, mut bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    std::iter::from_fn(move || {
        let (sector, rest) = bytes.split_at_checked(SECTOR - offset % SECTOR).unwrap_or((bytes, &[]));
        let at = offset;
        (offset, bytes) = (offset + sector.len(), rest);
        (!sector.is_empty()).then_some((at, sector))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> File {
        let mut file = File::default();
        file.write(0, &[1; 2000]);
        file.sync();
        file.write(300, &[2; 1000]);
        file
    }

    fn content(file: &File) -> Vec<u8> {
        let mut content = vec![9; file.len()];
        assert_eq!(file.read(0, &mut content), content.len());
        content
    }

    #[test]
    fn what_was_synchronised_stays_and_what_was_not_goes_or_stays_by_the_sector() {
        for (seed, expected) in [(0, 1), (1, 2)] {
            let mut file = written();
            file.lose_power(&mut Loss::seeded(seed));
            let content = content(&file);
            assert!(content[..300].iter().chain(&content[1300..]).all(|byte| *byte == 1));
            assert!(content[300..1300].iter().all(|byte| *byte == expected));
        }
        let torn = |seed| {
            let mut file = written();
            file.lose_power(&mut Loss::seeded(seed));
            let content = content(&file);
            let pieces = [300..512, 512..1024, 1024..1300].map(|piece| content[piece].to_vec());
            assert!(pieces.iter().all(|piece| piece.iter().all(|byte| *byte == piece[0])), "torn within a sector");
            pieces.map(|piece| piece[0])
        };
        let seen: std::collections::BTreeSet<_> = (2..60).map(torn).collect();
        assert_eq!(seen.len(), 8, "each sector arrives or does not, whatever the others do");
    }

    #[test]
    fn what_failed_to_synchronise_is_seen_until_the_power_goes() {
        let mut file = written();
        file.fail_to_sync(&mut Loss::seeded(0));
        assert_eq!(content(&file)[300], 2);
        file.sync();
        file.lose_power(&mut Loss::seeded(1));
        assert_eq!(content(&file)[300], 1, "nobody brought it there after the failure");
    }

    #[test]
    fn reading_past_the_end_gives_zeros() {
        let file = written();
        let mut buffer = [9; 8];
        assert_eq!(file.read(1996, &mut buffer), 4);
        assert_eq!(buffer, [1, 1, 1, 1, 0, 0, 0, 0]);
        assert_eq!(file.read(usize::MAX, &mut buffer), 0);
        assert_eq!(buffer, [0; 8]);
    }
}
