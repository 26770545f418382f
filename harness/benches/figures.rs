//! What checking costs: `check` against the same operations applied straight to the allocator.
//!
//! Both sides run in turn in one process, block by block, and the figure is the median of the
//! blocks' ratios, so that a machine that slows down slows both. The checked side draws scenarios,
//! resolves, sends, judges and audits; the straight side is given the recorded calls, and only makes
//! them. Texts that the allocator itself must judge (prefixes, ranges, odd spellings) are parsed by
//! its own functions on both sides; plain addresses are numbers on both. Restarts and crashes are left out: they are no calls, and
//! making a crash is the harness's own doing.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use poolproof::address::Grant;
use poolproof::contract::Contract;
use poolproof::engine::examine::Examiner;
use poolproof::engine::run::{Runner, Unwatched};
use poolproof::engine::watchdog::Hang;
use poolproof::generate::Generator;
use poolproof::operation::{Operation, PoolShape, Response, Text, Want, Written};
use poolproof::scenario::Scenario;
use poolproof::sut::{Failure, Sut, memory::Memory, sqlite::Sqlite};
use poolproof_allocator::store::Store;
use poolproof_allocator::{
    AddressRange, Allocator, Policy, PoolShape as Shape, PoolSpec, Request, Resource, parse_address, parse_prefix,
};

use smallvec::SmallVec;

const BLOCKS: u64 = 41;

fn main() {
    // `cargo test` runs benches too, with `--test`; a figure from an unoptimised build is none.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("check (drawing, model and comparison included) against the same calls straight on the allocator;");
    println!("medians of {BLOCKS} pairs in turn");
    let memory = compare(Memory::new(), Allocator::in_memory(), 1_000);
    report("memory", &memory, 3.0);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let straight = Allocator::open(folder.path().join("straight.db")).expect("a file of its own");
    let sqlite = compare(Sqlite::temporary().expect("a temporary directory"), straight, 8);
    report("sqlite", &sqlite, 1.1);
}

/// Times of one block, both ways.
struct Pair {
    checked: Duration,
    straight: Duration,
    operations: u64,
}

fn report(name: &str, pairs: &[Pair], most: f64) {
    let ratio = median(pairs.iter().map(|pair| pair.checked.as_secs_f64() / pair.straight.as_secs_f64()));
    let rate = |time: fn(&Pair) -> Duration| {
        median(pairs.iter().map(|pair| pair.operations as f64 / time(pair).as_secs_f64()))
    };
    println!(
        "{name:<8} ratio {ratio:.2} (at most {most}); checked {:.0} operations/s, straight {:.0} operations/s",
        rate(|pair| pair.checked),
        rate(|pair| pair.straight),
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn compare<S: Store>(sut: impl Sut, mut straight_one: Allocator<S>, scenarios: u64) -> Vec<Pair> {
    let contract = Contract { durable: false, ..sut.contract().clone() };
    let generator = Generator::new(&contract);
    let mut sut = Recorder { sut, contract, calls: None };
    let on_hang = Box::new(|hang: Hang| eprintln!("{} in\n{}", hang.violation(), hang.scenario));
    let mut examiner = Examiner::sparing(&sut).watched(&sut, on_hang).expect("a thread can be started");
    let mut pairs = Vec::new();
    for block in 0..=BLOCKS {
        let seeds = block * scenarios..(block + 1) * scenarios;
        sut.calls = Some(Vec::new());
        // Second looks are no part of the calls; one of them would find that the recorder keeps memory.
        let mut runner = Runner::new(&sut).trusting_resets();
        for seed in seeds.clone() {
            let run = runner.run(&mut sut, &generator.scenario(seed), &mut Unwatched).expect("it runs");
            assert_eq!(run.finding, None);
        }
        let calls = sut.calls.take().unwrap_or_default();
        let started = Instant::now();
        seeds.for_each(|seed| run(&mut examiner, &mut sut, generator.scenario(seed)));
        let checked = started.elapsed();
        let started = Instant::now();
        calls.iter().for_each(|call| apply(&mut straight_one, call));
        let straight = started.elapsed();
        let operations = calls.iter().filter(|call| !matches!(call, Call::Reset)).count() as u64;
        // The first block warms both sides up.
        if block > 0 {
            pairs.push(Pair { checked, straight, operations });
        }
    }
    pairs
}

fn run(examiner: &mut Examiner, sut: &mut dyn Sut, scenario: Scenario) {
    // As a campaign does it.
    let scenario = Arc::new(scenario);
    examiner.runner.share(&scenario);
    let run = examiner.examine(sut, &scenario).expect("the reference allocator can be run");
    assert_eq!(run.finding, None, "in\n{scenario}");
}

/// A system whose calls are noted while a block is recorded.
struct Recorder<S> {
    sut: S,
    contract: Contract,
    calls: Option<Vec<Call>>,
}

impl<S> Recorder<S> {
    fn note(&mut self, call: impl FnOnce() -> Call) {
        if let Some(calls) = &mut self.calls {
            calls.push(call());
        }
    }
}

impl<S: Sut> Sut for Recorder<S> {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.note(|| Call::Reset);
        self.sut.reset()
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        self.note(|| Call::prepared(operation));
        self.sut.call(operation)
    }

    fn is_fast(&self) -> bool {
        self.sut.is_fast()
    }
}

/// A recorded call.
enum Call {
    Reset,
    CreatePool(Text, Text, PoolShape),
    UpdatePool(Text, PoolShape),
    DeletePool(Text),
    Allocate(Text, Vec<(Text, Wanted)>, Option<u64>),
    Release(Text, Address, Text),
    ReleaseOwner(Text),
    Renew(Text, Address, Text, u64),
    Begin,
    Commit,
    Rollback,
    List(Option<Text>),
    Usage(Text),
    Advance(u64),
}

impl Call {
    fn prepared(operation: &Operation) -> Call {
        match operation {
            Operation::CreatePool { pool, prefix, shape } => {
                Call::CreatePool(pool.clone(), prefix.clone(), shape.clone())
            }
            Operation::UpdatePool { pool, shape } => Call::UpdatePool(pool.clone(), shape.clone()),
            Operation::DeletePool { pool } => Call::DeletePool(pool.clone()),
            Operation::Allocate { owner, requests, ttl_ms } => {
                let wanted = requests.iter().map(|request| {
                    let wanted = match &request.want {
                        Want::Any => Wanted::Any,
                        Want::Named(address) => Wanted::Named(Address::of(address)),
                        Want::Block(length) => Wanted::Block(*length),
                    };
                    (request.pool.clone(), wanted)
                });
                Call::Allocate(owner.clone(), wanted.collect(), *ttl_ms)
            }
            Operation::Release { pool, address, owner } => {
                Call::Release(pool.clone(), Address::of(address), owner.clone().unwrap_or_default())
            }
            Operation::ReleaseOwner { owner } => Call::ReleaseOwner(owner.clone()),
            Operation::Renew { pool, address, owner, ttl_ms } => {
                Call::Renew(pool.clone(), Address::of(address), owner.clone(), *ttl_ms)
            }
            Operation::Begin => Call::Begin,
            Operation::Commit => Call::Commit,
            Operation::Rollback => Call::Rollback,
            Operation::List { pool } => Call::List(pool.clone()),
            Operation::Usage { pool } => Call::Usage(pool.clone()),
            Operation::Advance { ms } => Call::Advance(*ms),
            Operation::Raw { .. } => unreachable!("the reference allocator has no wire"),
        }
    }
}

/// What a request asks for.
enum Wanted {
    Any,
    Named(Address),
    Block(u8),
}

/// An address or a block as the caller has it.
enum Address {
    Plain(Resource),
    Odd(Text),
}

impl Address {
    fn of(written: &Written) -> Address {
        match written {
            Written::Plain(Grant::Address(address)) => Address::Plain(Resource::Address(*address)),
            Written::Plain(Grant::Block(prefix)) => Address::Plain(Resource::Block(*prefix)),
            Written::Odd(text) => Address::Odd(text.clone()),
        }
    }

    fn read(&self) -> Option<Resource> {
        match self {
            Address::Plain(resource) => Some(*resource),
            Address::Odd(text) => text.parse().ok(),
        }
    }
}

fn read_shape(shape: &PoolShape) -> Option<Shape> {
    let range =
        |(first, last): &(Text, Text)| AddressRange::new(parse_address(first).ok()?, parse_address(last).ok()?).ok();
    Some(Shape {
        ranges: shape.ranges.iter().map(range).collect::<Option<_>>()?,
        gateway: shape.gateway.as_ref().map(|gateway| parse_address(gateway)).transpose().ok()?,
        exclusions: shape.exclude.iter().map(|exclusion| exclusion.parse().ok()).collect::<Option<_>>()?,
        policy: Policy::default(),
    })
}

/// Makes the call, as far as its texts can be read.
fn apply<S: Store>(allocator: &mut Allocator<S>, call: &Call) {
    match call {
        Call::Reset => drop(black_box(allocator.reset())),
        Call::CreatePool(pool, prefix, shape) => {
            if let (Ok(prefix), Some(shape)) = (parse_prefix(prefix), read_shape(shape)) {
                let Shape { ranges, gateway, exclusions, policy } = shape;
                let spec = PoolSpec { prefix, ranges, gateway, exclusions, space: String::new(), policy };
                drop(black_box(allocator.create_pool(pool, &spec)));
            }
        }
        Call::UpdatePool(pool, shape) => {
            if let Some(shape) = read_shape(shape) {
                drop(black_box(allocator.update_pool(pool, &shape)));
            }
        }
        Call::DeletePool(pool) => drop(black_box(allocator.delete_pool(pool))),
        Call::Allocate(owner, wanted, ttl_ms) => allocate(allocator, owner, wanted, *ttl_ms),
        Call::Release(pool, address, owner) => {
            if let Some(address) = address.read() {
                drop(black_box(allocator.release(pool, address, owner)));
            }
        }
        Call::ReleaseOwner(owner) => drop(black_box(allocator.release_owner(owner))),
        Call::Renew(pool, address, owner, ttl_ms) => {
            if let Some(address) = address.read() {
                drop(black_box(allocator.renew(pool, address, owner, *ttl_ms)));
            }
        }
        Call::Begin => drop(black_box(allocator.begin())),
        Call::Commit => drop(black_box(allocator.commit())),
        Call::Rollback => drop(black_box(allocator.rollback())),
        Call::List(pool) => drop(black_box(allocator.list(pool.as_deref()))),
        Call::Usage(pool) => drop(black_box(allocator.usage(pool))),
        Call::Advance(ms) => {
            let now_ms = allocator.now_ms().unwrap_or_default().saturating_add(*ms);
            drop(black_box(allocator.advance_to(now_ms)));
        }
    }
}

fn allocate<S: Store>(allocator: &mut Allocator<S>, owner: &str, wanted: &[(Text, Wanted)], ttl_ms: Option<u64>) {
    let mut requests: SmallVec<[Request<'_>; 2]> = SmallVec::new();
    for (pool, wanted) in wanted {
        requests.push(match wanted {
            Wanted::Any => Request::any(pool),
            Wanted::Block(length) => Request::block(pool, *length),
            Wanted::Named(address) => match address.read() {
                Some(resource @ Resource::Address(_)) => Request::named(pool, resource),
                _ => return,
            },
        });
    }
    drop(black_box(allocator.allocate(owner, &requests, ttl_ms)));
}
