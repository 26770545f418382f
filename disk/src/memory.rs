//! Memory that is counted, and SQLite's that is refused where a fault is due. Unsafe code, as `vfs` is.
//!
//! SQLite asks for memory through a table of C functions: <https://www.sqlite.org/malloc.html>. Three of them are replaced
//! here by ones that keep count and may say no, and else ask those that were there before. SQLite takes another table only before it is first
//! used, and only if nobody uses it at that moment. Nothing runs in a process before `main`, so that is when it is replaced,
//! as C++ makes its global objects: by a function that the loader is told of. Where the loader does not know that section,
//! or SQLite has another table for good, nothing is replaced, and [`is_watched`] says so.
//!
//! An allocation does not tell for which connection it is. So each thread has a disk that its allocations count for: SQLite
//! does all of a connection's work in the thread that asks for it.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::sync::{Mutex, OnceLock, PoisonError, Weak};

use rusqlite::ffi;

use crate::disk::Shared;
use crate::volume::Volume;

/// SQLite asks for so much at once for each connection, 40 slots of 1200 bytes, and serves small allocations from there. It
/// can do without, and does on our disks: else what it takes from there could not be refused.
const LOOKASIDE: c_int = 48_000;

/// The functions that SQLite took its memory from before.
struct Beneath {
    allocate: unsafe extern "C" fn(c_int) -> *mut c_void,
    reallocate: unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    size: unsafe extern "C" fn(*mut c_void) -> c_int,
}

/// Empty where SQLite still asks them itself.
static BENEATH: OnceLock<Beneath> = OnceLock::new();

thread_local! {
    /// The disk that allocations of this thread count for.
    static WATCHED: RefCell<Weak<Mutex<Volume>>> = const { RefCell::new(Weak::new()) };
    /// The bytes that this thread has asked for and not given back. Below zero where it gives back what others asked for.
    static IN_USE: Cell<i64> = const { Cell::new(0) };
}

/// Are allocations counted here, and can they be refused?
pub(crate) fn is_watched() -> bool {
    BENEATH.get().is_some()
}

/// From now on, what SQLite allocates in this thread counts for this disk, for as long as there is one.
pub(crate) fn watch(volume: &Shared) {
    let _before = WATCHED.replace(volume.weak());
}

/// How many bytes this thread has asked for and not given back: what SQLite did, and all that Rust did where [`Counting`] is
/// the global allocator.
pub fn bytes_in_use() -> i64 {
    IN_USE.get()
}

/// The system's allocator, with the bytes in use of each thread [counted](bytes_in_use). To count costs an addition.
#[derive(Clone, Copy, Debug)]
pub struct Counting;

// SAFETY: all is passed on to the system's allocator as it is; counting neither allocates nor panics: the counter is there
// from the start, and is nothing that would have to be dropped.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise is the same, and all memory comes from there.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise is the same, and all memory comes from there.
        unsafe { System.realloc(place, layout, size) }
    }
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
    let there = (got, table.xMalloc, table.xRealloc, table.xFree, table.xSize);
    let (ffi::SQLITE_OK, Some(allocate), Some(reallocate), Some(free), Some(size)) = there else { return };
    table.xMalloc = Some(allocate_or_refuse);
    table.xRealloc = Some(reallocate_or_refuse);
    table.xFree = Some(give_back);
    // SAFETY: no thread uses SQLite before `main`; it copies a table whose other functions are its own, which those of ours
    // pass memory on from.
    let set = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw const table) };
    if set == ffi::SQLITE_OK {
        // Nobody else sets it.
        let _ = BENEATH.set(Beneath { allocate, reallocate, free, size });
    }
}

unsafe extern "C" fn allocate_or_refuse(bytes: c_int) -> *mut c_void {
    let Some(beneath) = BENEATH.get().filter(|_| !is_refused(bytes)) else { return std::ptr::null_mut() };
    // SAFETY: SQLite's own function, asked as SQLite asks.
    let place = unsafe { (beneath.allocate)(bytes) };
    count(beneath.size_of(place));
    place
}

/// What is refused stays as it was, as SQLite expects.
unsafe extern "C" fn reallocate_or_refuse(place: *mut c_void, bytes: c_int) -> *mut c_void {
    let Some(beneath) = BENEATH.get().filter(|_| !is_refused(bytes)) else { return std::ptr::null_mut() };
    let before = beneath.size_of(place);
    // SAFETY: SQLite's own function, asked as SQLite asks, for memory that came from there.
    let moved = unsafe { (beneath.reallocate)(place, bytes) };
    if !moved.is_null() {
        count(beneath.size_of(moved) - before);
    }
    moved
}

unsafe extern "C" fn give_back(place: *mut c_void) {
    // Whatever there is to give back came from there.
    let Some(beneath) = BENEATH.get() else { return };
    count(-beneath.size_of(place));
    // SAFETY: SQLite's own function, asked as SQLite asks, for memory that came from there.
    unsafe { (beneath.free)(place) }
}

impl Beneath {
    /// How many bytes there are at a place that memory was allocated at, or at none.
    fn size_of(&self, place: *mut c_void) -> i64 {
        if place.is_null() {
            return 0;
        }
        // SAFETY: SQLite's own function; the place came from there and has not been given back.
        i64::from(unsafe { (self.size)(place) })
    }
}

fn count(bytes: i64) {
    IN_USE.set(IN_USE.get().wrapping_add(bytes));
}

/// Counts an allocation, and says whether it is refused. Never asked while the volume is locked by this thread: what `vfs`
/// does meanwhile asks nothing of SQLite.
fn is_refused(bytes: c_int) -> bool {
    let watched = WATCHED.try_with(|watched| watched.borrow().upgrade());
    // A thread that ends has no disk any more.
    let Ok(Some(volume)) = watched else { return false };
    bytes == LOOKASIDE || volume.lock().unwrap_or_else(PoisonError::into_inner).refuses_memory()
}
