//! What the steps of a scenario left behind, and operands that refer to it: "what step 3 was granted",
//! "the fourth address of the pool".

use crate::address::Grant;
use crate::model::Model;
use crate::operation::{Answer, Grants, Operation, Text, Written};
use crate::scenario::{Operand, spell};

/// What a step left behind for later ones.
#[derive(Clone, Default)]
pub(super) struct Trace {
    /// The call as it was sent; for [`Step::Repeat`].
    pub(super) sent: Option<Operation>,
    grants: Grants,
    pub(super) expires_ms: Option<u64>,
}

impl Trace {
    pub(super) fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Keeps what later steps may refer to.
    pub(super) fn keep(&mut self, answer: Answer) {
        match answer {
            Answer::Granted { grants, expires_ms } => {
                if self.grants.is_empty() {
                    self.grants = grants;
                } else {
                    self.grants.extend(grants);
                }
                self.expires_ms = expires_ms.or(self.expires_ms);
            }
            Answer::Renewed { expires_ms } => self.expires_ms = Some(expires_ms),
            _ => {}
        }
    }
}

/// The operand as it goes out, or `None` when it does not resolve.
pub(super) fn write(model: &Model, traces: &[Trace], pool: &Text, operand: &Operand) -> Option<Written> {
    match operand {
        Operand::Literal(text) => Some(literal(text)),
        Operand::Granted(grant, spelling) => {
            let granted = traces.get(grant.step as usize)?.grants.get(grant.nth as usize)?;
            Some(spell(*granted, *spelling))
        }
        Operand::Nth(place, spelling) => {
            let layout = &model.pool(pool)?.layout;
            let number = match u64::try_from(*place) {
                Ok(place) => layout.prefix.first.checked_add(u128::from(place))?,
                Err(_) => layout.prefix.last.checked_sub(u128::from(place.unsigned_abs()) - 1)?,
            };
            layout.prefix.contains(number).then(|| spell(Grant::Address(layout.family.address(number)), *spelling))
        }
    }
}

fn literal(text: &Text) -> Written {
    match Grant::parse(text).filter(|grant| *grant.to_string() == **text) {
        Some(grant) => Written::Plain(grant),
        None => Written::Odd(text.clone()),
    }
}
