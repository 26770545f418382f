//! A rival that finds nothing may be one that cannot find anything, or one that is used wrongly.

use std::process::Command;

use poolproof_rivals::trial::Outcome;

const TOOLS: [&str; 4] = ["proptest", "state-machine", "hegel", "bolero"];

fn trial(tool: &str, mutant: &str, more: &[&str]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_rivals"))
        .args(["trial", "--tool", tool, "--mutant", mutant, "--seed", "1"])
        .args(more)
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let outcome = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    outcome.unwrap_or_else(|| panic!("{tool}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn every_rival_finds_what_is_easy() {
    for tool in TOOLS {
        let outcome = trial(tool, "classified-missing-is-in-use", &["--budget", "500"]);
        assert!(outcome.property.is_some() && outcome.steps.is_some(), "{tool}: {outcome:?}");
    }
}

#[test]
fn no_rival_accuses_what_is_mended() {
    for tool in TOOLS {
        let outcome = trial(tool, "classified-missing-is-in-use", &["--budget", "200", "--mended"]);
        assert_eq!((outcome.property, outcome.steps), (None, None), "{tool}");
        assert!(outcome.executions >= 200, "{tool} ran {} tests", outcome.executions);
    }
}
