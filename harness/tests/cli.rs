//! The command line as a person or a script meets it: exit codes, reports in every form, messages
//! that say what to do, and nothing left behind however a run ends.
#![cfg(all(feature = "process", feature = "cli", feature = "reference"))]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Ended, Home, await_until, has_python, server, server_words};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Enough scenarios for `memory` to exercise everything, with this seed.
const WHOLE: &[&str] = &["--runs", "300", "--seed", "1"];
/// How soon after a signal everything must be over.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A server that ignores who releases, as a text for `--sut`.
fn broken() -> String {
    server("broken.py", &["--break", "release-ignores-owner"])
}

/// A server that answers the first calls and then no more.
fn hanging(timeout_ms: &str) -> String {
    server("broken.py", &["--break", "hangs", "--timeout-ms", timeout_ms])
}

/// A counterexample for [`broken`] with steps to spare.
const STRANGER: &str = "poolproof scenario 1\npool p0 10.0.0.0/29\npool p1 fd00::/64\nallocate \"a\" p0\n\
                        allocate \"c\" p1\nrelease p0 @3 \"b\"\nusage p1\n";

/// A short campaign that is the same each time.
fn check(home: &Home, sut: &str, more: &[&str]) -> Ended {
    home.poolproof(&[&["check", "--seed", "1", "--runs", "50", "--sut", sut], more].concat())
}

/// Cannot run: exit code 2, nothing on stdout, a message with these words, nothing left behind.
fn assert_refused(home: &Home, arguments: &[&str], words: &[&str]) {
    let ended = home.poolproof(arguments);
    let shown = format!("{arguments:?}: {:?}\n{}{}", ended.code, ended.stdout, ended.stderr);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{shown}");
    words.iter().for_each(|word| assert!(ended.stderr.contains(word), "no `{word}` in {shown}"));
    assert!(!ended.stderr.contains("panicked"), "{shown}");
    assert!(home.counterexamples().is_empty(), "{shown}");
    home.assert_clean();
}

/// Exit code 0: every property held and everything was exercised.
#[test]
fn a_pass_exits_with_0() {
    let home = Home::new();
    for sut in ["memory", "sqlite"] {
        let ended = home.poolproof(&[&["check", "--sut", sut], WHOLE].concat());
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains(&format!("{sut}: pass on 300 scenarios")), "{}", ended.stdout);
        assert!(!home.work().join("counterexamples").exists(), "a folder for counterexamples without any");
        home.assert_clean();
    }
}

/// Exit code 3: nothing was violated, but that says little.
#[test]
fn a_run_that_exercised_little_exits_with_3() {
    let home = Home::new();
    let ended = home.poolproof(&["check", "--sut", "memory", "--runs", "1", "--seed", "1", "--steps", "1"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stdout);
    assert!(ended.stdout.contains("never seen"), "{}", ended.stdout);
    home.write("blocks.scenario", "poolproof scenario 1\nrelease p0 @9 \"a\"\n");
    let ended = home.poolproof(&["replay", "blocks.scenario", "--sut", "memory", "--format", "json"]);
    assert_eq!((ended.code, &ended.json().unwrap()["verdict"]), (Some(3), &Value::from("unknown")));
    home.assert_clean();
}

/// Every field that the design names, each of its type.
fn assert_fields(report: &Value) {
    let is_whole = |field: &str| report[field].is_u64();
    assert!(report["verdict"].is_string() && report["sut"].is_string(), "{report}");
    assert!(["seed", "scenarios", "operations"].into_iter().all(is_whole), "{report}");
    assert!(report["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.0), "{report}");
    assert!(report["coverage"]["operations"].is_object() && report["coverage"]["addresses"].is_object(), "{report}");
    for violation in report["violations"].as_array().unwrap() {
        let texts = ["property", "message", "scenario", "reproduce"];
        assert!(
            texts.into_iter().all(|field| violation[field].as_str().is_some_and(|text| !text.is_empty())),
            "{violation}"
        );
        assert!(violation["steps"].is_u64() && violation["executions"].is_u64(), "{violation}");
    }
}

/// Exit code 1, and one JSON object with all that a script needs: the last line of stdout.
#[test]
fn json_has_every_field() {
    let home = Home::new();
    let ended = home.poolproof(&[&["check", "--sut", "memory", "--format", "json"], WHOLE].concat());
    let report = ended.json().unwrap();
    assert_fields(&report);
    assert_eq!((ended.code, &report["verdict"], &report["seed"]), (Some(0), &"pass".into(), &1.into()));
    assert_eq!((&report["sut"], &report["scenarios"]), (&"memory".into(), &300.into()));
    assert_eq!(ended.stdout.lines().count(), 1);
    if !has_python() {
        return;
    }
    let ended = check(&home, &broken(), &["--format", "json"]);
    let report = ended.json().unwrap();
    assert_fields(&report);
    assert_eq!((ended.code, &report["verdict"]), (Some(1), &"violated".into()));
    let [violation] = report["violations"].as_array().unwrap().as_slice() else { panic!("{report}") };
    assert_eq!(violation["property"], "owned");
    let scenario = violation["scenario"].as_str().unwrap();
    assert_eq!(violation["steps"], scenario.lines().count() - 1, "{scenario}");
    home.assert_clean();
}

/// The command at the end of a report reproduces it, in a shell, as it stands; awkward words too.
#[test]
fn reproduce_reproduces() {
    if !has_python() {
        return;
    }
    let home = Home::new();
    for folder in ["counterexamples", "it's a folder; $HOME \"quoted\"", "-dash"] {
        let ended = check(&home, &broken(), &["--format", "json", &format!("--save={folder}")]);
        let report = ended.json().unwrap();
        let command = report["violations"][0]["reproduce"].as_str().unwrap();
        let again = home.shell(command);
        assert_eq!(again.code, Some(1), "{command}\n{}{}", again.stdout, again.stderr);
        assert!(again.stdout.contains("violated: owned"), "{}", again.stdout);
        let human = check(&home, &broken(), &[&format!("--save={folder}")]);
        assert!(human.stdout.contains(&format!("reproduce: {command}\n")), "{}", human.stdout);
    }
    home.assert_clean();
}

/// A CI server reads what JUnit's readers read: a failure with the message, or none.
#[test]
fn junit_tells_the_same() {
    let home = Home::new();
    let read = || {
        let xml = fs::read_to_string(home.work().join("junit.xml")).unwrap();
        // This reader wants a time zone, which Ant's schema forbids.
        let (before, after) = xml.split_once(" timestamp=\"").unwrap();
        let (_, after) = after.split_once('"').unwrap();
        quick_junit::Report::deserialize_from_str(&format!("{before}{after}"))
    };
    let ended = home.poolproof(&[&["check", "--sut", "memory", "--junit", "junit.xml"], WHOLE].concat());
    assert_eq!(ended.code, Some(0));
    let failures = |report: &quick_junit::Report| report.test_suites.iter().map(|suite| suite.failures).sum::<usize>();
    assert_eq!(failures(&read().unwrap()), 0);
    if !has_python() {
        return;
    }
    let ended = check(&home, &broken(), &["--junit", "junit.xml"]);
    assert_eq!((ended.code, failures(&read().unwrap())), (Some(1), 1));
    let xml = fs::read_to_string(home.work().join("junit.xml")).unwrap();
    assert!(xml.contains("<failure message=") && xml.contains("poolproof replay"), "{xml}");
}

/// A history and mutants have no report of a campaign, but a verdict.
#[test]
fn junit_tells_of_histories_and_mutants() {
    let home = Home::new();
    let pool = "\"method\":\"pool.create\",\"params\":{\"pool\":\"p0\",\"prefix\":\"10.0.0.0/30\"}";
    let create = format!(
        "{{\"process\":1,\"type\":\"invoke\",{pool}}}\n{{\"process\":1,\"type\":\"return\",\"result\":{{}}}}\n"
    );
    home.write("history.jsonl", create.repeat(2));
    for (option, path) in
        [("--junit", "history.jsonl"), ("--picture", "./history.jsonl"), ("--picture", "../work/history.jsonl")]
    {
        assert_refused(&home, &["history", "history.jsonl", option, path], &["is the history itself"]);
    }
    let ended = home.poolproof(&["history", "history.jsonl", "--junit", "junit.xml"]);
    let xml = fs::read_to_string(home.work().join("junit.xml")).unwrap();
    assert!(ended.code == Some(1) && xml.contains("<failure message="), "{}{xml}", ended.stdout);
    assert!(xml.contains("name=\"linearizable\" classname=\"history.jsonl\""), "{xml}");

    let only = ["mutants", "--only", "past-last-free-bit", "--seeds", "1", "--junit", "junit.xml"];
    let ended = home.poolproof(&only);
    let xml = fs::read_to_string(home.work().join("junit.xml")).unwrap();
    assert!(ended.code == Some(0) && xml.contains("failures=\"0\""), "{}{xml}", ended.stdout);
    let ended = home.poolproof(&[&only[..], &["--mended"]].concat());
    let xml = fs::read_to_string(home.work().join("junit.xml")).unwrap();
    assert!(ended.code == Some(0) && xml.contains("name=\"past-last-free-bit\""), "{}{xml}", ended.stdout);
}

/// Neither a session of its own nor an empty environment saves a child of the system.
#[test]
fn what_a_system_leaves_running_is_ended() {
    if !has_python() {
        return;
    }
    let home = Home::new();
    let started = home.work().join("started");
    home.write(
        "daemon.py",
        format!(
            "import os, runpy, subprocess\n\
             child = subprocess.Popen(['sleep', '3600'], start_new_session=True, env={{}})\n\
             open({started:?}, 'a').write('%d\\n' % child.pid)\n\
             runpy.run_path({:?}, run_name='__main__')\n",
            server_words("minimal.py", &[])[1],
        ),
    );
    let ended = home.poolproof(&["check", "--sut", "stdio:python3 daemon.py", "--runs", "20"]);
    assert!(matches!(ended.code, Some(0 | 3)), "{}{}", ended.stdout, ended.stderr);
    let children = fs::read_to_string(&started).unwrap();
    assert!(children.lines().count() >= 2, "{children}");
    for child in children.lines() {
        await_until("a child lives on", || !Path::new("/proc").join(child).exists());
    }
    home.assert_clean();
}

/// A link stays a link: the report goes where it points, and other names of that place see it.
#[test]
fn junit_is_written_through_links() {
    let home = Home::new();
    fs::create_dir(home.work().join("reports")).unwrap();
    symlink("reports/today.xml", home.work().join("junit.xml")).unwrap();
    // Once where the target does not exist yet, once where it does.
    for _ in 0..2 {
        let ended = home.poolproof(&[&["check", "--sut", "memory", "--junit", "junit.xml"], WHOLE].concat());
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
        assert!(fs::symlink_metadata(home.work().join("junit.xml")).unwrap().is_symlink());
        let xml = fs::read_to_string(home.work().join("reports/today.xml")).unwrap();
        assert!(xml.starts_with("<?xml"), "{xml}");
    }
    let device = home.poolproof(&[&["check", "--sut", "memory", "--junit", "/dev/null"], WHOLE].concat());
    assert_eq!(device.code, Some(0), "{}{}", device.stdout, device.stderr);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    home.assert_clean();
}

/// What cannot be written is said before the campaign, not after it.
#[test]
fn places_that_cannot_be_written_are_told_at_once() {
    let home = Home::new();
    home.write("file", "");
    for (option, place, complaint) in [
        ("--junit", "nowhere/junit.xml", "there is no folder nowhere"),
        ("--save", "file/counterexamples", "name another place with --save"),
    ] {
        let ended = home.poolproof(&["check", "--runs", "1", "--sut", "memory", option, place]);
        assert_eq!(ended.code, Some(2), "{option}");
        assert!(ended.stderr.contains(complaint), "{option}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{option}");
    }
}

/// A property that is not looked at in a system never passes there.
#[test]
fn a_property_that_is_not_looked_at_cannot_be_asked_for() {
    let home = Home::new();
    for property in ["unpredictable", "durable", "linearizable"] {
        let ended = home.poolproof(&["check", "--runs", "1", "--sut", "memory", "--property", property]);
        assert_eq!(ended.code, Some(2), "{property}: {}", ended.stdout);
        assert!(ended.stderr.contains(property), "{property}: {}", ended.stderr);
    }
    let ended = home.poolproof(&[&["check", "--sut", "memory", "--property", "bounded"], WHOLE].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("not checked: durable"), "{}", ended.stdout);
}

/// `shrink` writes a smaller scenario that still fails, and leaves the given one alone.
#[test]
fn shrink_makes_it_small() {
    if !has_python() {
        return;
    }
    let home = Home::new();
    home.write("long.scenario", STRANGER);
    let ended = home.poolproof(&["shrink", "long.scenario", "-o", "short.scenario", "--sut", &broken()]);
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    let short = fs::read_to_string(home.work().join("short.scenario")).unwrap();
    assert!(short.lines().filter(|line| !line.starts_with('#')).count() == 4, "{short}");
    assert_eq!(fs::read_to_string(home.work().join("long.scenario")).unwrap(), STRANGER);
    assert_eq!(home.poolproof(&["replay", "short.scenario", "--sut", &broken()]).code, Some(1));
    let nothing = home.poolproof(&["shrink", "long.scenario", "--sut", "memory"]);
    assert_eq!(nothing.code, Some(3), "{}", nothing.stdout);
    assert!(nothing.stdout.contains("nothing to shrink"), "{}", nothing.stdout);
    home.assert_clean();
}

/// `explain` shows every step, what was answered, and what was allowed.
#[test]
fn explain_shows_every_step() {
    let home = Home::new();
    home.write("stranger.scenario", STRANGER);
    let ended = home.poolproof(&["explain", "stranger.scenario", "--sut", "memory"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    STRANGER.lines().skip(1).for_each(|step| assert!(ended.stdout.contains(step), "no {step}: {}", ended.stdout));
    assert!(ended.stdout.contains("refused as `not_owner`"), "{}", ended.stdout);
    assert!(ended.stdout.matches("allowed").count() >= 6, "{}", ended.stdout);
    if has_python() {
        let ended = home.poolproof(&["explain", "stranger.scenario", "--sut", &broken()]);
        assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains("violated owned"), "{}", ended.stdout);
    }
    home.assert_clean();
}

/// The lists name everything, in both forms.
#[test]
fn lists_are_complete() {
    let home = Home::new();
    let ended = home.poolproof(&["properties", "--format", "json"]);
    let listed = ended.json().unwrap();
    let listed = listed["properties"].as_array().unwrap();
    let human = home.poolproof(&["properties"]).stdout;
    assert_eq!(listed.len(), poolproof::property::Property::ALL.len());
    for property in listed {
        assert!(
            human.contains(property["name"].as_str().unwrap()) && human.contains(property["promise"].as_str().unwrap())
        );
    }
    let listed = home.poolproof(&["suts", "--format", "json"]).json().unwrap();
    let human = home.poolproof(&["suts"]).stdout;
    for name in ["sqlite", "memory", "stdio", "cni"] {
        let mut forms = listed["suts"].as_array().unwrap().iter().map(|sut| sut["form"].as_str().unwrap());
        assert!(forms.any(|form| form.starts_with(name)) && human.contains(name), "{name}");
    }
}

/// `--property` counts only violations of the named ones.
#[test]
fn property_filters() {
    if !has_python() {
        return;
    }
    let home = Home::new();
    let ended = check(&home, &broken(), &["--property", "exclusive,contained", "--format", "json"]);
    assert_eq!(ended.json().unwrap()["violations"], Value::Array(Vec::new()));
    assert!(home.counterexamples().is_empty());
    let ended = check(&home, &broken(), &["--property", "exclusive,owned", "--format", "json"]);
    assert_eq!((ended.code, &ended.json().unwrap()["violations"][0]["property"]), (Some(1), &"owned".into()));
    assert_refused(&Home::new(), &["check", "--property", "owend"], &["owend", "poolproof properties"]);
}

/// `--keep-going` uses the whole budget, and reports each property once.
#[test]
fn keep_going_goes_on() {
    if !has_python() {
        return;
    }
    let home = Home::new();
    let sut = server("broken.py", &["--break", "list-omits-one"]);
    let ended = check(&home, &sut, &["--keep-going", "--format", "json", "--save", "found"]);
    let report = ended.json().unwrap();
    assert_eq!((ended.code, &report["scenarios"]), (Some(1), &50.into()));
    let found = report["violations"].as_array().unwrap();
    let mut properties: Vec<_> = found.iter().map(|violation| violation["property"].as_str().unwrap()).collect();
    properties.sort_unstable();
    let count = properties.len();
    properties.dedup();
    assert_eq!(properties.len(), count, "{properties:?}");
    let files = fs::read_dir(home.work().join("found")).unwrap().count();
    assert_eq!(files, count, "one file a violation in the folder that --save names");
    assert!(!home.work().join("counterexamples").exists());
}

/// A seed is a run: the same scenarios, answers and counterexample, whenever.
#[test]
fn a_seed_gives_the_same_run_twice() {
    let home = Home::new();
    let suts = if has_python() { vec!["memory".to_owned(), broken()] } else { vec!["memory".to_owned()] };
    for sut in suts {
        let arguments = ["check", "--sut", &sut, "--runs", "50", "--format", "json", "--seed"];
        let run = |seed| {
            let mut report = home.poolproof(&[&arguments[..], &[seed]].concat()).json().unwrap();
            report["seconds"] = Value::Null;
            for violation in report["violations"].as_array_mut().unwrap() {
                violation["seconds"] = Value::Null;
            }
            report
        };
        assert_eq!(run("77"), run("0x4d"));
        assert_ne!(run("77"), run("78"));
    }
}

/// Bad values are refused with a message that says what to do.
#[test]
fn bad_values_are_refused() {
    let home = Home::new();
    assert_refused(&home, &["check", "--runs", "0"], &["--runs", "1.."]);
    assert_refused(&home, &["check", "--runs", "many"], &["--runs", "many"]);
    assert_refused(&home, &["check", "--runs", "-1"], &["-1"]);
    assert_refused(&home, &["check", "--runs", "18446744073709551616"], &["--runs", "too large"]);
    assert_refused(&home, &["check", "--seed", "18446744073709551616"], &["--seed", "whole number below 2^64"]);
    assert_refused(&home, &["check", "--seed=-1"], &["--seed", "whole number below 2^64"]);
    assert_refused(&home, &["check", "--time", "9999999999999years"], &["--time", "write it as 30s, 5m or 1h"]);
    assert_refused(&home, &["check", "--time", "0s"], &["--time", "longer than nothing"]);
    assert_refused(&home, &["check", "--time", "soon"], &["--time", "write it as 30s, 5m or 1h"]);
    assert_refused(&home, &["check", "--time", "1s", "--runs", "1"], &["--time", "--runs", "cannot be used with"]);
    assert_refused(&home, &["check", "--steps", "0"], &["--steps", "1..=100000"]);
    assert_refused(&home, &["check", "--steps", "9999999999"], &["--steps", "1..=100000"]);
    assert_refused(&home, &["check", "--seed", "0xyz"], &["--seed", "whole number below 2^64"]);
    assert_refused(&home, &["check", "--format", "yaml"], &["yaml", "human", "json"]);
    assert_refused(&home, &["chekc"], &["chekc", "check"]);
    assert_refused(&home, &[], &["Usage"]);
    assert_refused(&home, &["replay"], &["PATH"]);
}

/// Values at the very end of what is taken work like any other.
#[test]
fn extreme_values_are_taken() {
    let home = Home::new();
    for seed in ["0", "18446744073709551615", "0xffffffffffffffff"] {
        let ended = home.poolproof(&["check", "--sut", "memory", "--runs", "2", "--steps", "100000", "--seed", seed]);
        assert!(matches!(ended.code, Some(0 | 3)), "{seed}: {}{}", ended.stdout, ended.stderr);
    }
    if !has_python() {
        return;
    }
    for budget in [["--time", "99999999999years"], ["--time", "1ns"], ["--runs", "18446744073709551615"]] {
        let ended = home.poolproof(&[&["check", "--seed", "1", "--sut", &broken()][..], &budget].concat());
        let code = if budget[1] == "1ns" { 3 } else { 1 };
        assert_eq!(ended.code, Some(code), "{budget:?}: {}{}", ended.stdout, ended.stderr);
    }
    home.assert_clean();
}

/// Systems that are none, or cannot be started, are no violations.
#[test]
fn systems_that_cannot_be_started() {
    let home = Home::new();
    assert_refused(&home, &["check", "--sut", "postgres"], &["postgres", "sqlite[?OPTION,…][:PATH]", "stdio:COMMAND"]);
    assert_refused(&home, &["check", "--sut", ""], &["a system is one of"]);
    assert_refused(&home, &["check", "--sut", "memory:x"], &["`memory` takes no colon"]);
    assert_refused(
        &home,
        &["check", "--sut", "memory?strategy=best"],
        &["`strategy=best`", "strategy=lowest|next|random"],
    );
    assert_refused(&home, &["check", "--sut", "stdio?x:cat"], &["`stdio` has no options"]);
    assert_refused(&home, &["check", "--sut", "sqlite:"], &["needs a path"]);
    assert_refused(&home, &["check", "--sut", "sqlite:nowhere/x.db"], &["nowhere/x.db"]);
    assert_refused(&home, &["check", "--sut", "sqlite:."], &["name a new file"]);
    assert_refused(&home, &["check", "--sut", "stdio:"], &["needs a command", "stdio:python3 server.py"]);
    assert_refused(&home, &["check", "--sut", "stdio:'unclosed"], &["cannot be split into words"]);
    assert_refused(&home, &["check", "--sut", "stdio:no-such-allocator"], &["no-such-allocator", "no such program"]);
    assert_refused(&home, &["check", "--sut", "stdio:./"], &["./", "may not be executed"]);
    assert_refused(&home, &["check", "--sut", "cni:nowhere"], &["nowhere"]);
}

/// A system that starts and says nothing sensible is a finding, not a failure to run.
#[test]
fn a_system_that_speaks_no_protocol_is_violated() {
    let home = Home::new();
    for (sut, words) in [("stdio:true", "exited with status 0"), ("stdio:cat", "`initialize` was answered wrongly")] {
        let ended = home.poolproof(&["check", "--sut", sut, "--format", "json"]);
        let report = ended.json().unwrap();
        assert_eq!((ended.code, &report["violations"][0]["property"]), (Some(1), &"total".into()), "{report}");
        assert!(report["violations"][0]["message"].as_str().unwrap().contains(words), "{report}");
        home.assert_clean();
    }
}

/// Files that are no scenarios are refused with their path, and the place where there is one.
#[test]
fn bad_scenario_files() {
    let home = Home::new();
    fs::create_dir(home.work().join("empty")).unwrap();
    home.write("empty.scenario", "");
    home.write("other.scenario", "{}\n");
    home.write("newer.scenario", "poolproof scenario 3\n");
    home.write("bad.scenario", "poolproof scenario 1\n# fine\npool p0 10.0.0.0/29\n  allocate \"a\n");
    home.write("latin.scenario", b"poolproof scenario 1\npool p\xe9 10.0.0.0/29\n");
    home.write("line.scenario", format!("poolproof scenario 1\npool {} 10.0.0.0/29 x\n", "p".repeat(4 << 20)));
    home.write("bom.scenario", b"\xef\xbb\xbfpoolproof scenario 1\r\n");
    let request = r#"{\"jsonrpc\":\"2.0\",\"id\":$id,\"method\":\"begin\"}"#;
    home.write("request.scenario", format!("poolproof scenario 1\nraw \"{request}\"\n"));
    home.write("huge.scenario", vec![b'#'; 17 << 20]);
    for command in ["replay", "shrink", "explain"] {
        let refused = |file: &str, words: &[&str]| {
            assert_refused(&home, &[command, file, "--sut", "memory"], &[&[file], words].concat());
        };
        refused("missing.scenario", &["No such file"]);
        refused("empty.scenario", &["poolproof scenario 2"]);
        refused("other.scenario", &["line 1, column 1", "poolproof scenario 2"]);
        refused("newer.scenario", &["line 1", "version `3`", "reads versions 1 to 2"]);
        refused("bad.scenario", &["line 4, column 14"]);
        refused("latin.scenario", &["byte 28 is not UTF-8"]);
        refused("line.scenario", &["line 2, column 4194"]);
        refused("huge.scenario", &["too many"]);
        refused("bom.scenario", &["line 1, column 1", "byte order mark", "without one"]);
        refused("request.scenario", &["line 2, column 5", "well-formed request", "ordinary step"]);
    }
    assert_refused(&home, &["replay", "empty", "--sut", "memory"], &["no scenarios in empty", ".scenario"]);
    assert_refused(&home, &["explain", "empty", "--sut", "memory"], &["empty"]);
}

/// Links that lead nowhere or round in circles, and folders that cannot be read, are named by the
/// path where they are.
#[test]
fn folders_with_bad_links() {
    let home = Home::new();
    let in_folder = |name: &str| home.work().join(name);
    let refused = |folder: &str, words: &[&str]| {
        let started = Instant::now();
        assert_refused(&home, &["replay", folder, "--sut", "memory"], words);
        assert!(started.elapsed() < AT_ONCE, "it took {:?}", started.elapsed());
    };
    for folder in ["dangling/deep", "own", "loop/deep", "up/deep", "far/deep", "near", "good/deep"] {
        fs::create_dir_all(in_folder(folder)).unwrap();
        home.write(&format!("{folder}/a.scenario"), "poolproof scenario 1\n");
    }
    symlink("nowhere", in_folder("dangling/deep/b.scenario")).unwrap();
    refused("dangling", &["dangling/deep/b.scenario: ", "leads to nowhere", "No such file", "remove the link"]);
    refused("dangling/deep/b.scenario", &["dangling/deep/b.scenario: this link leads to nowhere"]);
    symlink("self", in_folder("own/self")).unwrap();
    refused("own", &["own/self: ", "leads to self", "remove the link"]);
    symlink("..", in_folder("loop/deep/again")).unwrap();
    refused("loop", &["loop/deep/again: ", "work/loop, a folder that it is in itself", "remove the link"]);
    symlink("../..", in_folder("up/deep/top")).unwrap();
    refused("up", &["up/deep/top: ", "work, a folder that it is in itself"]);
    symlink("../../near", in_folder("far/deep/near")).unwrap();
    symlink("../far/deep", in_folder("near/far")).unwrap();
    refused("far", &["far/deep/near/far: ", "work/far/deep, a folder that it is in itself"]);
    // A link to elsewhere is no loop, not even two to the same place.
    symlink("../good/deep", in_folder("good/one")).unwrap();
    symlink("deep", in_folder("good/two")).unwrap();
    let ended = home.poolproof(&["replay", "good", "--sut", "memory", "--format", "json"]);
    assert_eq!(ended.json().unwrap()["scenarios"], 3, "{}{}", ended.stdout, ended.stderr);
}

/// A folder that may not be read is named by its own path. Root may read everything.
#[test]
fn folders_that_may_not_be_read() {
    let home = Home::new();
    let folder = home.work().join("top/secret");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&folder).is_err() {
        let words = ["top/secret: this folder cannot be read", "ermission denied", "make it readable"];
        assert_refused(&home, &["replay", "top", "--sut", "memory"], &words);
    } else {
        println!("skipped: this user may read everything");
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
}

/// `| head -1`: the reader goes away, and that is no reason to panic; nor is it for stderr.
#[test]
fn readers_may_go_away() {
    let home = Home::new();
    for line in [
        "poolproof properties",
        "poolproof properties --format json",
        "poolproof --help",
        "poolproof check --sut memory --runs 20",
        "poolproof check --sut sqlite --runs 20 --format json",
    ] {
        let ended =
            home.shell(&format!("{{ {line}; echo $? >code; }} | true; while ! [ -s code ]; do sleep 0.01; done"));
        let code = fs::read_to_string(home.work().join("code")).unwrap();
        assert!(!ended.stderr.contains("panicked") && code.trim() != "101", "{line}: {code} {}", ended.stderr);
        fs::remove_file(home.work().join("code")).unwrap();
        home.assert_clean();
    }
    let line =
        "{ poolproof check --sut nowhere; echo $? >code; } 2>&1 | true; while ! [ -s code ]; do sleep 0.01; done";
    home.shell(line);
    assert_eq!(fs::read_to_string(home.work().join("code")).unwrap().trim(), "2");
}

/// Sends the signal and gives what came of it; everything must be over at once and be tidy.
fn interrupted(home: &Home, child: Child, signal: Signal) -> (Ended, Value) {
    let sent = Instant::now();
    kill_process(Pid::from_child(&child), signal).unwrap();
    let ended = home.await_end(child);
    assert!(sent.elapsed() < AT_ONCE, "it took {:?}", sent.elapsed());
    let report = ended.json().unwrap();
    assert_eq!(report["interrupted"], true, "{report}");
    home.assert_clean();
    (ended, report)
}

/// Ctrl-C and termination in the middle of a campaign: the report so far, at once, and no traces.
#[test]
fn signals_end_a_campaign() {
    let mut suts = vec!["sqlite".to_owned()];
    if has_python() {
        suts.extend([server("allocator.py", &["--durable"]), hanging("60000")]);
    }
    for (sut, signal) in suts.iter().flat_map(|sut| [(sut, Signal::INT), (sut, Signal::TERM)]) {
        let home = Home::new();
        let child = home.start(&["check", "--time", "60s", "--sut", sut, "--format", "json"]);
        home.await_system();
        // Long enough for a few scenarios on a busy machine.
        std::thread::sleep(Duration::from_millis(2_000));
        let (ended, report) = interrupted(&home, child, signal);
        assert_eq!(report["violations"], Value::Array(Vec::new()), "{report}");
        let is_hanging = sut.contains("hangs");
        assert_eq!(report["scenarios"].as_u64().unwrap() == 0, is_hanging, "{report}");
        // What was exercised until then decides: unknown, or, on a quick system, pass.
        assert!(ended.code == Some(3) || (!is_hanging && ended.code == Some(0)), "{:?} {report}", ended.code);
        assert!(!home.work().join("counterexamples").exists());
    }
}

/// Ctrl-C while a counterexample is made small: it is reported as far as it got.
#[test]
fn a_signal_while_shrinking_loses_nothing() {
    if !has_python() {
        return;
    }
    let home = Home::new();
    let sut = hanging("1500");
    let child = home.start(&["check", "--sut", &sut, "--format", "json"]);
    await_until("nothing is found", || !home.counterexamples().is_empty());
    let (ended, report) = interrupted(&home, child, Signal::INT);
    assert_eq!((ended.code, &report["violations"][0]["property"]), (Some(1), &"total".into()), "{report}");
    let [file] = &home.counterexamples()[..] else { panic!("{:?}", home.counterexamples()) };
    let kept = fs::read_to_string(file).unwrap();
    assert!(kept.starts_with(report["violations"][0]["scenario"].as_str().unwrap()), "{kept}");
}

/// Ctrl-C while a system does not even introduce itself.
#[test]
fn a_signal_before_the_system_is_up() {
    if !has_python() {
        return;
    }
    let home = Home::new();
    let sut = server("broken.py", &["--break", "hangs-at-initialize"]);
    let child = home.start(&["check", "--sut", &sut, "--format", "json"]);
    home.await_system();
    let (ended, report) = interrupted(&home, child, Signal::TERM);
    assert_eq!((ended.code, &report["verdict"]), (Some(3), &"unknown".into()));
}

/// `replay` of a folder: every scenario in it, in the order of names, and only those.
#[test]
fn replay_reads_folders() {
    let home = Home::new();
    fs::create_dir_all(home.work().join("some/deeper")).unwrap();
    home.write("some/b.scenario", STRANGER);
    home.write("some/deeper/a.scenario", STRANGER);
    home.write("some/README.md", "no scenario");
    let ended = home.poolproof(&["replay", "some", "--sut", "memory", "--format", "json"]);
    let report = ended.json().unwrap();
    assert_eq!((ended.code, &report["scenarios"]), (Some(0), &2.into()), "{report}");
    if has_python() {
        let ended = home.poolproof(&["replay", "some", "--sut", &broken(), "--format", "json"]);
        let report = ended.json().unwrap();
        assert_eq!((ended.code, report["violations"].as_array().unwrap().len()), (Some(1), 2), "{report}");
        home.assert_clean();
    }
}

/// The system's own stdin, stdout and environment are no way to hang: without a terminal it runs.
#[test]
fn a_closed_stdin_is_fine() {
    let home = Home::new();
    let mut command = home.command("sh");
    let output =
        command.args(["-c", "poolproof check --sut memory --runs 5 <&-"]).stdin(Stdio::null()).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
}

/// A history with its exit code, its core, and what is wrong with a file that holds none.
#[test]
fn histories_are_judged() {
    let home = Home::new();
    let line = |rest: &str| format!("{{\"process\":1,{rest}}}\n");
    let called =
        |method: &str, params: &str| line(&format!("\"type\":\"invoke\",\"method\":\"{method}\",\"params\":{params}"));
    let made =
        called("pool.create", r#"{"pool":"p0","prefix":"10.0.0.0/31"}"#) + &line(r#""type":"return","result":{}"#);
    let granted = called("allocate", r#"{"owner":"a","requests":[{"pool":"p0"}]}"#)
        + &line(r#""type":"return","result":{"granted":["10.0.0.0"]}"#);
    home.write("right", format!("{made}{granted}"));
    home.write("wrong", format!("{made}{granted}{granted}"));
    home.write("empty", "");
    home.write("torn", &made[..made.len() - 4]);
    let right = home.poolproof(&["history", "right"]);
    assert_eq!((right.code, right.stdout.starts_with("history: pass on 2 calls")), (Some(0), true), "{}", right.stdout);
    let wrong = home.poolproof(&["history", "wrong", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&wrong.stdout).unwrap();
    assert_eq!((wrong.code, &report["property"]), (Some(1), &"linearizable".into()), "{report}");
    let calls: Vec<&serde_json::Value> = report["core"].as_array().unwrap().iter().map(|call| &call["call"]).collect();
    assert_eq!(calls, ["pool p0 10.0.0.0/31", "allocate \"a\" p0", "allocate \"a\" p0"]);
    for (file, complaint) in [("empty", "holds no call"), ("torn", "line 2: "), ("missing", "cannot read missing")] {
        let ended = home.poolproof(&["history", file]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{file}");
        assert!(ended.stderr.contains(complaint), "{file}: {}", ended.stderr);
    }
}
