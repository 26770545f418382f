//! `cargo xtask`: the tasks of a developer and of CI, one file a command.
//!
//! Written in Rust, and not as a Makefile or shell, so that whoever can build Poolproof can run them: nothing else has
//! to be installed, and what is missing is installed or named. Continuous integration runs `.ci/run`, which calls these.

mod bench;
mod corpus;
mod coverage;
mod fuzz;
mod fuzzer;
mod junit;
mod libfuzzer;
mod mutants;
mod oss_fuzz;
mod process;
mod rates;
mod rivals;
mod summary;
mod targets;
mod test;
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Exit status when a task ran and found something: a failing test, a crashing input.
const FOUND: u8 = 1;
/// Exit status when a task could not do its work; clap uses the same one for wrong arguments.
const CANNOT_RUN: u8 = 2;

/// Poolproof's developer tasks
///
/// Exit status: 0 all is well, 1 something failed or was found, 2 the task could not run.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", verbatim_doc_comment)]
struct Arguments {
    #[command(subcommand)]
    task: Task,

    /// Write what it came to as JUnit's XML into this file, too
    #[arg(long, global = true, value_name = "FILE")]
    junit: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Task {
    Test(test::Arguments),
    Fuzz(fuzz::Arguments),
    Corpus(corpus::Arguments),
    Coverage(coverage::Arguments),
    OssFuzz(oss_fuzz::Arguments),
    Bench(bench::Arguments),
    Mutants(mutants::Arguments),
    Rates(rates::Arguments),
    Rivals(rivals::Arguments),
}

impl Task {
    fn name(&self) -> &'static str {
        match self {
            Task::Test(_) => "test",
            Task::Fuzz(_) => "fuzz",
            Task::Corpus(_) => "corpus",
            Task::Coverage(_) => "coverage",
            Task::OssFuzz(_) => "oss-fuzz",
            Task::Bench(_) => "bench",
            Task::Mutants(_) => "mutants",
            Task::Rates(_) => "rates",
            Task::Rivals(_) => "rivals",
        }
    }

    fn run(&self, junit: Option<&Path>) -> Result<ExitCode> {
        match self {
            Task::Test(arguments) => test::run(arguments),
            Task::Fuzz(arguments) => fuzz::run(arguments, junit),
            Task::Corpus(arguments) => corpus::run(arguments),
            Task::Coverage(arguments) => coverage::run(arguments),
            Task::OssFuzz(arguments) => oss_fuzz::run(arguments),
            Task::Bench(arguments) => bench::run(arguments),
            Task::Mutants(arguments) => mutants::run(arguments),
            Task::Rates(arguments) => rates::run(arguments),
            Task::Rivals(arguments) => rivals::run(arguments),
        }
    }
}

fn main() -> ExitCode {
    let Arguments { task, junit } = Arguments::parse();
    run(&task, junit.as_deref()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(CANNOT_RUN)
    })
}

/// Runs a task, and writes what it came to where it does not do so itself.
fn run(task: &Task, junit: Option<&Path>) -> Result<ExitCode> {
    junit.map_or(Ok(()), junit::demand_writable)?;
    let started = Instant::now();
    let done = task.run(junit);
    match junit {
        Some(file) if done.is_err() || !matches!(task, Task::Fuzz(_)) => {
            junit::write_task(task.name(), started.elapsed(), &done, file)?;
        }
        _ => {}
    }
    done
}

/// The repository's top folder: every task runs there, wherever it was called from.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask/ lies in the repository")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_are_declared_consistently() {
        super::Arguments::command().debug_assert();
    }
}
