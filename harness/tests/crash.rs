//! `crash`: the reference allocator loses nothing at any step of I/O or allocation, and who loses something is found out.

use poolproof::contract::Contract;
use poolproof::engine::Silent;
use poolproof::engine::check::{Budget, Engine, Options};
use poolproof::engine::crash::crash;
use poolproof::fault::{Counted, Fault, FaultKind, Moment};
use poolproof::operation::{Answer, Kind, Operation, Response};
use poolproof::property::{Property, Verdict};
use poolproof::report::Report;
use poolproof::scenario::{Scenario, Step, parse};
use poolproof::sut::memory::Memory;
use poolproof::sut::reference::Variant;
use poolproof::sut::simulated::Simulated;
use poolproof::sut::{Failure, Sut};
use poolproof_allocator::Synchronous;
use tempfile::TempDir;

fn scenario(steps: &str) -> Scenario {
    parse(&format!("poolproof scenario 1\n{steps}")).unwrap()
}

fn strike(sut: &mut dyn Sut, steps: &str) -> Result<Report, Failure> {
    let folder = TempDir::new().unwrap();
    let options = Options {
        engine: Engine::Crash { is_given: false },
        sut: "simulated".to_owned(),
        budget: Budget::Runs(u64::MAX),
        seed: 1,
        max_steps: 12,
        tours: true,
        properties: Vec::new(),
        keep_going: false,
        save: folder.path().to_owned(),
    };
    crash(sut, &[scenario(steps)], &options, &mut Silent)
}

/// A little of everything that writes, and a refusal that has to be undone within a transaction.
const WRITES: &str = "pool p0 10.0.0.0/29\nallocate \"a\" p0 ttl 5\nupdate p0 exclude 10.0.0.6\nbegin\nallocate \"b\" p0\n\
    allocate \"b\" p0 @2\ncommit\nrenew p0 @2 \"a\" ttl 9\nadvance @2\nrelease-owner \"b\"\ndelete p0\n";

/// The simulated system, and what was done to it.
struct Observed {
    sut: Simulated,
    /// Does it say that a pool was made when there was no memory for it?
    boasts: bool,
    armed: Option<Fault>,
    /// Faults of memory that were set and never struck.
    missed: Vec<Fault>,
}

impl Observed {
    fn new(boasts: bool) -> Observed {
        Observed { sut: Simulated::new(Variant::default()).unwrap(), boasts, armed: None, missed: Vec::new() }
    }
}

impl Sut for Observed {
    fn contract(&self) -> &Contract {
        self.sut.contract()
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.sut.reset()
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        let response = self.sut.call(operation)?;
        let lacks_memory = self.sut.struck().iter().any(|fault| fault.kind.is_of_memory());
        Ok(match (operation, response) {
            (Operation::CreatePool { .. }, Err(refusal))
                if self.boasts && lacks_memory && refusal.kind == Kind::Storage =>
            {
                Ok(Answer::Done)
            }
            (_, response) => response,
        })
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.sut.restart()
    }

    fn crash(&mut self) -> Result<(), Failure> {
        self.sut.crash()
    }

    fn arm(&mut self, faults: &[Fault]) -> Result<(), Failure> {
        self.armed = faults.iter().copied().find(|fault| fault.kind.is_of_memory());
        self.sut.arm(faults)
    }

    fn disarm(&mut self) -> Counted {
        let struck = self.sut.struck();
        let counted = self.sut.disarm();
        // The engine sets one only to see if that can be done.
        let was_called = counted.allocations > 0;
        self.missed.extend(self.armed.take().filter(|armed| was_called && !struck.contains(armed)));
        counted
    }

    fn struck(&self) -> Vec<Fault> {
        self.sut.struck()
    }

    fn is_down(&self) -> bool {
        self.sut.is_down()
    }
}

#[test]
fn nothing_is_lost_or_half_done_at_any_step() {
    let mut sut = Observed::new(false);
    let report = strike(&mut sut, WRITES).unwrap();
    assert_eq!(report.verdict, Verdict::Pass, "{report:?}");
    let visited = report.visited.unwrap();
    assert_eq!(visited.scenarios, 1);
    assert!(visited.singles > 500 && visited.pairs > 500 && visited.memory > 1000, "{visited:?}");
    assert_eq!(sut.missed, [], "the same allocations come again");
}

/// A call for which there was no memory, and which says that it was done.
#[test]
fn who_takes_refused_memory_lightly_is_found_out() {
    let report = strike(&mut Observed::new(true), WRITES).unwrap();
    assert_eq!(report.verdict, Verdict::Violated);
    let found = &report.violations[0].scenario;
    let steps: Vec<String> = found.steps.iter().map(ToString::to_string).collect();
    assert_eq!(steps, ["fault no-memory-once before 1", "pool p0 10.0.0.0/32"], "{found}");
}

/// A disk that is not waited for: what was acknowledged goes with the power, and one kind of fault shows it.
#[test]
fn commits_that_the_disk_does_not_have_are_found_out() {
    let mut sut = Simulated::with(Variant::default(), Synchronous::Normal).unwrap();
    let report = strike(&mut sut, WRITES).unwrap();
    assert_eq!(report.verdict, Verdict::Violated);
    let found = &report.violations[0];
    assert_eq!(found.property, Property::Durable);
    let kept: Vec<&Step> = found.scenario.steps.iter().filter(|step| matches!(step, Step::Fault(_))).collect();
    let lost = Fault { kind: FaultKind::PowerLoss(0), step: 0, moment: Moment::Before, call: None };
    assert_eq!(kept, [&Step::Fault(lost)], "{}", found.scenario);
    assert_eq!(
        found.scenario.steps.len(),
        3,
        "a pool, and the power that goes before the next call: {}",
        found.scenario
    );
}

#[test]
fn a_system_without_faults_cannot_be_struck() {
    let Err(Failure::Unable(why)) = strike(&mut Memory::new(), WRITES) else { panic!("it was struck") };
    assert!(why.contains("simulated"), "{why}");
}
