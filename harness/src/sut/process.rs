//! A child process that cannot hurt us, whatever it does.
//!
//! Both adapters that start programs use this. The child leads a process group of its own, which is
//! killed as a whole and reaped on every way out, `Drop` included. Its three pipes never block us:
//! one loop polls all of them, so there are no threads to hand over to, to bound or to join; a child
//! that does not read, floods, or leaves grandchildren holding its pipes costs its deadline and no
//! more. What it writes waits in the pipe until we look, so memory is bounded. Waits are slices of
//! at most [`SLICE`], between which the user's wish to stop is seen.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, waitid, waitpgid};
use smallvec::SmallVec;

use super::Failure;
use crate::interrupt;

/// The longest line that a child may write, without its newline.
pub const MAX_LINE: usize = 16 << 20;
/// How much of the end of stderr is kept.
pub const STDERR_TAIL: usize = 64 << 10;
/// The most that a run to completion may write to stdout.
pub const MAX_RUN_OUTPUT: usize = 1 << 20;
/// The longest wait during which nothing else is looked at.
pub const SLICE: Duration = Duration::from_millis(50);
/// The first wait for the exit of a child that has closed its stdout; it doubles up to [`SLICE`].
const FIRST_NAP: Duration = Duration::from_micros(100);
const CHUNK: usize = 64 << 10;
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A running child.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    /// `None` once it has ended.
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// Read from stdout and not taken yet.
    output: Vec<u8>,
    /// So many bytes of `output` are known to hold no newline.
    searched: usize,
    tail: Vec<u8>,
    chunk: Box<[u8]>,
    /// Once reaped; the number of its group may belong to others from then on.
    status: Option<ExitStatus>,
}

/// Why a wait ended without what was waited for.
#[derive(Debug)]
pub enum Stopped {
    /// The time is over.
    Late,
    /// The user asked to stop.
    Interrupted,
    /// The operating system refused something.
    Broken(io::Error),
}

/// What came on stdout.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line without its newline.
    Whole(Vec<u8>),
    /// More than [`MAX_LINE`] bytes without a newline.
    TooLong,
    /// Nothing more will come; the rest is what followed the last newline.
    Ended {
        /// Mostly empty.
        rest: Vec<u8>,
    },
}

/// What a run gave; the child is gone, however it ended.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub end: End,
    /// Its stdout until then.
    pub stdout: Vec<u8>,
    /// The end of its stderr.
    pub stderr: String,
}

/// How a run ended.
#[derive(Debug)]
pub enum End {
    /// By itself.
    Exited(ExitStatus),
    /// It wrote more than [`MAX_RUN_OUTPUT`].
    Flooded,
    /// It had to be stopped.
    Stopped(Stopped),
}

/// When a wait that begins now is over. One that is too long for the clock lasts a year.
pub fn deadline(limit: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(limit).unwrap_or(now + A_YEAR)
}

impl Process {
    /// Starts the command, with pipes for all three streams.
    pub fn start(mut command: Command) -> Result<Process, Failure> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|error| cannot_start(&command, &error))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let process = Process {
            child,
            stdin,
            stdout,
            stderr,
            output: Vec::new(),
            searched: 0,
            tail: Vec::new(),
            chunk: vec![0; CHUNK].into_boxed_slice(),
            status: None,
        };
        process.never_block().map_err(|error| Failure::Unable(format!("cannot set up pipes: {error}")))?;
        Ok(process)
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn never_block(&self) -> io::Result<()> {
        let nonblocking = |end: Option<rustix::fd::BorrowedFd<'_>>| match end {
            Some(end) => rustix::io::ioctl_fionbio(end, true),
            None => Ok(()),
        };
        nonblocking(self.stdin.as_ref().map(AsFd::as_fd))?;
        nonblocking(self.stdout.as_ref().map(AsFd::as_fd))?;
        nonblocking(self.stderr.as_ref().map(AsFd::as_fd))?;
        Ok(())
    }

    /// Sends `input` and waits for the next line. A child that no longer reads is no error: what it
    /// still says, or how it ended, tells more.
    pub fn exchange(&mut self, mut input: &[u8], until: Instant) -> Result<Line, Stopped> {
        // Nearly always the pipe takes it whole, and the first wait is the one for the answer.
        self.feed(&mut input);
        loop {
            if let Some(line) = self.take_line() {
                return Ok(line);
            }
            if self.stdout.is_none() {
                return Ok(Line::Ended { rest: std::mem::take(&mut self.output) });
            }
            let moved = self.pump(&mut input, until, SLICE)?;
            if !moved && self.has_exited() {
                self.take_last_output(MAX_LINE);
            }
        }
    }

    /// What has been read from stdout and belongs to no line taken so far.
    pub fn unread(&self) -> &[u8] {
        &self.output
    }

    /// Tells the child that nothing more will be asked.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends `input`, closes stdin and waits for the exit of the child, gathering its output up to
    /// `most` bytes. `None` when it writes more.
    pub fn finish(&mut self, mut input: &[u8], until: Instant, most: usize) -> Result<Option<ExitStatus>, Stopped> {
        let mut nap = FIRST_NAP;
        loop {
            self.feed(&mut input);
            if input.is_empty() {
                self.close_stdin();
            }
            let exited = self.has_exited();
            if exited {
                self.take_last_output(most);
            }
            if self.output.len() > most {
                return Ok(None);
            }
            if exited {
                return self.end().map(Some).map_err(Stopped::Broken);
            }
            // A child whose stdout has ended is about to exit.
            let slice = if self.stdout.is_some() { SLICE } else { nap };
            self.pump(&mut input, until, slice)?;
            if self.stdout.is_none() {
                nap = (nap * 2).min(SLICE);
            }
        }
    }

    /// Waits for its exit without a word to it.
    pub fn await_exit(&mut self, until: Instant) -> Result<ExitStatus, Stopped> {
        let mut nap = FIRST_NAP;
        while !self.has_exited() {
            self.pump(&mut &[][..], until, nap)?;
            nap = (nap * 2).min(SLICE);
        }
        self.end().map_err(Stopped::Broken)
    }

    /// Has it exited? Does not reap it, so that its group keeps its number until it is killed.
    pub fn has_exited(&self) -> bool {
        if self.status.is_some() {
            return true;
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        !matches!(waitid(WaitId::Pid(Pid::from_child(&self.child)), options), Ok(None))
    }

    /// Kills the whole group, reaps the child and takes what is left of stderr.
    pub fn end(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        // The group may be gone already; there is nothing else that could be wrong.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let status = self.child.wait()?;
        self.status = Some(status);
        // Where orphans are ours, those of the group would stay as zombies.
        while let Ok(Some(_)) = waitpgid(Pid::from_child(&self.child), WaitOptions::NOHANG) {}
        // A pipe holds little, but a grandchild that left the group may still be filling it.
        for _ in 0..STDERR_TAIL.div_ceil(CHUNK) * 2 {
            if self.stderr.is_none() || !self.take_errors() {
                break;
            }
        }
        (self.stdin, self.stdout, self.stderr) = (None, None, None);
        Ok(status)
    }

    /// The end of what it wrote to stderr so far.
    pub fn stderr_tail(&self) -> String {
        let start = self.tail.len().saturating_sub(STDERR_TAIL);
        String::from_utf8_lossy(&self.tail[start..]).into_owned()
    }

    /// Waits at most `slice` until one of the pipes can move, and moves it. Gives whether any did.
    fn pump(&mut self, input: &mut &[u8], until: Instant, slice: Duration) -> Result<bool, Stopped> {
        if interrupt::requested() {
            return Err(Stopped::Interrupted);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Stopped::Late);
        }
        let [in_ready, out_ready, err_ready] =
            self.ready(!input.is_empty(), left.min(slice)).map_err(|error| Stopped::Broken(error.into()))?;
        if in_ready {
            self.feed(input);
        }
        if out_ready {
            self.take_output();
        }
        if err_ready {
            self.take_errors();
        }
        Ok(in_ready || out_ready || err_ready)
    }

    /// Which of stdin, stdout and stderr can move.
    fn ready(&self, writing: bool, wait: Duration) -> rustix::io::Result<[bool; 3]> {
        let mut ready = [false; 3];
        let stdin = self.stdin.as_ref().filter(|_| writing).map(|end| PollFd::new(end, PollFlags::OUT));
        let stdout = self.stdout.as_ref().map(|end| PollFd::new(end, PollFlags::IN));
        let stderr = self.stderr.as_ref().map(|end| PollFd::new(end, PollFlags::IN));
        let mut places: SmallVec<[usize; 3]> = SmallVec::new();
        let mut ends: SmallVec<[PollFd<'_>; 3]> = SmallVec::new();
        for (place, end) in [stdin, stdout, stderr].into_iter().enumerate() {
            places.extend(end.is_some().then_some(place));
            ends.extend(end);
        }
        let wait = Timespec { tv_sec: wait.as_secs() as _, tv_nsec: wait.subsec_nanos() as _ };
        match poll(&mut ends, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        for (place, end) in places.into_iter().zip(&ends) {
            ready[place] = !end.revents().is_empty();
        }
        Ok(ready)
    }

    /// Writes as much as the pipe takes. Where nobody reads any more the rest is dropped.
    fn feed(&mut self, input: &mut &[u8]) {
        while let (Some(stdin), false) = (&mut self.stdin, input.is_empty()) {
            match stdin.write(input) {
                Ok(written) => *input = &input[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.stdin = None,
            }
        }
        if self.stdin.is_none() {
            *input = &[];
        }
    }

    /// Reads one chunk of stdout. Gives whether there was any.
    fn take_output(&mut self) -> bool {
        let Some(stdout) = &mut self.stdout else { return false };
        match stdout.read(&mut self.chunk) {
            Ok(0) => self.stdout = None,
            Ok(read) => self.output.extend_from_slice(&self.chunk[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return false,
            Err(_) => self.stdout = None,
        }
        self.stdout.is_some()
    }

    /// Reads one chunk of stderr. Gives whether there was any.
    fn take_errors(&mut self) -> bool {
        let Some(stderr) = &mut self.stderr else { return false };
        match stderr.read(&mut self.chunk) {
            Ok(0) => self.stderr = None,
            Ok(read) => self.tail.extend_from_slice(&self.chunk[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return false,
            Err(_) => self.stderr = None,
        }
        // Cut seldom, so that each byte is moved once or twice in all.
        if self.tail.len() > 2 * STDERR_TAIL {
            self.tail.drain(..self.tail.len() - STDERR_TAIL);
        }
        self.stderr.is_some()
    }

    /// Reads what an exited child has left in the pipe, up to a little more than `most`. A
    /// grandchild may hold the pipe open for ever, so the end of the child is the end of its output.
    fn take_last_output(&mut self, most: usize) {
        while self.output.len() <= most && self.take_output() {}
        self.stdout = None;
    }

    fn take_line(&mut self) -> Option<Line> {
        let found = self.output[self.searched..].iter().position(|byte| *byte == b'\n');
        let end = found.map_or(self.output.len(), |place| self.searched + place);
        if end > MAX_LINE {
            return Some(Line::TooLong);
        }
        if found.is_none() {
            self.searched = end;
            return None;
        }
        let rest = self.output.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.output, rest);
        line.truncate(end);
        self.searched = 0;
        Some(Line::Whole(line))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Runs a command to completion, or to the end of its time.
pub fn run(command: Command, input: &[u8], limit: Duration) -> Result<Run, Failure> {
    let mut process = Process::start(command)?;
    let end = match process.finish(input, deadline(limit), MAX_RUN_OUTPUT) {
        Ok(Some(status)) => End::Exited(status),
        Ok(None) => End::Flooded,
        Err(stopped) => End::Stopped(stopped),
    };
    // For the rest of stderr; an exited child has been reaped already and is not touched again.
    let _ = process.end();
    Ok(Run { end, stdout: std::mem::take(&mut process.output), stderr: process.stderr_tail() })
}

/// How a child ended, as the rest of a sentence: `exited with status 3`.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        // The standard library knows the names of signals.
        (None, Some(_)) => format!("was killed by {}", status.to_string().replacen("signal: ", "signal ", 1)),
        (None, None) => format!("ended: {status}"),
    }
}

fn cannot_start(command: &Command, error: &io::Error) -> Failure {
    let program = command.get_program().to_string_lossy();
    let advice = match error.kind() {
        ErrorKind::NotFound => "there is no such program; give its path, or put it on PATH".to_owned(),
        ErrorKind::PermissionDenied => "it may not be executed; is it a program, and is its mode right?".to_owned(),
        _ => error.to_string(),
    };
    Failure::Unable(format!("cannot start `{program}`: {advice}"))
}
