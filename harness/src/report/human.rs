//! A report for people.

use std::fmt::{self, Write};

use super::{Report, Reported};
use crate::engine::crash::Visited;
use crate::engine::exhaust::Covered;
use crate::engine::schedules::Tried;
use crate::history::Outcome;
use crate::model::coverage::AddressClass;
use crate::operation::{Answer, Method, Response};

/// Lines of a system's own output that are shown with a violation.
const DIAGNOSTIC_LINES: usize = 12;

/// The report as text, ending with a newline.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing into a String does not fail.
    let _ = write_report(&mut text, report);
    text
}

fn write_report(out: &mut String, report: &Report) -> fmt::Result {
    for violation in &report.violations {
        write_violation(out, violation)?;
    }
    let seed = report.seed.map_or(String::new(), |seed| format!(", seed {seed}"));
    let early = if report.is_interrupted { ", interrupted" } else { "" };
    let rate = report.operations as f64 / report.seconds.max(1e-9);
    writeln!(
        out,
        "{}: {} on {} scenarios, {} operations in {:.1} s ({}/s){seed}{early}",
        report.sut,
        report.verdict.name(),
        report.scenarios,
        report.operations,
        report.seconds,
        short(rate),
    )?;
    if let Some(covered) = report.covered {
        let (scenarios, Covered { letters, depth }) = (covered.scenarios(), covered);
        writeln!(out, "these cover all {scenarios} scenarios of up to {depth} of {letters} steps: equal states, once")?;
    }
    if let Some(visited) = report.visited {
        let Visited { scenarios, steps, singles, pairs, memory, equal, .. } = visited;
        writeln!(
            out,
            "{singles} crash states after one fault and {pairs} after two, at {steps} steps of I/O of {scenarios} scenarios"
        )?;
        if memory > 0 {
            writeln!(out, "{memory} after memory was refused in a call, once or from then on")?;
        }
        writeln!(out, "{equal} more leave the same behind as one of those")?;
        if singles > 0 {
            writeln!(out, "a state takes as long as {:.1} runs without faults", visited.plain_runs())?;
        }
    }
    if let Some(Tried { scenarios, schedules, interruptions, is_all }) = report.tried {
        let which =
            if is_all { "all there are".to_owned() } else { format!("up to {interruptions} interruptions each") };
        writeln!(out, "{schedules} schedules of {scenarios} scenarios with lanes: {which}")?;
    }
    let (left_open, why) = &report.left_open;
    if *left_open > 0 {
        writeln!(out, "of {left_open} histories it is not known whether an order explains them; of the last: {why}")?;
    }
    if report.skipped > 0 {
        writeln!(
            out,
            "{} steps were skipped: not in the contract, faults that did not strike or cannot here, or nothing to refer to",
            report.skipped
        )?;
    }
    write_coverage(out, report)?;
    for (property, why) in &report.unchecked {
        writeln!(out, "not checked: {property}, because {why}")?;
    }
    if !report.missing.is_empty() {
        writeln!(out, "never seen, so the absence of violations says little:")?;
        report.missing.iter().try_for_each(|missing| writeln!(out, "  {missing}"))?;
    }
    Ok(())
}

fn write_violation(out: &mut String, violation: &Reported) -> fmt::Result {
    writeln!(out, "violated: {}", violation.property)?;
    writeln!(out, "  promise: {}", violation.property.promise())?;
    writeln!(out, "  seen:    {}", printable(&violation.message))?;
    let cut = violation.cut_short.as_ref().map_or(String::new(), |why| format!(", stopped early: {why}"));
    let shrunk = match violation.shrink_executions {
        0 => cut,
        count => format!(", shrunk in {count} more{cut}"),
    };
    let steps = violation.scenario.steps.len();
    match &violation.file {
        Some(file) => {
            writeln!(
                out,
                "  found in scenario {}{shrunk}; {steps} steps, in {}:",
                violation.executions,
                file.display()
            )?;
        }
        None if steps == 0 => writeln!(out, "  found while the system started")?,
        None => writeln!(out, "  found in scenario {}{shrunk}; {steps} steps:", violation.executions)?,
    }
    if let Some(history) = &violation.history {
        writeln!(out, "  what the callers saw is {}, for `poolproof history`", history.display())?;
    }
    if let Some(picture) = &violation.picture {
        writeln!(out, "  a picture of what the callers saw is {}", picture.display())?;
    }
    if let Some(why) = &violation.unsaved {
        writeln!(out, "  {}", printable(why))?;
    }
    if steps > 0 {
        violation.scenario.to_string().lines().try_for_each(|line| writeln!(out, "    {line}"))?;
    }
    if !violation.diagnostics.trim().is_empty() {
        writeln!(out, "  the system wrote:")?;
        let lines: Vec<&str> = violation.diagnostics.lines().collect();
        let tail = &lines[lines.len().saturating_sub(DIAGNOSTIC_LINES)..];
        tail.iter().try_for_each(|line| writeln!(out, "    {}", line.escape_debug()))?;
    }
    writeln!(out, "  reproduce: {}\n", violation.reproduce)
}

fn write_coverage(out: &mut String, report: &Report) -> fmt::Result {
    let coverage = &report.coverage;
    for method in Method::ALL {
        let outcomes = coverage.seen().filter(|(seen, ..)| *seen == method);
        let shown: Vec<String> = outcomes.map(|(_, outcome, count)| format!("{} {count}", outcome.name())).collect();
        if !shown.is_empty() {
            writeln!(out, "  {:<14} {}", method.name(), shown.join(", "))?;
        }
    }
    let classes = AddressClass::ALL.into_iter().filter(|class| coverage.class(*class) > 0);
    let shown: Vec<String> = classes.map(|class| format!("{} {}", class.name(), coverage.class(class))).collect();
    if !shown.is_empty() {
        writeln!(out, "  {:<14} {}", "addresses", shown.join(", "))?;
    }
    if coverage.restarts + coverage.crashes > 0 {
        writeln!(out, "  {:<14} clean {}, crash {}", "restarts", coverage.restarts, coverage.crashes)?;
    }
    Ok(())
}

/// How a call ended, in words.
pub fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered(response) => answered(response),
        Outcome::Unknown => "nobody knows".to_owned(),
    }
}

/// An answer, in words.
pub fn answered(response: &Response) -> String {
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

/// A text from outside, which must not steer what shows it, nor look like another text.
pub fn printable(text: &str) -> String {
    let shown = |c: char| if is_visible(c) { c.to_string() } else { c.escape_debug().to_string() };
    text.chars().map(shown).collect()
}

/// Is there something to see of it? Not of what ends a line, turns the direction of writing or has no width.
fn is_visible(c: char) -> bool {
    let is_format = matches!(c, '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    !c.is_control() && !is_format
}

/// A rate in few digits.
fn short(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{:.2} M", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.1} k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}
