//! What a call comes to inside an adapter that stands before its system: refusals and failures both end it.

use super::Failure;
use crate::operation::{Answer, Kind, Refusal, Response, is_name};

/// What a step of a call gives, or how the call ends.
pub(super) type Outcome<T> = Result<T, Ending>;

/// How a call ends before it is done.
pub(super) enum Ending {
    /// With an answer.
    Refused(Refusal),
    /// Without one.
    Failed(Failure),
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Ending {
        Ending::Failed(failure)
    }
}

/// A refusal in the adapter's own words.
pub(super) fn refuse<T>(kind: Kind, message: &'static str) -> Outcome<T> {
    Err(Ending::Refused(Refusal { kind, message: message.into() }))
}

/// What the engine is told.
pub(super) fn respond(outcome: Outcome<Answer>) -> Result<Response, Failure> {
    match outcome {
        Ok(answer) => Ok(Ok(answer)),
        Err(Ending::Refused(refusal)) => Ok(Err(refusal)),
        Err(Ending::Failed(failure)) => Err(failure),
    }
}

/// Refuses a malformed name of an owner.
pub(super) fn check_owner(owner: &str) -> Outcome<()> {
    if is_name(owner) { Ok(()) } else { refuse(Kind::Invalid, "the owner is malformed") }
}
