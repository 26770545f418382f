//! What the SQLite store costs, beside the least that anyone could do with SQLite, beside itself when it is fuller or shared,
//! and beside what other allocators do.

mod common;

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use common::{blocks, in_turn, is_test, owner};
use poolproof_allocator::store::Store;
use poolproof_allocator::{
    Allocator, PoolSpec, Request, Resource, SharedAllocator, SqliteAllocator, SqliteOptions, SqliteStore, Synchronous,
    parse_prefix,
};
use rusqlite::{Connection, OptionalExtension, ToSql, TransactionBehavior, params};
use tempfile::TempDir;

/// Commits a block.
const COMMITS: u32 = 400;
/// What a pool holds when other allocators are looked at.
const HELD: u32 = 10_000;
/// Callers that share one allocator.
const CALLERS: usize = 16;
/// How long each side of a comparison of callers runs in one turn.
const TURN: Duration = Duration::from_millis(500);

fn main() {
    if is_test() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    println!("The SQLite store");
    for synchronous in [Synchronous::Full, Synchronous::Normal] {
        against_inserts(&folder, synchronous);
    }
    when_fuller(&folder);
    shared(&folder);
    against_others(&folder);
}

/// One caller, against bare one-row commits.
fn against_inserts(folder: &TempDir, synchronous: Synchronous) {
    let mut allocator = open(&folder.path().join(format!("single {synchronous:?}.db")), synchronous);
    let bare = connect(&folder.path().join(format!("bare {synchronous:?}.db")), synchronous);
    bare.execute_batch(
        "CREATE TABLE allocation (pool INTEGER NOT NULL, first BLOB NOT NULL, owner TEXT NOT NULL, expires_ms INTEGER,
             generation INTEGER NOT NULL, PRIMARY KEY (pool, first)) STRICT, WITHOUT ROWID",
    )
    .unwrap();
    let (mut number, mut bare_number) = (0, 0_u32);
    let (ours_ns, bare_ns) = in_turn(
        COMMITS,
        || {
            allocator.grant(&owner(number));
            number += 1;
        },
        || {
            let insert = "INSERT INTO allocation VALUES (1, ?1, ?2, NULL, ?3)";
            let first = u128::from(bare_number).to_be_bytes();
            let mut insert = bare.prepare_cached(insert).unwrap();
            insert.execute(params![first, owner(bare_number), bare_number]).unwrap();
            bare_number += 1;
        },
    );
    let share = 100.0 * bare_ns / ours_ns;
    println!(
        "one caller, {synchronous:?}: {share:.0} % of the rate of bare INSERT commits (at least 80); {:.0}/s and {:.0}/s",
        1e9 / ours_ns,
        1e9 / bare_ns
    );
}

/// A pair of calls with much held, against one with little.
fn when_fuller(folder: &TempDir) {
    let [mut full, mut empty] = [100_000, 100].map(|held| filled(folder, held, Synchronous::Full));
    let pair = |allocator: &mut SqliteAllocator| {
        let granted = allocator.grant("late");
        allocator.take_back(granted, "late");
    };
    let (full_ns, empty_ns) = in_turn(COMMITS / 2, || pair(&mut full), || pair(&mut empty));
    let share = 100.0 * empty_ns / full_ns;
    println!(
        "one caller, Full: at 100000 held {share:.0} % of the rate at 100 held (at least 80); {:.0}/s and {:.0}/s",
        2e9 / full_ns,
        2e9 / empty_ns
    );
}

/// Many callers that share an allocator, against one.
fn shared(folder: &TempDir) {
    let many = SharedAllocator::new(open(&folder.path().join("many.db"), Synchronous::Full));
    let one = SharedAllocator::new(open(&folder.path().join("one.db"), Synchronous::Full));
    let mut rates = (Vec::new(), Vec::new());
    for _ in 0..9 {
        rates.0.push(rate(&many, CALLERS));
        rates.1.push(rate(&one, 1));
    }
    let [many, one] = [rates.0, rates.1].map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!(
        "{CALLERS} callers, Full: {:.1} times the rate of one (at least 5); {many:.0}/s and {one:.0}/s",
        many / one
    );
}

/// Calls a second of so many callers in one turn.
fn rate(allocator: &SharedAllocator<SqliteStore>, callers: usize) -> f64 {
    let started = Instant::now();
    let calls: u32 = thread::scope(|scope| {
        let callers: Vec<_> = (0..callers)
            .map(|caller| {
                let allocator = allocator.clone();
                scope.spawn(move || {
                    let name = format!("caller {caller}");
                    let mut calls = 0;
                    while started.elapsed() < TURN {
                        let owner = name.clone();
                        let granted =
                            allocator.run(move |one| one.allocate(&owner, &[Request::any("p0")], None)).unwrap();
                        let (owner, resource) = (name.clone(), granted.grants[0].resource);
                        allocator.run(move |one| one.release("p0", resource, &owner)).unwrap();
                        calls += 2;
                    }
                    calls
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    f64::from(calls) / started.elapsed().as_secs_f64()
}

/// What other allocators do for one address, at 10 000 held, against the store of the same kind. Each is written as its
/// authors do it, on a journal and a level as ours, with statements kept prepared. Releases are not timed.
fn against_others(folder: &TempDir) {
    for synchronous in [Synchronous::Normal, Synchronous::Full] {
        let mut ours = filled(folder, HELD, synchronous);
        let name = format!("all rows read and looked through (Neutron, host-local), {synchronous:?}");
        times(&name, &mut ours, &mut ScanAllRows::filled(folder, synchronous));
        let name = format!("expired or own row, then highest and one more, checked (dora), {synchronous:?}");
        times(&name, &mut ours, &mut Highest::filled(folder, synchronous));
    }
    let mut memory = Allocator::in_memory();
    memory.create_pool("p0", &PoolSpec::new(parse_prefix("10.0.0.0/8").unwrap())).unwrap();
    (0..HELD).for_each(|number| _ = memory.grant(&owner(number)));
    times("in memory, the pool's map copied to read and to write (go-ipam)", &mut memory, &mut CopiedMap::filled());
}

/// Something that hands out addresses.
trait Source {
    type Granted;
    fn grant(&mut self, owner: &str) -> Self::Granted;
    fn take_back(&mut self, granted: Self::Granted, owner: &str);
}

impl<S: Store> Source for Allocator<S> {
    type Granted = Resource;

    fn grant(&mut self, owner: &str) -> Resource {
        self.allocate(owner, &[Request::any("p0")], None).unwrap().grants[0].resource
    }

    fn take_back(&mut self, granted: Resource, owner: &str) {
        self.release("p0", granted, owner).unwrap();
    }
}

fn times(name: &str, ours: &mut impl Source, other: &mut impl Source) {
    let (ours_ns, other_ns) = blocks(|| grant_ns(ours), || grant_ns(other));
    println!(
        "{name}: ours is {:.1} times as fast at {HELD} held (at least 20); {:.1} µs and {:.1} µs an address",
        other_ns / ours_ns,
        ours_ns / 1e3,
        other_ns / 1e3
    );
}

/// How long a grant takes, in nanoseconds.
fn grant_ns(source: &mut impl Source) -> f64 {
    let mut total = Duration::ZERO;
    for number in 0..COMMITS / 10 {
        let owner = owner(HELD + number);
        let started = Instant::now();
        let granted = source.grant(&owner);
        total += started.elapsed();
        source.take_back(granted, &owner);
    }
    total.as_nanos() as f64 / f64::from(COMMITS / 10)
}

fn open(path: &Path, synchronous: Synchronous) -> SqliteAllocator {
    let options = SqliteOptions { synchronous, ..SqliteOptions::default() };
    let mut allocator = Allocator::open_with(path, options).unwrap();
    allocator.create_pool("p0", &PoolSpec::new(parse_prefix("10.0.0.0/8").unwrap())).unwrap();
    allocator
}

fn filled(folder: &TempDir, held: u32, synchronous: Synchronous) -> SqliteAllocator {
    let mut allocator = open(&folder.path().join(format!("{held} held {synchronous:?}.db")), synchronous);
    allocator.begin().unwrap();
    (0..held).for_each(|number| _ = allocator.grant(&owner(number)));
    allocator.commit().unwrap();
    allocator
}

fn connect(path: &Path, synchronous: Synchronous) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    let level = match synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", level).unwrap();
    connection
}

/// Reads the addresses of all rows into a set, and tries one address after the other.
struct ScanAllRows(Connection);

impl ScanAllRows {
    fn filled(folder: &TempDir, synchronous: Synchronous) -> Self {
        let connection = connect(&folder.path().join(format!("scan {synchronous:?}.db")), synchronous);
        let table = "CREATE TABLE allocation (address TEXT PRIMARY KEY, pool TEXT NOT NULL, owner TEXT NOT NULL)";
        connection.execute_batch(table).unwrap();
        fill(&connection, "INSERT INTO allocation VALUES (?1, 'p0', ?2)", |number| address(number).to_string());
        Self(connection)
    }
}

impl Source for ScanAllRows {
    type Granted = String;

    fn grant(&mut self, owner: &str) -> String {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let taken: HashSet<String> = {
            let mut all = transaction.prepare_cached("SELECT address FROM allocation WHERE pool = 'p0'").unwrap();
            all.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap()
        };
        let free = (0..).map(|number| address(number).to_string()).find(|free| !taken.contains(free)).unwrap();
        let insert = "INSERT INTO allocation VALUES (?1, 'p0', ?2)";
        transaction.prepare_cached(insert).unwrap().execute(params![free, owner]).unwrap();
        transaction.commit().unwrap();
        free
    }

    fn take_back(&mut self, granted: String, owner: &str) {
        let delete = "DELETE FROM allocation WHERE address = ?1 AND owner = ?2";
        self.0.prepare_cached(delete).unwrap().execute(params![granted, owner]).unwrap();
    }
}

/// Takes over a row that has expired or is the owner's own. If there is none, takes the address above the highest one there
/// is, and checks by the key that nobody has it.
struct Highest(Connection);

impl Highest {
    fn filled(folder: &TempDir, synchronous: Synchronous) -> Self {
        let connection = connect(&folder.path().join(format!("highest {synchronous:?}.db")), synchronous);
        connection
            .execute_batch(
                "CREATE TABLE leases (ip INTEGER PRIMARY KEY, client_id BLOB, leased BOOLEAN NOT NULL DEFAULT 0,
                     expires_at INTEGER NOT NULL, network INTEGER NOT NULL, probation BOOLEAN NOT NULL DEFAULT 0);
                 CREATE INDEX leases_by_end ON leases (ip, expires_at)",
            )
            .unwrap();
        let insert = "INSERT INTO leases VALUES (?1, CAST(?2 AS BLOB), 1, 4000000000, 167772160, 0)";
        fill(&connection, insert, |number| u32::from(address(number)));
        Self(connection)
    }
}

impl Source for Highest {
    type Granted = u32;

    fn grant(&mut self, owner: &str) -> u32 {
        let (first, last, now) = (u32::from(address(0)), u32::MAX >> 1, 1_700_000_000);
        let reuse = "UPDATE leases SET client_id = ?4, leased = 1, expires_at = ?5, probation = 0 WHERE ip IN
            (SELECT ip FROM leases WHERE (expires_at < ?1 AND ip BETWEEN ?2 AND ?3) OR client_id = ?4 ORDER BY ip LIMIT 1)
            RETURNING ip";
        let values = params![now, first, last, owner.as_bytes(), now + 3600];
        let reused = self.0.prepare_cached(reuse).unwrap().query_row(values, |row| row.get::<_, u32>(0)).optional();
        assert_eq!(reused.unwrap(), None);
        let transaction = self.0.transaction().unwrap();
        let highest: u32 = transaction
            .prepare_cached("SELECT ip FROM leases WHERE ip BETWEEN ?1 AND ?2 ORDER BY ip DESC LIMIT 1")
            .unwrap()
            .query_row([first, last], |row| row.get(0))
            .unwrap();
        let insert = "INSERT INTO leases VALUES (?1, ?2, 1, ?3, 167772160, 0)";
        let values = params![highest + 1, owner.as_bytes(), now + 3600];
        transaction.prepare_cached(insert).unwrap().execute(values).unwrap();
        transaction.commit().unwrap();
        highest + 1
    }

    fn take_back(&mut self, granted: u32, owner: &str) {
        let delete = "DELETE FROM leases WHERE ip = ?1 AND client_id = ?2";
        self.0.prepare_cached(delete).unwrap().execute(params![granted, owner.as_bytes()]).unwrap();
    }
}

fn fill<T: ToSql>(connection: &Connection, insert: &str, address: impl Fn(u32) -> T) {
    connection.execute_batch("BEGIN").unwrap();
    let mut insert = connection.prepare(insert).unwrap();
    for number in 0..HELD {
        insert.execute(params![address(number), owner(number)]).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
}

/// A map of what is taken, of which each call reads a copy, looks for a free address in it from the lowest on, and writes
/// back another copy.
struct CopiedMap(HashMap<String, bool>);

impl CopiedMap {
    fn filled() -> Self {
        Self((0..HELD).map(|number| (address(number).to_string(), true)).collect())
    }
}

impl Source for CopiedMap {
    type Granted = String;

    fn grant(&mut self, _: &str) -> String {
        let mut copy = self.0.clone();
        let free = (0..).map(|number| address(number).to_string()).find(|free| !copy.contains_key(free)).unwrap();
        copy.insert(free.clone(), true);
        self.0 = copy.clone();
        free
    }

    fn take_back(&mut self, granted: String, _: &str) {
        let mut copy = self.0.clone();
        copy.remove(&granted);
        self.0 = copy.clone();
    }
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from((10 << 24) + 1 + number)
}
