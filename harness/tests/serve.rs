//! `poolproof serve`: the reference allocator as a process on a pipe, and several of them on one file.
#![cfg(all(feature = "cli", feature = "reference", feature = "process"))]

mod common;

use common::Home;

const SERVE: &str = concat!("stdio:", env!("CARGO_BIN_EXE_poolproof"), " serve");

/// What is right passes over the pipe, too: every call, restarts and crashes, and lines that are no request.
#[test]
fn what_is_served_is_what_the_contract_promises() {
    let home = Home::new();
    let ended = home.poolproof(&["check", "--sut", SERVE, "--runs", "300", "--seed", "1"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    home.assert_clean();
}

/// `linearizable`: processes on one file.
#[test]
fn several_processes_serve_one_file() {
    let home = Home::new();
    let ended = home.poolproof(&["race", "--sut", SERVE, "--runs", "20", "--seed", "1"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    home.assert_clean();
}

/// A defect is the same on both sides of the pipe.
#[test]
fn a_faulty_one_is_found_over_the_pipe() {
    let home = Home::new();
    let sut = format!("{SERVE} --sut mutant:release-ignores-owner");
    let ended = home.poolproof(&["check", "--sut", &sut, "--runs", "2000", "--seed", "1"]);
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    home.assert_clean();
}

/// Whoever starts it without its folder is told which.
#[test]
fn what_is_missing_is_said() {
    let home = Home::new();
    for (arguments, expected) in [
        (&["serve"][..], "POOLPROOF_STATE_DIR must name"),
        (&["serve", "--sut", "fly"], "POOLPROOF_STATE_DIR must name"),
    ] {
        let ended = home.poolproof(arguments);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
}
