//! SQLite's memory: each allocation is counted, and refused where a fault is due. Unsafe code, as `vfs` is.
//!
//! SQLite asks for memory through a table of C functions: <https://www.sqlite.org/malloc.html>. Two of them are replaced here
//! by ones that may say no, and else ask those that were there before. SQLite takes another table only before it is first
//! used, and only if nobody uses it at that moment. Nothing runs in a process before `main`, so that is when it is replaced,
//! as C++ makes its global objects: by a function that the loader is told of. Where the loader does not know that section,
//! or SQLite has another table for good, nothing is replaced, and [`is_watched`] says so.
//!
//! An allocation does not tell for which connection it is. So each thread has a disk that its allocations count for: SQLite
//! does all of a connection's work in the thread that asks for it.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::sync::{Mutex, OnceLock, PoisonError, Weak};

use rusqlite::ffi;

use crate::disk::Shared;
use crate::volume::Volume;

/// SQLite asks for so much at once for each connection, 40 slots of 1200 bytes, and serves small allocations from there. It
/// can do without, and does on our disks: else what it takes from there could not be refused.
const LOOKASIDE: c_int = 48_000;

type Allocate = unsafe extern "C" fn(c_int) -> *mut c_void;
type Reallocate = unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void;

/// What SQLite took its memory from before; empty where it still does.
static BENEATH: OnceLock<(Allocate, Reallocate)> = OnceLock::new();

thread_local! {
    /// The disk that allocations of this thread count for.
    static WATCHED: RefCell<Weak<Mutex<Volume>>> = const { RefCell::new(Weak::new()) };
}

/// Are allocations counted here, and can they be refused?
pub(crate) fn is_watched() -> bool {
    BENEATH.get().is_some()
}

/// From now on, what SQLite allocates in this thread counts for this disk, for as long as there is one.
pub(crate) fn watch(volume: &Shared) {
    let _before = WATCHED.replace(volume.weak());
}

#[used]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(windows, unsafe(link_section = ".CRT$XCU"))]
#[cfg_attr(not(any(target_vendor = "apple", windows)), unsafe(link_section = ".init_array"))]
static BEFORE_MAIN: extern "C" fn() = replace;

extern "C" fn replace() {
    // SAFETY: a table of functions, none of them there yet, and no data.
    let mut table: ffi::sqlite3_mem_methods = unsafe { std::mem::zeroed() };
    // SAFETY: no thread uses SQLite before `main`, as SQLite is linked into this program and no other constructor calls it
    // (a library that is loaded later must not link this crate); it writes its table into ours.
    let got = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, &raw mut table) };
    let (ffi::SQLITE_OK, Some(allocate), Some(reallocate)) = (got, table.xMalloc, table.xRealloc) else { return };
    table.xMalloc = Some(allocate_or_refuse);
    table.xRealloc = Some(reallocate_or_refuse);
    // SAFETY: no thread uses SQLite before `main`; it copies a table whose other functions are its own, which the two of
    // ours pass memory on from.
    let set = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw const table) };
    if set == ffi::SQLITE_OK {
        // Nobody else sets it.
        let _ = BENEATH.set((allocate, reallocate));
    }
}

unsafe extern "C" fn allocate_or_refuse(bytes: c_int) -> *mut c_void {
    match BENEATH.get() {
        // SAFETY: SQLite's own function, asked as SQLite asks.
        Some((allocate, _)) if !is_refused(bytes) => unsafe { allocate(bytes) },
        _ => std::ptr::null_mut(),
    }
}

/// What is refused stays as it was, as SQLite expects.
unsafe extern "C" fn reallocate_or_refuse(place: *mut c_void, bytes: c_int) -> *mut c_void {
    match BENEATH.get() {
        // SAFETY: SQLite's own function, asked as SQLite asks, for memory that came from there.
        Some((_, reallocate)) if !is_refused(bytes) => unsafe { reallocate(place, bytes) },
        _ => std::ptr::null_mut(),
    }
}

/// Counts an allocation, and says whether it is refused. Never asked while the volume is locked by this thread: what `vfs`
/// does meanwhile asks nothing of SQLite.
fn is_refused(bytes: c_int) -> bool {
    let watched = WATCHED.try_with(|watched| watched.borrow().upgrade());
    // A thread that ends has no disk any more.
    let Ok(Some(volume)) = watched else { return false };
    bytes == LOOKASIDE || volume.lock().unwrap_or_else(PoisonError::into_inner).refuses_memory()
}
