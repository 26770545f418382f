//! One run of a CNI plugin: environment and configuration in, result or error out.
//!
//! A plugin that panics, hangs, dies or prints anything but what [`output`](super::output) reads breaks `total`.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::{Value, json};

use super::output::{Complaint, VERSIONS, best_version};
use crate::sut::Failure;
use crate::sut::home::Home;
use crate::sut::process::{self, End, MAX_RUN_OUTPUT, Stopped};
use crate::sut::protocol::excerpt;
use crate::sut::strace::Strace;

/// The first of these had no CHECK.
const WITHOUT_CHECK: [&str; 2] = ["0.3.1", "0.3.0"];

/// What a plugin is told to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Check,
    Del,
    Version,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Check => "CHECK",
            Verb::Del => "DEL",
            Verb::Version => "VERSION",
        }
    }
}

/// A plugin's program.
#[derive(Clone)]
pub(super) struct Plugin {
    path: PathBuf,
    limit: Duration,
    /// A shorter time, for the time being.
    hurry: Option<Duration>,
    version: &'static str,
    last_errors: String,
}

impl Plugin {
    /// Asks the program which versions it speaks.
    pub(super) fn introduce(path: PathBuf, limit: Duration, home: &Home) -> Result<Plugin, Failure> {
        let mut plugin = Plugin { path, limit, hurry: None, version: VERSIONS[0], last_errors: String::new() };
        let asked = json!({ "cniVersion": VERSIONS[0] });
        let answer = plugin.run(Verb::Version, "", "", &asked, home, None)?.unwrap_or_default();
        let advice = "it does not say on VERSION that it speaks CNI 0.3.0 to 1.0.0";
        let name = plugin.path.display();
        plugin.version = best_version(&answer)
            .ok_or_else(|| Failure::Unable(format!("`{name}` is no usable CNI plugin: {advice}")))?;
        Ok(plugin)
    }

    /// The version of CNI that is spoken.
    pub(super) fn version(&self) -> &'static str {
        self.version
    }

    /// Does that version have CHECK?
    pub(super) fn can_check(&self) -> bool {
        !WITHOUT_CHECK.contains(&self.version)
    }

    /// The name that configurations call it by.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The end of what the last run wrote to stderr.
    pub(super) fn last_errors(&self) -> &str {
        &self.last_errors
    }

    /// A run that takes longer than this is late, for the time being.
    pub(super) fn hurry(&mut self, limit: Option<Duration>) {
        self.hurry = limit;
    }

    /// Runs it once, traced by `strace` where that is given. There are no network namespaces in `home`.
    pub(super) fn run(
        &mut self,
        verb: Verb,
        container: &str,
        interface: &str,
        config: &Value,
        home: &Home,
        strace: Option<&Strace>,
    ) -> Result<Result<Vec<u8>, Complaint>, Failure> {
        let program = self.path.as_os_str();
        let mut command = strace.map_or_else(|| Command::new(program), |strace| strace.command(program));
        command.env("CNI_COMMAND", verb.name()).env_remove("CNI_ARGS").env_remove("CNI_NETNS_OVERRIDE");
        // Required to be there, never looked at by a plugin that only manages addresses.
        command.env("CNI_PATH", self.path.parent().filter(|path| path.is_dir()).unwrap_or(home.path()));
        command.env("CNI_NETNS", home.path().join("no-namespace")).env("TMPDIR", home.temporary());
        command.env("CNI_CONTAINERID", container).env("CNI_IFNAME", interface);
        let limit = self.hurry.map_or(self.limit, |hurry| hurry.min(self.limit));
        let run = process::run(command, config.to_string().as_bytes(), limit)?;
        self.last_errors = run.stderr;
        let name = verb.name();
        match run.end {
            End::Exited(status) if status.success() => Ok(Ok(run.stdout)),
            End::Exited(status) => complaint(name, status, &run.stdout, &self.last_errors).map(Err),
            End::Flooded => Err(Failure::total(format!("{name} printed more than {} MiB", MAX_RUN_OUTPUT >> 20))),
            End::Stopped(Stopped::Late) => Err(Failure::total(format!("{name} was not done within {limit:?}"))),
            End::Stopped(Stopped::Interrupted) => Err(Failure::Interrupted),
            End::Stopped(Stopped::Broken(error)) => Err(Failure::Unable(format!("cannot run the plugin: {error}"))),
        }
    }
}

/// The complaint of a plugin that exited with an error; a failure where it does not complain.
fn complaint(verb: &str, status: ExitStatus, stdout: &[u8], stderr: &str) -> Result<Complaint, Failure> {
    // The runtime of Go ends so; everything else a plugin can report itself.
    let is_panic = |line: &&str| line.starts_with("panic:") || line.starts_with("fatal error:");
    if let Some(line) = stderr.lines().find(is_panic).filter(|_| status.code() == Some(2)) {
        return Err(Failure::total(format!("{verb} made the plugin panic: {}", excerpt(line.as_bytes()))));
    }
    let complaint = status.code().and_then(|_| Complaint::parse(stdout));
    complaint.ok_or_else(|| {
        let end = process::describe(status);
        let printed = if stdout.is_empty() { "nothing".to_owned() } else { excerpt(stdout) };
        Failure::total(format!("on {verb} the plugin {end} without an error in the form of CNI; it printed {printed}"))
    })
}
