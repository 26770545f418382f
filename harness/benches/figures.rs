//! What checking costs: `check` against the same operations applied straight to the allocator.
//!
//! Both sides run in turn in one process, block by block, and the figure is the median of the
//! blocks' ratios, so that a machine that slows down slows both. The checked side draws scenarios,
//! resolves, sends, judges and audits; the straight side gets the recorded calls with every text
//! parsed beforehand, and only makes them.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use poolproof::contract::Contract;
use poolproof::engine::examine::Examiner;
use poolproof::generate::Generator;
use poolproof::operation::{Operation, PoolShape, Response, Text, Want, Written};
use poolproof::scenario::Scenario;
use poolproof::sut::{Failure, Sut, memory::Memory, sqlite::Sqlite};
use poolproof_allocator::store::Store;
use poolproof_allocator::{
    AddressRange, Allocator, PoolShape as Shape, PoolSpec, Request, parse_address, parse_prefix,
};

const BLOCKS: u64 = 21;

fn main() {
    // `cargo test` runs benches too, with `--test`; a figure from an unoptimised build is none.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("check (drawing, model and comparison included) against the same calls straight on the allocator;");
    println!("medians of {BLOCKS} pairs in turn");
    let memory = compare(Memory::new(), Allocator::in_memory, 1_000);
    report("memory", &memory, 3.0);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let open = || Allocator::open(folder.path().join("straight.db")).expect("a file of its own");
    let sqlite = compare(Sqlite::temporary().expect("a temporary directory"), open, 8);
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

fn compare<S: Store>(sut: impl Sut, open: impl Fn() -> Allocator<S>, scenarios: u64) -> Vec<Pair> {
    let mut straight_one = Some(open());
    let generator = Generator::new(sut.contract());
    let mut sut = Recorder { sut, calls: None };
    let mut examiner = Examiner::sparing(&sut);
    let mut pairs = Vec::new();
    for block in 0..=BLOCKS {
        let seeds = block * scenarios..(block + 1) * scenarios;
        sut.calls = Some(Vec::new());
        seeds.clone().for_each(|seed| run(&mut examiner, &mut sut, &generator.scenario(seed)));
        let calls = sut.calls.take().unwrap_or_default();
        let started = Instant::now();
        seeds.for_each(|seed| run(&mut examiner, &mut sut, &generator.scenario(seed)));
        let checked = started.elapsed();
        let started = Instant::now();
        for call in &calls {
            match (call, &mut straight_one) {
                (Call::Restart, allocator) => {
                    // The old one is closed before the new one is opened.
                    *allocator = None;
                    *allocator = Some(open());
                }
                (call, Some(allocator)) => apply(allocator, call),
                (_, None) => unreachable!("it is opened again at once"),
            }
        }
        let straight = started.elapsed();
        let operations = calls.iter().filter(|call| !matches!(call, Call::Reset | Call::Restart)).count() as u64;
        // The first block warms both sides up.
        if block > 0 {
            pairs.push(Pair { checked, straight, operations });
        }
    }
    pairs
}

fn run(examiner: &mut Examiner, sut: &mut dyn Sut, scenario: &Scenario) {
    let run = examiner.examine(sut, scenario).expect("the reference allocator can be run");
    assert_eq!(run.finding, None, "in\n{scenario}");
}

/// A system whose calls are noted while a block is recorded.
struct Recorder<S> {
    sut: S,
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
        self.sut.contract()
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.note(|| Call::Reset);
        self.sut.reset()
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        self.note(|| Call::prepared(operation));
        self.sut.call(operation)
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.note(|| Call::Restart);
        self.sut.restart()
    }

    fn crash(&mut self) -> Result<(), Failure> {
        self.note(|| Call::Restart);
        self.sut.crash()
    }
}

/// A call with its texts parsed.
enum Call {
    Reset,
    /// Closing and opening again; stands for crashes too, which only a harness makes.
    Restart,
    CreatePool(Text, Option<PoolSpec>),
    UpdatePool(Text, Option<Shape>),
    DeletePool(Text),
    Allocate(Text, Option<Vec<(Text, Option<IpAddr>)>>, Option<u64>),
    Release(Text, Option<IpAddr>, Text),
    ReleaseOwner(Text),
    Renew(Text, Option<IpAddr>, Text, u64),
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
                let spec = parse_prefix(prefix).ok().zip(read_shape(shape)).map(|(prefix, shape)| PoolSpec {
                    prefix,
                    ranges: shape.ranges,
                    gateway: shape.gateway,
                    exclusions: shape.exclusions,
                });
                Call::CreatePool(pool.clone(), spec)
            }
            Operation::UpdatePool { pool, shape } => Call::UpdatePool(pool.clone(), read_shape(shape)),
            Operation::DeletePool { pool } => Call::DeletePool(pool.clone()),
            Operation::Allocate { owner, requests, ttl_ms } => {
                let wanted = requests.iter().map(|request| match &request.want {
                    Want::Any => Some((request.pool.clone(), None)),
                    Want::Named(address) => Some((request.pool.clone(), Some(read(address)?))),
                    Want::Block(_) => None,
                });
                Call::Allocate(owner.clone(), wanted.collect(), *ttl_ms)
            }
            Operation::Release { pool, address, owner } => {
                Call::Release(pool.clone(), read(address), owner.clone().unwrap_or_default())
            }
            Operation::ReleaseOwner { owner } => Call::ReleaseOwner(owner.clone()),
            Operation::Renew { pool, address, owner, ttl_ms } => {
                Call::Renew(pool.clone(), read(address), owner.clone(), *ttl_ms)
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

fn read(address: &Written) -> Option<IpAddr> {
    parse_address(&address.to_string()).ok()
}

fn read_shape(shape: &PoolShape) -> Option<Shape> {
    let range =
        |(first, last): &(Text, Text)| AddressRange::new(parse_address(first).ok()?, parse_address(last).ok()?).ok();
    Some(Shape {
        ranges: shape.ranges.iter().map(range).collect::<Option<_>>()?,
        gateway: shape.gateway.as_ref().map(|gateway| parse_address(gateway)).transpose().ok()?,
        exclusions: shape.exclude.iter().map(|exclusion| exclusion.parse().ok()).collect::<Option<_>>()?,
    })
}

/// Makes the call. What could not be parsed would not have got this far, and costs nothing here.
fn apply<S: Store>(allocator: &mut Allocator<S>, call: &Call) {
    match call {
        Call::Restart => {}
        Call::Reset => drop(black_box(allocator.reset())),
        Call::CreatePool(pool, Some(spec)) => drop(black_box(allocator.create_pool(pool, spec))),
        Call::UpdatePool(pool, Some(shape)) => drop(black_box(allocator.update_pool(pool, shape))),
        Call::DeletePool(pool) => drop(black_box(allocator.delete_pool(pool))),
        Call::Allocate(owner, Some(wanted), ttl_ms) => {
            let requests = wanted.iter().map(|(pool, address)| Request { pool, address: *address });
            let requests: smallvec::SmallVec<[Request<'_>; 2]> = requests.collect();
            drop(black_box(allocator.allocate(owner, &requests, *ttl_ms)));
        }
        Call::Release(pool, Some(address), owner) => drop(black_box(allocator.release(pool, *address, owner))),
        Call::ReleaseOwner(owner) => drop(black_box(allocator.release_owner(owner))),
        Call::Renew(pool, Some(address), owner, ttl_ms) => {
            drop(black_box(allocator.renew(pool, *address, owner, *ttl_ms)));
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
        Call::CreatePool(_, None)
        | Call::UpdatePool(_, None)
        | Call::Allocate(_, None, _)
        | Call::Release(_, None, _)
        | Call::Renew(_, None, ..) => {}
    }
}
