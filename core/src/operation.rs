//! One call on the system under test, and its answer.
//!
//! [`Operation`] is generic over how an address is written: scenarios hold
//! operands such as "what step 4 was granted", the system is given
//! [`Written`] addresses. Both have the same shape, so it is declared once and resolved with
//! [`Operation::resolve`].

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::address::{Count, Grant};

/// A name or other text of a call; cheap to clone.
pub type Text = Arc<str>;

/// A call, with addresses written as `A`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation<A = Written> {
    /// Makes a pool.
    CreatePool {
        /// Its name.
        pool: Text,
        /// Its prefix, as text: malformed ones are part of the game.
        prefix: Text,
        /// What of the prefix may be handed out.
        shape: PoolShape,
    },
    /// Replaces ranges, gateway and exclusions.
    UpdatePool {
        /// The pool.
        pool: Text,
        /// Its new shape.
        shape: PoolShape,
    },
    /// Removes a pool that holds nothing.
    DeletePool {
        /// The pool.
        pool: Text,
    },
    /// Allocates for an owner, all requests or none.
    Allocate {
        /// Who will hold what is granted.
        owner: Text,
        /// What is wanted; one grant each, in this order.
        requests: Requests<A>,
        /// Length of the lease in milliseconds; without it the allocation has no end.
        ttl_ms: Option<u64>,
    },
    /// Gives one address or block back.
    Release {
        /// The pool.
        pool: Text,
        /// What is given back.
        address: A,
        /// Who says so; absent only where anyone may.
        owner: Option<Text>,
    },
    /// Gives back everything that an owner holds.
    ReleaseOwner {
        /// The owner.
        owner: Text,
    },
    /// Sets a new end to a lease.
    Renew {
        /// The pool.
        pool: Text,
        /// The leased address or block.
        address: A,
        /// Who holds it.
        owner: Text,
        /// Milliseconds from now.
        ttl_ms: u64,
    },
    /// Opens a transaction.
    Begin,
    /// Makes the open transaction's calls last.
    Commit,
    /// Undoes the open transaction's calls.
    Rollback,
    /// Lists allocations, of one pool or of all.
    List {
        /// The pool, or all of them.
        pool: Option<Text>,
    },
    /// Counts a pool's addresses.
    Usage {
        /// The pool.
        pool: Text,
    },
    /// Moves the virtual clock.
    Advance {
        /// By so many milliseconds.
        ms: u64,
    },
    /// A line sent as it is: malformed by intention, so that every system must refuse it. Texts of
    /// scenarios with a well-formed request here are refused.
    Raw {
        /// The line without its newline; `$id` stands for the next request number.
        line: Arc<[u8]>,
    },
}

/// The requests of one allocation; nearly always one.
pub type Requests<A> = SmallVec<[Request<A>; 1]>;

/// What of a pool's prefix may be handed out, as the caller wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PoolShape {
    /// First and last address of each range; none means the whole prefix.
    pub ranges: Vec<(Text, Text)>,
    /// An address that is never handed out.
    pub gateway: Option<Text>,
    /// Addresses, FIRST-LAST ranges or prefixes that are never handed out.
    pub exclude: Vec<Text>,
}

/// One request of an allocation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request<A = Written> {
    /// The pool to take from.
    pub pool: Text,
    /// What to take.
    pub want: Want<A>,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Want<A = Written> {
    /// Any free address.
    Any,
    /// This very address.
    Named(A),
    /// A free block of this prefix length.
    Block(u8),
}

/// An address as it goes out to the system.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Written {
    /// In its usual spelling.
    Plain(Grant),
    /// In any other spelling, or no address at all.
    Odd(Text),
}

impl Written {
    /// The address or block meant, or `None` where the text is malformed.
    pub fn meaning(&self) -> Option<Grant> {
        match self {
            Written::Plain(grant) => Some(*grant),
            Written::Odd(text) => Grant::parse(text),
        }
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Written::Plain(grant) => grant.fmt(f),
            Written::Odd(text) => f.write_str(text),
        }
    }
}

/// The methods of the protocol, without `initialize`; also the rows of the coverage table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Method {
    /// `pool.create`
    PoolCreate,
    /// `pool.update`
    PoolUpdate,
    /// `pool.delete`
    PoolDelete,
    /// `allocate`
    Allocate,
    /// `release`
    Release,
    /// `release_owner`
    ReleaseOwner,
    /// `renew`
    Renew,
    /// `begin`
    Begin,
    /// `commit`
    Commit,
    /// `rollback`
    Rollback,
    /// `list`
    List,
    /// `usage`
    Usage,
    /// `advance`
    Advance,
    /// `reset`
    Reset,
    /// No method: a malformed line.
    Raw,
}

impl Method {
    /// Every method, in the order of the protocol.
    pub const ALL: [Method; 15] = [
        Method::PoolCreate,
        Method::PoolUpdate,
        Method::PoolDelete,
        Method::Allocate,
        Method::Release,
        Method::ReleaseOwner,
        Method::Renew,
        Method::Begin,
        Method::Commit,
        Method::Rollback,
        Method::List,
        Method::Usage,
        Method::Advance,
        Method::Reset,
        Method::Raw,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Method::PoolCreate => "pool.create",
            Method::PoolUpdate => "pool.update",
            Method::PoolDelete => "pool.delete",
            Method::Allocate => "allocate",
            Method::Release => "release",
            Method::ReleaseOwner => "release_owner",
            Method::Renew => "renew",
            Method::Begin => "begin",
            Method::Commit => "commit",
            Method::Rollback => "rollback",
            Method::List => "list",
            Method::Usage => "usage",
            Method::Advance => "advance",
            Method::Reset => "reset",
            Method::Raw => "raw",
        }
    }

    /// The method with this name on the wire.
    pub fn from_name(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| *method != Method::Raw && method.name() == name)
    }
}

impl<A> Operation<A> {
    /// The method that carries this operation.
    pub fn method(&self) -> Method {
        match self {
            Operation::CreatePool { .. } => Method::PoolCreate,
            Operation::UpdatePool { .. } => Method::PoolUpdate,
            Operation::DeletePool { .. } => Method::PoolDelete,
            Operation::Allocate { .. } => Method::Allocate,
            Operation::Release { .. } => Method::Release,
            Operation::ReleaseOwner { .. } => Method::ReleaseOwner,
            Operation::Renew { .. } => Method::Renew,
            Operation::Begin => Method::Begin,
            Operation::Commit => Method::Commit,
            Operation::Rollback => Method::Rollback,
            Operation::List { .. } => Method::List,
            Operation::Usage { .. } => Method::Usage,
            Operation::Advance { .. } => Method::Advance,
            Operation::Raw { .. } => Method::Raw,
        }
    }

    /// The same operation with every address rewritten by `write`, which is given the address's
    /// pool; `None` as soon as one address cannot be rewritten.
    pub fn resolve<B>(&self, mut write: impl FnMut(&Text, &A) -> Option<B>) -> Option<Operation<B>> {
        Some(match self {
            Operation::CreatePool { pool, prefix, shape } => {
                Operation::CreatePool { pool: pool.clone(), prefix: prefix.clone(), shape: shape.clone() }
            }
            Operation::UpdatePool { pool, shape } => Operation::UpdatePool { pool: pool.clone(), shape: shape.clone() },
            Operation::DeletePool { pool } => Operation::DeletePool { pool: pool.clone() },
            Operation::Allocate { owner, requests, ttl_ms } => {
                let mut resolved = Requests::new();
                for request in requests {
                    resolved.push(request.resolve(&mut write)?);
                }
                Operation::Allocate { owner: owner.clone(), requests: resolved, ttl_ms: *ttl_ms }
            }
            Operation::Release { pool, address, owner } => {
                Operation::Release { address: write(pool, address)?, pool: pool.clone(), owner: owner.clone() }
            }
            Operation::ReleaseOwner { owner } => Operation::ReleaseOwner { owner: owner.clone() },
            Operation::Renew { pool, address, owner, ttl_ms } => {
                let address = write(pool, address)?;
                Operation::Renew { pool: pool.clone(), address, owner: owner.clone(), ttl_ms: *ttl_ms }
            }
            Operation::Begin => Operation::Begin,
            Operation::Commit => Operation::Commit,
            Operation::Rollback => Operation::Rollback,
            Operation::List { pool } => Operation::List { pool: pool.clone() },
            Operation::Usage { pool } => Operation::Usage { pool: pool.clone() },
            Operation::Advance { ms } => Operation::Advance { ms: *ms },
            Operation::Raw { line } => Operation::Raw { line: line.clone() },
        })
    }

    /// Every address in the call.
    pub fn addresses_mut(&mut self) -> impl Iterator<Item = &mut A> {
        let mut found: SmallVec<[&mut A; 2]> = SmallVec::new();
        match self {
            Operation::Allocate { requests, .. } => {
                for request in requests {
                    if let Want::Named(address) = &mut request.want {
                        found.push(address);
                    }
                }
            }
            Operation::Release { address, .. } | Operation::Renew { address, .. } => found.push(address),
            _ => {}
        }
        found.into_iter()
    }
}

impl<A> Request<A> {
    fn resolve<B>(&self, write: &mut impl FnMut(&Text, &A) -> Option<B>) -> Option<Request<B>> {
        let want = match &self.want {
            Want::Any => Want::Any,
            Want::Named(address) => Want::Named(write(&self.pool, address)?),
            Want::Block(length) => Want::Block(*length),
        };
        Some(Request { pool: self.pool.clone(), want })
    }
}

/// What a system answers: the result, or a refusal.
pub type Response = Result<Answer, Refusal>;

/// The result of a call that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done; there is nothing to say.
    Done,
    /// One grant a request, in the order of the requests.
    Granted {
        /// What was granted.
        grants: Grants,
        /// When the lease ends, in milliseconds of the system's clock.
        expires_ms: Option<u64>,
    },
    /// What `release_owner` gave back.
    Released(Vec<(Text, Grant)>),
    /// The new end of a lease.
    Renewed {
        /// In milliseconds of the system's clock.
        expires_ms: u64,
    },
    /// All allocations asked for.
    Listed(Vec<Allocation>),
    /// A pool's counts.
    Usage {
        /// Addresses that may be handed out, held ones included.
        allocatable: Count,
        /// Addresses held.
        allocated: Count,
    },
    /// The virtual clock after `advance`.
    Now {
        /// In milliseconds.
        now_ms: u64,
    },
}

/// Grants of one allocation; nearly always one.
pub type Grants = SmallVec<[Grant; 1]>;

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The pool.
    pub pool: Text,
    /// The address or block held.
    pub address: Grant,
    /// Who holds it.
    pub owner: Text,
    /// When the lease ends; `None` when it has no end.
    pub expires_ms: Option<u64>,
}

/// A call that was not done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of failure.
    pub kind: Kind,
    /// The text for people.
    pub message: Cow<'static, str>,
}

/// The kinds of failure of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The call itself is malformed or asks for what cannot be.
    Invalid,
    /// Nothing eligible is free.
    Exhausted,
    /// The name or address is taken.
    Conflict,
    /// No such pool or allocation.
    NotFound,
    /// Somebody else holds it.
    NotOwner,
    /// Live allocations forbid it.
    InUse,
    /// The system does not have this.
    Unsupported,
    /// Nothing happened; try again.
    Busy,
    /// Input or output failed; the call did not happen.
    Storage,
    /// Input or output failed; the call may have happened.
    UnknownOutcome,
    /// A defect of the system.
    Internal,
    /// A kind that the protocol does not have.
    Unlisted,
}

impl Kind {
    /// Every kind, in the order of the protocol.
    pub const ALL: [Kind; 12] = [
        Kind::Invalid,
        Kind::Exhausted,
        Kind::Conflict,
        Kind::NotFound,
        Kind::NotOwner,
        Kind::InUse,
        Kind::Unsupported,
        Kind::Busy,
        Kind::Storage,
        Kind::UnknownOutcome,
        Kind::Internal,
        Kind::Unlisted,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Invalid => "invalid",
            Kind::Exhausted => "exhausted",
            Kind::Conflict => "conflict",
            Kind::NotFound => "not_found",
            Kind::NotOwner => "not_owner",
            Kind::InUse => "in_use",
            Kind::Unsupported => "unsupported",
            Kind::Busy => "busy",
            Kind::Storage => "storage",
            Kind::UnknownOutcome => "unknown_outcome",
            Kind::Internal => "internal",
            Kind::Unlisted => "unlisted",
        }
    }

    /// The kind with this name on the wire; names outside the protocol are [`Kind::Unlisted`].
    pub fn from_name(name: &str) -> Kind {
        Kind::ALL.into_iter().find(|kind| kind.name() == name).unwrap_or(Kind::Unlisted)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// In a raw line these bytes stand for the number of the request.
const ID_MARK: &[u8] = b"$id";

/// A raw line as it goes out with this number, without its newline.
pub fn numbered(line: &[u8], id: u64) -> Vec<u8> {
    let number = id.to_string();
    let mut sent = Vec::with_capacity(line.len() + number.len());
    let mut rest = line;
    while let Some(place) = rest.windows(ID_MARK.len()).position(|window| window == ID_MARK) {
        sent.extend_from_slice(&rest[..place]);
        sent.extend_from_slice(number.as_bytes());
        rest = &rest[place + ID_MARK.len()..];
    }
    sent.extend_from_slice(rest);
    sent
}

/// Is this a name that owners and pools may have: 1 to 255 bytes without NUL?
pub fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.bytes().any(|byte| byte == 0)
}
