//! Random calls of everything that the allocator offers, against the naive model in `common/rules.rs`.
//!
//! With the strategies `Lowest` and `Next` the model knows every answer exactly; with `Random` it checks that the answer is
//! one of the free ones. After every call everything that can be seen is compared. At the end, every call must have had each
//! answer that it can have. `POOLPROOF_MODEL_SECONDS` says how long that goes on; a few seconds are too few for the last.

mod common;

use std::cell::RefCell;
use std::fmt::Debug;
use std::net::IpAddr;

use common::rules::{Answer, Rules, note, noted, value};
use common::{address, for_some_time, naive::NaiveStore, spec};
use ipnet::IpNet;
use poolproof_allocator::store::Store;
use poolproof_allocator::{
    AddressRange, Allocation, Allocator, Cursor, ErrorKind, Family, Granted, MAX_MS, Page, Policy, PoolShape, PoolSpec,
    Release, Repeat, Request, Resource, Result, Savepoint, Strategy as Choice, Want,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Names that pools and owners are drawn from. The last one is none.
const POOLS: [&str; 5] = ["p0", "p1", "p2", "p3", ""];
const OWNERS: [&str; 4] = ["a", "b", "' or 1=1 --", ""];
const SPACES: [&str; 3] = ["", "red", "blue"];
/// Prefixes at the bottom, in the middle and at the top of both address spaces; some overlap. The last two are huge.
const PREFIXES: [&str; 14] = [
    "0.0.0.0/30",
    "0.0.0.0/32",
    "10.0.0.0/28",
    "10.0.0.8/29",
    "255.255.255.248/29",
    "255.255.255.254/31",
    "::/125",
    "::/127",
    "fd00::/124",
    "fd00::4/128",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff8/125",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127",
    "fd00::/64",
    "::/0",
];

#[derive(Clone, Debug)]
enum Call {
    Create { pool: usize, prefix: usize, space: usize, shape: Shape },
    Update { pool: usize, shape: Shape },
    Delete { pool: usize },
    Allocate { owner: usize, requests: Vec<(usize, Wish)>, ttl_ms: Option<u64> },
    Release { what: Pick },
    ReleaseExactly { what: Pick, age: i64 },
    ReleaseOwner { owner: usize },
    Renew { what: Pick, ttl_ms: u64 },
    Advance { to: Time },
    Begin,
    Commit,
    Rollback,
    Savepoint,
    RollbackTo { back: usize },
    ReleaseSavepoint { back: usize },
    Find { pool: usize, position: u8 },
    FindOwner { owner: usize },
    List { pool: usize },
    Usage { pool: usize },
    Pool { pool: usize },
    Page { pool: Option<usize>, is_first: bool, most: usize },
    Reset,
}

/// Positions in a prefix; one that passes its end makes the call invalid.
#[derive(Clone, Debug)]
struct Shape {
    ranges: Vec<(u8, u8)>,
    gateway: Option<u8>,
    exclusions: Vec<(u8, u8)>,
    policy: Policy,
}

#[derive(Clone, Debug)]
enum Time {
    In(i64),
    End,
    BeyondTheEnd,
}

#[derive(Clone, Debug)]
enum Wish {
    Any(u32),
    Named(Name),
    /// So many host bits more than the family has are too many.
    Block(u8),
}

/// An address at a position, or the block of so many host bits around it or, wrongly, from it on.
#[derive(Clone, Debug)]
struct Name {
    position: u8,
    host_bits: Option<u8>,
    is_aligned: bool,
}

/// Something to give back or renew.
#[derive(Clone, Debug)]
enum Pick {
    /// What is held, counted through, by the one who holds it or somebody else.
    Held { nth: usize, owner: Option<usize> },
    /// What may not be held.
    Other { pool: usize, name: Name, owner: usize },
}

fn pool() -> impl Strategy<Value = usize> {
    prop_oneof![30 => 0..POOLS.len() - 1, 1 => Just(POOLS.len() - 1)]
}

fn owner() -> impl Strategy<Value = usize> {
    prop_oneof![30 => 0..OWNERS.len() - 1, 1 => Just(OWNERS.len() - 1)]
}

fn position() -> impl Strategy<Value = u8> {
    prop_oneof![18 => 0_u8..8, 12 => 8_u8..16, 1 => Just(16)]
}

fn shape() -> impl Strategy<Value = Shape> {
    let range = || (position(), position()).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let ranges = prop_oneof![2 => Just(vec![]), 1 => vec(range(), 1..3)];
    let exclusions = prop_oneof![4 => Just(vec![]), 1 => vec(range(), 1..2)];
    (ranges, proptest::option::weighted(0.2, position()), exclusions, policy())
        .prop_map(|(ranges, gateway, exclusions, policy)| Shape { ranges, gateway, exclusions, policy })
}

fn policy() -> impl Strategy<Value = Policy> {
    let strategy = proptest::sample::select(vec![Choice::Lowest, Choice::Next, Choice::Random]);
    let repeat = prop_oneof![2 => Just(Repeat::Another), 2 => Just(Repeat::Same), 1 => Just(Repeat::Conflict)];
    let ms = [0, 0, 1, 4, MAX_MS].map(Just);
    let quarantine_ms =
        prop_oneof![40 => proptest::sample::select(ms.map(|Just(ms)| ms).to_vec()), 1 => Just(MAX_MS + 1)];
    (strategy, repeat, quarantine_ms).prop_map(|(strategy, repeat, quarantine_ms)| Policy {
        strategy,
        repeat,
        quarantine_ms,
    })
}

fn name() -> impl Strategy<Value = Name> {
    let host_bits = proptest::option::weighted(0.4, 0_u8..5);
    (position(), host_bits, proptest::bool::weighted(0.9)).prop_map(|(position, host_bits, is_aligned)| Name {
        position,
        host_bits,
        is_aligned,
    })
}

fn pick() -> impl Strategy<Value = Pick> {
    let held =
        (0_usize..20, proptest::option::weighted(0.2, owner())).prop_map(|(nth, owner)| Pick::Held { nth, owner });
    let other = (pool(), name(), owner()).prop_map(|(pool, name, owner)| Pick::Other { pool, name, owner });
    prop_oneof![3 => held, 1 => other]
}

fn wish() -> impl Strategy<Value = Wish> {
    let block = prop_oneof![20 => 0_u8..3, 1 => Just(128), 1 => Just(u8::MAX)];
    let any = prop_oneof![20 => Just(1), 6 => 2_u32..5, 1 => Just(0), 1 => Just(u32::MAX)];
    prop_oneof![5 => any.prop_map(Wish::Any), 4 => name().prop_map(Wish::Named), 3 => block.prop_map(Wish::Block)]
}

fn create(pool: impl Strategy<Value = usize>) -> impl Strategy<Value = Call> {
    (pool, 0..PREFIXES.len(), 0..SPACES.len(), shape()).prop_map(|(pool, prefix, space, shape)| Call::Create {
        pool,
        prefix,
        space,
        shape,
    })
}

/// Calls that write.
fn change() -> impl Strategy<Value = Call> {
    let ttl_ms = || prop_oneof![1 => Just(0), 20 => 1_u64..6, 1 => Just(MAX_MS)];
    let requests = || prop_oneof![40 => vec((pool(), wish()), 1..4), 1 => Just(vec![])];
    let time = prop_oneof![
        60 => (0_i64..4).prop_map(Time::In),
        10 => Just(Time::In(-1)),
        10 => Just(Time::In(30)),
        1 => Just(Time::End),
        3 => Just(Time::BeyondTheEnd),
    ];
    prop_oneof![
        2 => create(pool()),
        2 => (pool(), shape()).prop_map(|(pool, shape)| Call::Update { pool, shape }),
        1 => pool().prop_map(|pool| Call::Delete { pool }),
        14 => (owner(), requests(), proptest::option::of(ttl_ms()))
            .prop_map(|(owner, requests, ttl_ms)| Call::Allocate { owner, requests, ttl_ms }),
        3 => pick().prop_map(|what| Call::Release { what }),
        2 => (pick(), -1_i64..3).prop_map(|(what, age)| Call::ReleaseExactly { what, age }),
        1 => owner().prop_map(|owner| Call::ReleaseOwner { owner }),
        2 => (pick(), ttl_ms()).prop_map(|(what, ttl_ms)| Call::Renew { what, ttl_ms }),
        3 => time.prop_map(|to| Call::Advance { to }),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    let back = || 0_usize..4;
    let pages = (proptest::option::of(pool()), proptest::bool::weighted(0.1), 0_usize..3);
    prop_oneof![
        50 => change(),
        2 => Just(Call::Begin),
        2 => Just(Call::Commit),
        1 => Just(Call::Rollback),
        2 => Just(Call::Savepoint),
        2 => back().prop_map(|back| Call::RollbackTo { back }),
        2 => back().prop_map(|back| Call::ReleaseSavepoint { back }),
        1 => (pool(), position()).prop_map(|(pool, position)| Call::Find { pool, position }),
        1 => owner().prop_map(|owner| Call::FindOwner { owner }),
        1 => pool().prop_map(|pool| Call::List { pool }),
        1 => pool().prop_map(|pool| Call::Usage { pool }),
        1 => pool().prop_map(|pool| Call::Pool { pool }),
        4 => pages.prop_map(|(pool, is_first, most)| Call::Page { pool, is_first, most }),
    ]
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let rest = prop_oneof![300 => call(), 1 => Just(Call::Reset)];
    let pools = [0, 1, 2, 3].map(|pool| create(Just(pool)));
    (pools, vec(rest, 0..100)).prop_map(|(pools, rest)| [pools.to_vec(), rest].concat())
}

/// The address at a position of a prefix. The last position is the one past its end. Of a huge prefix the upper half of the
/// positions are at its top.
fn at(prefix: IpNet, position: u8) -> IpAddr {
    let (network, broadcast) = (value(prefix.network()), value(prefix.broadcast()));
    let offset = u128::from(position);
    let value = match position {
        16 => broadcast.wrapping_add(1),
        8.. if is_huge(prefix) => broadcast - 15 + offset,
        _ if is_huge(prefix) => network + offset,
        _ => network + offset % (broadcast - network + 1),
    };
    Family::of(prefix.network()).address(value)
}

fn is_huge(prefix: IpNet) -> bool {
    prefix.max_prefix_len() - prefix.prefix_len() > 4
}

impl Shape {
    fn range(&self, prefix: IpNet, (low, high): (u8, u8)) -> AddressRange {
        // The model walks through every range, so none may reach from the bottom to the top of a huge prefix.
        let low = if is_huge(prefix) && high >= 8 { low.max(8) } else { low };
        let (one, other) = (at(prefix, low), at(prefix, high));
        match high {
            // Past the top of an address space is its bottom, which would reverse the range.
            16 => AddressRange::from(address("9.9.9.9")),
            _ => AddressRange::new(one.min(other), one.max(other)).unwrap(),
        }
    }

    /// In the allocator's terms.
    fn of(&self, prefix: IpNet) -> PoolShape {
        let mut ranges: Vec<_> = self.ranges.iter().map(|range| self.range(prefix, *range)).collect();
        if is_huge(prefix) && ranges.is_empty() {
            ranges = vec![self.range(prefix, (0, 7)), self.range(prefix, (8, 15))];
        }
        let exclusions = self.exclusions.iter().map(|range| self.range(prefix, *range)).collect();
        PoolShape { ranges, gateway: self.gateway.map(|one| at(prefix, one)), exclusions, policy: self.policy }
    }
}

impl Name {
    fn of(&self, prefix: IpNet) -> Resource {
        let address = at(prefix, self.position);
        let Some(host_bits) = self.host_bits else {
            return address.into();
        };
        let block = IpNet::new(address, prefix.max_prefix_len() - host_bits).unwrap();
        if self.is_aligned { block.trunc().into() } else { block.into() }
    }
}

/// The allocator and the model, with what is needed to go on with savepoints and pages.
struct World<'a, S: Store> {
    allocator: &'a mut Allocator<S>,
    rules: Rules,
    /// The model as it was when the open transaction began.
    begun: Option<Rules>,
    /// The savepoints of the open transaction, by their places among all, with the model as it was.
    savepoints: Vec<(usize, Rules)>,
    /// Every savepoint that ever was.
    all_savepoints: Vec<Savepoint>,
    pages: Option<Pages>,
}

/// A listing that goes on page by page.
struct Pages {
    pool: Option<usize>,
    cursor: Option<Cursor>,
    listed: Vec<Key>,
    held_all_the_while: Vec<Key>,
}

type Key = (String, Resource, u64);

fn key(one: &Allocation) -> Key {
    (one.pool.to_string(), one.resource, one.generation)
}

fn keys(listed: &[Allocation]) -> Vec<Key> {
    listed.iter().map(key).collect()
}

impl Pages {
    /// A page is the next part of the listing as it is now, however it was before: nothing that was held all the while is
    /// missing or told twice.
    fn turn(&mut self, page: &Page, now: &[Key], most: usize) {
        let keys = keys(&page.allocations);
        let start = keys.first().map_or(now.len(), |first| now.iter().position(|one| one == first).unwrap());
        let start = if most == 0 && page.next.is_some() { 0 } else { start };
        let rest = &now[start..];
        assert_eq!(keys, rest[..rest.len().min(most)], "a page is a part of the listing, as long as it may be");
        if most > 0 {
            assert_eq!(page.next.is_some(), rest.len() > most, "there is a next page if something is left");
        }
        let was_listed = |one: &&Key| self.listed.contains(one);
        for one in &self.held_all_the_while {
            assert!(!(keys.contains(one) && was_listed(&one)), "{one:?} is listed twice");
            assert!(page.next.is_some() || keys.contains(one) || was_listed(&one), "{one:?} is not listed");
        }
        assert!(keys.is_empty() || now[..start].iter().all(|one| self.is_behind(one)), "a page leaves something out");
        self.listed.extend(keys);
        self.cursor = page.next;
    }

    fn is_behind(&self, one: &Key) -> bool {
        self.listed.contains(one) || !self.held_all_the_while.contains(one)
    }
}

type Answers = (Answer<String>, Answer<String>);

fn text<T: Debug>(answer: T) -> String {
    format!("{answer:?}")
}

fn given<T: Debug>(answer: Result<T>) -> Answer<String> {
    answer.map(text).map_err(|error| error.kind())
}

impl<'a, S: Store> World<'a, S> {
    fn new(allocator: &'a mut Allocator<S>) -> Self {
        allocator.reset().unwrap();
        let (savepoints, all_savepoints) = (Vec::new(), Vec::new());
        Self { allocator, rules: Rules::default(), begun: None, savepoints, all_savepoints, pages: None }
    }

    /// What the model answers; a refusal changes nothing.
    fn expect<T: Debug>(&mut self, call: impl FnOnce(&mut Rules) -> Answer<T>) -> Answer<String> {
        let mut after = self.rules.clone();
        let answer = call(&mut after)?;
        self.rules = after;
        Ok(text(answer))
    }

    /// The prefix of a pool; of one that does not exist, any: the call is refused before.
    fn prefix(&self, pool: usize) -> IpNet {
        let found = self.rules.pools.iter().find(|one| one.name == POOLS[pool]);
        found.map_or(spec(PREFIXES[0]).prefix, |pool| pool.spec.prefix)
    }

    /// A pool, what is meant of it, an owner, and the generation.
    fn pick(&self, what: &Pick) -> (String, Resource, String, u64) {
        match what {
            Pick::Held { nth, owner } => {
                let listed = self.rules.list(None).unwrap();
                let Some(one) = listed.get(nth % listed.len().max(1)) else {
                    return (POOLS[0].into(), self.prefix(0).network().into(), OWNERS[0].into(), 1);
                };
                let owner = owner.map_or(one.owner.to_string(), |owner| OWNERS[owner].into());
                (one.pool.to_string(), one.resource, owner, one.generation)
            }
            Pick::Other { pool, name, owner } => {
                (POOLS[*pool].into(), name.of(self.prefix(*pool)), OWNERS[*owner].into(), 1)
            }
        }
    }

    fn request(&self, (pool, wish): &(usize, Wish)) -> Request<'static> {
        let prefix = self.prefix(*pool);
        let want = match wish {
            Wish::Any(count) => Want::Any(*count),
            Wish::Named(name) => Want::Named(name.of(prefix)),
            Wish::Block(host_bits) => Want::Block(prefix.max_prefix_len().wrapping_sub(*host_bits)),
        };
        Request { pool: POOLS[*pool], want }
    }

    /// The name of a call, what the allocator answers, and what the model expects.
    fn answers(&mut self, call: &Call) -> Option<(&'static str, Answers)> {
        Some(match call {
            Call::Create { pool, prefix, space, shape } => {
                let prefix = spec(PREFIXES[*prefix]).prefix;
                let PoolShape { ranges, gateway, exclusions, policy } = shape.of(prefix);
                let spec = PoolSpec { prefix, ranges, gateway, exclusions, space: SPACES[*space].into(), policy };
                let actual = given(self.allocator.create_pool(POOLS[*pool], &spec));
                ("create", (actual, self.expect(|rules| rules.create(POOLS[*pool], &spec))))
            }
            Call::Update { pool, shape } => {
                let shape = shape.of(self.prefix(*pool));
                let actual = given(self.allocator.update_pool(POOLS[*pool], &shape));
                ("update", (actual, self.expect(|rules| rules.update(POOLS[*pool], &shape))))
            }
            Call::Delete { pool } => {
                let actual = given(self.allocator.delete_pool(POOLS[*pool]));
                ("delete", (actual, self.expect(|rules| rules.delete(POOLS[*pool]))))
            }
            Call::Allocate { owner, requests, ttl_ms } => ("allocate", self.allocate(*owner, requests, *ttl_ms)),
            Call::Release { what } => {
                let (pool, resource, owner, _) = self.pick(what);
                let actual = given(self.allocator.release(&pool, resource, &owner));
                let release = Release { pool: &pool, resource, owner: &owner, generation: None };
                ("release", (actual, self.expect(|rules| rules.release(&release))))
            }
            Call::ReleaseExactly { what, age } => {
                let (pool, resource, owner, generation) = self.pick(what);
                let generation = Some(generation.saturating_add_signed(-age));
                let release = Release { pool: &pool, resource, owner: &owner, generation };
                let actual = given(self.allocator.release_exactly(&release));
                ("release exactly", (actual, self.expect(|rules| rules.release(&release))))
            }
            Call::ReleaseOwner { owner } => {
                let released = self.allocator.release_owner(OWNERS[*owner]);
                let names = |released: Vec<poolproof_allocator::Released>| -> Vec<_> {
                    released.into_iter().map(|one| (one.pool.to_string(), one.resource)).collect()
                };
                let actual = given(released.map(names));
                ("release owner", (actual, self.expect(|rules| rules.release_owner(OWNERS[*owner]))))
            }
            Call::Renew { what, ttl_ms } => {
                let (pool, resource, owner, _) = self.pick(what);
                let actual = given(self.allocator.renew(&pool, resource, &owner, *ttl_ms));
                ("renew", (actual, self.expect(|rules| rules.renew(&pool, resource, &owner, *ttl_ms))))
            }
            Call::Advance { to } => ("advance", self.advance(to)),
            Call::Reset => {
                let actual = given(self.allocator.reset());
                (self.rules, self.begun, self.pages) = Default::default();
                self.savepoints.clear();
                ("reset", (actual, Ok(text(()))))
            }
            Call::Page { pool, is_first, most } => ("page", self.page(*pool, *is_first, *most)),
            Call::Begin | Call::Commit | Call::Rollback => self.transaction(call),
            Call::Savepoint | Call::RollbackTo { .. } | Call::ReleaseSavepoint { .. } => return self.savepoint(call),
            _ => self.look_up(call),
        })
    }

    fn look_up(&mut self, call: &Call) -> (&'static str, Answers) {
        let rules = &self.rules;
        match *call {
            Call::Find { pool, position } => {
                let address = at(self.prefix(pool), position);
                let actual = given(self.allocator.find(POOLS[pool], address));
                ("find", (actual, rules.find(POOLS[pool], address).map(text)))
            }
            Call::FindOwner { owner } => {
                let actual = given(self.allocator.find_owner(OWNERS[owner]));
                ("find owner", (actual, rules.find_owner(OWNERS[owner]).map(text)))
            }
            Call::List { pool } => {
                let actual = given(self.allocator.list(Some(POOLS[pool])));
                ("list", (actual, rules.list(Some(POOLS[pool])).map(text)))
            }
            Call::Usage { pool } => {
                let actual = given(self.allocator.usage(POOLS[pool]));
                ("usage", (actual, rules.usage(POOLS[pool]).map(text)))
            }
            Call::Pool { pool } => {
                let actual = given(self.allocator.pool(POOLS[pool]));
                ("pool", (actual, rules.info(POOLS[pool]).map(text)))
            }
            _ => unreachable!("{call:?} looks nothing up"),
        }
    }

    fn allocate(&mut self, owner: usize, requests: &[(usize, Wish)], ttl_ms: Option<u64>) -> Answers {
        let requests: Vec<_> = requests.iter().map(|request| self.request(request)).collect();
        let answer = self.allocator.allocate(OWNERS[owner], &requests, ttl_ms);
        let told = answer.as_ref().map_or(Default::default(), |granted: &Granted| granted.grants.clone());
        let expect = self.expect(|rules| rules.allocate(OWNERS[owner], &requests, ttl_ms, &told));
        if answer.is_ok() {
            note(if ttl_ms.is_some() { "lease" } else { "no lease" });
            note(if requests.len() > 1 { "several requests" } else { "one request" });
            note(if told.len() > requests.len() { "more grants than requests" } else { "a grant for each request" });
            let is_mixed = requests.iter().any(|request| request.pool != requests[0].pool);
            note(if is_mixed { "several pools" } else { "one pool" });
            let is_huge =
                requests.iter().any(|request| self.rules.info(request.pool).is_ok_and(|pool| is_huge(pool.prefix)));
            note(if is_huge { "huge pool" } else { "tiny pool" });
        }
        (given(answer), expect)
    }

    fn advance(&mut self, to: &Time) -> Answers {
        let now_ms = match to {
            Time::In(ms) => self.rules.now_ms.saturating_add_signed(*ms),
            Time::End => MAX_MS,
            Time::BeyondTheEnd => MAX_MS + 1,
        };
        let actual = given(self.allocator.advance_to(now_ms));
        if self.begun.is_some() {
            return (actual, Err(ErrorKind::Invalid));
        }
        (actual, self.expect(|rules| rules.advance_to(now_ms)))
    }

    fn transaction(&mut self, call: &Call) -> (&'static str, Answers) {
        let (name, actual) = match call {
            Call::Begin => ("begin", given(self.allocator.begin())),
            Call::Commit => ("commit", given(self.allocator.commit())),
            _ => ("rollback", given(self.allocator.rollback())),
        };
        let is_right = self.begun.is_some() != matches!(call, Call::Begin);
        if !is_right {
            return (name, (actual, Err(ErrorKind::Invalid)));
        }
        self.savepoints.clear();
        match (call, self.begun.take()) {
            (Call::Begin, _) => self.begun = Some(self.rules.clone()),
            (Call::Rollback, Some(begun)) => self.rules = begun,
            _ => {}
        }
        (name, (actual, Ok(text(()))))
    }

    /// `None` for a savepoint when none ever was: nobody can make one up.
    fn savepoint(&mut self, call: &Call) -> Option<(&'static str, Answers)> {
        let (name, back) = match call {
            Call::RollbackTo { back } => ("rollback to", *back),
            Call::ReleaseSavepoint { back } => ("release savepoint", *back),
            _ => return Some(("savepoint", self.set_savepoint())),
        };
        let place = self.all_savepoints.len().checked_sub(back + 1)?;
        let one = self.all_savepoints[place];
        let actual = given(match call {
            Call::RollbackTo { .. } => self.allocator.rollback_to(one),
            _ => self.allocator.release_savepoint(one),
        });
        let Some(depth) = self.savepoints.iter().position(|(other, _)| *other == place) else {
            note(if self.begun.is_some() { "forgotten savepoint" } else { "savepoint without a transaction" });
            return Some((name, (actual, Err(ErrorKind::Invalid))));
        };
        note(if depth + 1 == self.savepoints.len() { "last savepoint" } else { "savepoint with others in it" });
        self.savepoints.truncate(depth + 1);
        match call {
            Call::RollbackTo { .. } => self.rules = self.savepoints[depth].1.clone(),
            _ => drop(self.savepoints.pop()),
        }
        Some((name, (actual, Ok(text(())))))
    }

    fn set_savepoint(&mut self) -> Answers {
        let answer = self.allocator.savepoint();
        let expect = if self.begun.is_some() { Ok(text(())) } else { Err(ErrorKind::Invalid) };
        if let Ok(savepoint) = answer {
            self.savepoints.push((self.all_savepoints.len(), self.rules.clone()));
            self.all_savepoints.push(savepoint);
        }
        (given(answer.map(|_| ())), expect)
    }

    fn page(&mut self, pool: Option<usize>, is_first: bool, most: usize) -> Answers {
        let unfinished = self.pages.take().filter(|pages| !is_first && pages.cursor.is_some());
        note(if unfinished.is_some() { "page goes on" } else { "first page" });
        let mut pages = unfinished.unwrap_or_else(|| {
            let listed = self.rules.list(pool.map(|pool| POOLS[pool])).unwrap_or_default();
            Pages { pool, cursor: None, listed: Vec::new(), held_all_the_while: keys(&listed) }
        });
        let name = pages.pool.map(|pool| POOLS[pool]);
        let answer = self.allocator.list_page(name, pages.cursor, most);
        let expect = self.rules.list(name);
        if let (Ok(page), Ok(now)) = (&answer, &expect) {
            pages.turn(page, &keys(now), most);
            self.pages = Some(pages);
        }
        (given(answer.map(|_| ())), expect.map(|_| text(())))
    }

    /// Makes a call and compares its answer, and everything that can be seen afterwards.
    fn perform(&mut self, call: &Call) {
        let Some((name, (actual, expect))) = self.answers(call) else {
            return;
        };
        let outcome = expect.as_ref().map_or_else(|kind| kind.name(), |_| "ok");
        note(&format!("{name}: {outcome}"));
        assert_eq!(actual, expect);
        let listed = self.rules.list(None).unwrap();
        assert_eq!(self.allocator.list(None).unwrap(), listed);
        assert_eq!(self.allocator.pools().unwrap(), self.rules.infos());
        assert_eq!(self.allocator.now_ms().unwrap(), self.rules.now_ms);
        assert_eq!(self.allocator.audit().unwrap(), []);
        if let Some(pages) = &mut self.pages {
            let now = keys(&listed);
            let before = pages.held_all_the_while.len();
            pages.held_all_the_while.retain(|one| now.contains(one));
            note(if pages.held_all_the_while.len() < before {
                "change between pages"
            } else {
                "no change between pages"
            });
        }
    }
}

/// Every answer that each call can have, and everything that shall be met.
const TO_MEET: [(&str, &[&str]); 23] = [
    ("create", &["ok", "invalid", "conflict"]),
    ("update", &["ok", "invalid", "not_found", "in_use"]),
    ("delete", &["ok", "invalid", "not_found", "in_use"]),
    ("allocate", &["ok", "invalid", "not_found", "conflict", "exhausted"]),
    ("release", &["ok", "invalid", "not_found", "not_owner"]),
    ("release exactly", &["ok", "invalid", "not_found", "not_owner"]),
    ("release owner", &["ok", "invalid"]),
    ("renew", &["ok", "invalid", "not_found", "not_owner"]),
    ("advance", &["ok", "invalid"]),
    ("begin", &["ok", "invalid"]),
    ("commit", &["ok", "invalid"]),
    ("rollback", &["ok", "invalid"]),
    ("savepoint", &["ok", "invalid"]),
    ("rollback to", &["ok", "invalid"]),
    ("release savepoint", &["ok", "invalid"]),
    ("find", &["ok", "invalid", "not_found"]),
    ("find owner", &["ok", "invalid"]),
    ("list", &["ok", "invalid", "not_found"]),
    ("page", &["ok", "invalid", "not_found"]),
    ("usage", &["ok", "invalid", "not_found"]),
    ("pool", &["ok", "invalid", "not_found"]),
    ("reset", &["ok"]),
    (
        "",
        &[
            "address by Lowest",
            "address by Next",
            "address by Random",
            "block by Lowest",
            "block by Next",
            "block by Random",
            "next comes round",
            "named address",
            "named block",
            "address again",
            "block again",
            "repeat is refused",
            "lease",
            "no lease",
            "one request",
            "several requests",
            "a grant for each request",
            "more grants than requests",
            "one pool",
            "several pools",
            "tiny pool",
            "huge pool",
            "pools of two address spaces overlap",
            "update forgets a quarantine",
            "quarantine refuses a name",
            "quarantine ends",
            "quarantine passes in a jump",
            "lease ends",
            "lease with a quarantine ends",
            "clock goes back",
            "end of time",
            "nothing is found",
            "address is found",
            "block is found",
            "forgotten savepoint",
            "savepoint without a transaction",
            "last savepoint",
            "savepoint with others in it",
            "first page",
            "page goes on",
            "change between pages",
            "no change between pages",
        ],
    ),
];

fn agrees<S: Store>(allocator: Allocator<S>) {
    let allocator = RefCell::new(allocator);
    for_some_time(&calls(), |calls| {
        let mut allocator = allocator.borrow_mut();
        let mut world = World::new(&mut *allocator);
        calls.iter().for_each(|call| world.perform(call));
    });
    let noted = noted();
    println!("met: {noted:?}");
    let label = |call: &str, what: &str| if call.is_empty() { what.to_owned() } else { format!("{call}: {what}") };
    let to_meet = TO_MEET.iter().flat_map(|(call, all)| all.iter().map(move |what| label(call, what)));
    let never_met: Vec<_> = to_meet.filter(|what| !noted.contains_key(what)).collect();
    assert!(never_met.is_empty(), "never met: {never_met:?}");
}

#[test]
fn memory_agrees_with_the_rules() {
    agrees(Allocator::in_memory());
}

#[test]
fn sqlite_agrees_with_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let options = poolproof_allocator::SqliteOptions {
        synchronous: poolproof_allocator::Synchronous::Normal,
        ..Default::default()
    };
    agrees(Allocator::open_with(folder.path().join("state.db"), options).unwrap());
}

#[test]
fn naive_agrees_with_the_rules() {
    agrees(Allocator::with_store(NaiveStore::default()));
}
