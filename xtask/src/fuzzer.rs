//! Fuzz targets built and started.
//!
//! cargo-fuzz builds them. They are then started directly, not through `cargo fuzz run`, so that a signal, a time limit and
//! the exit status concern the fuzzer itself and not three processes around it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::process::{self, Ended, Interrupt};
use crate::toolchain::Toolchain;
use crate::{libfuzzer, root};

/// Building takes a minute or two; this only keeps a stuck one from holding up a CI machine for a day.
const BUILD_LIMIT: Duration = Duration::from_secs(60 * 60);

/// A crate with fuzz targets, and how they are built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crate {
    folder: &'static str,
    /// Named on every build: the binaries are looked for there, wherever the person keeps the other build results.
    build_folder: &'static str,
    has_sanitizer: bool,
    /// Is only what is under test instrumented, and not the harness?
    watches_subject_only: bool,
    options: &'static [&'static str],
    /// Are the files of its targets in memory, where the machine has a place for that?
    keeps_files_in_memory: bool,
}

/// Files are kept in memory here (Linux, tmpfs(5)). What a disk takes is nothing that targets are about, and on a busy one an
/// input of a hundred commits would look like a hang.
const MEMORY: &str = "/dev/shm";

/// Compared values are not traced: scenarios are not made of magic numbers, where bytes are the subject there are
/// dictionaries, and it takes more than half of the time.
const NO_TRACE: &str = "--no-trace-compares";

/// Assertions of others than the allocator are not compiled in; see `fuzz/Cargo.toml`.
const OPTIMISED: &str = "-O";

/// The compiler that instruments only what is under test.
const SUBJECT_ONLY: &str = "fuzz/subject-only.sh";

/// Ours, with the sanitizer where the toolchain has one.
pub(crate) const SANITIZED: Crate = Crate {
    folder: "fuzz",
    build_folder: "fuzz/target",
    has_sanitizer: true,
    watches_subject_only: false,
    options: &[NO_TRACE],
    keeps_files_in_memory: true,
};
/// Ours without and with the harness as it is in use, which is many times as fast.
pub(crate) const FAST: Crate = Crate {
    build_folder: "target/fuzz-fast",
    has_sanitizer: false,
    watches_subject_only: true,
    options: &[NO_TRACE, OPTIMISED],
    ..SANITIZED
};
/// One for comparison, without a sanitizer, as cargo-fuzz advises for code without `unsafe`.
pub(crate) const RIVAL: Crate = Crate {
    folder: "rivals/fuzz",
    build_folder: "target/rivals-fuzz",
    has_sanitizer: false,
    watches_subject_only: false,
    options: &[],
    keeps_files_in_memory: false,
};
/// The one that is written as cargo-fuzz's book writes targets, likewise.
pub(crate) const BARE: Crate = Crate { folder: "rivals/bare", build_folder: "target/rivals-bare", ..RIVAL };

/// Builds targets, all in one way, and starts them.
pub(crate) struct Fuzzer {
    of: Crate,
    /// Where targets keep their files: one that ends at a find leaves them behind.
    scratch: TempDir,
    pub(crate) toolchain: Toolchain,
    pub(crate) interrupt: Interrupt,
}

impl Fuzzer {
    pub(crate) fn new(of: Crate, toolchain: Toolchain, interrupt: Interrupt) -> Result<Self> {
        toolchain.require_cargo_fuzz()?;
        let in_memory = of.keeps_files_in_memory.then(|| tempfile::tempdir_in(MEMORY).ok()).flatten();
        let scratch = in_memory.map_or_else(tempfile::tempdir, Ok).context("cannot make a temporary folder")?;
        Ok(Self { of, scratch, toolchain, interrupt })
    }

    /// How targets are built.
    pub(crate) fn describe(&self) -> String {
        if self.of.has_sanitizer {
            return self.toolchain.describe();
        }
        let name = self.toolchain.name.as_deref().unwrap_or("default");
        format!("the {name} toolchain, for speed: without a sanitizer, guided by the allocator's code only")
    }

    pub(crate) fn build(&self, target: &str) -> Result<()> {
        let mut words = self.words("build");
        words
            .extend(["--target", &self.toolchain.host, "--target-dir", self.of.build_folder, target].map(String::from));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(root());
        if self.of.watches_subject_only {
            command.env("RUSTC_WRAPPER", root().join(SUBJECT_ONLY));
        }
        let Ended { status, .. } = process::supervise(&mut command, BUILD_LIMIT, &self.interrupt)?;
        ensure!(!self.interrupt.is_set(), "interrupted while building");
        ensure!(
            status.success(),
            "fuzz target `{target}` cannot be built (see above): `{}`",
            shell_words::join(&words)
        );
        Ok(())
    }

    /// Where a target is, once it is built.
    pub(crate) fn binary(&self, target: &str) -> PathBuf {
        root().join(self.of.build_folder).join(&self.toolchain.host).join("release").join(target)
    }

    /// The target, ready to be started in the repository's top folder.
    pub(crate) fn command(&self, target: &str, artifacts: &str) -> Command {
        let mut command = Command::new(self.binary(target));
        command
            .args(libfuzzer::common_options(artifacts))
            .env("ASAN_OPTIONS", "detect_odr_violation=0") // as cargo-fuzz sets it
            .env("TMPDIR", self.scratch.path())
            .current_dir(root());
        command
    }

    /// The command line that runs a target on an input, for a person.
    pub(crate) fn reproduce(&self, target: &str, input: &str) -> String {
        let mut words = self.words("run");
        words.extend([target, input].map(String::from));
        shell_words::join(words)
    }

    fn words(&self, subcommand: &str) -> Vec<String> {
        let sanitizer = if self.of.has_sanitizer { self.toolchain.sanitizer() } else { "none" };
        let mut words = self.toolchain.cargo_fuzz(subcommand, sanitizer);
        words.extend(
            ["--fuzz-dir", self.of.folder].into_iter().chain(self.of.options.iter().copied()).map(String::from),
        );
        words
    }
}
