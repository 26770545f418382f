//! Callers at the same time: what goes wrong only then is found, and what is right passes.
#![cfg(all(feature = "reference", feature = "mutants"))]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::yield_now;

use ipnet::{IpNet, Ipv4Net};
use poolproof::address::{Family, Grant, parse_prefix};
use poolproof::contract::{Contract, Families};
use poolproof::engine::Silent;
use poolproof::engine::check::{Budget, Engine, Options};
use poolproof::engine::examine::Examiner;
use poolproof::engine::race::race;
use poolproof::engine::replay::read;
use poolproof::engine::schedules::enumerate;
use poolproof::operation::{Allocation, Answer, Kind, Method, Operation, Refusal, Request, Response, Text, Want};
use poolproof::property::{Property, Verdict};
use poolproof::report::{Report, human};
use poolproof::scenario::{Scenario, Step, parse};
use poolproof::sut::memory::Memory;
use poolproof::sut::reference::Variant;
use poolproof::sut::simulated::Simulated;
use poolproof::sut::sqlite::Sqlite;
use poolproof::sut::{Failure, Scheduling, Sut};
use poolproof_mutants::{Bug, find};

fn campaign(sut: &mut dyn Sut, runs: u64) -> Report {
    let save = tempfile::tempdir().unwrap();
    race(sut, &options(Budget::Runs(runs), save.path()), &mut Silent).unwrap()
}

/// No order breaks what several callers rely on, nor brings back what was once found among them.
#[test]
fn the_corpus_holds_in_every_order() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let mut entries = read(&[corpus.join("lanes"), corpus.join("regressions")]).unwrap();
    entries.retain(|entry| entry.scenario.has_lanes());
    assert!(entries.len() > 10, "{} scenarios with lanes", entries.len());
    let scenarios: Vec<Scenario> = entries.into_iter().map(|entry| entry.scenario).collect();
    let save = tempfile::tempdir().unwrap();
    let options = options(Budget::Runs(u64::MAX), save.path());
    let mut sut = Simulated::new(Variant::default()).unwrap();
    let report = enumerate(&mut sut, &scenarios, 2, &options, &mut Silent).unwrap();
    assert_eq!(report.verdict, Verdict::Pass, "{}", human::render(&report));
}

/// Every schedule of a scenario with so many interruptions at most.
fn schedules(sut: &mut dyn Sut, scenario: &str, interruptions: u32) -> Report {
    let save = tempfile::tempdir().unwrap();
    let given = [parse(&format!("poolproof scenario 1\n{scenario}")).unwrap()];
    let options = options(Budget::Runs(u64::MAX), save.path());
    enumerate(sut, &given, interruptions, &options, &mut Silent).unwrap()
}

fn options(budget: Budget, save: &Path) -> Options {
    Options {
        engine: Engine::Race { lanes: 3 },
        sut: "raced".to_owned(),
        budget,
        seed: 1,
        max_steps: 0,
        tours: false,
        properties: Vec::new(),
        keep_going: false,
        save: save.to_owned(),
    }
}

/// Pools with their gateways, and who holds what of them.
#[derive(Default)]
struct State {
    pools: BTreeMap<Text, (Ipv4Net, Option<Ipv4Addr>)>,
    held: Vec<(Text, Ipv4Addr, Text)>,
}

impl State {
    fn is_allocatable(&self, pool: &Text, address: Ipv4Addr) -> bool {
        let Some((net, gateway)) = self.pools.get(pool) else { return false };
        *gateway != Some(address) && net.hosts().any(|host| host == address)
    }

    fn is_free(&self, pool: &Text, address: Ipv4Addr) -> bool {
        self.is_allocatable(pool, address) && self.held.iter().all(|(of, held, _)| of != pool || *held != address)
    }

    /// What a request can be granted.
    fn pick(&self, request: &Request) -> Result<Ipv4Addr, Kind> {
        let (net, _) = self.pools.get(&request.pool).ok_or(Kind::NotFound)?;
        match &request.want {
            Want::Any => net.hosts().find(|address| self.is_free(&request.pool, *address)).ok_or(Kind::Exhausted),
            Want::Named(written) => match written.meaning() {
                Some(Grant::Address(IpAddr::V4(address))) if self.is_allocatable(&request.pool, address) => {
                    if self.is_free(&request.pool, address) { Ok(address) } else { Err(Kind::Conflict) }
                }
                _ => Err(Kind::Invalid),
            },
            Want::Block(_) => Err(Kind::Unsupported),
        }
    }
}

/// netbox#2519 and others: reads what is used, picks the first that is free, and writes that down later.
struct ReadPickInsert {
    contract: Contract,
    state: Arc<Mutex<State>>,
    /// Is it all done under one lock?
    is_mended: bool,
}

impl ReadPickInsert {
    fn new(is_mended: bool) -> ReadPickInsert {
        let methods = [Method::Release, Method::List].into_iter().collect();
        let contract = Contract { methods, families: Families::only(Family::V4), ..Contract::default() };
        ReadPickInsert { contract, state: Arc::default(), is_mended }
    }

    fn create(&self, pool: &Text, prefix: &str, gateway: Option<&Text>) -> Response {
        let Some(IpNet::V4(net)) = parse_prefix(prefix) else { return refused(Kind::Invalid) };
        let gateway = gateway.and_then(|gateway| gateway.parse().ok());
        self.state.lock().unwrap().pools.insert(pool.clone(), (net, gateway));
        Ok(Answer::Done)
    }

    fn allocate(&self, owner: &Text, requests: &[Request]) -> Response {
        let mut state = self.state.lock().unwrap();
        let before = state.held.len();
        let mut grants = Vec::new();
        for request in requests {
            let address = match state.pick(request) {
                Ok(address) => address,
                Err(kind) => {
                    state.held.truncate(before);
                    return refused(kind);
                }
            };
            if !self.is_mended && requests.len() == 1 && request.want == Want::Any {
                drop(state);
                yield_now();
                state = self.state.lock().unwrap();
            }
            state.held.push((request.pool.clone(), address, owner.clone()));
            grants.push(Grant::Address(IpAddr::V4(address)));
        }
        Ok(Answer::Granted { grants: grants.into_iter().collect(), expires_ms: None })
    }

    fn release(&self, pool: &Text, address: Option<Grant>, owner: &Text) -> Response {
        let mut state = self.state.lock().unwrap();
        if !state.pools.contains_key(pool) {
            return refused(Kind::NotFound);
        }
        let Some(Grant::Address(IpAddr::V4(address))) = address else { return refused(Kind::Invalid) };
        match state.held.iter().position(|(of, held, _)| of == pool && *held == address) {
            None => refused(Kind::NotFound),
            Some(place) if state.held[place].2 != *owner => refused(Kind::NotOwner),
            Some(place) => {
                state.held.remove(place);
                Ok(Answer::Done)
            }
        }
    }

    fn list(&self, pool: Option<&Text>) -> Response {
        let state = self.state.lock().unwrap();
        if pool.is_some_and(|pool| !state.pools.contains_key(pool)) {
            return refused(Kind::NotFound);
        }
        let asked = state.held.iter().filter(|(of, ..)| pool.is_none_or(|pool| pool == of));
        let line = |(pool, address, owner): &(Text, Ipv4Addr, Text)| Allocation {
            pool: pool.clone(),
            address: Grant::Address(IpAddr::V4(*address)),
            owner: owner.clone(),
            expires_ms: None,
        };
        Ok(Answer::Listed(asked.map(line).collect()))
    }
}

fn refused(kind: Kind) -> Response {
    Err(Refusal { kind, message: "no".into() })
}

impl Sut for ReadPickInsert {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn reset(&mut self) -> Result<(), Failure> {
        *self.state.lock().unwrap() = State::default();
        Ok(())
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        Ok(match operation {
            Operation::CreatePool { pool, prefix, shape } => self.create(pool, prefix, shape.gateway.as_ref()),
            Operation::Allocate { owner, requests, .. } => self.allocate(owner, requests),
            Operation::Release { pool, address, owner: Some(owner) } => self.release(pool, address.meaning(), owner),
            Operation::List { pool } => self.list(pool.as_ref()),
            _ => refused(Kind::Unsupported),
        })
    }

    fn another(&mut self) -> Result<Option<Box<dyn Sut + Send>>, Failure> {
        let (contract, state) = (self.contract.clone(), self.state.clone());
        Ok(Some(Box::new(ReadPickInsert { contract, state, is_mended: self.is_mended })))
    }
}

/// `linearizable`: a lock that is dropped between reading and writing is found, and little is left of the scenario.
#[test]
fn a_dropped_lock_is_found() {
    let report = campaign(&mut ReadPickInsert::new(false), 20_000);
    let [found] = report.violations.as_slice() else { panic!("{}", human::render(&report)) };
    assert_eq!(found.property, Property::Linearizable, "{}", human::render(&report));
    assert!(is_short(&found.scenario), "{}", human::render(&report));
}

/// The same under one lock passes, as the reference allocator does with one handle for all threads, and with several.
#[test]
fn what_is_right_passes() {
    let mut suts: Vec<(Box<dyn Sut>, u64)> = vec![
        (Box::new(ReadPickInsert::new(true)), 1_000),
        (Box::new(Memory::new()), 1_000),
        (Box::new(Sqlite::temporary().unwrap()), 40),
        (Box::new(Sqlite::temporary_with(Variant { one_handle: true, ..Variant::default() }).unwrap()), 40),
    ];
    for (sut, runs) in &mut suts {
        let report = campaign(sut.as_mut(), *runs);
        assert_eq!(report.verdict, Verdict::Pass, "{}", human::render(&report));
        assert!(report.operations > *runs, "{}", human::render(&report));
    }
}

/// Who has one handle only takes one lane after the other, which is an order as well.
#[test]
fn lanes_are_steps_elsewhere() {
    let text = "poolproof scenario 1\npool p0 10.0.0.0/30\nlane\nallocate \"a\" p0\nlane\nallocate \"b\" p0\njoin\ndrain p0 4\n";
    let scenario = parse(text).unwrap();
    assert!(scenario.has_lanes());
    assert_eq!(scenario.to_string(), text);
}

/// Where callers take turns, the same scenario is the same run, on SQLite at each step of I/O.
#[test]
fn turns_are_followed() {
    let report = campaign(&mut Simulated::new(Variant::default()).unwrap(), 300);
    assert_eq!(report.verdict, Verdict::Pass, "{}", human::render(&report));
    let mutant = || find("read-pick-insert").unwrap().sut(Bug::On);
    let turns = |order: &str| {
        parse(&format!(
            "poolproof scenario 1\npool p0 10.0.0.0/30\nturns {order}\nlane\nallocate \"a\" p0\nlane\nallocate \"b\" p0\n"
        ))
        .unwrap()
    };
    for _ in 0..20 {
        let found = |order| {
            let mut sut = mutant();
            Examiner::thorough(sut.as_ref()).examine(sut.as_mut(), &turns(order)).unwrap().finding.is_some()
        };
        assert_eq!((found("1 1 1 1 2 2 2 2"), found("1 1 1 2 2 2 2 1")), (false, true));
    }
}

/// Refuses all that is asked of it beside others.
struct Refusing(Memory, Option<Kind>);

impl Sut for Refusing {
    fn contract(&self) -> &Contract {
        self.0.contract()
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.0.reset()
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        self.1.map_or_else(|| self.0.call(operation), |kind| Ok(refused(kind)))
    }

    fn another(&mut self) -> Result<Option<Box<dyn Sut + Send>>, Failure> {
        Ok(Some(Box::new(Refusing(Memory::new(), self.1.or(Some(Kind::Busy))))))
    }
}

/// `tidy`, `classified`: nobody may be told for ever to try again, nor that storage failed, or that nobody knows, where
/// nothing went wrong.
#[test]
fn refusals_that_nothing_explains_are_found() {
    let scenario = parse("poolproof scenario 1\nlane\nlist\nlane\nlist\n").unwrap();
    let found = |kind| {
        let mut sut = Refusing(Memory::new(), kind);
        let run = Examiner::thorough(&sut).examine(&mut sut, &scenario).unwrap();
        run.finding.map(|finding| finding.violation.property)
    };
    assert_eq!(found(None), Some(Property::Tidy));
    assert_eq!(found(Some(Kind::Storage)), Some(Property::Classified));
    assert_eq!(found(Some(Kind::UnknownOutcome)), Some(Property::Classified));
}

/// Says that it begins and commits, and does each call at once.
struct NotIsolated(Box<dyn Sut + Send>);

impl Sut for NotIsolated {
    fn contract(&self) -> &Contract {
        self.0.contract()
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.0.reset()
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        match operation {
            Operation::Begin | Operation::Commit | Operation::Rollback => Ok(Ok(Answer::Done)),
            other => self.0.call(other),
        }
    }

    fn another(&mut self) -> Result<Option<Box<dyn Sut + Send>>, Failure> {
        let other = self.0.another()?;
        Ok(other.map(|other| -> Box<dyn Sut + Send> { Box::new(NotIsolated(other)) }))
    }

    fn scheduling(&self) -> Scheduling {
        self.0.scheduling()
    }
}

/// `linearizable`: a transaction of one caller is one step for all others; who lets them in between is found out.
#[test]
fn transactions_of_callers_at_the_same_time_are_judged() {
    let transactions = "poolproof scenario 1\npool p0 10.0.0.0/30\nturns ORDER\nlane\nbegin\nallocate \"a\" p0\nallocate \"a\" p0\n\
                        commit\nlane\nusage p0\n";
    let found = |sut: &mut dyn Sut, order: &str| {
        let scenario = parse(&transactions.replace("ORDER", order)).unwrap();
        let run = Examiner::thorough(sut).examine(sut, &scenario).unwrap();
        assert_eq!(run.left_open, None);
        run.finding.map(|finding| finding.violation.property)
    };
    let simulated = || Simulated::new(Variant::default()).unwrap();
    let orders = (1..160).map(|before| format!("{}{}", "1 ".repeat(before), "2 ".repeat(160)));
    let mut is_found = false;
    for order in orders {
        assert_eq!(found(&mut simulated(), &order), None, "{order}");
        is_found |= found(&mut NotIsolated(Box::new(simulated())), &order) == Some(Property::Linearizable);
    }
    assert!(is_found);
    let report = campaign(&mut NotIsolated(Box::new(simulated())), 2_000);
    let [found] = report.violations.as_slice() else { panic!("{}", human::render(&report)) };
    assert!(found.property == Property::Linearizable && is_short(&found.scenario), "{}", human::render(&report));
}

/// Turns stay with their lanes when a lane is dropped.
#[test]
fn turns_go_with_their_lanes() {
    let scenario = parse("poolproof scenario 1\nturns 1 2 3 2\nlane\nbegin\nlane\ncommit\nlane\nrollback\n").unwrap();
    let without = scenario.without(|index| index == 3);
    assert_eq!(without.to_string(), "poolproof scenario 1\nturns 1 1 2 1\nlane\nbegin\ncommit\nlane\nrollback\n");
}

/// `linearizable`: each mutant that needs several callers is caught, with three lanes and six calls at most left, and
/// passes once it is mended.
#[test]
fn every_mutant_that_needs_several_callers_is_caught() {
    let raced = poolproof_mutants::all().filter(|(_, mutant)| mutant.engine == poolproof_mutants::Engine::Race);
    let mut count = 0;
    for (_, mutant) in raced {
        let report = campaign(mutant.sut(Bug::On).as_mut(), 20_000);
        let [found] = report.violations.as_slice() else { panic!("{}: {}", mutant.id, human::render(&report)) };
        assert!(mutant.breaks.contains(&found.property), "{}: {}", mutant.id, human::render(&report));
        assert!(is_short(&found.scenario), "{}: {}", mutant.id, human::render(&report));
        let report = campaign(mutant.sut(Bug::Off).as_mut(), 1_000);
        assert_eq!(report.verdict, Verdict::Pass, "{}: {}", mutant.id, human::render(&report));
        count += 1;
    }
    assert!(count >= 7, "{count}");
}

const TWO_CALLERS: &str = "pool p0 10.0.0.0/29\nlane\nallocate \"a\" p0\nlane\nallocate \"b\" p0\njoin\ndrain p0 16\n";

/// `linearizable`: two callers on one handle in memory, and on SQLite at each step of I/O, in each order in which they can
/// be interrupted; on SQLite up to twice.
#[test]
fn every_schedule_of_two_callers_passes() {
    let one_handle = Variant { one_handle: true, ..Variant::default() };
    let suts: [(Box<dyn Sut>, u32, u64); 3] = [
        (Box::new(Memory::new()), 100, 10_000),
        (Box::new(Simulated::new(Variant::default()).unwrap()), 2, 500),
        (Box::new(Simulated::new(one_handle).unwrap()), 2, 500),
    ];
    for (mut sut, interruptions, least) in suts {
        let report = schedules(sut.as_mut(), TWO_CALLERS, interruptions);
        assert_eq!(report.verdict, Verdict::Pass, "{}", human::render(&report));
        let tried = report.tried.unwrap();
        assert!(tried.schedules > least && tried.is_all == (interruptions == 100), "{tried:?}");
    }
}

/// What one interruption shows is found with one, and not without.
#[test]
fn schedules_with_few_interruptions_come_first() {
    for (interruptions, verdict) in [(0, Verdict::Pass), (1, Verdict::Violated)] {
        let mut mutant = find("read-pick-insert").unwrap().sut(Bug::On);
        let report = schedules(mutant.as_mut(), TWO_CALLERS, interruptions);
        assert_eq!(report.verdict, verdict, "{}", human::render(&report));
        let mut mended = find("read-pick-insert").unwrap().sut(Bug::Off);
        let report = schedules(mended.as_mut(), TWO_CALLERS, 100);
        assert!(report.verdict == Verdict::Pass && report.tried.unwrap().is_all, "{}", human::render(&report));
    }
}

/// Where the machine decides, nobody can try schedules one by one, and that is said; so is that there are no lanes.
#[test]
fn what_cannot_be_tried_is_said() {
    let save = tempfile::tempdir().unwrap();
    let options = options(Budget::Runs(1), save.path());
    let refused = enumerate(&mut Sqlite::temporary().unwrap(), &[], 2, &options, &mut Silent);
    assert!(matches!(refused, Err(Failure::Unable(why)) if why.contains("the machine decides")));
    let report = schedules(&mut Memory::new(), "pool p0 10.0.0.0/29\n", 2);
    assert_eq!((report.verdict, report.missing), (Verdict::Unknown, vec!["a scenario with lanes".to_owned()]));
}

/// Three lanes and six calls at most; the pool is there in any case.
fn is_short(scenario: &Scenario) -> bool {
    let is_call = |step: &&Step| match step {
        Step::Call(operation) => operation.method() != Method::PoolCreate,
        Step::Fill { .. } | Step::Drain { .. } => true,
        _ => false,
    };
    let lanes = scenario.steps.iter().filter(|step| **step == Step::Lane).count();
    lanes <= 3 && scenario.steps.iter().filter(is_call).count() <= 6
}

/// What happened before the callers came is known, whatever it was: a transaction that a restart undid, a fault that left the
/// outcome of a call open, a death within one.
#[test]
fn callers_go_on_from_what_the_beginning_led_to() {
    let lanes = "lane\nallocate \"b\" p0\nlane\nallocate \"c\" p0\njoin\nlist\n";
    let beginnings = ["begin\nallocate \"a\" p0\nrestart\n".to_owned()].into_iter().chain((1..20).flat_map(|step| {
        ["error after", "kill before", "kill after"].map(|fault| format!("fault {fault} {step}\nallocate \"a\" p0\n"))
    }));
    let mut sut = Simulated::new(Variant::default()).unwrap();
    let mut examiner = Examiner::sparing(&sut);
    for beginning in beginnings {
        let scenario = parse(&format!("poolproof scenario 1\npool p0 10.0.0.0/29\n{beginning}{lanes}")).unwrap();
        let run = examiner.examine(&mut sut, &scenario).unwrap();
        assert!(run.is_race && run.finding.is_none(), "{scenario}\n{:?}", run.finding);
    }
}

/// What is passed over among callers is counted.
#[test]
fn steps_that_callers_cannot_take_are_skipped_and_counted() {
    let text = "poolproof scenario 2\npool p0 10.0.0.0/29\nlane\nallocate \"a\" p0\nlane\nallocate \"b\" p0\nrestart\njoin\n\
                crash\nrepeat @3\nrelease p0 @99 \"a\"\nlist\n";
    let mut sut = Memory::new();
    let run = Examiner::sparing(&sut).examine(&mut sut, &parse(text).unwrap()).unwrap();
    assert_eq!((run.finding, run.skipped), (None, 3), "the restart, the crash, and what was never granted");
}
