//! The commands `check`, `exhaust`, `crash`, `race` and `replay`.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use super::arguments::{Check, Common, Crash, Exhaust, Race, Replay};
use super::progress::Bar;
use super::{draw, hang_reporter, probe, publish, start};
use poolproof::engine::check::{self, Budget, Engine, Options};
use poolproof::engine::examine::unchecked;
use poolproof::engine::replay;
use poolproof::engine::{crash, exhaust, race, schedules};
use poolproof::property::{Property, Verdict};
use poolproof::sut::Sut;

/// How long `check` runs when it is not told.
const DEFAULT_TIME: Duration = Duration::from_secs(30);

pub(super) fn check(arguments: &Check) -> Result<Verdict> {
    let common = &arguments.common;
    let budget = match arguments.runs {
        Some(runs) => Budget::Runs(runs),
        None => Budget::Time(arguments.time.unwrap_or(DEFAULT_TIME)),
    };
    let options = Options {
        engine: Engine::Check,
        sut: common.sut.clone(),
        budget,
        seed: arguments.seed.unwrap_or_else(fresh_seed),
        max_steps: usize::try_from(arguments.steps)?,
        tours: !arguments.no_tour,
        properties: arguments.finds.property.clone(),
        keep_going: arguments.finds.keep_going,
        save: arguments.finds.save.clone(),
    };
    probe(&options.save, "--save")?;
    let mut sut = match start(common)? {
        Ok(sut) => sut,
        Err(report) => return publish(&report, common),
    };
    demand_checked(sut.as_ref(), &options.properties)?;
    let mut bar = Bar::of(budget, hang_reporter(common));
    let mut report = check::check(sut.as_mut(), &options, &mut bar).map_err(|failure| anyhow!("{failure}"))?;
    drop(bar);
    drop(sut);
    draw(&mut report);
    publish(&report, common)
}

pub(super) fn exhaust(arguments: &Exhaust) -> Result<Verdict> {
    let common = &arguments.common;
    let depth = usize::try_from(arguments.depth)?;
    // What is not drawn needs neither a seed nor a length.
    let options = Options {
        engine: Engine::Exhaust,
        sut: common.sut.clone(),
        budget: Budget::Runs(u64::MAX),
        seed: 0,
        max_steps: depth,
        tours: false,
        properties: arguments.finds.property.clone(),
        keep_going: arguments.finds.keep_going,
        save: arguments.finds.save.clone(),
    };
    probe(&options.save, "--save")?;
    let mut sut = match start(common)? {
        Ok(sut) => sut,
        Err(report) => return publish(&report, common),
    };
    demand_checked(sut.as_ref(), &options.properties)?;
    let mut bar = Bar::of(options.budget, hang_reporter(common));
    let mut report =
        exhaust::exhaust(sut.as_mut(), depth, &options, &mut bar).map_err(|failure| anyhow!("{failure}"))?;
    drop(bar);
    drop(sut);
    draw(&mut report);
    publish(&report, common)
}

pub(super) fn race(arguments: &Race) -> Result<Verdict> {
    let common = &arguments.common;
    let given: Vec<_> = match arguments.paths.as_slice() {
        [] => Vec::new(),
        paths => replay::read(paths).map_err(|failure| anyhow!("{failure}"))?,
    };
    let budget = match (arguments.runs, arguments.time) {
        (Some(runs), _) => Budget::Runs(runs),
        (None, Some(time)) => Budget::Time(time),
        (None, None) if given.is_empty() => Budget::Time(DEFAULT_TIME),
        (None, None) => Budget::Runs(u64::MAX),
    };
    let options = Options {
        engine: Engine::Race { lanes: usize::try_from(arguments.lanes)? },
        sut: common.sut.clone(),
        budget,
        seed: arguments.seed.unwrap_or_else(fresh_seed),
        // Lanes are short, and come without a tour.
        max_steps: 0,
        tours: false,
        properties: arguments.finds.property.clone(),
        keep_going: arguments.finds.keep_going,
        save: arguments.finds.save.clone(),
    };
    probe(&options.save, "--save")?;
    let mut sut = match start(common)? {
        Ok(sut) => sut,
        Err(report) => return publish(&report, common),
    };
    let mut bar = Bar::of(budget, hang_reporter(common));
    let given: Vec<_> = given.into_iter().map(|entry| entry.scenario).collect();
    let report = match given.as_slice() {
        [] => race::race(sut.as_mut(), &options, &mut bar),
        given => schedules::enumerate(sut.as_mut(), given, arguments.interruptions, &options, &mut bar),
    };
    let mut report = report.map_err(|failure| anyhow!("{failure}"))?;
    drop(bar);
    drop(sut);
    draw(&mut report);
    publish(&report, common)
}

pub(super) fn crash(arguments: &Crash) -> Result<Verdict> {
    let common = Common { sut: on_simulated_disk(&arguments.common.sut)?, ..arguments.common.clone() };
    let given = match arguments.paths.as_slice() {
        [] => Vec::new(),
        paths => replay::read(paths).map_err(|failure| anyhow!("{failure}"))?,
    };
    let budget = match (arguments.executions, arguments.runs, arguments.time) {
        (Some(executions), _, _) => Budget::Executions(executions),
        (None, Some(runs), _) => Budget::Runs(runs),
        (None, None, Some(time)) => Budget::Time(time),
        (None, None, None) if given.is_empty() => Budget::Time(DEFAULT_TIME),
        (None, None, None) => Budget::Runs(u64::MAX),
    };
    let options = Options {
        engine: Engine::Crash { is_given: !given.is_empty() },
        sut: common.sut.clone(),
        budget,
        seed: arguments.seed.unwrap_or_else(fresh_seed),
        max_steps: usize::try_from(arguments.steps)?,
        tours: !arguments.no_tour,
        properties: arguments.finds.property.clone(),
        // Of what was given, each step is struck whatever was found before.
        keep_going: arguments.finds.keep_going || !given.is_empty(),
        save: arguments.finds.save.clone(),
    };
    probe(&options.save, "--save")?;
    let mut sut = match start(&common)? {
        Ok(sut) => sut,
        Err(report) => return publish(&report, &common),
    };
    demand_checked(sut.as_ref(), &options.properties)?;
    let given: Vec<_> = given.into_iter().map(|entry| entry.scenario).collect();
    let mut bar = Bar::of(budget, hang_reporter(&common));
    let mut report = crash::crash(sut.as_mut(), &given, &options, &mut bar).map_err(|failure| anyhow!("{failure}"))?;
    drop(bar);
    drop(sut);
    draw(&mut report);
    publish(&report, &common)
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
fn demand_checked(sut: &dyn Sut, properties: &[Property]) -> Result<()> {
    let why = |property: &Property| unchecked(sut, *property).map(|why| (*property, why));
    match properties.iter().find_map(why) {
        Some((property, why)) => bail!("`{property}` cannot be checked on this system: {why}"),
        None => Ok(()),
    }
}

/// A seed that nobody chose.
fn fresh_seed() -> u64 {
    fastrand::u64(..)
}
