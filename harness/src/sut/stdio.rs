//! The `stdio` adapter: an allocator in any language, as a process that speaks the protocol on its
//! standard streams.
//!
//! The framing is [`protocol`], the supervision [`process`]; here is the life of the system: start,
//! `initialize`, calls, reset, restart, crash, end. Whatever it does wrong ends its process, and the
//! next reset starts another on an empty state directory, so one misbehaviour never becomes two. Before
//! anything else a process of its own is asked for a version of the protocol that nobody speaks.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::home::Home;
use super::process::{self, Line, MAX_LINE, Process, Stopped};
use super::protocol::{self, Absent, Introduction, excerpt};
use super::strace::Strace;
use super::{BUSY_PAUSE, BUSY_TRIES, Failure, Resource, Resources, Sut, procfs};
use crate::contract::{Contract, Limits};
use crate::fault::{Counted, Fault, FaultKind};
use crate::operation::{Kind, Method, Operation, Refusal, Response};
use crate::property::{Property, Violation};

/// The longest answer time that a contract is given; only the user can allow more.
pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a system that has closed its stdout is given to exit, only to say how it ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long a process that is struck dead may take to die.
const DEATH: Duration = Duration::from_millis(200);
/// A start is not hurried to less than this.
const LEAST_START: Duration = Duration::from_millis(1500);
/// The directory of the system's durable state, by this name in its environment.
const STATE_DIR: &str = "POOLPROOF_STATE_DIR";

/// A system on a pipe.
pub struct Stdio {
    introduction: Introduction,
    channel: Channel,
    /// Calls since the last reset. What is absent is written out in every second one: `null` is the same, and somebody
    /// must say it, the same way each time a scenario is run.
    calls: u64,
    warnings: Vec<String>,
    /// Faults are about to strike, or steps are counted.
    strace: Option<Strace>,
    struck: Vec<Fault>,
    is_down: bool,
}

impl Stdio {
    /// Starts the command, given as words, and lets it introduce itself. `timeout` overrules the
    /// contract.
    pub fn start(command: Vec<String>, timeout: Option<Duration>) -> Result<Stdio, Failure> {
        let first_timeout = timeout.unwrap_or(Duration::from_millis(Contract::DEFAULT_TIMEOUT_MS));
        Channel::new(command.clone(), first_timeout)?.try_other_version()?;
        let mut channel = Channel::new(command, first_timeout)?;
        let introduction = channel.launch()?;
        let unknown = introduction.unknown_fields.iter();
        let mut warnings: Vec<String> = unknown
            .map(|field| format!("the contract field `{}` is not known here and ignored", excerpt(field.as_bytes())))
            .collect();
        if timeout.is_none() {
            let asked = Duration::from_millis(introduction.contract.timeout_ms);
            channel.timeout = asked.min(LONGEST_TIMEOUT);
            if asked > LONGEST_TIMEOUT {
                warnings.push(format!("the contract asks for {asked:?} an answer and is given {LONGEST_TIMEOUT:?}"));
            }
        }
        Ok(Stdio { introduction, channel, calls: 0, warnings, strace: None, struck: Vec::new(), is_down: false })
    }

    /// What is odd about the system but no violation, for people.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The system's name and version, as it says.
    pub fn name(&self) -> String {
        format!("{} {}", self.introduction.name, self.introduction.version)
    }

    /// Starts a process; it must introduce itself as before.
    fn launch_again(&mut self) -> Result<(), Failure> {
        let introduction = self.channel.launch()?;
        if introduction.contract == self.introduction.contract {
            return Ok(());
        }
        self.channel.misbehaved("after a new start `initialize` gives another contract than before")
    }

    /// One more process on the same state.
    fn beside(&self) -> Result<Stdio, Failure> {
        let Channel { command, directory, timeout, .. } = &self.channel;
        let mut channel = Channel::at(directory.clone(), command.clone(), *timeout);
        channel.launch()?;
        Ok(Stdio {
            introduction: self.introduction.clone(),
            channel,
            calls: 0,
            warnings: Vec::new(),
            strace: None,
            struck: Vec::new(),
            is_down: false,
        })
    }

    /// A process again after a restart or a crash, on the state that the last one left.
    fn come_up_again(&mut self, after: &str) -> Result<(), Failure> {
        self.launch_again().map_err(|failure| match failure {
            Failure::Misbehaved(cause) => {
                let message = format!("after {after} it does not come up again: {}", cause.message);
                Failure::Misbehaved(Violation::new(Property::Durable, message))
            }
            other => other,
        })
    }

    /// The method `reset`; a refusal is an answer.
    fn reset_in_place(&mut self) -> Result<Result<(), Refusal>, Failure> {
        let id = self.channel.next_id();
        self.channel.ask("reset", &protocol::encode_reset(id), |line| protocol::decode_reset(id, line))
    }

    /// `reset` has no refusals but `busy`, which is tried again. After another the process is not to be trusted, and ends.
    fn reset_without_refusal(&mut self) -> Result<(), Failure> {
        let mut answer = self.reset_in_place()?;
        for _ in 0..BUSY_TRIES {
            if !matches!(&answer, Err(Refusal { kind: Kind::Busy, .. })) {
                break;
            }
            std::thread::sleep(BUSY_PAUSE);
            answer = self.reset_in_place()?;
        }
        let Err(refusal) = answer else { return Ok(()) };
        self.channel.end();
        let message = format!("`reset` was refused as `{}`: {}", refusal.kind, refusal.message);
        Err(Failure::Misbehaved(Violation::new(Property::Classified, message)))
    }

    /// The end of a call while faults may strike. One that struck explains that there is no answer.
    fn after_faults(&mut self, asked: Result<Response, Failure>) -> Result<Response, Failure> {
        let Some(strace) = &mut self.strace else { return asked };
        if asked.is_err() {
            // All of the trace is there once nothing is traced any more.
            strace.let_go();
        }
        let seen = strace.seen();
        self.struck = seen.struck;
        match asked {
            Err(Failure::Misbehaved(_)) if seen.is_excused => {
                self.is_down = true;
                Ok(Err(Refusal { kind: Kind::UnknownOutcome, message: "the process ended".into() }))
            }
            asked => asked,
        }
    }

    fn can_reset(&self) -> bool {
        self.channel.process.is_some() && self.introduction.contract.has(Method::Reset)
    }
}

impl Sut for Stdio {
    fn contract(&self) -> &Contract {
        &self.introduction.contract
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.disarm();
        self.is_down = false;
        // The reset at the end of a scenario serves the next one too.
        if self.calls == 0 && self.channel.process.is_some() {
            return Ok(());
        }
        if self.can_reset() {
            self.reset_without_refusal()?;
        } else {
            self.channel.end();
            self.channel.directory = Arc::new(Home::new()?);
            self.launch_again()?;
        }
        self.calls = 0;
        Ok(())
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        if let Operation::Raw { line } = operation
            && line.contains(&b'\n')
        {
            let message = "a raw line with a newline in it is several lines; it was not sent";
            return Ok(Err(Refusal { kind: Kind::Invalid, message: message.into() }));
        }
        self.calls += 1;
        let id = self.channel.next_id();
        let absent = if self.calls.is_multiple_of(2) { Absent::WrittenOut } else { Absent::LeftOut };
        let request = protocol::encode(id, operation, absent);
        let asked = self.channel.ask(operation.method().name(), &request, |line| protocol::decode(id, operation, line));
        self.after_faults(asked)
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.calls += 1;
        self.channel.shut_down()?;
        self.come_up_again("a clean restart")
    }

    fn crash(&mut self) -> Result<(), Failure> {
        self.calls += 1;
        self.is_down = false;
        self.channel.end();
        self.come_up_again("a crash")
    }

    /// The answer to a reset must be the very next line; without that method, the end of the process
    /// must be silent.
    fn finish(&mut self) -> Result<(), Failure> {
        if !self.can_reset() {
            return self.channel.shut_down();
        }
        self.reset_without_refusal()?;
        self.calls = 0;
        Ok(())
    }

    fn forget(&mut self) -> bool {
        self.calls += 1;
        self.channel.end();
        true
    }

    fn another(&mut self) -> Result<Option<Box<dyn Sut + Send>>, Failure> {
        if !self.introduction.contract.shared {
            return Ok(None);
        }
        Ok(Some(Box::new(self.beside()?)))
    }

    fn ends_late_calls(&self) -> bool {
        true
    }

    fn restarts_slowly(&self) -> bool {
        true
    }

    fn hurry(&mut self, limit: Option<Duration>) {
        self.channel.hurry = limit;
    }

    fn arm(&mut self, faults: &[Fault]) -> Result<(), Failure> {
        if !self.introduction.contract.durable {
            let why = "it does not promise to be durable, so that nothing outlives the end of its process";
            return Err(Failure::Unable(why.to_owned()));
        }
        let mut strace = Strace::new(faults, &self.channel.directory.state())?;
        if let Some(process) = &self.channel.process {
            strace.hold(process.pid())?;
        }
        self.struck.clear();
        self.strace = Some(strace);
        Ok(())
    }

    fn disarm(&mut self) -> Counted {
        let Some(mut strace) = self.strace.take() else { return Counted::default() };
        strace.let_go();
        let mut seen = strace.seen();
        if let (Some(fault), Some(process)) = (seen.fatal, &mut self.channel.process)
            && process.await_exit(process::deadline(DEATH)).is_ok()
        {
            seen.struck.push(fault);
        }
        // It may have answered before.
        self.is_down |= seen.struck.iter().any(|fault| fault.kind == FaultKind::Kill);
        self.struck = seen.struck;
        Counted { steps: seen.steps, allocations: 0 }
    }

    fn struck(&self) -> Vec<Fault> {
        self.struck.clone()
    }

    fn is_down(&self) -> bool {
        self.is_down
    }

    fn resources(&self) -> Resources {
        let Some(process) = &self.channel.process else { return Resources::UNKNOWN };
        procfs::resources(process.pid()).with(Resource::Left, procfs::files_below(self.channel.directory.path()))
    }

    fn resets_in_place(&self) -> bool {
        self.introduction.contract.has(Method::Reset)
    }

    fn diagnostics(&self) -> String {
        self.channel.process.as_ref().map_or_else(|| self.channel.last_errors.clone(), Process::stderr_tail)
    }
}

/// The process and the lines that go to and fro. Every failure ends the process.
struct Channel {
    command: Vec<String>,
    timeout: Duration,
    /// A shorter time, for the time being.
    hurry: Option<Duration>,
    /// `None` once it has been ended.
    process: Option<Process>,
    /// Dropped after the process, so that only what outlives that is left to be found.
    directory: Arc<Home>,
    /// The number of the last request.
    id: u64,
    /// The end of what the last ended process wrote to stderr.
    last_errors: String,
}

impl Channel {
    /// Nothing is started yet; the state directory is empty.
    fn new(command: Vec<String>, timeout: Duration) -> Result<Channel, Failure> {
        Ok(Channel::at(Arc::new(Home::new()?), command, timeout))
    }

    /// The same on this directory.
    fn at(directory: Arc<Home>, command: Vec<String>, timeout: Duration) -> Channel {
        Channel { command, timeout, hurry: None, directory, process: None, id: 0, last_errors: String::new() }
    }

    /// Starts a process only to hear it refuse a version of the protocol that nobody speaks. What it
    /// does afterwards is its own affair, because the protocol does not say: this process is ended.
    fn try_other_version(mut self) -> Result<(), Failure> {
        self.spawn()?;
        let id = self.next_id();
        let request = protocol::encode_initialize(id, protocol::NO_VERSION);
        let line = self.exchange("initialize", &request)?;
        self.end();
        protocol::decode_no_version(id, &line).map_err(Failure::Misbehaved)
    }

    /// Starts a process on the state directory as it is, and lets it introduce itself.
    fn launch(&mut self) -> Result<Introduction, Failure> {
        self.spawn()?;
        let id = self.next_id();
        let request = protocol::encode_initialize(id, protocol::VERSION);
        let mut introduction = self.ask("initialize", &request, |line| protocol::decode_initialize(id, line))?;
        introduction.contract.limits = Limits { raw: true, ..Limits::default() };
        Ok(introduction)
    }

    fn spawn(&mut self) -> Result<(), Failure> {
        let [program, arguments @ ..] = self.command.as_slice() else {
            return Err(Failure::Unable("there is no command to start".to_owned()));
        };
        let mut command = Command::new(program);
        command.args(arguments).env(STATE_DIR, self.directory.state()).env("TMPDIR", self.directory.temporary());
        self.process = Some(Process::start(command)?);
        Ok(())
    }

    /// How long an answer may take.
    fn patience(&self) -> Duration {
        self.hurry.map_or(self.timeout, |hurry| hurry.min(self.timeout))
    }

    fn next_id(&mut self) -> u64 {
        self.id += 1;
        self.id
    }

    /// Sends a request and decodes the next line, which must be the only one.
    fn ask<T>(
        &mut self,
        method: &str,
        request: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, Violation>,
    ) -> Result<T, Failure> {
        let line = self.exchange(method, request)?;
        let answer = decode(&line).map_err(|violation| {
            self.end();
            Failure::Misbehaved(violation)
        })?;
        let surplus = self.process.as_ref().map_or(&[][..], Process::unread);
        if surplus.is_empty() {
            return Ok(answer);
        }
        let surplus = excerpt(surplus);
        self.misbehaved(format!("after the answer to `{method}` there is output nobody asked for: {surplus}"))
    }

    fn exchange(&mut self, method: &str, request: &[u8]) -> Result<Vec<u8>, Failure> {
        // A start takes what it takes, even in a hurry.
        let least = if method == "initialize" { LEAST_START } else { Duration::ZERO };
        let timeout = self.patience().max(least).min(self.timeout);
        let Some(process) = &mut self.process else {
            return Err(Failure::Unable("the system has been stopped; only a reset starts it again".to_owned()));
        };
        match process.exchange(request, process::deadline(timeout)) {
            Ok(Line::Whole(line)) => Ok(line),
            Ok(Line::TooLong) => {
                self.misbehaved(format!("`{method}` was answered by a line over {} MiB", MAX_LINE >> 20))
            }
            Ok(Line::Ended { rest }) => self.ended(method, &rest),
            Err(stopped) => self.stopped(stopped, &format!("`{method}` was not answered within {timeout:?}")),
        }
    }

    /// Its output has ended where an answer was due.
    fn ended<T>(&mut self, method: &str, rest: &[u8]) -> Result<T, Failure> {
        let until = process::deadline(LAST_WORDS.min(self.patience()));
        let end = match self.process.as_mut().map(|process| process.await_exit(until)) {
            Some(Ok(status)) => process::describe(status),
            Some(Err(Stopped::Interrupted)) => return self.stopped(Stopped::Interrupted, ""),
            Some(Err(_)) | None => "closed its stdout and lives on".to_owned(),
        };
        self.end();
        let place = match rest {
            [] => format!("instead of answering `{method}`"),
            rest => format!("in the middle of its answer to `{method}`: {}", excerpt(rest)),
        };
        let last_words = self.last_errors.lines().rfind(|line| !line.trim().is_empty()).map(str::as_bytes);
        let last_words = last_words.map(|line| format!("; its last words: {}", excerpt(line))).unwrap_or_default();
        Err(Failure::total(format!("the system {end} {place}{last_words}")))
    }

    /// A wait has ended without what was waited for.
    fn stopped<T>(&mut self, stopped: Stopped, lateness: &str) -> Result<T, Failure> {
        self.end();
        Err(match stopped {
            Stopped::Late => Failure::total(lateness),
            Stopped::Interrupted => Failure::Interrupted,
            Stopped::Broken(error) => Failure::Unable(format!("cannot talk to the system: {error}")),
        })
    }

    fn misbehaved<T>(&mut self, message: impl Into<String>) -> Result<T, Failure> {
        self.end();
        Err(Failure::total(message))
    }

    /// Kills what runs and keeps its last words.
    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            // There is nothing to be done about the dead that cannot be reaped.
            let _ = process.end();
            self.last_errors = process.stderr_tail();
        }
    }

    /// Closes stdin and waits for the exit, which must be clean and without a word.
    fn shut_down(&mut self) -> Result<(), Failure> {
        let timeout = self.patience();
        let Some(process) = &mut self.process else { return Ok(()) };
        let ended = process.finish(&[], process::deadline(timeout), MAX_LINE);
        let output = excerpt(process.unread());
        match ended {
            Ok(_) if !output.is_empty() => self.misbehaved(format!("there is output nobody asked for: {output}")),
            // The protocol asks for an exit, not for its status; but a signal is nobody's exit.
            Ok(Some(status)) if status.code().is_none() => {
                let end = process::describe(status);
                self.misbehaved(format!("the system {end} when its stdin was closed"))
            }
            Ok(_) => {
                self.end();
                Ok(())
            }
            Err(stopped) => self.stopped(stopped, &format!("it does not exit within {timeout:?} of its stdin's end")),
        }
    }
}
