//! Which of a node's places have something, a bit each: found without a look at the places.

/// A set of places below 64. Those beyond are never in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set(u64);

impl Set {
    #[cfg(test)]
    pub(super) fn has(self, place: usize) -> bool {
        self.0 & bit(place) != 0
    }

    pub(super) fn set(&mut self, place: usize, is_in: bool) {
        let bit = bit(place);
        self.0 = if is_in { self.0 | bit } else { self.0 & !bit };
    }

    /// The places in it from one on, ascending.
    pub(super) fn from(self, start: usize) -> impl Iterator<Item = usize> {
        let mut rest = self.0 & !below(start);
        std::iter::from_fn(move || {
            let place = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            (place < u64::BITS).then_some(place as usize)
        })
    }

    /// Moves up the places from one on, which is then not in it.
    pub(super) fn insert_place(&mut self, place: usize) {
        let low = self.0 & below(place);
        self.0 = low | (self.0 & !below(place)) << 1;
    }

    /// Moves down the places beyond one.
    pub(super) fn remove_place(&mut self, place: usize) {
        let low = self.0 & below(place);
        self.0 = low | (self.0 >> 1 & !below(place));
    }
}

impl FromIterator<bool> for Set {
    /// Whether each place is in it, from the first one on.
    fn from_iter<I: IntoIterator<Item = bool>>(places: I) -> Self {
        let mut set = Self::default();
        places.into_iter().enumerate().for_each(|(place, is_in)| set.set(place, is_in));
        set
    }
}

fn bit(place: usize) -> u64 {
    u32::try_from(place).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0)
}

/// All bits below a place.
fn below(place: usize) -> u64 {
    bit(place).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(places: &[usize]) -> Set {
        (0..64).map(|place| places.contains(&place)).collect()
    }

    #[test]
    fn places_move_with_what_is_put_in_and_taken_out() {
        let mut set = of(&[0, 3, 40, 62]);
        set.insert_place(3);
        assert_eq!(set, of(&[0, 4, 41, 63]));
        set.remove_place(4);
        assert_eq!(set, of(&[0, 40, 62]));
        assert_eq!(set.from(1).collect::<Vec<_>>(), [40, 62]);
        set.set(40, false);
        assert_eq!(set.from(0).collect::<Vec<_>>(), [0, 62]);
    }

    #[test]
    fn places_beyond_are_never_in_it() {
        let mut set: Set = (0..100).map(|_| true).collect();
        assert_eq!(set.from(60).collect::<Vec<_>>(), [60, 61, 62, 63]);
        set.set(64, true);
        assert!(!set.has(64) && set.from(64).next().is_none());
    }
}
