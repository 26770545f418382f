//! The command `mutants`: puts every mutant under the engine that should catch it, with several seeds, and prints who caught
//! what.
//!
//! Each trial is a process of its own, `poolproof check --sut mutant:ID` or `crash`: a mutant that hangs, aborts or eats
//! memory takes nothing else with it, and what the table says can be seen again with that command.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::arguments::{Format, Mutants};
use super::{complain, demand_writable, print, trial, write_junit};
use poolproof::interrupt;
use poolproof::property::{Property, Verdict};
use poolproof::report::junit::{self, Outcome, Suite};
use poolproof_mutants::{Engine, Mutant, find};

/// What one trial came to.
#[derive(Clone, Debug, PartialEq)]
enum Trial {
    Caught(Caught),
    /// Nothing was found within the budget.
    Survived,
}

/// How a mutant was caught.
#[derive(Clone, Debug, PartialEq)]
struct Caught {
    property: Property,
    /// Scenarios until then.
    executions: u64,
    milliseconds: f64,
    /// The length of the shrunk counterexample.
    steps: usize,
    scenario: String,
}

/// All trials of one mutant.
struct Score {
    family: &'static str,
    mutant: &'static Mutant,
    trials: Vec<Trial>,
}

pub(super) fn run(arguments: &Mutants) -> Result<Verdict> {
    if let Some(path) = &arguments.junit {
        demand_writable(path, "--junit")?;
    }
    let chosen = choose(&arguments.only)?;
    if arguments.list {
        return list(&chosen, arguments.format);
    }
    let scores = try_all(&chosen, arguments)?;
    match arguments.format {
        Format::Human => print(&table(&scores, arguments))?,
        Format::Json => print(&format!("{}\n", as_json(&scores, arguments)))?,
    }
    let verdict = verdict(&scores, arguments);
    match write_junit(arguments.junit.as_deref(), || junit::document([as_suite(&scores, arguments)])) {
        // What was found is the news, not the file.
        Err(error) if verdict == Verdict::Violated => complain(&error),
        written => written?,
    }
    Ok(verdict)
}

/// A test case for each mutant, which fails where it was not caught with every seed, or accused where it is mended.
fn as_suite(scores: &[Score], arguments: &Mutants) -> Suite {
    let suite = Suite::new("poolproof mutants", 0.0).with_property("seeds", &arguments.seeds.to_string());
    scores.iter().fold(suite, |suite, score| {
        let (verdict, trials) = (score.verdict(arguments), score.trials.len());
        let outcome = match score.is_as_wanted(arguments) {
            true => Outcome::Passed,
            false => {
                let details = format!("caught in {} of {trials} trials", score.caught().count());
                Outcome::Failed(verdict.to_owned(), details)
            }
        };
        suite.with_case(score.family, score.mutant.id, 0.0, outcome)
    })
}

fn verdict(scores: &[Score], arguments: &Mutants) -> Verdict {
    match scores.iter().all(|score| score.is_as_wanted(arguments)) {
        false => Verdict::Violated,
        // What was not tried says nothing.
        true if interrupt::requested() => Verdict::Unknown,
        true => Verdict::Pass,
    }
}

/// The mutants of these names, or all, with their families.
fn choose(only: &[String]) -> Result<Vec<(&'static str, &'static Mutant)>> {
    if let Some(unknown) = only.iter().find(|id| find(id).is_none()) {
        bail!("there is no mutant `{unknown}`; `poolproof mutants --list` names them all");
    }
    Ok(poolproof_mutants::all()
        .filter(|(_, mutant)| only.is_empty() || only.iter().any(|id| id == mutant.id))
        .collect())
}

fn list(chosen: &[(&str, &Mutant)], format: Format) -> Result<Verdict> {
    let names = |mutant: &Mutant| mutant.breaks.iter().map(|property| property.name()).collect::<Vec<_>>();
    match format {
        Format::Human => {
            let line = |(family, mutant): &(&str, &Mutant)| {
                format!("{:<38} {family:<12} {}\n", mutant.id, names(mutant).join(", "))
            };
            print(&chosen.iter().map(line).collect::<String>())?;
        }
        Format::Json => {
            let one = |(family, mutant): &(&str, &Mutant)| {
                json!({
                    "id": mutant.id, "family": family, "engine": mutant.engine.name(), "breaks": names(mutant),
                })
            };
            print(&format!("{}\n", json!({ "mutants": chosen.iter().map(one).collect::<Vec<_>>() })))?;
        }
    }
    Ok(Verdict::Pass)
}

/// Runs every trial, as many at a time as there are processors.
fn try_all(chosen: &[(&'static str, &'static Mutant)], arguments: &Mutants) -> Result<Vec<Score>> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let seeds = (0..arguments.seeds).map(|number| arguments.seed.wrapping_add(number));
    let jobs: Vec<(usize, u64)> =
        (0..chosen.len()).flat_map(|index| seeds.clone().map(move |seed| (index, seed))).collect();
    let bar = bar(jobs.len());
    let queue = Mutex::new(jobs.iter().enumerate());
    let done: Mutex<Vec<(usize, Result<Option<Trial>>)>> = Mutex::new(Vec::new());
    let work = || {
        while !interrupt::requested() {
            let Some((number, (index, seed))) = queue.lock().ok().and_then(|mut queue| queue.next()) else { break };
            let trial = try_once(chosen[*index].1, *seed, arguments, &folder.path().join(number.to_string()));
            bar.inc(1);
            if let Ok(mut done) = done.lock() {
                done.push((number, trial));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, |count| count.get()) {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    let mut done = done.into_inner().map_err(|_| anyhow!("a trial panicked"))?;
    done.sort_by_key(|(number, _)| *number);
    let mut scores: Vec<Score> =
        chosen.iter().map(|(family, mutant)| Score { family, mutant, trials: Vec::new() }).collect();
    for (number, trial) in done {
        let (index, seed) = jobs[number];
        let id = chosen[index].1.id;
        scores[index].trials.extend(trial.with_context(|| format!("the mutant `{id}` with seed {seed}"))?);
    }
    scores.retain(|score| !score.trials.is_empty());
    Ok(scores)
}

fn bar(length: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("[{elapsed_precise}] {wide_bar} {pos} of {len} trials");
    ProgressBar::new(length as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Runs one trial in a process of its own; nothing where the user wants to stop.
fn try_once(mutant: &Mutant, seed: u64, arguments: &Mutants, folder: &Path) -> Result<Option<Trial>> {
    let mut output = tempfile::tempfile().context("cannot make a temporary file")?;
    let sut = if arguments.mended { format!("mutant?bug=off:{}", mutant.id) } else { format!("mutant:{}", mutant.id) };
    let mut child = trial::this_program()?
        .args([mutant.engine.name(), "--format", "json", "--sut", &sut])
        .args([limit(mutant.engine), &arguments.budget.to_string(), "--seed", &seed.to_string()])
        .args((arguments.no_tour && mutant.engine != Engine::Race).then_some("--no-tour"))
        .args([Path::new("--save"), folder])
        .stdout(output.try_clone().context("cannot hand on a temporary file")?)
        .spawn()
        .context("cannot start a trial")?;
    let status = trial::wait(&mut child, None)?;
    if status.is_none() || interrupt::requested() {
        return Ok(None);
    }
    let report = read(&mut output).with_context(|| format!("the trial ended without a report ({status:?})"))?;
    judged(&report).map(Some)
}

/// The option that limits how often a scenario is run.
fn limit(engine: Engine) -> &'static str {
    match engine {
        Engine::Check | Engine::Race => "--runs",
        Engine::Crash => "--executions",
    }
}

fn read(output: &mut File) -> Result<Value> {
    output.rewind()?;
    let mut text = String::new();
    output.read_to_string(&mut text)?;
    Ok(serde_json::from_str(text.lines().last().unwrap_or_default())?)
}

fn judged(report: &Value) -> Result<Trial> {
    let Some(violation) = report["violations"].get(0) else { return Ok(Trial::Survived) };
    let caught = || {
        Some(Trial::Caught(Caught {
            property: Property::from_name(violation["property"].as_str()?)?,
            executions: violation["executions"].as_u64()?,
            milliseconds: violation["seconds"].as_f64()? * 1e3,
            steps: usize::try_from(violation["steps"].as_u64()?).ok()?,
            scenario: violation["scenario"].as_str()?.to_owned(),
        }))
    };
    caught().context("the trial's report lacks something")
}

impl Score {
    fn caught(&self) -> impl Iterator<Item = &Caught> {
        self.trials.iter().filter_map(|trial| match trial {
            Trial::Caught(caught) => Some(caught),
            Trial::Survived => None,
        })
    }

    /// A mutant must be caught with every seed; one that is mended, with none.
    fn is_as_wanted(&self, arguments: &Mutants) -> bool {
        let wanted = if arguments.mended { 0 } else { self.trials.len() };
        self.caught().count() == wanted
    }

    /// The properties that caught it, most often first.
    fn properties(&self) -> Vec<Property> {
        let mut counted: Vec<(usize, Property)> = Vec::new();
        for caught in self.caught() {
            match counted.iter_mut().find(|(_, property)| *property == caught.property) {
                Some((count, _)) => *count += 1,
                None => counted.push((1, caught.property)),
            }
        }
        counted.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        counted.into_iter().map(|(_, property)| property).collect()
    }

    /// In the median. A trial that found nothing counts as if the next scenario had.
    fn executions(&self, budget: u64) -> Option<f64> {
        self.caught().next()?;
        let executions = self.trials.iter().map(|trial| match trial {
            Trial::Caught(caught) => caught.executions as f64,
            Trial::Survived => budget as f64 + 1.0,
        });
        median(executions.collect())
    }

    fn milliseconds(&self) -> Option<f64> {
        median(self.caught().map(|caught| caught.milliseconds).collect())
    }

    /// The longest of the shrunk counterexamples.
    fn longest(&self) -> Option<&Caught> {
        self.caught().max_by_key(|caught| caught.steps)
    }

    fn verdict(&self, arguments: &Mutants) -> &'static str {
        match (self.is_as_wanted(arguments), arguments.mended) {
            (true, false) => "caught",
            (false, false) => "survived",
            (true, true) => "mended",
            (false, true) => "accused",
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().saturating_sub(1) / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

fn table(scores: &[Score], arguments: &Mutants) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["mutant", "caught by", "engine", "executions", "ms", "steps", "shortest"]);
    for column in 3..7 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for score in scores {
        let names: Vec<&str> = score.properties().into_iter().map(Property::name).collect();
        let by = if names.is_empty() { score.verdict(arguments).to_owned() } else { names.join(", ") };
        let survived = score.trials.len() - score.caught().count();
        let by = if survived > 0 && !names.is_empty() { format!("{by}; {survived} survived") } else { by };
        let number =
            |value: Option<f64>, places: usize| value.map_or_else(String::new, |value| format!("{value:.places$}"));
        table.add_row([
            score.mutant.id.to_owned(),
            by,
            score.mutant.engine.name().to_owned(),
            number(score.executions(arguments.budget), 0),
            number(score.milliseconds(), 1),
            number(score.longest().map(|caught| caught.steps as f64), 0),
            number(score.mutant.shortest.map(|steps| steps as f64), 0),
        ]);
    }
    let wanted = scores.iter().filter(|score| score.is_as_wanted(arguments)).count();
    let word = if arguments.mended { "mended, and none accused," } else { "caught" };
    let early = if interrupt::requested() { "; interrupted, the rest was not tried" } else { "" };
    format!("{table}\n\n{wanted} of {} {word} with each of {} seeds{early}\n", scores.len(), arguments.seeds)
}

fn as_json(scores: &[Score], arguments: &Mutants) -> Value {
    let trial = |trial: &Trial| match trial {
        Trial::Survived => Value::Null,
        Trial::Caught(caught) => json!({
            "property": caught.property.name(),
            "executions": caught.executions,
            "milliseconds": caught.milliseconds,
            "steps": caught.steps,
            "scenario": caught.scenario,
        }),
    };
    let mutants = scores.iter().map(|score| {
        json!({
            "id": score.mutant.id,
            "family": score.family,
            "verdict": score.verdict(arguments),
            "breaks": score.mutant.breaks.iter().map(|property| property.name()).collect::<Vec<_>>(),
            "properties": score.properties().into_iter().map(Property::name).collect::<Vec<_>>(),
            "engine": score.mutant.engine.name(),
            "executions": score.executions(arguments.budget),
            "milliseconds": score.milliseconds(),
            "steps": score.longest().map(|caught| caught.steps),
            "shortest": score.mutant.shortest,
            "trials": score.trials.iter().map(trial).collect::<Vec<_>>(),
        })
    });
    json!({
        "verdict": verdict(scores, arguments).name(),
        "interrupted": interrupt::requested(),
        "budget": arguments.budget,
        "seed": arguments.seed,
        "seeds": arguments.seeds,
        "mutants": mutants.collect::<Vec<_>>(),
    })
}
