//! The commands `check` and `replay`.

use std::time::Duration;

use anyhow::{Result, anyhow};

use super::arguments::{Check, Replay};
use super::progress::Bar;
use super::{publish, start};
use poolproof::engine::check::{self, Budget, Options};
use poolproof::engine::replay;
use poolproof::property::Verdict;

/// How long `check` runs when it is not told.
const DEFAULT_TIME: Duration = Duration::from_secs(30);

pub(super) fn check(arguments: &Check) -> Result<Verdict> {
    let common = &arguments.common;
    let budget = match arguments.runs {
        Some(runs) => Budget::Runs(runs),
        None => Budget::Time(arguments.time.unwrap_or(DEFAULT_TIME)),
    };
    let options = Options {
        sut: common.sut.clone(),
        budget,
        seed: arguments.seed.unwrap_or_else(fresh_seed),
        max_steps: usize::try_from(arguments.steps)?,
        properties: arguments.property.clone(),
        keep_going: arguments.keep_going,
        save: arguments.save.clone(),
    };
    let mut sut = match start(common)? {
        Ok(sut) => sut,
        Err(report) => return publish(&report, common),
    };
    let mut bar = Bar::of(budget);
    let report = check::check(sut.as_mut(), &options, &mut bar).map_err(|failure| anyhow!("{failure}"))?;
    drop(bar);
    drop(sut);
    publish(&report, common)
}

pub(super) fn replay(arguments: &Replay) -> Result<Verdict> {
    let common = &arguments.common;
    let entries = replay::read(&arguments.paths).map_err(|failure| anyhow!("{failure}"))?;
    let mut sut = match start(common)? {
        Ok(sut) => sut,
        Err(report) => return publish(&report, common),
    };
    let mut bar = Bar::of(Budget::Runs(entries.len() as u64));
    let report =
        replay::replay(sut.as_mut(), &common.sut, &entries, &mut bar).map_err(|failure| anyhow!("{failure}"))?;
    drop(bar);
    drop(sut);
    publish(&report, common)
}

/// A seed that nobody chose.
fn fresh_seed() -> u64 {
    fastrand::u64(..)
}
