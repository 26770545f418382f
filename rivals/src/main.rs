//! `rivals compare` runs the comparison; `rivals trial` is one trial of it; `rivals report` writes the tables again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use poolproof_mutants::{Bug, Mutant, find};
use poolproof_rivals::compare::{Bench, Row, Tool, compare, is_comparable};
use poolproof_rivals::trial::Trial;
use poolproof_rivals::{bolero_random, hegel_machine, proptest_vec, report, state_machine};

/// Exit status when nothing could be compared; clap uses the same one for wrong arguments.
const CANNOT_RUN: u8 = 2;

/// Poolproof beside what an engineer would otherwise use.
#[derive(Parser)]
enum Arguments {
    /// Every tool on every mutant
    Compare {
        /// The program `poolproof`
        #[arg(long)]
        poolproof: PathBuf,
        /// The fuzz target `derive` that cargo-fuzz built
        #[arg(long)]
        fuzzer: PathBuf,
        /// At most so many tests a trial
        #[arg(long, default_value_t = 20_000)]
        budget: u32,
        /// How many seeds
        #[arg(long, default_value_t = 10)]
        seeds: u64,
        /// These mutants only
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// These tools only
        #[arg(long, value_delimiter = ',', value_enum)]
        tools: Vec<Tool>,
        /// Where results, tables and plot go
        #[arg(long, default_value = ".")]
        out: PathBuf,
    },
    /// One tool on one mutant, with the outcome on stdout
    Trial {
        #[arg(long, value_enum)]
        tool: Tool,
        #[arg(long)]
        mutant: String,
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        budget: u32,
        /// With its defect mended: nothing must be found
        #[arg(long)]
        mended: bool,
    },
    /// Tables and plot from results.json
    Report {
        /// Where results, tables and plot are
        #[arg(long, default_value = ".")]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(CANNOT_RUN)
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    match arguments {
        Arguments::Compare { poolproof, fuzzer, budget, seeds, only, tools, out } => {
            let mutants = choose(&only)?;
            let tools = if tools.is_empty() { Tool::value_variants() } else { &tools };
            let bench = Bench {
                poolproof: poolproof.canonicalize().with_context(|| format!("no {}", poolproof.display()))?,
                fuzzer: fuzzer.canonicalize().with_context(|| format!("no {}", fuzzer.display()))?,
                budget,
                seeds,
            };
            let rows = compare(&bench, tools, &mutants)?;
            fs::create_dir_all(&out)?;
            let rows = beside_earlier(rows, &out, seeds)?;
            fs::write(out.join("results.json"), lines(&rows)?)?;
            report::write(&rows, budget, &out)
        }
        Arguments::Trial { tool, mutant, seed, budget, mended } => {
            trial(tool, &mutant, if mended { Bug::Off } else { Bug::On }, seed, budget)
        }
        Arguments::Report { out } => {
            let text = fs::read_to_string(out.join("results.json")).context("there are no results")?;
            let rows: Vec<Row> = serde_json::from_str(&text)?;
            let budget = rows.iter().map(|row| row.outcome.executions).max().unwrap_or_default();
            report::write(&rows, u32::try_from(budget)?, &out)
        }
    }
}

/// The rows with those of earlier comparisons that they do not replace.
fn beside_earlier(mut rows: Vec<Row>, out: &Path, seeds: u64) -> Result<Vec<Row>> {
    let path = out.join("results.json");
    if !path.exists() {
        return Ok(rows);
    }
    let mut earlier: Vec<Row> = serde_json::from_str(&fs::read_to_string(path)?)?;
    let is_there =
        |row: &Row| rows.iter().any(|new| (new.tool, &new.mutant, new.seed) == (row.tool, &row.mutant, row.seed));
    let is_comparable = |row: &Row| find(&row.mutant).is_some_and(is_comparable);
    earlier.retain(|row| row.seed <= seeds && is_comparable(row) && !is_there(row));
    rows.extend(earlier);
    Ok(rows)
}

fn choose(only: &[String]) -> Result<Vec<&'static Mutant>> {
    if let Some(unknown) = only.iter().find(|id| find(id).is_none()) {
        bail!("there is no mutant `{unknown}`");
    }
    let all = poolproof_mutants::all().map(|(_, mutant)| mutant).filter(|mutant| is_comparable(mutant));
    Ok(all.filter(|mutant| only.is_empty() || only.iter().any(|id| id == mutant.id)).collect())
}

/// The rows as JSON, one a line, so that a diff can be read.
fn lines(rows: &[Row]) -> Result<String> {
    let lines: Vec<String> = rows.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

fn trial(tool: Tool, mutant: &str, bug: Bug, seed: u64, budget: u32) -> Result<()> {
    let mutant = find(mutant).with_context(|| format!("there is no mutant `{mutant}`"))?;
    let trial = Trial::begin(mutant, bug, None);
    match tool {
        Tool::Proptest => proptest_vec::run(trial, seed, budget),
        Tool::StateMachine => state_machine::run(trial, seed, budget),
        Tool::Hegel => hegel_machine::run(trial, seed, budget),
        Tool::Bolero => bolero_random::run(trial, budget),
        Tool::Poolproof | Tool::Libfuzzer => bail!("{tool:?} is a program of its own"),
    }
    trial.print();
    Ok(())
}
