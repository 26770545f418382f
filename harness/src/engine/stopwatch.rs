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

/// Measures the time of a call. A machine that is busy with other things lets a thread wait for a processor, a quarter of a second
/// at a time; that is no time of the call's, where the kernel tells it apart.
pub(super) struct Lap {
    started: Instant,
    waited: Duration,
}

impl Lap {
    pub(super) fn start() -> Lap {
        Lap { started: Instant::now(), waited: waited() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed().saturating_sub(waited().saturating_sub(self.waited))
    }
}

/// How long the calling thread has waited for a processor so far: the second number of its `schedstat` (Linux,
/// Documentation/scheduler/sched-stats). 0 where nobody tells.
fn waited() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far more threads than processors, of which each measures itself.
    #[test]
    fn waiting_for_a_processor_takes_none_of_the_time() {
        if std::fs::metadata("/proc/thread-self/schedstat").is_err() {
            return;
        }
        let threads = 40 * std::thread::available_parallelism().map_or(1, usize::from);
        let work = || (0..20_000_000u64).fold(0, |sum, number| std::hint::black_box(sum ^ number));
        let measure = || {
            let (lap, started) = (Lap::start(), Instant::now());
            std::hint::black_box(work());
            (lap.elapsed(), started.elapsed())
        };
        let quickest = (0..5).map(|_| measure().0).min().unwrap();
        let times: Vec<(Duration, Duration)> = std::thread::scope(|scope| {
            let busy: Vec<_> = (0..threads).map(|_| scope.spawn(measure)).collect();
            busy.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (lap, whole) = times.iter().max_by_key(|(_, whole)| *whole).unwrap();
        assert!(*whole > quickest * 8, "{whole:?} beside {quickest:?}: nobody had to wait");
        assert!(*lap < *whole / 2, "{lap:?} of {whole:?}");
    }

    #[test]
    fn a_date_that_was_set_is_noticed() {
        let hour = Duration::from_secs(3600);
        let Stopwatch { started, date } = Stopwatch::start();
        assert!(!Stopwatch { started, date }.is_disturbed());
        assert!(Stopwatch { started, date: date - hour }.is_disturbed());
        assert!(Stopwatch { started, date: date + hour }.is_disturbed());
    }
}
