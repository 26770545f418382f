//! What a campaign came to, and its forms: for people, as JSON, as JUnit.

pub mod human;
pub mod json;
#[cfg(feature = "cli")]
pub mod junit;

use std::path::{Path, PathBuf};

use crate::contract::Contract;
use crate::engine::minimise::Minimal;
use crate::model::coverage::Coverage;
use crate::property::{Property, Verdict, Violation};
use crate::scenario::Scenario;

/// What a campaign came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Pass, violated or unknown.
    pub verdict: Verdict,
    /// The system's name on the command line.
    pub sut: String,
    /// The seed, where scenarios were drawn.
    pub seed: Option<u64>,
    /// Scenarios run, without those of shrinking.
    pub scenarios: u64,
    /// Calls judged, without those of shrinking.
    pub operations: u64,
    /// Steps that were not run.
    pub skipped: u64,
    /// How long it took, shrinking included.
    pub seconds: f64,
    /// What was broken.
    pub violations: Vec<Reported>,
    /// What was exercised.
    pub coverage: Coverage,
    /// What should have been exercised and never was; the reason for *unknown*.
    pub missing: Vec<String>,
    /// Did the user end it early?
    pub is_interrupted: bool,
}

/// A violation in a report.
#[derive(Clone, Debug)]
pub struct Reported {
    /// The broken property.
    pub property: Property,
    /// What was seen.
    pub message: String,
    /// The counterexample.
    pub scenario: Scenario,
    /// Scenarios run until it was found.
    pub executions: u64,
    /// Scenarios run to shrink it.
    pub shrink_executions: u64,
    /// Was shrinking stopped before the fix-point?
    pub is_cut_short: bool,
    /// Where the counterexample is saved.
    pub file: PathBuf,
    /// The command that reproduces it.
    pub reproduce: String,
    /// What the system wrote for people.
    pub diagnostics: String,
}

impl Report {
    /// The report of a campaign that has only begun.
    pub fn new(sut: &str, seed: Option<u64>) -> Report {
        Report {
            verdict: Verdict::Unknown,
            sut: sut.to_owned(),
            seed,
            scenarios: 0,
            operations: 0,
            skipped: 0,
            seconds: 0.0,
            violations: Vec::new(),
            coverage: Coverage::default(),
            missing: Vec::new(),
            is_interrupted: false,
        }
    }

    /// The report on a system that misbehaved before any scenario began.
    pub fn of_start(sut: &str, violation: Violation) -> Report {
        let minimal = Minimal { scenario: Scenario::default(), violation, executions: 0, is_cut_short: false };
        let reproduce = format!("poolproof check --sut {}", shell_word(sut));
        let reported = Reported { reproduce, ..Reported::new(minimal, 0, Path::new(""), sut) };
        let mut report = Report::new(sut, None);
        report.add(reported);
        report.settle();
        report
    }

    /// The report on a system that was still starting when the user wanted to stop.
    pub fn of_nothing(sut: &str) -> Report {
        let mut report = Report::new(sut, None);
        report.is_interrupted = true;
        report.missing.push("the system was still starting".to_owned());
        report.settle();
        report
    }

    /// Adds a violation.
    pub fn add(&mut self, reported: Reported) {
        self.violations.push(reported);
    }

    /// Ends a campaign that was to exercise the whole contract.
    pub fn conclude(&mut self, coverage: Coverage, contract: &Contract) {
        self.missing = coverage.missing(contract);
        self.coverage = coverage;
        self.settle();
    }

    /// Sets the verdict from violations and what is missing.
    pub fn settle(&mut self) {
        self.verdict = match (self.violations.is_empty(), self.missing.is_empty()) {
            (false, _) => Verdict::Violated,
            (true, false) => Verdict::Unknown,
            (true, true) => Verdict::Pass,
        };
    }
}

impl Reported {
    /// A violation with its counterexample in `file`.
    pub fn new(minimal: Minimal, executions: u64, file: &Path, sut: &str) -> Reported {
        let path = file.to_string_lossy();
        // What begins with a dash would be taken for an option.
        let path = if path.starts_with('-') { format!("./{path}").into() } else { path };
        Reported {
            property: minimal.violation.property,
            message: minimal.violation.message,
            scenario: minimal.scenario,
            executions,
            shrink_executions: minimal.executions,
            is_cut_short: minimal.is_cut_short,
            file: file.to_owned(),
            reproduce: format!("poolproof replay {} --sut {}", shell_word(&path), shell_word(sut)),
            diagnostics: String::new(),
        }
    }

    /// The same with what the system wrote for people.
    pub fn with_diagnostics(self, diagnostics: String) -> Reported {
        Reported { diagnostics, ..self }
    }
}

/// A word as a shell takes it.
fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:,=@+".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
