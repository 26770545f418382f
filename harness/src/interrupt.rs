//! The user's wish to stop, seen by every loop that can last.
//!
//! The command line sets it on Ctrl-C and on termination; engines look between calls and adapters
//! while they wait, so a run ends within a moment with its report, and everything is cleaned up on
//! the ordinary way out.

use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Asks everything to stop.
pub fn request() {
    REQUESTED.store(true, Ordering::Relaxed);
}

/// Has somebody asked to stop?
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
