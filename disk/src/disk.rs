//! Disks, and how SQLite's paths lead to them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use crate::memory;
use crate::vfs;
use crate::volume::{Image, Volume};
use poolproof_core::fault::{Fault, Io};
use poolproof_core::turns;

/// Every path on a disk begins with this, and the disk's number.
const ROOT: &str = "/poolproof-disk/";

/// A volume that several have a hand in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<Volume>>);

impl Shared {
    /// Whoever had it before left it whole: every change to it is one call.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Volume> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same before a step of I/O, where a caller that takes turns may be interrupted.
    pub(crate) fn step(&self) -> MutexGuard<'_, Volume> {
        turns::pass();
        self.lock()
    }

    pub(crate) fn weak(&self) -> Weak<Mutex<Volume>> {
        Arc::downgrade(&self.0)
    }
}

static DISKS: LazyLock<Mutex<BTreeMap<u64, Weak<Mutex<Volume>>>>> = LazyLock::new(Mutex::default);

/// The volume that a path leads to.
pub(crate) fn volume_of(path: &str) -> Option<Shared> {
    let (number, _) = path.strip_prefix(ROOT)?.split_once('/')?;
    let disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
    disks.get(&number.parse().ok()?)?.upgrade().map(Shared)
}

/// A simulated disk, empty at first. It goes when this does, and the last connection to a file on it.
#[derive(Debug)]
pub struct Disk {
    number: u64,
    volume: Shared,
}

/// What is on a disk at some time, to go back to.
#[derive(Clone, Debug)]
pub struct Snapshot(Image);

impl Disk {
    /// What SQLite calls the file system of these disks: the `vfs` to open a connection with.
    pub const VFS: &str = "poolproof-disk";

    /// An empty disk; `None` if SQLite does not take it. As [`start`](Disk::start), this is where its process begins.
    pub fn new() -> Option<Disk> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if !vfs::register() {
            return None;
        }
        let (number, volume) = (NEXT.fetch_add(1, Ordering::Relaxed), Shared::default());
        let mut disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
        disks.insert(number, volume.weak());
        memory::watch(&volume);
        Some(Disk { number, volume })
    }

    /// The path by which SQLite finds a file on it.
    pub fn path(&self, name: &str) -> PathBuf {
        format!("{ROOT}{}/{name}", self.number).into()
    }

    /// Sets what will go wrong, in place of what was set before, and counts steps and allocations from 0 again.
    pub fn arm(&self, faults: &[Fault]) {
        self.volume.lock().arm(faults);
    }

    /// The steps of I/O since then.
    pub fn steps(&self) -> Vec<Io> {
        self.volume.lock().steps().to_vec()
    }

    /// How many allocations SQLite made since then, of which each could be refused. Only those count of the thread that
    /// [started](Disk::start) the process, and no other since.
    pub fn allocations(&self) -> u32 {
        self.volume.lock().allocations()
    }

    /// Can SQLite's allocations be refused here? Where not, faults of memory never strike.
    pub fn can_refuse_memory() -> bool {
        memory::is_watched()
    }

    /// The faults that have struck since then, in order; one that lasts is there each time that it struck.
    pub fn struck(&self) -> Vec<Fault> {
        self.volume.lock().struck().to_vec()
    }

    /// Has a fault ended the process? Connections that were open then do nothing any more, whatever they answer. New ones
    /// come to nothing until [`start`](Disk::start).
    pub fn is_down(&self) -> bool {
        self.volume.lock().is_down()
    }

    /// Ends the process, as a kill does, between two steps.
    pub fn kill(&self) {
        self.volume.lock().end_process();
    }

    /// Ends the process and takes the power away; `seed` as for [`PowerLoss`](crate::FaultKind::PowerLoss).
    pub fn cut_power(&self, seed: u32) {
        let mut volume = self.volume.lock();
        volume.end_process();
        volume.lose_power(seed);
    }

    /// A new process may begin. Its memory is what SQLite allocates in the thread that calls this.
    pub fn start(&self) {
        memory::watch(&self.volume);
        self.volume.lock().start_process();
    }

    /// How many files the process has open.
    pub fn open_files(&self) -> usize {
        self.volume.lock().open_files()
    }

    /// How many locks the process holds, on files and on what processes share.
    pub fn locks(&self) -> usize {
        self.volume.lock().locks()
    }

    /// What is on it now, as processes see it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.volume.lock().image())
    }

    /// Ends the process and goes back to what was on the disk then.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.volume.lock().load(&snapshot.0);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        DISKS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}
