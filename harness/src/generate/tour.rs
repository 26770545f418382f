//! The tour: a few fixed scenarios that visit every method and every outcome of a contract.
//!
//! A campaign begins with them, so that even a short one on a slow system is not vacuous, and so
//! that a system that breaks a plain rule is told so at once.

use super::lines::lines;
use crate::address::Family;
use crate::contract::{Clock, Contract};
use crate::operation::{Method, Operation};
use crate::scenario::{Scenario, Step, parse};

/// The tour for systems with this contract. Steps that the contract lacks are left out by whoever
/// runs them.
pub fn tour(contract: &Contract) -> Vec<Scenario> {
    let families = Family::ALL.into_iter().filter(|family| contract.families.contains(*family));
    // A text that does not parse is a defect that the tests find; a campaign goes on without it.
    let texts = families.flat_map(|family| tour_of(family, contract));
    let scenarios = texts.filter_map(|text| parse(&format!("{}\n{text}", crate::scenario::HEADER)).ok());
    contract.limits.raw.then(|| raw(contract)).into_iter().chain(scenarios).collect()
}

/// Every malformed line, while there is something that one could change.
fn raw(contract: &Contract) -> Scenario {
    let held = "pool p0 10.0.0.0/29 gateway 10.0.0.1\nallocate \"a\" p0 10.0.0.2\nallocate \"b\" p0";
    let mut scenario = parse(&format!("{}\n{held}", crate::scenario::HEADER)).unwrap_or_default();
    scenario.steps.extend(lines(contract).map(|line| Step::Call(Operation::Raw { line: line.into() })));
    scenario
}

/// Where the tour's pools lie: what comes before the last number of an address, and how many bits an address has.
fn net(family: Family) -> (&'static str, u8) {
    match family {
        Family::V4 => ("10.0.0.", 32),
        Family::V6 => ("fd00::", 128),
    }
}

/// A line for each way in which a pool can be wrong or meet another, and pools of several parts.
fn pools(family: Family, contract: &Contract) -> String {
    let (net, bits) = net(family);
    // Written as the last digits of an address, alike in decimal and in hexadecimal.
    let mut lines = vec![
        format!("pool b0 {net}0/{} range {net}6 {net}9", bits - 3),
        format!("pool b1 {net}0/{} range {net}5 {net}3", bits - 3),
        format!("pool b2 {net}0/{} gateway {net}9", bits - 3),
        format!("pool b3 {net}1/{}", bits - 3),
        format!("pool b4 {net}0/{}", bits + 1),
        format!("pool p0 {net}0/{} gateway {net}1", bits - 3),
        format!("pool p1 {net}0/{} gateway {net}1", bits - 4),
        format!("pool p2 {net}4/{} gateway {net}5", bits - 2),
        format!("pool p3 {net}8/{} gateway {net}9", bits - 3),
        format!("fill p3 \"a\" 9\nusage p3\nrelease-owner \"a\"\ndelete p3"),
        format!("pool p4 {net}0/{} gateway {net}1", bits - 5),
        format!("delete p0"),
        format!(
            "pool p4 {net}0/{} range {net}2 {net}2 range {net}4 {net}4 range {net}6 {net}7 gateway {net}1",
            bits - 4
        ),
        format!("fill p4 \"a\" 9\nusage p4\nrelease-owner \"a\""),
    ];
    if contract.limits.exclusions {
        lines.push(format!("pool b5 {net}80/{} exclude {net}99", bits - 3));
        // Once more, and nothing of the first one is left. Twice, an odd number of calls apart, so that what is absent is
        // left out in one of them.
        let (cut, whole) =
            (format!("pool p5 {net}80/{} exclude {net}83", bits - 3), format!("pool p5 {net}80/{}", bits - 3));
        lines.push(format!("{cut}\ndelete p5\n{whole}\nusage p5\ndelete p5\n{cut}\ndelete p5"));
        lines.push(format!("{whole}\nusage p5\nfill p5 \"e\" 9\nrelease-owner \"e\""));
        lines.push(format!("update p4 exclude {net}4\nusage p4\nupdate p4\nusage p4\nfill p4 \"b\" 20\nusage p4"));
    } else {
        lines.push(format!("pool p5 {net}80/{} gateway {net}81", bits - 3));
    }
    if contract.takes_several() {
        // Whichever request fails, nothing of the others is left.
        lines.push(format!("release-owner \"b\"\npool p6 {net}90/{bits}\nallocate \"c\" p6"));
        lines.extend(["p4 + p5 + p6", "p4 + p6 + p5", "p6 + p5 + p4"].map(|pools| format!("allocate \"d\" {pools}")));
    }
    lines.push("list".to_owned());
    lines.join("\n")
}

/// What a transaction did to pools, and odd names, over a crash and a restart.
fn restarts(family: Family) -> String {
    let (net, bits) = net(family);
    let far = if family == Family::V4 { "10.0.1." } else { "fd01::" };
    let pool = |name: &str, host: &str| format!("pool {name} {net}{host}0/{} gateway {net}{host}1", bits - 3);
    format!(
        "{}\n{}\nallocate \"x\\u{{a}}y-1\" p0\nallocate \"\\u{{1f600}} 2\" p0\nbegin\ndelete p1\ncommit\ncrash\nusage p1\nlist\n\
         begin\n{}\ncommit\nrestart\nusage p2\nbegin\n{}\nrollback\ncrash\nbegin\n{}\nrestart\nlist\nfill p2 \"a\" 9\n\
         pool p4 {far}0/{} gateway {far}1\nfill p4 \"a\" 40\nrestart\nlist p4\nfill p4 \"b\" 3",
        pool("p0", ""),
        pool("p1", "8"),
        pool("p2", "4"),
        pool("p3", "16"),
        pool("p3", "24"),
        bits - 6,
    )
}

/// Each call that changes something, and a crash right behind it: what was answered lasts, whatever was to come.
fn survival(family: Family, lease_ms: u64) -> String {
    let (net, bits) = net(family);
    let calls = [
        format!("pool p0 {net}0/{} gateway {net}1\nusage p0", bits - 4),
        "allocate \"a\" p0".to_owned(),
        format!("allocate \"a\" p0 /{}", bits - 1),
        format!("allocate \"b\" p0 ttl {lease_ms}\nrenew p0 @14 \"b\" ttl {}", lease_ms * 100),
        format!("update p0 range {net}2 {net}8 gateway {net}1"),
        "release p0 @6 \"a\"".to_owned(),
        "advance 1".to_owned(),
        "release-owner \"b\"".to_owned(),
        "release-owner \"a\"\ndelete p0".to_owned(),
    ];
    calls.map(|call| format!("{call}\ncrash\nlist\nusage p0\n")).concat()
}

/// Owners that are easily taken for one another, and refusals in a row within a transaction.
fn names(family: Family) -> String {
    let (net, bits) = net(family);
    let mut lines = vec![format!("pool p0 {net}0/{} gateway {net}1", bits - 4)];
    for (owner, other) in
        [("Owner-1", "owner-1"), ("owner-2 ", "owner-2"), ("é-3", "e\u{301}-3"), ("7", "007"), ("a%", "ab")]
    {
        let step = lines.len() + 1;
        lines.push(format!("allocate \"{owner}\" p0"));
        lines.push(format!("release p0 @{step} \"{other}\""));
        lines.push(format!("release-owner \"{other}\""));
        lines.push(format!("release p0 @{step} \"{owner}\""));
    }
    let held = lines.len() + 1;
    lines.push("allocate \"a\" p0\nlist\nbegin".to_owned());
    for refused in ["allocate \"a\" nowhere", &format!("release p0 @{held} \"b\""), "release p0 [9] \"a\""] {
        lines.extend(std::iter::repeat_n(refused.to_owned(), 6));
    }
    lines.push("rollback".to_owned());
    lines.join("\n")
}

/// Blocks beside single addresses.
fn blocks(family: Family, contract: &Contract) -> String {
    let (net, bits) = net(family);
    let (pool, block) = (bits - 5, bits - 2);
    let mut lines = vec![
        format!("pool p0 {net}0/{pool}\nallocate \"a\" p0 /{block}\ndelete p0\nupdate p0 range {net}1 {net}1"),
        "usage p0\nrelease p0 [5] \"a\"\nallocate \"b\" p0 [5]\nallocate \"b\" p0 [6]".to_owned(),
    ];
    lines.extend(["5", "6", "7"].map(|part| format!("update p0 range {net}{part} {net}{part}")));
    if contract.limits.exclusions {
        lines.extend(["1", "2", "5", "6"].map(|part| format!("update p0 exclude {net}{part}")));
    }
    lines.push(format!("release p0 {net}4/{} \"a\"\nrelease p0 {net}4/{bits} \"a\"\nupdate p0", bits - 1));
    // In the middle of every block that is left.
    lines.extend([9, 13, 18, 22, 25].map(|place| format!("allocate \"b\" p0 [{place}]")));
    lines.push(format!("allocate \"c\" p0 /{block}\nallocate \"c\" p0 /{}\nrelease p0 @2 \"a\"", bits - 1));
    lines.push(format!("allocate \"c\" p0 /{block}\nfill p0 \"d\" 40\nallocate \"c\" p0 /{bits}\nlist"));
    lines.join("\n")
}

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
    let mut texts = vec![addresses, huge, pools(family, contract), names(family)];
    if contract.durable {
        texts.push(restarts(family));
        texts.push(survival(family, lease_ms));
    }
    if contract.blocks {
        texts.push(blocks(family, contract));
    }
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
        assert_eq!(tour(&contract).len(), 15);
        assert_eq!(tour(&Contract::default()).len(), 8);
        contract.blocks = true;
        assert_eq!(tour(&contract).len(), 17);
    }
}
