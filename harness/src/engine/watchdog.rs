//! Watches for a call into this process that never comes back.
//!
//! Adapters of other processes end late calls themselves. A call into this process cannot be ended;
//! it can only be told of. A thread of its own looks again and again whether the system's code is
//! still in the call that it was in before. When that has lasted too long the scenario is handed to
//! whoever keeps the watchdog, and the process ends with the exit code for a violation, like a fuzzer
//! that meets a time-out.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::property::{Property, Verdict, Violation};
use crate::scenario::Scenario;

/// How often it looks. Looks are counted, not the time between them: a process that was suspended
/// for an hour has not hung for an hour.
const LOOK: Duration = Duration::from_millis(100);

/// A call that never came back.
#[derive(Clone, Debug)]
pub struct Hang {
    /// The scenario that it belongs to.
    pub scenario: Scenario,
    /// Scenarios begun until then.
    pub scenarios: u64,
    /// How long was waited.
    pub limit: Duration,
}

impl Hang {
    /// The promise that it breaks.
    pub fn violation(&self) -> Violation {
        let limit = self.limit;
        Violation::new(Property::Total, format!("a call into this process has not come back within {limit:?}"))
    }
}

/// What is done about a hang before the process ends.
pub type OnHang = Box<dyn FnOnce(Hang) + Send>;

/// Watches until it is dropped.
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Odd while the system's code runs; greater after each change. Written by one thread only.
    pulse: AtomicU64,
    running: Mutex<Running>,
    changed: Condvar,
}

#[derive(Default)]
struct Running {
    scenario: Arc<Scenario>,
    scenarios: u64,
    /// The adapter's folder, to be removed when the process ends.
    scratch: Option<PathBuf>,
    is_over: bool,
}

impl Watchdog {
    /// Begins to watch; a call that lasts longer than `limit` is a hang.
    pub(super) fn start(limit: Duration, scratch: Option<PathBuf>, on_hang: OnHang) -> io::Result<Watchdog> {
        let shared = Arc::new(Shared::default());
        shared.lock().scratch = scratch;
        let watched = Arc::clone(&shared);
        let watch = move || {
            if let Some(hang) = watched.await_hang(limit) {
                on_hang(hang);
                watched.end_process();
            }
        };
        let thread = thread::Builder::new().name("watchdog".to_owned()).spawn(watch)?;
        Ok(Watchdog { shared, thread: Some(thread) })
    }

    /// From now on calls belong to this scenario.
    pub(super) fn begin(&self, scenario: Arc<Scenario>) {
        let mut running = self.shared.lock();
        running.scenario = scenario;
        running.scenarios += 1;
    }

    /// The system's code is entered, or left. Costs next to nothing.
    pub(super) fn beat(&self) {
        let pulse = &self.shared.pulse;
        pulse.store(pulse.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It panics only where `on_hang` does, and then the process is about to end.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a hang; `None` when the watch is over.
    fn await_hang(&self, limit: Duration) -> Option<Hang> {
        let most = limit.as_nanos().div_ceil(LOOK.as_nanos());
        let (mut seen, mut looks) = (0, 0);
        let mut running = self.lock();
        while !running.is_over {
            (running, _) = self.changed.wait_timeout(running, LOOK).unwrap_or_else(PoisonError::into_inner);
            let pulse = self.pulse.load(Ordering::Relaxed);
            let is_same_call = pulse == seen && pulse % 2 == 1;
            looks = if is_same_call { looks + 1 } else { 0 };
            seen = pulse;
            if looks > most && !running.is_over {
                let (scenario, scenarios) = (Scenario::clone(&running.scenario), running.scenarios);
                return Some(Hang { scenario, scenarios, limit });
            }
        }
        None
    }

    fn end_process(&self) -> ! {
        if let Some(scratch) = &self.lock().scratch {
            // Whether or not this works, there is nothing left to be done.
            let _ = std::fs::remove_dir_all(scratch);
        }
        std::process::exit(i32::from(Verdict::Violated.exit_code()))
    }
}
