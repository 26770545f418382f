//! What callers of one allocator wait with: a lock, and a letter box.
//!
//! Threads that meet by chance cannot be made to meet again. So, with the feature `schedule`, a test can decide who goes on:
//! before each lock is taken another caller may go on, and who would have to wait lets others go on instead. Without the
//! feature these are the standard library's lock and condition variable and nothing else.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
#[cfg(feature = "schedule")]
use std::sync::{OnceLock, TryLockError};

/// Who decides which caller goes on. Both functions do nothing in threads that nobody schedules.
#[cfg(feature = "schedule")]
#[derive(Clone, Copy, Debug)]
pub struct Scheduler {
    /// Here a caller can be interrupted.
    pub pass: fn(),
    /// A caller can do nothing before another has gone on; says whether this thread is scheduled at all.
    pub wait: fn() -> bool,
}

#[cfg(feature = "schedule")]
static SCHEDULER: OnceLock<Scheduler> = OnceLock::new();

/// From now on this scheduler is asked, in the whole process. The first one stays.
#[cfg(feature = "schedule")]
pub fn set_scheduler(scheduler: Scheduler) {
    SCHEDULER.get_or_init(|| scheduler);
}

/// A lock. Nothing panics while it is held, but for what `catch_unwind` catches.
#[derive(Debug)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(crate) fn new(content: T) -> Lock<T> {
        Lock(Mutex::new(content))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        #[cfg(feature = "schedule")]
        if let Some(scheduler) = SCHEDULER.get() {
            (scheduler.pass)();
            while let Err(TryLockError::WouldBlock) = self.0.try_lock() {
                if !(scheduler.wait)() {
                    break;
                }
            }
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A letter box for one letter at a time; its owner sleeps until there is one.
#[derive(Debug)]
pub(crate) struct LetterBox<T> {
    letter: Lock<Option<T>>,
    put: Condvar,
}

impl<T> LetterBox<T> {
    pub(crate) fn new() -> LetterBox<T> {
        LetterBox { letter: Lock::new(None), put: Condvar::new() }
    }

    pub(crate) fn put(&self, letter: T) {
        *self.letter.lock() = Some(letter);
        self.put.notify_one();
    }

    pub(crate) fn take(&self) -> T {
        let mut letter = self.letter.lock();
        loop {
            if let Some(letter) = letter.take() {
                return letter;
            }
            letter = self.wait(letter);
        }
    }

    fn wait<'a>(&'a self, letter: MutexGuard<'a, Option<T>>) -> MutexGuard<'a, Option<T>> {
        #[cfg(feature = "schedule")]
        if let Some(scheduler) = SCHEDULER.get() {
            drop(letter);
            if (scheduler.wait)() {
                return self.letter.lock();
            }
            let letter = self.letter.lock();
            return if letter.is_some() { letter } else { self.sleep(letter) };
        }
        self.sleep(letter)
    }

    fn sleep<'a>(&'a self, letter: MutexGuard<'a, Option<T>>) -> MutexGuard<'a, Option<T>> {
        self.put.wait(letter).unwrap_or_else(PoisonError::into_inner)
    }
}
