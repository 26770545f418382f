//! Faults: what goes wrong, and at which I/O step or allocation.
//!
//! Their texts are those of scenarios: `kill before 3`, `power-loss 7 after 3`, `no-memory before 17`; steps are counted from
//! 1 there. In a process of its own a step is a system call, and counted among those of its name: `kill before write 2`.
//!
//! Allocations are counted by themselves. There are a hundred of them for each step of I/O, and a fault that is found among
//! steps of I/O should not move when a statement takes one allocation more.

use std::fmt;

/// An injected failure, and the I/O step or allocation at which it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// Which step of I/O, or which allocation where [memory](FaultKind::is_of_memory) is refused, counted from 0 since the
    /// faults were set.
    pub step: u32,
    /// Among the calls of this name only, where the steps are system calls; else among all steps.
    pub call: Option<SystemCall>,
    /// Is the step done when it strikes?
    pub moment: Moment,
}

/// Before a step takes effect, or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Moment {
    /// The step does not happen.
    Before,
    /// The step happens.
    After,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// The step is said to have failed.
    Error,
    /// A read fails after half of the bytes.
    ShortRead,
    /// No room is left for anything, until the faults are taken away.
    Full,
    /// A synchronisation fails, and each sector that it was for is on the disk or is not, whatever follows: which, is
    /// drawn with this seed.
    SyncFailure(u32),
    /// Somebody else has the lock, until the faults are taken away.
    Busy,
    /// A system call is interrupted by a signal before it has done anything.
    Interrupted,
    /// The process is killed. What it wrote stays.
    Kill,
    /// The power goes. What was not synchronised is lost, torn, or written out of order: seed 0 loses all of it, seed 1
    /// loses nothing, others draw for each sector.
    PowerLoss(u32),
    /// No allocation succeeds, until the faults are taken away.
    NoMemory,
    /// One allocation fails.
    NoMemoryOnce,
}

/// A step of I/O, and how a fault names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoStep {
    /// What it does.
    pub io: Io,
    /// Its number, as in [`Fault::step`].
    pub step: u32,
    /// The call it is, as in [`Fault::call`].
    pub call: Option<SystemCall>,
}

impl IoStep {
    /// Steps that are counted one by one, whatever they are.
    pub fn numbered(all: &[Io]) -> Vec<IoStep> {
        (0..).zip(all).map(|(step, io)| IoStep { io: *io, step, call: None }).collect()
    }

    /// Can this go wrong with it, before or after it takes effect?
    pub fn can_be_struck(self, kind: FaultKind, moment: Moment) -> bool {
        use FaultKind::{Error, Full, Interrupted, Kill};
        match (self.call, moment) {
            (None, _) => kind.strikes(self.io, moment),
            // Any call may be refused, but whoever was asked must hear the answer, or the process be dead; and a file that
            // was to be closed is closed on Linux even if that failed, which nobody can feign. Most of what is mapped is
            // memory, which is another matter.
            (Some(_), Moment::Before) => {
                let can_fail = !matches!(self.io, Io::Answer | Io::Close | Io::Map);
                kind == Kill || (matches!(kind, Error | Full | Interrupted) && can_fail)
            }
            (Some(_), Moment::After) => false,
        }
    }
}

/// Where a step of a scenario can be struck.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Its steps of I/O.
    pub steps: Vec<IoStep>,
    /// How many allocations it makes that can be refused.
    pub allocations: u32,
}

/// The name of a system call that has to do with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SystemCall(&'static str);

impl SystemCall {
    /// All of them: those of Linux that name a file, or are given one that is open.
    pub const ALL: [SystemCall; SYSTEM_CALLS.len()] = {
        let mut all = [SystemCall(""); SYSTEM_CALLS.len()];
        let mut index = 0;
        while index < all.len() {
            all[index] = SystemCall(SYSTEM_CALLS[index].0);
            index += 1;
        }
        all
    };

    /// The call of this name.
    pub fn named(name: &str) -> Option<SystemCall> {
        SystemCall::ALL.into_iter().find(|call| call.0 == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// What it does.
    pub fn io(self) -> Io {
        SYSTEM_CALLS.iter().find(|(name, _)| *name == self.0).map_or(Io::Write, |(_, io)| *io)
    }
}

const SYSTEM_CALLS: [(&str, Io); 66] = [
    ("open", Io::Open),
    ("openat", Io::Open),
    ("openat2", Io::Open),
    ("creat", Io::Open),
    ("close", Io::Close),
    ("read", Io::Read),
    ("readv", Io::Read),
    ("pread64", Io::Read),
    ("preadv", Io::Read),
    ("preadv2", Io::Read),
    ("getdents", Io::Read),
    ("getdents64", Io::Read),
    ("readlink", Io::Read),
    ("readlinkat", Io::Read),
    ("write", Io::Write),
    ("writev", Io::Write),
    ("pwrite64", Io::Write),
    ("pwritev", Io::Write),
    ("pwritev2", Io::Write),
    ("sendfile", Io::Write),
    ("copy_file_range", Io::Write),
    ("chmod", Io::Write),
    ("fchmod", Io::Write),
    ("fchmodat", Io::Write),
    ("chown", Io::Write),
    ("fchown", Io::Write),
    ("fchownat", Io::Write),
    ("utimensat", Io::Write),
    ("truncate", Io::Truncate),
    ("ftruncate", Io::Truncate),
    ("fallocate", Io::Truncate),
    ("fsync", Io::Sync),
    ("fdatasync", Io::Sync),
    ("sync_file_range", Io::Sync),
    ("syncfs", Io::Sync),
    ("msync", Io::Sync),
    ("link", Io::Name),
    ("linkat", Io::Name),
    ("symlink", Io::Name),
    ("symlinkat", Io::Name),
    ("rename", Io::Name),
    ("renameat", Io::Name),
    ("renameat2", Io::Name),
    ("mkdir", Io::Name),
    ("mkdirat", Io::Name),
    ("unlink", Io::Delete),
    ("unlinkat", Io::Delete),
    ("rmdir", Io::Delete),
    ("access", Io::Access),
    ("faccessat", Io::Access),
    ("faccessat2", Io::Access),
    ("stat", Io::Size),
    ("lstat", Io::Size),
    ("fstat", Io::Size),
    ("newfstatat", Io::Size),
    ("statx", Io::Size),
    ("statfs", Io::Size),
    ("fstatfs", Io::Size),
    ("lseek", Io::Size),
    ("flock", Io::Lock),
    ("fcntl", Io::Lock),
    ("mmap", Io::Map),
    ("chdir", Io::Access),
    ("getcwd", Io::Access),
    ("mknod", Io::Name),
    ("mknodat", Io::Name),
];

/// A step of I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Io {
    /// Opens or creates a file.
    Open,
    /// Closes a file.
    Close,
    /// Gives a file a name, another one, or makes a folder.
    Name,
    /// Removes a file.
    Delete,
    /// Asks whether a file is there.
    Access,
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Cuts or lengthens a file.
    Truncate,
    /// Waits until the disk has a file.
    Sync,
    /// Asks how long a file is.
    Size,
    /// Takes a lock on a file, or on a part of what processes share.
    Lock,
    /// Maps a file, or memory that processes share.
    Map,
    /// Says what came of a call to whoever asked.
    Answer,
}

impl FaultKind {
    /// Can it strike at such a step of I/O, before or after it takes effect?
    pub fn strikes(self, io: Io, moment: Moment) -> bool {
        match self {
            FaultKind::Error => matches!(moment, Moment::Before) || io.changes(),
            FaultKind::ShortRead => io == Io::Read && moment == Moment::Before,
            FaultKind::Full => matches!(io, Io::Open | Io::Write | Io::Truncate | Io::Map) && moment == Moment::Before,
            FaultKind::SyncFailure(_) => io == Io::Sync && moment == Moment::Before,
            FaultKind::Busy => io == Io::Lock && moment == Moment::Before,
            // Of system calls only.
            FaultKind::Interrupted => false,
            FaultKind::Kill | FaultKind::PowerLoss(_) => true,
            FaultKind::NoMemory | FaultKind::NoMemoryOnce => false,
        }
    }

    /// Does it strike at allocations rather than at steps of I/O? An allocation fails before it takes effect, or not at all.
    pub fn is_of_memory(self) -> bool {
        matches!(self, FaultKind::NoMemory | FaultKind::NoMemoryOnce)
    }

    /// Does it last until the faults are taken away, rather than for one step?
    pub fn lasts(self) -> bool {
        matches!(self, FaultKind::Full | FaultKind::Busy | FaultKind::NoMemory)
    }

    /// Does the process end with it?
    pub fn ends_the_process(self) -> bool {
        matches!(self, FaultKind::Kill | FaultKind::PowerLoss(_))
    }
}

impl Io {
    /// Can it change what is on the disk?
    pub fn changes(self) -> bool {
        matches!(self, Io::Open | Io::Name | Io::Delete | Io::Write | Io::Truncate | Io::Sync)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if let Some(seed) = self.kind.seed() {
            write!(f, " {seed}")?;
        }
        write!(f, " {}", self.moment.name())?;
        if let Some(call) = self.call {
            write!(f, " {}", call.name())?;
        }
        write!(f, " {}", u64::from(self.step) + 1)
    }
}

impl Moment {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Moment::Before => "before",
            Moment::After => "after",
        }
    }
}

impl FaultKind {
    /// Every kind, drawn kinds with seed 0.
    pub const ALL: [FaultKind; 10] = [
        FaultKind::Error,
        FaultKind::ShortRead,
        FaultKind::Full,
        FaultKind::SyncFailure(0),
        FaultKind::Busy,
        FaultKind::Interrupted,
        FaultKind::Kill,
        FaultKind::PowerLoss(0),
        FaultKind::NoMemory,
        FaultKind::NoMemoryOnce,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Error => "error",
            FaultKind::ShortRead => "short-read",
            FaultKind::Full => "full",
            FaultKind::SyncFailure(_) => "sync-failure",
            FaultKind::Busy => "busy",
            FaultKind::Interrupted => "interrupted",
            FaultKind::Kill => "kill",
            FaultKind::PowerLoss(_) => "power-loss",
            FaultKind::NoMemory => "no-memory",
            FaultKind::NoMemoryOnce => "no-memory-once",
        }
    }

    /// What it is drawn with, if it is.
    pub fn seed(self) -> Option<u32> {
        match self {
            FaultKind::SyncFailure(seed) | FaultKind::PowerLoss(seed) => Some(seed),
            _ => None,
        }
    }

    /// The same kind, drawn with another seed, where it is drawn.
    pub fn seeded(self, seed: u32) -> FaultKind {
        match self {
            FaultKind::SyncFailure(_) => FaultKind::SyncFailure(seed),
            FaultKind::PowerLoss(_) => FaultKind::PowerLoss(seed),
            other => other,
        }
    }
}
