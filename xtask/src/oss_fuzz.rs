//! `cargo xtask oss-fuzz`: the fuzz targets as OSS-Fuzz and ClusterFuzzLite want them.
//!
//! Their build script is `fuzz/oss-fuzz/build.sh`, which builds the targets and has `package` put what belongs to each beside
//! it. `try` runs that script as they would, and starts what comes out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;

use crate::libfuzzer::{self, Ending, Progress};
use crate::process::{self, Interrupt};
use crate::root;
use crate::targets::{self, Target};
use crate::toolchain::Toolchain;

/// Package the fuzz targets for OSS-Fuzz and ClusterFuzzLite, or try how that goes
///
/// Exit status: 0 all is well, 2 something could not be built, packaged or started.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Put each target with its seeds, options and dictionary into a folder
    Package {
        /// Where the targets were built
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// Where they go
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Run their build script in folders and an environment as theirs, and start each target on its seeds
    Try,
}

const BUILD: &str = "fuzz/oss-fuzz/build.sh";
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// A started target runs so many inputs beyond its seeds.
const RUNS: u64 = 200;

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.command {
        Task::Package { from, out } => package(from, out),
        Task::Try => try_out(),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn package(from: &Path, out: &Path) -> Result<()> {
    let out = std::path::absolute(out).context("cannot tell where this is")?;
    for target in targets::chosen(&[])? {
        let place = |ending: &str| out.join(format!("{}{ending}", target.name));
        copy(&root().join(from).join(&target.name), &place(""))?;
        if let Some(dictionary) = target.dictionary() {
            copy(&root().join(dictionary), &place(".dict"))?;
        }
        let options = place(".options");
        let text = libfuzzer::OPTIONS.map(|(name, value)| format!("{name} = {value}\n")).concat();
        fs::write(&options, format!("[libfuzzer]\n{text}"))
            .with_context(|| format!("cannot write {}", options.display()))?;
        zip(&target, &place("_seed_corpus.zip"))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Packs the committed inputs of a target, which has some.
fn zip(target: &Target, file: &Path) -> Result<()> {
    if file.exists() {
        // `zip` would add to it.
        fs::remove_file(file).with_context(|| format!("cannot replace {}", file.display()))?;
    }
    let mut command = Command::new("zip");
    command.args(["--quiet", "--recurse-paths"]).arg(file).args(target.committed_folders()).current_dir(root());
    let status = command.status().context("cannot start zip: install it, such as Debian's package zip")?;
    ensure!(status.success(), "zip failed on the seeds of `{}`: {status}", target.name);
    Ok(())
}

fn try_out() -> Result<()> {
    let toolchain = Toolchain::for_fuzzing(None)?;
    toolchain.require_cargo_fuzz()?;
    let interrupt = Interrupt::install()?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let [source, out, work] = ["src", "out", "work"].map(|name| folder.path().join(name));
    for folder in [&source, &out, &work] {
        fs::create_dir(folder).context("cannot make a temporary folder")?;
    }
    std::os::unix::fs::symlink(root(), source.join("poolproof")).context("cannot link to the source")?;
    let mut build = Command::new(source.join("poolproof").join(BUILD));
    build.current_dir(&work).envs([("SRC", &source), ("OUT", &out), ("WORK", &work)]);
    for (name, value) in environment(&toolchain) {
        build.env(name, value);
    }
    let ended = process::supervise(&mut build, LIMIT, &interrupt)?;
    ensure!(ended.status.success(), "{BUILD} failed, see above: {}", ended.status);
    for target in targets::chosen(&[])? {
        start(&target, &out, &interrupt)?;
    }
    Ok(())
}

/// What their images set, as far as the compilers here know it.
fn environment(toolchain: &Toolchain) -> Vec<(&'static str, String)> {
    let sanitizer = toolchain.sanitizer();
    let sanitize = if sanitizer == "none" { String::new() } else { format!(" -Zsanitizer={sanitizer}") };
    let mut variables = vec![
        ("ARCHITECTURE", "x86_64".to_owned()),
        ("FUZZING_ENGINE", "libfuzzer".to_owned()),
        ("FUZZING_LANGUAGE", "rust".to_owned()),
        ("SANITIZER", sanitizer.to_owned()),
        ("LIB_FUZZING_ENGINE", "-fsanitize=fuzzer".to_owned()),
        ("CFLAGS", "-O1 -fno-omit-frame-pointer".to_owned()),
        ("CXXFLAGS", "-O1 -fno-omit-frame-pointer".to_owned()),
        ("RUSTFLAGS", format!("--cfg fuzzing{sanitize} -Cdebuginfo=1 -Cforce-frame-pointers")),
    ];
    // Their cargo is a nightly one.
    variables.extend(toolchain.name.clone().map(|name| ("RUSTUP_TOOLCHAIN", name)));
    variables
}

/// Starts a packaged target as their runner does: in the folder, with the unpacked seeds, its options and its dictionary.
fn start(target: &Target, out: &Path, interrupt: &Interrupt) -> Result<()> {
    let name = &target.name;
    let seeds = out.join(format!("{name}_seeds"));
    let mut unzip = Command::new("unzip");
    unzip.arg("-q").arg(out.join(format!("{name}_seed_corpus.zip"))).arg("-d").arg(&seeds);
    ensure!(
        unzip.status().context("cannot start unzip: install it")?.success(),
        "the seeds of `{name}` cannot be unpacked"
    );
    let count = targets::files(&seeds)?.len() as u64;
    ensure!(count > 0, "there are no seeds for `{name}`");
    let options = fs::read_to_string(out.join(format!("{name}.options"))).context("there are no options")?;
    let options = options.lines().filter_map(|line| line.split_once(" = "));
    let mut fuzzer = Command::new(out.join(name));
    fuzzer.args(options.map(|(name, value)| format!("-{name}={value}"))).arg(format!("-runs={}", count + RUNS));
    fuzzer.args(["-seed=1", "-print_final_stats=1"]);
    let dictionary = out.join(format!("{name}.dict"));
    fuzzer.args(dictionary.exists().then(|| format!("-dict={}", dictionary.display())));
    fuzzer.arg(&seeds).current_dir(out).env("ASAN_OPTIONS", "detect_odr_violation=0");
    let (mut progress, mut last) = (Progress::default(), String::new());
    let ended = process::supervise_lines(&mut fuzzer, LIMIT, interrupt, |line| {
        progress.take(line);
        line.clone_into(&mut last);
    })?;
    ensure!(!interrupt.is_set(), "interrupted: not every target was started");
    let ending = libfuzzer::ending(ended.status, &progress);
    ensure!(ending == Ending::Finished, "`{name}` does not run on its seeds: {ending:?}: {last}");
    ensure!(progress.executions >= count, "`{name}` ran {} of {count} seeds", progress.executions);
    let words = if dictionary.exists() { ", with a dictionary" } else { "" };
    println!("{name}: {count} seeds, {} executions{words}", progress.executions);
    Ok(())
}
