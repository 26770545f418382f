//! `crash` on programs: every system call that has to do with files is fatal once and fails once, and who loses something
//! by it is found out.
//!
//! Without `strace` or host-local these tests print `skipped`; in continuous integration they fail instead.
#![cfg(all(feature = "process", feature = "cli"))]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Home, has_python, server, try_all};
use serde_json::Value;

const HOST_LOCAL: &str = "/usr/lib/cni/host-local";
const TWO_STEPS: &str = "poolproof scenario 1\npool p0 10.0.0.0/29\nallocate \"a\" p0\n";
const TWO_STEPS_OF_CNI: &str = "poolproof scenario 1\npool p0 10.0.0.0/29 gateway 10.0.0.1\nallocate \"a\" p0\n";
/// Breakages that show when something fails, and what each breaks first.
const NEED_FAULTS: [(&str, &str); 3] =
    [("written-in-place", "durable"), ("undo-forgotten", "scoped"), ("failure-ignored", "durable")];

fn has_strace() -> bool {
    has(Command::new("strace").arg("-V").output().is_ok(), "strace")
}

fn has(is_there: bool, what: &str) -> bool {
    assert!(is_there || std::env::var_os("CI").is_none(), "{what} is missing");
    if !is_there {
        println!("skipped: {what} is missing");
    }
    is_there
}

/// Strikes at two steps; gives the report and the exit code.
fn strike(home: &Home, steps: &str, sut: &str) -> Result<(Value, Option<i32>), String> {
    home.write("two.scenario", steps);
    let ended = home.poolproof(&["crash", "two.scenario", "--format", "json", "--sut", sut]);
    home.check_clean()?;
    Ok((ended.json()?, ended.code))
}

fn broken_properties(report: &Value) -> Vec<&str> {
    report["violations"].as_array().into_iter().flatten().filter_map(|found| found["property"].as_str()).collect()
}

/// A server that replaces its file as a whole, and says so when it does not know, comes through.
#[test]
fn durable_a_careful_server_comes_through() {
    if !has_python() || !has_strace() {
        return;
    }
    let (report, code) = strike(&Home::new(), TWO_STEPS, &server("allocator.py", &["--durable"])).unwrap();
    assert_eq!(code, Some(0), "{report:#}");
    assert!(report["crash_states"]["singles"].as_u64().unwrap() > 40, "{report:#}");
}

fn try_broken((breakage, property): &(&str, &str)) -> Result<(), String> {
    let sut = server("broken.py", &["--break", breakage, "--durable"]);
    let home = Home::new();
    // The first drawn scenario is one of two steps, and the first violation is enough.
    let ended = home.poolproof(&["crash", "--runs", "1", "--format", "json", "--sut", &sut]);
    home.check_clean()?;
    let report = ended.json()?;
    let text = report["violations"][0]["scenario"].as_str().unwrap_or_default();
    let is_struck = text.contains("\nfault ") && text.lines().count() <= 5;
    if ended.code != Some(1) || broken_properties(&report) != [*property] || !is_struck {
        return Err(format!("{breakage}: {report:#}"));
    }
    Ok(())
}

/// The same promise, broken by servers that write in place, forget to undo, or look away; each counterexample has its fault.
#[test]
fn durable_careless_servers_are_found_out() {
    if has_python() && has_strace() {
        try_all(2, &NEED_FAULTS, try_broken);
    }
}

/// A plugin that is killed between making a file and writing it leaks the address: FINDINGS.md.
#[test]
fn complete_host_local_leaks_an_address_when_it_is_killed() {
    if !has_strace() || !has(Path::new(HOST_LOCAL).exists(), HOST_LOCAL) {
        return;
    }
    let home = Home::new();
    let (report, code) = strike(&home, TWO_STEPS_OF_CNI, &format!("cni:{HOST_LOCAL}")).unwrap();
    assert_eq!(code, Some(1), "{report:#}");
    assert!(broken_properties(&report).contains(&"complete"), "{report:#}");
    let states = &report["crash_states"];
    assert_eq!(states["scenarios"], 1, "each system call is struck, whatever is found: {states}");
    assert!(states["singles"].as_u64() > states["steps"].as_u64(), "{states}");
}

/// Who has no `strace` is told so, and what nothing outlives cannot be struck.
#[test]
fn what_cannot_be_struck_says_why() {
    if !has_python() {
        return;
    }
    let home = Home::new();
    home.write("two.scenario", TWO_STEPS);
    let sut = server("allocator.py", &[]);
    let refused = home.poolproof(&["crash", "two.scenario", "--sut", &sut]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("durable"), "{}", refused.stderr);
}
