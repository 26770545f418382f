//! Trials in processes of their own: runs of this program that may hang, abort or be ended without harm to this one.

use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use poolproof::engine::HangReporter;
use poolproof::interrupt;
use poolproof::scenario::Scenario;

/// How often a trial is asked whether it is over.
const NAP: Duration = Duration::from_millis(2);

/// A command line of this program, still without arguments.
pub(super) fn this_program() -> Result<Command> {
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// Waits for a trial until it ends, at most so long; then, or when the user wants to stop, it is killed and has no status.
pub(super) fn wait(child: &mut Child, limit: Option<Duration>) -> Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a trial")? {
            return Ok(Some(status));
        }
        if interrupt::requested() || limit.is_some_and(|limit| began.elapsed() >= limit) {
            child.kill().context("cannot end a trial")?;
            child.wait().context("cannot wait for a trial")?;
            return Ok(None);
        }
        thread::sleep(NAP);
    }
}

/// A reporter of hangs that makes scenarios small by replaying them in other processes.
pub(super) fn trying(reporter: HangReporter, sut: &str) -> HangReporter {
    let sut = sut.to_owned();
    // What cannot be tried is not known to hang.
    reporter.trying(move |scenario, limit| hangs(&sut, scenario, limit).unwrap_or(false))
}

fn hangs(sut: &str, scenario: &Scenario, limit: Duration) -> Result<bool> {
    let mut file = tempfile::Builder::new().suffix(".scenario").tempfile()?;
    file.write_all(scenario.to_string().as_bytes())?;
    let mut child = this_program()?.args(["replay", "--sut", sut]).arg(file.path()).spawn()?;
    Ok(wait(&mut child, Some(limit))?.is_none() && !interrupt::requested())
}
