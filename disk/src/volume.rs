//! What is on a simulated disk, who has it open, and what goes wrong at which step.
//!
//! Everything here is safe code under one lock. `vfs` hands SQLite's calls to [`Volume`] and its answers back.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::file::{File, Loss};
use crate::locks::{Holder, Level, Locks};
use crate::shared::Regions;
use poolproof_core::fault::{Fault, FaultKind, Io, Moment};

/// A step that failed, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The disk.
    Error,
    /// The disk, after some of it was done.
    Partly,
    /// The file ends there.
    AtEnd,
    /// No room.
    Full,
    /// The lock is taken.
    Busy,
    /// No such file.
    NotFound,
}

pub(crate) type Done<T> = Result<T, Failed>;

/// Which file, however it is called.
type Inode = usize;

/// A file that is open.
#[derive(Debug)]
pub(crate) struct Handle {
    inode: Inode,
    holder: Holder,
    /// Which process has it: one that has ended does nothing more.
    process: u64,
    /// What is mapped of the memory that processes share.
    regions: Option<Arc<Regions>>,
    /// Does the first synchronisation take along the names of the folder? As on Unix, that of a journal does which is opened to
    /// be created, even if it is there already: whoever made it may not have lived long enough.
    brings_names: bool,
}

/// A disk with one folder.
#[derive(Debug, Default)]
pub(crate) struct Volume {
    files: Vec<Node>,
    /// The names as processes see them, and as the disk has them.
    names: BTreeMap<String, Inode>,
    stored_names: BTreeMap<String, Inode>,
    /// The process that runs now.
    process: u64,
    is_down: bool,
    next_holder: Holder,
    open: usize,
    faults: Vec<Fault>,
    steps: Vec<Io>,
    allocations: u32,
    struck: Vec<Fault>,
}

#[derive(Debug, Default)]
struct Node {
    file: File,
    locks: Locks,
    regions: Option<Arc<Regions>>,
    mapped: usize,
}

/// Who does a step, what it is, and on which file.
type By = (u64, Io, Option<Inode>);

impl Handle {
    fn does(&self, io: Io) -> By {
        (self.process, io, Some(self.inode))
    }
}

impl Volume {
    /// Sets the faults to come, and counts steps and allocations anew.
    pub(crate) fn arm(&mut self, faults: &[Fault]) {
        self.faults = faults.to_vec();
        self.steps.clear();
        self.allocations = 0;
        self.struck.clear();
    }

    /// The steps since then.
    pub(crate) fn steps(&self) -> &[Io] {
        &self.steps
    }

    /// How many allocations there were since then.
    pub(crate) fn allocations(&self) -> u32 {
        self.allocations
    }

    /// The faults that have struck since then.
    pub(crate) fn struck(&self) -> &[Fault] {
        &self.struck
    }

    /// Has the process ended?
    pub(crate) fn is_down(&self) -> bool {
        self.is_down
    }

    /// Files that the present process has open.
    pub(crate) fn open_files(&self) -> usize {
        self.open
    }

    /// Locks that the present process holds.
    pub(crate) fn locks(&self) -> usize {
        self.files.iter().map(|node| node.locks.count()).sum()
    }

    /// Ends the process if it runs still: everything it had open is gone, and what it does from now on does nothing.
    pub(crate) fn end_process(&mut self) {
        self.is_down = true;
        self.process += 1;
        self.open = 0;
        for node in &mut self.files {
            (node.locks, node.regions, node.mapped) = (Locks::default(), None, 0);
        }
    }

    /// From now on there is a process again.
    pub(crate) fn start_process(&mut self) {
        self.is_down = false;
    }

    /// What was not synchronised is lost, in whole or in part.
    pub(crate) fn lose_power(&mut self, seed: u32) {
        let mut loss = Loss::seeded(seed);
        for node in &mut self.files {
            node.file.lose_power(&mut loss);
        }
        let mut names = self.stored_names.clone();
        let changed = self.names.keys().chain(self.stored_names.keys());
        let mut changed: Vec<&String> =
            changed.filter(|name| self.names.get(*name) != self.stored_names.get(*name)).collect();
        changed.sort_unstable();
        changed.dedup();
        for name in changed.into_iter().filter(|_| loss.arrives()) {
            match self.names.get(name) {
                Some(inode) => drop(names.insert(name.clone(), *inode)),
                None => drop(names.remove(name)),
            }
        }
        self.names.clone_from(&names);
        self.stored_names = names;
    }

    /// One step of I/O: counted, and struck by what is due.
    fn step<T>(&mut self, (process, io, inode): By, act: impl FnOnce(&mut Volume) -> Done<T>) -> Done<T> {
        if self.is_down || process != self.process {
            return Err(Failed::Error);
        }
        let fault = self.due(self.steps.len() as u32, |kind, moment| kind.strikes(io, moment));
        self.steps.push(io);
        let Some(Fault { kind, moment, .. }) = fault else { return act(self) };
        let done = if moment == Moment::After { act(self).map(|_| ()) } else { Ok(()) };
        self.strike(kind, inode);
        done?;
        Err(match kind {
            FaultKind::ShortRead => Failed::Partly,
            FaultKind::Full => Failed::Full,
            FaultKind::Busy => Failed::Busy,
            _ => Failed::Error,
        })
    }

    /// One allocation: counted, and refused if that is due.
    pub(crate) fn refuses_memory(&mut self) -> bool {
        if self.is_down {
            return false;
        }
        let fault = self.due(self.allocations, |kind, moment| kind.is_of_memory() && moment == Moment::Before);
        self.allocations = self.allocations.saturating_add(1);
        fault.is_some()
    }

    /// The fault that strikes at this step of I/O or allocation, among those that can strike there.
    fn due(&mut self, step: u32, strikes: impl Fn(FaultKind, Moment) -> bool) -> Option<Fault> {
        let is_due = |fault: &&Fault| {
            let is_now = fault.step == step || (fault.kind.lasts() && fault.step < step);
            is_now && fault.call.is_none() && strikes(fault.kind, fault.moment)
        };
        let fault = self.faults.iter().find(is_due).copied()?;
        self.struck.push(fault);
        Some(fault)
    }

    fn strike(&mut self, kind: FaultKind, inode: Option<Inode>) {
        match (kind, inode) {
            (FaultKind::PowerLoss(seed), _) => self.lose_power(seed),
            (FaultKind::SyncFailure(seed), Some(inode)) => {
                self.files[inode].file.fail_to_sync(&mut Loss::seeded(seed));
            }
            _ => {}
        }
        if kind.ends_the_process() {
            self.end_process();
        }
    }
}

/// Files by name.
impl Volume {
    /// Opens a file, or creates it where that is wanted; without a name, one that nobody else sees.
    pub(crate) fn open(&mut self, name: Option<&str>, creates: bool, is_journal: bool) -> Done<Handle> {
        self.step((self.process, Io::Open, None), |volume| {
            let there = name.and_then(|name| volume.names.get(name).copied());
            let inode = match there {
                Some(inode) => inode,
                None if !creates => return Err(Failed::NotFound),
                None => volume.create(name),
            };
            volume.next_holder += 1;
            volume.open += 1;
            Ok(Handle {
                inode,
                holder: volume.next_holder,
                process: volume.process,
                regions: None,
                brings_names: is_journal && creates,
            })
        })
    }

    fn create(&mut self, name: Option<&str>) -> Inode {
        self.files.push(Node::default());
        let inode = self.files.len() - 1;
        if let Some(name) = name {
            self.names.insert(name.to_owned(), inode);
        }
        inode
    }

    /// Removes a name; `is_durable` says whether the disk has to know at once.
    pub(crate) fn delete(&mut self, name: &str, is_durable: bool) -> Done<()> {
        self.step((self.process, Io::Delete, None), |volume| {
            volume.names.remove(name).ok_or(Failed::NotFound)?;
            if is_durable {
                volume.stored_names.clone_from(&volume.names);
            }
            Ok(())
        })
    }

    /// Is there such a file?
    pub(crate) fn exists(&mut self, name: &str) -> Done<bool> {
        self.step((self.process, Io::Access, None), |volume| Ok(volume.names.contains_key(name)))
    }
}

/// Open files.
impl Volume {
    /// Reads; where the file ends before the buffer, that is [`Failed::AtEnd`], and the rest is zeros.
    pub(crate) fn read(&mut self, handle: &Handle, offset: usize, buffer: &mut [u8]) -> Done<()> {
        let stepped = self.step(handle.does(Io::Read), |_| Ok(()));
        match stepped {
            Ok(()) => {
                let count = self.files[handle.inode].file.read(offset, buffer);
                if count < buffer.len() { Err(Failed::AtEnd) } else { Ok(()) }
            }
            Err(Failed::Partly) => {
                let half = buffer.len() / 2;
                self.files[handle.inode].file.read(offset, &mut buffer[..half]);
                stepped
            }
            Err(_) => stepped,
        }
    }

    pub(crate) fn write(&mut self, handle: &Handle, offset: usize, bytes: &[u8]) -> Done<()> {
        self.step(handle.does(Io::Write), |volume| {
            volume.files[handle.inode].file.write(offset, bytes);
            Ok(())
        })
    }

    pub(crate) fn resize(&mut self, handle: &Handle, size: usize) -> Done<()> {
        self.step(handle.does(Io::Truncate), |volume| {
            volume.files[handle.inode].file.resize(size);
            Ok(())
        })
    }

    pub(crate) fn sync(&mut self, handle: &mut Handle) -> Done<()> {
        let (inode, brings_names) = (handle.inode, handle.brings_names);
        self.step(handle.does(Io::Sync), |volume| {
            volume.files[inode].file.sync();
            if brings_names {
                volume.stored_names.clone_from(&volume.names);
            }
            Ok(())
        })?;
        handle.brings_names = false;
        Ok(())
    }

    pub(crate) fn size(&mut self, handle: &Handle) -> Done<usize> {
        self.step(handle.does(Io::Size), |volume| Ok(volume.files[handle.inode].file.len()))
    }

    pub(crate) fn lock(&mut self, handle: &Handle, level: Level) -> Done<()> {
        self.step(handle.does(Io::Lock), |volume| {
            volume.files[handle.inode].locks.raise(handle.holder, level).map_err(|_| Failed::Busy)
        })
    }

    /// Gives a lock back, which nothing keeps from happening.
    pub(crate) fn unlock(&mut self, handle: &Handle, level: Level) {
        if handle.process == self.process {
            self.files[handle.inode].locks.lower(handle.holder, level);
        }
    }

    pub(crate) fn is_reserved(&mut self, handle: &Handle) -> Done<bool> {
        self.step(handle.does(Io::Lock), |volume| Ok(volume.files[handle.inode].locks.is_reserved()))
    }

    /// Where a region is of the memory that everybody shares who has this file open; `None` where there is none yet, and
    /// none shall be made.
    pub(crate) fn map(
        &mut self,
        handle: &mut Handle,
        region: usize,
        bytes: usize,
        makes: bool,
    ) -> Done<Option<*mut u8>> {
        let inode = handle.inode;
        let regions =
            self.step(handle.does(Io::Map), |volume| Ok(volume.files[inode].regions.get_or_insert_default().clone()))?;
        let place = regions.region(region, bytes, makes);
        if handle.regions.replace(regions).is_none() {
            self.files[inode].mapped += 1;
        }
        Ok(place)
    }

    pub(crate) fn take(&mut self, handle: &Handle, slots: Range<u32>, is_shared: bool) -> Done<()> {
        self.step(handle.does(Io::Lock), |volume| {
            volume.files[handle.inode].locks.take(handle.holder, slots, is_shared).map_err(|_| Failed::Busy)
        })
    }

    pub(crate) fn give(&mut self, handle: &Handle, slots: Range<u32>) {
        if handle.process == self.process {
            self.files[handle.inode].locks.give(handle.holder, slots);
        }
    }

    pub(crate) fn unmap(&mut self, handle: &mut Handle) {
        if handle.regions.take().is_some() && handle.process == self.process {
            let node = &mut self.files[handle.inode];
            node.mapped -= 1;
            if node.mapped == 0 {
                node.regions = None;
            }
        }
    }

    pub(crate) fn close(&mut self, mut handle: Handle) {
        self.unmap(&mut handle);
        if handle.process == self.process {
            self.files[handle.inode].locks.leave(handle.holder);
            self.open -= 1;
        }
    }
}

/// What is on a disk: each file by its names.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    files: Vec<File>,
    names: BTreeMap<String, Inode>,
    stored_names: BTreeMap<String, Inode>,
}

impl Volume {
    pub(crate) fn image(&self) -> Image {
        let files = self.files.iter().map(|node| node.file.clone()).collect();
        Image { files, names: self.names.clone(), stored_names: self.stored_names.clone() }
    }

    pub(crate) fn load(&mut self, image: &Image) {
        self.end_process();
        self.files = image.files.iter().map(|file| Node { file: file.clone(), ..Node::default() }).collect();
        self.names.clone_from(&image.names);
        self.stored_names.clone_from(&image.stored_names);
        self.arm(&[]);
    }
}
