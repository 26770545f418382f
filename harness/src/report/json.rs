//! A report as one JSON object.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Report, Reported};
use crate::engine::exhaust::Covered;
use crate::model::coverage::{AddressClass, Coverage};

/// The report as one line of JSON, without a newline.
pub fn render(report: &Report) -> String {
    json!({
        "verdict": report.verdict.name(),
        "sut": report.sut,
        "seed": report.seed,
        "scenarios": report.scenarios,
        "operations": report.operations,
        "skipped": report.skipped,
        "seconds": report.seconds,
        "interrupted": report.is_interrupted,
        "covered": report.covered.map(Covered::scenarios),
        "depth": report.covered.map(|covered| covered.depth),
        "crash_states": report.visited.map(|visited| json!({
            "scenarios": visited.scenarios,
            "steps": visited.steps,
            "singles": visited.singles,
            "pairs": visited.pairs,
            "memory": visited.memory,
            "equal": visited.equal,
            "plain_runs_per_state": visited.plain_runs(),
        })),
        "schedules": report.tried.map(|tried| json!({
            "scenarios": tried.scenarios,
            "tried": tried.schedules,
            "interruptions": tried.interruptions,
            "all": tried.is_all,
        })),
        "histories_left_open": report.left_open.0,
        "violations": report.violations.iter().map(violation).collect::<Vec<_>>(),
        "coverage": coverage(&report.coverage),
        "missing": report.missing,
        "unchecked": report.unchecked.iter().map(|(property, why)| (property.name(), *why)).collect::<BTreeMap<_, _>>(),
    })
    .to_string()
}

fn violation(violation: &Reported) -> Value {
    json!({
        "property": violation.property.name(),
        "message": violation.message,
        "scenario": violation.scenario.to_string(),
        "steps": violation.scenario.steps.len(),
        "executions": violation.executions,
        "seconds": violation.seconds,
        "shrink_executions": violation.shrink_executions,
        "cut_short": violation.cut_short,
        "file": violation.file.as_ref().map(|file| file.to_string_lossy()),
        "history": violation.history.as_ref().map(|history| history.to_string_lossy()),
        "picture": violation.picture.as_ref().map(|picture| picture.to_string_lossy()),
        "unsaved": violation.unsaved,
        "reproduce": violation.reproduce,
        "diagnostics": violation.diagnostics,
    })
}

fn coverage(coverage: &Coverage) -> Value {
    let mut operations: Map<String, Value> = Map::new();
    for (method, outcome, count) in coverage.seen() {
        let outcomes = operations.entry(method.name()).or_insert_with(|| json!({}));
        outcomes[outcome.name()] = json!(count);
    }
    let classes = AddressClass::ALL.map(|class| (class.name().to_owned(), json!(coverage.class(class))));
    json!({
        "operations": operations,
        "addresses": Map::from_iter(classes),
        "restarts": coverage.restarts,
        "crashes": coverage.crashes,
        "tested_choices": coverage.tested_choices,
    })
}
