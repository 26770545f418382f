//! What the property suites share: a suite as data, and the one way to run it.
//!
//! A [`Suite`] says which scenarios are drawn for a family of properties and which outcomes must
//! have occurred in the end, because a suite that never saw its subject has shown nothing. The files
//! in `tests/` run the suites on the reference allocator; `tests/canary.rs` runs the same suites on
//! faulty allocators and wants every one of them to fail.
//!
//! `POOLPROOF_PROPTEST_TIMES=N` multiplies every budget, and `PROPTEST_RNG_SEED` repeats a run.

use std::cell::RefCell;
use std::{env, fmt};

use poolproof::contract::{Clock, Contract, Methods};
use poolproof::engine::examine::Examiner;
use poolproof::engine::run::{Finding, Runner, Unwatched, Watch};
use poolproof::generate::Lanes;
use poolproof::model::coverage::{Coverage, Outcome};
use poolproof::operation::{Kind, Method};
use poolproof::scenario::Scenario;
use poolproof::strategy::{Scenarios, config, races, scenarios};
use poolproof::sut::Sut;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

/// An outcome that occurred less often than this occurred by accident.
const LEAST_OCCURRENCES: u64 = 5;

/// How often a suite is run again when it was vacuous: short suites may miss a rare outcome.
const MOST_ROUNDS: usize = 8;

/// One family of properties: what is drawn for it, and what must have occurred.
pub struct Suite {
    /// What scenarios are drawn for: the methods of the family and no others, so that none of the
    /// budget goes elsewhere. The model judges by the contract of the system that is run.
    pub contract: Contract,
    /// The outcomes that the family is about.
    pub outcomes: Vec<(Method, Outcome)>,
}

/// A scenario that breaks a property.
#[derive(Debug)]
pub struct Counterexample {
    /// The shrunk scenario.
    pub scenario: Scenario,
    /// What it breaks, and where.
    pub finding: Finding,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "step {}: {}\n", self.finding.step + 1, self.finding.violation)?;
        self.scenario.fmt(f)
    }
}

impl Suite {
    /// `exclusive`, `contained`, `complete`, `canonical`: what is handed out.
    pub fn exclusive() -> Suite {
        let methods = [Method::Release, Method::List, Method::Usage];
        Suite {
            contract: contract(&methods),
            outcomes: vec![
                done(Method::Allocate),
                refused(Method::Allocate, Kind::Invalid),
                refused(Method::Allocate, Kind::Exhausted),
                refused(Method::Allocate, Kind::Conflict),
                done(Method::Release),
            ],
        }
    }

    /// `owned`, `released`, `idempotent`, `reconfigurable`: what becomes of pools and allocations.
    pub fn lifecycle() -> Suite {
        let methods = [
            Method::Release,
            Method::ReleaseOwner,
            Method::PoolUpdate,
            Method::PoolDelete,
            Method::List,
            Method::Usage,
        ];
        Suite {
            contract: contract(&methods),
            outcomes: vec![
                done(Method::Release),
                refused(Method::Release, Kind::NotFound),
                refused(Method::Release, Kind::NotOwner),
                done(Method::ReleaseOwner),
                done(Method::PoolUpdate),
                refused(Method::PoolUpdate, Kind::InUse),
                done(Method::PoolDelete),
                refused(Method::PoolDelete, Kind::InUse),
                refused(Method::PoolCreate, Kind::Conflict),
            ],
        }
    }

    /// `atomic`: refused calls and transactions.
    pub fn transactions() -> Suite {
        let methods = [
            Method::Begin,
            Method::Commit,
            Method::Rollback,
            Method::Release,
            Method::PoolUpdate,
            Method::PoolDelete,
            Method::List,
            Method::Usage,
        ];
        Suite {
            contract: contract(&methods),
            outcomes: vec![
                done(Method::Begin),
                refused(Method::Begin, Kind::Invalid),
                done(Method::Commit),
                refused(Method::Commit, Kind::Invalid),
                done(Method::Rollback),
                refused(Method::Rollback, Kind::Invalid),
                refused(Method::Allocate, Kind::Exhausted),
            ],
        }
    }

    /// `expiring`: leases and the clock.
    pub fn leases() -> Suite {
        let methods = [Method::Renew, Method::Advance, Method::Release, Method::List, Method::Usage];
        Suite {
            contract: Contract { clock: Clock::Virtual, ..contract(&methods) },
            outcomes: vec![
                done(Method::Advance),
                done(Method::Renew),
                refused(Method::Renew, Kind::NotFound),
                refused(Method::Renew, Kind::NotOwner),
                refused(Method::Release, Kind::NotFound),
            ],
        }
    }

    /// `durable`: everything there is, with restarts and crashes in between.
    pub fn durability() -> Suite {
        let contract =
            Contract { methods: Methods::all(), clock: Clock::Virtual, durable: true, ..Contract::default() };
        let outcomes = vec![done(Method::Allocate), done(Method::Release), done(Method::Commit), done(Method::Advance)];
        Suite { contract, outcomes }
    }

    /// Runs the suite on a system that must hold, and asserts that it was not vacuous.
    pub fn holds(&self, sut: &mut dyn Sut, cases: u32) {
        self.holds_watched(sut, cases, &mut Unwatched);
    }

    /// The same while somebody watches.
    ///
    /// # Panics
    ///
    /// When a property is broken, or when something of the family never occurred.
    pub fn holds_watched(&self, sut: &mut dyn Sut, cases: u32, watch: &mut dyn Watch) {
        let mut runner = Runner::new(sut);
        let mut unseen = Vec::new();
        for _ in 0..MOST_ROUNDS {
            let ended = self.run(&mut runner, sut, fresh_config(cases), watch);
            ended.unwrap_or_else(|found| panic!("{found}"));
            unseen = self.unseen(&runner.model.coverage);
            if unseen.is_empty() {
                return;
            }
        }
        panic!("{} calls showed too little of {unseen:?}", runner.model.coverage.total_calls());
    }

    /// What belongs to the family and did not occur, or by accident only.
    fn unseen(&self, coverage: &Coverage) -> Vec<String> {
        let rare =
            self.outcomes.iter().filter(|(method, outcome)| coverage.calls(*method, *outcome) < LEAST_OCCURRENCES);
        let rare = rare.map(|(method, outcome)| format!("{}: {}", method.name(), outcome.name()));
        coverage.missing(&self.contract).into_iter().chain(rare).collect()
    }

    /// Runs the suite until a scenario breaks something, and shrinks that.
    ///
    /// # Errors
    ///
    /// The shrunk scenario.
    ///
    /// # Panics
    ///
    /// When the system cannot be run at all.
    pub fn run(
        &self,
        runner: &mut Runner,
        sut: &mut dyn Sut,
        config: Config,
        watch: &mut dyn Watch,
    ) -> Result<(), Counterexample> {
        // Proptest takes a function that changes nothing; the system starts empty for each scenario.
        let bench = RefCell::new((runner, sut, watch));
        let find = |scenario: &Scenario| {
            let (runner, sut, watch) = &mut *bench.borrow_mut();
            runner.run(*sut, scenario, *watch).expect("the system runs").finding
        };
        test(&scenarios(&self.contract), config, find)
    }
}

/// Draws scenarios until one breaks something, and shrinks that.
fn test(
    strategy: &Scenarios,
    config: Config,
    find: impl Fn(&Scenario) -> Option<Finding>,
) -> Result<(), Counterexample> {
    let ended = TestRunner::new(config).run(strategy, |scenario| match find(&scenario) {
        Some(finding) => Err(TestCaseError::fail(finding.violation.to_string())),
        None => Ok(()),
    });
    match ended {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, scenario)) => {
            let finding = find(&scenario).unwrap_or_else(|| panic!("found once only: {reason}\n{scenario}"));
            Err(Counterexample { scenario, finding })
        }
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

/// `linearizable`: so many scenarios with up to three callers at the same time; gives how many really had them.
///
/// # Errors
///
/// The shrunk scenario that breaks something.
///
/// # Panics
///
/// When the system cannot be run at all.
pub fn race(sut: &mut dyn Sut, config: Config) -> Result<u32, Counterexample> {
    let strategy = races(sut.contract(), Lanes::DEFAULT, sut.scheduling());
    let bench = RefCell::new((Examiner::sparing(sut), sut, 0));
    let find = |scenario: &Scenario| {
        let (examiner, sut, raced) = &mut *bench.borrow_mut();
        let run = examiner.examine(*sut, scenario).expect("the system runs");
        *raced += u32::from(run.is_race);
        run.finding
    };
    test(&strategy, config, find)?;
    Ok(bench.into_inner().2)
}

/// So many cases, or a multiple where the environment asks for it. Nothing is written to disk: a
/// failure prints its scenario, which belongs in the corpus.
pub fn fresh_config(cases: u32) -> Config {
    let times = env::var("POOLPROOF_PROPTEST_TIMES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    Config { failure_persistence: None, ..config(cases.saturating_mul(times)) }
}

/// A contract with these methods and otherwise the protocol's defaults.
pub fn contract(methods: &[Method]) -> Contract {
    Contract { methods: methods.iter().copied().collect(), ..Contract::default() }
}

/// A call that was done.
pub fn done(method: Method) -> (Method, Outcome) {
    (method, Outcome::Done)
}

/// A call that was refused with this kind.
pub fn refused(method: Method, kind: Kind) -> (Method, Outcome) {
    (method, Outcome::Refused(kind))
}
