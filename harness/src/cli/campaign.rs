//! The commands `check`, `exhaust`, `crash`, `race` and `replay`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use super::arguments::{Check, Common, Crash, Exhaust, Finds, Race, Replay};
use super::progress::Bar;
use super::{draw, hang_reporter, probe, publish, start};
use poolproof::engine::check::{self, Budget, Engine, Options};
use poolproof::engine::examine::unchecked;
use poolproof::engine::replay;
use poolproof::engine::{crash, exhaust, race, schedules};
use poolproof::property::{Property, Verdict};
use poolproof::report::Report;
use poolproof::scenario::Scenario;
use poolproof::sut::{Failure, Sut};

/// How long `check` runs when it is not told.
const DEFAULT_TIME: Duration = Duration::from_secs(30);

pub(super) fn check(arguments: &Check) -> Result<Verdict> {
    let common = &arguments.common;
    let options = Options {
        seed: arguments.seed.unwrap_or_else(fresh_seed),
        max_steps: usize::try_from(arguments.steps)?,
        tours: !arguments.no_tour,
        ..options(Engine::Check, common, budget(arguments.runs, arguments.time), &arguments.finds)
    };
    run(common, &options, |sut, bar| check::check(sut, &options, bar))
}

pub(super) fn exhaust(arguments: &Exhaust) -> Result<Verdict> {
    let common = &arguments.common;
    let depth = usize::try_from(arguments.depth)?;
    let budget = Budget::Runs(u64::MAX);
    let options = Options { max_steps: depth, ..options(Engine::Exhaust, common, budget, &arguments.finds) };
    run(common, &options, |sut, bar| exhaust::exhaust(sut, depth, &options, bar))
}

/// Lanes are short, and come without a tour.
pub(super) fn race(arguments: &Race) -> Result<Verdict> {
    let common = &arguments.common;
    let given = given(&arguments.paths)?;
    let budget = match (arguments.runs, arguments.time) {
        (None, None) if !given.is_empty() => Budget::Runs(u64::MAX),
        (runs, time) => budget(runs, time),
    };
    let engine = Engine::Race { lanes: usize::try_from(arguments.lanes)? };
    let seed = arguments.seed.unwrap_or_else(fresh_seed);
    let options = Options { seed, ..options(engine, common, budget, &arguments.finds) };
    run(common, &options, |sut, bar| match given.as_slice() {
        [] => race::race(sut, &options, bar),
        given => schedules::enumerate(sut, given, arguments.interruptions, &options, bar),
    })
}

pub(super) fn crash(arguments: &Crash) -> Result<Verdict> {
    let common = Common { sut: on_simulated_disk(&arguments.common.sut)?, ..arguments.common.clone() };
    let given = given(&arguments.paths)?;
    let is_given = !given.is_empty();
    let budget = match (arguments.executions, arguments.runs, arguments.time) {
        (Some(executions), ..) => Budget::Executions(executions),
        (None, None, None) if is_given => Budget::Runs(u64::MAX),
        (None, runs, time) => budget(runs, time),
    };
    let finds = Finds {
        // Of what was given, each step is struck whatever was found before.
        keep_going: arguments.finds.keep_going || is_given,
        ..arguments.finds.clone()
    };
    let options = Options {
        seed: arguments.seed.unwrap_or_else(fresh_seed),
        max_steps: usize::try_from(arguments.steps)?,
        tours: !arguments.no_tour,
        ..options(Engine::Crash { is_given }, &common, budget, &finds)
    };
    run(&common, &options, |sut, bar| crash::crash(sut, &given, &options, bar))
}

/// So many runs, or so much time.
fn budget(runs: Option<u64>, time: Option<Duration>) -> Budget {
    runs.map_or_else(|| Budget::Time(time.unwrap_or(DEFAULT_TIME)), Budget::Runs)
}

/// The scenarios of these files and folders.
fn given(paths: &[PathBuf]) -> Result<Vec<Scenario>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let entries = replay::read(paths).map_err(|failure| anyhow!("{failure}"))?;
    Ok(entries.into_iter().map(|entry| entry.scenario).collect())
}

/// What is common to all; what is not drawn needs neither a seed nor a length.
fn options(engine: Engine, common: &Common, budget: Budget, finds: &Finds) -> Options {
    Options {
        engine,
        sut: common.sut.clone(),
        budget,
        seed: 0,
        max_steps: 0,
        tours: false,
        properties: finds.property.clone(),
        keep_going: finds.keep_going,
        save: finds.save.clone(),
    }
}

/// Starts the system, lets an engine at it, and publishes what that reports.
fn run(
    common: &Common,
    options: &Options,
    engine: impl FnOnce(&mut dyn Sut, &mut Bar) -> Result<Report, Failure>,
) -> Result<Verdict> {
    probe(&options.save, "--save")?;
    let mut sut = match start(common)? {
        Ok(sut) => sut,
        Err(report) => return publish(&report, common),
    };
    demand_checked(sut.as_ref(), options)?;
    let mut bar = Bar::of(options.budget, hang_reporter(common));
    let mut report = engine(sut.as_mut(), &mut bar).map_err(|failure| anyhow!("{failure}"))?;
    drop(bar);
    drop(sut);
    draw(&mut report);
    publish(&report, common)
}

/// Where the allocator is put whose disk shall fail.
fn on_simulated_disk(sut: &str) -> Result<String> {
    if sut.starts_with("sqlite:") || (sut.starts_with("sqlite?") && sut.contains(':')) {
        bail!("`{sut}` is on the machine's own disk, which does not fail when it is told to; leave the path away");
    }
    Ok(match sut.strip_prefix("sqlite") {
        Some(options) => format!("simulated{options}"),
        None => sut.to_owned(),
    })
}

pub(super) fn replay(arguments: &Replay) -> Result<Verdict> {
    let common = &arguments.common;
    let entries = replay::read(&arguments.paths).map_err(|failure| anyhow!("{failure}"))?;
    let mut sut = match start(common)? {
        Ok(sut) => sut,
        Err(report) => return publish(&report, common),
    };
    let mut bar = Bar::of(Budget::Runs(entries.len() as u64), hang_reporter(common));
    let report =
        replay::replay(sut.as_mut(), &common.sut, &entries, &mut bar).map_err(|failure| anyhow!("{failure}"))?;
    drop(bar);
    drop(sut);
    publish(&report, common)
}

/// Asking only for what is not looked at would always pass.
fn demand_checked(sut: &dyn Sut, options: &Options) -> Result<()> {
    let is_raced =
        |property: Property| property == Property::Linearizable && matches!(options.engine, Engine::Race { .. });
    let asked = options.properties.iter().filter(|property| !is_raced(**property));
    let mut unlooked = asked.filter_map(|property| unchecked(sut, *property).map(|why| (property, why)));
    match unlooked.next() {
        Some((property, why)) => bail!("`{property}` cannot be checked on this system: {why}"),
        None => Ok(()),
    }
}

/// A seed that nobody chose.
fn fresh_seed() -> u64 {
    fastrand::u64(..)
}
