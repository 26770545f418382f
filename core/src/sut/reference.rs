//! The reference allocator behind the protocol's operations; shared by `memory` and `sqlite`.

use poolproof_allocator::store::Store;
use poolproof_allocator::{
    AddressRange, Allocator, Error, ErrorKind, MemoryStore, Policy, PoolShape as Shape, PoolSpec, Repeat,
    Request as Wanted, Resource, Scheduler, SharedAllocator, SqliteStore, Strategy, parse_address, parse_prefix,
    set_scheduler,
};
use smallvec::SmallVec;

use crate::address::Grant;
use crate::contract::{Clock, Contract, Methods, Repeat as PromisedRepeat};
use crate::operation::{
    Allocation, Answer, Kind, Operation, PoolShape, Refusal, Request, Response, Text, Want, Written,
};
use crate::sut::Failure;
use crate::turns;

/// How the reference allocator is set up: what of it the contract has a switch for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    /// How every pool hands out addresses.
    pub policy: Policy,
    /// Is each pool an address space of its own?
    pub pools_overlap: bool,
    /// Do callers at the same time share one handle on a file, or has each its own?
    pub one_handle: bool,
}

/// The options of a variant, as they are written.
pub const OPTIONS: &str = "strategy=lowest|next|random, repeat=another|same|conflict, pools=disjoint|overlapping, \
                           handles=several|one (of callers at the same time)";

impl Variant {
    /// Reads options, separated by commas, such as `repeat=same,strategy=random`.
    ///
    /// # Errors
    ///
    /// [`Failure::Unable`] for an option that there is not.
    pub fn parse(options: &str) -> Result<Variant, Failure> {
        let mut variant = Variant::default();
        for option in options.split(',') {
            match option {
                "strategy=lowest" => variant.policy.strategy = Strategy::Lowest,
                "strategy=next" => variant.policy.strategy = Strategy::Next,
                "strategy=random" => variant.policy.strategy = Strategy::Random,
                "repeat=another" => variant.policy.repeat = Repeat::Another,
                "repeat=same" => variant.policy.repeat = Repeat::Same,
                "repeat=conflict" => variant.policy.repeat = Repeat::Conflict,
                "pools=disjoint" => variant.pools_overlap = false,
                "pools=overlapping" => variant.pools_overlap = true,
                "handles=several" => variant.one_handle = false,
                "handles=one" => variant.one_handle = true,
                other => {
                    let message = format!("the reference allocator has no option `{other}`; it has {OPTIONS}");
                    return Err(Failure::Unable(message));
                }
            }
        }
        Ok(variant)
    }

    /// How `--sut` names it, given the store: `memory?strategy=next`.
    pub fn named(self, store: &str) -> String {
        let strategy = match self.policy.strategy {
            Strategy::Lowest => None,
            Strategy::Next => Some("strategy=next"),
            Strategy::Random => Some("strategy=random"),
        };
        let repeat = match self.policy.repeat {
            Repeat::Another => None,
            Repeat::Same => Some("repeat=same"),
            Repeat::Conflict => Some("repeat=conflict"),
        };
        let pools = self.pools_overlap.then_some("pools=overlapping");
        let handles = self.one_handle.then_some("handles=one");
        let options: Vec<&str> = [strategy, repeat, pools, handles].into_iter().flatten().collect();
        if options.is_empty() { store.to_owned() } else { format!("{store}?{}", options.join(",")) }
    }

    /// Every variant that answers differently, the default one first.
    pub fn all() -> impl Iterator<Item = Variant> {
        let strategies = [Strategy::Lowest, Strategy::Next, Strategy::Random];
        let repeats = [Repeat::Another, Repeat::Same, Repeat::Conflict];
        [false, true].into_iter().flat_map(move |pools_overlap| {
            repeats.into_iter().flat_map(move |repeat| {
                strategies.into_iter().map(move |strategy| Variant {
                    policy: Policy { strategy, repeat, ..Policy::default() },
                    pools_overlap,
                    ..Variant::default()
                })
            })
        })
    }

    /// What the reference allocator promises in this variant.
    pub fn contract(self, durable: bool) -> Contract {
        Contract {
            methods: Methods::all(),
            clock: Clock::Virtual,
            durable,
            blocks: true,
            repeat: match self.policy.repeat {
                Repeat::Another => PromisedRepeat::Another,
                Repeat::Same => PromisedRepeat::Same,
                Repeat::Conflict => PromisedRepeat::Conflict,
            },
            unpredictable: self.policy.strategy == Strategy::Random,
            disjoint_pools: !self.pools_overlap,
            ..Contract::default()
        }
    }

    fn space(self, pool: &str) -> String {
        if self.pools_overlap { pool.to_owned() } else { String::new() }
    }
}

/// From now on, callers that share a handle ask whose turn it is wherever they can be interrupted.
pub fn take_turns() {
    set_scheduler(Scheduler { pass: turns::pass, wait: turns::wait_for_others });
}

/// An allocator of one caller's, or one that several threads share.
#[derive(Debug)]
pub enum Handle<S: Store> {
    /// Of one caller's.
    Own(Box<Allocator<S>>),
    /// What waits is done in one go.
    Shared(SharedAllocator<S>),
}

impl<S: Store> Handle<S> {
    /// Of one caller's.
    pub fn own(allocator: Allocator<S>) -> Handle<S> {
        Handle::Own(Box::new(allocator))
    }

    /// This one and one more on the same allocator. A transaction that is open is rolled back.
    pub fn shared(self) -> (Handle<S>, Handle<S>) {
        let shared = match self {
            Handle::Own(allocator) => SharedAllocator::new(*allocator),
            Handle::Shared(shared) => shared,
        };
        (Handle::Shared(shared.clone()), Handle::Shared(shared))
    }

    /// One call, in a variant.
    pub fn call(&mut self, variant: Variant, operation: &Operation) -> Response
    where
        S: Kept,
    {
        let answered = match self {
            Handle::Own(allocator) => S::answer(allocator, variant, operation),
            Handle::Shared(shared) => {
                let operation = operation.clone();
                shared.run(move |allocator| S::answer(allocator, variant, &operation))
            }
        };
        answered.map_err(|error| refusal(&error))
    }
}

/// What an allocator keeps its state in. Calls on each kind are compiled here and not where they are made, so that a fuzzer
/// sees what they do if it watches the allocator and this crate.
pub trait Kept: Store + Sized + 'static {
    /// One call.
    ///
    /// # Errors
    ///
    /// What the allocator refuses it with.
    fn answer(allocator: &mut Allocator<Self>, variant: Variant, operation: &Operation) -> Result<Answer, Error>;
}

impl Kept for MemoryStore {
    fn answer(allocator: &mut Allocator<Self>, variant: Variant, operation: &Operation) -> Result<Answer, Error> {
        answer(allocator, variant, operation)
    }
}

impl Kept for SqliteStore {
    fn answer(allocator: &mut Allocator<Self>, variant: Variant, operation: &Operation) -> Result<Answer, Error> {
        answer(allocator, variant, operation)
    }
}

/// One call on the allocator.
pub fn call<S: Store>(allocator: &mut Allocator<S>, variant: Variant, operation: &Operation) -> Response {
    let answer = answer(allocator, variant, operation);
    answer.map_err(|error| refusal(&error))
}

fn refusal(error: &Error) -> Refusal {
    Refusal { kind: kind(error.kind()), message: error.text().into() }
}

fn answer<S: Store>(allocator: &mut Allocator<S>, variant: Variant, operation: &Operation) -> Result<Answer, Error> {
    let done = match operation {
        Operation::CreatePool { pool, prefix, shape } => {
            let Shape { ranges, gateway, exclusions, policy } = read_shape(variant, shape)?;
            let (prefix, space) = (parse_prefix(prefix)?, variant.space(pool));
            allocator.create_pool(pool, &PoolSpec { prefix, ranges, gateway, exclusions, space, policy })
        }
        Operation::UpdatePool { pool, shape } => allocator.update_pool(pool, &read_shape(variant, shape)?),
        Operation::DeletePool { pool } => allocator.delete_pool(pool),
        Operation::Allocate { owner, requests, ttl_ms } => return allocate(allocator, owner, requests, *ttl_ms),
        Operation::Release { owner: None, .. } => return Err(Error::Invalid("the owner is missing")),
        Operation::Release { pool, address, owner: Some(owner) } => {
            allocator.release(pool, read_resource(address)?, owner)
        }
        Operation::ReleaseOwner { owner } => {
            let released = allocator.release_owner(owner)?.into_iter();
            return Ok(Answer::Released(released.map(|one| (one.pool, grant(one.resource))).collect()));
        }
        Operation::Renew { pool, address, owner, ttl_ms } => {
            let expires_ms = allocator.renew(pool, read_resource(address)?, owner, *ttl_ms)?;
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
        Operation::Advance { ms } => return Ok(Answer::Now { now_ms: allocator.advance_by(*ms)? }),
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
        wanted.push(match &request.want {
            Want::Any => Wanted::any(&request.pool),
            Want::Block(prefix_length) => Wanted::block(&request.pool, *prefix_length),
            Want::Named(address) => match read_resource(address)? {
                named @ Resource::Address(_) => Wanted::named(&request.pool, named),
                // The allocator could; the protocol names addresses only.
                Resource::Block(_) => return Err(Error::Invalid("a prefix is no address")),
            },
        });
    }
    let granted = allocator.allocate(owner, &wanted, ttl_ms)?;
    let grants = granted.grants.iter().map(|one| grant(one.resource)).collect();
    Ok(Answer::Granted { grants, expires_ms: granted.expires_ms })
}

fn list<S: Store>(allocator: &mut Allocator<S>, pool: Option<&Text>) -> Result<Answer, Error> {
    let listed = allocator.list(pool.map(|pool| &**pool))?.into_iter().map(|one| Allocation {
        pool: one.pool,
        address: grant(one.resource),
        owner: one.owner,
        expires_ms: one.expires_ms,
    });
    Ok(Answer::Listed(listed.collect()))
}

fn grant(resource: Resource) -> Grant {
    match resource {
        Resource::Address(address) => Grant::Address(address),
        Resource::Block(prefix) => Grant::Block(prefix),
    }
}

fn read_resource(address: &Written) -> Result<Resource, Error> {
    match address {
        Written::Plain(Grant::Address(address)) => Ok(Resource::Address(*address)),
        Written::Plain(Grant::Block(prefix)) => Ok(Resource::Block(*prefix)),
        Written::Odd(text) => text.parse(),
    }
}

fn read_shape(variant: Variant, shape: &PoolShape) -> Result<Shape, Error> {
    let range = |(first, last): &(Text, Text)| AddressRange::new(parse_address(first)?, parse_address(last)?);
    Ok(Shape {
        ranges: shape.ranges.iter().map(range).collect::<Result<_, _>>()?,
        gateway: shape.gateway.as_ref().map(|gateway| parse_address(gateway)).transpose()?,
        exclusions: shape.exclude.iter().map(|exclusion| exclusion.parse()).collect::<Result<_, _>>()?,
        policy: variant.policy,
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
