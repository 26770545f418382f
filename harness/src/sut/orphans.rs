//! Processes that a system started and left behind, for whole programs that shall leave nothing running.
//!
//! On Linux they are given to this process when their parent ends, whatever group, session or environment they have; so
//! what is left at the end can be ended. For the program only: in a library they could be somebody else's children.

#[cfg(target_os = "linux")]
use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

#[cfg(target_os = "linux")]
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

/// Whoever forks faster than it is killed is given up after this.
#[cfg(target_os = "linux")]
const PATIENCE: Duration = Duration::from_secs(2);
#[cfg(target_os = "linux")]
const NAP: Duration = Duration::from_millis(1);

/// From now on orphans among our descendants are our children.
pub fn adopt() {
    // An old kernel cannot; then they are not found at the end, and nothing else changes.
    #[cfg(target_os = "linux")]
    let _ = set_child_subreaper(Some(getpid()));
}

/// Kills all children there are and waits for them. To be called when no system is under test any more.
pub fn end_all() {
    #[cfg(target_os = "linux")]
    {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let children = children();
            if children.is_empty() {
                return;
            }
            for child in children {
                // It may have ended in the meantime.
                let _ = kill_process(child, Signal::KILL);
            }
            while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
            sleep(NAP);
        }
    }
}

/// The processes whose parent we are.
#[cfg(target_os = "linux")]
fn children() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pid_of = |entry: fs::DirEntry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
    let own = getpid().as_raw_nonzero().get();
    entries.flatten().filter_map(pid_of).filter(|pid| parent_of(*pid) == Some(own)).collect()
}

/// The parent, from the second field after the name, which stands in brackets and may hold anything (proc(5)).
#[cfg(target_os = "linux")]
fn parent_of(pid: Pid) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}
