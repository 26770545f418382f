//! One tool on one mutant: what it has come to so far.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use poolproof::engine::run::{Runner, Unwatched};
use poolproof::property::Violation;
use poolproof::scenario::Scenario;
use poolproof::sut::{Failure, Sut};
use poolproof_mutants::{Bug, Mutant};
use serde::{Deserialize, Serialize};

/// A test that lasts longer hangs.
const LONGEST_TEST: Duration = Duration::from_secs(10);

/// What a trial came to.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Outcome {
    /// Tests run, up to and with the first that failed.
    pub executions: u64,
    /// Time until then.
    pub seconds: f64,
    /// The property that the first failing test broke; nothing if none failed.
    pub property: Option<String>,
    /// The steps of the shortest failing test that the tool came to.
    pub steps: Option<usize>,
}

/// A trial under way.
pub struct Trial {
    mutant: &'static Mutant,
    bug: Bug,
    began: Instant,
    /// Where the outcome so far is written after each failing test; else it is written to stdout at the end.
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    outcome: Outcome,
    /// When the test under way began.
    test: Option<Instant>,
}

impl Trial {
    /// Begins, and watches for hangs from now on.
    pub fn begin(mutant: &'static Mutant, bug: Bug, file: Option<PathBuf>) -> &'static Trial {
        let trial: &'static Trial =
            Box::leak(Box::new(Trial { mutant, bug, began: Instant::now(), file, state: Mutex::default() }));
        thread::spawn(|| trial.watch());
        trial
    }

    /// A fresh system under test.
    pub fn sut(&self) -> Box<dyn Sut> {
        self.mutant.sut(self.bug)
    }

    /// A test begins.
    pub fn test_begins(&self) {
        let mut state = self.state();
        state.test = Some(Instant::now());
        if state.outcome.property.is_none() {
            state.outcome.executions += 1;
        }
    }

    /// The test under way failed, or did not.
    pub fn test_ends(&self, failed: Option<(&Violation, usize)>) {
        let mut state = self.state();
        state.test = None;
        if let Some((violation, steps)) = failed {
            self.fail(&mut state.outcome, violation.property.name(), Some(steps));
        }
    }

    /// Runs a scenario as one test.
    ///
    /// # Errors
    ///
    /// What it violated.
    pub fn test(&self, scenario: &Scenario) -> Result<(), Violation> {
        self.test_begins();
        let mut sut = self.sut();
        let run = Runner::new(sut.as_ref()).run(sut.as_mut(), scenario, &mut Unwatched);
        let violation = match run {
            Ok(run) => run.finding.map(|finding| finding.violation),
            Err(Failure::Misbehaved(violation)) => Some(violation),
            Err(failure) => panic!("the mutant cannot be tried: {failure}"),
        };
        self.test_ends(violation.as_ref().map(|violation| (violation, scenario.steps.len())));
        violation.map_or(Ok(()), Err)
    }

    /// Writes the outcome to stdout.
    pub fn print(&self) {
        let mut outcome = self.state().outcome.clone();
        if outcome.property.is_none() {
            outcome.seconds = self.began.elapsed().as_secs_f64();
        }
        println!("{}", serde_json::to_string(&outcome).expect("an outcome is JSON"));
    }

    fn fail(&self, outcome: &mut Outcome, property: &str, steps: Option<usize>) {
        if outcome.property.is_none() {
            outcome.property = Some(property.to_owned());
            outcome.seconds = self.began.elapsed().as_secs_f64();
        }
        outcome.steps = [outcome.steps, steps].into_iter().flatten().min();
        if let Some(file) = &self.file {
            let written = serde_json::to_vec(outcome).map_err(std::io::Error::from);
            written.and_then(|text| std::fs::write(file, text)).expect("the outcome can be written");
        }
    }

    /// A test that never ends is one that fails; nothing more comes after it.
    fn watch(&self) {
        loop {
            thread::sleep(Duration::from_millis(100));
            let mut state = self.state();
            if state.test.is_some_and(|began| began.elapsed() > LONGEST_TEST) {
                self.fail(&mut state.outcome, "total", None);
                drop(state);
                self.print();
                std::io::stdout().flush().expect("stdout can be written");
                std::process::exit(0);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
