//! Scenario to text: one step a line, every unprintable byte escaped.

use std::fmt;

use super::{FORMAT, GrantRef, Operand, Scenario, Spelling, Step, version};
use poolproof_core::text::{AddressText, Name, Quoted, ttl};

/// The text of a scenario; [`parse`](super::parse) gives the same scenario back.
pub fn print(scenario: &Scenario) -> String {
    scenario.to_string()
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FORMAT}{}", version::oldest(self))?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Call(operation) => operation.fmt(f),
            Step::AdvanceTo { lease, offset_ms: 0 } => write!(f, "advance {lease}"),
            Step::AdvanceTo { lease, offset_ms } => write!(f, "advance {lease}{offset_ms:+}"),
            Step::Fill { pool, owner, count, ttl_ms } => {
                write!(f, "fill {} {} {count}", Name(pool), Quoted(owner.as_bytes()))?;
                ttl(f, *ttl_ms)
            }
            Step::Drain { pool, count } => write!(f, "drain {} {count}", Name(pool)),
            Step::Repeat { step } => write!(f, "repeat @{}", u64::from(*step) + 1),
            Step::Audit => f.write_str("audit"),
            Step::Restart => f.write_str("restart"),
            Step::Crash => f.write_str("crash"),
            Step::Fault(fault) => write!(f, "fault {fault}"),
            Step::Turns(order) => {
                f.write_str("turns")?;
                order.iter().try_for_each(|lane| write!(f, " {}", u64::from(*lane) + 1))
            }
            Step::Lane => f.write_str("lane"),
            Step::Join => f.write_str("join"),
        }
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spelling = match self {
            Operand::Literal(text) => return AddressText(text).fmt(f),
            Operand::Granted(grant, spelling) => {
                grant.fmt(f)?;
                spelling
            }
            Operand::Nth(place, spelling) => {
                write!(f, "[{place}]")?;
                spelling
            }
        };
        if *spelling == Spelling::Plain { Ok(()) } else { write!(f, "~{}", spelling.name()) }
    }
}

impl fmt::Display for GrantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", u64::from(self.step) + 1)?;
        if self.nth == 0 { Ok(()) } else { write!(f, ".{}", u64::from(self.nth) + 1) }
    }
}
