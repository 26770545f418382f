//! The engines: one file each. They differ in who writes the scenario and in how it is run.
//!
//! [`run`] runs one scenario (`trace` keeps what its steps left behind), [`examine`] looks at it once
//! more from outside, [`watchdog`] sees to it that it ends; [`check`] draws them,
//! [`exhaust`] tries all that are small, [`replay`] reads them from files, each in a `campaign`, and
//! [`minimise`] makes a failing one small. Each campaign ends in a [`Report`].

mod campaign;
pub mod chance;
pub mod check;
pub mod counterexample;
pub mod examine;
pub mod exhaust;
pub mod fuzz;
pub mod minimise;
mod panics;
pub mod replay;
pub mod run;
mod stopwatch;
mod trace;
pub mod watchdog;

use std::fmt;
use std::sync::Arc;

use crate::report::{Report, human};

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
pub struct HangReporter(Arc<dyn Fn(&Report) + Send + Sync>);

impl HangReporter {
    /// Reports go to this function.
    pub fn new(tell: impl Fn(&Report) + Send + Sync + 'static) -> HangReporter {
        HangReporter(Arc::new(tell))
    }

    /// Hands it over.
    pub fn tell(&self, report: &Report) {
        (self.0)(report);
    }
}

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
