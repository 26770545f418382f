//! `total`: a call into this process that never comes back is told of, with its scenario, and ends
//! the process. Each case runs this test's own program once more, as the process that hangs.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use poolproof::contract::{Contract, Methods};
use poolproof::engine::check::{self, Budget, Engine, Options};
use poolproof::engine::replay::{self, Entry};
use poolproof::engine::{HangReporter, Progress};
use poolproof::generate::Generator;
use poolproof::operation::{Kind, Method, Operation, Refusal, Response};
use poolproof::report::json;
use poolproof::scenario::parse;
use poolproof::sut::{Failure, Sut};

/// Tells the second process what to do.
const ROLE: &str = "POOLPROOF_TEST_HANG";
const LIMIT: Duration = Duration::from_millis(600);

/// Never comes back from making a pool.
struct Hangs(Contract);

impl Hangs {
    fn new() -> Hangs {
        let methods = Methods::from_iter([Method::Release]);
        Hangs(Contract { methods, timeout_ms: LIMIT.as_millis() as u64, ..Contract::default() })
    }
}

impl Sut for Hangs {
    fn contract(&self) -> &Contract {
        &self.0
    }

    fn reset(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        match operation {
            Operation::CreatePool { .. } => loop {
                std::thread::sleep(Duration::from_millis(10));
            },
            _ => Ok(Err(Refusal { kind: Kind::NotFound, message: "nothing is here".into() })),
        }
    }
}

struct ToStdout;

impl Progress for ToStdout {
    fn hang_reporter(&self) -> HangReporter {
        HangReporter::new(|report| println!("{}", json::render(report)))
    }
}

/// The process that hangs.
#[test]
fn hanging_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let scenario = parse("poolproof scenario 1\npool p0 10.0.0.0/29\nallocate \"a\" p0\n").unwrap();
    if role == "replay" {
        let entries = [Entry { path: "hangs.scenario".into(), scenario }];
        let _ = replay::replay(&mut Hangs::new(), "hangs", &entries, &mut ToStdout);
    } else {
        let options = Options {
            engine: Engine::Check,
            sut: "hangs".to_owned(),
            budget: Budget::Runs(10),
            seed: 1,
            max_steps: Generator::DEFAULT_MAX_STEPS,
            tours: true,
            properties: Vec::new(),
            keep_going: false,
            save: role.into(),
        };
        let _ = check::check(&mut Hangs::new(), &options, &mut ToStdout);
    }
    panic!("it came back");
}

fn hang(role: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let arguments = ["hanging_process", "--exact", "--nocapture"];
    command.args(arguments).env(ROLE, role).output().unwrap()
}

fn report(output: &Output) -> serde_json::Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout.lines().rfind(|line| line.contains("\"verdict\"")).unwrap_or_else(|| panic!("{output:?}"));
    serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap()
}

#[test]
fn check_tells_of_a_hang_and_saves_its_scenario() {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let output = hang(folder.path().to_str().unwrap());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!((LIMIT..20 * LIMIT).contains(&started.elapsed()), "{:?}", started.elapsed());
    let violation = &report(&output)["violations"][0];
    assert_eq!(violation["property"], "total");
    let entry = replay::read_one(violation["file"].as_str().unwrap().as_ref()).unwrap();
    assert_eq!(violation["scenario"], entry.scenario.to_string());
    assert!(entry.scenario.to_string().contains("pool p0"), "{}", entry.scenario);
}

#[test]
fn replay_tells_which_file_hangs() {
    let output = hang("replay");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(report(&output)["violations"][0]["file"], "hangs.scenario");
}
