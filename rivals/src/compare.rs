//! Every tool on every mutant with every seed, each trial in a process of its own.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use indicatif::ProgressBar;
use poolproof::property::Property;
use poolproof_mutants::{Engine, Mutant};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::trial::Outcome;

/// A trial that takes longer is ended, and the comparison with it.
const LONGEST_TRIAL: Duration = Duration::from_secs(600);
/// libFuzzer's minimiser waits for a test that hangs, each time anew; what it has come to by then is its result.
const LONGEST_MINIMISING: Duration = Duration::from_secs(120);
const NAP: Duration = Duration::from_millis(5);

/// What is compared.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Tool {
    /// `poolproof check`
    Poolproof,
    /// proptest, a vector of operations
    Proptest,
    /// proptest-state-machine
    StateMachine,
    /// hegel, stateful
    Hegel,
    /// bolero's random engine
    Bolero,
    /// libFuzzer with `derive(Arbitrary)`
    Libfuzzer,
}

/// What is needed to run them.
#[derive(Debug)]
pub struct Bench {
    /// The program `poolproof`.
    pub poolproof: PathBuf,
    /// The fuzz target that cargo-fuzz built.
    pub fuzzer: PathBuf,
    /// At most so many tests a trial.
    pub budget: u32,
    /// How many seeds, from 1.
    pub seeds: u64,
}

/// One trial with its outcome.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    pub tool: Tool,
    pub mutant: String,
    pub seed: u64,
    pub outcome: Outcome,
}

/// Mutants that show with names or spellings which the rivals' alphabet does not have.
const OUT_OF_REACH: [&str; 3] = ["ifname-not-in-key", "canonical-exclusion-as-text", "canonical-gateway-as-text"];

/// Can all tools say what is wrong with it? What is measured, or shows only beside a second instance, takes more than a
/// judge of answers; what shows when I/O fails within a call takes more than calls.
pub fn is_comparable(mutant: &Mutant) -> bool {
    let is_judged =
        !mutant.breaks.iter().all(|property| matches!(property, Property::Bounded | Property::Unpredictable));
    is_judged && mutant.engine == Engine::Check && !OUT_OF_REACH.contains(&mutant.id)
}

/// Runs every trial, as many at a time as there are processors.
pub fn compare(bench: &Bench, tools: &[Tool], mutants: &[&'static Mutant]) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let trials = mutants.iter().flat_map(|mutant| {
        tools.iter().flat_map(move |tool| (1..=bench.seeds).map(move |seed| (*tool, *mutant, seed)))
    });
    let trials: Vec<_> = trials.collect();
    let bar = ProgressBar::new(trials.len() as u64);
    let queue = Mutex::new(trials.into_iter().enumerate());
    let rows = Mutex::new(Vec::new());
    let work = || {
        while let Some((number, (tool, mutant, seed))) = queue.lock().ok().and_then(|mut queue| queue.next()) {
            let own = folder.path().join(number.to_string());
            let outcome = fs::create_dir(&own)
                .map_err(Into::into)
                .and_then(|()| bench.trial(tool, mutant, seed, &own))
                .with_context(|| format!("{tool:?} on {} with seed {seed}", mutant.id));
            let row = outcome.map(|outcome| Row { tool, mutant: mutant.id.to_owned(), seed, outcome });
            if row.is_err()
                && let Ok(mut queue) = queue.lock()
            {
                queue.by_ref().for_each(drop);
            }
            if let Ok(mut rows) = rows.lock() {
                rows.push(row);
            }
            bar.inc(1);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, |count| count.get()) {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    rows.into_inner().map_err(|_| anyhow!("a trial panicked"))?.into_iter().collect()
}

impl Bench {
    fn trial(&self, tool: Tool, mutant: &Mutant, seed: u64, folder: &Path) -> Result<Outcome> {
        match tool {
            Tool::Poolproof => self.poolproof(mutant, seed, folder),
            Tool::Libfuzzer => self.fuzzer(mutant, seed, folder),
            _ => self.rival(tool, mutant, seed, folder),
        }
    }

    fn poolproof(&self, mutant: &Mutant, seed: u64, folder: &Path) -> Result<Outcome> {
        let mut command = Command::new(&self.poolproof);
        command.args(["check", "--format", "json", "--sut", &format!("mutant:{}", mutant.id)]);
        command.args(["--runs", &self.budget.to_string(), "--seed", &seed.to_string(), "--save"]).arg(folder);
        let text = output(&mut command, folder)?;
        let report: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
        let Some(found) = report["violations"].get(0) else {
            let executions = report["scenarios"].as_u64().context("no number of scenarios")?;
            return Ok(Outcome { executions, ..Outcome::default() });
        };
        Ok(Outcome {
            executions: found["executions"].as_u64().context("no number of executions")?,
            seconds: found["seconds"].as_f64().context("no time")?,
            property: found["property"].as_str().map(str::to_owned),
            steps: found["steps"].as_u64().map(|steps| steps as usize),
        })
    }

    /// A rival that is a part of this program.
    fn rival(&self, tool: Tool, mutant: &Mutant, seed: u64, folder: &Path) -> Result<Outcome> {
        let tool = tool.to_possible_value().context("a tool without a name")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["trial", "--tool", tool.get_name(), "--mutant", mutant.id]);
        command.args(["--seed", &seed.to_string(), "--budget", &self.budget.to_string()]);
        // bolero looks for old finds where it stands.
        command.current_dir(folder);
        let text = output(&mut command, folder)?;
        Ok(serde_json::from_str(text.lines().last().unwrap_or_default())?)
    }

    /// libFuzzer, then its minimiser with the number of tests that `cargo fuzz tmin` gives it.
    fn fuzzer(&self, mutant: &Mutant, seed: u64, folder: &Path) -> Result<Outcome> {
        let file = folder.join("outcome.json");
        let command = |arguments: &[String]| {
            let mut command = Command::new(&self.fuzzer);
            command.env("RIVALS_MUTANT", mutant.id).env("RIVALS_OUTCOME", &file);
            command.args(arguments).arg(format!("-artifact_prefix={}/", folder.display()));
            command
        };
        // Without it, inputs would stay tiny for all of the budget.
        let options = [format!("-runs={}", self.budget), format!("-seed={seed}"), "-len_control=0".to_owned()];
        output(&mut command(&options), folder)?;
        let Some(found) = read(&file)? else {
            return Ok(Outcome { executions: u64::from(self.budget), ..Outcome::default() });
        };
        let crash = fs::read_dir(folder)?
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().starts_with("crash-"));
        let crash = crash.context("libFuzzer kept no crash")?.path().display().to_string();
        let minimise = ["-minimize_crash=1".to_owned(), "-runs=255".to_owned(), crash];
        let mut child = command(&minimise).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        wait(&mut child, LONGEST_MINIMISING)?;
        let least = read(&file)?.and_then(|outcome| outcome.steps);
        Ok(Outcome { steps: [found.steps, least].into_iter().flatten().min(), ..found })
    }
}

fn read(file: &Path) -> Result<Option<Outcome>> {
    if !file.exists() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&fs::read(file)?)?))
}

/// Runs a command to its end and returns what it wrote to stdout.
fn output(command: &mut Command, folder: &Path) -> Result<String> {
    let path = folder.join("stdout");
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    if !wait(&mut child, LONGEST_TRIAL)? {
        bail!("it took longer than {} s", LONGEST_TRIAL.as_secs());
    }
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Waits for a child to end by itself, and says whether it did in time; else it is killed.
fn wait(child: &mut Child, limit: Duration) -> Result<bool> {
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        thread::sleep(NAP);
    }
    Ok(true)
}
