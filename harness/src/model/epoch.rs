//! What a system's own clock reads, as far as the times that it tells give it away.

use super::pool::Moment;

/// What the system's clock read when the model's read 0. One number on a virtual clock. On real time
/// a call happens somewhere between two instants, so each time told gives two bounds; all of them
/// together must leave something in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    /// Not before.
    pub(super) earliest: i128,
    /// Not after.
    pub(super) latest: i128,
    /// May the system have begun to count anew since? Then it is good for a guess, not to judge by.
    pub(super) is_outdated: bool,
}

impl Epoch {
    /// What one time tells that the system told for this instant.
    pub(super) fn of(told_ms: u64, at: Moment) -> Epoch {
        let told_ms = i128::from(told_ms);
        Epoch {
            earliest: told_ms - i128::from(at.latest),
            latest: told_ms - i128::from(at.earliest),
            is_outdated: false,
        }
    }

    /// What both tell together; `None` where they contradict each other.
    pub(super) fn narrowed(self, other: Epoch) -> Option<Epoch> {
        let (earliest, latest) = (self.earliest.max(other.earliest), self.latest.min(other.latest));
        (earliest <= latest).then_some(Epoch { earliest, latest, is_outdated: false })
    }

    /// The times that the system may tell for this instant, in words.
    pub(super) fn times_of(self, at: Moment) -> String {
        let first = self.earliest + i128::from(at.earliest);
        let last = self.latest + i128::from(at.latest);
        if first == last { first.to_string() } else { format!("{} to {last}", first.max(0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Moment = Moment { earliest: 10, latest: 14 };

    #[test]
    fn times_told_narrow_the_epoch_down() {
        let first = Epoch::of(1_012, AT);
        assert_eq!((first.earliest, first.latest), (998, 1_002));
        let both = first.narrowed(Epoch::of(1_015, AT)).unwrap();
        assert_eq!((both.earliest, both.latest), (1_001, 1_002));
        assert_eq!(both.times_of(AT), "1011 to 1016");
        assert_eq!(both.narrowed(Epoch::of(1_010, AT)), None);
    }

    #[test]
    fn a_virtual_clock_leaves_no_doubt() {
        let at = Moment { earliest: 7, latest: 7 };
        let epoch = Epoch::of(7, at);
        assert_eq!(epoch.times_of(at), "7");
        assert_eq!(epoch.narrowed(Epoch::of(8, at)), None);
    }
}
