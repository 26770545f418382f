//! How long it takes to judge histories, beside a checker that knows nothing of allocators: Wing and Gong's search with Lowe's
//! memory of states, written as most are. `cargo bench -p poolproof --bench histories`.

#[path = "../tests/common/histories.rs"]
mod histories;

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use histories::{Size, right, wrong};
use poolproof::address::Grant;
use poolproof::contract::{Contract, Methods};
use poolproof::history::{Bounds, History, Judgement, Outcome, judge};
use poolproof::operation::{Answer, Operation, Text};

const PATIENCE: Duration = Duration::from_secs(20);
const TIMES: u32 = 5;

fn main() {
    // First, as the most memory so far is that of a general checker afterwards.
    grow();
    compare("right", Size { calls: 100_000, callers: 8, addresses: 254 }, right);
    compare("one answer wrong", Size { calls: 10_000, callers: 32, addresses: 16 }, wrong);
}

fn contract() -> Contract {
    Contract { methods: Methods::all(), ..Contract::default() }
}

/// Both checkers on the same history, the medians of some runs of ours.
fn compare(what: &str, size: Size, make: fn(Size, u64) -> Vec<poolproof::history::Recorded>) {
    let history = History::new(make(size, 1));
    let mut times: Vec<Duration> = (0..TIMES).map(|_| ours(&history).0).collect();
    times.sort_unstable();
    let (median, judgement) = (times[times.len() / 2], ours(&history).1);
    let started = Instant::now();
    let general = Search::new(&history).is_linearizable(started + PATIENCE);
    let time = started.elapsed();
    let said = general.map_or("nothing yet".to_owned(), |is| format!("linearizable: {is}"));
    println!(
        "{what}: {} calls, {} callers, {} addresses: {judgement} in {median:.1?}; in general: {said} after {time:.1?}, \
         {:.0} times as long",
        size.calls,
        size.callers,
        size.addresses,
        time.as_secs_f64() / median.as_secs_f64()
    );
}

/// From ten thousand to ten million calls: how much longer does ten times as much take?
fn grow() {
    let mut before: Option<Duration> = None;
    for calls in [10_000, 100_000, 1_000_000, 10_000_000] {
        let history = History::new(right(Size { calls, callers: 8, addresses: 254 }, 2));
        let (time, judgement) = ours(&history);
        let ratio = before.map_or(String::new(), |before| {
            format!(", {:.1} times as long as a tenth of them", time.as_secs_f64() / before.as_secs_f64())
        });
        println!("{calls} calls: {judgement} in {time:.2?}{ratio}; {} MiB at most so far", peak_mib());
        before = Some(time);
    }
}

fn ours(history: &History) -> (Duration, String) {
    let (contract, started) = (contract(), Instant::now());
    let judgement = judge(history, &contract, Bounds::default());
    let time = started.elapsed();
    let said = match judgement {
        Judgement::Linearizable { .. } => "linearizable".to_owned(),
        Judgement::Violated(conflict) => format!("violated with a core of {}", conflict.core.len()),
        Judgement::Unknown { why } => format!("unknown: {why}"),
    };
    (time, said)
}

/// The most memory that this process has had, in MiB, where the system tells.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() / 1024
}

/// What a call did, for the general checker.
enum Effect {
    Grant(Grant, Text),
    Release(Grant, Text),
    Full,
    Other,
}

/// A state of the allocator, with the calls done so far, one bit each.
type Met = (Vec<u64>, Vec<(Grant, Text)>);

/// The general checker: calls that have not taken effect yet are a list in the order of their events; each that was invoked
/// before the first return in it may be next. States that were met with the same calls done are not visited again.
struct Search {
    effects: Vec<Effect>,
    /// Event to call; returns are negative.
    events: Vec<(usize, bool)>,
    addresses: usize,
}

impl Search {
    fn new(history: &History) -> Search {
        let calls = history.calls();
        let mut events: Vec<(u64, usize, bool)> = Vec::new();
        let mut effects = Vec::new();
        let mut addresses = 0;
        for (index, call) in calls.iter().enumerate() {
            events.push((call.invoked, index, false));
            events.push((call.returned, index, true));
            let Outcome::Answered(response) = &call.recorded.outcome else { continue };
            effects.push(match (&call.recorded.operation, response) {
                (Operation::Allocate { owner, .. }, Ok(Answer::Granted { grants, .. })) => {
                    Effect::Grant(grants[0], owner.clone())
                }
                (Operation::Allocate { .. }, _) => Effect::Full,
                (Operation::Release { address, owner: Some(owner), .. }, Ok(_)) => {
                    Effect::Release(address.meaning().expect("an address"), owner.clone())
                }
                (Operation::CreatePool { shape, .. }, _) => {
                    addresses = count(&shape.ranges[0]);
                    Effect::Other
                }
                _ => Effect::Other,
            });
        }
        events.sort_unstable();
        Search { effects, events: events.into_iter().map(|(_, call, back)| (call, back)).collect(), addresses }
    }

    /// Nothing where it took too long.
    fn is_linearizable(&self, until: Instant) -> Option<bool> {
        let count = self.events.len();
        // A list with links both ways, with a head before all; taken out and put back like cards.
        let mut next: Vec<usize> = (1..=count + 1).collect();
        let mut last: Vec<usize> = (0..=count + 1).map(|place| place.saturating_sub(1)).collect();
        let mut return_of = vec![0; self.effects.len()];
        for (place, (call, back)) in self.events.iter().enumerate() {
            if *back {
                return_of[*call] = place + 1;
            }
        }
        let mut held: BTreeMap<Grant, Text> = BTreeMap::new();
        let mut done = vec![0_u64; self.effects.len() / 64 + 1];
        let mut met: HashSet<Met> = HashSet::new();
        let mut stack: Vec<(usize, BTreeMap<Grant, Text>)> = Vec::new();
        let mut at = next[0];
        loop {
            if next[0] == count + 1 {
                return Some(true);
            }
            if Instant::now() > until {
                return None;
            }
            let (call, back) = self.events[at - 1];
            if !back {
                let before = held.clone();
                if self.allows(call, &mut held) {
                    done[call / 64] |= 1 << (call % 64);
                    let state = held.iter().map(|(grant, owner)| (*grant, owner.clone())).collect();
                    if met.insert((done.clone(), state)) {
                        stack.push((at, before));
                        for place in [at, return_of[call]] {
                            (next[last[place]], last[next[place]]) = (next[place], last[place]);
                        }
                        at = next[0];
                        continue;
                    }
                    done[call / 64] &= !(1 << (call % 64));
                }
                held = before;
                at = next[at];
                continue;
            }
            let Some((place, before)) = stack.pop() else { return Some(false) };
            let (call, _) = self.events[place - 1];
            held = before;
            done[call / 64] &= !(1 << (call % 64));
            for place in [return_of[call], place] {
                (next[last[place]], last[next[place]]) = (place, place);
            }
            at = next[place];
        }
    }

    fn allows(&self, call: usize, held: &mut BTreeMap<Grant, Text>) -> bool {
        match &self.effects[call] {
            Effect::Grant(grant, owner) => held.insert(*grant, owner.clone()).is_none(),
            Effect::Release(grant, owner) => held.remove(grant).as_ref() == Some(owner),
            Effect::Full => held.len() == self.addresses,
            Effect::Other => true,
        }
    }
}

/// Addresses of a range.
fn count((first, last): &(Text, Text)) -> usize {
    let number = |text: &Text| poolproof::address::number(text.parse().expect("an address"));
    (number(last) - number(first) + 1) as usize
}
