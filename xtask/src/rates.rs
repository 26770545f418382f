//! `cargo xtask rates`: how many steps a second our targets run, beside targets as cargo-fuzz's book writes them.
//!
//! Both kinds run the reference allocator, in turn, each from nothing and for the same time, without a sanitizer. Rates are
//! executions a second times steps an execution; what counts is the ratio of their medians, as rates drift with the machine.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::fuzzer::{self, Fuzzer};
use crate::libfuzzer::{self, Progress};
use crate::process::{self, Interrupt};
use crate::toolchain::Toolchain;
use crate::{FOUND, summary};

/// Compare how fast our fuzz targets are with bare ones: derived operations and a BTreeMap
///
/// Exit status: 0 ours are as fast as they are to be, 1 they are not, 2 a target could not run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long each target runs in each round
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = humantime::parse_duration)]
    time: Duration,

    /// How often each runs
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// A target of ours and the bare one beside it.
struct Pair {
    name: &'static str,
    ours: &'static str,
    /// What the target `sut` is to run.
    sut: &'static str,
    bare: &'static str,
    /// So many times the bare one's rate.
    at_least: f64,
}

const PAIRS: [Pair; 2] = [
    Pair { name: "in memory", ours: "memory", sut: "memory", bare: "memory", at_least: 1.0 },
    Pair {
        name: "simulated disk beside a temporary file",
        ours: "sut",
        sut: "simulated",
        bare: "sqlite",
        at_least: 5.0,
    },
];
/// With fewer steps a scenario, steps would be those of nothing but the beginning.
const LEAST_STEPS: f64 = 20.0;
/// A run ends itself; this only keeps a stuck one from holding up a machine for a day.
const LIMIT: Duration = Duration::from_secs(60 * 60);

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let interrupt = Interrupt::install()?;
    let toolchain = || Toolchain::for_fuzzing(None);
    let ours = Fuzzer::new(fuzzer::FAST, toolchain()?, interrupt.clone())?;
    let bare = Fuzzer::new(fuzzer::BARE, toolchain()?, interrupt)?;
    for pair in &PAIRS {
        ours.build(pair.ours)?;
        bare.build(pair.bare)?;
    }
    // The finds of all rounds go when the last has been measured: a file system that has just lost thousands of files is slow to
    // make new ones, which would count against whichever target comes next.
    let finds = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut rows = Vec::new();
    let mut is_enough = true;
    for pair in &PAIRS {
        let (mut our_rates, mut bare_rates) = (Vec::new(), Vec::new());
        for _ in 0..arguments.rounds {
            // The bare ones run as `cargo fuzz run` would.
            our_rates.push(measure(
                &ours,
                pair,
                pair.ours,
                libfuzzer::search_options(arguments.time, 1),
                finds.path(),
            )?);
            bare_rates.push(measure(
                &bare,
                pair,
                pair.bare,
                vec![libfuzzer::time_option(arguments.time)],
                finds.path(),
            )?);
        }
        let (our, bare) = (median(our_rates), median(bare_rates));
        let ratio = our.steps_per_second() / bare.steps_per_second();
        is_enough &= ratio >= pair.at_least && our.mean_steps >= LEAST_STEPS;
        rows.push(row(pair.name, "ours", our, format!("{ratio:.2}")));
        rows.push(row(pair.name, "bare", bare, format!("at least {}", pair.at_least)));
    }
    println!("{}", summary::table_of(&["pair", "target", "exec/s", "mean steps", "steps/s", "ratio"], rows, 2..6));
    Ok(if is_enough { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    executions_per_second: f64,
    mean_steps: f64,
}

impl Rate {
    fn steps_per_second(self) -> f64 {
        self.executions_per_second * self.mean_steps
    }
}

fn row(pair: &str, target: &str, rate: Rate, ratio: String) -> [String; 6] {
    let whole = |number: f64| format!("{number:.0}");
    let cells = [rate.executions_per_second, rate.mean_steps, rate.steps_per_second()].map(whole);
    let [executions, steps, rate] = cells;
    [pair.to_owned(), target.to_owned(), executions, steps, rate, ratio]
}

fn median(mut rates: Vec<Rate>) -> Rate {
    rates.sort_by(|one, other| one.steps_per_second().total_cmp(&other.steps_per_second()));
    rates[rates.len() / 2]
}

fn measure(fuzzer: &Fuzzer, pair: &Pair, target: &str, options: Vec<String>, finds: &Path) -> Result<Rate> {
    let folder = tempfile::tempdir_in(finds).context("cannot make a temporary folder")?.keep();
    let mut command = fuzzer.command(target, &folder.display().to_string());
    command.args(options).env("POOLPROOF_SUT", pair.sut);
    let mut progress = Progress::default();
    let start = Instant::now();
    let ended = process::supervise_lines(&mut command, LIMIT, &fuzzer.interrupt, |line| progress.take(line))?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(!fuzzer.interrupt.is_set(), "interrupted: nothing was compared");
    ensure!(
        ended.status.success() && progress.artifacts.is_empty(),
        "`{target}` found something; run `cargo xtask fuzz`"
    );
    ensure!(progress.executions > 0 && progress.mean_steps > 0, "`{target}` executed nothing");
    let rate =
        Rate { executions_per_second: progress.executions as f64 / seconds, mean_steps: progress.mean_steps as f64 };
    eprintln!("{target}: {:.0} executions a second of {} steps", rate.executions_per_second, progress.mean_steps);
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_steps_a_second() {
        let rate = |executions_per_second, mean_steps| Rate { executions_per_second, mean_steps };
        let median = median(vec![rate(100.0, 1.0), rate(1.0, 50.0), rate(10.0, 30.0)]);
        assert_eq!(median.steps_per_second(), 100.0);
    }
}
