//! What every rival may do: the steps of Poolproof's scenarios, as types that each framework can draw by itself.
//!
//! Operands are what somebody who tests an allocator would write down: three pools of two families, small prefixes and
//! huge ones, plain owners and odd ones, addresses that were granted or stand at an end of a prefix, in every spelling.
//! An [`Op`] does not depend on what a system answers; [`Writer`] turns one after the other into steps.

// hegel's derive writes a function with a parameter for each variant.
#![allow(clippy::too_many_arguments)]

use arbitrary::Arbitrary;
use bolero_generator::TypeGenerator;
use hegel::DefaultGenerator;
use poolproof::operation::{Operation, PoolShape, Request, Text, Want};
use poolproof::scenario::{GrantRef, Operand, Scenario, Spelling, Step};
use proptest_derive::Arbitrary as Proptest;

/// A whole test: pools to begin with, then operations.
#[derive(Arbitrary, Clone, Debug, DefaultGenerator, TypeGenerator)]
pub struct Test {
    pub first: PoolSpec,
    pub second: Option<PoolSpec>,
    pub ops: Vec<Op>,
}

/// What a pool is to be.
#[derive(Arbitrary, Clone, Debug, DefaultGenerator, Proptest, TypeGenerator)]
pub struct PoolSpec {
    pub prefix: Prefix,
    pub shape: Shape,
}

/// One operation.
#[derive(Arbitrary, Clone, Debug, DefaultGenerator, TypeGenerator)]
pub enum Op {
    CreatePool {
        pool: Pool,
        spec: PoolSpec,
    },
    UpdatePool {
        pool: Pool,
        net: Net,
        shape: Shape,
    },
    DeletePool {
        pool: Pool,
    },
    Allocate {
        owner: Owner,
        pool: Pool,
        ttl: Option<Time>,
    },
    AllocateNamed {
        owner: Owner,
        pool: Pool,
        address: Address,
        ttl: Option<Time>,
    },
    AllocateBlock {
        owner: Owner,
        pool: Pool,
        family: Net,
        size: HostBits,
        ttl: Option<Time>,
    },
    AllocateSeveral {
        owner: Owner,
        first: Wanted,
        second: Wanted,
        ttl: Option<Time>,
    },
    /// Gives back what an earlier operation was granted, as its owner.
    ReleaseGranted {
        grant: Earlier,
    },
    Release {
        pool: Pool,
        address: Address,
        owner: Option<Owner>,
    },
    ReleaseOwner {
        owner: Owner,
    },
    RenewGranted {
        grant: Earlier,
        ttl: Time,
    },
    Renew {
        pool: Pool,
        address: Address,
        owner: Owner,
        ttl: Time,
    },
    Begin,
    Commit,
    Rollback,
    List {
        pool: Option<Pool>,
    },
    Usage {
        pool: Pool,
    },
    Advance {
        ms: Time,
    },
    AdvanceToEnd {
        lease: Earlier,
        side: Side,
    },
    Fill {
        pool: Pool,
        owner: Owner,
        count: Count,
        ttl: Option<Time>,
    },
    Drain {
        pool: Pool,
        count: Count,
    },
    Replay {
        call: Earlier,
    },
    Restart,
    Crash,
}

/// The pools by name.
#[derive(Arbitrary, Clone, Copy, Debug, DefaultGenerator, PartialEq, Proptest, TypeGenerator)]
pub enum Pool {
    #[proptest(weight = 4)]
    First,
    #[proptest(weight = 2)]
    Second,
    Third,
}

/// Who asks.
#[derive(Arbitrary, Clone, Debug, DefaultGenerator, Proptest, TypeGenerator)]
pub enum Owner {
    #[proptest(weight = 4)]
    Alice,
    #[proptest(weight = 4)]
    Bob,
    #[proptest(weight = 2)]
    Carol,
    Odd(OddOwner),
}

/// Owners that implementations stumble over.
#[derive(Arbitrary, Clone, Debug, DefaultGenerator, Proptest, TypeGenerator)]
pub enum OddOwner {
    Capital,
    TrailingSpace,
    Shorter,
    Longer,
    Quote,
    Backslash,
    Percent,
    Path,
    Accent,
    CombiningAccent,
    Newline,
    LongestOnes,
    LongestTwos,
    TooLong,
    Empty,
    Any(String),
}

/// Where a pool lies; pools of the same net and family overlap.
#[derive(Arbitrary, Clone, Copy, Debug, DefaultGenerator, PartialEq, Proptest, TypeGenerator)]
pub enum Net {
    V4,
    OtherV4,
    V6,
}

/// A pool's prefix.
#[derive(Arbitrary, Clone, Debug, DefaultGenerator, Proptest, TypeGenerator)]
pub enum Prefix {
    #[proptest(weight = 12)]
    Small {
        net: Net,
        size: HostBits,
    },
    Other(OtherPrefix),
}

/// Prefixes that are huge, at an end of the space, or malformed.
#[derive(Arbitrary, Clone, Debug, DefaultGenerator, Proptest, TypeGenerator)]
pub enum OtherPrefix {
    Eight,
    ThirtyTwo,
    SixtyFour,
    All,
    LowestV4,
    HighestV4,
    HighestV6,
    HostBitsSet,
    TooLong,
    LeadingZero,
    Mapped,
    Netmask,
    Text(String),
}

/// The size of a prefix or block, as a number of bits.
#[derive(Arbitrary, Clone, Copy, Debug, DefaultGenerator, PartialEq, Proptest, TypeGenerator)]
pub enum HostBits {
    None,
    One,
    Two,
    Three,
    Four,
    Five,
}

/// What of a prefix may be handed out.
#[derive(Arbitrary, Clone, Debug, Default, DefaultGenerator, Proptest, TypeGenerator)]
pub struct Shape {
    pub range: Option<Range>,
    pub other_range: Option<Range>,
    pub gateway: Option<Place>,
    pub exclude: Option<Exclusion>,
    pub other_exclude: Option<Exclusion>,
}

/// A range of addresses.
#[derive(Arbitrary, Clone, Debug, DefaultGenerator, Proptest, TypeGenerator)]
pub struct Range {
    pub first: Place,
    pub last: Place,
}

/// Something never to be handed out.
#[derive(Arbitrary, Clone, Debug, DefaultGenerator, Proptest, TypeGenerator)]
pub enum Exclusion {
    Address(Place),
    Range(Range),
    Block(Place, HostBits),
}

/// A place in a net, counted from its first address.
#[derive(Arbitrary, Clone, Copy, Debug, DefaultGenerator, PartialEq, Proptest, TypeGenerator)]
pub enum Place {
    P0,
    P1,
    P2,
    P3,
    P4,
    P5,
    P6,
    P7,
}

/// An address in a call.
#[derive(Arbitrary, Clone, Debug, DefaultGenerator, Proptest, TypeGenerator)]
pub enum Address {
    #[proptest(weight = 4)]
    Granted(Earlier, Spelled),
    #[proptest(weight = 4)]
    FromFirst(Place, Spelled),
    #[proptest(weight = 2)]
    FromLast(Place, Spelled),
    Other(OtherAddress),
}

/// How an address is written.
#[derive(Arbitrary, Clone, Debug, DefaultGenerator, Proptest, TypeGenerator)]
pub enum Spelled {
    #[proptest(weight = 8)]
    Plain,
    Odd(OddSpelling),
}

/// Every other spelling: those of `Spelling`, as a type of this crate, because only such types can derive a generator.
#[derive(Arbitrary, Clone, Copy, Debug, DefaultGenerator, PartialEq, Proptest, TypeGenerator)]
pub enum OddSpelling {
    Upper,
    Full,
    Zeros,
    Dotted,
    Mapped,
    Octal,
    Zone,
    Space,
    Cidr,
    LineFeed,
}

/// Addresses of no pool, blocks, and what is no address.
#[derive(Arbitrary, Clone, Debug, DefaultGenerator, Proptest, TypeGenerator)]
pub enum OtherAddress {
    Loopback,
    Unspecified,
    Broadcast,
    V6Loopback,
    BeforeTheNet,
    Block(Net, Place, HostBits),
    Empty,
    Text(String),
}

/// A request among several.
#[derive(Arbitrary, Clone, Debug, DefaultGenerator, Proptest, TypeGenerator)]
pub enum Wanted {
    #[proptest(weight = 3)]
    Any(Pool),
    Named(Pool, Address),
    Block(Pool, Net, HostBits),
}

/// An earlier operation: so many before the last one that could be granted something, or be repeated.
#[derive(Arbitrary, Clone, Copy, Debug, DefaultGenerator, PartialEq, Proptest, TypeGenerator)]
pub enum Earlier {
    Last,
    Second,
    Third,
    Fourth,
    Eighth,
}

/// A time, or a length of time.
#[derive(Arbitrary, Clone, Copy, Debug, DefaultGenerator, PartialEq, Proptest, TypeGenerator)]
pub enum Time {
    One,
    Ten,
    Second,
    Minute,
    Zero,
    TwoMonths,
    Longest,
}

/// Beside the end of a lease.
#[derive(Arbitrary, Clone, Copy, Debug, DefaultGenerator, PartialEq, Proptest, TypeGenerator)]
pub enum Side {
    Before,
    At,
    After,
}

/// How many.
#[derive(Arbitrary, Clone, Copy, Debug, DefaultGenerator, PartialEq, Proptest, TypeGenerator)]
pub enum Count {
    One,
    Two,
    Few,
    Many,
    All,
}

impl Test {
    /// The test as a scenario.
    pub fn scenario(&self) -> Scenario {
        let mut writer = Writer::default();
        let pools = [(Pool::First, Some(&self.first)), (Pool::Second, self.second.as_ref())];
        let made = pools.into_iter().filter_map(|(pool, new)| Some(Op::CreatePool { pool, spec: new?.clone() }));
        Scenario { steps: made.chain(self.ops.iter().cloned()).map(|op| writer.write(&op)).collect() }
    }
}

/// Turns operations into steps. It knows which steps may have been granted something, and to whom.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    steps: u32,
    grants: Vec<Granting>,
    calls: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Granting {
    step: u32,
    owner: Text,
    pool: Text,
}

/// A reference that leads nowhere: the step is skipped.
const NOWHERE: GrantRef = GrantRef { step: u32::MAX, nth: 0 };

impl Writer {
    /// The next operation as a step.
    pub fn write(&mut self, op: &Op) -> Step {
        let step = self.step(op);
        if let Some((owner, pool)) = granting(&step) {
            self.grants.push(Granting { step: self.steps, owner, pool });
        }
        if matches!(step, Step::Call(_)) {
            self.calls.push(self.steps);
        }
        self.steps += 1;
        step
    }

    /// Passes over a step that somebody else wrote.
    pub fn skip(&mut self) {
        self.steps += 1;
    }

    /// How many steps there are that may have been granted something.
    pub fn grants(&self) -> usize {
        self.grants.len()
    }

    fn step(&self, op: &Op) -> Step {
        Step::Call(match op {
            Op::CreatePool { pool, spec: new } => {
                let net = new.prefix.net();
                Operation::CreatePool { pool: pool.name(), prefix: new.prefix.text(), shape: new.shape.in_net(net) }
            }
            Op::UpdatePool { pool, net, shape } => {
                Operation::UpdatePool { pool: pool.name(), shape: shape.in_net(*net) }
            }
            Op::DeletePool { pool } => Operation::DeletePool { pool: pool.name() },
            Op::Allocate { owner, pool, ttl } => self.allocate(owner, &[Wanted::Any(*pool)], *ttl),
            Op::AllocateNamed { owner, pool, address, ttl } => {
                self.allocate(owner, &[Wanted::Named(*pool, address.clone())], *ttl)
            }
            Op::AllocateBlock { owner, pool, family, size, ttl } => {
                self.allocate(owner, &[Wanted::Block(*pool, *family, *size)], *ttl)
            }
            Op::AllocateSeveral { owner, first, second, ttl } => {
                self.allocate(owner, &[first.clone(), second.clone()], *ttl)
            }
            Op::ReleaseGranted { grant } => {
                let (pool, owner, address) = self.earlier(*grant);
                Operation::Release { pool, address, owner: Some(owner) }
            }
            Op::Release { pool, address, owner } => Operation::Release {
                pool: pool.name(),
                address: self.operand(address),
                owner: owner.as_ref().map(Owner::name),
            },
            Op::ReleaseOwner { owner } => Operation::ReleaseOwner { owner: owner.name() },
            Op::RenewGranted { grant, ttl } => {
                let (pool, owner, address) = self.earlier(*grant);
                Operation::Renew { pool, address, owner, ttl_ms: ttl.ms() }
            }
            Op::Renew { pool, address, owner, ttl } => Operation::Renew {
                pool: pool.name(),
                address: self.operand(address),
                owner: owner.name(),
                ttl_ms: ttl.ms(),
            },
            Op::Begin => Operation::Begin,
            Op::Commit => Operation::Commit,
            Op::Rollback => Operation::Rollback,
            Op::List { pool } => Operation::List { pool: pool.map(Pool::name) },
            Op::Usage { pool } => Operation::Usage { pool: pool.name() },
            Op::Advance { ms } => Operation::Advance { ms: ms.ms() },
            Op::AdvanceToEnd { lease, side } => {
                return Step::AdvanceTo { lease: self.reference(*lease), offset_ms: side.offset_ms() };
            }
            Op::Fill { pool, owner, count, ttl } => {
                let (pool, owner, ttl_ms) = (pool.name(), owner.name(), ttl.map(Time::ms));
                return Step::Fill { pool, owner, count: count.number(), ttl_ms };
            }
            Op::Drain { pool, count } => return Step::Drain { pool: pool.name(), count: count.number() },
            Op::Replay { call } => {
                let place = self.calls.len().checked_sub(call.back());
                return Step::Repeat { step: place.map_or(u32::MAX, |place| self.calls[place]) };
            }
            Op::Restart => return Step::Restart,
            Op::Crash => return Step::Crash,
        })
    }

    fn allocate(&self, owner: &Owner, wanted: &[Wanted], ttl: Option<Time>) -> Operation<Operand> {
        let request = |wanted: &Wanted| {
            let (pool, want) = match wanted {
                Wanted::Any(pool) => (pool, Want::Any),
                Wanted::Named(pool, address) => (pool, Want::Named(self.operand(address))),
                Wanted::Block(pool, family, size) => (pool, Want::Block(family.bits() - size.bits())),
            };
            Request { pool: pool.name(), want }
        };
        let requests = wanted.iter().map(request).collect();
        Operation::Allocate { owner: owner.name(), requests, ttl_ms: ttl.map(Time::ms) }
    }

    fn reference(&self, earlier: Earlier) -> GrantRef {
        let place = self.grants.len().checked_sub(earlier.back());
        place.map_or(NOWHERE, |place| GrantRef { step: self.grants[place].step, nth: 0 })
    }

    /// Pool, owner and address of an earlier grant.
    fn earlier(&self, earlier: Earlier) -> (Text, Text, Operand) {
        let place = self.grants.len().checked_sub(earlier.back());
        let (pool, owner) = match place {
            Some(place) => (self.grants[place].pool.clone(), self.grants[place].owner.clone()),
            None => (Pool::First.name(), Owner::Alice.name()),
        };
        (pool, owner, Operand::Granted(self.reference(earlier), Spelling::Plain))
    }

    fn operand(&self, address: &Address) -> Operand {
        match address {
            Address::Granted(earlier, spelled) => Operand::Granted(self.reference(*earlier), spelled.spelling()),
            Address::FromFirst(place, spelled) => Operand::Nth(i64::from(place.number()), spelled.spelling()),
            Address::FromLast(place, spelled) => Operand::Nth(-1 - i64::from(place.number()), spelled.spelling()),
            Address::Other(other) => Operand::Literal(other.text()),
        }
    }
}

/// Owner and first pool of a step that may be granted something.
fn granting(step: &Step) -> Option<(Text, Text)> {
    match step {
        Step::Call(Operation::Allocate { owner, requests, .. }) => {
            Some((owner.clone(), requests.first()?.pool.clone()))
        }
        Step::Fill { pool, owner, .. } => Some((owner.clone(), pool.clone())),
        _ => None,
    }
}

impl Pool {
    fn name(self) -> Text {
        match self {
            Pool::First => "p0".into(),
            Pool::Second => "p1".into(),
            Pool::Third => "p10".into(),
        }
    }
}

impl Owner {
    fn name(&self) -> Text {
        match self {
            Owner::Alice => "alice".into(),
            Owner::Bob => "bob".into(),
            Owner::Carol => "carol".into(),
            Owner::Odd(odd) => odd.name(),
        }
    }
}

impl OddOwner {
    fn name(&self) -> Text {
        match self {
            OddOwner::Capital => "Alice".into(),
            OddOwner::TrailingSpace => "alice ".into(),
            OddOwner::Shorter => "alic".into(),
            OddOwner::Longer => "alice1".into(),
            OddOwner::Quote => "' or 1=1 --".into(),
            OddOwner::Backslash => "a\\nb".into(),
            OddOwner::Percent => "%".into(),
            OddOwner::Path => "../../etc/passwd".into(),
            OddOwner::Accent => "é".into(),
            OddOwner::CombiningAccent => "e\u{301}".into(),
            OddOwner::Newline => "a\nb".into(),
            OddOwner::LongestOnes => "1".repeat(255).into(),
            OddOwner::LongestTwos => "2".repeat(255).into(),
            OddOwner::TooLong => "1".repeat(256).into(),
            OddOwner::Empty => "".into(),
            OddOwner::Any(name) => name.as_str().into(),
        }
    }
}

impl Net {
    fn address(self, place: u8) -> String {
        match self {
            Net::V4 => format!("10.0.0.{place}"),
            Net::OtherV4 => format!("10.0.1.{place}"),
            Net::V6 => format!("2001:db8::{place:x}"),
        }
    }

    fn bits(self) -> u8 {
        if self == Net::V6 { 128 } else { 32 }
    }

    fn block(self, place: Place, size: HostBits) -> Text {
        let first = place.number() >> size.bits() << size.bits();
        format!("{}/{}", self.address(first), self.bits() - size.bits()).into()
    }
}

impl Prefix {
    /// The net that a shape in it is written for.
    pub fn net(&self) -> Net {
        match self {
            Prefix::Small { net, .. } => *net,
            Prefix::Other(OtherPrefix::ThirtyTwo | OtherPrefix::SixtyFour | OtherPrefix::All) => Net::V6,
            Prefix::Other(_) => Net::V4,
        }
    }

    fn text(&self) -> Text {
        match self {
            Prefix::Small { net, size } => net.block(Place::P0, *size),
            Prefix::Other(other) => other.text(),
        }
    }
}

impl OtherPrefix {
    fn text(&self) -> Text {
        match self {
            OtherPrefix::Eight => "10.0.0.0/8",
            OtherPrefix::ThirtyTwo => "2001:db8::/32",
            OtherPrefix::SixtyFour => "2001:db8::/64",
            OtherPrefix::All => "::/0",
            OtherPrefix::LowestV4 => "0.0.0.0/29",
            OtherPrefix::HighestV4 => "255.255.255.248/29",
            OtherPrefix::HighestV6 => "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff8/125",
            OtherPrefix::HostBitsSet => "10.0.0.5/24",
            OtherPrefix::TooLong => "10.0.0.0/33",
            OtherPrefix::LeadingZero => "10.0.0.0/024",
            OtherPrefix::Mapped => "::ffff:10.0.0.0/125",
            OtherPrefix::Netmask => "10.0.0.0/255.255.255.0",
            OtherPrefix::Text(text) => text.as_str(),
        }
        .into()
    }
}

impl HostBits {
    fn bits(self) -> u8 {
        self as u8
    }
}

impl Shape {
    fn in_net(&self, net: Net) -> PoolShape {
        let address = |place: &Place| Text::from(net.address(place.number()));
        let range = |range: &Range| (address(&range.first), address(&range.last));
        let exclusion = |exclusion: &Exclusion| match exclusion {
            Exclusion::Address(place) => address(place),
            Exclusion::Range(Range { first, last }) => format!("{}-{}", address(first), address(last)).into(),
            Exclusion::Block(place, size) => net.block(*place, *size),
        };
        PoolShape {
            ranges: [&self.range, &self.other_range].into_iter().flatten().map(range).collect(),
            gateway: self.gateway.as_ref().map(address),
            exclude: [&self.exclude, &self.other_exclude].into_iter().flatten().map(exclusion).collect(),
        }
    }
}

impl Place {
    fn number(self) -> u8 {
        self as u8
    }
}

impl Spelled {
    fn spelling(&self) -> Spelling {
        match self {
            Spelled::Plain => Spelling::Plain,
            Spelled::Odd(OddSpelling::Upper) => Spelling::Upper,
            Spelled::Odd(OddSpelling::Full) => Spelling::Full,
            Spelled::Odd(OddSpelling::Zeros) => Spelling::Zeros,
            Spelled::Odd(OddSpelling::Dotted) => Spelling::Dotted,
            Spelled::Odd(OddSpelling::Mapped) => Spelling::Mapped,
            Spelled::Odd(OddSpelling::Octal) => Spelling::Octal,
            Spelled::Odd(OddSpelling::Zone) => Spelling::Zone,
            Spelled::Odd(OddSpelling::Space) => Spelling::Space,
            Spelled::Odd(OddSpelling::Cidr) => Spelling::Cidr,
            Spelled::Odd(OddSpelling::LineFeed) => Spelling::LineFeed,
        }
    }
}

impl OtherAddress {
    fn text(&self) -> Text {
        match self {
            OtherAddress::Loopback => "127.0.0.1".into(),
            OtherAddress::Unspecified => "0.0.0.0".into(),
            OtherAddress::Broadcast => "255.255.255.255".into(),
            OtherAddress::V6Loopback => "::1".into(),
            OtherAddress::BeforeTheNet => "9.255.255.255".into(),
            OtherAddress::Block(net, place, size) => net.block(*place, *size),
            OtherAddress::Empty => "".into(),
            OtherAddress::Text(text) => text.as_str().into(),
        }
    }
}

impl Earlier {
    /// Counted from 1, the last.
    fn back(self) -> usize {
        match self {
            Earlier::Last => 1,
            Earlier::Second => 2,
            Earlier::Third => 3,
            Earlier::Fourth => 4,
            Earlier::Eighth => 8,
        }
    }
}

impl Time {
    /// In milliseconds.
    pub fn ms(self) -> u64 {
        match self {
            Time::One => 1,
            Time::Ten => 10,
            Time::Second => 1_000,
            Time::Minute => 60_000,
            Time::Zero => 0,
            Time::TwoMonths => 5_000_000_000,
            Time::Longest => (1 << 53) - 1,
        }
    }
}

impl Side {
    fn offset_ms(self) -> i64 {
        match self {
            Side::Before => -1,
            Side::At => 0,
            Side::After => 1,
        }
    }
}

impl Count {
    fn number(self) -> u32 {
        match self {
            Count::One => 1,
            Count::Two => 2,
            Count::Few => 5,
            Count::Many => 20,
            Count::All => 300,
        }
    }
}
