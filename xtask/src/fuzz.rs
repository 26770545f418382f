//! `cargo xtask fuzz`: every fuzz target, on the committed corpus first, then on inputs that libFuzzer makes up.
//!
//! Before that, each target must find its canary, a defect that is there when the environment asks for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::fuzzer::{self, Fuzzer};
use crate::libfuzzer::{self, Ending, Progress};
use crate::process::{self, Ended, Interrupt, Stop};
use crate::summary::{self, Find, Report, Verdict};
use crate::targets::{self, Target, files};
use crate::toolchain::Toolchain;
use crate::{junit, root};

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
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    time: Duration,

    /// How long to search with each target, instead
    #[arg(long, value_name = "TIME", conflicts_with = "time", value_parser = time)]
    each: Option<Duration>,

    /// Only these targets, separated by commas [default: all in fuzz/Cargo.toml]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    target: Vec<String>,

    /// Without the sanitizer, and guided by the allocator's code only: many times as many executions; not for targets
    /// that put the harness to the test
    #[arg(long)]
    fast: bool,

    /// Processes that fuzz a target at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,

    /// Toolchain to build with, such as stable or nightly-2026-01-31 [default: nightly if installed]
    #[arg(long, value_name = "NAME")]
    toolchain: Option<String>,
}

/// In its environment, a target has a defect: see `harness/src/engine/canary.rs`.
const CANARY: &str = "POOLPROOF_CANARY";
/// A canary is found within seconds.
const CANARY_TIME: Duration = Duration::from_secs(60);
/// Executing the committed corpus takes seconds; this only keeps a stuck one from holding up a CI machine for a day.
const REPLAY_LIMIT: Duration = Duration::from_secs(10 * 60);
/// A search ends itself; one that did not by this much later never will. Covers loading a large corpus, and one hang
/// on top, which libFuzzer notices at twice its time limit at the latest.
const OVERTIME: Duration = Duration::from_secs(60 + 2 * libfuzzer::INPUT_TIMEOUT.as_secs());

/// From a second, the only unit that libFuzzer knows, to thirty days.
fn time(text: &str) -> Result<Duration, String> {
    const LONGEST: u64 = 30 * 24 * 60 * 60;
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match time.as_secs() {
        0 => Err("a search takes a second at least".to_owned()),
        1..=LONGEST => Ok(time),
        _ => Err("a search takes thirty days at most".to_owned()),
    }
}

/// With JUnit's XML in this file, if one is named.
pub(crate) fn run(arguments: &Arguments, junit: Option<&Path>) -> Result<ExitCode> {
    let targets = chosen(arguments)?;
    let all = arguments.each.map_or(arguments.time, |each| each * targets.len() as u32);
    let times = divide(all, targets.len())?;
    let toolchain = Toolchain::for_fuzzing(arguments.toolchain.as_deref())?;
    let built = if arguments.fast { fuzzer::FAST } else { fuzzer::SANITIZED };
    let fuzzer = Fuzzer::new(built, toolchain, Interrupt::install()?)?;
    let campaign = Campaign { fuzzer, jobs: arguments.jobs };
    let mut reports: Vec<_> = targets.iter().map(|target| Report::new(&target.name)).collect();
    campaign.run(&targets, &times, &mut reports)?;
    println!("\n{}{}", summary::table(&reports), summary::finds(&reports));
    if let Some(file) = junit {
        junit::write(&reports, file)?;
    }
    Ok(ExitCode::from(summary::exit_status(&reports)))
}

/// The targets asked for, or all that can be fuzzed in the way asked for.
fn chosen(arguments: &Arguments) -> Result<Vec<Target>> {
    let mut targets = targets::chosen(&arguments.target)?;
    if let Some(target) = targets.iter().find(|target| arguments.fast && target.tests_harness) {
        ensure!(
            arguments.target.is_empty(),
            "`{}` puts the harness to the test, which --fast does not watch: leave out one of them",
            target.name
        );
        targets.retain(|target| !target.tests_harness);
    }
    Ok(targets)
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

/// Fuzzes targets, all in one way.
struct Campaign {
    fuzzer: Fuzzer,
    jobs: u32,
}

impl Campaign {
    /// Each target for its time. What goes wrong with one is in its report, and does not stop the others.
    fn run(&self, targets: &[Target], times: &[Duration], reports: &mut [Report]) -> Result<()> {
        let names: Vec<_> = targets.iter().map(|target| &*target.name).collect();
        eprintln!("==> building {} with {}", names.join(", "), self.fuzzer.describe());
        let mut sound = Vec::new();
        for (target, report) in targets.iter().zip(reports.iter_mut()) {
            sound.push(self.build(target, report)?);
        }
        for ((target, report), sound) in targets.iter().zip(reports.iter_mut()).zip(&mut sound) {
            *sound = *sound && self.canary(target, report)? && self.replay(target, report)?;
        }
        for (((target, report), time), sound) in targets.iter().zip(reports).zip(times).zip(sound) {
            if sound && !self.fuzzer.interrupt.is_set() {
                self.search(target, report, *time)?;
            }
        }
        Ok(())
    }

    /// Builds a target. Returns whether it could be built; its report says why not.
    fn build(&self, target: &Target, report: &mut Report) -> Result<bool> {
        let built = self.fuzzer.build(&target.name);
        ensure!(!self.fuzzer.interrupt.is_set(), "interrupted while building");
        if let Err(error) = &built {
            report.verdict = Verdict::Failed(format!("{error:#}"));
        }
        Ok(built.is_ok())
    }

    /// Searches with a defect that the environment asks for; a target that does not find it, from nothing but its seeds, has
    /// shown nothing by what else it does not find. Returns whether it was found.
    fn canary(&self, target: &Target, report: &mut Report) -> Result<bool> {
        if self.fuzzer.interrupt.is_set() {
            return Ok(true);
        }
        eprintln!("\n==> {}: looking for the canary", target.name);
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let mut options = libfuzzer::search_options(CANARY_TIME, 1);
        options.extend(libfuzzer::dictionary_option(target));
        let mut command = self.fuzzer.command(&target.name, &folder.path().display().to_string());
        // Where bytes are the subject, seeds say what they mean; scenarios are drawn. What is new goes into the folder named first.
        let collected = folder.path().join("collected");
        fs::create_dir(&collected).context("cannot make a temporary folder")?;
        let seeds =
            Some(root().join(target.committed_folder())).filter(|seeds| !target.takes_scenarios && seeds.is_dir());
        command.args(options).arg(collected).args(seeds).env(CANARY, "1");
        let mut progress = Progress::default();
        let ended = process::supervise_lines(&mut command, CANARY_TIME + OVERTIME, &self.fuzzer.interrupt, |line| {
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
    fn replay(&self, target: &Target, report: &mut Report) -> Result<bool> {
        let inputs = target.committed_inputs()?;
        if inputs.is_empty() || self.fuzzer.interrupt.is_set() {
            return Ok(true);
        }
        eprintln!("\n==> {}: replaying {} committed inputs", target.name, inputs.len());
        let options = libfuzzer::replay_options();
        let (ended, progress) = self.execute(target, options, &target.committed_folders(), REPLAY_LIMIT)?;
        let verdict = judge(ended, &progress);
        report.replayed = inputs.len();
        if verdict != Verdict::Passed {
            report.finds = self.finds(target, &progress, &inputs)?;
            report.verdict = in_replay(verdict);
            return Ok(false);
        }
        Ok(true)
    }

    fn search(&self, target: &Target, report: &mut Report, time: Duration) -> Result<()> {
        eprintln!("\n==> {}: fuzzing for {}", target.name, humantime::format_duration(time));
        let own = target.own_folder();
        fs::create_dir_all(root().join(&own)).with_context(|| format!("cannot create {own}"))?;
        let before = files(&root().join(&own))?.len();

        let mut options = libfuzzer::search_options(time, self.jobs);
        options.extend(libfuzzer::dictionary_option(target));
        // libFuzzer adds new inputs to the folder that is named first.
        let folders = [vec![own.clone()], target.committed_folders()].concat();
        let start = Instant::now();
        let limit = time + OVERTIME + libfuzzer::overtime(self.jobs);
        let (ended, progress) = self.execute(target, options, &folders, limit)?;
        report.took = start.elapsed();
        report.verdict = judge(ended, &progress);
        report.finds = self.finds(target, &progress, &[])?;
        report.progress = progress;
        report.new_inputs = files(&root().join(&own))?.len().saturating_sub(before);
        Ok(())
    }

    fn execute(
        &self,
        target: &Target,
        options: Vec<String>,
        folders: &[String],
        limit: Duration,
    ) -> Result<(Ended, Progress)> {
        let artifacts = target.artifacts();
        fs::create_dir_all(root().join(&artifacts)).with_context(|| format!("cannot create {artifacts}"))?;
        let mut command = self.fuzzer.command(&target.name, &artifacts);
        command.args(options).args(folders);
        let mut progress = Progress::default();
        let ended = process::supervise_lines(&mut command, limit, &self.fuzzer.interrupt, |line| {
            progress.take(line);
            if !libfuzzer::is_chatter(line) {
                eprintln!("{line}");
            }
        })?;
        Ok((ended, progress))
    }

    fn finds(&self, target: &Target, progress: &Progress, committed: &[PathBuf]) -> Result<Vec<Find>> {
        let replay = |artifact: &PathBuf| {
            let words = ["poolproof", "replay", &artifact.display().to_string(), "--sut", progress.broken.as_ref()?];
            Some(shell_words::join(words))
        };
        let find = |artifact: &PathBuf| {
            Ok(Find {
                artifact: artifact.clone(),
                committed: same_content(artifact, committed)?,
                reproduce: self.fuzzer.reproduce(&target.name, &artifact.display().to_string()),
                replay: replay(artifact),
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

    #[test]
    fn times_are_parsed() {
        assert_eq!(time("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(time("1h 5m"), Ok(Duration::from_secs(3900)));
        assert_eq!(time("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for wrong in ["60", "-1s", "0s", "100ms", "31d", "400000000000y"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn time_is_divided_without_loss() {
        let shares = divide(Duration::from_secs(20), 3).unwrap();
        assert_eq!(shares, [7, 7, 6].map(Duration::from_secs));
        assert!(divide(Duration::from_millis(2900), 3).is_err());
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
