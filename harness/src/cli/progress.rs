//! A progress bar on stderr, where that is a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use poolproof::engine::check::Budget;
use poolproof::engine::{HangReporter, Progress};

/// How often the bar is drawn again.
const PERIOD: Duration = Duration::from_millis(100);

/// A bar that shows how much of the budget is used. It hides itself where stderr is no terminal.
pub(super) struct Bar {
    bar: ProgressBar,
    budget: Budget,
    started: Instant,
    drawn: Instant,
    hang_reporter: HangReporter,
}

impl Bar {
    pub(super) fn of(budget: Budget, hang_reporter: HangReporter) -> Bar {
        let length = match budget {
            Budget::Time(time) => milliseconds(time),
            Budget::Runs(runs) | Budget::Executions(runs) => runs,
        };
        let style = ProgressStyle::with_template("[{elapsed_precise}] {wide_bar} {msg}");
        let bar = ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Bar { bar, budget, started: Instant::now(), drawn: Instant::now(), hang_reporter }
    }
}

/// A campaign may be given more than fits, which is for ever.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Progress for Bar {
    fn advanced(&mut self, scenarios: u64, operations: u64, violations: usize) {
        if self.bar.is_hidden() || self.drawn.elapsed() < PERIOD {
            return;
        }
        self.drawn = Instant::now();
        self.bar.set_position(match self.budget {
            Budget::Time(_) => milliseconds(self.started.elapsed()),
            Budget::Runs(_) | Budget::Executions(_) => scenarios,
        });
        self.bar.set_message(format!("{scenarios} scenarios, {operations} operations, {violations} violations"));
    }

    fn began(&mut self, what: &str) {
        self.bar.println(what);
    }

    fn hang_reporter(&self) -> HangReporter {
        self.hang_reporter.clone()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
