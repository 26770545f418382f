//! `replay`: runs scenarios from files and folders, as written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::campaign::Campaign;
use super::counterexample::EXTENSION;
use super::examine::Examiner;
use super::minimise::Minimal;
use super::watchdog::OnHang;
use super::{HangReporter, Progress};
use crate::report::{Report, Reported};
use crate::scenario::{Scenario, parse};
use crate::sut::{Failure, Sut};

/// The largest file that is taken for a scenario, in bytes.
const LARGEST_FILE: u64 = 16 << 20;

/// A scenario from a file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it stands.
    pub path: PathBuf,
    /// What it says.
    pub scenario: Scenario,
}

/// Reads files, and folders with all below them: there, every file named `*.scenario`. In order of
/// names, so that runs are alike.
///
/// # Errors
///
/// What cannot be read or is no scenario, with its path; or that nothing was there.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Entry>, Failure> {
    let mut files = Vec::new();
    paths.iter().try_for_each(|path| collect(path, true, &mut Vec::new(), &mut files))?;
    if files.is_empty() {
        let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let message = format!("no scenarios in {}: files there must end in .{EXTENSION}", shown.join(", "));
        return Err(Failure::Unable(message));
    }
    files.into_iter().map(|path| read_one(&path)).collect()
}

/// Reads one scenario.
///
/// # Errors
///
/// What cannot be read or is no scenario, with its path, line and column.
pub fn read_one(path: &Path) -> Result<Entry, Failure> {
    let unable = |what: String| Failure::Unable(format!("{}: {what}", path.display()));
    let metadata = fs::metadata(path).map_err(|error| unable(error.to_string()))?;
    if !metadata.is_file() {
        // A pipe would be waited for, and a device has no end.
        return Err(unable("this is no regular file".to_owned()));
    }
    let size = metadata.len();
    if size > LARGEST_FILE {
        return Err(unable(format!("{size} bytes are too many for a scenario; {LARGEST_FILE} are allowed")));
    }
    let bytes = fs::read(path).map_err(|error| unable(error.to_string()))?;
    let source = String::from_utf8(bytes)
        .map_err(|error| unable(format!("byte {} is not UTF-8", error.utf8_error().valid_up_to() + 1)))?;
    let scenario = parse(&source).map_err(|error| unable(error.to_string()))?;
    Ok(Entry { path: path.to_owned(), scenario })
}

/// Named files count whatever their name; in folders only scenarios do. `above` are the folders that
/// are being read, under the paths that they really have.
fn collect(path: &Path, is_named: bool, above: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unable = |what: String| Failure::Unable(format!("{}: {what}", path.display()));
    if !fs::metadata(path).map_err(|error| unable(not_there(path, &error)))?.is_dir() {
        if is_named || path.extension().is_some_and(|extension| extension == EXTENSION) {
            files.push(path.to_owned());
        }
        return Ok(());
    }
    let unreadable = |error: io::Error| {
        unable(format!("this folder cannot be read: {error}; make it readable, or move it elsewhere"))
    };
    let real = fs::canonicalize(path).map_err(unreadable)?;
    if above.iter().any(|folder| folder.starts_with(&real)) {
        let advice = "a folder that it is in itself, so reading would never end; remove the link";
        return Err(unable(format!("this link leads to {}, {advice}", real.display())));
    }
    let entries = fs::read_dir(path).map_err(unreadable)?;
    let entries = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    let mut entries = entries.map_err(unreadable)?;
    entries.sort();
    above.push(real);
    entries.iter().try_for_each(|entry| collect(entry, false, above, files))?;
    above.pop();
    Ok(())
}

/// Why nothing is known about a path. A link is itself there, and what it leads to is not.
fn not_there(path: &Path, error: &io::Error) -> String {
    match fs::read_link(path) {
        Ok(target) => {
            format!("this link leads to {}, which cannot be read: {error}; mend or remove the link", target.display())
        }
        Err(_) => error.to_string(),
    }
}

/// Runs each entry once. Goes on after a violation. The verdict is *unknown* when some entry had no
/// call that this system could be sent, some fault did not strike, or nobody can tell.
///
/// # Errors
///
/// What the harness itself could not do.
pub fn replay(
    sut: &mut dyn Sut,
    name: &str,
    entries: &[Entry],
    progress: &mut dyn Progress,
) -> Result<Report, Failure> {
    let examiner = Examiner::thorough(sut).watched(sut, on_hang(name, entries, progress.hang_reporter()))?;
    let mut campaign = Campaign::new(Report::new(name, None).on(sut), examiner, progress);
    let mut missing = Vec::new();
    for entry in entries {
        let Some(run) = campaign.run(sut, &Arc::new(entry.scenario.clone()))? else { break };
        let all_skipped = run.skipped >= entry.scenario.steps.len() as u64;
        if let Some(finding) = run.finding {
            let as_written = Minimal::of(entry.scenario.clone(), finding, sut);
            let reported = Reported::new(as_written, campaign.report.scenarios, Some(&entry.path), name);
            campaign.report.add(reported);
        } else if all_skipped {
            missing.push(format!("{}: no step that this system has", entry.path.display()));
        } else if run.unstruck > 0 {
            let why = "a fault that strikes; the system makes other steps of I/O than it did, or fewer";
            missing.push(format!("{}: {why}", entry.path.display()));
        } else if let Some(why) = run.left_open {
            missing.push(format!("{}: an answer whether an order explains it: {why}", entry.path.display()));
        }
    }
    let mut report = campaign.end();
    let left = entries.len() as u64 - report.scenarios;
    report.is_interrupted &= left > 0;
    if report.is_interrupted {
        missing.push(format!("{left} of {} scenarios were not run", entries.len()));
    }
    report.missing = missing;
    report.settle();
    Ok(report)
}

/// What is done when a call into this process does not come back.
fn on_hang(name: &str, entries: &[Entry], reporter: HangReporter) -> OnHang {
    let (name, entries) = (name.to_owned(), entries.to_vec());
    Box::new(move |hang| {
        let entry = entries.iter().find(|entry| entry.scenario == hang.scenario);
        reporter.tell(&Report::of_hang(&name, &hang, 0, entry.map(|entry| &*entry.path)));
    })
}
