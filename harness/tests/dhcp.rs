//! The DHCP adapters against Kea and dnsmasq, where they are installed, and against a Kea that misbehaves.
//!
//! Without them these tests print `skipped`; with POOLPROOF_REQUIRE_DHCP set they fail instead. dnsmasq wants to be root.
#![cfg(all(feature = "process", feature = "cli"))]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use common::has_python;
use serde_json::Value;

const SERVERS: [&str; 3] = ["kea-dhcp4", "kea-dhcp6", "dnsmasq"];
const KEAS: [&str; 2] = ["kea-dhcp4", "kea-dhcp6"];

/// Is this server where packages put it?
fn has(server: &str) -> bool {
    let is_there = Path::new("/usr/sbin").join(server).exists();
    assert!(is_there || std::env::var_os("POOLPROOF_REQUIRE_DHCP").is_none(), "{server} is not installed");
    if !is_there {
        println!("skipped: {server} is not installed");
    }
    is_there
}

/// How the adapter calls servers of this name: `dhcp4`, `dhcp6`.
fn form(server: &str) -> &str {
    if server == "kea-dhcp6" { "dhcp6" } else { "dhcp4" }
}

/// Two pools in which something is held, given back, and had again.
fn steps(server: &str) -> String {
    let (one, other) =
        if form(server) == "dhcp4" { ("10.0.0.0/28", "10.0.1.0/28") } else { ("fd00::/124", "fd01::/124") };
    format!(
        "poolproof scenario 1\npool p0 {one}\npool p1 {other}\nallocate \"a\" p0\nallocate \"b\" p0\nallocate \"a\" p0\n\
         fill p1 \"c\" 9\nlist\nrelease p0 [3] \"a\"\nrelease p0 [4] \"b\"\ndrain p1 9\nlist\nfill p1 \"d\" 20\n"
    )
}

/// A command on this server, and the exit status and summary that it ends with.
fn run(words: &[&str], program: &Path, fault: &str) -> (i32, Value) {
    let server = program.file_name().unwrap().to_str().unwrap();
    // Counterexamples are saved in the current folder.
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_poolproof"))
        .current_dir(folder.path())
        .args(words)
        .args(["--sut", &format!("{}:{}", form(server), program.display()), "--format", "json"])
        .env("FAULT", fault)
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let summary = stdout.lines().last().unwrap_or_default();
    let summary = serde_json::from_str(summary);
    (output.status.code().unwrap(), summary.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}

/// They keep every property under the contract that the adapter gives them, restarts and crashes included.
#[test]
fn servers_pass_a_campaign() {
    for server in SERVERS.into_iter().filter(|server| has(server)) {
        let (status, summary) =
            run(&["check", "--runs", "60", "--seed", "1"], &Path::new("/usr/sbin").join(server), "");
        assert!([0, 3].contains(&status), "{server}: {summary}");
        assert_eq!(summary["violations"], Value::Array(Vec::new()), "{server}");
        assert!(summary["operations"].as_u64().unwrap() > 1000, "{server}: {summary}");
    }
}

/// Several relays ask at the same time, and each client is served as if it were alone.
#[test]
fn servers_serve_several_callers() {
    for server in SERVERS.into_iter().filter(|server| has(server)) {
        let (status, summary) = run(&["race", "--runs", "20", "--seed", "1"], &Path::new("/usr/sbin").join(server), "");
        assert!([0, 3].contains(&status), "{server}: {summary}");
        assert_eq!(summary["violations"], Value::Array(Vec::new()), "{server}");
    }
}

/// What a server does wrong shows through the adapter, as the property that it breaks.
#[test]
fn what_a_server_does_wrong_is_seen() {
    let faults = [
        ("kea-dhcp4", "deaf", "accounted"),
        ("kea-dhcp4", "unlisted", "accounted"),
        ("kea-dhcp4", "outside", "contained"),
        ("kea-dhcp4", "garbage", "total"),
        ("kea-dhcp4", "silent", "total"),
        ("kea-dhcp4", "killed", "total"),
        ("kea-dhcp6", "unlisted", "accounted"),
        ("kea-dhcp6", "garbage", "total"),
        ("kea-dhcp6", "silent", "total"),
    ];
    if !has_python() || KEAS.into_iter().any(|server| !has(server)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for server in KEAS {
        symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dhcp/faulty_kea.py"), folder.path().join(server)).unwrap();
    }
    let replay = |server: &str, fault| {
        let scenario = folder.path().join(format!("{server}.scenario"));
        fs::write(&scenario, steps(server)).unwrap();
        run(&["replay", scenario.to_str().unwrap()], &folder.path().join(server), fault)
    };
    for server in KEAS {
        let (_, summary) = replay(server, "none");
        assert_eq!(summary["violations"], Value::Array(Vec::new()), "{server}: {summary}");
    }
    for (server, fault, property) in faults {
        let (status, summary) = replay(server, fault);
        assert_eq!(status, 1, "{server} {fault}: {summary}");
        assert_eq!(summary["violations"][0]["property"], property, "{server} {fault}: {summary}");
    }
}

/// What is no such server, or does not start, is said as what it is.
#[test]
fn what_is_no_server_cannot_run() {
    for (system, says) in [
        ("dhcp4:", "needs a server after it"),
        ("dhcp4?x=y:kea-dhcp4", "has no options"),
        ("dhcp4:cat", "`cat` is no server of this kind"),
        ("dhcp6:kea-dhcp4", "`kea-dhcp6` is"),
        ("dhcp6:dnsmasq", "`kea-dhcp6` is"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_poolproof")).args(["check", "--sut", system]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{system}: {stderr}");
        assert!(stderr.contains(says), "{system}: {stderr}");
    }
}
