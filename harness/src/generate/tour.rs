//! The tour: a few fixed scenarios that visit every method and every outcome of a contract.
//!
//! A campaign begins with them, so that even a short one on a slow system is not vacuous, and so
//! that a system that breaks a plain rule is told so at once.

use crate::address::Family;
use crate::contract::{Clock, Contract};
use crate::operation::Method;
use crate::scenario::{Scenario, parse};

/// The tour for systems with this contract. Steps that the contract lacks are left out by whoever
/// runs them.
pub fn tour(contract: &Contract) -> Vec<Scenario> {
    let families = Family::ALL.into_iter().filter(|family| contract.families.contains(*family));
    let mut texts: Vec<String> = families.flat_map(|family| tour_of(family, contract)).collect();
    if contract.limits.raw {
        texts.push(RAW.to_owned());
    }
    // A text that does not parse is a defect that the tests find; a campaign goes on without it.
    texts.iter().filter_map(|text| parse(&format!("{}\n{text}", crate::scenario::HEADER)).ok()).collect()
}

const RAW: &str =
    "raw \"{\"\nraw \"{\\\"jsonrpc\\\":\\\"2.0\\\",\\\"id\\\":$id,\\\"method\\\":\\\"allocate\\\",\\\"params\\\":{}}\"";

fn tour_of(family: Family, contract: &Contract) -> Vec<String> {
    let (net, sep, size) = match family {
        Family::V4 => ("10.0.0", ".", 29),
        Family::V6 => ("fd00:", ":", 125),
    };
    let at = |host: u8| format!("{net}{sep}{host}");
    let exclude = if contract.limits.exclusions { format!(" exclude {}", at(5)) } else { String::new() };
    let pool = format!("pool p0 {}/{size} gateway {}{exclude}", at(0), at(1));
    let outside = at(9);
    let addresses = format!(
        "{pool}\n{pool}\npool p1 {}/31\npool \"\" {}/{size}\nallocate \"a\" p0\nallocate \"a\" p0 [-1]\n\
         allocate \"b\" p0 [0]\nallocate \"b\" p0 [1]\nallocate \"b\" p0 [5]\nallocate \"b\" p0 {outside}\n\
         allocate \"b\" p0 [4]~full\nallocate \"b\" p0 [3]~zone\nallocate \"b\" p0 @5\nallocate \"b\" nowhere\nallocate \"\" p0\n\
         delete p0\ndelete nowhere\nupdate p0 range {} {}\nupdate p0 gateway {outside}\n\
         release p0 @5 \"stranger\"\nrelease p0 @5 \"a\"\nrelease p0 @5 \"a\"\nfill p0 \"c\" 9\nusage p0\nusage nowhere\n\
         list\nlist p0\nrelease-owner \"c\"\ndrain p0 9\nupdate p0 gateway {}\nallocate \"d\" p0 [-2]\nfill p0 \"d\" 9\n\
         release-owner \"d\"\ndrain p0 9\ndelete p0\n\
         pool p0 {}/{size} gateway {}\nusage p0\nfill p0 \"e\" 9\nrelease p0 [2]",
        at(1),
        at(8),
        at(6),
        at(6),
        at(1),
        // Once more, and nothing of the first one is left.
        at(0),
        at(1),
    );
    // Real time is waited for.
    let lease_ms = if contract.clock == Clock::Wall { 200 } else { 1000 };
    let rest = format!(
        "{pool}\ncommit\nrollback\nbegin\nbegin\nallocate \"a\" p0 ttl {lease_ms}\nadvance 1\nrollback\nlist\nbegin\n\
         allocate \"a\" p0 ttl {lease_ms}\nallocate \"b\" p0\ncommit\nrestart\nadvance @11-1\nrenew p0 @11 \"a\" ttl {lease_ms}\n\
         renew p0 @11 \"b\" ttl {lease_ms}\nrenew p0 [3] \"a\" ttl {lease_ms}\ncrash\nadvance @16\nrenew p0 @11 \"a\" ttl 5\n\
         allocate \"c\" p0 @11\nlist\nallocate \"a\" p0 /{}\nallocate \"b\" p0 /{}\nrelease p0 @24 \"a\"",
        family.bits() - 1,
        family.bits(),
    );
    // Enough random choices for a test, where that is promised.
    let many = if contract.unpredictable { 64 } else { 3 };
    let huge_prefix = match family {
        Family::V4 => "10.0.0.0/8",
        Family::V6 => "fd00::/64",
    };
    let huge = format!(
        "pool p0 {huge_prefix} gateway {}\nfill p0 \"a\" {many}\nallocate \"b\" p0 [-2]\nusage p0\nrelease p0 @3 \"b\"",
        at(1)
    );
    let mut texts = vec![addresses, huge];
    if contract.clock != Clock::None || contract.has(Method::Begin) || contract.durable || contract.blocks {
        texts.push(rest);
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Methods;

    #[test]
    fn every_text_of_the_tour_parses() {
        let mut contract =
            Contract { methods: Methods::all(), clock: Clock::Virtual, durable: true, ..Contract::default() };
        contract.limits.raw = true;
        for family in Family::ALL {
            for text in tour_of(family, &contract) {
                parse(&format!("{}\n{text}", crate::scenario::HEADER)).unwrap();
            }
        }
        assert_eq!(tour(&contract).len(), 7);
        assert_eq!(tour(&Contract::default()).len(), 4);
    }
}
