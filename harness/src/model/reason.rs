//! Reasons for which a call may or must be refused, and the judgement of refusals by them.

use smallvec::SmallVec;

use super::{Event, Model};
use crate::contract::Clock;
use crate::model::pool::Freed;
use crate::operation::{Kind, Operation, Refusal, Want, Written};
use crate::property::{Property, Violation};

/// All reasons against one call. Where several apply, any of them is right.
pub(super) type Reasons = SmallVec<[Reason; 2]>;

/// One reason against a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reason {
    /// With which kind the call is then refused.
    kind: Kind,
    /// What doing it all the same would break; `None` where doing it is right too.
    compelling: Option<(Property, &'static str)>,
}

impl Reason {
    /// The call must not be done: that would break `property`.
    pub(super) fn must(kind: Kind, property: Property, why: &'static str) -> Reason {
        Reason { kind, compelling: Some((property, why)) }
    }

    /// The call may be refused so.
    pub(super) fn may(kind: Kind) -> Reason {
        Reason { kind, compelling: None }
    }
}

/// How a refusal is judged.
pub(super) enum Refused {
    Rightly,
    Wrongly(Violation),
    /// Nothing at all speaks against the call.
    WithoutReason,
}

/// What reasons come to, in words.
pub(super) fn explain(reasons: &Reasons) -> String {
    let kinds: Vec<String> = reasons.iter().map(|reason| format!("`{}`", reason.kind)).collect();
    match reasons.iter().find_map(|reason| reason.compelling) {
        Some((_, why)) => format!("refused as {}, because {why}", kinds.join(" or ")),
        None if kinds.is_empty() => "done".to_owned(),
        None => format!("done, or refused as {}", kinds.join(" or ")),
    }
}

pub(super) fn judge_result(operation: &Operation, reasons: &Reasons) -> Result<(), Violation> {
    match reasons.iter().find_map(|reason| reason.compelling) {
        None => Ok(()),
        Some((property, why)) => Err(Violation::new(property, format!("`{operation}` was done although {why}"))),
    }
}

pub(super) fn judge_refusal(operation: &Operation, refusal: &Refusal, reasons: &Reasons) -> Refused {
    let kind = refusal.kind;
    if reasons.iter().any(|reason| reason.kind == kind) {
        return Refused::Rightly;
    }
    let complaint = match kind {
        Kind::Internal => "`internal` is a defect",
        Kind::Unlisted => "that kind does not exist",
        Kind::Storage | Kind::UnknownOutcome => "no failure of input or output was injected",
        Kind::Busy => {
            let message = format!("`{operation}` stays busy although nobody else is there: {}", refusal.message);
            return Refused::Wrongly(Violation::new(Property::Tidy, message));
        }
        _ if reasons.iter().any(|reason| reason.compelling.is_some()) => "that is not why it cannot be done",
        _ => return Refused::WithoutReason,
    };
    let rightly: Vec<String> = reasons.iter().map(|reason| format!("`{}`", reason.kind)).collect();
    let expected = if rightly.is_empty() { String::new() } else { format!("; expected {}", rightly.join(" or ")) };
    let message = format!("`{operation}` was refused as `{kind}`, but {complaint}{expected}: {}", refusal.message);
    Refused::Wrongly(Violation::new(Property::Classified, message))
}

impl Model {
    /// The violation of refusing what nothing speaks against.
    pub(super) fn without_reason(&self, operation: &Operation, refusal: &Refusal) -> Violation {
        let property = match refusal.kind {
            Kind::Exhausted | Kind::Conflict => self.denied_space(operation),
            Kind::InUse if self.contract.clock != Clock::None && self.last == Event::Advanced => Property::Expiring,
            Kind::InUse => Property::Reconfigurable,
            _ => self.denied_call(operation, refusal.kind),
        };
        let message =
            format!("`{operation}` was refused as `{}` although nothing forbids it: {}", refusal.kind, refusal.message);
        Violation::new(property, message)
    }

    /// Free space was denied: by what became of it before.
    fn denied_space(&self, operation: &Operation) -> Property {
        let Operation::Allocate { requests, .. } = operation else { return Property::Reconfigurable };
        let freed = requests.iter().filter_map(|request| self.state.pools().get(&request.pool)).map(|pool| pool.freed);
        match freed.reduce(|first, second| if first == Freed::Never { second } else { first }) {
            Some(Freed::Released) => Property::Released,
            Some(Freed::Expired) => Property::Expiring,
            Some(Freed::Undone) => Property::Atomic,
            Some(Freed::Reshaped) => Property::Reconfigurable,
            Some(Freed::Never) | None => Property::Complete,
        }
    }

    /// A call was denied for what it says: by what is unusual about it.
    fn denied_call(&self, operation: &Operation, kind: Kind) -> Property {
        if has_odd_address(operation) {
            return Property::Canonical;
        }
        if has_odd_name(operation) {
            return Property::Inert;
        }
        match kind {
            Kind::NotFound if self.last == Event::Restarted => Property::Durable,
            Kind::NotFound if self.last == Event::RolledBack => Property::Atomic,
            Kind::NotFound if self.last == Event::Advanced => Property::Expiring,
            Kind::NotFound if matches!(operation, Operation::Release { .. }) => Property::Idempotent,
            Kind::NotFound => Property::Accounted,
            Kind::NotOwner => Property::Owned,
            _ => Property::Classified,
        }
    }
}

fn has_odd_address(operation: &Operation) -> bool {
    let odd = |address: &Written| matches!(address, Written::Odd(_));
    match operation {
        Operation::Allocate { requests, .. } => {
            requests.iter().any(|request| matches!(&request.want, Want::Named(address) if odd(address)))
        }
        Operation::Release { address, .. } | Operation::Renew { address, .. } => odd(address),
        _ => false,
    }
}

/// Has the name nothing but letters, digits and the usual joiners?
pub(crate) fn is_plain_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Is there a name with anything else?
fn has_odd_name(operation: &Operation) -> bool {
    let odd = |name: &str| !is_plain_name(name);
    match operation {
        Operation::CreatePool { pool, .. } | Operation::UpdatePool { pool, .. } => odd(pool),
        Operation::DeletePool { pool } | Operation::Usage { pool } | Operation::List { pool: Some(pool) } => odd(pool),
        Operation::Allocate { owner, requests, .. } => odd(owner) || requests.iter().any(|request| odd(&request.pool)),
        Operation::Release { pool, owner, .. } => odd(pool) || owner.as_ref().is_some_and(|owner| odd(owner)),
        Operation::Renew { pool, owner, .. } => odd(pool) || odd(owner),
        Operation::ReleaseOwner { owner } => odd(owner),
        _ => false,
    }
}
