//! The binding: SQLite's calls in, [`Volume`]'s answers out. Unsafe code, as `memory` is, and nothing else here.
//!
//! SQLite asks its virtual file system through two tables of C functions: <https://www.sqlite.org/vfs.html>. What makes this
//! sound, beside what each block says:
//!
//! - SQLite passes pointers that are valid for the length of the call, buffers as long as it says, and texts that end with
//!   a zero; that is its side of the interface.
//! - SQLite gives each open file `szOsFile` bytes of its own, aligned for 8, and passes them on to every method until
//!   `xClose`, from one thread at a time for each connection. So the [`OpenFile`] that [`open`] puts there is ours alone
//!   during a call.
//! - A file's methods are set only once its [`OpenFile`] is whole; SQLite calls none of them before.
//! - The tables themselves are never freed.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::slice;
use std::sync::LazyLock;

use poolproof_core::turns;
use rusqlite::ffi;

use crate::disk::{Shared, volume_of};
use crate::locks::Level;
use crate::volume::{Done, Failed, Handle};

/// The name under which SQLite knows these disks.
pub(crate) const NAME: &CStr = c"poolproof-disk";

/// The longest path, as for files.
const LONGEST_PATH: c_int = 512;

/// What SQLite believes to be written as a whole. Sectors here are smaller, and torn only at their borders.
const SECTOR: c_int = 4096;

/// What is beside the bytes that are written stays as it is when the power goes, as file systems of today promise.
const CHARACTERISTICS: c_int = ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE;

/// Noon of the first of January, 2000, in milliseconds of the Julian day: as good as any other time, and always the same.
const NOW: i64 = 211_813_488_000_000;

/// What SQLite sees as a file.
#[repr(C)]
struct OpenFile {
    base: ffi::sqlite3_file,
    volume: Shared,
    handle: Handle,
}

const _: () = assert!(align_of::<OpenFile>() <= 8, "SQLite aligns open files for 8");

/// Makes the disks known to SQLite, once; says whether SQLite took them.
pub(crate) fn register() -> bool {
    static IS_REGISTERED: LazyLock<bool> = LazyLock::new(|| {
        let vfs = Box::leak(Box::new(table()));
        // SAFETY: the table is whole, and leaked: it stays for as long as the program runs.
        let code = unsafe { ffi::sqlite3_vfs_register(vfs, 0) };
        code == ffi::SQLITE_OK
    });
    *IS_REGISTERED
}

fn table() -> ffi::sqlite3_vfs {
    ffi::sqlite3_vfs {
        iVersion: 2,
        szOsFile: size_of::<OpenFile>() as c_int,
        mxPathname: LONGEST_PATH,
        pNext: ptr::null_mut(),
        zName: NAME.as_ptr(),
        pAppData: ptr::null_mut(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_path),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: None,
        xGetLastError: None,
        xCurrentTimeInt64: Some(current_time),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// SQLite's code for how a step ended; `error` is its code where the disk failed.
fn code(done: Done<()>, error: c_int) -> c_int {
    match done {
        Ok(()) => ffi::SQLITE_OK,
        Err(Failed::Error | Failed::Partly) => error,
        // SQLite takes zeros for the rest, and no error: the machine's own file system interface, too, says so at the end
        // of a file only.
        Err(Failed::AtEnd) => ffi::SQLITE_IOERR_SHORT_READ,
        Err(Failed::Full) => ffi::SQLITE_FULL,
        Err(Failed::Busy) => ffi::SQLITE_BUSY,
        Err(Failed::NotFound) => ffi::SQLITE_CANTOPEN,
    }
}

/// The text that SQLite passed, where there is one and it is UTF-8.
///
/// # Safety
///
/// `name` is null, or points to a text that ends with a zero.
unsafe fn text<'a>(name: *const c_char) -> Option<&'a str> {
    if name.is_null() {
        return None;
    }
    // SAFETY: it is not null; the rest is the caller's promise.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}

/// The file that SQLite passed.
///
/// # Safety
///
/// `file` is what SQLite passes to a method of an open file.
unsafe fn opened<'a>(file: *mut ffi::sqlite3_file) -> &'a mut OpenFile {
    // SAFETY: `open` put an `OpenFile` there before it set the methods, and nobody else has it during the call.
    unsafe { &mut *file.cast::<OpenFile>() }
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: `file` has room for an `OpenFile`. Without methods SQLite will not call `close` for what was not opened.
    unsafe { (*file).pMethods = ptr::null() };
    // SAFETY: SQLite passes null or a text.
    let name = unsafe { text(name) };
    let Some(volume) = name.map_or_else(|| Some(Shared::default()), volume_of) else { return ffi::SQLITE_CANTOPEN };
    let creates = flags & ffi::SQLITE_OPEN_CREATE != 0;
    let journals = ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL | ffi::SQLITE_OPEN_WAL;
    let handle = match volume.step().open(name, creates, flags & journals != 0) {
        Ok(handle) => handle,
        Err(failed) => return code(Err(failed), ffi::SQLITE_CANTOPEN),
    };
    if !out_flags.is_null() {
        // SAFETY: it is not null, so SQLite wants to know.
        unsafe { *out_flags = flags };
    }
    let whole = OpenFile { base: ffi::sqlite3_file { pMethods: &raw const METHODS }, volume, handle };
    // SAFETY: `file` has room for it, aligned, and holds nothing yet that would have to be dropped.
    unsafe { ptr::write(file.cast::<OpenFile>(), whole) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, is_durable: c_int) -> c_int {
    // SAFETY: SQLite passes a text.
    let Some(name) = (unsafe { text(name) }) else { return ffi::SQLITE_IOERR_DELETE };
    let Some(volume) = volume_of(name) else { return ffi::SQLITE_IOERR_DELETE };
    match volume.step().delete(name, is_durable != 0) {
        Err(Failed::NotFound) => ffi::SQLITE_IOERR_DELETE_NOENT,
        done => code(done, ffi::SQLITE_IOERR_DELETE),
    }
}

unsafe extern "C" fn access(_: *mut ffi::sqlite3_vfs, name: *const c_char, _: c_int, out: *mut c_int) -> c_int {
    // SAFETY: SQLite passes a text.
    let Some(name) = (unsafe { text(name) }) else { return ffi::SQLITE_IOERR_ACCESS };
    let Some(volume) = volume_of(name) else { return ffi::SQLITE_IOERR_ACCESS };
    match volume.step().exists(name) {
        // SAFETY: SQLite passes where the answer goes.
        Ok(exists) => unsafe { *out = exists.into() },
        Err(failed) => return code(Err(failed), ffi::SQLITE_IOERR_ACCESS),
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_path(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    length: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite passes a text.
    let bytes = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
    if bytes.len() > length as usize {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: the buffer of SQLite's has `length` bytes, which is enough, and is not the name itself.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len()) };
    ffi::SQLITE_OK
}

/// Asked for only to seed what SQLite draws; where this is not the default file system, it never is.
unsafe extern "C" fn randomness(_: *mut ffi::sqlite3_vfs, length: c_int, out: *mut c_char) -> c_int {
    // SAFETY: the buffer of SQLite's has `length` bytes.
    unsafe { ptr::write_bytes(out, 0, length as usize) };
    length
}

/// Time does not pass here, but others may go on.
unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    // Whoever waits, waits for others.
    let _ = turns::wait_for_others();
    microseconds
}

unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, out: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: SQLite passes where the answer goes.
    unsafe { *out = NOW };
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: it was opened, so an `OpenFile` is there; SQLite does not use it again, so it is taken out of there.
    let OpenFile { volume, handle, .. } = unsafe { ptr::read(file.cast::<OpenFile>()) };
    // SAFETY: without methods nobody can close it twice.
    unsafe { (*file).pMethods = ptr::null() };
    volume.lock().close(handle);
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, out: *mut c_void, length: c_int, offset: i64) -> c_int {
    // SAFETY: an open file; a buffer of `length` bytes, which SQLite does not touch meanwhile.
    let (file, buffer) = unsafe { (opened(file), slice::from_raw_parts_mut(out.cast::<u8>(), length as usize)) };
    code(file.volume.step().read(&file.handle, offset as usize, buffer), ffi::SQLITE_IOERR_READ)
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, bytes: *const c_void, length: c_int, offset: i64) -> c_int {
    // SAFETY: an open file; `length` bytes, which nobody changes meanwhile.
    let (file, bytes) = unsafe { (opened(file), slice::from_raw_parts(bytes.cast::<u8>(), length as usize)) };
    code(file.volume.step().write(&file.handle, offset as usize, bytes), ffi::SQLITE_IOERR_WRITE)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    // SAFETY: an open file.
    let file = unsafe { opened(file) };
    code(file.volume.step().resize(&file.handle, size as usize), ffi::SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: an open file.
    let file = unsafe { opened(file) };
    code(file.volume.step().sync(&mut file.handle), ffi::SQLITE_IOERR_FSYNC)
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, out: *mut i64) -> c_int {
    // SAFETY: an open file.
    let file = unsafe { opened(file) };
    match file.volume.step().size(&file.handle) {
        // SAFETY: SQLite passes where the answer goes.
        Ok(size) => unsafe { *out = size as i64 },
        Err(failed) => return code(Err(failed), ffi::SQLITE_IOERR_FSTAT),
    }
    ffi::SQLITE_OK
}

fn level(level: c_int) -> Level {
    match level {
        ffi::SQLITE_LOCK_NONE => Level::None,
        ffi::SQLITE_LOCK_SHARED => Level::Shared,
        ffi::SQLITE_LOCK_RESERVED => Level::Reserved,
        ffi::SQLITE_LOCK_PENDING => Level::Pending,
        _ => Level::Exclusive,
    }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, wanted: c_int) -> c_int {
    // SAFETY: an open file.
    let file = unsafe { opened(file) };
    code(file.volume.step().lock(&file.handle, level(wanted)), ffi::SQLITE_IOERR_LOCK)
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, wanted: c_int) -> c_int {
    // SAFETY: an open file.
    let file = unsafe { opened(file) };
    file.volume.step().unlock(&file.handle, level(wanted));
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: an open file.
    let file = unsafe { opened(file) };
    match file.volume.step().is_reserved(&file.handle) {
        // SAFETY: SQLite passes where the answer goes.
        Ok(is_reserved) => unsafe { *out = is_reserved.into() },
        Err(failed) => return code(Err(failed), ffi::SQLITE_IOERR_CHECKRESERVEDLOCK),
    }
    ffi::SQLITE_OK
}

/// Nothing beyond the methods.
unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    SECTOR
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    CHARACTERISTICS
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    bytes: c_int,
    makes: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: an open file.
    let file = unsafe { opened(file) };
    let mapped = file.volume.step().map(&mut file.handle, region as usize, bytes as usize, makes != 0);
    // What is mapped stays where it is until `shm_unmap` or `close`: the handle holds it.
    let (place, code) = match mapped {
        Ok(place) => (place.unwrap_or(ptr::null_mut()), ffi::SQLITE_OK),
        Err(failed) => (ptr::null_mut(), code(Err(failed), ffi::SQLITE_IOERR_SHMMAP)),
    };
    // SAFETY: SQLite passes where the answer goes.
    unsafe { *out = place.cast() };
    code
}

unsafe extern "C" fn shm_lock(file: *mut ffi::sqlite3_file, first: c_int, count: c_int, flags: c_int) -> c_int {
    // SAFETY: an open file.
    let file = unsafe { opened(file) };
    let slots = first as u32..(first + count) as u32;
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        file.volume.step().give(&file.handle, slots);
        return ffi::SQLITE_OK;
    }
    let is_shared = flags & ffi::SQLITE_SHM_SHARED != 0;
    code(file.volume.step().take(&file.handle, slots, is_shared), ffi::SQLITE_IOERR_SHMLOCK)
}

unsafe extern "C" fn shm_barrier(_: *mut ffi::sqlite3_file) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: an open file.
    let file = unsafe { opened(file) };
    file.volume.step().unmap(&mut file.handle);
    ffi::SQLITE_OK
}
