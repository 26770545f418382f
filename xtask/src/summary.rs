//! The closing table of `cargo xtask fuzz`, its finds, and the exit status that follows from them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use crate::libfuzzer::Progress;
use crate::{CANNOT_RUN, FOUND};

/// What became of one target.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) target: String,
    /// Committed inputs that were executed before the search.
    pub(crate) replayed: usize,
    /// How the search went.
    pub(crate) progress: Progress,
    pub(crate) took: Duration,
    /// Inputs by which libFuzzer's own corpus grew.
    pub(crate) new_inputs: usize,
    pub(crate) verdict: Verdict,
    pub(crate) finds: Vec<Find>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    Passed,
    /// Cut short by Ctrl-C, after at least one input.
    Interrupted,
    Found(String),
    /// Never got to run an input, or went wrong for a reason that is not an input's.
    Failed(String),
}

/// An input that breaks something.
#[derive(Debug)]
pub(crate) struct Find {
    pub(crate) artifact: PathBuf,
    /// The committed file with the same content, when a replay found it.
    pub(crate) committed: Option<PathBuf>,
    pub(crate) reproduce: String,
    /// The same without the fuzzer, where it is a scenario.
    pub(crate) replay: Option<String>,
}

impl Report {
    pub(crate) fn new(target: &str) -> Self {
        Self {
            target: target.to_owned(),
            replayed: 0,
            progress: Progress::default(),
            took: Duration::ZERO,
            new_inputs: 0,
            verdict: Verdict::Failed("not run".to_owned()),
            finds: Vec::new(),
        }
    }

    /// Over the whole run, start included: libFuzzer's own rate is 0 for runs below a second.
    fn executions_per_second(&self) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { self.progress.executions as f64 / seconds } else { 0.0 }
    }

    fn found_something(&self) -> bool {
        matches!(self.verdict, Verdict::Found(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Found(what) => write!(f, "FOUND: {what}"),
            Self::Failed(why) => write!(f, "FAILED: {why}"),
        }
    }
}

/// A find outweighs a target that could not run: it is a result, and the other may well follow from it.
pub(crate) fn exit_status(reports: &[Report]) -> u8 {
    let failed = |report: &Report| matches!(report.verdict, Verdict::Failed(_));
    if reports.iter().any(Report::found_something) {
        FOUND
    } else if reports.is_empty() || reports.iter().any(failed) {
        CANNOT_RUN
    } else {
        0
    }
}

/// What the summary says of each target.
pub(crate) const HEADER: [&str; 9] =
    ["target", "replayed", "executions", "exec/s", "new inputs", "edges", "features", "finds", "status"];

pub(crate) fn row(report: &Report) -> [String; HEADER.len()] {
    let finds = report.finds.len().max(usize::from(report.found_something()));
    [
        report.target.clone(),
        report.replayed.to_string(),
        report.progress.executions.to_string(),
        format!("{:.0}", report.executions_per_second()),
        report.new_inputs.to_string(),
        report.progress.edges.to_string(),
        report.progress.features.to_string(),
        finds.to_string(),
        report.verdict.to_string(),
    ]
}

pub(crate) fn table(reports: &[Report]) -> String {
    table_of(&HEADER, reports.iter().map(row), 1..HEADER.len() - 1)
}

/// A table with some columns of numbers, in Markdown's form.
pub(crate) fn table_of<const COLUMNS: usize>(
    header: &[&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
    numbers: std::ops::Range<usize>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    table.add_rows(rows);
    for number in numbers {
        let column = table.column_mut(number).expect("a column of the header");
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Each find with its file and the command that shows it again; nothing when there are none.
pub(crate) fn finds(reports: &[Report]) -> String {
    reports.iter().filter(|report| report.found_something()).map(finds_of).collect()
}

fn finds_of(report: &Report) -> String {
    let Report { target, verdict, .. } = report;
    if report.finds.is_empty() {
        return format!(
            "\n{verdict} in {target}\n  \
             The address sanitizer may save the input: `cargo xtask fuzz --target {target}` with a nightly toolchain.\n"
        );
    }
    let mut text = String::new();
    for find in &report.finds {
        text += &format!("\n{verdict} in {target}: {}\n", find.artifact.display());
        if let Some(committed) = &find.committed {
            text += &format!("  same content: {}\n", committed.display());
        }
        text += &format!("  reproduce:    {}\n", find.reproduce);
        if let Some(replay) = &find.replay {
            text += &format!("  replay:       {replay}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdict: Verdict) -> Report {
        Report { verdict, ..Report::new("memory") }
    }

    #[test]
    fn exit_status_says_found_before_cannot_run() {
        let passed = || report(Verdict::Passed);
        let found = || report(Verdict::Found("crash".to_owned()));
        let failed = || report(Verdict::Failed("executed nothing".to_owned()));
        assert_eq!(exit_status(&[passed(), report(Verdict::Interrupted)]), 0);
        assert_eq!(exit_status(&[passed(), failed()]), CANNOT_RUN);
        assert_eq!(exit_status(&[failed(), found(), passed()]), FOUND);
        assert_eq!(exit_status(&[]), CANNOT_RUN);
    }

    #[test]
    fn table_has_a_line_for_each_target() {
        let progress = Progress { executions: 3000, edges: 19, features: 49, ..Progress::default() };
        let busy =
            Report { replayed: 2, progress, took: Duration::from_secs(2), new_inputs: 7, ..report(Verdict::Passed) };
        let text = table(&[busy, report(Verdict::Found("crash".to_owned()))]);
        let words = |line: &str| line.split(['|', ' ']).filter(|word| !word.is_empty()).map(String::from).collect();
        let lines: Vec<Vec<String>> = text.lines().map(words).collect();
        assert_eq!(lines[2], ["memory", "2", "3000", "1500", "7", "19", "49", "0", "passed"]);
        assert_eq!(lines[3], ["memory", "0", "0", "0", "0", "0", "0", "1", "FOUND:", "crash"]);
    }

    #[test]
    fn finds_name_the_file_and_the_command() {
        let mut found = report(Verdict::Found("crash".to_owned()));
        found.finds.push(Find {
            artifact: "fuzz/artifacts/memory/crash-1".into(),
            committed: Some("corpus/regressions/one".into()),
            reproduce: "cargo fuzz run memory fuzz/artifacts/memory/crash-1".to_owned(),
            replay: Some("poolproof replay fuzz/artifacts/memory/crash-1 --sut memory".to_owned()),
        });
        let text = finds(&[found]);
        for part in
            ["fuzz/artifacts/memory/crash-1\n", "corpus/regressions/one\n", "cargo fuzz run memory", "poolproof replay"]
        {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }
}
