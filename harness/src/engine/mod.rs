//! The engines: one file each. They differ in who writes the scenario and in how it is run.
//!
//! [`run`] runs one scenario (`pass` does its steps, `trace` keeps what they left behind), [`examine`] looks at it once
//! more from outside, [`watchdog`] sees to it that it ends; [`check`] draws them,
//! [`exhaust`] tries all that are small, [`crash`] strikes at each step of I/O (`faults` sees to what that leaves behind),
//! [`race`] has several callers at once, [`schedules`] tries each order in which they can go on, [`replay`] reads them from files, each in a `campaign`, and [`minimise`] makes a
//! failing one small. Each campaign ends in a [`Report`].

mod blame;
mod campaign;
pub mod canary;
pub mod chance;
pub mod check;
pub mod counterexample;
pub mod crash;
pub mod examine;
pub mod exhaust;
mod faults;
pub mod feedback;
pub mod fuzz;
mod heap;
pub mod minimise;
mod panics;
mod pass;
pub mod race;
pub mod replay;
pub mod run;
pub mod schedules;
pub mod session;
mod stopwatch;
mod tidy;
mod trace;
pub mod watchdog;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::interrupt;
use crate::report::{Report, human};
use crate::scenario::Scenario;
use crate::shrink::Shrinker;
use watchdog::Hang;

/// Somebody who is told how a campaign goes on.
pub trait Progress {
    /// So much has been done so far.
    fn advanced(&mut self, scenarios: u64, operations: u64, violations: usize) {
        let _ = (scenarios, operations, violations);
    }

    /// Something worth a line has begun.
    fn began(&mut self, what: &str) {
        let _ = what;
    }

    /// How a report reaches the user when a call into this process never comes back, so that the
    /// campaign cannot return one.
    fn hang_reporter(&self) -> HangReporter {
        HangReporter::default()
    }
}

/// Hands a last report to the user, from another thread; the process ends afterwards.
#[derive(Clone)]
pub struct HangReporter {
    tell: Arc<dyn Fn(&Report) + Send + Sync>,
    /// Whether a scenario hangs in another process, too: longer than this.
    hangs: Option<Hangs>,
}

type Hangs = Arc<dyn Fn(&Scenario, Duration) -> bool + Send + Sync>;

impl HangReporter {
    /// Reports go to this function.
    pub fn new(tell: impl Fn(&Report) + Send + Sync + 'static) -> HangReporter {
        HangReporter { tell: Arc::new(tell), hangs: None }
    }

    /// The same where other processes can be started that tell whether a scenario lasts longer than a time; so it can be
    /// made small, though this process is lost.
    pub fn trying(self, hangs: impl Fn(&Scenario, Duration) -> bool + Send + Sync + 'static) -> HangReporter {
        HangReporter { hangs: Some(Arc::new(hangs)), ..self }
    }

    /// Hands it over.
    pub fn tell(&self, report: &Report) {
        (self.tell)(report);
    }

    /// Makes the scenario of a hang small, where that can be tried; tells how many were tried.
    pub(crate) fn shrink(&self, hang: Hang) -> (Hang, u64) {
        let Some(hangs) = &self.hangs else { return (hang, 0) };
        let (began, mut tried) = (Instant::now(), 0);
        let wait = (hang.limit / HANG_HURRY).max(LEAST_HANG);
        let mut shrinker = Shrinker::new(hang.scenario.clone());
        while let Some(candidate) = shrinker.propose() {
            if began.elapsed() >= LONGEST_HANG_SHRINKING || interrupt::requested() {
                break;
            }
            tried += 1;
            if hangs(&candidate, wait) {
                shrinker.accept(candidate);
            }
        }
        (Hang { scenario: shrinker.best().clone(), ..hang }, tried)
    }
}

/// While a hang is made small, what lasts longer than one part in so many of what a call may last is taken for it, but
/// nothing shorter than this: a process must have started by then.
const HANG_HURRY: u32 = 8;
const LEAST_HANG: Duration = Duration::from_millis(300);
/// How long that may take in all.
const LONGEST_HANG_SHRINKING: Duration = Duration::from_secs(30);

impl Default for HangReporter {
    /// Reports go to stderr, as text.
    fn default() -> HangReporter {
        HangReporter::new(|report| eprint!("{}", human::render(report)))
    }
}

impl fmt::Debug for HangReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HangReporter")
    }
}

/// Nobody is told.
pub struct Silent;

impl Progress for Silent {}
