//! Time misjudged, and addresses used again too soon.

use std::collections::BTreeMap;
use std::net::IpAddr;

use poolproof_core::address::Grant;
use poolproof_core::operation::{Operation, Response, Text, Written};
use poolproof_core::property::Property::{Accounted, Durable, Expiring, Unpredictable};
use poolproof_core::sut::Failure;

use crate::base::{Base, any_one};
use crate::faulty::{Bug, Faulty, Mutant, Setting};

/// The mutants here.
pub const MUTANTS: &[Mutant] = &[
    Mutant::new("clock-jump", &[Expiring, Durable, Accounted], || Box::new(ClockJump)).in_steps(4),
    Mutant::new("immediate-reuse-or-reoffer-declined", &[Unpredictable], || Box::new(ImmediateReuse::default()))
        .in_steps(4)
        .set(Setting::RANDOM),
    Mutant::new("cooldown-forgotten", &[Unpredictable], || Box::new(CooldownForgotten::default()))
        .in_steps(5)
        .set(Setting::RANDOM),
    Mutant::new("unseeded-random", &[Unpredictable], || Box::new(UnseededRandom { state: 1 }))
        .in_steps(2)
        .set(Setting::RANDOM),
];

/// stratux (cyoung/stratux#325), miniupnp (#295): times of one start of the machine are compared with those of the next, whose
/// clock begins at 0 again.
struct ClockJump;

impl Faulty for ClockJump {
    fn restart(&mut self, base: &mut Base, bug: Bug) -> Result<(), Failure> {
        for held in base.all_held().into_iter().filter(|_| bug.is_on()) {
            if let Some(expires_ms) = held.expires_ms {
                // It is held. Its end lies as far ahead as it lay behind the old beginning.
                let _ = base.allocator().renew(&held.pool, held.resource, &held.owner, expires_ms);
            }
        }
        Ok(())
    }
}

/// CNI host-local (2445a960), whereabouts (#288), calico (#12496): what was released last is handed out next.
#[derive(Default)]
struct ImmediateReuse {
    latest: BTreeMap<Text, IpAddr>,
}

impl Faulty for ImmediateReuse {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        if let Some(asked) = any_one(operation)
            && bug.is_on()
            && let Some(address) = self.latest.remove(asked.pool)
            && base.is_free(asked.pool, address)
        {
            return base.grant(asked, address);
        }
        let response = base.call(operation);
        if let Operation::Release { pool, address: Written::Plain(Grant::Address(address)), .. } = operation
            && response.is_ok()
        {
            self.latest.insert(pool.clone(), *address);
        }
        response
    }
}

/// amazon-vpc-cni-k8s (#1127, PR #1188, commits 3628edd34 and 3071431b4): who released what, and that it has to cool down, is
/// known in memory only. After a restart it lies on top of what is free. (No contract promises a cooldown; one of random choice
/// promises as much.)
#[derive(Default)]
struct CooldownForgotten {
    cooling: BTreeMap<Text, IpAddr>,
    on_top: BTreeMap<Text, IpAddr>,
}

impl Faulty for CooldownForgotten {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        if let Some(asked) = any_one(operation)
            && bug.is_on()
            && let Some(address) = self.on_top.remove(asked.pool)
            && base.is_free(asked.pool, address)
        {
            return base.grant(asked, address);
        }
        let response = base.call(operation);
        if let Operation::Release { pool, address: Written::Plain(Grant::Address(address)), .. } = operation
            && response.is_ok()
        {
            self.cooling.insert(pool.clone(), *address);
        }
        response
    }

    fn restart(&mut self, _: &mut Base, _: Bug) -> Result<(), Failure> {
        self.on_top.append(&mut self.cooling);
        Ok(())
    }
}

/// headscale (commit 5d3c80a1): the generator has the same seed after each start.
struct UnseededRandom {
    state: u64,
}

impl UnseededRandom {
    /// A number below a bound that is not 0 (xorshift).
    fn below(&mut self, bound: u128) -> u128 {
        let mut draw = || {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            u128::from(self.state)
        };
        (draw() << 64 | draw()) % bound
    }
}

impl Faulty for UnseededRandom {
    fn call(&mut self, base: &mut Base, operation: &Operation, bug: Bug) -> Response {
        let Some(asked) = any_one(operation).filter(|_| bug.is_on()) else { return base.call(operation) };
        let Some((family, spans)) = base.allocatable(asked.pool) else { return base.call(operation) };
        // Mostly there is a free one among a few.
        for _ in 0..16 {
            let Some(span) = spans.get(self.below(spans.len().max(1) as u128) as usize) else { break };
            let address = family.address(span.first.saturating_add(self.below(span.count().saturated())));
            if base.is_free(asked.pool, address) {
                return base.grant(asked, address);
            }
        }
        base.call(operation)
    }
}
