//! What a process has hold of, as `/proc` tells. Where there is no `/proc`, nothing is known.

use std::fs;
use std::path::Path;

use rustix::process::Pid;

use crate::sut::{Resource, Resources};

/// More files than this are not counted: it would take too long.
const MOST_FILES: u64 = 100_000;

/// What a process has hold of.
pub(super) fn resources(process: Pid) -> Resources {
    let folder = format!("/proc/{}", process.as_raw_nonzero());
    let entries = |name: &str| fs::read_dir(format!("{folder}/{name}")).ok().map(|entries| entries.count() as u64);
    Resources::default()
        .with(Resource::Files, entries("fd"))
        .with(Resource::Threads, entries("task"))
        .with(Resource::Children, children(&folder))
        .with(Resource::Locks, locks(process))
        .with(Resource::Memory, memory(&folder))
}

/// How many processes its threads have started that are still there, as not every kernel tells.
fn children(folder: &str) -> Option<u64> {
    let threads = fs::read_dir(format!("{folder}/task")).ok()?.flatten();
    let lists = threads.map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.map(|list| list.map(|list| list.split_whitespace().count() as u64)).sum()
}

/// How many files this process has open whose names begin like this one.
pub(super) fn open_like(path: &Path) -> Option<u64> {
    let open = fs::read_dir("/proc/self/fd").ok()?.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let name = path.as_os_str().as_encoded_bytes();
    Some(open.filter(|open| open.as_os_str().as_encoded_bytes().starts_with(name)).count() as u64)
}

/// How many files there are in a folder and in those below it.
pub(super) fn files_below(folder: &Path) -> Option<u64> {
    let mut count = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // One that has just gone holds nothing.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            count += 1;
            if count > MOST_FILES {
                return None;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    Some(count)
}

/// Each line of the file is a lock, its holder the fifth word: `1: FLOCK ADVISORY WRITE 4711 fd:01:42 0 EOF`.
fn locks(process: Pid) -> Option<u64> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let holder = process.as_raw_nonzero().to_string();
    Some(locks.lines().filter(|line| line.split_whitespace().nth(4) == Some(&holder)).count() as u64)
}

/// Data and stack, in KiB: what the process has asked for and not given back.
fn memory(folder: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("{folder}/status")).ok()?;
    let data = status.lines().find_map(|line| line.strip_prefix("VmData:"))?;
    data.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_this_process_has_is_counted() {
        let here = Pid::from_raw(std::process::id().cast_signed()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let before = resources(here);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let files: Vec<File> = (0..5).map(|name| File::create(folder.path().join(name.to_string())).unwrap()).collect();
        rustix::fs::flock(&files[0], rustix::fs::FlockOperation::LockExclusive).unwrap();
        let after = resources(here);
        // Other tests of this process come and go.
        assert!(after.count(Resource::Children).is_none_or(|children| children >= 1));
        child.wait().unwrap();
        assert!(after.count(Resource::Files).unwrap() >= 5);
        assert!(after.count(Resource::Locks).unwrap() >= 1);
        assert!(before.count(Resource::Threads).unwrap() >= 1);
        assert!(before.count(Resource::Memory).unwrap() > 100);
        assert_eq!(files_below(folder.path()), Some(5));
        assert_eq!(open_like(&folder.path().canonicalize().unwrap()), Some(5));
        drop(files);
    }
}
