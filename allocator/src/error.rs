//! What a call answers when it does not do what it was asked.
//!
//! Every text is a constant, so none can carry SQL, a path, a source position or another owner's name, and an ordinary
//! refusal costs no allocation: callers meet refusals in hot loops. What went wrong underneath is kept as the
//! [`source`](std::error::Error::source), for logs rather than for callers.

use std::error::Error as StdError;
use std::sync::Arc;

/// The answer of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// What lies behind a failure of the store. Not for callers: it may name files and statements.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Why a call was refused or failed. Except for [`Error::UnknownOutcome`], it changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The call itself is wrong, whatever the state; it says in what.
    #[error("{}", self.text())]
    Invalid(&'static str),
    /// No eligible address of the pool is free.
    #[error("{}", self.text())]
    Exhausted,
    /// A name, a prefix or an address is taken; it says which.
    #[error("{}", self.text())]
    Conflict(&'static str),
    /// There is no such pool or allocation; it says which.
    #[error("{}", self.text())]
    NotFound(&'static str),
    /// The address is held, but not by this owner.
    #[error("{}", self.text())]
    NotOwner,
    /// Live allocations stand in the way of changing or deleting the pool.
    #[error("{}", self.text())]
    InUse,
    /// Somebody else held the store for too long. Nothing happened; try again.
    #[error("{}", self.text())]
    Busy(#[source] Cause),
    /// The store failed. The call did not happen.
    #[error("{}", self.text())]
    Storage(#[source] Cause),
    /// The store failed while it made the change durable. It may or may not have happened.
    #[error("{}", self.text())]
    UnknownOutcome(#[source] Cause),
    /// This version cannot do that; it says what.
    #[error("{}", self.text())]
    Unsupported(&'static str),
}

/// The kind of an [`Error`], without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call itself is wrong.
    Invalid,
    /// Nothing eligible is free.
    Exhausted,
    /// A name, a prefix or an address is taken.
    Conflict,
    /// No such pool or allocation.
    NotFound,
    /// Somebody else's allocation.
    NotOwner,
    /// Live allocations stand in the way.
    InUse,
    /// Nothing happened; try again.
    Busy,
    /// The store failed; nothing happened.
    Storage,
    /// The store failed; it may have happened.
    UnknownOutcome,
    /// This version cannot do that.
    Unsupported,
}

impl Error {
    /// The text that [`Display`](std::fmt::Display) shows, which is a constant; without an allocation.
    pub const fn text(&self) -> &'static str {
        match self {
            Self::Invalid(text) | Self::Conflict(text) | Self::NotFound(text) | Self::Unsupported(text) => text,
            Self::Exhausted => "no address of the pool is free",
            Self::NotOwner => "the address is held by another owner",
            Self::InUse => "allocations of the pool stand in the way",
            Self::Busy(_) => "the store is busy, try again",
            Self::Storage(_) => "the store failed, the call did not happen",
            Self::UnknownOutcome(_) => "the store failed, the call may have happened",
        }
    }

    /// The kind, for callers that only branch on it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Exhausted => ErrorKind::Exhausted,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::NotOwner => ErrorKind::NotOwner,
            Self::InUse => ErrorKind::InUse,
            Self::Busy(_) => ErrorKind::Busy,
            Self::Storage(_) => ErrorKind::Storage,
            Self::UnknownOutcome(_) => ErrorKind::UnknownOutcome,
            Self::Unsupported(_) => ErrorKind::Unsupported,
        }
    }

    /// Did the store fail? Else it was the call that was refused.
    pub(crate) const fn is_failure(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Storage(_) | Self::UnknownOutcome(_))
    }

    /// The same error for another caller; the cause is shared.
    pub(crate) fn shared(error: &Arc<Self>) -> Self {
        let cause = || Box::new(SharedCause(error.clone()));
        match **error {
            Self::Invalid(text) => Self::Invalid(text),
            Self::Exhausted => Self::Exhausted,
            Self::Conflict(text) => Self::Conflict(text),
            Self::NotFound(text) => Self::NotFound(text),
            Self::NotOwner => Self::NotOwner,
            Self::InUse => Self::InUse,
            Self::Busy(_) => Self::Busy(cause()),
            Self::Storage(_) => Self::Storage(cause()),
            Self::UnknownOutcome(_) => Self::UnknownOutcome(cause()),
            Self::Unsupported(text) => Self::Unsupported(text),
        }
    }

    /// A failure of the store that is told from others by a constant cause.
    pub(crate) fn storage(cause: &'static str) -> Self {
        Self::Storage(cause.into())
    }
}

/// A failure that several callers met.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct SharedCause(#[source] Arc<Error>);

impl ErrorKind {
    /// The stable name of the kind, such as `not_found`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Exhausted => "exhausted",
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::NotOwner => "not_owner",
            Self::InUse => "in_use",
            Self::Busy => "busy",
            Self::Storage => "storage",
            Self::UnknownOutcome => "unknown_outcome",
            Self::Unsupported => "unsupported",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stays_small_enough_to_return_by_the_million() {
        assert!(size_of::<Error>() <= 24);
    }

    #[test]
    fn the_cause_is_kept_but_not_shown() {
        let error = Error::storage("/var/lib/secret.db: SELECT failed");
        assert!(!error.to_string().contains("secret"));
        assert!(error.source().is_some_and(|cause| cause.to_string().contains("secret")));
    }
}
