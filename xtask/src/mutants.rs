//! `cargo xtask mutants`: what it buys to guide the fuzzer by the model's state.
//!
//! Each mutant that a sequence of calls can show is put under the target `sut`, from nothing, with several seeds: once guided by
//! code and state, once by code alone. A trial is a process of its own.

use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::fuzzer::{self, Fuzzer};
use crate::libfuzzer::{self, Ending, Progress};
use crate::process::{self, Interrupt};
use crate::toolchain::Toolchain;
use crate::{FOUND, root, summary};

/// Find each mutant with the coverage-guided fuzzer, with and without the model's state to guide it
///
/// Exit status: 0 each mutant was found with state in at least nine of ten seeds, 1 one was not, 2 a trial could not run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these mutants [default: all that `poolproof check` finds]
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    only: Vec<String>,

    /// How long to look for each
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    time: Duration,

    /// With so many seeds, from 1 on
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seeds: u32,
}

const TARGET: &str = "sut";
/// A search ends itself; one that did not by this much later never will.
const OVERTIME: Duration = Duration::from_secs(30);
/// The share of seeds with which a mutant is to be found.
const ENOUGH: f64 = 0.9;
const HEADER: [&str; 7] = ["mutant", "with state", "seconds", "executions", "without", "seconds", "executions"];

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let fuzzer = Fuzzer::new(fuzzer::FAST, Toolchain::for_fuzzing(None)?, Interrupt::install()?)?;
    fuzzer.build(TARGET)?;
    let mutants = mutants(&arguments.only)?;
    let scores = try_all(&fuzzer, &mutants, arguments)?;
    println!("{}", summary::table_of(&HEADER, scores.iter().map(row), 1..HEADER.len()));
    let is_found = |trials: &[Trial]| trials.iter().flatten().count() as f64 >= ENOUGH * f64::from(arguments.seeds);
    let missed = |trials: fn(&Score) -> &Vec<Trial>| scores.iter().filter(|score| !is_found(trials(score))).count();
    let (with, without) = (missed(|score| &score.with), missed(|score| &score.without));
    println!("{} mutants; missed in more than one of ten seeds: {with} with state, {without} without", scores.len());
    ensure!(!fuzzer.interrupt.is_set(), "interrupted: not every trial was made");
    Ok(if with == 0 { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

/// Those that sequences of calls can show, of these names or all.
fn mutants(only: &[String]) -> Result<Vec<String>> {
    let words = "run --quiet --release -p poolproof -- mutants --list --format json";
    let mut command = Command::new("cargo");
    command.args(words.split(' ')).args((!only.is_empty()).then(|| format!("--only={}", only.join(","))));
    let output = command.current_dir(root()).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("cannot start cargo")?;
    ensure!(output.status.success(), "`poolproof mutants --list` failed, see above");
    let listed: Value = serde_json::from_slice(&output.stdout).context("`poolproof mutants --list` wrote no JSON")?;
    let listed = listed["mutants"].as_array().context("`poolproof mutants --list` names no mutants")?;
    let by_calls = listed.iter().filter(|mutant| mutant["engine"] == "check");
    let ids: Vec<String> = by_calls.filter_map(|mutant| Some(mutant["id"].as_str()?.to_owned())).collect();
    ensure!(!ids.is_empty(), "none of these mutants is found by calls alone");
    Ok(ids)
}

/// When a mutant was found, if it was.
type Trial = Option<Found>;

#[derive(Clone, Copy, Debug)]
struct Found {
    after: Duration,
    executions: u64,
}

struct Score {
    mutant: String,
    with: Vec<Trial>,
    without: Vec<Trial>,
}

/// Makes every trial, as many at a time as there are processors.
fn try_all(fuzzer: &Fuzzer, mutants: &[String], arguments: &Arguments) -> Result<Vec<Score>> {
    let score = |mutant: &String| Score { mutant: mutant.clone(), with: Vec::new(), without: Vec::new() };
    let scores = Mutex::new(mutants.iter().map(score).collect::<Vec<_>>());
    let jobs = (0..mutants.len()).flat_map(|index| {
        (1..=arguments.seeds).flat_map(move |seed| [true, false].map(|with_state| (index, seed, with_state)))
    });
    let queue = Mutex::new(jobs);
    let work = || -> Result<()> {
        while !fuzzer.interrupt.is_set() {
            let Some((index, seed, with_state)) = queue.lock().expect("no trial panics").next() else { break };
            let trial = try_once(fuzzer, &mutants[index], seed, with_state, arguments.time)?;
            let score = &mut scores.lock().expect("no trial panics")[index];
            if with_state {
                score.with.push(trial)
            } else {
                score.without.push(trial)
            }
            if [&score.with, &score.without].iter().all(|trials| trials.len() == arguments.seeds as usize) {
                eprintln!("{}", row(score).join("  "));
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, |count| count.get());
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no trial panics"))
    })?;
    Ok(scores.into_inner().expect("no trial panics"))
}

fn try_once(fuzzer: &Fuzzer, mutant: &str, seed: u32, with_state: bool, time: Duration) -> Result<Trial> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut command = fuzzer.command(TARGET, &folder.path().display().to_string());
    command
        .args(libfuzzer::search_options(time, 1))
        .arg(format!("-seed={seed}"))
        .env("POOLPROOF_SUT", format!("mutant:{mutant}"))
        .env("POOLPROOF_FEEDBACK", if with_state { "on" } else { "off" })
        .stdout(Stdio::null());
    let mut progress = Progress::default();
    let start = Instant::now();
    let ended = process::supervise_lines(&mut command, time + OVERTIME, &fuzzer.interrupt, |line| progress.take(line))?;
    let found = Found { after: start.elapsed(), executions: progress.executions };
    match libfuzzer::ending(ended.status, &progress) {
        _ if fuzzer.interrupt.is_set() => Ok(None),
        Ending::Found(_) => Ok(Some(found)),
        Ending::Finished => Ok(None),
        Ending::Broken(why) => anyhow::bail!("the mutant `{mutant}` with seed {seed}: {why}"),
    }
}

fn row(score: &Score) -> [String; HEADER.len()] {
    let [with, with_seconds, with_executions] = cells(&score.with);
    let [without, seconds, executions] = cells(&score.without);
    [score.mutant.clone(), with, with_seconds, with_executions, without, seconds, executions]
}

/// In how many trials, and the medians of those.
fn cells(trials: &[Trial]) -> [String; 3] {
    let mut found: Vec<Found> = trials.iter().flatten().copied().collect();
    found.sort_by_key(|found| found.after);
    let count = format!("{}/{}", found.len(), trials.len());
    match found.get(found.len() / 2) {
        Some(Found { after, executions }) => [count, format!("{:.1}", after.as_secs_f64()), executions.to_string()],
        None => [count, "–".to_owned(), "–".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_how_often_a_mutant_was_found_and_when() {
        let found = |seconds, executions| Some(Found { after: Duration::from_secs(seconds), executions });
        let score = Score {
            mutant: "x".to_owned(),
            with: vec![found(3, 300), found(1, 100), found(2, 200)],
            without: vec![None, None, None],
        };
        assert_eq!(row(&score), ["x", "3/3", "2.0", "200", "0/3", "–", "–"]);
    }
}
