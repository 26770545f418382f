//! The harness finds what it is there to find: every deliberately broken server of `suts/python` is
//! caught, its counterexample is small and fails again on a fresh system, and the correct servers
//! are never accused.
#![cfg(all(feature = "process", feature = "cli"))]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Home, has_python, server, server_words, try_all};
use poolproof::engine::Silent;
use poolproof::engine::check::{self, Budget, Engine, Options};
use poolproof::engine::replay;
use poolproof::generate::Generator;
use poolproof::property::Verdict;
use poolproof::report::{Report, human};
use poolproof::sut::spec;
use serde_json::Value;

const SEED: u64 = 1;
/// Enough scenarios for every rule breakage; most take a few.
const RUNS: u64 = 4_000;
/// Enough for the tour, which exercises everything once, and some more.
const FEW_RUNS: u64 = 12;
/// The longest counterexample that a person should have to read.
const MOST_STEPS: usize = 8;
/// The answer time of servers that will not answer: long for Python, short for a test.
const TIMEOUT_MS: &str = "1000";
/// Finding a server that hangs costs its answer time, shrinking half a minute at most.
const LONGEST_CHECK: Duration = Duration::from_secs(60);
/// More than there are cores, because the servers wait for the disk and for time-outs.
const THREADS: usize = 4;
/// For servers that keep a core busy: no more than there are cores, or none would start in time.
const FEW_THREADS: usize = 2;

/// Breakages that `check` cannot catch yet, and why.
const OUT_OF_REACH: &[(&str, &str)] = &[
    ("stale-view", "it shows only when two processes share a directory"),
    ("leaves-child", "a child that outlives a clean exit breaks no rule; that it is killed is tested"),
];

/// A server that breaks one promise, from `broken.py --list`.
struct Breakage {
    name: String,
    kind: String,
    /// What it should be found to break.
    property: String,
    /// What it takes to see it, beyond calls.
    needs: Option<String>,
    switches: Vec<String>,
}

impl Breakage {
    fn read(line: &str) -> Breakage {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |field: &str| line[field].as_str().map(str::to_owned);
        let switches = line["switches"].as_array().unwrap().iter();
        Breakage {
            name: text("name").unwrap(),
            kind: text("kind").unwrap(),
            property: text("property").unwrap(),
            needs: text("needs"),
            switches: switches.map(|switch| switch.as_str().unwrap().to_owned()).collect(),
        }
    }

    fn sut(&self, more: &[&str]) -> String {
        let switches = self.switches.iter().map(String::as_str);
        let arguments: Vec<&str> =
            ["--break", &self.name].into_iter().chain(switches).chain(more.iter().copied()).collect();
        server("broken.py", &arguments)
    }

    /// Does each scenario restart Python, or wait for a slow call?
    fn is_slow(&self) -> bool {
        matches!(self.needs.as_deref(), Some("restart" | "crash" | "timing"))
    }

    /// Is it seen before the first scenario, so that there is none to make small?
    fn is_seen_at_start(&self) -> bool {
        self.needs.as_deref() == Some("start")
    }

    /// Does something have to fail for it to be seen? That is `crash`'s part.
    fn needs_faults(&self) -> bool {
        self.needs.as_deref() == Some("fault")
    }

    fn out_of_reach(&self) -> Option<&'static str> {
        OUT_OF_REACH.iter().find(|(name, _)| *name == self.name).map(|(_, why)| *why)
    }
}

/// All breakages of a kind, the slow ones first, so that no thread ends with one alone.
fn breakages(kind: &str) -> Vec<Breakage> {
    let words = server_words("broken.py", &["--list"]);
    let listed = Command::new(&words[0]).args(&words[1..]).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let lines = String::from_utf8(listed.stdout).unwrap();
    let mut some: Vec<_> = lines.lines().map(Breakage::read).filter(|breakage| breakage.kind == kind).collect();
    some.retain(|breakage| !breakage.needs_faults());
    some.sort_by_key(|breakage| breakage.needs.is_none());
    some
}

fn campaign(sut: &str, runs: u64, save: &tempfile::TempDir) -> Report {
    let options = Options {
        engine: Engine::Check,
        sut: sut.to_owned(),
        budget: Budget::Runs(runs),
        seed: SEED,
        max_steps: Generator::DEFAULT_MAX_STEPS,
        tours: true,
        properties: Vec::new(),
        keep_going: false,
        save: save.path().to_owned(),
    };
    let mut system = spec::start(sut).unwrap();
    check::check(system.as_mut(), &options, &mut Silent).unwrap()
}

/// Caught, small, and violated again on a fresh system; or out of reach, and really not caught.
fn try_rule(breakage: &Breakage) -> Result<(), String> {
    let (sut, save) = (breakage.sut(&[]), tempfile::tempdir().unwrap());
    if let Some(why) = breakage.out_of_reach() {
        let report = campaign(&sut, FEW_RUNS, &save);
        let is_caught = report.verdict == Verdict::Violated;
        return if is_caught { Err(format!("{}: caught, although {why}", breakage.name)) } else { Ok(()) };
    }
    let report = campaign(&sut, RUNS, &save);
    let complain = |what: &str| Err(format!("{}: {what}\n{}", breakage.name, human::render(&report)));
    let (Verdict::Violated, [found]) = (report.verdict, report.violations.as_slice()) else {
        return complain("not caught");
    };
    println!(
        "{}: {} in scenario {}, {} steps, {:.1} s",
        breakage.name,
        found.property,
        found.executions,
        found.scenario.steps.len(),
        report.seconds
    );
    if found.scenario.steps.len() > MOST_STEPS {
        return complain("the counterexample is long");
    }
    let entry = replay::read_one(found.file.as_ref().unwrap()).unwrap();
    let mut fresh = spec::start(&sut).unwrap();
    let again = replay::replay(fresh.as_mut(), &sut, &[entry], &mut Silent).unwrap();
    if again.verdict == Verdict::Violated { Ok(()) } else { complain("the counterexample fails on no fresh system") }
}

/// Every property: a system that breaks it is caught, and the counterexample is small and true.
#[test]
fn broken_rules_are_caught() {
    if has_python() {
        let is_quick = |breakage: &Breakage| !breakage.is_slow() && !breakage.is_seen_at_start();
        let quick: Vec<_> = breakages("rule").into_iter().filter(is_quick).collect();
        try_all(THREADS, &quick, try_rule);
    }
}

/// Caught by every command that starts the system, with nothing left behind.
fn try_start(breakage: &Breakage) -> Result<(), String> {
    let home = Home::new();
    home.write("empty.scenario", "poolproof scenario 1\n");
    for command in [&["check", "--runs", "1"][..], &["replay", "empty.scenario"]] {
        let ended = home.poolproof(&[command, &["--format", "json", "--sut", &breakage.sut(&[])]].concat());
        let report = ended.json()?;
        if ended.code != Some(1) || report["violations"][0]["property"] != breakage.property.as_str() {
            return Err(format!("{}: {command:?} gave {report}", breakage.name));
        }
        home.check_clean().map_err(|complaint| format!("{}: {complaint}", breakage.name))?;
    }
    Ok(())
}

/// Rules about the introduction are looked at before anything else.
#[test]
fn broken_starts_are_caught() {
    if has_python() {
        let starts: Vec<_> = breakages("rule").into_iter().filter(Breakage::is_seen_at_start).collect();
        try_all(THREADS, &starts, try_start);
    }
}

/// `durable` and `bounded`: the same where each run takes long.
#[test]
fn slow_breakages_are_caught() {
    if has_python() {
        let slow: Vec<_> = breakages("rule").into_iter().filter(Breakage::is_slow).collect();
        try_all(FEW_THREADS, &slow, try_rule);
    }
}

/// Caught as `total` or `durable`, in time, and with nothing left behind.
fn try_process(breakage: &Breakage) -> Result<(), String> {
    let home = Home::new();
    // Only durable systems are restarted.
    let durable: &[&str] = if breakage.needs.as_deref() == Some("restart") { &["--durable"] } else { &[] };
    let sut = breakage.sut(&[&["--timeout-ms", TIMEOUT_MS], durable].concat());
    let runs = FEW_RUNS.to_string();
    let ended = home.poolproof(&["check", "--runs", &runs, "--seed", "1", "--format", "json", "--sut", &sut]);
    if breakage.out_of_reach().is_some() {
        return home.check_clean().map_err(|complaint| format!("{}: {complaint}", breakage.name));
    }
    let report = ended.json()?;
    let property = report["violations"][0]["property"].as_str().unwrap_or("none");
    println!("{}: {property}, {:.1?}: {}", breakage.name, ended.took, report["violations"][0]["message"]);
    if ended.code != Some(1) || report["verdict"] != "violated" || !["total", "durable"].contains(&property) {
        return Err(format!("{}: property {property}, {report}", breakage.name));
    }
    if ended.took > LONGEST_CHECK {
        return Err(format!("{}: it took {:?}", breakage.name, ended.took));
    }
    home.check_clean().map_err(|complaint| format!("{}: {complaint}", breakage.name))
}

/// `total`: a process that does not answer, or not properly, is caught, and nothing hangs or stays.
#[test]
fn broken_processes_are_caught() {
    if has_python() {
        try_all(2 * THREADS, &breakages("process"), try_process);
    }
}

/// Switches of `allocator.py`, so that every value of every contract field is promised somewhere.
const PROMISES: &[&[&str]] = &[
    &["--durable", "--clock", "virtual"],
    &["--shared", "--clock", "virtual", "--unpredictable"],
    &["--durable", "--no-disjoint-pools", "--blocks"],
    &["--families", "ipv6", "--without", "reset,list,usage"],
    &["--clock", "wall"],
    &[],
    &["--clock", "virtual", "--blocks"],
    &["--repeat", "same", "--release-unknown", "ok", "--clock", "virtual"],
    &["--repeat", "conflict", "--release-by", "anyone"],
    &["--no-reserves-edges", "--incomplete", "--no-atomic"],
    &["--families", "ipv4", "--unpredictable"],
];

/// Every property: a system that keeps it is not accused, in a campaign that exercises everything.
#[test]
fn correct_servers_pass() {
    if !has_python() {
        return;
    }
    let allocators = PROMISES.iter().map(|switches| ("allocator.py", *switches));
    let cases: Vec<_> = allocators.chain([("minimal.py", &[][..])]).collect();
    try_all(THREADS, &cases, |(script, switches)| {
        let is_slow = switches.iter().any(|switch| ["--durable", "--shared", "--without"].contains(switch));
        let save = tempfile::tempdir().unwrap();
        let report = campaign(&server(script, switches), if is_slow { FEW_RUNS } else { 10 * FEW_RUNS }, &save);
        let is_well = report.verdict == Verdict::Pass;
        if is_well { Ok(()) } else { Err(human::render(&report)) }
    });
}
