//! What tests of the whole program share: the servers in `suts/python`, work on several threads, and
//! a home of one's own in which to run the binary and to look at what it leaves behind.
#![allow(dead_code, reason = "each test file uses a part")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_poolproof");
/// No command in these tests may last longer; one that does hangs.
const LONGEST_RUN: Duration = Duration::from_secs(120);
/// How long what was killed may take to disappear.
const LONGEST_DEATH: Duration = Duration::from_secs(1);
const NAP: Duration = Duration::from_millis(10);

/// May tests that need Python run? Without Python they are skipped, but never in continuous
/// integration, where a skipped test would look like a passed one.
pub(crate) fn has_python() -> bool {
    if Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "python3 is missing");
    println!("skipped: python3 is missing");
    false
}

/// A server in `suts/python` with its arguments, as words of a command.
pub(crate) fn server_words(script: &str, arguments: &[&str]) -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../suts/python").join(script);
    let path = path.to_str().expect("the checkout has a path in UTF-8");
    ["python3", path].iter().chain(arguments).map(|word| (*word).to_owned()).collect()
}

/// The same as the text after `--sut`.
pub(crate) fn server(script: &str, arguments: &[&str]) -> String {
    format!("stdio:{}", shell_words::join(server_words(script, arguments)))
}

/// Tries every case on so many threads, and fails with all that went wrong, not only the first.
pub(crate) fn try_all<T: Sync>(threads: usize, cases: &[T], attempt: impl Fn(&T) -> Result<(), String> + Sync) {
    assert!(!cases.is_empty(), "there is nothing to try");
    let next = AtomicUsize::new(0);
    let complaints = Mutex::new(Vec::new());
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(complaint) = attempt(case) {
                complaints.lock().expect("no holder panics").push(complaint);
            }
        }
    };
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let complaints = complaints.into_inner().expect("no holder panics");
    assert!(complaints.is_empty(), "{} of {} went wrong:\n{}", complaints.len(), cases.len(), complaints.join("\n"));
}

/// A working directory and a TMPDIR of one's own. Every process started from here carries its path
/// in the environment, so that what is left running can be told from everything else.
pub(crate) struct Home {
    folder: TempDir,
}

/// What a command gave.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Home {
    pub(crate) fn new() -> Home {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("work")).unwrap();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        Home { folder }
    }

    /// The working directory.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.work().join(name), content).unwrap();
    }

    /// A command that runs here, with `poolproof` on its PATH.
    pub(crate) fn command(&self, program: &str) -> Command {
        let folder = Path::new(BINARY).parent().expect("a binary is in a folder");
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(program);
        command.env_clear().env("TMPDIR", self.folder.path().join("tmp"));
        command.env("PATH", format!("{}:{path}", folder.display())).current_dir(self.work());
        command
    }

    /// Runs `poolproof` to its end.
    pub(crate) fn poolproof(&self, arguments: &[&str]) -> Ended {
        self.finish(self.command(BINARY).args(arguments))
    }

    /// Runs a line of shell to its end.
    pub(crate) fn shell(&self, line: &str) -> Ended {
        self.finish(self.command("sh").args(["-c", line]))
    }

    /// Starts `poolproof`; [`Home::await_end`] ends it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.spawn(self.command(BINARY).args(arguments))
    }

    /// Runs a command to its end.
    pub(crate) fn finish(&self, command: &mut Command) -> Ended {
        let child = self.spawn(command);
        self.await_end(child)
    }

    /// Into files, because pipes that nobody reads would fill.
    fn spawn(&self, command: &mut Command) -> Child {
        let file = |name| File::create(self.folder.path().join(name)).unwrap();
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap()
    }

    pub(crate) fn await_end(&self, mut child: Child) -> Ended {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > LONGEST_RUN {
                child.kill().unwrap();
                panic!("it does not end within {LONGEST_RUN:?}");
            }
            sleep(NAP);
        };
        let took = started.elapsed();
        let read = |name| fs::read_to_string(self.folder.path().join(name)).unwrap();
        Ended { code: status.code(), stdout: read("stdout"), stderr: read("stderr"), took }
    }

    /// Waits until there is something in TMPDIR, which says that a system has been started.
    pub(crate) fn await_system(&self) {
        await_until("no system is started", || !self.temporary_files().is_empty());
    }

    /// No process and no temporary file may be left, whatever happened.
    pub(crate) fn check_clean(&self) -> Result<(), String> {
        let started = Instant::now();
        while let Some(process) = self.process() {
            if started.elapsed() > LONGEST_DEATH {
                return Err(format!("a process is left: {process}"));
            }
            sleep(NAP);
        }
        match self.temporary_files() {
            files if files.is_empty() => Ok(()),
            files => Err(format!("temporary files are left: {files:?}")),
        }
    }

    pub(crate) fn assert_clean(&self) {
        self.check_clean().unwrap();
    }

    fn temporary_files(&self) -> Vec<PathBuf> {
        files_in(&self.folder.path().join("tmp"))
    }

    /// The counterexamples that were written where no other folder was named.
    pub(crate) fn counterexamples(&self) -> Vec<PathBuf> {
        files_in(&self.work().join("counterexamples"))
    }

    /// A process started from here that still runs, with its environment. (`e` shows it.)
    fn process(&self) -> Option<String> {
        let listed = Command::new("ps").args(["axeww", "-o", "args="]).output().unwrap();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let mark = self.folder.path().to_str().unwrap();
        String::from_utf8_lossy(&listed.stdout).lines().find(|line| line.contains(mark)).map(str::to_owned)
    }
}

impl Ended {
    /// The report: one object, the last line of stdout.
    pub(crate) fn json(&self) -> Result<Value, String> {
        let line = self.stdout.lines().next_back().ok_or(format!("no output; stderr: {}", self.stderr))?;
        serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))
    }
}

/// Waits for what will surely be soon.
pub(crate) fn await_until(otherwise: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LONGEST_RUN, "{otherwise}");
        sleep(NAP);
    }
}

/// What is in a folder, where it exists.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
}
