//! Owners' names, packed without a pointer, a header or a rounded size each.
//!
//! Names of one length lie side by side, so a name is its length and its place among those. What is removed leaves a place
//! that the next name of the length takes.

/// The names of one length are kept in pieces of so many, because a single vector would reserve up to twice what it holds.
const PIECE: usize = 1024;

/// Where a name is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TextId {
    place: u32,
    /// Up to 255, which is as long as names are.
    length: u8,
}

impl TextId {
    /// No name.
    pub(super) const NONE: Self = Self { place: 0, length: 0 };

    /// Is it a name?
    pub(super) const fn is_some(self) -> bool {
        self.length > 0
    }

    /// Its two parts, for those who pack them.
    pub(super) const fn parts(self) -> (u32, u8) {
        (self.place, self.length)
    }

    /// From its two parts.
    pub(super) const fn from_parts((place, length): (u32, u8)) -> Self {
        Self { place, length }
    }
}

/// Names by their length; the one at an index has that length less one.
#[derive(Debug, Default)]
pub(super) struct Texts {
    lengths: Vec<Length>,
}

/// Names of one length.
#[derive(Debug, Default)]
struct Length {
    pieces: Vec<Vec<u8>>,
    /// How many places there are, those in `free` included.
    places: usize,
    free: Vec<u32>,
}

impl Texts {
    /// Keeps a name of 1 to 255 bytes; `None` for any other, or where there are 2^32 of that length.
    pub(super) fn insert(&mut self, text: &str) -> Option<TextId> {
        let length = u8::try_from(text.len()).ok()?;
        let index = usize::from(length.checked_sub(1)?);
        if self.lengths.len() <= index {
            self.lengths.resize_with(index.saturating_add(1), Length::default);
        }
        let place = self.lengths.get_mut(index)?.insert(text.as_bytes())?;
        Some(TextId { place, length })
    }

    /// Forgets a name.
    pub(super) fn remove(&mut self, id: TextId) {
        if let Some(length) = index(id).and_then(|index| self.lengths.get_mut(index)) {
            length.free.push(id.place);
        }
    }

    /// The bytes of a name, which are UTF-8; empty for none.
    pub(super) fn bytes(&self, id: TextId) -> &[u8] {
        index(id).and_then(|index| self.lengths.get(index)?.get(id)).unwrap_or_default()
    }

    /// A name.
    pub(super) fn get(&self, id: TextId) -> &str {
        // Only whole names are kept, so this never is anything else.
        std::str::from_utf8(self.bytes(id)).unwrap_or_default()
    }
}

fn index(id: TextId) -> Option<usize> {
    id.length.checked_sub(1).map(usize::from)
}

impl Length {
    fn insert(&mut self, text: &[u8]) -> Option<u32> {
        if let Some(place) = self.free.pop() {
            let (piece, range) = locate(place, text.len());
            self.pieces.get_mut(piece)?.get_mut(range)?.copy_from_slice(text);
            return Some(place);
        }
        let place = u32::try_from(self.places).ok()?;
        let (piece, _) = locate(place, text.len());
        if self.pieces.len() <= piece {
            self.pieces.push(Vec::new());
        }
        self.pieces.get_mut(piece)?.extend_from_slice(text);
        self.places = self.places.saturating_add(1);
        Some(place)
    }

    fn get(&self, id: TextId) -> Option<&[u8]> {
        let (piece, range) = locate(id.place, usize::from(id.length));
        self.pieces.get(piece)?.get(range)
    }
}

/// The piece a place is in, and its bytes there.
fn locate(place: u32, length: usize) -> (usize, std::ops::Range<usize>) {
    let place = usize::try_from(place).unwrap_or(usize::MAX);
    let start = (place % PIECE).saturating_mul(length);
    (place / PIECE, start..start.saturating_add(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_byte_for_byte_and_their_places_are_used_again() {
        let mut texts = Texts::default();
        let names: Vec<String> = (0..3000).map(|number| format!("owner {number}")).chain(["é".repeat(127)]).collect();
        let ids: Vec<TextId> = names.iter().map(|name| texts.insert(name).unwrap()).collect();
        for (name, id) in names.iter().zip(&ids) {
            assert_eq!(texts.get(*id), name);
        }
        texts.remove(ids[7]);
        assert_eq!(texts.insert("another").unwrap(), ids[7]);
        assert_eq!(texts.get(ids[8]), "owner 8");
        assert_eq!(texts.insert(""), None);
        assert_eq!(texts.insert(&"x".repeat(256)), None);
        assert_eq!(texts.get(TextId::NONE), "");
    }
}
