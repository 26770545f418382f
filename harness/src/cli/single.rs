//! The commands `shrink` and `explain`, which work on one scenario.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use super::arguments::{Explain, Format, Shrink};
use super::{print, publish, start, write_whole};
use poolproof::engine::examine::Examiner;
use poolproof::engine::minimise::{default_limit, minimise};
use poolproof::engine::replay::read_one;
use poolproof::engine::run::{Judged, Runner, Watch};
use poolproof::operation::{Answer, Response};
use poolproof::property::Verdict;
use poolproof::report::{Report, Reported};
use poolproof::scenario::Scenario;

pub(super) fn shrink(arguments: &Shrink) -> Result<Verdict> {
    let common = &arguments.common;
    let entry = read_one(&arguments.file).map_err(|failure| anyhow!("{failure}"))?;
    let mut sut = match start(common)? {
        Ok(sut) => sut,
        Err(report) => return publish(&report, common),
    };
    let started = Instant::now();
    let mut report = Report::new(&common.sut, None);
    let mut examiner = Examiner::thorough(sut.as_ref());
    let run = examiner.examine(sut.as_mut(), &entry.scenario).map_err(|failure| anyhow!("{failure}"))?;
    report.scenarios = 1;
    report.operations = run.operations;
    report.coverage = examiner.runner.model.coverage.clone();
    let Some(finding) = run.finding else {
        report.missing.push(format!("{} breaks nothing here, so there is nothing to shrink", entry.path.display()));
        report.settle();
        return publish(&report, common);
    };
    let limit = default_limit(sut.contract());
    let minimal = minimise(sut.as_mut(), entry.scenario, finding.violation, limit, &|_| true);
    let minimal = minimal.map_err(|failure| anyhow!("{failure}"))?;
    let file = arguments.output.as_ref().unwrap_or(&arguments.file);
    if let Some(output) = &arguments.output {
        let text = format!("{}# {}\n", minimal.scenario, minimal.violation.to_string().replace(char::is_control, " "));
        write_whole(output, &text).with_context(|| format!("cannot write {}", output.display()))?;
    }
    report.add(Reported::new(minimal, 1, file, &common.sut).with_diagnostics(sut.diagnostics()));
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
    let mut report = Report::new(&common.sut, None);
    let mut runner = Runner::new(sut.as_ref()).explaining();
    let mut lines = Lines { scenario: &entry.scenario, text: String::new(), shown: None };
    let started = Instant::now();
    let run = runner.run(sut.as_mut(), &entry.scenario, &mut lines).map_err(|failure| anyhow!("{failure}"))?;
    report.scenarios = 1;
    report.operations = run.operations;
    report.skipped = run.skipped;
    report.seconds = started.elapsed().as_secs_f64();
    report.coverage = runner.model.coverage.clone();
    if let Some(finding) = run.finding {
        lines.head(finding.step);
        lines.line("violated", &finding.violation.to_string());
        let violation = finding.violation;
        let as_written = poolproof::engine::minimise::Minimal {
            scenario: entry.scenario.clone(),
            violation,
            executions: 0,
            is_cut_short: false,
        };
        report.add(Reported::new(as_written, 1, &entry.path, &common.sut).with_diagnostics(sut.diagnostics()));
    } else if run.operations == 0 {
        report.missing.push("the scenario has no step that this system has".to_owned());
    }
    report.settle();
    if common.format == Format::Human {
        print(&lines.text)?;
    }
    publish(&report, common)
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
        self.line("answered", &shown(call.response));
        self.line("allowed", call.allowed);
    }

    fn noted(&mut self, step: usize, what: &str) {
        self.head(step);
        self.line("", what);
    }
}

fn shown(response: &Response) -> String {
    match response {
        Err(refusal) => format!("refused as `{}`: {}", refusal.kind, refusal.message.escape_debug()),
        Ok(Answer::Done) => "done".to_owned(),
        Ok(Answer::Granted { grants, expires_ms }) => {
            let grants: Vec<String> = grants.iter().map(ToString::to_string).collect();
            let until = expires_ms.map_or(String::new(), |until| format!(" until {until}"));
            format!("granted {}{until}", grants.join(" + "))
        }
        Ok(Answer::Released(released)) => {
            let released: Vec<String> = released.iter().map(|(pool, grant)| format!("{pool} {grant}")).collect();
            format!("released [{}]", released.join(", "))
        }
        Ok(Answer::Renewed { expires_ms }) => format!("renewed until {expires_ms}"),
        Ok(Answer::Listed(lines)) => {
            let lines: Vec<String> =
                lines.iter().map(|line| format!("{} {} {:?}", line.pool, line.address, line.owner)).collect();
            format!("listed [{}]", lines.join(", "))
        }
        Ok(Answer::Usage { allocatable, allocated }) => format!("{allocated} of {allocatable} held"),
        Ok(Answer::Now { now_ms }) => format!("it is {now_ms}"),
    }
}
