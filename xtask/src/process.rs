//! Child processes that end: at their own pace, at Ctrl-C, or at a time limit.
//!
//! A supervised child leads a process group of its own. So Ctrl-C at the terminal reaches it once, through us, and
//! what it started in turn ends with it.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

/// How often a child is looked after: well below what a person notices.
const POLL: Duration = Duration::from_millis(20);
/// A child that is to end gets a signal this often. Once would not do: a process that it starts at that very moment
/// can miss the signal.
const SIGNAL_INTERVAL: Duration = Duration::from_secs(1);
/// So many of the signals are interrupts, which leave it time to clean up; those that follow kill.
const INTERRUPTS: u32 = 10;

/// Set once Ctrl-C was pressed, or a termination signal came.
#[derive(Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on, Ctrl-C no longer ends this process; only for tasks that ask `is_set`.
    pub(crate) fn install() -> Result<Self> {
        let interrupt = Self::default();
        let handler = interrupt.clone();
        ctrlc::set_handler(move || handler.0.store(true, Ordering::Relaxed)).context("cannot handle Ctrl-C")?;
        Ok(interrupt)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a child was ended that did not end by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stop {
    Interrupted,
    OutOfTime,
}

/// How a child ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stop: Option<Stop>,
}

/// Runs a command to its end, with its output going where ours goes.
pub(crate) fn supervise(command: &mut Command, limit: Duration, interrupt: &Interrupt) -> Result<Ended> {
    let mut child = spawn(command)?;
    wait(&mut child, limit, interrupt)
}

/// The same, while each line that it writes to standard error is handed to `on_line`.
pub(crate) fn supervise_lines(
    command: &mut Command,
    limit: Duration,
    interrupt: &Interrupt,
    on_line: impl FnMut(&str) + Send,
) -> Result<Ended> {
    let mut child = spawn(command.stderr(Stdio::piped()))?;
    let stderr = child.stderr.take().expect("standard error is piped");
    thread::scope(|scope| {
        scope.spawn(|| read_lines(stderr, on_line));
        wait(&mut child, limit, interrupt)
    })
}

/// Whether a command can be started and succeeds; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// As `12.3s`, everywhere.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

fn spawn(command: &mut Command) -> Result<Child> {
    let child = command.stdin(Stdio::null()).process_group(0).spawn();
    child.with_context(|| format!("cannot start {}", command.get_program().display()))
}

fn wait(child: &mut Child, limit: Duration, interrupt: &Interrupt) -> Result<Ended> {
    let group = Pid::from_child(child);
    let start = Instant::now();
    let mut stop = None;
    let (mut stopping_since, mut signals) = (start, 0);
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a child process")? {
            return Ok(Ended { status, stop });
        }
        if stop.is_none() {
            stop = reason_to_stop(start, limit, interrupt);
            stopping_since = Instant::now();
        }
        if stop.is_some() && stopping_since.elapsed() >= SIGNAL_INTERVAL * signals {
            let signal = if signals < INTERRUPTS { Signal::INT } else { Signal::KILL };
            // Fails for a child that ends just now; the next round sees its end.
            _ = kill_process_group(group, signal);
            signals += 1;
        }
        thread::sleep(POLL);
    }
}

fn reason_to_stop(start: Instant, limit: Duration, interrupt: &Interrupt) -> Option<Stop> {
    if interrupt.is_set() { Some(Stop::Interrupted) } else { (start.elapsed() > limit).then_some(Stop::OutOfTime) }
}

/// Lines need not be valid UTF-8: fuzzers print what they find.
fn read_lines(from: impl Read, mut on_line: impl FnMut(&str)) {
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        on_line(&String::from_utf8_lossy(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_and_status_arrive() {
        let mut lines = Vec::new();
        let mut command = shell("printf 'one\\n\\377two\\n' >&2; exit 3");
        let ended =
            supervise_lines(&mut command, LONG, &Interrupt::default(), |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "\u{fffd}two"]);
        assert_eq!((ended.status.code(), ended.stop), (Some(3), None));
    }

    #[test]
    fn a_child_and_its_children_end_at_the_limit() {
        let mut command = shell("sleep 30; echo done >&2");
        let ended = supervise_lines(&mut command, POLL, &Interrupt::default(), |_| {}).unwrap();
        assert_eq!(ended.stop, Some(Stop::OutOfTime));
    }

    #[test]
    fn a_child_ends_at_an_interrupt() {
        let interrupt = Interrupt::default();
        interrupt.0.store(true, Ordering::Relaxed);
        let ended = supervise(&mut shell("sleep 30"), LONG, &interrupt).unwrap();
        assert_eq!(ended.stop, Some(Stop::Interrupted));
    }
}
