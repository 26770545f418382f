//! Faults in programs: their system calls are counted, refused and fatal, by way of `strace`.
//!
//! A fault names a system call and which one of that name it strikes, since whoever traces counts so; a program with several
//! threads counts in each of them. What struck is read off the trace and never taken for granted: a fault that came to
//! nothing is no fault.
//!
//! A program that runs for one call is started under `strace`; one that is there already is taken hold of for a call.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::Failure;
use super::process::{self, Process};
use super::protocol::excerpt;
use crate::fault::{Fault, FaultKind, Io, IoStep, Moment, SystemCall};

const PROGRAM: &str = "strace";
/// How long `strace` may take to take hold of a process, and to let it go.
const PATIENCE: Duration = Duration::from_secs(10);
/// `strace` counts the calls of a name with sixteen bits.
const MOST_COUNTED: u32 = 65_535;
const NAP: Duration = Duration::from_micros(500);

/// Whether programs can be traced here, found out once.
static CAN_TRACE: OnceLock<Result<(), String>> = OnceLock::new();

/// Traces a program that does nothing.
fn can_trace() -> Result<(), String> {
    let needs = "faults in a program are injected by `strace`";
    match Command::new(PROGRAM).args(["-qq", "-o", "/dev/null", "--", "true"]).output() {
        Ok(traced) if traced.status.success() => Ok(()),
        Ok(traced) => Err(format!(
            "{needs}, which may not trace programs here: {}",
            excerpt(String::from_utf8_lossy(&traced.stderr).trim().as_bytes())
        )),
        Err(error) => Err(format!("{needs}, which cannot be run ({error}); install it (Debian's package is strace)")),
    }
}

/// What is traced, and what goes wrong.
pub(super) struct Strace {
    faults: Vec<Fault>,
    /// Where the system keeps what it knows.
    state: PathBuf,
    /// Holds the trace.
    folder: TempDir,
    /// Has hold of a process.
    holder: Option<Process>,
}

/// What a program did while it was traced.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its steps, in order: what has to do with files, and its answers.
    pub(super) steps: Vec<IoStep>,
    /// What struck, in order.
    pub(super) struck: Vec<Fault>,
    /// Was it killed, or has it ended after something failed that is none of the system's own files? Then it owes no answer.
    pub(super) is_excused: bool,
    /// A fault that kills, where its call began and nothing is told of an end: nobody may have been there to see it.
    pub(super) fatal: Option<Fault>,
}

impl Strace {
    /// Nothing is traced yet.
    pub(super) fn new(faults: &[Fault], state: &Path) -> Result<Strace, Failure> {
        if let Err(why) = CAN_TRACE.get_or_init(can_trace) {
            return Err(Failure::Unable(why.clone()));
        }
        if let Some(fault) = faults.iter().find(|fault| injection(fault).is_none()) {
            return Err(Failure::Unable(format!("`{fault}` is no fault of a system call")));
        }
        let made = tempfile::Builder::new().prefix("poolproof-").tempdir();
        let folder = made.map_err(|error| Failure::Unable(format!("cannot make a temporary directory: {error}")))?;
        Ok(Strace { faults: faults.to_vec(), state: state.to_owned(), folder, holder: None })
    }

    /// A command that runs the program under `strace`. Arguments and environment may be added as to any other.
    pub(super) fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(self.arguments()).arg("--").arg(program);
        command
    }

    /// Takes hold of a process that runs.
    pub(super) fn hold(&mut self, process: Pid) -> Result<(), Failure> {
        let mut command = Command::new(PROGRAM);
        command.args(self.arguments()).arg("-p").arg(process.as_raw_nonzero().to_string());
        let mut holder = Process::start(command)?;
        let until = Instant::now() + PATIENCE;
        while !is_held(process) {
            if holder.has_exited() || Instant::now() >= until {
                let _ = holder.end();
                let why = format!(
                    "`strace` cannot take hold of process {}: {}",
                    process.as_raw_nonzero(),
                    holder.stderr_tail().trim()
                );
                return Err(Failure::Unable(why));
            }
            sleep(NAP);
        }
        self.holder = Some(holder);
        Ok(())
    }

    /// Lets go of it.
    pub(super) fn let_go(&mut self) {
        let Some(mut holder) = self.holder.take() else { return };
        // It may have gone with the process.
        let _ = kill_process(holder.pid(), Signal::INT);
        let _ = holder.await_exit(process::deadline(PATIENCE));
    }

    /// Reads the trace as far as it is written.
    pub(super) fn seen(&self) -> Seen {
        // A trace that is not there is one of nothing.
        let trace = fs::read(self.trace()).unwrap_or_default();
        read(&String::from_utf8_lossy(&trace), &self.faults, &self.state.to_string_lossy())
    }

    fn trace(&self) -> PathBuf {
        self.folder.path().join("trace")
    }

    fn arguments(&self) -> Vec<OsString> {
        // A `?` before a name: not every machine has every call.
        let names: Vec<String> = SystemCall::ALL.iter().map(|call| format!("?{}", call.name())).collect();
        let traced = format!("trace={}", names.join(","));
        let mut arguments: Vec<OsString> = ["-f", "-q", "-y", "-s", "0", "-o"].map(OsString::from).into();
        arguments.push(self.trace().into());
        arguments.extend(["-e".into(), traced.into()]);
        for injection in self.faults.iter().filter_map(injection) {
            arguments.extend(["-e".into(), injection.into()]);
        }
        arguments
    }
}

/// A fault in the words of `strace`; `None` where it is not one of a system call, or beyond what `strace` counts.
fn injection(fault: &Fault) -> Option<String> {
    if fault.moment == Moment::After || fault.step >= MOST_COUNTED {
        return None;
    }
    let effect = match fault.kind {
        FaultKind::Error => "error=EIO",
        FaultKind::Full => "error=ENOSPC",
        FaultKind::Interrupted => "error=EINTR",
        FaultKind::Kill => "signal=KILL",
        _ => return None,
    };
    Some(format!("inject={}:{effect}:when={}", fault.call?.name(), u64::from(fault.step) + 1))
}

/// Is every thread of a process traced?
fn is_held(process: Pid) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero())) else { return false };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.is_some_and(|tracer| tracer.trim() != "0")
    })
}

/// Reads a trace: a line an event, each after the number of its thread. What comes after the answer is no part of the call.
fn read(trace: &str, faults: &[Fault], state: &str) -> Seen {
    let mut seen = Seen::default();
    let (mut fatal, mut has_failed_elsewhere, mut has_ended) = (None, false, false);
    let mut counts: HashMap<(&str, SystemCall), u32> = HashMap::new();
    // The call that a thread is in, where its line was cut off by another's.
    let mut under_way: HashMap<&str, (SystemCall, u32, bool)> = HashMap::new();
    for line in trace.lines() {
        let Some((thread, event)) = line.split_once(' ') else { continue };
        let event = event.trim_start();
        if event.starts_with("+++") {
            has_ended |= !event.starts_with("+++ killed by SIGKILL");
            // Whoever is killed for another reason, such as being late, is not killed by a fault.
            seen.struck.extend(fatal.take().filter(|_| event.starts_with("+++ killed by SIGKILL")));
            continue;
        }
        let began = match begun(event) {
            Some((call, io)) => {
                let count = counts.entry((thread, call)).or_default();
                let step = *count;
                *count += 1;
                seen.steps.extend(io.map(|io| IoStep { io, step, call: Some(call) }));
                let is_here = |fault: &&Fault| fault.call == Some(call) && fault.step == step;
                fatal = fatal.or(faults.iter().find(|fault| is_here(fault) && fault.kind == FaultKind::Kill).copied());
                let began = (call, step, event.contains(state));
                under_way.insert(thread, began);
                Some(began)
            }
            None => under_way.get(thread).copied(),
        };
        let (Some((call, step, is_state)), true) = (began, event.ends_with("(INJECTED)")) else { continue };
        seen.struck.extend(faults.iter().find(|fault| fault.call == Some(call) && fault.step == step));
        has_failed_elsewhere |= !is_state;
    }
    if let Some(answer) = seen.steps.iter().rposition(|step| step.io == Io::Answer) {
        seen.steps.truncate(answer + 1);
    }
    let is_killed = seen.struck.iter().any(|fault| fault.kind == FaultKind::Kill);
    seen.is_excused = is_killed || (has_failed_elsewhere && has_ended);
    seen.fatal = fatal;
    seen
}

/// The call that begins with this event, and what it does where that has to do with files.
fn begun(event: &str) -> Option<(SystemCall, Option<Io>)> {
    let (name, arguments) = event.split_once('(')?;
    let call = SystemCall::named(name)?;
    let (descriptor, is_file) = first_descriptor(call, arguments);
    let io = match call.io() {
        Io::Write if descriptor == Some("1") => Some(Io::Answer),
        _ if !is_file => None,
        // One that makes nothing changes nothing.
        Io::Open if !arguments.contains("O_CREAT") && !arguments.contains("O_TRUNC") && call.name() != "creat" => {
            Some(Io::Access)
        }
        io => Some(io),
    };
    Some((call, io))
}

/// The number of the open file that a call is about, if it is about one, and whether it has to do with a file that has a name,
/// rather than with a pipe.
fn first_descriptor(call: SystemCall, arguments: &str) -> (Option<&str>, bool) {
    if call.io() == Io::Map {
        return (None, arguments.contains("</"));
    }
    let digits = arguments.find(|byte: char| !byte.is_ascii_digit()).unwrap_or(arguments.len());
    let (number, rest) = arguments.split_at(digits);
    if number.is_empty() { (None, true) } else { (Some(number), rest.starts_with("</")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "/tmp/s";

    fn fault(kind: FaultKind, call: &str, step: u32) -> Fault {
        Fault { kind, moment: Moment::Before, step, call: SystemCall::named(call) }
    }

    fn steps(seen: &Seen) -> Vec<(&'static str, u32, Io)> {
        seen.steps.iter().map(|step| (step.call.unwrap().name(), step.step, step.io)).collect()
    }

    #[test]
    fn steps_are_counted_by_name_and_thread_pipes_included() {
        let trace = "10 read(0<pipe:[7]>, \"\"..., 512) = 9\n\
            10 openat(AT_FDCWD</>, \"/tmp/s/a\", O_RDONLY) = -1 ENOENT (No such file or directory)\n\
            10 openat(AT_FDCWD</>, \"/tmp/s/a\", O_WRONLY|O_CREAT, 0600) = 3</tmp/s/a>\n\
            11 openat(AT_FDCWD</>, \"/lib/x\", O_RDONLY) = 4</lib/x>\n\
            10 write(5<pipe:[7]>, \"\"..., 1 <unfinished ...>\n\
            11 mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f\n\
            10 <... write resumed>) = 1\n\
            10 write(3</tmp/s/a>, \"\"..., 1) = 1\n\
            10 write(1<pipe:[8]>, \"\"..., 20) = 20\n\
            10 +++ exited with 0 +++\n10 wri";
        let seen = read(trace, &[], STATE);
        let expected = [
            ("openat", 0, Io::Access),
            ("openat", 1, Io::Open),
            ("openat", 0, Io::Access),
            ("write", 1, Io::Write),
            ("write", 2, Io::Answer),
        ];
        assert_eq!(steps(&seen), expected);
        assert!(seen.struck.is_empty() && !seen.is_excused);
    }

    #[test]
    fn what_struck_is_read_off_the_trace() {
        let faults = [fault(FaultKind::Full, "write", 1), fault(FaultKind::Error, "fsync", 0)];
        let trace = "10 write(3</tmp/s/a>, \"\"..., 1) = 1\n\
            10 write(3</tmp/s/a>, \"\"..., 1 <unfinished ...>\n\
            10 <... write resumed>) = -1 ENOSPC (No space left on device) (INJECTED)\n";
        let seen = read(trace, &faults, STATE);
        assert_eq!(seen.struck, [faults[0]]);
        assert!(!seen.is_excused, "it is the system's own file, and it lives");
        let elsewhere = "10 write(3</var/log/a>, \"\"..., 1) = 1\n\
            10 write(3</var/log/a>, \"\"..., 1) = -1 ENOSPC (No space left on device) (INJECTED)\n";
        assert!(!read(elsewhere, &faults, STATE).is_excused, "it lives, and owes an answer");
        assert!(read(&format!("{elsewhere}10 +++ exited with 1 +++\n"), &faults, STATE).is_excused);
        let late = format!("{elsewhere}10 +++ killed by SIGKILL +++\n");
        assert!(!read(&late, &faults, STATE).is_excused, "it was late, and ended by the harness");
    }

    #[test]
    fn a_kill_is_a_kill_once() {
        let kill = fault(FaultKind::Kill, "rename", 0);
        let trace =
            "10 rename(\"/tmp/s/a\", \"/tmp/s/b\") = ?\n11 +++ killed by SIGKILL +++\n10 +++ killed by SIGKILL +++\n";
        let seen = read(trace, &[kill], STATE);
        assert_eq!((seen.struck, seen.is_excused), (vec![kill], true));
        assert_eq!(
            read("10 +++ killed by SIGKILL +++\n", &[kill], STATE),
            Seen::default(),
            "it never came to that call"
        );
    }

    #[test]
    fn faults_in_the_words_of_strace() {
        let words = |kind| injection(&fault(kind, "openat", 2));
        assert_eq!(words(FaultKind::Error).unwrap(), "inject=openat:error=EIO:when=3");
        assert_eq!(words(FaultKind::Kill).unwrap(), "inject=openat:signal=KILL:when=3");
        assert_eq!(words(FaultKind::PowerLoss(1)), None);
        assert_eq!(injection(&Fault { moment: Moment::After, ..fault(FaultKind::Kill, "openat", 2) }), None);
        assert_eq!(injection(&Fault { call: None, ..fault(FaultKind::Kill, "openat", 2) }), None);
    }
}
