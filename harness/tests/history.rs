//! Histories of concurrent callers are judged as an oracle does that tries all orders. The oracle is written from the
//! protocol alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use poolproof::address::Grant;
use poolproof::contract::{Contract, Methods};
use poolproof::history::{Bounds, History, Judgement, Outcome, Recorded, judge};
use poolproof::operation::{Answer, Kind, Operation, PoolShape, Refusal, Request, Requests, Response, Want, Written};
use poolproof::scenario::text;

/// What the oracle knows of calls on one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Granted(u8),
    Exhausted,
    /// By name.
    NamedGranted(u8),
    NamedConflict(u8),
    Released(u8),
    NotFound(u8),
    NotOwner(u8),
}

#[derive(Clone, Copy, Debug)]
struct Brief {
    owner: u8,
    said: Said,
    invoked: u64,
    returned: u64,
    /// Does anybody know the outcome?
    is_known: bool,
}

/// Is there an order? Tries all of them. A call of unknown outcome returns last of all, and need not take effect.
fn has_order(calls: &[Brief], done: u32, held: &mut BTreeMap<u8, u8>, size: u8) -> bool {
    let is_open = |index: usize| done & 1 << index == 0;
    let open = (0..calls.len()).filter(|index| is_open(*index));
    let Some(first_return) =
        open.clone().filter(|index| calls[*index].is_known).map(|index| calls[index].returned).min()
    else {
        return true;
    };
    for index in open.filter(|index| calls[*index].invoked < first_return) {
        for said in may_have_said(&calls[index]) {
            let before = held.clone();
            let call = Brief { said, ..calls[index] };
            if allows(&call, held, size) && has_order(calls, done | 1 << index, held, size) {
                return true;
            }
            *held = before;
        }
    }
    false
}

/// What a call came to; where nobody knows, what it may have done.
fn may_have_said(call: &Brief) -> Vec<Said> {
    match call.said {
        said if call.is_known => vec![said],
        Said::Granted(_) | Said::Exhausted => vec![Said::Granted(0), Said::Granted(1)],
        Said::NamedGranted(address) | Said::NamedConflict(address) => vec![Said::NamedGranted(address)],
        Said::Released(address) | Said::NotFound(address) | Said::NotOwner(address) => vec![Said::Released(address)],
    }
}

/// The protocol, for these calls.
fn allows(call: &Brief, held: &mut BTreeMap<u8, u8>, size: u8) -> bool {
    match call.said {
        Said::Granted(address) | Said::NamedGranted(address) => held.insert(address, call.owner).is_none(),
        Said::Exhausted => held.len() == usize::from(size),
        Said::NamedConflict(address) => held.contains_key(&address),
        Said::Released(address) => held.remove(&address) == Some(call.owner),
        Said::NotFound(address) => !held.contains_key(&address),
        Said::NotOwner(address) => held.get(&address).is_some_and(|owner| *owner != call.owner),
    }
}

/// 10.0.0.0/31 has two addresses, and none of them is an edge.
fn address(number: u8) -> Grant {
    Grant::Address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)))
}

fn refused(kind: Kind) -> Response {
    Err(Refusal { kind, message: "no".into() })
}

fn recorded(brief: &Brief) -> Recorded {
    let owner = text(&format!("o{}", brief.owner));
    let allocate = |want| Operation::Allocate {
        owner: owner.clone(),
        requests: Requests::from_iter([Request { pool: text("p0"), want }]),
        ttl_ms: None,
    };
    let release = |number| Operation::Release {
        pool: text("p0"),
        address: Written::Plain(address(number)),
        owner: Some(owner.clone()),
    };
    let granted = |number| Ok(Answer::Granted { grants: [address(number)].into_iter().collect(), expires_ms: None });
    let named = |number| allocate(Want::Named(Written::Plain(address(number))));
    let (operation, response) = match brief.said {
        Said::Granted(number) => (allocate(Want::Any), granted(number)),
        Said::Exhausted => (allocate(Want::Any), refused(Kind::Exhausted)),
        Said::NamedGranted(number) => (named(number), granted(number)),
        Said::NamedConflict(number) => (named(number), refused(Kind::Conflict)),
        Said::Released(number) => (release(number), Ok(Answer::Done)),
        Said::NotFound(number) => (release(number), refused(Kind::NotFound)),
        Said::NotOwner(number) => (release(number), refused(Kind::NotOwner)),
    };
    Recorded {
        process: text(&format!("x{}", brief.invoked)),
        operation,
        invoked: brief.invoked,
        returned: Some(brief.returned),
        outcome: if brief.is_known { Outcome::Answered(response) } else { Outcome::Unknown },
    }
}

fn whole(calls: &[Brief]) -> History {
    let create = Operation::CreatePool { pool: text("p0"), prefix: text("10.0.0.0/31"), shape: PoolShape::default() };
    let made = Recorded {
        process: text("x"),
        operation: create,
        invoked: 0,
        returned: Some(1),
        outcome: Outcome::Answered(Ok(Answer::Done)),
    };
    History::new(std::iter::once(made).chain(calls.iter().map(recorded)).collect())
}

fn contract() -> Contract {
    Contract { methods: Methods::all(), ..Contract::default() }
}

/// Histories of so many calls, at random: the answers mostly those of an allocator that did them in some order.
fn drawn(random: &mut fastrand::Rng, count: usize, owners: u8) -> Vec<Brief> {
    let mut events: Vec<u64> = (2..2 + 2 * count as u64).collect();
    let spread = 1 + random.usize(..6);
    // Neighbours change places, so that calls overlap a little or much.
    let mut calls: Vec<Brief> = Vec::new();
    let mut held = BTreeMap::new();
    for index in 0..2 * count {
        let other = (index + random.usize(..spread)).min(2 * count - 1);
        events.swap(index, other);
    }
    for index in 0..count {
        let (one, two) = (events[2 * index], events[2 * index + 1]);
        let owner = random.u8(..owners);
        let (invoked, returned) = (one.min(two), one.max(two));
        let call = Brief { owner, said: Said::Exhausted, invoked, returned, is_known: true };
        let free = (0..2).find(|address| !held.contains_key(address));
        let address = random.u8(..2);
        let honest = match (random.u8(..10), free) {
            (0..4, Some(free)) => Said::Granted(free),
            (0..4, None) => Said::Exhausted,
            (4..6, _) if held.contains_key(&address) => Said::NamedConflict(address),
            (4..6, _) => Said::NamedGranted(address),
            _ if held.get(&address) == Some(&owner) => Said::Released(address),
            _ if held.contains_key(&address) => Said::NotOwner(address),
            _ => Said::NotFound(address),
        };
        let lies = random.u8(..12) == 0;
        let said = if lies {
            match random.u8(..7) {
                0 => Said::Granted(address),
                1 => Said::Exhausted,
                2 => Said::NamedGranted(address),
                3 => Said::NamedConflict(address),
                4 => Said::Released(address),
                5 => Said::NotFound(address),
                _ => Said::NotOwner(address),
            }
        } else {
            honest
        };
        let call = Brief { said, ..call };
        allows(&call, &mut held, 2);
        calls.push(call);
    }
    calls
}

/// Counts of histories with an order and without one.
fn compare(histories: impl Iterator<Item = Vec<Brief>>) -> (u64, u64) {
    let (contract, mut counts) = (contract(), (0, 0));
    for calls in histories {
        let expected = has_order(&calls, 0, &mut BTreeMap::new(), 2);
        match judge(&whole(&calls), &contract, Bounds::default()) {
            Judgement::Linearizable { order } => {
                assert!(expected, "an order that is none: {order:?} of {calls:#?}");
                assert_eq!(order.len(), calls.len() + 1);
            }
            Judgement::Violated(conflict) => {
                assert!(!expected, "a violation that is none: {conflict:?} in {calls:#?}");
                assert!(conflict.core.len() <= 12, "{conflict:?}");
            }
            Judgement::Unknown { why } => panic!("unknown ({why}): {calls:#?}"),
        }
        *if expected { &mut counts.0 } else { &mut counts.1 } += 1;
    }
    counts
}

/// Every drawn history of up to nine calls is judged as the oracle judges it.
#[test]
fn drawn_histories_are_judged_as_all_orders_say() {
    let number = std::env::var("HISTORIES").map_or(20_000, |number| number.parse().expect("HISTORIES is a number"));
    let mut random = fastrand::Rng::with_seed(5);
    let mut next = move |_| {
        let (count, owners) = (2 + random.usize(..8), 1 + random.u8(..4));
        drawn(&mut random, count, owners)
    };
    let (with, without) = compare((0..number).map(&mut next));
    println!("{with} histories with an order, {without} without one");
    assert!(with * 10 > number && without * 10 > number, "{with} and {without}");
}

/// Of histories with calls of unknown outcome nothing is said that the oracle denies; what is left open is counted.
#[test]
fn what_is_said_of_unknown_outcomes_is_right() {
    let (contract, mut random, mut counts) = (contract(), fastrand::Rng::with_seed(6), [0_u32; 3]);
    for _ in 0..20_000 {
        let mut calls = drawn(&mut random, 6, 3);
        for call in &mut calls {
            if random.u8(..4) == 0 {
                (call.is_known, call.returned) = (false, u64::MAX);
            }
        }
        let expected = has_order(&calls, 0, &mut BTreeMap::new(), 2);
        match judge(&whole(&calls), &contract, Bounds::default()) {
            Judgement::Linearizable { .. } => assert!(expected, "an order that is none: {calls:#?}"),
            Judgement::Violated(conflict) => assert!(!expected, "no violation: {conflict:?} in {calls:#?}"),
            Judgement::Unknown { .. } => counts[2] += 1,
        }
        counts[usize::from(!expected)] += 1;
    }
    println!("{} with an order, {} without one; {} left open", counts[0], counts[1], counts[2]);
    assert_eq!(counts[2], 0, "{counts:?}");
}

/// What calls of so many owners on two addresses can say.
fn sayings(owners: u8) -> Vec<(u8, Said)> {
    let mut all = vec![(0, Said::Exhausted)];
    for address in 0..2 {
        all.extend([(0, Said::NotFound(address)), (0, Said::NamedConflict(address))]);
        for owner in 0..owners {
            let of_owner = [Said::Granted(address), Said::Released(address), Said::NotOwner(address)];
            all.extend(of_owner.map(|said| (owner, said)));
        }
    }
    all
}

/// Every way in which so many calls can overlap, but for their names: only what comes before what matters.
fn overlaps(count: usize) -> Vec<Vec<(u64, u64)>> {
    let mut found = BTreeMap::new();
    pair_up(&mut vec![None; 2 * count], &mut Vec::new(), &mut |intervals| {
        found.entry(canonical(intervals)).or_insert_with(|| intervals.to_vec());
    });
    found.into_values().collect()
}

/// Every way to pair up events; each pair is a call.
fn pair_up(events: &mut Vec<Option<usize>>, calls: &mut Vec<(u64, u64)>, take: &mut impl FnMut(&[(u64, u64)])) {
    let Some(first) = events.iter().position(Option::is_none) else { return take(calls) };
    for last in first + 1..events.len() {
        if events[last].is_none() {
            (events[first], events[last]) = (Some(first), Some(first));
            calls.push((2 + first as u64, 2 + last as u64));
            pair_up(events, calls, take);
            calls.pop();
            (events[first], events[last]) = (None, None);
        }
    }
}

/// The least way to write down what comes before what, over all names.
fn canonical(calls: &[(u64, u64)]) -> u64 {
    let mut least = u64::MAX;
    let mut names: Vec<usize> = (0..calls.len()).collect();
    permute(&mut names, 0, &mut |names| {
        let mut written = 0;
        for (row, one) in names.iter().enumerate() {
            for (column, other) in names.iter().enumerate() {
                if calls[*one].1 < calls[*other].0 {
                    written |= 1_u64 << (row * calls.len() + column);
                }
            }
        }
        least = least.min(written);
    });
    least
}

fn permute(names: &mut Vec<usize>, from: usize, take: &mut impl FnMut(&[usize])) {
    if from == names.len() {
        return take(names);
    }
    for other in from..names.len() {
        names.swap(from, other);
        permute(names, from + 1, take);
        names.swap(from, other);
    }
}

/// For each call, those from it on that come before and after the same ones: to exchange them makes no other history.
fn alike(overlap: &[(u64, u64)]) -> Vec<Vec<usize>> {
    let related = |one: usize| {
        let before = overlap.iter().map(|other| other.1 < overlap[one].0).collect::<Vec<bool>>();
        let after = overlap.iter().map(|other| overlap[one].1 < other.0).collect::<Vec<bool>>();
        (before, after)
    };
    let from = |one: usize| (one..overlap.len()).filter(|other| related(one) == related(*other)).collect();
    (0..overlap.len()).map(from).collect()
}

/// What each of the sayings becomes where addresses and owners change their names, in all four ways.
fn renamings(sayings: &[(u8, Said)]) -> Vec<Vec<usize>> {
    let renamed = |(owner, said): (u8, Said), owners: u8, addresses: u8| {
        let said = match said {
            Said::Exhausted => Said::Exhausted,
            Said::Granted(address) => Said::Granted(address ^ addresses),
            Said::NamedGranted(address) => Said::NamedGranted(address ^ addresses),
            Said::NamedConflict(address) => Said::NamedConflict(address ^ addresses),
            Said::Released(address) => Said::Released(address ^ addresses),
            Said::NotFound(address) => Said::NotFound(address ^ addresses),
            Said::NotOwner(address) => Said::NotOwner(address ^ addresses),
        };
        let tells_owner = matches!(said, Said::Granted(_) | Said::Released(_) | Said::NotOwner(_));
        (if tells_owner { owner ^ owners } else { owner }, said)
    };
    let place = |wanted: (u8, Said)| sayings.iter().position(|saying| *saying == wanted).unwrap();
    let all = |(owners, addresses)| sayings.iter().map(|saying| place(renamed(*saying, owners, addresses))).collect();
    [(0, 0), (0, 1), (1, 0), (1, 1)].map(all).into()
}

/// Puts what was chosen for calls that are alike in its order.
fn sort_alike(chosen: &mut [usize], alike: &[Vec<usize>]) {
    for (place, others) in alike.iter().enumerate() {
        for other in others {
            if chosen[*other] < chosen[place] {
                chosen.swap(place, *other);
            }
        }
    }
}

/// Of all histories with these overlaps that differ only in the names of addresses and owners, and in which of calls that
/// are alike is which, one: the first.
fn every(overlap: &[(u64, u64)], sayings: &[(u8, Said)], take: &mut impl FnMut(&[usize])) {
    let (alike, renamings) = (alike(overlap), renamings(sayings));
    let mut chosen = vec![0; overlap.len()];
    let mut other = chosen.clone();
    loop {
        let is_first = renamings.iter().all(|renaming| {
            other.iter_mut().zip(&chosen).for_each(|(new, old)| *new = renaming[*old]);
            sort_alike(&mut other, &alike);
            chosen <= other
        });
        if is_first {
            take(&chosen);
        }
        let Some(place) = chosen.iter().rposition(|choice| choice + 1 < sayings.len()) else { return };
        chosen[place] += 1;
        chosen[place + 1..].fill(0);
        // What is alike stands in its order in any history that is the first of its kind.
        for earlier in 0..=place {
            for later in alike[earlier].iter().filter(|later| **later > place) {
                chosen[*later] = chosen[*later].max(chosen[earlier]);
            }
        }
    }
}

/// The calls of a history that was chosen.
fn calls(overlap: &[(u64, u64)], sayings: &[(u8, Said)], chosen: &[usize]) -> Vec<Brief> {
    let call = |(at, choice): (&(u64, u64), &usize)| {
        let (owner, said) = sayings[*choice];
        Brief { owner, said, invoked: at.0, returned: at.1, is_known: true }
    };
    overlap.iter().zip(chosen).map(call).collect()
}

/// Every history of three calls is, but for names, one of those that are taken.
#[test]
fn no_small_history_is_left_out() {
    let sayings = sayings(2);
    let renamings = renamings(&sayings);
    for overlap in overlaps(3) {
        let is_before = |one: usize, other: usize| overlap[one].1 < overlap[other].0;
        let pairs = || (0..3).flat_map(|one| (0..3).map(move |other| (one, other)));
        let mut orders: Vec<Vec<usize>> = Vec::new();
        permute(&mut vec![0, 1, 2], 0, &mut |order| {
            if pairs().all(|(one, other)| is_before(one, other) == is_before(order[one], order[other])) {
                orders.push(order.to_vec());
            }
        });
        let least = |chosen: &[usize]| {
            let renamed = |renaming: &Vec<usize>, order: &Vec<usize>| -> Vec<usize> {
                order.iter().map(|place| renaming[chosen[*place]]).collect()
            };
            renamings.iter().flat_map(|renaming| orders.iter().map(|order| renamed(renaming, order))).min().unwrap()
        };
        let mut taken: BTreeSet<Vec<usize>> = BTreeSet::new();
        every(&overlap, &sayings, &mut |chosen| {
            taken.insert(least(chosen));
        });
        let number = sayings.len();
        for code in 0..number.pow(3) {
            let chosen = [code / number / number, code / number % number, code % number];
            assert!(taken.contains(&least(&chosen)), "{overlap:?} {chosen:?}");
        }
    }
}

/// Every history of so many calls on two addresses is judged as the oracle judges it.
fn compare_all(count: usize, sayings: &[(u8, Said)]) {
    let overlaps = overlaps(count);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut counts = (0, 0);
        while let Some(overlap) = overlaps.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            every(overlap, sayings, &mut |chosen| {
                let (with, without) = compare(std::iter::once(calls(overlap, sayings, chosen)));
                counts = (counts.0 + with, counts.1 + without);
            });
        }
        counts
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let counts: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let sum = counts.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{count} calls, {} overlaps: {} histories with an order, {} without one", overlaps.len(), sum.0, sum.1);
    assert!(sum.0 > 0 && sum.1 > 0);
}

/// There are as many interval orders as are known: <https://oeis.org/A022493>.
#[test]
fn no_way_to_overlap_is_left_out() {
    let counts: Vec<usize> = (1..=5).map(|count| overlaps(count).len()).collect();
    assert_eq!(counts, [1, 2, 5, 15, 53]);
}

/// All of up to four calls of two owners; with `ALL_HISTORIES` set up to six: 721 million, most of an hour.
#[test]
fn every_small_history_is_judged_as_all_orders_say() {
    let most = if std::env::var_os("ALL_HISTORIES").is_some() { 6 } else { 4 };
    (1..=most).for_each(|count| compare_all(count, &sayings(2)));
}

/// Thousands of calls on one address that all overlap have too many orders to look at, and that is said soon.
#[test]
fn too_many_orders_are_given_up() {
    let brief = |index: u64| Brief {
        owner: (index % 5) as u8,
        said: if index.is_multiple_of(2) { Said::NamedGranted(0) } else { Said::Released(0) },
        invoked: 2 + index,
        returned: 10_000 + index,
        is_known: true,
    };
    let calls: Vec<Brief> = (0..60).map(brief).collect();
    let started = std::time::Instant::now();
    let bounds = Bounds { states: 10_000, ..Bounds::default() };
    let judgement = judge(&whole(&calls), &contract(), bounds);
    assert!(matches!(judgement, Judgement::Unknown { .. }), "{judgement:?}");
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

/// What a caller does next comes after what it did, even where the clock is too coarse to tell; of others that is not known.
#[test]
fn a_coarse_clock_keeps_the_order_of_each_caller() {
    let brief = |owner, said, invoked, returned| Brief { owner, said, invoked, returned, is_known: true };
    let history = |process: &str, calls: &[Brief]| {
        let made = whole(&[]).calls()[0].recorded.clone();
        let all = calls.iter().map(|call| Recorded { process: text(process), ..recorded(call) });
        History::new(std::iter::once(made).chain(all).collect())
    };
    let judged = |history: &History| judge(history, &contract(), Bounds::default());
    let again = [brief(1, Said::Granted(0), 2, 3), brief(1, Said::NotFound(0), 3, 4)];
    assert!(!matches!(judged(&history("p", &again)), Judgement::Linearizable { .. }));
    let twice = [brief(1, Said::Granted(0), 2, 3), brief(2, Said::Granted(0), 3, 4)];
    assert!(matches!(judged(&history("p", &twice)), Judgement::Violated(_)));
    let right = [brief(1, Said::Granted(0), 2, 3), brief(1, Said::Released(0), 3, 3), brief(1, Said::Granted(0), 3, 3)];
    assert!(matches!(judged(&history("p", &right)), Judgement::Linearizable { .. }));
}

/// An address of the other family is none of the pool's, though its number may be.
#[test]
fn families_are_told_apart() {
    let mut calls: Vec<Recorded> = whole(&[
        Brief { owner: 1, said: Said::Granted(0), invoked: 2, returned: 5, is_known: true },
        Brief { owner: 1, said: Said::NotFound(1), invoked: 3, returned: 6, is_known: true },
        Brief { owner: 1, said: Said::NotFound(0), invoked: 7, returned: 8, is_known: true },
    ])
    .calls()
    .iter()
    .map(|call| call.recorded.clone())
    .collect();
    let Operation::Release { address, .. } = &mut calls[3].operation else { panic!() };
    *address = Written::Plain(Grant::parse("::a00:0").unwrap());
    let judgement = judge(&History::new(calls), &contract(), Bounds::default());
    assert!(matches!(judgement, Judgement::Linearizable { .. }), "{judgement:?}");
}

/// Beside calls of unknown outcome, blocks and pools that change are judged where the pools are small: all that could be is
/// tried.
#[test]
fn what_nobody_knows_is_tried_beside_blocks_and_changes() {
    let contract = Contract { blocks: true, ..contract() };
    let pool = text("p0");
    let done = |answer| Outcome::Answered(Ok(answer));
    let allocate = |want| {
        let requests = Requests::from_iter([Request { pool: text("p0"), want }]);
        (Operation::Allocate { owner: text("a"), requests, ttl_ms: None }, Outcome::Unknown)
    };
    let usage = |allocatable: u128, allocated: u128| {
        let answer = Answer::Usage { allocatable: allocatable.into(), allocated: allocated.into() };
        (Operation::Usage { pool: pool.clone() }, done(answer))
    };
    let shape = PoolShape { exclude: vec![text("10.0.0.4/31")], ..PoolShape::default() };
    let update = || (Operation::UpdatePool { pool: pool.clone(), shape: shape.clone() }, done(Answer::Done));
    let judged = |prefix: &str, calls: Vec<(Operation, Outcome)>| {
        let shape = PoolShape::default();
        let create = Operation::CreatePool { pool: pool.clone(), prefix: text(prefix), shape };
        let all = std::iter::once((create, done(Answer::Done))).chain(calls);
        let recorded = all.zip(1..).map(|((operation, outcome), at)| Recorded {
            process: text(&format!("p{at}")),
            operation,
            invoked: 10 * at,
            returned: matches!(outcome, Outcome::Answered(_)).then_some(10 * at + 1),
            outcome,
        });
        match judge(&History::new(recorded.collect()), &contract, Bounds::default()) {
            Judgement::Linearizable { .. } => "right",
            Judgement::Violated(_) => "wrong",
            Judgement::Unknown { .. } => "unknown",
        }
    };
    for (allocated, expected) in [(0, "right"), (1, "wrong"), (2, "right"), (4, "wrong")] {
        let calls = vec![allocate(Want::Block(31)), usage(6, allocated)];
        assert_eq!(judged("10.0.0.0/29", calls), expected, "{allocated}");
    }
    for (allocated, expected) in [(0, "right"), (1, "right"), (2, "wrong")] {
        let calls = vec![update(), allocate(Want::Any), usage(4, allocated)];
        assert_eq!(judged("10.0.0.0/29", calls), expected, "{allocated}");
    }
    assert_eq!(judged("10.0.0.0/8", vec![allocate(Want::Block(31)), usage(0, 0)]), "unknown");
}
