//! `cargo xtask fuzz`: every fuzz target, on the committed corpus first, then on inputs that libFuzzer makes up.
//!
//! Before that, each target must find its canary, a defect that is there when the environment asks for it.
//!
//! cargo-fuzz builds the targets. They are then started directly, not through `cargo fuzz run`, so that a signal, a
//! time limit and the exit status concern the fuzzer itself and not three processes around it. Targets are those of
//! `fuzz/Cargo.toml`; a new one needs no line here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::libfuzzer::{self, Ending, Progress};
use crate::process::{self, Ended, Interrupt, Stop};
use crate::root;
use crate::summary::{self, Find, Report, Verdict};
use crate::toolchain::Toolchain;

/// Fuzz every target, after replaying the committed corpus through it
///
/// Uses nightly with the address sanitizer where a nightly toolchain is installed, else the default toolchain without.
/// Inputs that reach something new are kept in fuzz/corpus/TARGET, and inputs that break something in
/// fuzz/artifacts/TARGET, each with the command that reproduces it. A find ends its own target only.
///
/// Exit status: 0 nothing found, 1 something found, 2 a target could not be built or executed nothing.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long to search in all, divided among the targets; building and replaying are not counted
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    time: Duration,

    /// Only these targets, separated by commas [default: all in fuzz/Cargo.toml]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    target: Vec<String>,

    /// Processes that fuzz a target at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,

    /// Toolchain to build with, such as stable or nightly-2026-01-31 [default: nightly if installed]
    #[arg(long, value_name = "NAME")]
    toolchain: Option<String>,
}

const MANIFEST: &str = "fuzz/Cargo.toml";
/// Named on every build: the binaries are looked for there, wherever the person keeps the other build results.
const BUILD_FOLDER: &str = "fuzz/target";
const DICTIONARY: &str = "fuzz/scenario.dict";
/// In its environment, a target has a defect: see `harness/src/engine/canary.rs`.
const CANARY: &str = "POOLPROOF_CANARY";
/// A canary is found within seconds.
const CANARY_TIME: Duration = Duration::from_secs(60);
/// Building takes a minute or two; this only keeps a stuck one from holding up a CI machine for a day.
const BUILD_LIMIT: Duration = Duration::from_secs(60 * 60);
/// The same for executing the committed corpus, which takes seconds.
const REPLAY_LIMIT: Duration = Duration::from_secs(10 * 60);
/// A search ends itself; one that did not by this much later never will. Covers loading a large corpus, and one hang
/// on top, which libFuzzer notices at twice its time limit at the latest.
const OVERTIME: Duration = Duration::from_secs(60 + 2 * libfuzzer::INPUT_TIMEOUT.as_secs());

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let manifest = fs::read_to_string(root().join(MANIFEST)).with_context(|| format!("cannot read {MANIFEST}"))?;
    let targets = select(&declared_targets(&manifest)?, &arguments.target)?;
    let times = divide(arguments.time, targets.len())?;
    let toolchain = Toolchain::for_fuzzing(arguments.toolchain.as_deref())?;
    toolchain.require_cargo_fuzz()?;

    let fuzzer = Fuzzer { toolchain, jobs: arguments.jobs, interrupt: Interrupt::install()? };
    eprintln!("==> building {} with {}", targets.join(", "), fuzzer.toolchain.describe());
    for target in &targets {
        fuzzer.build(target)?;
    }
    let mut reports: Vec<_> = targets.iter().map(|target| Report::new(target)).collect();
    let mut sound = Vec::new();
    for report in &mut reports {
        sound.push(fuzzer.canary(report)? && fuzzer.replay(report)?);
    }
    for ((report, time), sound) in reports.iter_mut().zip(times).zip(sound) {
        if sound && !fuzzer.interrupt.is_set() {
            fuzzer.search(report, time)?;
        }
    }
    println!("\n{}{}", summary::table(&reports), summary::finds(&reports));
    Ok(ExitCode::from(summary::exit_status(&reports)))
}

/// The binaries that the fuzz crate declares, in its order.
fn declared_targets(manifest: &str) -> Result<Vec<String>> {
    let manifest: toml::Table = manifest.parse().with_context(|| format!("{MANIFEST} is not valid TOML"))?;
    let binaries = manifest.get("bin").and_then(toml::Value::as_array).map_or(&[][..], Vec::as_slice);
    let names = binaries.iter().filter_map(|binary| binary.get("name")?.as_str());
    let names: Vec<_> = names.map(String::from).collect();
    ensure!(!names.is_empty(), "{MANIFEST} declares no fuzz target: add a [[bin]] with a name and a path");
    Ok(names)
}

/// The targets asked for, or all when none is.
fn select(declared: &[String], requested: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = requested.iter().find(|name| !declared.contains(name)) {
        bail!("no fuzz target is named `{unknown}`: {MANIFEST} declares {}", declared.join(", "));
    }
    let wanted = |name: &&String| requested.is_empty() || requested.contains(name);
    Ok(declared.iter().filter(wanted).cloned().collect())
}

/// Equal shares in whole seconds, the only unit that libFuzzer knows; what is left over goes to the first targets.
fn divide(total: Duration, targets: usize) -> Result<Vec<Duration>> {
    let targets = targets as u64;
    let (share, rest) = (total.as_secs() / targets, total.as_secs() % targets);
    ensure!(
        share > 0,
        "--time {} is less than a second for each of {targets} targets: give more time, or fewer with --target",
        humantime::format_duration(total)
    );
    Ok((0..targets).map(|number| Duration::from_secs(share + u64::from(number < rest))).collect())
}

/// Builds and runs targets, all in one way.
struct Fuzzer {
    toolchain: Toolchain,
    jobs: u32,
    interrupt: Interrupt,
}

impl Fuzzer {
    fn build(&self, target: &str) -> Result<()> {
        let mut words = self.toolchain.cargo_fuzz("build");
        words.extend(["--target", &self.toolchain.host, "--target-dir", BUILD_FOLDER, target].map(String::from));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(root());
        let ended = process::supervise(&mut command, BUILD_LIMIT, &self.interrupt)?;
        ensure!(!self.interrupt.is_set(), "interrupted while building: nothing was fuzzed");
        ensure!(
            ended.status.success(),
            "fuzz target `{target}` cannot be built (see above): `{}`",
            shell_words::join(&words)
        );
        Ok(())
    }

    /// Searches with a defect that the environment asks for; a target that does not find it, from nothing, has shown
    /// nothing by what else it does not find. Returns whether it was found.
    fn canary(&self, report: &mut Report) -> Result<bool> {
        if self.interrupt.is_set() {
            return Ok(true);
        }
        eprintln!("\n==> {}: looking for the canary", report.target);
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let mut options = libfuzzer::search_options(CANARY_TIME, 1);
        options.extend(root().join(DICTIONARY).exists().then(|| format!("-dict={DICTIONARY}")));
        let mut command = self.command(&report.target, &folder.path().display().to_string());
        command.args(options).env(CANARY, "1");
        let mut progress = Progress::default();
        let ended = process::supervise_lines(&mut command, CANARY_TIME + OVERTIME, &self.interrupt, |line| {
            progress.take(line);
        })?;
        let verdict = judge(ended, &progress);
        if matches!(verdict, Verdict::Found(_)) {
            eprintln!("found after {} executions", progress.executions);
            return Ok(true);
        }
        if verdict != Verdict::Interrupted {
            let seconds = CANARY_TIME.as_secs();
            report.verdict = Verdict::Failed(format!("its canary was not found in {seconds} s: {verdict}"));
        }
        Ok(false)
    }

    /// Executes the committed inputs. Returns whether a search makes sense: it would start with the same inputs.
    fn replay(&self, report: &mut Report) -> Result<bool> {
        let inputs = committed_inputs(&report.target)?;
        if inputs.is_empty() || self.interrupt.is_set() {
            return Ok(true);
        }
        eprintln!("\n==> {}: replaying {} committed inputs", report.target, inputs.len());
        let folders = committed_folders(&report.target);
        let options = libfuzzer::replay_options();
        let (ended, progress) = self.execute(&report.target, options, &folders, REPLAY_LIMIT)?;
        let verdict = judge(ended, &progress);
        report.replayed = inputs.len();
        if verdict != Verdict::Passed {
            report.finds = self.finds(&report.target, &progress, &inputs)?;
            report.verdict = in_replay(verdict);
            return Ok(false);
        }
        Ok(true)
    }

    fn search(&self, report: &mut Report, time: Duration) -> Result<()> {
        eprintln!("\n==> {}: fuzzing for {}", report.target, humantime::format_duration(time));
        let own = format!("fuzz/corpus/{}", report.target);
        fs::create_dir_all(root().join(&own)).with_context(|| format!("cannot create {own}"))?;
        let before = files(&root().join(&own))?.len();

        let mut options = libfuzzer::search_options(time, self.jobs);
        options.extend(root().join(DICTIONARY).exists().then(|| format!("-dict={DICTIONARY}")));
        // libFuzzer adds new inputs to the folder that is named first.
        let folders = [vec![own.clone()], committed_folders(&report.target)].concat();
        let start = Instant::now();
        let (ended, progress) = self.execute(&report.target, options, &folders, time + OVERTIME)?;
        report.took = start.elapsed();
        report.verdict = judge(ended, &progress);
        report.finds = self.finds(&report.target, &progress, &[])?;
        report.progress = progress;
        report.new_inputs = files(&root().join(&own))?.len().saturating_sub(before);
        Ok(())
    }

    fn execute(
        &self,
        target: &str,
        options: Vec<String>,
        folders: &[String],
        limit: Duration,
    ) -> Result<(Ended, Progress)> {
        let artifacts = format!("fuzz/artifacts/{target}");
        fs::create_dir_all(root().join(&artifacts)).with_context(|| format!("cannot create {artifacts}"))?;
        let mut command = self.command(target, &artifacts);
        command.args(options).args(folders);
        let mut progress = Progress::default();
        let ended = process::supervise_lines(&mut command, limit, &self.interrupt, |line| {
            progress.take(line);
            if !libfuzzer::is_chatter(line) {
                eprintln!("{line}");
            }
        })?;
        Ok((ended, progress))
    }

    fn command(&self, target: &str, artifacts: &str) -> Command {
        let binary = root().join(BUILD_FOLDER).join(&self.toolchain.host).join("release").join(target);
        let mut command = Command::new(binary);
        command
            .args(libfuzzer::common_options(artifacts))
            .env("ASAN_OPTIONS", "detect_odr_violation=0") // as cargo-fuzz sets it
            .current_dir(root());
        command
    }

    fn finds(&self, target: &str, progress: &Progress, committed: &[PathBuf]) -> Result<Vec<Find>> {
        let find = |artifact: &PathBuf| {
            let mut words = self.toolchain.cargo_fuzz("run");
            words.extend([target.to_owned(), artifact.display().to_string()]);
            Ok(Find {
                artifact: artifact.clone(),
                committed: same_content(artifact, committed)?,
                reproduce: shell_words::join(words),
            })
        };
        progress.artifacts.iter().map(find).collect()
    }
}

fn judge(ended: Ended, progress: &Progress) -> Verdict {
    let ending = libfuzzer::ending(ended.status, progress);
    match (ended.stop, ending) {
        (_, Ending::Found(what)) if ended.stop.is_none() || !progress.artifacts.is_empty() => Verdict::Found(what),
        (Some(Stop::OutOfTime), _) => Verdict::Failed("did not end in time".to_owned()),
        (Some(Stop::Interrupted), _) if progress.executions > 0 => Verdict::Interrupted,
        (Some(Stop::Interrupted), _) => Verdict::Failed("interrupted before the first input".to_owned()),
        (None, Ending::Broken(why)) => Verdict::Failed(why),
        (None, _) => Verdict::Passed,
    }
}

/// A replay that is cut short has not shown that the committed corpus passes.
fn in_replay(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Found(what) => Verdict::Found(format!("{what} in replay")),
        Verdict::Failed(why) => Verdict::Failed(format!("{why} in replay")),
        Verdict::Interrupted => Verdict::Failed("interrupted in replay".to_owned()),
        Verdict::Passed => Verdict::Passed,
    }
}

/// The folders of committed inputs for a target, as far as there are any: libFuzzer refuses missing ones.
fn committed_folders(target: &str) -> Vec<String> {
    let folders = [format!("corpus/{target}"), "corpus/rules".to_owned(), "corpus/regressions".to_owned()];
    folders.into_iter().filter(|folder| root().join(folder).is_dir()).collect()
}

fn committed_inputs(target: &str) -> Result<Vec<PathBuf>> {
    let mut inputs = Vec::new();
    for folder in committed_folders(target) {
        inputs.extend(files(&root().join(folder))?);
    }
    Ok(inputs)
}

/// All files below a folder, as libFuzzer reads them.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The committed input that an artifact repeats: its name says more than the hash that libFuzzer names artifacts by.
fn same_content(artifact: &Path, committed: &[PathBuf]) -> Result<Option<PathBuf>> {
    let path = root().join(artifact);
    let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let same = committed.iter().find(|path| fs::read(path).is_ok_and(|other| other == content));
    Ok(same.map(|path| path.strip_prefix(root()).unwrap_or(path).to_path_buf()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().copied().map(String::from).collect()
    }

    #[test]
    fn times_are_parsed() {
        assert_eq!(humantime::parse_duration("60s").unwrap(), Duration::from_secs(60));
        assert_eq!(humantime::parse_duration("2m").unwrap(), Duration::from_secs(120));
        assert_eq!(humantime::parse_duration("1h 5m").unwrap(), Duration::from_secs(3900));
        assert!(humantime::parse_duration("60").is_err());
        assert!(humantime::parse_duration("-1s").is_err());
    }

    #[test]
    fn time_is_divided_without_loss() {
        let shares = divide(Duration::from_secs(20), 3).unwrap();
        assert_eq!(shares, [7, 7, 6].map(Duration::from_secs));
        assert!(divide(Duration::from_millis(2900), 3).is_err());
    }

    #[test]
    fn targets_are_read_from_the_manifest() {
        let manifest = "[[bin]]\nname = \"memory\"\npath = \"a.rs\"\n[[bin]]\nname = \"sqlite\"\n";
        assert_eq!(declared_targets(manifest).unwrap(), names(&["memory", "sqlite"]));
        assert!(declared_targets("[package]\n").is_err());
        assert!(declared_targets("[[bin\n").is_err());
    }

    #[test]
    fn targets_are_selected_by_name() {
        let declared = names(&["memory", "sqlite", "scenario_text"]);
        assert_eq!(select(&declared, &[]).unwrap(), declared);
        assert_eq!(select(&declared, &names(&["sqlite"])).unwrap(), names(&["sqlite"]));
        let message = select(&declared, &names(&["sqlight"])).unwrap_err().to_string();
        assert!(message.contains("sqlight") && message.contains("scenario_text"), "{message}");
    }

    #[test]
    fn an_interrupted_or_overdue_run_is_no_find_without_an_input() {
        let ran = Progress { executions: 1, ..Progress::default() };
        let killed = |stop| Ended { status: ExitStatus::from_raw(9), stop };
        assert!(matches!(judge(killed(None), &ran), Verdict::Found(_)));
        assert_eq!(judge(killed(Some(Stop::Interrupted)), &ran), Verdict::Interrupted);
        assert!(matches!(judge(killed(Some(Stop::Interrupted)), &Progress::default()), Verdict::Failed(_)));
        assert!(matches!(judge(killed(Some(Stop::OutOfTime)), &ran), Verdict::Failed(_)));
    }

    #[test]
    fn an_artifact_is_recognised_among_committed_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, content) in [("artifact", "b"), ("one", "a"), ("two", "b")] {
            fs::write(path(name), content).unwrap();
        }
        let committed = [path("one"), path("two")];
        assert_eq!(same_content(&path("artifact"), &committed).unwrap(), Some(path("two")));
        assert_eq!(same_content(&path("artifact"), &committed[..1]).unwrap(), None);
    }
}
