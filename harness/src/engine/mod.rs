//! The engines: one file each. They differ in who writes the scenario and in how it is run.
//!
//! [`run`] runs one scenario, [`examine`] looks at it once more from outside; [`check`] draws them, [`replay`] reads them from files, and
//! [`minimise`] makes a failing one small. Each campaign ends in a [`Report`](crate::report::Report).

pub mod check;
pub mod counterexample;
pub mod examine;
pub mod fuzz;
pub mod minimise;
mod panics;
pub mod replay;
pub mod run;

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
}

/// Nobody is told.
pub struct Silent;

impl Progress for Silent {}
