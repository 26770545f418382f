//! What a campaign came to, and its forms: for people, as JSON, as JUnit; and what concurrent callers saw, as a picture.

pub mod human;
pub mod json;
#[cfg(feature = "junit")]
pub mod junit;
#[cfg(feature = "cli")]
pub mod picture;

use std::io;
use std::path::{Path, PathBuf};

use crate::contract::Contract;
use crate::engine::check::{Engine, Options};
use crate::engine::crash::Visited;
use crate::engine::examine::unchecked;
use crate::engine::exhaust::Covered;
use crate::engine::minimise::Minimal;
use crate::engine::schedules::Tried;
use crate::engine::watchdog::Hang;
use crate::history::Broken;
use crate::model::coverage::Coverage;
use crate::property::{Property, Verdict, Violation};
use crate::scenario::Scenario;
use crate::sut::Sut;

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
    /// Properties that were not looked at, and why.
    pub unchecked: Vec<(Property, &'static str)>,
    /// Did the user end it early?
    pub is_interrupted: bool,
    /// Where faults were injected at every step of I/O: what was visited.
    pub visited: Option<Visited>,
    /// Where all scenarios up to a depth were to be tried: which were.
    pub covered: Option<Covered>,
    /// Where schedules of callers at the same time were tried one by one: which were.
    pub tried: Option<Tried>,
    /// Scenarios with callers at the same time of which nobody can tell whether an order explains them, and why for the last.
    pub left_open: (u64, String),
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
    /// How long the campaign took until it was found.
    pub seconds: f64,
    /// Scenarios run to shrink it.
    pub shrink_executions: u64,
    /// Why shrinking was stopped before the fix-point, if it was.
    pub cut_short: Option<String>,
    /// Where the counterexample is.
    pub file: Option<PathBuf>,
    /// What callers at the same time saw, if that is what breaks it.
    pub broken: Option<Box<Broken>>,
    /// Where that is, as JSON lines, if it was written.
    pub history: Option<PathBuf>,
    /// Where the picture of that is, if it was drawn.
    pub picture: Option<PathBuf>,
    /// Why it could not be saved, if it could not.
    pub unsaved: Option<String>,
    /// The command that reproduces it.
    pub reproduce: String,
    /// What the system wrote for people.
    pub diagnostics: String,
    /// The system's name on the command line.
    sut: String,
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
            unchecked: Vec::new(),
            is_interrupted: false,
            covered: None,
            tried: None,
            left_open: (0, String::new()),
            visited: None,
        }
    }

    /// The same, which says what is not looked at in this system.
    pub fn on(self, sut: &dyn Sut) -> Report {
        let unchecked = |property: Property| unchecked(sut, property).map(|why| (property, why));
        Report { unchecked: Property::ALL.into_iter().filter_map(unchecked).collect(), ..self }
    }

    /// The report on a system that misbehaved before any scenario began.
    pub fn of_start(sut: &str, violation: Violation) -> Report {
        let minimal = unshrunk(Scenario::default(), violation);
        let mut report = Report::new(sut, None);
        report.add(Reported::new(minimal, 0, None, sut));
        report.settle();
        report
    }

    /// The report on a call into this process that has not come back, after so many scenarios to make it small, with the
    /// scenario's file.
    pub fn of_hang(sut: &str, hang: &Hang, tried: u64, file: Option<&Path>) -> Report {
        let minimal = Minimal { executions: tried, ..unshrunk(hang.scenario.clone(), hang.violation()) };
        let mut report = Report::new(sut, None);
        report.scenarios = hang.scenarios;
        report.add(Reported::new(minimal, hang.scenarios, file, sut));
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
    pub fn conclude(&mut self, contract: &Contract) {
        self.missing = self.coverage.missing(contract);
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
    /// A violation with its counterexample in `file`; without one, what shows it is `check` itself.
    pub fn new(minimal: Minimal, executions: u64, file: Option<&Path>, sut: &str) -> Reported {
        let command = match file.map(Path::to_string_lossy) {
            // What begins with a dash would be taken for an option.
            Some(path) if path.starts_with('-') => format!("replay {}", shell_word(&format!("./{path}"))),
            Some(path) => format!("replay {}", shell_word(&path)),
            None => "check".to_owned(),
        };
        Reported {
            property: minimal.violation.property,
            message: minimal.violation.message,
            scenario: minimal.scenario,
            executions,
            seconds: 0.0,
            shrink_executions: minimal.executions,
            cut_short: minimal.cut_short,
            file: file.map(Path::to_owned),
            broken: minimal.broken,
            history: None,
            picture: None,
            unsaved: None,
            reproduce: format!("poolproof {command} --sut {}", shell_word(sut)),
            diagnostics: minimal.diagnostics,
            sut: sut.to_owned(),
        }
    }

    /// The same, found after so long.
    pub fn after(self, seconds: f64) -> Reported {
        Reported { seconds, ..self }
    }

    /// The same where only the campaign that found it shows it: with the same seed it comes to the same scenario.
    pub fn shown_by_campaign(self, &Options { engine, seed, max_steps, tours, .. }: &Options) -> Reported {
        let (runs, sut) = (self.executions, shell_word(&self.sut));
        let tour = if tours { "" } else { " --no-tour" };
        let reproduce = match engine {
            Engine::Check => {
                format!("poolproof check --sut {sut} --seed {seed} --steps {max_steps}{tour} --runs {runs}")
            }
            Engine::Exhaust => format!("poolproof exhaust --sut {sut} --depth {max_steps}"),
            Engine::Race { lanes } => {
                format!("poolproof race --sut {sut} --lanes {lanes} --seed {seed} --runs {runs}")
            }
            // What is given is looked at in the same order, whatever the seed.
            Engine::Crash { is_given: true } => format!("poolproof crash FILE… --sut {sut} --executions {runs}"),
            Engine::Crash { is_given: false } => {
                format!("poolproof crash --sut {sut} --seed {seed} --steps {max_steps}{tour} --executions {runs}")
            }
        };
        Reported { reproduce, ..self }
    }

    /// The same where the counterexample could not be saved in this folder; it is only shown.
    pub fn unsaved(self, folder: &Path, error: &io::Error) -> Reported {
        let folder = folder.display();
        let why =
            format!("it cannot be saved in {folder}: {error}; save what is shown, or name another folder with --save");
        Reported { unsaved: Some(why), ..self }
    }
}

/// A scenario as it was met.
fn unshrunk(scenario: Scenario, violation: Violation) -> Minimal {
    Minimal {
        scenario,
        violation,
        broken: None,
        diagnostics: String::new(),
        executions: 0,
        cut_short: None,
        is_reproducible: true,
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
