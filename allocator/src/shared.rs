//! One allocator for all threads of a process, with one commit for all that wait.
//!
//! Whoever calls puts its work into a queue. If nobody leads, it leads: it does all the work that waits, its own included, in
//! one transaction, commits once, and tells the others, who sleep meanwhile. Then it makes one that came too late the next
//! leader. There is no thread to start or to stop, and a single caller does just its own work. While a commit waits for the
//! disk the queue fills, so batches grow with the load: group commit, as databases do it (Gawlick and Kinkade, 1985).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use crate::allocator::Allocator;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::sync::{LetterBox, Lock};

/// A handle on an allocator that any number of threads share; cloning it is cheap.
///
/// ```
/// use poolproof_allocator::{Allocator, PoolSpec, Request, SharedAllocator, parse_prefix};
///
/// let shared = SharedAllocator::new(Allocator::in_memory());
/// let office = PoolSpec::new(parse_prefix("10.0.0.0/24")?);
/// shared.run(move |allocator| allocator.create_pool("office", &office))?;
/// std::thread::scope(|scope| {
///     for number in 0..4 {
///         let shared = shared.clone();
///         scope.spawn(move || {
///             let owner = format!("host {number}");
///             shared.run(move |allocator| allocator.allocate(&owner, &[Request::any("office")], None))
///         });
///     }
/// });
/// assert_eq!(shared.run(|allocator| allocator.usage("office"))?.allocated, 4);
/// # Ok::<(), poolproof_allocator::Error>(())
/// ```
#[derive(Debug)]
pub struct SharedAllocator<S: Store> {
    inner: Arc<Inner<S>>,
}

impl<S: Store> Clone for SharedAllocator<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

#[derive(Debug)]
struct Inner<S: Store> {
    queue: Lock<Queue<S>>,
    /// Only the leader locks it.
    allocator: Lock<Allocator<S>>,
}

#[derive(Debug)]
struct Queue<S: Store> {
    waiting: Vec<Box<dyn Work<S>>>,
    /// Does somebody work, or is about to?
    is_led: bool,
}

impl<S: Store> SharedAllocator<S> {
    /// Shares an allocator. A transaction that is open is rolled back.
    pub fn new(mut allocator: Allocator<S>) -> Self {
        // Without one there is nothing to roll back; should it fail, the next call tries again.
        let _ = allocator.rollback();
        let queue = Lock::new(Queue { waiting: Vec::new(), is_led: false });
        Self { inner: Arc::new(Inner { queue, allocator: Lock::new(allocator) }) }
    }

    /// Runs calls on the allocator, all or nothing: if the closure answers an error, nothing of it has happened. What it did
    /// lasts when this returns. The closure cannot open or end transactions, but set savepoints.
    ///
    /// # Errors
    ///
    /// The closure's own, and those of `begin` and `commit`, which all that wait together share.
    ///
    /// # Panics
    ///
    /// When the closure does; then, too, nothing of it has happened.
    pub fn run<T: Send + 'static>(
        &self,
        calls: impl FnOnce(&mut Allocator<S>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let news = Arc::new(LetterBox::new());
        let job = Job { calls: Some(calls), outcome: None, caller: news.clone() };
        let is_leader = {
            let mut queue = self.inner.queue.lock();
            queue.waiting.push(Box::new(job));
            !std::mem::replace(&mut queue.is_led, true)
        };
        if is_leader {
            self.lead();
        }
        loop {
            match news.take() {
                News::Lead => self.lead(),
                News::Answer(Answer::Returned(answer)) => return answer,
                News::Answer(Answer::Panicked(cause)) => resume_unwind(cause),
            }
        }
    }

    /// Does all the work that waits, and appoints the next leader.
    fn lead(&self) {
        let mut allocator = self.inner.allocator.lock();
        let batch = std::mem::take(&mut self.inner.queue.lock().waiting);
        run_batch(&mut allocator, batch);
        drop(allocator);
        let mut queue = self.inner.queue.lock();
        match queue.waiting.first() {
            Some(next) => next.appoint(),
            None => queue.is_led = false,
        }
    }

    /// The allocator again, if this is the last handle; else the handle.
    ///
    /// # Errors
    ///
    /// The handle, if there are others.
    pub fn into_inner(self) -> std::result::Result<Allocator<S>, Self> {
        match Arc::try_unwrap(self.inner) {
            Ok(inner) => Ok(inner.allocator.into_inner()),
            Err(inner) => Err(Self { inner }),
        }
    }
}

/// What the calls of a caller came to.
enum Answer<T> {
    Returned(Result<T>),
    Panicked(Box<dyn Any + Send>),
}

/// What a caller waits for.
enum News<T> {
    /// To do the work itself.
    Lead,
    Answer(Answer<T>),
}

/// Calls of one caller, whatever they return.
trait Work<S: Store>: Send {
    /// Makes the calls, and tells whether what they did shall last.
    fn run(&mut self, allocator: &mut Allocator<S>) -> bool;
    /// Tells the caller the answer, or instead of a success why there was none after all.
    fn answer(self: Box<Self>, failure: Option<Error>);
    /// Tells the caller to lead.
    fn appoint(&self);
}

impl<S: Store> std::fmt::Debug for dyn Work<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}

struct Job<T, F> {
    calls: Option<F>,
    /// What the calls came to, before that lasts.
    outcome: Option<Answer<T>>,
    caller: Arc<LetterBox<News<T>>>,
}

impl<S, T, F> Work<S> for Job<T, F>
where
    S: Store,
    T: Send,
    F: FnOnce(&mut Allocator<S>) -> Result<T> + Send,
{
    fn run(&mut self, allocator: &mut Allocator<S>) -> bool {
        let Some(calls) = self.calls.take() else { return false };
        // What a panic leaves half done is rolled back.
        self.outcome = Some(match catch_unwind(AssertUnwindSafe(|| calls(allocator))) {
            Ok(returned) => Answer::Returned(returned),
            Err(cause) => Answer::Panicked(cause),
        });
        matches!(self.outcome, Some(Answer::Returned(Ok(_))))
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        let answer = match (self.outcome, failure) {
            (Some(Answer::Returned(Ok(_))) | None, Some(failure)) => Answer::Returned(Err(failure)),
            (Some(outcome), _) => outcome,
            (None, None) => Answer::Returned(Err(Error::storage("the work was not done"))),
        };
        self.caller.put(News::Answer(answer));
    }

    fn appoint(&self) {
        self.caller.put(News::Lead);
    }
}

/// Does all the work in one transaction, and answers it.
fn run_batch<S: Store>(allocator: &mut Allocator<S>, mut batch: Vec<Box<dyn Work<S>>>) {
    let done = allocator.in_batch(|allocator| {
        for work in &mut batch {
            allocator.in_part_of_batch(|allocator| work.run(allocator))?;
        }
        Ok(())
    });
    let failure = done.err().map(Arc::new);
    for work in batch {
        work.answer(failure.as_ref().map(Error::shared));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryStore, PoolSpec, Request, parse_prefix};

    fn shared() -> SharedAllocator<MemoryStore> {
        let mut allocator = Allocator::in_memory();
        allocator.create_pool("p0", &PoolSpec::new(parse_prefix("10.0.0.0/16").unwrap())).unwrap();
        SharedAllocator::new(allocator)
    }

    fn allocated(shared: &SharedAllocator<MemoryStore>) -> u128 {
        shared.run(|allocator| allocator.usage("p0")).unwrap().allocated
    }

    #[test]
    fn exclusive_threads_never_share_an_address() {
        let shared = shared();
        let mut granted: Vec<_> = std::thread::scope(|scope| {
            let allocate = |owner: usize| {
                let shared = shared.clone();
                move || {
                    let one = || {
                        let owner = format!("owner {owner}");
                        shared.run(move |allocator| allocator.allocate(&owner, &[Request::any("p0")], None)).unwrap()
                    };
                    (0..200).map(|_| one().address().unwrap()).collect::<Vec<_>>()
                }
            };
            let threads: Vec<_> = (0..8).map(|owner| scope.spawn(allocate(owner))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        granted.sort_unstable();
        granted.dedup();
        assert_eq!((granted.len(), allocated(&shared)), (1600, 1600));
    }

    #[test]
    fn atomic_a_refused_closure_changes_nothing() {
        let shared = shared();
        let refused = shared.run(|allocator| {
            allocator.allocate("a", &[Request::any("p0")], None)?;
            allocator.allocate("a", &[Request::any("nowhere")], None)
        });
        assert!(refused.is_err());
        assert_eq!(allocated(&shared), 0);
    }

    #[test]
    fn atomic_a_closure_cannot_end_the_transaction_of_others() {
        let shared = shared();
        let ended = shared.run(|allocator| {
            allocator.allocate("a", &[Request::any("p0")], None)?;
            let kinds = [allocator.begin(), allocator.commit(), allocator.rollback()].map(|ended| ended.is_err());
            let savepoint = allocator.savepoint()?;
            allocator.allocate("a", &[Request::any("p0")], None)?;
            allocator.rollback_to(savepoint)?;
            allocator.advance_to(5)?;
            Ok(kinds)
        });
        assert_eq!(ended.unwrap(), [true; 3]);
        assert_eq!(allocated(&shared), 1);
        assert_eq!(shared.run(|allocator| allocator.now_ms()).unwrap(), 5);
    }

    #[test]
    fn total_a_panic_reaches_its_caller_and_changes_nothing() {
        let shared = shared();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            shared.run(|allocator| {
                allocator.allocate("a", &[Request::any("p0")], None)?;
                if allocator.usage("p0")?.allocated == 1 {
                    panic!("on purpose");
                }
                Ok(())
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(allocated(&shared), 0);
    }
}
