//! What became of a task, in JUnit's XML form. Of fuzzing a suite a target, with its figures as properties.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use poolproof::report::junit::{Outcome, Suite, document};

use crate::summary::{self, Report, Verdict};

/// Can this file be written? Asked before a long search, not after.
pub(crate) fn demand_writable(file: &Path) -> Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if file.is_dir() {
        bail!("cannot write {}: it is a folder; name a file with --junit", file.display());
    }
    tempfile::tempfile_in(folder).map(|_| ()).with_context(|| {
        format!(
            "cannot write {}: no file can be made in {}; name another with --junit",
            file.display(),
            folder.display()
        )
    })
}

pub(crate) fn write(reports: &[Report], file: &Path) -> Result<()> {
    let xml = document(reports.iter().map(suite)).context("cannot write the summary as JUnit's XML")?;
    fs::write(file, xml).with_context(|| format!("cannot write {}", file.display()))
}

/// The same for a task as a whole: what it came to, and how long it took.
pub(crate) fn write_task(task: &str, took: Duration, done: &Result<ExitCode>, file: &Path) -> Result<()> {
    let seconds = took.as_secs_f64();
    let outcome = match done {
        Ok(code) if *code == ExitCode::SUCCESS => Outcome::Passed,
        Ok(_) => Outcome::Failed("found something".to_owned(), "see what the task printed".to_owned()),
        Err(error) => Outcome::Error("could not run".to_owned(), format!("{error:#}")),
    };
    let suite = Suite::new(&format!("xtask {task}"), seconds).with_case(task, "all is well", seconds, outcome);
    let xml = document([suite]).context("cannot write the outcome as JUnit's XML")?;
    fs::write(file, xml).with_context(|| format!("cannot write {}", file.display()))
}

fn suite(report: &Report) -> Suite {
    let seconds = report.took.as_secs_f64();
    let suite = Suite::new(&format!("fuzz {}", report.target), seconds);
    let figures = summary::HEADER.into_iter().zip(summary::row(report));
    let suite = figures.fold(suite, |suite, (name, value)| suite.with_property(name, &value));
    suite.with_case(&report.target, "finds nothing", seconds, outcome(report))
}

fn outcome(report: &Report) -> Outcome {
    let (message, details) = (report.verdict.to_string(), summary::finds(std::slice::from_ref(report)));
    match report.verdict {
        Verdict::Passed | Verdict::Interrupted => Outcome::Passed,
        Verdict::Found(_) => Outcome::Failed(message, details),
        Verdict::Failed(_) => Outcome::Error(message, details),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_find_is_a_failure_and_a_target_that_could_not_run_an_error() {
        let report = |verdict| Report { verdict, ..Report::new("memory") };
        let verdicts =
            [Verdict::Passed, Verdict::Found("crash".to_owned()), Verdict::Failed("executed nothing".to_owned())];
        let xml = document(verdicts.map(report).iter().map(suite)).unwrap();
        for part in [
            r#"<property name="executions" value="0"/>"#,
            r#"<failure message="FOUND: crash""#,
            r#"<error message="FAILED: executed nothing""#,
        ] {
            assert!(xml.contains(part), "{part} in {xml}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_refused_before_the_search() {
        let folder = tempfile::tempdir().unwrap();
        assert!(demand_writable(folder.path()).is_err());
        assert!(demand_writable(&folder.path().join("none/junit.xml")).is_err());
        assert!(demand_writable(&folder.path().join("junit.xml")).is_ok());
    }
}
