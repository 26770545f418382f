//! Faults: what goes wrong, and at which I/O step or allocation.
//!
//! Their texts are those of scenarios: `kill before 3`, `power-loss 7 after 3`, `no-memory before 17`; steps are counted from
//! 1 there.
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

/// A step of I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Io {
    /// Opens or creates a file.
    Open,
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
    /// Maps memory that processes share.
    Map,
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
        matches!(self, Io::Open | Io::Delete | Io::Write | Io::Truncate | Io::Sync)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if let Some(seed) = self.kind.seed() {
            write!(f, " {seed}")?;
        }
        write!(f, " {} {}", self.moment.name(), u64::from(self.step) + 1)
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
    pub const ALL: [FaultKind; 9] = [
        FaultKind::Error,
        FaultKind::ShortRead,
        FaultKind::Full,
        FaultKind::SyncFailure(0),
        FaultKind::Busy,
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
