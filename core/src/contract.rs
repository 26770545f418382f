//! What a system promises.
//!
//! Systems differ, so nothing is assumed: each switch of the protocol is a field here, the
//! generator draws only what the contract has, and the model judges by it. [`Limits`] says what an
//! adapter cannot express; it is ours alone and never on the wire.

use serde::{Deserialize, Serialize};

use crate::address::Family;
use crate::operation::Method;

/// The contract of a system, as it answers `initialize`. Absent fields have the protocol's defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Contract {
    /// Methods it has beyond `initialize`, `allocate` and `pool.create`.
    pub methods: Methods,
    /// Address families it serves.
    pub families: Families,
    /// State survives a clean restart and a crash.
    pub durable: bool,
    /// Several processes may use one state directory.
    pub shared: bool,
    /// What a second allocation by the same owner in the same pool yields.
    pub repeat: Repeat,
    /// The answer to releasing what nobody holds.
    pub release_unknown: ReleaseUnknown,
    /// Who may release an address.
    pub release_by: ReleaseBy,
    /// Network, broadcast and subnet-router anycast addresses are never handed out.
    pub reserves_edges: bool,
    /// `exhausted` only when nothing eligible is free.
    pub complete: bool,
    /// An allocation with several requests is all or nothing.
    pub atomic: bool,
    /// A pool that overlaps another is refused.
    pub disjoint_pools: bool,
    /// A request may ask for a whole prefix.
    pub blocks: bool,
    /// What leases run on.
    pub clock: Clock,
    /// Addresses are chosen at random.
    pub unpredictable: bool,
    /// The answer time it asks for, in milliseconds.
    pub timeout_ms: u64,
    /// What the adapter in front of it cannot express.
    #[serde(skip)]
    pub limits: Limits,
}

impl Default for Contract {
    fn default() -> Contract {
        Contract {
            methods: Methods::default(),
            families: Families { v4: true, v6: true },
            durable: false,
            shared: false,
            repeat: Repeat::Another,
            release_unknown: ReleaseUnknown::NotFound,
            release_by: ReleaseBy::Owner,
            reserves_edges: true,
            complete: true,
            atomic: true,
            disjoint_pools: true,
            blocks: false,
            clock: Clock::None,
            unpredictable: false,
            timeout_ms: Contract::DEFAULT_TIMEOUT_MS,
            limits: Limits::default(),
        }
    }
}

impl Contract {
    /// How long an answer may take when the contract does not say, in milliseconds.
    pub const DEFAULT_TIMEOUT_MS: u64 = 5000;

    /// Does it have this method?
    pub fn has(&self, method: Method) -> bool {
        matches!(method, Method::Allocate | Method::PoolCreate) || self.methods.contains(method)
    }

    /// Can a caller make several calls one transaction?
    pub fn has_transactions(&self) -> bool {
        [Method::Begin, Method::Commit, Method::Rollback].into_iter().all(|method| self.has(method))
    }

    /// Is an allocation with several requests worth drawing: can it be asked, and is it all or nothing?
    pub fn takes_several(&self) -> bool {
        self.atomic && self.limits.several_requests
    }

    /// The same for callers that share a handle, of whom none can have a transaction of its own.
    pub fn without_transactions(&self) -> Contract {
        let methods = self.methods.without(Method::Begin).without(Method::Commit).without(Method::Rollback);
        Contract { methods, ..self.clone() }
    }
}

/// A set of methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Methods(u16);

impl Methods {
    /// Every method there is, for systems that have them all.
    pub fn all() -> Methods {
        Method::ALL.into_iter().filter(|method| *method != Method::Raw).collect()
    }

    /// Is this one of them?
    pub fn contains(self, method: Method) -> bool {
        self.0 & (1 << method as u16) != 0
    }

    /// The same without this one.
    pub fn without(self, method: Method) -> Methods {
        Methods(self.0 & !(1 << method as u16))
    }
}

impl FromIterator<Method> for Methods {
    fn from_iter<I: IntoIterator<Item = Method>>(methods: I) -> Methods {
        Methods(methods.into_iter().fold(0, |bits, method| bits | 1 << method as u16))
    }
}

impl TryFrom<Vec<String>> for Methods {
    type Error = String;

    fn try_from(names: Vec<String>) -> Result<Methods, String> {
        let known = names.into_iter().filter(|name| name != "initialize");
        known.map(|name| Method::from_name(&name).ok_or(format!("there is no method `{name}`"))).collect()
    }
}

impl From<Methods> for Vec<String> {
    fn from(methods: Methods) -> Vec<String> {
        let held = Method::ALL.into_iter().filter(|method| methods.contains(*method));
        held.map(|method| method.name().to_owned()).collect()
    }
}

/// A set of address families; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Families {
    v4: bool,
    v6: bool,
}

impl Families {
    /// Is this one of them?
    pub fn contains(self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Are both?
    pub fn is_both(self) -> bool {
        self.v4 && self.v6
    }

    /// Only this family.
    pub fn only(family: Family) -> Families {
        Families { v4: family == Family::V4, v6: family == Family::V6 }
    }
}

impl TryFrom<Vec<String>> for Families {
    type Error = String;

    fn try_from(names: Vec<String>) -> Result<Families, String> {
        let mut families = Families { v4: false, v6: false };
        for name in &names {
            match name.as_str() {
                "ipv4" => families.v4 = true,
                "ipv6" => families.v6 = true,
                _ => return Err(format!("there is no address family `{name}`")),
            }
        }
        if families.v4 || families.v6 { Ok(families) } else { Err("no address family at all".to_owned()) }
    }
}

impl From<Families> for Vec<String> {
    fn from(families: Families) -> Vec<String> {
        let held = Family::ALL.into_iter().filter(|family| families.contains(*family));
        held.map(|family| family.name().to_owned()).collect()
    }
}

/// What a second allocation by the same owner in the same pool yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// Another address.
    Another,
    /// The same address again.
    Same,
    /// A refusal.
    Conflict,
}

/// The answer to releasing what nobody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseUnknown {
    /// A refusal.
    NotFound,
    /// Done, as if it had been held.
    Ok,
}

/// Who may release an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseBy {
    /// Only its owner.
    Owner,
    /// Anyone.
    Anyone,
}

/// What leases run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// There are no leases.
    None,
    /// A clock that only `advance` moves.
    Virtual,
    /// Real time.
    Wall,
}

/// What an adapter cannot express of the protocol. Systems that speak the protocol have no limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Prefixes longer than this are refused as `invalid` or `unsupported`, IPv4 then IPv6.
    pub longest_prefix: [u8; 2],
    /// Prefixes shorter than this are refused as `unsupported`, IPv4 then IPv6.
    pub shortest_prefix: [u8; 2],
    /// IPv6 pools may lie where IPv4 is mapped into IPv6: `::ffff:0:0/96`.
    pub mapped_pools: bool,
    /// Pools may hand out addresses that no host can have: 0.0.0.0 and ::, and those of IPv6 multicast (RFC 4291 sections 2.5.2
    /// and 2.7).
    pub special_addresses: bool,
    /// Of a pool with more addresses usage may be `unsupported`.
    pub largest_usage: u128,
    /// A pool must name its gateway.
    pub gateway_required: bool,
    /// Pools may have exclusions.
    pub exclusions: bool,
    /// Ranges of one pool may overlap each other.
    pub overlapping_ranges: bool,
    /// One allocation may hold several requests.
    pub several_requests: bool,
    /// One allocation may ask for several addresses of one pool.
    pub pool_twice: bool,
    /// A pool may hand out addresses and blocks of several lengths at the same time.
    pub mixed_blocks: bool,
    /// What one call was granted in several pools can be released one by one; if not, such a
    /// release is `unsupported`.
    pub partial_release: bool,
    /// It has a wire, so malformed lines can be sent.
    pub raw: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            longest_prefix: [32, 128],
            shortest_prefix: [0, 0],
            mapped_pools: true,
            special_addresses: true,
            largest_usage: u128::MAX,
            gateway_required: false,
            exclusions: true,
            overlapping_ranges: true,
            several_requests: true,
            pool_twice: true,
            mixed_blocks: true,
            partial_release: true,
            raw: false,
        }
    }
}

impl Limits {
    /// The shortest prefix of a family that a pool may have.
    pub fn shortest(&self, family: Family) -> u8 {
        self.shortest_prefix[family as usize]
    }

    /// The longest prefix of a family that a pool may have.
    pub fn longest(&self, family: Family) -> u8 {
        self.longest_prefix[family as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_have_the_defaults_of_the_protocol() {
        let contract: Contract = serde_json::from_str("{}").unwrap();
        assert_eq!(contract, Contract::default());
    }

    #[test]
    fn a_contract_survives_the_wire() {
        let contract = Contract { methods: Methods::all(), clock: Clock::Virtual, blocks: true, ..Contract::default() };
        let text = serde_json::to_string(&contract).unwrap();
        assert_eq!(serde_json::from_str::<Contract>(&text).unwrap(), contract);
    }

    #[test]
    fn unknown_methods_and_families_are_refused() {
        assert!(serde_json::from_str::<Contract>(r#"{"methods":["allocat"]}"#).is_err());
        assert!(serde_json::from_str::<Contract>(r#"{"families":[]}"#).is_err());
    }
}
