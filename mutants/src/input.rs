//! Input that is stumbled over, arithmetic that wraps, and calls that take for ever.

use std::hint::black_box;
use std::time::Duration;

use poolproof_core::address::{Family, Grant, Span, number, parse_range};
use poolproof_core::contract::Contract;
use poolproof_core::operation::{Answer, Kind, Operation, PoolShape, Refusal, Request, Response, Text, Want, Written};
use poolproof_core::property::Property::{
    Accounted, Bounded, Classified, Complete, Contained, Discreet, Inert, Owned, Scoped, Total,
};
use rusqlite::{Connection, params};

use crate::base::{Base, any_one, is_refused, refuse};
use crate::faulty::{Bug, Calls, Mutant, Setting};

/// The mutants here.
pub const MUTANTS: &[Mutant] = &[
    Mutant::new("shift-by-width", &[Accounted, Complete, Total], || Box::new(Calls(shift_by_width))).in_steps(1),
    Mutant::new("random-spins-when-full", &[Total, Bounded], || Box::new(Calls(random_spins_when_full)))
        .in_steps(2)
        .set(Setting::RANDOM.promising(impatient)),
    Mutant::new("specific-scans-or-quadratic", &[Bounded], || Box::new(Calls(specific_scans))).in_steps(2),
    Mutant::new("reversed-and-junk-range", &[Total, Contained, Classified, Scoped], || {
        Box::new(Calls(reversed_and_junk_range))
    })
    .in_steps(1),
    Mutant::new("namespace-into-sql", &[Inert, Owned, Discreet, Classified], || Box::new(Calls(namespace_into_sql)))
        .in_steps(1),
];

/// Nobody should wait long for what never comes.
fn impatient(contract: Contract) -> Contract {
    Contract { timeout_ms: 300, ..contract }
}

/// infra-controller (#2239), ipnetwork (#130), vm-allocator (a05ed33): `1 << host_bits` in as many bits as an address has, or a
/// register; a size of 0 then reads as full.
fn shift_by_width(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let is_wide = |(family, prefix): (Family, Span)| match family {
        Family::V4 => prefix.count().saturated() > u32::MAX.into(),
        Family::V6 => prefix.count().saturated() > u64::MAX.into(),
    };
    match operation {
        Operation::Usage { pool } if bug.is_on() && base.prefix(pool).is_some_and(is_wide) => {
            Ok(Answer::Usage { allocatable: 0.into(), allocated: 0.into() })
        }
        _ => match any_one(operation) {
            Some(asked) if bug.is_on() && asked.ttl_ms != Some(0) && base.prefix(asked.pool).is_some_and(is_wide) => {
                refuse(Kind::Exhausted)
            }
            _ => base.call(operation),
        },
    }
}

/// headscale (commit f61753e7), Kea (ChangeLog 883): an address is drawn until it is a free one, in a full pool as well.
fn random_spins_when_full(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    if bug.is_on() && any_one(operation).is_some() && is_refused(&response, Kind::Exhausted) {
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    response
}

/// So many addresses are walked at most, so that a scenario ends some time.
const LONGEST_WALK: u128 = 1 << 26;

/// go-ipam (#47), infra-controller (PR #6384), whereabouts (PR #282): a named address is looked for from the start of the prefix.
fn specific_scans(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    let Operation::Allocate { requests, .. } = operation else { return response };
    if let [Request { pool, want: Want::Named(Written::Plain(Grant::Address(address))) }] = requests.as_slice()
        && bug.is_on()
        && let Some((_, prefix)) = base.prefix(pool)
    {
        let far = number(*address).saturating_sub(prefix.first).min(LONGEST_WALK);
        for step in 0..far {
            black_box(step);
        }
    }
    response
}

/// Antrea (#7307, c1b31528b): a range from its end to its start is taken for one, and an empty text for the zero address.
fn reversed_and_junk_range(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let response = base.call(operation);
    match operation {
        Operation::CreatePool { pool, prefix, shape } if bug.is_on() && is_refused(&response, Kind::Invalid) => {
            let is_reversed = |range: &&(Text, Text)| parse_range(&range.1, &range.0).is_some();
            let turned = shape.ranges.iter().filter(is_reversed).map(|(first, last)| (last.clone(), first.clone()));
            let shape = PoolShape { ranges: turned.collect(), ..shape.clone() };
            if shape.ranges.is_empty() {
                return response;
            }
            base.call(&Operation::CreatePool { pool: pool.clone(), prefix: prefix.clone(), shape })
        }
        Operation::Allocate { requests, ttl_ms, .. } => match requests.as_slice() {
            [Request { want: Want::Named(Written::Odd(text)), .. }] if bug.is_on() && text.is_empty() => {
                base.pretend([Grant::Address(Family::V4.address(0))], *ttl_ms)
            }
            _ => response,
        },
        _ => response,
    }
}

/// go-ipam (`getTableName`), phpIPAM (1e6000d3): a name becomes a part of a statement. Here it is the owner's, when all that it
/// holds is released.
fn namespace_into_sql(base: &mut Base, operation: &Operation, bug: Bug) -> Response {
    let Operation::ReleaseOwner { owner } = operation else { return base.call(operation) };
    let held = base.all_held();
    let found = chosen(held.iter().map(|one| &*one.owner), owner, bug);
    let response = base.call(operation);
    match found {
        Ok(numbers) => {
            for number in numbers {
                held.get(number as usize).into_iter().for_each(|one| base.end(one));
            }
            response
        }
        Err(error) => Err(Refusal { kind: Kind::Storage, message: error.to_string().into() }),
    }
}

/// The numbers of those rows that are the owner's.
fn chosen<'a>(rows: impl Iterator<Item = &'a str>, owner: &str, bug: Bug) -> rusqlite::Result<Vec<u32>> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch("CREATE TABLE held (number INTEGER, owner TEXT)")?;
    for (number, owner) in (0_u32..).zip(rows) {
        connection.execute("INSERT INTO held VALUES (?1, ?2)", params![number, owner])?;
    }
    let query = match bug {
        Bug::On => format!("SELECT number FROM held WHERE owner = '{owner}'"),
        Bug::Off => "SELECT number FROM held WHERE owner = ?1".to_owned(),
    };
    let mut statement = connection.prepare(&query)?;
    let parameters: &[&dyn rusqlite::ToSql] = if bug.is_on() { &[] } else { &[&owner] };
    statement.query_map(parameters, |row| row.get(0))?.collect()
}
