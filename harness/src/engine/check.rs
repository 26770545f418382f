//! `check`: runs the tour, then draws scenarios and runs them, until time or runs are used up or
//! something breaks.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Progress;
use super::counterexample::CounterexampleFile;
use super::examine::Examiner;
use super::minimise::{default_limit, minimise};
use crate::generate::{Generator, tour};
use crate::interrupt;
use crate::property::{Property, Violation};
use crate::report::{Report, Reported};
use crate::scenario::Scenario;
use crate::sut::{Failure, Sut};

/// How long a campaign lasts.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// So much time.
    Time(Duration),
    /// So many scenarios.
    Runs(u64),
}

/// What a campaign is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The system's name on the command line; for the report.
    pub sut: String,
    /// How long.
    pub budget: Budget,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// Steps a scenario at most.
    pub max_steps: usize,
    /// Only violations of these count; empty means all.
    pub properties: Vec<Property>,
    /// Go on after a violation; each property is then reported once.
    pub keep_going: bool,
    /// Folder for counterexamples.
    pub save: PathBuf,
}

/// Runs a campaign. An interruption ends it early with what was seen so far.
///
/// # Errors
///
/// What the harness itself could not do; never what the system does wrong.
pub fn check(sut: &mut dyn Sut, options: &Options, progress: &mut dyn Progress) -> Result<Report, Failure> {
    let generator = Generator::new(sut.contract()).with_max_steps(options.max_steps);
    let mut tour = tour(sut.contract()).into_iter();
    let mut examiner = Examiner::sparing(sut);
    let mut report = Report::new(&options.sut, Some(options.seed));
    let started = Instant::now();
    while goes_on(options.budget, started, report.scenarios) {
        let seed = mix(options.seed, report.scenarios);
        let scenario = tour.next().unwrap_or_else(|| generator.scenario(seed));
        let run = match examiner.examine(sut, &scenario) {
            Ok(run) => run,
            Err(Failure::Interrupted) => break,
            Err(other) => return Err(other),
        };
        report.scenarios += 1;
        report.operations += run.operations;
        report.skipped += run.skipped;
        progress.advanced(report.scenarios, report.operations, report.violations.len());
        if let Some(finding) = run.finding.filter(|finding| counts(options, &report, finding.violation.property)) {
            let found = Found { scenario, violation: finding.violation, seed };
            let reported = follow_up(sut, options, found, &report, progress)?;
            report.add(reported);
            if !options.keep_going {
                break;
            }
        }
    }
    report.is_interrupted = interrupt::requested();
    report.seconds = started.elapsed().as_secs_f64();
    report.conclude(examiner.runner.model.coverage.clone(), sut.contract());
    Ok(report)
}

fn goes_on(budget: Budget, started: Instant, scenarios: u64) -> bool {
    let is_left = match budget {
        Budget::Time(time) => started.elapsed() < time,
        Budget::Runs(runs) => scenarios < runs,
    };
    is_left && !interrupt::requested()
}

/// Is a violation of this property wanted, and not reported yet?
fn counts(options: &Options, report: &Report, property: Property) -> bool {
    let wanted = options.properties.is_empty() || options.properties.contains(&property);
    wanted && !report.violations.iter().any(|known| known.property == property)
}

/// A scenario that fails, as it was drawn.
struct Found {
    scenario: Scenario,
    violation: Violation,
    seed: u64,
}

/// Saves what was found, shrinks it, saves it again.
fn follow_up(
    sut: &mut dyn Sut,
    options: &Options,
    found: Found,
    report: &Report,
    progress: &mut dyn Progress,
) -> Result<Reported, Failure> {
    // What was found must not be lost with the file.
    let shown = format!("{} in\n{}", found.violation, found.scenario);
    let unable = |error: std::io::Error| {
        let folder = options.save.display();
        let advice = format!("cannot write the counterexample into {folder}: {error}; name another with --save");
        Failure::Unable(format!("{advice}; found: {shown}"))
    };
    let diagnostics = sut.diagnostics();
    let file = CounterexampleFile::new(&options.save, &options.sut, found.seed, &found.violation).map_err(unable)?;
    file.write(&found.scenario, &found.violation).map_err(unable)?;
    progress.began(&format!("{}; saved as {}, shrinking", found.violation, file.path().display()));
    let limit = default_limit(sut.contract());
    let minimal = minimise(sut, found.scenario, found.violation, limit, &|property| counts(options, report, property))?;
    file.write(&minimal.scenario, &minimal.violation).map_err(unable)?;
    Ok(Reported::new(minimal, report.scenarios, file.path(), &options.sut).with_diagnostics(diagnostics))
}

/// The seed of the n-th scenario: well spread, and the same for ever. (The finaliser of
/// SplitMix64, Steele et al. 2014.)
fn mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
