//! All stories of one address, for those that have several: a search through the orders of its calls alone.
//!
//! As [`search`](super::search), but the state is who holds the address, and so it is small: a few configurations at any time,
//! whatever happens elsewhere. What has no story has no order in the whole history either, because the calls on one address
//! must have one (Herlihy and Wing, theorem 1).

use std::collections::HashMap;
use std::rc::Rc;

use super::chain::{Act, Touch};
use super::{Event, MOST_SHOWN};
use crate::operation::Text;

/// So many calls on the address may be under way at once; one bit each.
const MOST_UNDER_WAY: usize = 64;

/// So many configurations are visited.
const MOST_VISITED: usize = 1_000_000;

/// What was found.
pub(super) enum Found {
    /// A story: the calls in its order, by their places.
    Story(Vec<usize>),
    /// There is none; these calls show it, by their places.
    Impossible(Vec<usize>),
    /// Too many calls are under way at once, or there are too many orders.
    Unknown,
}

/// How many more configurations may be visited, for all addresses together.
pub(super) struct Effort(usize);

impl Effort {
    /// As much as is done within a second or two.
    pub(super) fn new() -> Effort {
        Effort(MOST_VISITED)
    }

    /// One more; says whether that is still allowed.
    fn spend(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }
}

/// Who holds the address, with the calls under way that have taken place.
type Key<'a> = (u64, Option<&'a Text>);

/// The last call of an order, and those before.
struct Link {
    place: usize,
    before: Option<Rc<Link>>,
}

/// Long chains would be dropped one within the other, and the stack has an end.
impl Drop for Link {
    fn drop(&mut self) {
        let mut next = self.before.take();
        while let Some(mut link) = next.and_then(Rc::into_inner) {
            next = link.before.take();
        }
    }
}

/// Looks for a story of these calls on an address that somebody may hold at first.
pub(super) fn find(first_owner: Option<&Text>, touches: &[Touch], effort: &mut Effort) -> Found {
    let mut under_way: Vec<Option<usize>> = Vec::new();
    let mut configurations: HashMap<Key<'_>, Option<Rc<Link>>> = HashMap::from([((0, first_owner), None)]);
    for (event, place, is_return) in events(touches) {
        if !is_return {
            match under_way.iter().position(Option::is_none) {
                Some(free) => under_way[free] = Some(place),
                None if under_way.len() < MOST_UNDER_WAY => under_way.push(Some(place)),
                None => return Found::Unknown,
            }
            continue;
        }
        let Some(bit) = under_way.iter().position(|other| *other == Some(place)) else { continue };
        let Some(after) = until_done(touches, &under_way, bit, configurations, effort) else { return Found::Unknown };
        configurations = after;
        under_way[bit] = None;
        if configurations.is_empty() {
            return Found::Impossible(shown(touches, event));
        }
    }
    let last = configurations.into_values().next().flatten();
    let links = std::iter::successors(last.as_deref(), |link| link.before.as_deref());
    let mut story: Vec<usize> = links.map(|link| link.place).collect();
    story.reverse();
    Found::Story(story)
}

fn events(touches: &[Touch]) -> Vec<(Event, usize, bool)> {
    let both = |(place, touch): (usize, &Touch)| [(touch.invoked, place, false), (touch.returned, place, true)];
    let mut events: Vec<(Event, usize, bool)> = touches.iter().enumerate().flat_map(both).collect();
    events.sort_unstable();
    events
}

/// All configurations in which one call under way has taken place, after as many others as may have come before it; nothing
/// where there are too many.
fn until_done<'a>(
    touches: &'a [Touch],
    under_way: &[Option<usize>],
    bit: usize,
    configurations: HashMap<Key<'a>, Option<Rc<Link>>>,
    effort: &mut Effort,
) -> Option<HashMap<Key<'a>, Option<Rc<Link>>>> {
    let mut open: Vec<(Key<'a>, Option<Rc<Link>>)> = configurations.into_iter().collect();
    let mut seen: HashMap<Key<'a>, ()> = open.iter().map(|(key, _)| (*key, ())).collect();
    let mut done = HashMap::new();
    while let Some(((mask, holder), order)) = open.pop() {
        if !effort.spend() {
            return None;
        }
        if mask & 1 << bit != 0 {
            done.entry((mask & !(1 << bit), holder)).or_insert(order);
            continue;
        }
        for (next, place) in under_way.iter().enumerate() {
            let Some(place) = place.filter(|_| mask & 1 << next == 0) else { continue };
            let Some(holder) = after(holder, &touches[place]) else { continue };
            let key = (mask | 1 << next, holder);
            if seen.insert(key, ()).is_none() {
                open.push((key, Some(Rc::new(Link { place, before: order.clone() }))));
            }
        }
    }
    Some(done)
}

/// Who holds the address after this call, if it can take place.
fn after<'a>(holder: Option<&'a Text>, touch: &'a Touch) -> Option<Option<&'a Text>> {
    let is_own = holder.is_some() && (touch.owner.is_none() || holder == touch.owner.as_ref());
    let (is_possible, after) = match touch.act {
        Act::Grant => (holder.is_none(), touch.owner.as_ref()),
        Act::Release => (is_own, None),
        Act::ToldFree => (holder.is_none(), holder),
        Act::ToldHeld => (holder.is_some(), holder),
        Act::ToldOthers => (holder.is_some() && !is_own, holder),
    };
    is_possible.then_some(after)
}

/// The calls that came last before an event.
fn shown(touches: &[Touch], event: Event) -> Vec<usize> {
    let mut places: Vec<usize> = (0..touches.len()).filter(|place| touches[*place].invoked < event).collect();
    places.sort_by_key(|place| std::cmp::Reverse(touches[*place].returned.min(event)));
    places.truncate(MOST_SHOWN);
    places
}
