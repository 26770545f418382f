//! A simulated disk for SQLite: in memory, deterministic, and it fails at any step it is told to. So does the memory that
//! SQLite works in.
//!
//! ```
//! use poolproof_disk::{Disk, Fault, FaultKind, Moment};
//! use rusqlite::{Connection, OpenFlags};
//!
//! let disk = Disk::new().expect("SQLite takes it");
//! let open = || Connection::open_with_flags_and_vfs(disk.path("a.db"), OpenFlags::default(), Disk::VFS);
//! let connection = open().unwrap();
//! connection.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
//!
//! disk.arm(&[Fault { kind: FaultKind::Kill, step: 3, moment: Moment::After, call: None }]);
//! assert!(connection.execute_batch("INSERT INTO t VALUES (2)").is_err());
//! assert!(disk.is_down());
//!
//! disk.arm(&[]);
//! disk.start();
//! let count: i64 = open().unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
//! assert_eq!(count, 1);
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `disk` | [`Disk`]: what tests and engines hold in their hands |
//! | `volume` | files by name, who has them open, the steps and what strikes at them |
//! | `file` | one file: as processes see it, as the disk has it, and what is under way |
//! | `locks`, `shared` | what keeps processes apart, and the memory that they share |
//! | `vfs` | the binding to SQLite's files |
//! | `memory` | the binding to SQLite's memory; these two hold all the unsafe code there is |
//!
//! What is simulated: errors, short reads, a full disk, failed synchronisation, locks that somebody else has, the death of
//! the process and the loss of power, at each step; and memory that is refused, at each allocation. What is not: bits that flip by themselves, a disk that lies about what
//! it has, folders, temporary files (they never fail), real time.

mod disk;
mod file;
mod locks;
mod memory;
mod shared;
mod vfs;
mod volume;

pub use disk::{Disk, Snapshot};
pub use memory::{Counting, bytes_in_use};
pub use poolproof_core::fault::{Fault, FaultKind, Io, Moment};
