//! The temporary directory of a system outside this process, and the end of all that runs for it.
//!
//! Process groups are killed as a whole ([`process`]), but a child that founds a session
//! of its own leaves its group. Its environment still names the directory, by which it is found.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Failure, process};

/// What was killed takes a moment to disappear; whoever forks faster than it is killed is given up.
const PATIENCE: Duration = Duration::from_secs(2);
const NAP: Duration = Duration::from_millis(1);

/// A directory with an empty folder for the system's state and one for its temporary files. Dropping it kills every process
/// that has its path in the environment it was started with, and removes it. Such processes are found where there is a
/// `/proc`; elsewhere those that left their group live on.
pub(super) struct Home(TempDir);

impl Home {
    pub(super) fn new() -> Result<Home, Failure> {
        let made = tempfile::Builder::new().prefix("poolproof-").tempdir().map(Home);
        let made = made.and_then(|home| {
            fs::create_dir(home.state())?;
            fs::create_dir(home.temporary())?;
            Ok(home)
        });
        made.map_err(|error| {
            Failure::Unable(format!("cannot make a temporary directory: {error}; TMPDIR names another place"))
        })
    }

    /// Where the system keeps what outlives it.
    pub(super) fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// Where it may put what does not.
    pub(super) fn temporary(&self) -> PathBuf {
        self.0.path().join("tmp")
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let until = process::deadline(PATIENCE);
        while Instant::now() < until {
            let survivors = processes_of(self.path());
            if survivors.is_empty() {
                return;
            }
            for process in survivors {
                // It may have ended in the meantime.
                let _ = kill_process(process, Signal::KILL);
            }
            sleep(NAP);
        }
        // Standard error may be closed; there is nobody else to tell.
        let _ = writeln!(
            std::io::stderr(),
            "poolproof: processes that name {} in their environment start others faster than they can be killed; \
             kill them by hand",
            self.path().display()
        );
    }
}

/// The processes that were started with this path in their environment. The dead have none.
fn processes_of(path: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pid_of = |entry: fs::DirEntry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
    let mark = path.as_os_str().as_bytes();
    let is_marked = |pid: &Pid| {
        let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
        environment.windows(mark.len()).any(|window| window == mark)
    };
    entries.flatten().filter_map(pid_of).filter(is_marked).collect()
}
