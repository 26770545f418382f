//! `cargo xtask test`: everything that must hold before a change goes in, cheapest first.
//!
//! A step is the very command line that is printed, so whoever sees one fail can run it alone. The first failing step
//! ends the run: later steps would mostly repeat its message.

use std::fmt::Write;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{FOUND, process, root, toolchain};

/// Check formatting, lint, run all tests, build the documentation and replay the corpus
///
/// Stops at the first step that fails, and prints the command that runs this step alone. Tests run under cargo-nextest
/// where it is installed, else under `cargo test`. Missing rustfmt and clippy are installed with rustup.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// One command line and what it is for.
#[derive(Debug)]
struct Step {
    name: &'static str,
    command: &'static str,
}

/// How far a run came, for the closing summary.
struct Progress {
    done: Vec<(&'static str, Duration)>,
    failed: Option<&'static Step>,
    skipped: Vec<&'static str>,
}

const NEXTEST: &Step = &Step { name: "tests", command: "cargo nextest run --workspace --all-features" };
/// Without doc tests, which have a step of their own because nextest cannot run them.
const PLAIN_TESTS: &Step =
    &Step { name: "tests", command: "cargo test --workspace --all-features --lib --bins --tests --examples" };

/// The crates `fuzz` and `rivals` are outside the workspace and are formatted and linted by themselves; `cargo xtask fuzz` and
/// `cargo xtask rivals` run them.
const BEFORE_TESTS: &[Step] = &[
    Step { name: "format", command: "cargo fmt --all --check" },
    Step { name: "format of fuzz/", command: "cargo fmt --manifest-path fuzz/Cargo.toml --check" },
    Step { name: "format of rivals/", command: "cargo fmt --manifest-path rivals/Cargo.toml --check" },
    Step { name: "format of rivals/bare/", command: "cargo fmt --manifest-path rivals/bare/Cargo.toml --check" },
    Step { name: "lints", command: "cargo clippy --workspace --all-targets --all-features -- -D warnings" },
    Step { name: "lints of fuzz/", command: "cargo clippy --manifest-path fuzz/Cargo.toml --locked -- -D warnings" },
    Step {
        name: "lints of rivals/",
        command: "cargo clippy --manifest-path rivals/Cargo.toml --target-dir target/rivals --locked --all-targets -- -D warnings",
    },
    Step {
        name: "lints of rivals/bare/",
        command: "cargo clippy --manifest-path rivals/bare/Cargo.toml --target-dir fuzz/target --locked -- -D warnings",
    },
];
const AFTER_TESTS: &[Step] = &[
    Step { name: "tests of suts/python", command: "python3 -m unittest discover suts/python -p test_servers.py" },
    Step {
        name: "tests of rivals/",
        command: "cargo test --manifest-path rivals/Cargo.toml --target-dir target/rivals --locked",
    },
    Step { name: "documentation", command: "cargo doc --workspace --all-features --no-deps" },
    Step { name: "doc tests", command: "cargo test --workspace --all-features --doc" },
    Step { name: "corpus on memory", command: "cargo run --release -p poolproof -- replay corpus --sut memory" },
    Step { name: "corpus on sqlite", command: "cargo run --release -p poolproof -- replay corpus --sut sqlite" },
    // With the program that the step before has built; without the virtual environment of `prepare.py` they are skipped.
    Step { name: "tests of suts/neutron", command: "python3 -m unittest discover suts/neutron" },
];

pub(crate) fn run(_: &Arguments) -> Result<ExitCode> {
    toolchain::require_component("rustfmt", "fmt")?;
    toolchain::require_component("clippy", "clippy")?;
    let progress = run_steps(&steps(has_nextest()))?;
    eprint!("{}", summary(&progress));
    Ok(if progress.failed.is_none() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

fn steps(nextest: bool) -> Vec<&'static Step> {
    let tests = if nextest { NEXTEST } else { PLAIN_TESTS };
    BEFORE_TESTS.iter().chain([tests]).chain(AFTER_TESTS).collect()
}

fn has_nextest() -> bool {
    process::succeeds(Command::new("cargo").args(["nextest", "--version"]))
}

fn run_steps(steps: &[&'static Step]) -> Result<Progress> {
    let mut progress = Progress { done: Vec::new(), failed: None, skipped: Vec::new() };
    for (step, number) in steps.iter().zip(1..) {
        if progress.failed.is_some() {
            progress.skipped.push(step.name);
            continue;
        }
        eprintln!("\n==> {number}/{} {}: {}", steps.len(), step.name, step.command);
        let start = Instant::now();
        let passed = run_step(step)?;
        let took = start.elapsed();
        eprintln!("==> {} {} after {}", step.name, outcome(passed), process::seconds(took));
        progress.done.push((step.name, took));
        if !passed {
            progress.failed = Some(step);
        }
    }
    Ok(progress)
}

/// Nothing is read from standard input, so that no step can wait for an answer that nobody gives.
fn run_step(step: &Step) -> Result<bool> {
    let words = shell_words::split(step.command)?;
    let status = Command::new(&words[0])
        .args(&words[1..])
        .current_dir(root())
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start `{}`", step.command))?;
    Ok(status.success())
}

fn outcome(passed: bool) -> &'static str {
    if passed { "passed" } else { "FAILED" }
}

fn summary(progress: &Progress) -> String {
    let mut text = String::from("\nSummary\n");
    for (name, took) in &progress.done {
        let passed = progress.failed.is_none_or(|step| step.name != *name);
        let time = process::seconds(*took);
        writeln!(text, "  {} {time:>8}  {name}", outcome(passed)).expect("writing to a string");
    }
    for name in &progress.skipped {
        writeln!(text, "  not run          {name}").expect("writing to a string");
    }
    if let Some(step) = progress.failed {
        let message = format!("\nFAILED: {}. To run it alone:\n  {}\n", step.name, step.command);
        text.push_str(&message);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_splits_into_a_program_and_arguments() {
        for step in steps(true).into_iter().chain(steps(false)) {
            let words = shell_words::split(step.command).unwrap();
            assert!(["cargo", "python3"].contains(&words[0].as_str()), "{step:?}");
            assert!(words.len() > 1, "{step:?}");
        }
    }

    #[test]
    fn summary_says_what_failed_what_did_not_run_and_how_to_run_it_alone() {
        // Steps of its own: what the summary says does not hang on which steps there are.
        static FAILED: Step =
            Step { name: "format of fuzz/", command: "cargo fmt --manifest-path fuzz/Cargo.toml --check" };
        let progress = Progress {
            done: vec![("format", Duration::from_secs(1)), (FAILED.name, Duration::from_secs(75))],
            failed: Some(&FAILED),
            skipped: vec!["lints"],
        };
        let expected = "
Summary
  passed     1.0s  format
  FAILED    75.0s  format of fuzz/
  not run          lints

FAILED: format of fuzz/. To run it alone:
  cargo fmt --manifest-path fuzz/Cargo.toml --check
";
        assert_eq!(summary(&progress), expected);
    }
}
