//! The command `history`: judges what somebody else has recorded.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, stdin};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use poolproof::history::lines::{Found, read};
use poolproof::history::{self, Bounds, Conflict, Judgement};
use poolproof::property::{Property, Verdict};
use poolproof::report::human::{ended, printable};
use poolproof::report::{junit, picture};
use serde_json::{Value, json};

use super::arguments::{Format, History};
use super::{complain, demand_writable, place, print, watch_for_signals, write_junit, write_whole};

pub(super) fn judge(arguments: &History) -> Result<Verdict> {
    demand_places(arguments)?;
    let found = open(&arguments.file)?;
    if found.history.calls().is_empty() {
        bail!("{} holds no call; each line is one event, see README.md, \"Histories\"", arguments.file.display());
    }
    watch_for_signals()?;
    let started = Instant::now();
    let bounds = Bounds { time: arguments.time, ..Bounds::default() };
    let judgement = history::judge(&found.history, &found.contract, bounds);
    let seconds = started.elapsed().as_secs_f64();
    match arguments.format {
        Format::Human => print(&in_words(&found, &judgement, seconds))?,
        Format::Json => print(&format!("{}\n", in_json(&found, &judgement, seconds)))?,
    }
    let written = write_junit(arguments.junit.as_deref(), || {
        junit::render_judgement(&arguments.file.display().to_string(), &judgement, seconds)
    });
    match written.and(draw(arguments, &found, &judgement)) {
        // What was found is the news, not a file.
        Err(error) if verdict(&judgement) == Verdict::Violated => complain(&error),
        drawn => drawn?,
    }
    Ok(verdict(&judgement))
}

/// Can what is to be written be written, each into a file of its own?
fn demand_places(arguments: &History) -> Result<()> {
    let mut taken = vec![(place(&arguments.file), "the history itself")];
    for (path, option) in [(&arguments.picture, "--picture"), (&arguments.junit, "--junit")] {
        let Some(path) = path else { continue };
        demand_writable(path, option)?;
        let place = place(path);
        if let Some((_, what)) = taken.iter().find(|(other, _)| *other == place) {
            bail!("{} is {what}; name another file with {option}", path.display());
        }
        taken.push((place, "where the picture goes"));
    }
    Ok(())
}

fn draw(arguments: &History, found: &Found, judgement: &Judgement) -> Result<()> {
    let Some(path) = &arguments.picture else { return Ok(()) };
    let page = picture::render(&found.history, judgement, unit(found));
    write_whole(path, &page).with_context(|| format!("cannot write {}", path.display()))
}

/// What its times are.
fn unit(found: &Found) -> &'static str {
    if found.tells_time { "time" } else { "line" }
}

fn open(path: &Path) -> Result<Found> {
    if path == Path::new("-") {
        return read(stdin().lock()).context("cannot take standard input for a history");
    }
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    read(BufReader::new(file)).with_context(|| format!("cannot take {} for a history", path.display()))
}

fn verdict(judgement: &Judgement) -> Verdict {
    match judgement {
        Judgement::Linearizable { .. } => Verdict::Pass,
        Judgement::Violated(_) => Verdict::Violated,
        Judgement::Unknown { .. } => Verdict::Unknown,
    }
}

fn in_words(found: &Found, judgement: &Judgement, seconds: f64) -> String {
    let mut text = match judgement {
        Judgement::Linearizable { .. } => String::new(),
        Judgement::Violated(conflict) => violation(found, conflict),
        Judgement::Unknown { why } => format!("unknown: {why}\n"),
    };
    let calls = found.history.calls().len();
    let _ = writeln!(text, "history: {} on {calls} calls in {seconds:.1} s", verdict(judgement).name());
    text
}

fn violation(found: &Found, conflict: &Conflict) -> String {
    let mut text = format!(
        "violated: {}\n  promise: {}\n  seen:    {}\n  these calls cannot be ordered:\n",
        Property::Linearizable,
        Property::Linearizable.promise(),
        printable(&conflict.why),
    );
    let what = unit(found);
    for index in &conflict.core {
        let Some(call) = found.history.calls().get(*index) else { continue };
        let recorded = &call.recorded;
        let until = recorded.returned.map_or("?".to_owned(), |returned| returned.to_string());
        let process = printable(&recorded.process);
        let (operation, outcome) = (printable(&recorded.operation.to_string()), printable(&ended(&recorded.outcome)));
        let _ = writeln!(text, "    {what} {}-{until}, process {process}: {operation}: {outcome}", recorded.invoked);
    }
    text
}

fn in_json(found: &Found, judgement: &Judgement, seconds: f64) -> Value {
    let calls = found.history.calls();
    let (property, message, core) = match judgement {
        Judgement::Linearizable { .. } => (None, None, Vec::new()),
        Judgement::Unknown { why } => (None, Some(why), Vec::new()),
        Judgement::Violated(conflict) => {
            (Some(Property::Linearizable.name()), Some(&conflict.why), conflict.core.clone())
        }
    };
    let call = |index: &usize| {
        let call = calls.get(*index)?;
        let recorded = &call.recorded;
        Some(json!({
            "process": *recorded.process,
            "invoked": recorded.invoked,
            "returned": recorded.returned,
            "call": recorded.operation.to_string(),
            "outcome": printable(&ended(&recorded.outcome)),
        }))
    };
    json!({
        "verdict": verdict(judgement).name(),
        "property": property,
        "message": message,
        "core": core.iter().filter_map(call).collect::<Vec<Value>>(),
        "calls": calls.len(),
        "seconds": seconds,
    })
}
