//! Turns: callers that run one at a time, in an order that is given.
//!
//! Threads that meet by chance cannot be made to meet again. So each caller is a thread of its own, but only one of them runs;
//! where it could be interrupted, it asks whose turn it is. Systems ask between their critical sections, simulated disks
//! before each step of I/O. The order is a list that says who goes on at each such place; it is data, so it can be replayed,
//! counted up and made shorter. When it is at its end, nobody is interrupted any more.
//!
//! Outside of such threads there is nobody else to run, and asking costs next to nothing.
//!
//! ```
//! use poolproof_core::turns::{Turns, pass};
//! use std::sync::Mutex;
//!
//! let (turns, seen) = (Turns::new(2, vec![1, 0, 1]), Mutex::new(Vec::new()));
//! std::thread::scope(|scope| {
//!     for caller in 0..2 {
//!         let (turns, seen) = (&turns, &seen);
//!         scope.spawn(move || {
//!             let _turn = turns.enter(caller);
//!             seen.lock().unwrap().push((caller, "first"));
//!             pass();
//!             seen.lock().unwrap().push((caller, "second"));
//!         });
//!     }
//! });
//! assert_eq!(*seen.lock().unwrap(), [(1, "first"), (0, "first"), (1, "second"), (0, "second")]);
//! ```

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

/// The place of a caller among the others, from 0.
pub type Caller = u8;

thread_local! {
    /// The turns that this thread takes part in, and as whom.
    static HERE: RefCell<Option<(Turns, Caller)>> = const { RefCell::new(None) };
}

/// A place where somebody could have been interrupted, and who went on there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Who was running; nobody at the beginning, and where a caller has gone.
    pub running: Option<Caller>,
    /// Who went on.
    pub chosen: Caller,
    /// Who else could have.
    pub others: SmallVec<[Caller; 4]>,
}

/// Whose turn it is.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    order: Mutex<Order>,
    changed: Condvar,
}

#[derive(Debug)]
struct Order {
    /// Who goes on at each place where somebody can be interrupted.
    given: Vec<Caller>,
    /// How far that list has been followed.
    next: usize,
    /// Callers that have not come yet; nobody runs before all are there.
    missing: usize,
    /// Callers that have come and not gone.
    present: BTreeSet<Caller>,
    running: Option<Caller>,
    /// What has happened so far.
    places: Vec<Place>,
}

impl Turns {
    /// Turns for so many callers, in this order. Who has gone already, or was never there, is passed over in it.
    pub fn new(callers: usize, given: Vec<Caller>) -> Turns {
        let order =
            Order { given, next: 0, missing: callers, present: BTreeSet::new(), running: None, places: Vec::new() };
        Turns(Arc::new(Shared { order: Mutex::new(order), changed: Condvar::new() }))
    }

    /// Takes part, in this thread, until what is returned is dropped. Waits until it is this caller's turn.
    pub fn enter(&self, caller: Caller) -> Turn {
        HERE.replace(Some((self.clone(), caller)));
        let mut order = self.lock();
        order.present.insert(caller);
        order.missing = order.missing.saturating_sub(1);
        if order.missing == 0 {
            order.running = order.choose(None);
            self.0.changed.notify_all();
        }
        self.wait(order, caller);
        Turn(())
    }

    /// The places where somebody could have been interrupted, up to now. Their choices, given as an order, lead to the same.
    pub fn places(&self) -> Vec<Place> {
        self.lock().places.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.0.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, mut order: MutexGuard<'_, Order>, caller: Caller) {
        while order.running != Some(caller) {
            order = self.0.changed.wait(order).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets whoever comes next run, and waits until it is this caller's turn again.
    fn hand_over(&self, caller: Caller, choose: impl FnOnce(&mut Order) -> Option<Caller>) {
        let mut order = self.lock();
        let next = choose(&mut order).or(Some(caller));
        if next != Some(caller) {
            order.running = next;
            self.0.changed.notify_all();
            self.wait(order, caller);
        }
    }

    fn leave(&self, caller: Caller) {
        let mut order = self.lock();
        order.present.remove(&caller);
        order.running = order.choose(None);
        self.0.changed.notify_all();
    }
}

impl Order {
    /// Who goes on; that is kept.
    fn choose(&mut self, running: Option<Caller>) -> Option<Caller> {
        let chosen = self.next_of(running)?;
        let others = self.present.iter().copied().filter(|other| *other != chosen).collect();
        self.places.push(Place { running, chosen, others });
        Some(chosen)
    }

    /// Where the list says nothing any more, it is the one who runs; where that one is gone, the first.
    fn next_of(&mut self, running: Option<Caller>) -> Option<Caller> {
        while let Some(given) = self.given.get(self.next) {
            self.next += 1;
            if self.present.contains(given) {
                return Some(*given);
            }
        }
        running.or_else(|| self.present.first().copied())
    }

    /// The next of the others, round and round.
    fn other(&self, caller: Caller) -> Option<Caller> {
        let after = self.present.range(caller + 1..).next();
        after.or_else(|| self.present.first()).copied()
    }
}

/// Taking part. Where it ends, the others go on.
#[derive(Debug)]
pub struct Turn(());

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((turns, caller)) = HERE.take() {
            turns.leave(caller);
        }
    }
}

/// Here a caller can be interrupted: another goes on if it is its turn.
pub fn pass() {
    if let Some((turns, caller)) = here() {
        turns.hand_over(caller, |order| order.choose(Some(caller)));
    }
}

/// A caller can do nothing before another has gone on; says whether turns are taken here at all.
pub fn wait_for_others() -> bool {
    let Some((turns, caller)) = here() else { return false };
    turns.hand_over(caller, |order| order.other(caller));
    true
}

/// Is this a caller among those who take turns?
pub fn are_taken() -> bool {
    here().is_some()
}

fn here() -> Option<(Turns, Caller)> {
    HERE.with_borrow(Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who does what when, in this order.
    fn seen(callers: u8, given: Vec<Caller>, work: impl Fn(Caller, &Mutex<Vec<Caller>>) + Sync) -> Vec<Caller> {
        let (turns, seen) = (Turns::new(callers.into(), given), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for caller in 0..callers {
                let (turns, seen, work) = (&turns, &seen, &work);
                scope.spawn(move || {
                    let _turn = turns.enter(caller);
                    work(caller, seen);
                });
            }
        });
        seen.into_inner().unwrap()
    }

    fn thrice(caller: Caller, seen: &Mutex<Vec<Caller>>) {
        for _ in 0..3 {
            seen.lock().unwrap().push(caller);
            pass();
        }
    }

    #[test]
    fn the_order_is_the_given_one_every_time() {
        for _ in 0..50 {
            assert_eq!(seen(3, vec![2, 0, 2, 1, 0], thrice), [2, 0, 2, 1, 0, 0, 1, 1, 2]);
        }
    }

    #[test]
    fn without_an_order_one_comes_after_the_other() {
        assert_eq!(seen(2, Vec::new(), thrice), [0, 0, 0, 1, 1, 1]);
    }

    /// What was chosen, given as an order, is chosen again.
    #[test]
    fn what_was_chosen_can_be_given() {
        let run = |given: Vec<Caller>| {
            let (turns, seen) = (Turns::new(3, given), Mutex::new(Vec::new()));
            std::thread::scope(|scope| {
                for caller in 0..3 {
                    let (turns, seen) = (&turns, &seen);
                    scope.spawn(move || {
                        let _turn = turns.enter(caller);
                        thrice(caller, seen);
                    });
                }
            });
            (turns.places(), seen.into_inner().unwrap())
        };
        let (places, seen) = run(vec![2, 0, 2, 1, 0]);
        assert_eq!(places[0], Place { running: None, chosen: 2, others: [0, 1].into_iter().collect() });
        assert_eq!(places[1], Place { running: Some(2), chosen: 0, others: [1, 2].into_iter().collect() });
        assert_eq!(run(places.iter().map(|place| place.chosen).collect()), (places, seen));
    }

    #[test]
    fn who_is_not_there_is_passed_over() {
        assert_eq!(seen(2, vec![7, 1, 9], thrice), [1, 1, 1, 0, 0, 0]);
    }

    #[test]
    fn who_waits_lets_the_others_go_on() {
        let is_done = std::sync::atomic::AtomicBool::new(false);
        let work = |caller: Caller, seen: &Mutex<Vec<Caller>>| {
            while caller == 0 && !is_done.load(std::sync::atomic::Ordering::SeqCst) {
                assert!(wait_for_others());
            }
            is_done.store(true, std::sync::atomic::Ordering::SeqCst);
            seen.lock().unwrap().push(caller);
        };
        assert_eq!(seen(2, Vec::new(), work), [1, 0]);
        assert!(!wait_for_others(), "here nobody takes turns");
    }
}
