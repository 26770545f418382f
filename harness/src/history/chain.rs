//! The story of one address: granted, given back, granted again.
//!
//! Grants and releases of one address take turns, so there are *phases*, free and held in turn, with a *boundary* between any
//! two: a grant or a release. Calls that change nothing tell of a phase: a grant by name that is refused because the address
//! is taken was made while it was held, a release of what nobody holds while it was free.
//!
//! **The order of the boundaries is no choice** where owners release only what they know that they were granted. When the
//! `j`-th grant returns, at least `j` have taken place, and at most as many releases as have been invoked. If those are `j-1`,
//! it is just these grants and just these releases, as they take turns: the first `j` and the first `j-1` of any order. If
//! there are fewer, there is no order. Likewise when a release returns. If that tells the first `j` of each, for every `j`, it
//! tells their order, and taking turns says the rest.
//!
//! **A tale belongs to a phase** of the right kind that it can have been told in. If it can be told in one without being in
//! anybody's way, or in that one only, it is told there. Elsewhere there is a [choice](Chain::has_choice): the story is one of
//! several, and what does not fit it may fit another. Where a choice turns out to be wrong, or the order of the boundaries is
//! one, all [`stories`] of the address are searched through for one.
//!
//! **Then there are instants for all of them** just if for each two, of which one comes before the other in the story, the one
//! is invoked before the other returns: each is given the latest invocation of all before it, and of itself.
//!
//! **At an instant the address can be held** if a held phase can be there: after everything that comes before that phase has
//! been invoked, before anything that comes after it has returned. Between held phases there may be time in which it is
//! [surely free](Chain::free). What is not surely free can be held, at any number of instants together: take for each the
//! earliest phase that it can be in; later instants are never in earlier phases, as both ends of those intervals only ever
//! rise from phase to phase.

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::stories::{self, Effort, Found};
use super::{Conflict, Event, MOST_SHOWN, NEVER};
use crate::operation::Text;

/// What a call says of the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Act {
    Grant,
    Release,
    /// It was held.
    ToldHeld,
    /// It was held, by somebody else.
    ToldOthers,
    /// It was free.
    ToldFree,
}

/// A call that touches the address.
#[derive(Clone, Debug)]
pub(super) struct Touch {
    pub(super) call: usize,
    pub(super) act: Act,
    /// For whom; nobody where anyone may release.
    pub(super) owner: Option<Text>,
    pub(super) invoked: Event,
    pub(super) returned: Event,
}

/// Where in a chain a call takes place: between which events, and, at one place, before or after calls that find everything
/// held; then by the order of the story.
pub(super) type Instant = (Event, Side, usize);

/// A side of the calls that find everything held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Before,
    Full,
    After,
}

/// Why there is no story.
pub(super) enum Problem {
    /// There can be none.
    Impossible(Conflict),
    /// It is not known.
    Undecided,
}

/// What is wrong, before it is known whether the choices made on the way are to blame.
struct Clash {
    calls: Vec<usize>,
    why: String,
}

/// A story.
#[derive(Debug)]
pub(super) struct Chain {
    /// Grants and releases, in turn.
    boundaries: Vec<Touch>,
    /// What tells of a phase, with the phase.
    tales: Vec<(usize, Touch)>,
    /// Who holds it at first.
    first_owner: Option<Text>,
    /// Could a tale have been told in another phase as well?
    has_choice: bool,
    /// Each phase, one more than boundaries: after these events, before those.
    after: Vec<Event>,
    before: Vec<Event>,
}

impl Chain {
    /// The story of an address, called so in messages, that somebody may hold at first. Where it has several, it is one of
    /// them.
    pub(super) fn of(
        name: &str,
        first_owner: Option<Text>,
        touches: Vec<Touch>,
        effort: &mut Effort,
    ) -> Result<Chain, Problem> {
        match Chain::decided(name, first_owner.clone(), touches.clone()) {
            Err(Problem::Undecided) => Chain::found(name, first_owner, touches, effort),
            decided => decided,
        }
    }

    /// One of several stories.
    fn found(
        name: &str,
        first_owner: Option<Text>,
        touches: Vec<Touch>,
        effort: &mut Effort,
    ) -> Result<Chain, Problem> {
        let story = match stories::find(first_owner.as_ref(), &touches, effort) {
            Found::Story(story) => story,
            Found::Unknown => return Err(Problem::Undecided),
            Found::Impossible(places) => {
                let calls = places.into_iter().map(|place| touches[place].call).collect();
                let why = format!("what callers were told of {name} fits no order of their calls");
                return Err(Clash { calls, why }.into());
            }
        };
        let (mut boundaries, mut tales) = (Vec::new(), Vec::new());
        for place in story {
            let touch = touches[place].clone();
            match touch.act {
                Act::Grant | Act::Release => boundaries.push(touch),
                _ => tales.push((boundaries.len(), touch)),
            }
        }
        let mut chain =
            Chain { boundaries, tales, first_owner, has_choice: true, after: Vec::new(), before: Vec::new() };
        chain.find_windows();
        Ok(chain)
    }

    /// The story, if there is one only, but for choices that are in nobody's way.
    fn decided(name: &str, first_owner: Option<Text>, touches: Vec<Touch>) -> Result<Chain, Problem> {
        let (boundaries, tales): (Vec<Touch>, Vec<Touch>) =
            touches.into_iter().partition(|touch| matches!(touch.act, Act::Grant | Act::Release));
        let boundaries = in_turn(name, first_owner.is_some(), boundaries)?;
        let mut chain = Chain {
            boundaries,
            tales: Vec::new(),
            first_owner,
            has_choice: false,
            after: Vec::new(),
            before: Vec::new(),
        };
        chain.check_owners(name)?;
        chain.find_windows();
        chain.place(name, tales)?;
        chain.find_windows();
        match chain.check_instants(name) {
            Ok(()) => Ok(chain),
            Err(_) if chain.has_choice => Err(Problem::Undecided),
            Err(clash) => Err(clash.into()),
        }
    }

    /// Could another story be told as well? Then what is [surely free](Chain::free) here need not be so there.
    pub(super) fn has_choice(&self) -> bool {
        self.has_choice
    }

    fn is_held(&self, phase: usize) -> bool {
        (phase % 2 == 1) != self.first_owner.is_some()
    }

    /// Who holds it in a held phase.
    fn owner(&self, phase: usize) -> Option<&Text> {
        match phase {
            0 => self.first_owner.as_ref(),
            _ => self.boundaries[phase - 1].owner.as_ref().filter(|_| self.is_held(phase)),
        }
    }

    /// Only who holds it can have given it back.
    fn check_owners(&self, name: &str) -> Result<(), Problem> {
        for (phase, release) in self.boundaries.iter().enumerate().filter(|(_, touch)| touch.act == Act::Release) {
            let owners = self.owner(phase).zip(release.owner.as_ref());
            if owners.is_some_and(|(holder, owner)| holder != owner) {
                let calls = self.around(phase).into_iter().chain([release.call]).collect();
                let why = format!("{name} was given back by an owner who did not hold it then");
                return Err(Clash { calls, why }.into());
            }
        }
        Ok(())
    }

    /// Finds between which events each phase can be.
    fn find_windows(&mut self) {
        let phases = self.boundaries.len() + 1;
        let (mut after, mut before) = (vec![0; phases], vec![NEVER; phases]);
        for (index, boundary) in self.boundaries.iter().enumerate() {
            after[index + 1] = boundary.invoked;
            before[index] = boundary.returned;
        }
        for (phase, tale) in &self.tales {
            if let Some(after) = after.get_mut(phase + 1) {
                *after = tale.invoked.max(*after);
            }
            if *phase > 0 {
                before[phase - 1] = tale.returned.min(before[phase - 1]);
            }
        }
        for phase in 1..phases {
            after[phase] = after[phase].max(after[phase - 1]);
        }
        for phase in (1..phases).rev() {
            before[phase - 1] = before[phase - 1].min(before[phase]);
        }
        (self.after, self.before) = (after, before);
    }

    /// Finds a phase for each tale.
    fn place(&mut self, name: &str, tales: Vec<Touch>) -> Result<(), Problem> {
        let owners = match tales.iter().any(|tale| tale.act == Act::ToldOthers) {
            true => self.next_owners(),
            false => Vec::new(),
        };
        for tale in tales {
            let possible = self.possible(&tale);
            let fitting = |range: Range<usize>| self.first_fitting(&tale, range, &owners);
            let Some(first) = fitting(possible.clone()) else {
                return Err(self.no_phase(name, &tale, possible).into());
            };
            let unhindered = self.unhindered(&tale);
            let free = fitting(possible.start.max(unhindered.start)..possible.end.min(unhindered.end));
            self.has_choice |= free.is_none() && fitting(first + 1..possible.end).is_some();
            self.tales.push((free.unwrap_or(first), tale));
        }
        Ok(())
    }

    /// The first phase in a range that is of the kind that a call tells of.
    fn first_fitting(&self, tale: &Touch, range: Range<usize>, next_owners: &[usize]) -> Option<usize> {
        let is_held = tale.act != Act::ToldFree;
        let first = range.start + usize::from(self.is_held(range.start) != is_held);
        let is_own = tale.act == Act::ToldOthers && first < range.end && self.owner(first) == tale.owner.as_ref();
        let fitting = if is_own { next_owners[first] } else { first };
        Some(fitting).filter(|phase| *phase < range.end)
    }

    /// For each held phase, the next one in which it is held by somebody else; past the end where there is none.
    fn next_owners(&self) -> Vec<usize> {
        let phases = self.boundaries.len() + 1;
        let mut next = vec![phases; phases];
        for phase in (0..phases.saturating_sub(2)).rev().filter(|phase| self.is_held(*phase)) {
            let later = phase + 2;
            next[phase] = if self.owner(phase) == self.owner(later) { next[later] } else { later };
        }
        next
    }

    /// The phases in which a call can take place without being in anybody's way.
    fn unhindered(&self, tale: &Touch) -> Range<usize> {
        let first = self.after.partition_point(|after| *after < tale.invoked).saturating_sub(1);
        let end = self.before.partition_point(|before| *before <= tale.returned) + 1;
        first..end
    }

    /// The phases that a call can have taken place in, whatever it tells of.
    fn possible(&self, tale: &Touch) -> Range<usize> {
        let first = self.before.partition_point(|before| *before <= tale.invoked);
        let end = self.after.partition_point(|after| *after < tale.returned);
        first..end
    }

    fn no_phase(&self, name: &str, tale: &Touch, possible: Range<usize>) -> Clash {
        let told = match tale.act {
            Act::ToldFree => "free, but somebody held it",
            Act::ToldOthers => "held by somebody else, but it was not",
            _ => "taken, but it was free",
        };
        let around = possible.take(MOST_SHOWN / 2).flat_map(|phase| self.around(phase));
        let calls = std::iter::once(tale.call).chain(around).take(MOST_SHOWN).collect();
        Clash { calls, why: format!("{name} was said to be {told} all the time") }
    }

    /// The calls that begin and end a phase.
    fn around(&self, phase: usize) -> Vec<usize> {
        let boundaries = phase.checked_sub(1).into_iter().chain([phase]);
        boundaries.filter_map(|index| self.boundaries.get(index)).map(|touch| touch.call).collect()
    }

    /// Is each invoked before all that come after it in the story have returned?
    fn check_instants(&self, name: &str) -> Result<(), Clash> {
        let mut story: Vec<(usize, &Touch)> =
            self.boundaries.iter().enumerate().map(|(index, touch)| (2 * index + 1, touch)).collect();
        story.extend(self.tales.iter().map(|(phase, touch)| (2 * phase, touch)));
        story.sort_by_key(|(place, touch)| (*place, touch.invoked));
        // The latest invocation before this place; tales of one phase are in no order.
        let mut latest: Option<&Touch> = None;
        for same in story.chunk_by(|one, next| one.0 == next.0) {
            for (_, touch) in same {
                if let Some(latest) = latest.filter(|latest| latest.invoked > touch.returned) {
                    let why = format!("{name} cannot have been granted, given back and asked for in any order of time");
                    return Err(Clash { calls: vec![latest.call, touch.call], why });
                }
            }
            let last = same.iter().map(|(_, touch)| *touch).max_by_key(|touch| touch.invoked);
            latest = latest.into_iter().chain(last).max_by_key(|touch| touch.invoked);
        }
        Ok(())
    }

    /// When it is surely free: from after one event to before another, with the calls that make it so.
    pub(super) fn free(&self) -> impl Iterator<Item = (Range<Event>, Vec<usize>)> {
        let free = (0..=self.boundaries.len()).filter(|phase| !self.is_held(*phase));
        free.filter_map(|phase| {
            let from = phase.checked_sub(1).map_or(0, |held| self.before[held]);
            let to = self.after.get(phase + 1).copied().unwrap_or(NEVER);
            (from < to).then(|| (from..to, self.around(phase)))
        })
    }

    /// An instant for each call, so that it is held wherever it is not [surely free](Chain::free).
    pub(super) fn instants(&self) -> impl Iterator<Item = (usize, Instant)> {
        let boundaries = self.boundaries.iter().enumerate().map(|(index, touch)| {
            let (event, side) = self.instant_of(index);
            (touch.call, (event, side, 2 * index + 1))
        });
        let tales = self.tales.iter().map(|(phase, touch)| {
            let (event, side) = self.instant_of_tale(*phase, touch);
            (touch.call, (event, side, 2 * phase))
        });
        boundaries.chain(tales)
    }

    /// A grant as early as can be; a release just before the next grant if it can be so late.
    fn instant_of(&self, index: usize) -> (Event, Side) {
        if self.boundaries[index].act == Act::Grant {
            return (self.after[index + 1], Side::Before);
        }
        let latest = self.before[index];
        match self.after.get(index + 2) {
            Some(next) if *next < latest => (*next, Side::Before),
            _ => (latest - 1, Side::After),
        }
    }

    fn instant_of_tale(&self, phase: usize, tale: &Touch) -> (Event, Side) {
        let begun = phase.checked_sub(1).map_or((0, Side::Before), |before| self.instant_of(before));
        begun.max((tale.invoked, Side::Before))
    }
}

impl From<Clash> for Problem {
    fn from(Clash { mut calls, why }: Clash) -> Problem {
        calls.sort_unstable();
        calls.dedup();
        Problem::Impossible(Conflict { core: calls, why })
    }
}

/// Puts grants and releases in the order in which they must have taken turns.
fn in_turn(name: &str, is_held: bool, boundaries: Vec<Touch>) -> Result<Vec<Touch>, Problem> {
    let (grants, releases): (Vec<Touch>, Vec<Touch>) =
        boundaries.into_iter().partition(|touch| touch.act == Act::Grant);
    let (grants, releases) = (Sorted::new(grants), Sorted::new(releases));
    // So many of the others can have come before the first, and of those one more.
    let (ahead, behind) = (usize::from(!is_held), usize::from(is_held));
    let in_turn = grants.check_turns(&releases, ahead);
    in_turn.map_err(|at| twice_granted(name, &grants.touches, &releases.touches, at))?;
    let in_turn = releases.check_turns(&grants, behind);
    in_turn.map_err(|at| twice_released(name, &grants.touches, &releases.touches, at))?;
    let sequences = grants.sequence(&releases, ahead, behind).zip(releases.sequence(&grants, behind, ahead));
    let (grants, releases) = sequences.ok_or(Problem::Undecided)?;
    let (first, second) = if is_held { (releases, grants) } else { (grants, releases) };
    Ok(interleaved(first, second))
}

/// All grants, or all releases.
struct Sorted {
    /// By their returns.
    touches: Vec<Touch>,
    /// Places there, by their invocations.
    by_invocation: Vec<usize>,
    /// In this order.
    invocations: Vec<Event>,
}

impl Sorted {
    fn new(mut touches: Vec<Touch>) -> Sorted {
        touches.sort_unstable_by_key(|touch| touch.returned);
        let mut by_invocation: Vec<usize> = (0..touches.len()).collect();
        by_invocation.sort_unstable_by_key(|place| touches[*place].invoked);
        let invocations = by_invocation.iter().map(|place| touches[*place].invoked).collect();
        Sorted { touches, by_invocation, invocations }
    }

    /// How many have been invoked before an event.
    fn invoked_before(&self, event: Event) -> usize {
        self.invocations.partition_point(|invoked| *invoked < event)
    }

    /// When each of these returns, have enough of the others been invoked? The error is the first for which they have not.
    fn check_turns(&self, others: &Sorted, ahead: usize) -> Result<(), usize> {
        let is_too_early = |(index, touch): &(usize, &Touch)| index + 1 > others.invoked_before(touch.returned) + ahead;
        self.touches.iter().enumerate().find(is_too_early).map_or(Ok(()), |(index, _)| Err(index))
    }

    /// These in the order that they have in every story, if it is the same in all.
    ///
    /// Which are the first so many is known from three things: all others are invoked after they have returned; when the last
    /// of them returned, the others had just been enough; when one of the others returned, these had just been enough. The
    /// first two say so of those that returned first, the third of those that were invoked first. The one that each such set
    /// has more than the one before is the next.
    fn sequence(&self, others: &Sorted, ahead: usize, others_ahead: usize) -> Option<Vec<Touch>> {
        let count = self.touches.len();
        let mut is_set_by_return = vec![false; count + 1];
        let mut is_set_by_invocation = vec![false; count + 1];
        let mut earliest = NEVER;
        for (index, touch) in self.touches.iter().enumerate().rev() {
            let is_apart = touch.returned < earliest;
            let is_just_enough = index + 1 == others.invoked_before(touch.returned) + ahead;
            is_set_by_return[index + 1] = is_apart || is_just_enough || index + 1 == count;
            earliest = earliest.min(touch.invoked);
        }
        for (index, other) in others.touches.iter().enumerate() {
            let invoked = self.invoked_before(other.returned);
            is_set_by_invocation[invoked] |= index + 1 == invoked + others_ahead;
        }
        let mut rank_by_invocation = vec![0; count];
        for (rank, place) in self.by_invocation.iter().enumerate() {
            rank_by_invocation[*place] = rank;
        }
        // What is in a set but not in the one before is what is left of all places when each is taken twice.
        let (mut returned, mut invoked, mut before) = (0, 0, 0);
        let (mut last_return, mut last_invocation) = (0, 0);
        let mut sequence: Vec<usize> = Vec::with_capacity(count);
        for size in 1..=count {
            returned ^= size - 1;
            invoked ^= self.by_invocation[size - 1];
            let set = match (is_set_by_return[size], is_set_by_invocation[size]) {
                (true, _) => returned,
                (false, true) => invoked,
                (false, false) => return None,
            };
            let next = set ^ before;
            last_return = last_return.max(next);
            last_invocation = last_invocation.max(*rank_by_invocation.get(next)?);
            // Sets of which one does not hold the other have no order in common; it takes the search to say why.
            let last = if is_set_by_return[size] { last_return } else { last_invocation };
            if last + 1 != size {
                return None;
            }
            sequence.push(next);
            before = set;
        }
        let mut touches: Vec<Option<Touch>> = self.touches.iter().cloned().map(Some).collect();
        sequence.into_iter().map(|place| touches[place].take()).collect()
    }
}

/// One of the first, one of the second, and so on.
fn interleaved(first: Vec<Touch>, second: Vec<Touch>) -> Vec<Touch> {
    let mut merged = Vec::with_capacity(first.len() + second.len());
    let mut second = second.into_iter();
    for touch in first {
        merged.push(touch);
        merged.extend(second.next());
    }
    merged
}

/// The grant that came too early, with the one that must still have been there: of an owner who has been granted it more
/// often than asked to release it.
fn twice_granted(name: &str, grants: &[Touch], releases: &[Touch], at: usize) -> Clash {
    let last = &grants[at];
    let granted = count_by_owner(&grants[..at]);
    let released = count_by_owner(releases.iter().filter(|touch| touch.invoked < last.returned));
    let is_kept = |grant: &&Touch| granted.get(&grant.owner) > released.get(&grant.owner);
    let kept = grants[..at].iter().rev().find(is_kept);
    let calls = kept.into_iter().chain([last]).map(|touch| touch.call).collect();
    Clash { calls, why: format!("{name} was granted while somebody held it") }
}

/// The release that came too often, with what its owner did before.
fn twice_released(name: &str, grants: &[Touch], releases: &[Touch], at: usize) -> Clash {
    let (granted, released) = (count_by_owner(grants), count_by_owner(&releases[..=at]));
    let is_too_much = |touch: &&Touch| released.get(&touch.owner) > granted.get(&touch.owner);
    let last = releases[..=at].iter().rev().find(is_too_much).unwrap_or(&releases[at]);
    let of_owner = |touch: &&Touch| touch.owner == last.owner;
    let earlier = releases[..=at].iter().rev().filter(of_owner).take(2).chain(grants.iter().rev().find(of_owner));
    let calls = earlier.chain([last]).map(|touch| touch.call).collect();
    Clash { calls, why: format!("{name} was given back more often than it was granted") }
}

/// How many of these are each owner's; owners of none are left out.
fn count_by_owner<'a>(touches: impl IntoIterator<Item = &'a Touch>) -> FxHashMap<&'a Option<Text>, usize> {
    let mut counts = FxHashMap::default();
    for touch in touches {
        *counts.entry(&touch.owner).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::text;

    fn touch(call: usize, act: Act, owner: &str, invoked: Event, returned: Event) -> Touch {
        Touch { call, act, owner: Some(text(owner)), invoked, returned }
    }

    fn core(touches: Vec<Touch>) -> Option<Vec<usize>> {
        match Chain::of("x", None, touches, &mut Effort::new()) {
            Err(Problem::Impossible(conflict)) => Some(conflict.core),
            _ => None,
        }
    }

    #[test]
    fn two_grants_without_a_release_are_no_story() {
        let grants = vec![touch(0, Act::Grant, "a", 1, 3), touch(1, Act::Grant, "b", 2, 4)];
        assert_eq!(core(grants), Some(vec![0, 1]));
    }

    /// By comparing each with each, this would take minutes.
    #[test]
    fn who_gave_back_too_often_is_found_among_very_many() {
        let acts = [Act::Grant, Act::Release].into_iter().cycle();
        // Once too often in the middle.
        let acts = acts.clone().take(200_000).chain([Act::Release]).chain(acts.take(200_000));
        let numbered = acts.enumerate();
        let touches =
            numbered.map(|(call, act)| touch(call, act, "a", 2 * call as Event, 2 * call as Event + 1)).collect();
        assert!(core(touches).is_some_and(|core| core.len() <= 4));
    }

    /// By looking through all phases for each tale, this would take minutes.
    #[test]
    fn who_held_it_is_found_among_very_many_who_did() {
        let many = 60_000;
        let mut touches: Vec<Touch> = (0..many).map(|call| touch(call, Act::ToldOthers, "a", 0, NEVER - 1)).collect();
        for (round, owner) in (0..many).map(|round| (round, if round + 1 == many { "b" } else { "a" })) {
            let (call, begun) = (many + 2 * round, 4 * round as Event + 1);
            touches.push(touch(call, Act::Grant, owner, begun, begun + 1));
            touches.push(touch(call + 1, Act::Release, owner, begun + 2, begun + 3));
        }
        assert!(Chain::of("x", None, touches, &mut Effort::new()).is_ok_and(|chain| !chain.has_choice()));
    }

    /// A link that is dropped within the one after it, and so on, would take more than the stack.
    #[test]
    fn a_story_that_is_searched_for_may_be_long() {
        let grant = |call, owner, invoked, returned| touch(call, Act::Grant, owner, invoked, returned);
        let mut touches = vec![grant(0, "a", 1, 9), grant(1, "b", 2, 10), touch(2, Act::Release, "a", 3, 8)];
        touches.push(touch(3, Act::Release, "b", 11, 12));
        for round in 0..150_000 {
            let (call, begun) = (4 + 2 * round, 13 + 4 * round as Event);
            touches.push(grant(call, "a", begun, begun + 1));
            touches.push(touch(call + 1, Act::Release, "a", begun + 2, begun + 3));
        }
        assert!(Chain::of("x", None, touches, &mut Effort::new()).is_ok_and(|chain| chain.has_choice()));
    }

    #[test]
    fn a_release_that_overlaps_both_grants_lies_between() {
        let grant = |call, owner, invoked, returned| touch(call, Act::Grant, owner, invoked, returned);
        let story = vec![grant(0, "a", 1, 2), touch(1, Act::Release, "a", 3, 8), grant(2, "b", 4, 5)];
        let chain = Chain::of("x", None, story, &mut Effort::new()).ok().unwrap();
        let mut instants: Vec<(Instant, usize)> = chain.instants().map(|(call, instant)| (instant, call)).collect();
        instants.sort_unstable();
        assert_eq!(instants.into_iter().map(|(_, call)| call).collect::<Vec<usize>>(), [0, 1, 2]);
        assert_eq!(chain.free().map(|(free, _)| (free.start, free.end)).collect::<Vec<_>>(), [(0, 1)]);
    }

    #[test]
    fn a_tale_of_freedom_keeps_the_gap_open() {
        let grant = |call, owner, invoked, returned| touch(call, Act::Grant, owner, invoked, returned);
        let story = vec![
            grant(0, "a", 1, 2),
            touch(1, Act::Release, "a", 3, 12),
            grant(2, "b", 4, 13),
            touch(3, Act::ToldFree, "c", 5, 6),
            touch(4, Act::ToldFree, "c", 9, 10),
        ];
        let chain = Chain::of("x", None, story, &mut Effort::new()).ok().unwrap();
        assert_eq!(chain.free().map(|(free, _)| (free.start, free.end)).collect::<Vec<_>>(), [(0, 1), (6, 9)]);
    }

    #[test]
    fn what_is_held_all_the_time_is_not_free() {
        let story = vec![touch(0, Act::Grant, "a", 1, 2), touch(1, Act::ToldFree, "b", 3, 4)];
        assert_eq!(core(story), Some(vec![0, 1]));
    }

    #[test]
    fn grants_that_may_change_places_are_a_choice() {
        let story =
            vec![touch(0, Act::Grant, "a", 1, 9), touch(1, Act::Grant, "b", 2, 10), touch(2, Act::Release, "a", 3, 8)];
        assert!(Chain::of("x", None, story, &mut Effort::new()).is_ok_and(|chain| chain.has_choice()));
    }
}
