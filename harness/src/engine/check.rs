//! `check`: runs the tour, then draws scenarios and runs them, until time or runs are used up or
//! something breaks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::campaign::Campaign;
use super::counterexample::CounterexampleFile;
use super::examine::Examiner;
use super::minimise::{Minimal, Minimiser, Patience};
use super::watchdog::OnHang;
use super::{HangReporter, Progress};
use crate::generate::{Generator, tour};
use crate::interrupt;
use crate::property::Property;
use crate::report::{Report, Reported};
use crate::scenario::Scenario;
use crate::sut::{Failure, Sut};

/// A scenario may take one part in so many of a campaign's time, but at least this long.
const LONGEST_SHARE: u32 = 20;
const LEAST_SHARE: Duration = Duration::from_secs(1);

/// How long a campaign lasts.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// So much time.
    Time(Duration),
    /// So many scenarios.
    Runs(u64),
    /// So many runs of scenarios, of which `crash` makes many for each.
    Executions(u64),
}

/// What runs a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// [`check()`].
    Check,
    /// [`exhaust`](super::exhaust::exhaust()).
    Exhaust,
    /// [`crash`](super::crash::crash()).
    Crash {
        /// Were scenarios given, and none drawn?
        is_given: bool,
    },
    /// [`race`](super::race::race()), with so many lanes at most.
    Race {
        /// Lanes.
        lanes: usize,
    },
}

/// What a campaign is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// What runs it; for the report.
    pub engine: Engine,
    /// The system's name on the command line; for the report.
    pub sut: String,
    /// How long.
    pub budget: Budget,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// Steps a scenario at most.
    pub max_steps: usize,
    /// Does it begin with the tour, which is the same for every seed?
    pub tours: bool,
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
    let mut generator = Generator::new(sut.contract()).with_max_steps(options.max_steps);
    if sut.restarts_slowly() {
        generator = generator.with_rare_restarts();
    }
    let mut tour = if options.tours { tour(sut.contract()) } else { Vec::new() }.into_iter();
    let draw = |seed| tour.next().unwrap_or_else(|| generator.scenario(seed));
    let mut report = run_drawn(sut, options, progress, draw)?;
    report.conclude(sut.contract());
    Ok(report)
}

/// Draws a scenario for each seed and runs it. The report has no verdict yet.
pub(super) fn run_drawn(
    sut: &mut dyn Sut,
    options: &Options,
    progress: &mut dyn Progress,
    mut draw: impl FnMut(u64) -> Scenario,
) -> Result<Report, Failure> {
    let reporter = progress.hang_reporter();
    let examiner = Examiner::sparing(sut).watched(sut, on_hang(options, &reporter))?;
    let mut campaign = Campaign::new(Report::new(&options.sut, Some(options.seed)).on(sut), examiner, progress);
    while goes_on(options.budget, &campaign) {
        let seed = mix(options.seed, campaign.report.scenarios);
        let scenario = Arc::new(draw(seed));
        if let (Budget::Time(time), false) = (options.budget, sut.is_fast()) {
            campaign.limit_scenario(share(time, campaign.elapsed()));
        }
        let Some(run) = campaign.run(sut, &scenario)? else { break };
        let is_late = run.is_late(sut.contract());
        let Some(finding) = run.finding else { continue };
        if !options.counts(&campaign.report, finding.violation.property) {
            continue;
        }
        let found = Found { minimal: Minimal::of(Arc::unwrap_or_clone(scenario), finding, sut), seed, is_late };
        let reported = follow_up(sut, options, found, &mut campaign, &reporter)?;
        campaign.report.add(reported);
        if !options.keep_going {
            break;
        }
    }
    Ok(campaign.end())
}

/// How long the next scenario may last: no campaign should be spent on one, nor last much longer than
/// it was to.
fn share(whole: Duration, elapsed: Duration) -> Duration {
    (whole / LONGEST_SHARE).max(LEAST_SHARE).min(whole.saturating_sub(elapsed))
}

fn goes_on(budget: Budget, campaign: &Campaign<'_>) -> bool {
    let is_left = match budget {
        Budget::Time(time) => campaign.elapsed() < time,
        Budget::Runs(runs) | Budget::Executions(runs) => campaign.report.scenarios < runs,
    };
    is_left && !interrupt::requested()
}

impl Options {
    /// Is a violation of this property wanted, and not reported yet?
    pub(super) fn counts(&self, report: &Report, property: Property) -> bool {
        let wanted = self.properties.is_empty() || self.properties.contains(&property);
        wanted && !report.violations.iter().any(|known| known.property == property)
    }
}

/// A scenario that fails, as it was drawn.
pub(super) struct Found {
    pub(super) minimal: Minimal,
    /// The seed that it was drawn with.
    pub(super) seed: u64,
    pub(super) is_late: bool,
}

/// Saves what was found, shrinks it, saves it again. Where it cannot be saved it is still reported.
pub(super) fn follow_up(
    sut: &mut dyn Sut,
    options: &Options,
    found: Found,
    campaign: &mut Campaign<'_>,
    reporter: &HangReporter,
) -> Result<Reported, Failure> {
    let seconds = campaign.elapsed().as_secs_f64();
    let mut file = CounterexampleFile::new(&options.save, &options.sut, found.seed);
    let Minimal { scenario, violation, .. } = &found.minimal;
    let place = match file.write(scenario, violation) {
        Ok(()) => format!("saved as {}", file.path().unwrap_or(&options.save).display()),
        Err(error) => format!("it cannot be saved in {}: {error}", options.save.display()),
    };
    campaign.announce(&format!("{violation}; {place}; shrinking"));
    let minimiser = Minimiser {
        patience: Patience::with(sut.contract()).within(options.budget),
        counts: &|property| options.counts(&campaign.report, property),
        is_late: found.is_late,
        on_hang: on_hang(options, reporter),
    };
    let minimal = minimiser.minimise(sut, found.minimal)?;
    let saved = file.write(&minimal.scenario, &minimal.violation);
    let is_reproducible = minimal.is_reproducible;
    let reported = Reported::new(minimal, campaign.report.scenarios, file.path(), &options.sut).after(seconds);
    // Where the file is not there, or does not show it by itself, the same campaign does.
    let reported = match (&saved, is_reproducible) {
        (Ok(()), true) => reported,
        _ => reported.shown_by_campaign(options),
    };
    Ok(match saved {
        Ok(()) => reported,
        Err(error) => reported.unsaved(&options.save, &error),
    })
}

/// What is done when a call into this process does not come back: the scenario is saved, made small in other processes where
/// that can be, because it cannot be run again here, and saved again.
pub(super) fn on_hang(options: &Options, reporter: &HangReporter) -> OnHang {
    let (options, reporter) = (options.clone(), reporter.clone());
    Box::new(move |hang| {
        let mut file = CounterexampleFile::new(&options.save, &options.sut, mix(options.seed, hang.scenarios));
        // Where it cannot be saved the report shows it all the same.
        let _ = file.write(&hang.scenario, &hang.violation());
        let (hang, tried) = reporter.shrink(hang);
        let saved = file.write(&hang.scenario, &hang.violation()).is_ok();
        reporter.tell(&Report::of_hang(&options.sut, &hang, tried, file.path().filter(|_| saved)));
    })
}

/// The seed of the n-th scenario: well spread, and the same for ever. (The finaliser of
/// SplitMix64, Steele et al. 2014.)
pub(super) fn mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
