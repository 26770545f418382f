//! The reference allocator behind the protocol's operations; shared by `memory` and `sqlite`.

use std::net::IpAddr;

use poolproof_allocator::store::Store;
use poolproof_allocator::{
    AddressRange, Allocator, Error, ErrorKind, PoolShape as Shape, PoolSpec, Request as Wanted, parse_address,
    parse_prefix,
};
use smallvec::{SmallVec, smallvec};

use crate::address::Grant;
use crate::contract::{Clock, Contract, Methods};
use crate::operation::{
    Allocation, Answer, Kind, Operation, PoolShape, Refusal, Request, Response, Text, Want, Written,
};

/// What the reference allocator promises.
pub(super) fn contract(durable: bool) -> Contract {
    Contract { methods: Methods::all(), clock: Clock::Virtual, durable, ..Contract::default() }
}

/// One call on the allocator.
pub(super) fn call<S: Store>(allocator: &mut Allocator<S>, operation: &Operation) -> Response {
    answer(allocator, operation).map_err(|error| Refusal { kind: kind(error.kind()), message: error.text().into() })
}

fn answer<S: Store>(allocator: &mut Allocator<S>, operation: &Operation) -> Result<Answer, Error> {
    let done = match operation {
        Operation::CreatePool { pool, prefix, shape } => {
            let Shape { ranges, gateway, exclusions } = read_shape(shape)?;
            allocator.create_pool(pool, &PoolSpec { prefix: parse_prefix(prefix)?, ranges, gateway, exclusions })
        }
        Operation::UpdatePool { pool, shape } => allocator.update_pool(pool, &read_shape(shape)?),
        Operation::DeletePool { pool } => allocator.delete_pool(pool),
        Operation::Allocate { owner, requests, ttl_ms } => return allocate(allocator, owner, requests, *ttl_ms),
        Operation::Release { owner: None, .. } => return Err(Error::Invalid("the owner is missing")),
        Operation::Release { pool, address, owner: Some(owner) } => {
            allocator.release(pool, read_address(address)?, owner)
        }
        Operation::ReleaseOwner { owner } => {
            let released = allocator.release_owner(owner)?.into_iter();
            return Ok(Answer::Released(released.map(|one| (one.pool, Grant::Address(one.address))).collect()));
        }
        Operation::Renew { pool, address, owner, ttl_ms } => {
            let expires_ms = allocator.renew(pool, read_address(address)?, owner, *ttl_ms)?;
            return Ok(Answer::Renewed { expires_ms });
        }
        Operation::Begin => allocator.begin(),
        Operation::Commit => allocator.commit(),
        Operation::Rollback => allocator.rollback(),
        Operation::List { pool } => return list(allocator, pool.as_ref()),
        Operation::Usage { pool } => {
            let usage = allocator.usage(pool)?;
            return Ok(Answer::Usage { allocatable: usage.allocatable.into(), allocated: usage.allocated.into() });
        }
        Operation::Advance { ms } => {
            let now_ms = allocator.now_ms()?.checked_add(*ms).ok_or(Error::Invalid("the time is out of range"))?;
            return Ok(Answer::Now { now_ms: allocator.advance_to(now_ms)? });
        }
        Operation::Raw { .. } => Err(Error::Unsupported("there is no wire")),
    };
    done.map(|()| Answer::Done)
}

fn allocate<S: Store>(
    allocator: &mut Allocator<S>,
    owner: &str,
    requests: &[Request],
    ttl_ms: Option<u64>,
) -> Result<Answer, Error> {
    let mut wanted: SmallVec<[Wanted<'_>; 2]> = SmallVec::new();
    for request in requests {
        let address = match &request.want {
            Want::Any => None,
            Want::Named(address) => Some(read_address(address)?),
            Want::Block(_) => return Err(Error::Unsupported("there are no blocks")),
        };
        wanted.push(Wanted { pool: &request.pool, address });
    }
    let granted = allocator.allocate(owner, &wanted, ttl_ms)?;
    let grants = match *granted.addresses {
        [address] => smallvec![Grant::Address(address)],
        ref several => several.iter().copied().map(Grant::Address).collect(),
    };
    Ok(Answer::Granted { grants, expires_ms: granted.expires_ms })
}

fn list<S: Store>(allocator: &mut Allocator<S>, pool: Option<&Text>) -> Result<Answer, Error> {
    let listed = allocator.list(pool.map(|pool| &**pool))?.into_iter().map(|one| Allocation {
        pool: one.pool,
        address: Grant::Address(one.address),
        owner: one.owner,
        expires_ms: one.expires_ms,
    });
    Ok(Answer::Listed(listed.collect()))
}

fn read_address(address: &Written) -> Result<IpAddr, Error> {
    match address {
        Written::Plain(Grant::Address(address)) => Ok(*address),
        Written::Plain(Grant::Block(_)) => Err(Error::Invalid("a prefix is no address")),
        Written::Odd(text) => parse_address(text),
    }
}

fn read_shape(shape: &PoolShape) -> Result<Shape, Error> {
    let range = |(first, last): &(Text, Text)| AddressRange::new(parse_address(first)?, parse_address(last)?);
    Ok(Shape {
        ranges: shape.ranges.iter().map(range).collect::<Result<_, _>>()?,
        gateway: shape.gateway.as_ref().map(|gateway| parse_address(gateway)).transpose()?,
        exclusions: shape.exclude.iter().map(|exclusion| exclusion.parse()).collect::<Result<_, _>>()?,
    })
}

fn kind(kind: ErrorKind) -> Kind {
    match kind {
        ErrorKind::Invalid => Kind::Invalid,
        ErrorKind::Exhausted => Kind::Exhausted,
        ErrorKind::Conflict => Kind::Conflict,
        ErrorKind::NotFound => Kind::NotFound,
        ErrorKind::NotOwner => Kind::NotOwner,
        ErrorKind::InUse => Kind::InUse,
        ErrorKind::Busy => Kind::Busy,
        ErrorKind::Storage => Kind::Storage,
        ErrorKind::UnknownOutcome => Kind::UnknownOutcome,
        ErrorKind::Unsupported => Kind::Unsupported,
        _ => Kind::Unlisted,
    }
}
