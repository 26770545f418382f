//! The commands `shrink` and `explain`, which work on one scenario.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use super::arguments::{Common, Explain, Format, Shrink};
use super::{beside, demand_writable, draw, hang_reporter, place, print, publish, start, write_whole};
use poolproof::engine::counterexample::commented;
use poolproof::engine::examine::Examiner;
use poolproof::engine::minimise::{Minimal, Minimiser, Patience};
use poolproof::engine::replay::read_one;
use poolproof::engine::run::{Judged, Runner, Watch};
use poolproof::engine::watchdog::OnHang;
use poolproof::property::Verdict;
use poolproof::report::human::{answered, printable};
use poolproof::report::{Report, Reported};
use poolproof::scenario::Scenario;
use poolproof::sut::Failure;

pub(super) fn shrink(arguments: &Shrink) -> Result<Verdict> {
    let common = &arguments.common;
    let entry = read_one(&arguments.file).map_err(|failure| anyhow!("{failure}"))?;
    if let Some(output) = &arguments.output {
        demand_writable(output, "--output")?;
        for written in [output.clone(), beside(output, "html"), beside(output, "jsonl")] {
            if common.junit.as_ref().is_some_and(|junit| place(junit) == place(&written)) {
                bail!("--output and --junit name the same file, {}; name two", written.display());
            }
        }
    }
    let mut sut = match start(common)? {
        Ok(sut) => sut,
        Err(report) => return publish(&report, common),
    };
    let started = Instant::now();
    let mut report = Report::new(&common.sut, None).on(sut.as_ref());
    let on_hang_here = on_hang(common, Some(&entry.path));
    let examiner = Examiner::thorough(sut.as_ref()).watched(sut.as_ref(), on_hang_here);
    let mut examiner = examiner.map_err(|failure| anyhow!("{failure}"))?;
    let run = match examiner.examine(sut.as_mut(), &entry.scenario) {
        Ok(run) => run,
        Err(Failure::Interrupted) => return publish(&interrupted(report), common),
        Err(failure) => return Err(anyhow!("{failure}")),
    };
    report.scenarios = 1;
    report.operations = run.operations;
    report.coverage = examiner.runner.model.coverage.clone();
    let is_late = run.is_late(sut.contract());
    let Some(finding) = run.finding else {
        report.missing.push(format!("{} breaks nothing here, so there is nothing to shrink", entry.path.display()));
        report.settle();
        return publish(&report, common);
    };
    let found = Minimal::of(entry.scenario, finding, sut.as_ref());
    let minimiser = Minimiser {
        patience: Patience::with(sut.contract()),
        counts: &|_| true,
        is_late,
        on_hang: on_hang(common, None),
    };
    let minimal = minimiser.minimise(sut.as_mut(), found).map_err(|failure| anyhow!("{failure}"))?;
    let file = arguments.output.as_ref().unwrap_or(&arguments.file);
    if let Some(output) = &arguments.output {
        let text = commented(&minimal.scenario, &minimal.violation);
        write_whole(output, &text).with_context(|| format!("cannot write {}", output.display()))?;
    }
    report.add(Reported::new(minimal, 1, Some(file), &common.sut));
    if arguments.output.is_some() {
        draw(&mut report);
    }
    report.seconds = started.elapsed().as_secs_f64();
    report.settle();
    publish(&report, common)
}

pub(super) fn explain(arguments: &Explain) -> Result<Verdict> {
    let common = &arguments.common;
    let entry = read_one(&arguments.file).map_err(|failure| anyhow!("{failure}"))?;
    let mut sut = match start(common)? {
        Ok(sut) => sut,
        Err(report) => return publish(&report, common),
    };
    let mut report = Report::new(&common.sut, None).on(sut.as_ref());
    let runner = Runner::new(sut.as_ref()).explaining();
    let runner = runner.watched(sut.as_ref(), on_hang(common, Some(&entry.path)));
    let mut runner = runner.map_err(|failure| anyhow!("{failure}"))?;
    let mut lines = Lines { scenario: &entry.scenario, text: String::new(), shown: None };
    let started = Instant::now();
    let run = match runner.run(sut.as_mut(), &entry.scenario, &mut lines) {
        Ok(run) => run,
        Err(Failure::Interrupted) => {
            if common.format == Format::Human {
                print(&lines.text)?;
            }
            return publish(&interrupted(report), common);
        }
        Err(failure) => return Err(anyhow!("{failure}")),
    };
    report.scenarios = 1;
    report.operations = run.operations;
    report.skipped = run.skipped;
    report.seconds = started.elapsed().as_secs_f64();
    report.coverage = runner.model.coverage.clone();
    if let Some(finding) = run.finding {
        lines.head(finding.step);
        lines.line("violated", &printable(&finding.violation.to_string()));
        let as_written = Minimal::of(entry.scenario.clone(), finding, sut.as_ref());
        report.add(Reported::new(as_written, 1, Some(&entry.path), &common.sut));
    } else if run.operations == 0 {
        report.missing.push("the scenario has no step that this system has".to_owned());
    }
    report.settle();
    if common.format == Format::Human {
        print(&lines.text)?;
    }
    publish(&report, common)
}

/// The report of a run that the user has ended.
fn interrupted(mut report: Report) -> Report {
    report.is_interrupted = true;
    report.missing.push("the scenario was not run to its end".to_owned());
    report.settle();
    report
}

/// Reports a call into this process that does not come back; `path` is the scenario's file.
fn on_hang(common: &Common, path: Option<&Path>) -> OnHang {
    let (reporter, sut, path) = (hang_reporter(common), common.sut.clone(), path.map(Path::to_owned));
    Box::new(move |hang| reporter.tell(&Report::of_hang(&sut, &hang, 0, path.as_deref())))
}

/// Collects what happens, step by step.
struct Lines<'a> {
    scenario: &'a Scenario,
    text: String,
    /// The step whose heading was written last.
    shown: Option<usize>,
}

impl Lines<'_> {
    fn head(&mut self, step: usize) {
        if self.shown == Some(step) {
            return;
        }
        self.shown = Some(step);
        let shown =
            self.scenario.steps.get(step).map_or("the whole state, at the end".to_owned(), |step| step.to_string());
        // Writing into a String does not fail.
        let _ = writeln!(self.text, "{:>3}  {shown}", step + 1);
    }

    fn line(&mut self, what: &str, text: &str) {
        let _ = writeln!(self.text, "       {what:<9}{text}");
    }
}

impl Watch for Lines<'_> {
    fn answered(&mut self, call: &Judged<'_>) {
        self.head(call.step);
        let sent = call.operation.to_string();
        let as_written = self.scenario.steps.get(call.step).is_some_and(|step| step.to_string() == sent);
        if !as_written {
            self.line("sent", &sent);
        }
        self.line("answered", &answered(call.response));
        self.line("allowed", call.allowed);
    }

    fn noted(&mut self, step: usize, what: &str) {
        self.head(step);
        self.line("", what);
    }
}
