//! Random calls on tiny pools, and random answers to them: right ones, and lies.

use std::net::IpAddr;

use fastrand::Rng;
use poolproof::address::{Count, Grant};
use poolproof::contract::{Clock, ReleaseBy, Repeat};
use poolproof::operation::{
    Allocation, Answer, Kind, Operation, PoolShape, Refusal, Request, Requests, Response, Text, Want, Written,
};

use crate::judge::{END_OF_TIME, Judge, after};

/// Tiny prefixes: each length, neighbours, overlaps, both ends of both families, mapped ones; then malformed ones.
const PREFIXES: [&str; 18] = [
    "10.0.0.0/29",
    "10.0.0.0/30",
    "10.0.0.4/30",
    "10.0.0.8/29",
    "10.0.0.4/31",
    "10.0.0.6/32",
    "0.0.0.0/30",
    "255.255.255.248/29",
    "fd00::/125",
    "fd00::/126",
    "fd00::8/125",
    "fd00::4/127",
    "fd00::6/128",
    "::/126",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff8/125",
    "::ffff:a00:0/125",
    "::ffff:10.0.0.0/126",
    "0:0::0/127",
];
const MALFORMED_PREFIXES: [&str; 9] = [
    "10.0.0.1/29",
    "10.0.0.0",
    "10.0.0.0/33",
    "10.0.0.0/029",
    "010.0.0.0/29",
    "10.0.0.0/255.255.255.248",
    "fd00::/129",
    "fd00::1/125",
    "",
];
const MALFORMED_ADDRESSES: [&str; 8] =
    ["", "x", "10.0.0", "010.0.0.1", " 10.0.0.1", "10.0.0.1 ", "fe80::1%eth0", "10.0.0.1/33"];

/// Kinds that say what happened. `busy`, `storage` and `unknown_outcome` are left out: the protocol does not say when
/// a system may be busy or have trouble with its disk.
const KINDS: [Kind; 9] = [
    Kind::Invalid,
    Kind::Exhausted,
    Kind::Conflict,
    Kind::NotFound,
    Kind::NotOwner,
    Kind::InUse,
    Kind::Unsupported,
    Kind::Internal,
    Kind::Unlisted,
];

/// One of the choices; there is at least one.
fn pick<'a, T>(choices: &'a [T], rng: &mut Rng) -> &'a T {
    &choices[rng.usize(..choices.len())]
}

fn one_in(n: u32, rng: &mut Rng) -> bool {
    rng.u32(..n) == 0
}

fn pool_name(rng: &mut Rng) -> Text {
    let unusual = ["", "p9", "a\0b", "é", &"n".repeat(256)].map(Text::from);
    if one_in(40, rng) { pick(&unusual, rng).clone() } else { format!("p{}", rng.u8(..3)).into() }
}

fn owner_name(rng: &mut Rng) -> Text {
    let unusual = ["", "A", "a\0", "é", &"n".repeat(255), &"n".repeat(256)].map(Text::from);
    if one_in(40, rng) { pick(&unusual, rng).clone() } else { (*pick(&["a", "b", "c"], rng)).into() }
}

/// An address in or next to a pool; anything where there is none.
fn near(judge: &Judge, pool: &Text, rng: &mut Rng) -> IpAddr {
    let prefix = judge.pools().get(pool).map(|pool| &pool.prefix);
    let first = prefix.and_then(|prefix| prefix.first()).copied();
    let first = first.unwrap_or(if rng.bool() { [10, 0, 0, 0].into() } else { [0xfd00, 0, 0, 0, 0, 0, 0, 0].into() });
    let size = prefix.map_or(8, |prefix| prefix.len() as i128);
    let place = if one_in(12, rng) { rng.i128(-2..size + 2) } else { rng.i128(0..size) };
    after(first, place).unwrap_or(first)
}

/// Another spelling of an address, or something close to it that is none.
fn oddly(address: IpAddr, rng: &mut Rng) -> Text {
    let other = match address {
        IpAddr::V4(v4) => format!("::ffff:{v4}"),
        IpAddr::V6(v6) => v6.segments().map(|group| format!("{group:04X}")).join(":"),
    };
    match rng.u8(..4) {
        0 => (*pick(&MALFORMED_ADDRESSES, rng)).into(),
        1 => format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }).into(),
        _ => other.into(),
    }
}

/// An address to name: most often one that matters.
fn address(judge: &Judge, pool: &Text, rng: &mut Rng) -> Written {
    let held: Vec<&Allocation> = judge.held().iter().filter(|held| held.pool == *pool).collect();
    if !held.is_empty() && rng.bool() {
        let grant = pick(&held, rng).address;
        return match grant {
            Grant::Address(address) if one_in(6, rng) => Written::Odd(oddly(address, rng)),
            _ => Written::Plain(grant),
        };
    }
    let address = near(judge, pool, rng);
    if one_in(10, rng) { Written::Odd(oddly(address, rng)) } else { Written::Plain(Grant::Address(address)) }
}

fn shape(judge: &Judge, pool: &Text, prefix: &str, rng: &mut Rng) -> PoolShape {
    let first = prefix.split('/').next().and_then(|first| first.parse().ok());
    let place = |rng: &mut Rng| -> Text {
        let address = match first {
            Some(first) => after(first, rng.i128(-1..9).max(i128::from(rng.u8(..2)))).unwrap_or(first),
            None => near(judge, pool, rng),
        };
        if one_in(40, rng) { oddly(address, rng) } else { address.to_string().into() }
    };
    let ordered = |one: Text, other: Text, rng: &mut Rng| match (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        (Ok(first), Ok(last)) if first > last && !one_in(12, rng) => (other, one),
        _ => (one, other),
    };
    let mut ranges = Vec::new();
    for _ in 0..*pick(&[0, 0, 0, 1, 1, 2], rng) {
        let (one, other) = (place(rng), place(rng));
        ranges.push(ordered(one, other, rng));
    }
    let gateway = one_in(3, rng).then(|| place(rng));
    let mut exclude = Vec::new();
    for _ in 0..*pick(&[0, 0, 0, 1, 1, 2], rng) {
        let (one, other) = (place(rng), place(rng));
        let (one, other) = ordered(one, other, rng);
        exclude.push(match rng.u8(..4) {
            0 => format!("{one}-{other}").into(),
            1 => format!("{one}/{}", if one.contains(':') { 126 + rng.u8(..3) } else { 30 + rng.u8(..3) }).into(),
            _ => one,
        });
    }
    PoolShape { ranges, gateway, exclude }
}

fn requests(judge: &Judge, rng: &mut Rng) -> Requests<Written> {
    let contract = judge.contract();
    let mut requests = Requests::new();
    for _ in 0..*pick(&[1, 1, 1, 1, 1, 2, 2, 3, 0], rng) {
        let pool = pool_name(rng);
        // "what a second `allocate` by the same owner in the same pool yields": a second request of one call is no
        // second `allocate`, and what it yields is not said.
        if contract.repeat != Repeat::Another && requests.iter().any(|other: &Request| other.pool == pool) {
            continue;
        }
        let blocks = if contract.blocks { 3 } else { 60 };
        let is_v6 = judge.pools().get(&pool).is_some_and(|pool| pool.prefix.iter().all(IpAddr::is_ipv6));
        let want = if one_in(blocks, rng) {
            Want::Block(if is_v6 { 124 + rng.u8(..6) } else { 28 + rng.u8(..6) })
        } else if one_in(3, rng) {
            Want::Named(address(judge, &pool, rng))
        } else {
            Want::Any
        };
        requests.push(Request { pool, want });
    }
    requests
}

fn milliseconds(judge: &Judge, rng: &mut Rng) -> u64 {
    let left = END_OF_TIME.saturating_sub(judge.now_ms());
    match rng.u8(..40) {
        0 => 0,
        1 => left,
        2 => left.saturating_add(1),
        3 => END_OF_TIME,
        _ => rng.u64(1..12),
    }
}

/// A call that a system with this contract may be sent.
pub(crate) fn call(judge: &Judge, rng: &mut Rng) -> Operation {
    let contract = judge.contract();
    let pool = pool_name(rng);
    let is_leasing = contract.clock == Clock::Virtual;
    match rng.u8(..40) {
        _ if judge.pools().is_empty() && rng.bool() => create(judge, pool, rng),
        0..4 => create(judge, pool, rng),
        4..7 => {
            let prefix = judge.pools().get(&pool).and_then(|pool| pool.prefix.first()).map(ToString::to_string);
            let shape = shape(judge, &pool, &prefix.unwrap_or_default(), rng);
            Operation::UpdatePool { pool, shape }
        }
        7 => Operation::DeletePool { pool },
        8..20 => {
            let ttl_ms = (is_leasing && one_in(2, rng)).then(|| milliseconds(judge, rng));
            Operation::Allocate { owner: owner_name(rng), requests: requests(judge, rng), ttl_ms }
        }
        20..26 => {
            let absent = one_in(if contract.release_by == ReleaseBy::Anyone { 2 } else { 40 }, rng);
            let owner = (!absent).then(|| owner_name(rng));
            let address = address(judge, &pool, rng);
            Operation::Release { pool, address, owner }
        }
        26 => Operation::ReleaseOwner { owner: owner_name(rng) },
        27..30 if is_leasing => {
            let (address, owner) = (address(judge, &pool, rng), owner_name(rng));
            Operation::Renew { pool, address, owner, ttl_ms: milliseconds(judge, rng) }
        }
        30..33 if is_leasing => {
            Operation::Advance { ms: if one_in(30, rng) { milliseconds(judge, rng) } else { rng.u64(..6) } }
        }
        33 => Operation::Begin,
        34 => Operation::Commit,
        35 => Operation::Rollback,
        36 => Operation::List { pool: rng.bool().then_some(pool) },
        _ => Operation::Usage { pool },
    }
}

fn create(judge: &Judge, pool: Text, rng: &mut Rng) -> Operation {
    let prefix = if one_in(12, rng) { *pick(&MALFORMED_PREFIXES, rng) } else { *pick(&PREFIXES, rng) };
    let shape = if rng.bool() { PoolShape::default() } else { shape(judge, &pool, prefix, rng) };
    Operation::CreatePool { pool, prefix: prefix.into(), shape }
}

/// An answer that is right by the judge; `None` where the protocol does not name the refusal.
pub(crate) fn right(judge: &Judge, call: &Operation, rng: &mut Rng) -> Option<Response> {
    let options = judge.options(call);
    let kinds: Vec<Kind> = if options.is_refused() { &options.must } else { &options.may }.iter().copied().collect();
    if options.is_refused() || (!kinds.is_empty() && rng.bool()) {
        return (!kinds.is_empty()).then(|| refusal(*pick(&kinds, rng)));
    }
    done(judge, call, rng).map(Ok)
}

fn refusal(kind: Kind) -> Response {
    Err(Refusal { kind, message: "refused".into() })
}

/// The result of a call that can be done.
fn done(judge: &Judge, call: &Operation, rng: &mut Rng) -> Option<Answer> {
    let end = |ttl_ms: u64| judge.now_ms().saturating_add(ttl_ms);
    Some(match call {
        Operation::Allocate { owner, requests, ttl_ms } => {
            let grants = judge.some_grants(owner, requests, rng)?.into();
            Answer::Granted { grants, expires_ms: ttl_ms.map(end) }
        }
        Operation::ReleaseOwner { owner } => {
            let mine = judge.held().iter().filter(|held| held.owner == *owner);
            let mut released: Vec<_> = mine.map(|held| (held.pool.clone(), held.address)).collect();
            rng.shuffle(&mut released);
            Answer::Released(released)
        }
        Operation::Renew { ttl_ms, .. } => Answer::Renewed { expires_ms: end(*ttl_ms) },
        Operation::List { pool } => {
            let asked = judge.held().iter().filter(|held| pool.as_ref().is_none_or(|pool| *pool == held.pool));
            let mut listed: Vec<Allocation> = asked.cloned().collect();
            rng.shuffle(&mut listed);
            Answer::Listed(listed)
        }
        Operation::Usage { pool } => {
            let (allocatable, allocated) = judge.usage(pool);
            Answer::Usage { allocatable: allocatable.into(), allocated: allocated.into() }
        }
        Operation::Advance { ms } => Answer::Now { now_ms: end(*ms) },
        _ => Answer::Done,
    })
}

/// An answer that is most likely wrong: another kind, a result that is a little off, a result in place of a refusal.
pub(crate) fn lie(judge: &Judge, call: &Operation, rng: &mut Rng) -> Response {
    if one_in(3, rng) {
        return refusal(*pick(&KINDS, rng));
    }
    let honest = done(judge, call, rng).unwrap_or_else(|| made_up(judge, call, rng));
    if one_in(20, rng) {
        let other = [Answer::Done, Answer::Now { now_ms: 1 }, Answer::Listed(Vec::new()), Answer::Released(Vec::new())];
        return Ok(pick(&other, rng).clone());
    }
    Ok(bent(judge, call, honest, rng))
}

/// Grants for a call that cannot be done.
fn made_up(judge: &Judge, call: &Operation, rng: &mut Rng) -> Answer {
    let Operation::Allocate { requests, ttl_ms, .. } = call else { return Answer::Done };
    let grants = requests.iter().map(|request| grant(judge, request, rng)).collect();
    Answer::Granted { grants, expires_ms: ttl_ms.map(|ttl_ms| judge.now_ms().saturating_add(ttl_ms)) }
}

/// A grant that looks as if it belonged to a request.
fn grant(judge: &Judge, request: &Request, rng: &mut Rng) -> Grant {
    let address = near(judge, &request.pool, rng);
    match &request.want {
        Want::Named(written) if rng.bool() => written.meaning().unwrap_or(Grant::Address(address)),
        Want::Block(length) if !one_in(8, rng) => {
            let length = if one_in(6, rng) { length.saturating_add(1) } else { *length };
            let firsts = (0..8).filter_map(|back| after(address, -back));
            let mut blocks = firsts.filter_map(|first| Grant::parse(&format!("{first}/{length}")));
            blocks.next().unwrap_or(Grant::Address(address))
        }
        _ => Grant::Address(address),
    }
}

/// A result that is a little off; sometimes it is right all the same.
fn bent(judge: &Judge, call: &Operation, honest: Answer, rng: &mut Rng) -> Answer {
    let off = |number: u64, rng: &mut Rng| if rng.bool() { number.saturating_add(1) } else { number.saturating_sub(1) };
    match (honest, call) {
        (Answer::Granted { mut grants, expires_ms }, Operation::Allocate { requests, .. }) => {
            let end = expires_ms.map(|end| if one_in(3, rng) { off(end, rng) } else { end });
            let end = if one_in(12, rng) { end.xor(Some(judge.now_ms() + 5)) } else { end };
            match rng.u8(..12) {
                0 => drop(grants.pop()),
                1 => grants.extend(grants.first().copied()),
                2 if grants.len() > 1 => grants.rotate_left(1),
                _ => {
                    let index = rng.usize(..grants.len().max(1));
                    if let (Some(old), Some(request)) = (grants.get_mut(index), requests.get(index)) {
                        *old = grant(judge, request, rng);
                    }
                }
            }
            Answer::Granted { grants, expires_ms: end }
        }
        (Answer::Released(mut released), _) => {
            match (rng.u8(..3), released.pop()) {
                (0, last) => released.extend(last.iter().cycle().take(2).cloned()),
                (1, Some((pool, address))) => released.push((if rng.bool() { "p0".into() } else { pool }, address)),
                (1, None) => released.push(("p0".into(), Grant::Address(near(judge, &"p0".into(), rng)))),
                _ => {}
            }
            Answer::Released(released)
        }
        (Answer::Renewed { expires_ms }, _) => Answer::Renewed { expires_ms: off(expires_ms, rng) },
        (Answer::Listed(listed), _) => Answer::Listed(bent_listing(judge, listed, rng)),
        (Answer::Usage { allocatable, allocated }, _) => {
            let up = rng.bool();
            let more = |count: Count| if up { count.plus(1.into()) } else { count.minus(count.min(1.into())) };
            match rng.bool() {
                true => Answer::Usage { allocatable: more(allocatable), allocated },
                false => Answer::Usage { allocatable, allocated: more(allocated) },
            }
        }
        (Answer::Now { now_ms }, _) => Answer::Now { now_ms: off(now_ms, rng) },
        (other, _) => other,
    }
}

fn bent_listing(judge: &Judge, mut listed: Vec<Allocation>, rng: &mut Rng) -> Vec<Allocation> {
    let Some(mut row) = listed.pop() else {
        let (pool, owner) = (pool_name(rng), owner_name(rng));
        let address = Grant::Address(near(judge, &pool, rng));
        return vec![Allocation { pool, address, owner, expires_ms: None }];
    };
    match rng.u8(..6) {
        0 => return listed,
        1 => listed.push(row.clone()),
        2 => row.owner = owner_name(rng),
        3 => row.pool = pool_name(rng),
        4 => row.address = Grant::Address(near(judge, &row.pool, rng)),
        _ => row.expires_ms = if rng.bool() { row.expires_ms.map(|end| end + 1) } else { row.expires_ms.xor(Some(7)) },
    }
    listed.push(row);
    listed
}
