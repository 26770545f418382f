//! Real time, as the harness reads it while a scenario runs.

use std::time::{Duration, Instant, SystemTime};

/// The machine's date and its steady clock are read one after the other, and the harness may have to
/// wait in between. What sets the date in smaller steps than this slows it down instead.
const LARGEST_DIFFERENCE: Duration = Duration::from_millis(100);

/// Measures from when a scenario began.
pub(super) struct Stopwatch {
    started: Instant,
    date: SystemTime,
}

impl Stopwatch {
    pub(super) fn start() -> Stopwatch {
        Stopwatch { started: Instant::now(), date: SystemTime::now() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Was the machine's date set, or did the machine sleep? Then a system whose leases go by the date
    /// rightly ends them at another time than we expect.
    pub(super) fn is_disturbed(&self) -> bool {
        // A date that lies before the start is an error here.
        let Ok(by_date) = self.date.elapsed() else { return true };
        by_date.abs_diff(self.started.elapsed()) > LARGEST_DIFFERENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_that_was_set_is_noticed() {
        let hour = Duration::from_secs(3600);
        let Stopwatch { started, date } = Stopwatch::start();
        assert!(!Stopwatch { started, date }.is_disturbed());
        assert!(Stopwatch { started, date: date - hour }.is_disturbed());
        assert!(Stopwatch { started, date: date + hour }.is_disturbed());
    }
}
