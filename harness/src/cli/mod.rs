//! Arguments, and what is common to all commands: the system, the report's form, the exit code.
//!
//! Exit codes: 0 pass, 1 violated, 2 cannot run, 3 unknown.

mod arguments;
mod campaign;
mod catalogue;
mod history;
#[cfg(feature = "mutants")]
mod mutants;
mod progress;
#[cfg(feature = "reference")]
mod serve;
mod single;
mod trial;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use quick_junit::SerializeError;

use arguments::{Arguments, Command, Common, Format};
use poolproof::engine::{HangReporter, counterexample};
use poolproof::history::{Broken, Judgement, lines};
use poolproof::interrupt;
use poolproof::property::Verdict;
use poolproof::report::{Report, human, json, junit, picture};
use poolproof::sut::{Failure, Sut, orphans, spec};

/// The exit code for what cannot be run.
const CANNOT_RUN: u8 = 2;

/// As many as Linux follows.
const MOST_LINKS: usize = 40;

/// Parses the arguments and runs the command.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    orphans::adopt();
    let done = catch_signals(&arguments.command).and_then(|()| run(arguments));
    orphans::end_all();
    match done {
        Ok(verdict) => ExitCode::from(verdict.exit_code()),
        Err(error) => {
            complain(&error);
            ExitCode::from(CANNOT_RUN)
        }
    }
}

fn run(arguments: Arguments) -> Result<Verdict> {
    match arguments.command {
        Command::Check(check) => campaign::check(&check),
        Command::Exhaust(exhaust) => campaign::exhaust(&exhaust),
        Command::Crash(crash) => campaign::crash(&crash),
        Command::Replay(replay) => campaign::replay(&replay),
        Command::Shrink(shrink) => single::shrink(&shrink),
        Command::Explain(explain) => single::explain(&explain),
        Command::Race(race) => campaign::race(&race),
        Command::History(history) => history::judge(&history),
        #[cfg(feature = "reference")]
        Command::Serve(server) => serve::run(&server),
        #[cfg(feature = "mutants")]
        Command::Mutants(mutants) => mutants::run(&mutants),
        Command::Suts(list) => catalogue::suts(list.format),
        Command::Properties(list) => catalogue::properties(list.format),
    }
}

/// Ctrl-C and termination end every loop soon; what was found so far is reported, and everything is
/// cleaned up on the ordinary way out. A server has no loop but that of its requests, and nothing to clean up. A history is
/// read first, when there is nothing to report either.
fn catch_signals(command: &Command) -> Result<()> {
    if matches!(command, Command::History(_)) {
        return Ok(());
    }
    #[cfg(feature = "reference")]
    if matches!(command, Command::Serve(_)) {
        return Ok(());
    }
    watch_for_signals()
}

fn watch_for_signals() -> Result<()> {
    ctrlc::set_handler(interrupt::request).context("cannot watch for Ctrl-C")
}

/// Starts the system, or tells why not. A system that misbehaves while it starts is a finding.
fn start(common: &Common) -> Result<Result<Box<dyn Sut>, Report>> {
    if let Some(path) = &common.junit {
        demand_writable(path, "--junit")?;
    }
    match spec::start(&common.sut) {
        Ok(sut) => Ok(Ok(sut)),
        Err(Failure::Misbehaved(violation)) => Ok(Err(Report::of_start(&common.sut, violation))),
        Err(Failure::Interrupted) => Ok(Err(Report::of_nothing(&common.sut))),
        Err(failure) => Err(anyhow!("{failure}")),
    }
}

/// Prints the report in the form that was asked for, and writes JUnit's.
fn publish(report: &Report, common: &Common) -> Result<Verdict> {
    match common.format {
        Format::Human => print(&human::render(report))?,
        Format::Json => print(&format!("{}\n", json::render(report)))?,
    }
    match write_junit(common.junit.as_deref(), || junit::render(report)) {
        // What was found is the news, not the file.
        Err(error) if report.verdict == Verdict::Violated => complain(&error),
        written => written?,
    }
    Ok(report.verdict)
}

/// Says on stderr what went wrong. Nobody may be reading, and that is no reason to panic.
fn complain(error: &anyhow::Error) {
    // It may quote what comes from outside. What a system wrote on its standard error has several lines.
    let message = format!("{error:#}");
    let lines: Vec<String> = message.lines().map(human::printable).collect();
    let _ = writeln!(io::stderr(), "poolproof: {}", lines.join("\n"));
}

/// Writes what callers at the same time saw, and draws it, beside the counterexamples that have been saved.
fn draw(report: &mut Report) {
    for violation in &mut report.violations {
        let (Some(file), Some(broken)) = (&violation.file, &violation.broken) else { continue };
        let Broken { history, conflict, contract } = &**broken;
        let mut text = Vec::new();
        let written = lines::write(history, contract, &mut text).context("cannot write the history");
        let page = picture::render(history, &Judgement::Violated(conflict.clone()), "event");
        violation.history = written.and_then(|()| put(beside(file, "jsonl"), &text)).unwrap_or_else(told);
        violation.picture = put(beside(file, "html"), page.as_bytes()).unwrap_or_else(told);
    }
}

/// What was found is the news, not a file that cannot be written.
fn told(error: anyhow::Error) -> Option<PathBuf> {
    complain(&error);
    None
}

fn put(path: PathBuf, content: &[u8]) -> Result<Option<PathBuf>> {
    write_whole(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(path))
}

/// Where something goes that belongs to a scenario's file: `x.html` beside `x.scenario`.
fn beside(scenario: &Path, extension: &str) -> PathBuf {
    if scenario.extension().is_some_and(|extension| extension == counterexample::EXTENSION) {
        return scenario.with_extension(extension);
    }
    let mut path = scenario.as_os_str().to_owned();
    path.push(".");
    path.push(extension);
    PathBuf::from(path)
}

/// Writes JUnit's XML into the file, if there is to be one.
fn write_junit(path: Option<&Path>, xml: impl FnOnce() -> Result<String, SerializeError>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let xml = xml().context("cannot write the report as JUnit's XML")?;
    write_whole(path, &xml).with_context(|| format!("cannot write {}", path.display()))
}

/// Can this file be written? Asked before a long campaign, not after.
fn demand_writable(path: &Path, option: &str) -> Result<()> {
    let path = target(path);
    if path.is_dir() {
        bail!("cannot write {}: it is a folder; name a file with {option}", path.display());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let folder = folder.display();
        bail!("cannot write {}: there is no folder {folder}; make it, or name another file", path.display());
    }
    // What is there and no file, such as a device, is written to as it is.
    if fs::metadata(&path).is_ok_and(|found| !found.is_file()) { Ok(()) } else { probe(folder, option) }
}

/// Can files be written into this folder, or could they if it were made? Asked before a long
/// campaign, not after.
fn probe(folder: &Path, option: &str) -> Result<()> {
    if folder.is_symlink() && !folder.exists() {
        bail!(
            "cannot write into {}: it is a link that leads nowhere; name another place with {option}",
            folder.display()
        );
    }
    let found = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    let advice = || format!("cannot write into {}; name another place with {option}", found.display());
    tempfile::tempfile_in(found).map(|_| ()).with_context(advice)
}

/// Publishes the report on a call into this process that does not come back.
fn hang_reporter(common: &Common) -> HangReporter {
    let told = common.clone();
    let reporter = HangReporter::new(move |report| {
        if let Err(error) = publish(report, &told) {
            complain(&error);
        }
    });
    // What lives at a place of its own cannot be in two processes at once.
    match common.sut.starts_with("sqlite") && common.sut.contains(':') {
        true => reporter,
        false => trial::trying(reporter, &common.sut),
    }
}

/// Where a path leads through links, the last of which may point to a file that is not there yet.
fn target(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(next) = fs::read_link(&target) else { return target };
        target = target.parent().unwrap_or(Path::new("")).join(next);
    }
    // The links go in a circle: writing to it says so.
    path.to_owned()
}

/// The same place, however it is written.
fn place(path: &Path) -> PathBuf {
    let target = target(path);
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (fs::canonicalize(folder), target.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => target,
    }
}

/// Replaces a file as a whole, the one behind a link included. What is no file, such as a device or a
/// pipe, is written to.
fn write_whole(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    let path = target(path);
    if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
        return fs::write(&path, content);
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let written = fs::write(&partial, content).and_then(|()| fs::rename(&partial, &path));
    if written.is_err() {
        // The first failure is the one to tell.
        let _ = fs::remove_file(&partial);
    }
    written
}

/// Prints to stdout. Whoever has stopped reading, like `head`, has read enough: the exit code still
/// tells the verdict.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}
