//! Panics of a system that runs inside this process: caught, described, and not printed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// From now on a panic inside the system's own code is noted, not printed. Other panics, which are
/// our own defects, are printed as ever.
pub(super) fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(|place| format!(" at {}:{}", place.file(), place.line()));
            LAST.with(|last| *last.borrow_mut() = place);
            if !GUARDED.with(|guarded| guarded.get()) {
                previous(info);
            }
        }));
    });
}

/// Marks the system's own code: panics in it are caught and need no printing.
pub(super) struct Guard;

impl Guard {
    pub(super) fn new() -> Guard {
        GUARDED.with(|guarded| guarded.set(true));
        Guard
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        GUARDED.with(|guarded| guarded.set(false));
    }
}

/// What a caught panic said, and where.
pub(super) fn describe(payload: &(dyn Any + Send)) -> String {
    let said = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let said = said.or_else(|| payload.downcast_ref::<String>().cloned());
    let place = LAST.with(|last| last.borrow_mut().take()).unwrap_or_default();
    format!("{}{place}", said.unwrap_or_else(|| "without a text".to_owned()))
}
