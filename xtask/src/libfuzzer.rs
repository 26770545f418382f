//! libFuzzer's side of things: the options it is given, what it writes on standard error, how it ends.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::targets::Target;

/// One input may take this long before it counts as a hang. A scenario of full length takes milliseconds.
pub(crate) const INPUT_TIMEOUT: Duration = Duration::from_secs(10);
/// Far above what the targets need under the address sanitizer, and below what small CI machines have.
const RSS_LIMIT_MB: u32 = 2048;
/// How our targets are best searched.
///
/// Inputs have room for scenarios of some 120 steps, libFuzzer's own length: longer ones find little that shorter ones do not, in
/// shorter ones each step has a larger share of what every input costs. They are as long as they are drawn, not longer and longer
/// in the course of time.
///
/// libFuzzer's own bookkeeping would be most of the time. So inputs are not weighed by how rare their features are, a feature is
/// that code is reached, not how often, and shorter inputs that reach the same do not take the places of longer ones.
pub(crate) const OPTIONS: [(&str, &str); 5] =
    [("max_len", "4096"), ("len_control", "0"), ("entropic", "0"), ("use_counters", "0"), ("reduce_inputs", "0")];

/// Options of every run.
pub(crate) fn common_options(artifacts: &str) -> Vec<String> {
    vec![
        format!("-timeout={}", INPUT_TIMEOUT.as_secs()),
        format!("-rss_limit_mb={RSS_LIMIT_MB}"),
        format!("-artifact_prefix={artifacts}/"),
        "-print_final_stats=1".to_owned(),
    ]
}

/// Options that execute the inputs at hand and add none. Without a maximal length, which would cut long ones short.
pub(crate) fn replay_options() -> Vec<String> {
    vec!["-runs=0".to_owned()]
}

/// Options that search for `time`.
pub(crate) fn search_options(time: Duration, jobs: u32) -> Vec<String> {
    let mut options = vec![time_option(time)];
    options.extend(OPTIONS.map(|(name, value)| format!("-{name}={value}")));
    // More than one job means subprocesses that share a corpus, in a format of their own.
    if jobs > 1 {
        // A fork passes over hangs and over what takes too much memory, unless it is told not to.
        options.extend([format!("-fork={jobs}"), "-ignore_timeouts=0".to_owned(), "-ignore_ooms=0".to_owned()]);
    }
    options
}

/// How much later than asked a search may end, besides what its last input takes: a fork waits for one of its jobs, which take
/// longer from one to the next, up to five minutes.
pub(crate) fn overtime(jobs: u32) -> Duration {
    if jobs > 1 { Duration::from_secs(300) } else { Duration::ZERO }
}

/// What a target writes before the reason why it cannot go on, which is no find.
const CANNOT_GO_ON: &str = "poolproof: cannot go on: ";

/// Whole seconds only, and 0 would mean forever.
pub(crate) fn time_option(time: Duration) -> String {
    format!("-max_total_time={}", time.as_secs().max(1))
}

/// The target's words, where there is a list of them.
pub(crate) fn dictionary_option(target: &Target) -> Option<String> {
    target.dictionary().map(|path| format!("-dict={path}"))
}

/// What a run has told so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    pub(crate) executions: u64,
    /// Edges covered, which libFuzzer calls `cov`.
    pub(crate) edges: u64,
    /// Edges told apart by how often they were taken, and compared values: libFuzzer's `ft`.
    pub(crate) features: u64,
    /// Steps of a scenario, where the target says so at its end.
    pub(crate) mean_steps: u64,
    /// Inputs that ended a run, as files.
    pub(crate) artifacts: Vec<PathBuf>,
    /// The system that a scenario broke, as `--sut` takes it.
    pub(crate) broken: Option<String>,
    /// Why the target could not go on, if it said so.
    pub(crate) unable: Option<String>,
}

/// A line of progress: `#123 DONE cov: 4 ft: 5 corp: 6/7b …`, or with `-fork`, `#123: cov: 4 ft: 5 corp: 6 …`.
#[derive(Debug, Default, PartialEq)]
struct Pulse<'a> {
    executions: u64,
    event: &'a str,
    edges: u64,
    features: u64,
}

impl Progress {
    /// Counts never fall: with `-fork`, the log of one crashed job follows the totals.
    pub(crate) fn take(&mut self, line: &str) {
        if let Some(pulse) = parse_pulse(line) {
            self.executions = self.executions.max(pulse.executions);
            self.edges = self.edges.max(pulse.edges);
            self.features = self.features.max(pulse.features);
        } else if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            let count = count.trim().parse().unwrap_or(0);
            self.executions = self.executions.max(count);
        } else if let Some(count) = line.strip_prefix("stat::mean_steps:") {
            self.mean_steps = count.trim().parse().unwrap_or(0);
        } else if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.take_artifact(path.trim());
        } else if let Some(system) = line.strip_prefix("on ").and_then(|rest| rest.strip_suffix(" in")) {
            // Between what is violated and the scenario.
            self.broken.get_or_insert(system.to_owned());
        } else if let Some(why) = line.strip_prefix(CANNOT_GO_ON) {
            self.unable.get_or_insert(why.to_owned());
        }
    }

    /// Merely slow inputs are written as well, but do not end a run.
    fn take_artifact(&mut self, path: &str) {
        let path = PathBuf::from(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("slow-unit-") && !self.artifacts.contains(&path) {
            self.artifacts.push(path);
        }
    }
}

/// Whether a line is one of the many that announce a new input: of no use to a reader.
pub(crate) fn is_chatter(line: &str) -> bool {
    parse_pulse(line).is_some_and(|pulse| matches!(pulse.event, "NEW" | "REDUCE" | "RELOAD"))
}

fn parse_pulse(line: &str) -> Option<Pulse<'_>> {
    let mut words = line.strip_prefix('#')?.split_ascii_whitespace();
    let count = words.next()?;
    let forked = count.strip_suffix(':');
    let mut pulse = Pulse { executions: forked.unwrap_or(count).parse().ok()?, ..Pulse::default() };
    if forked.is_none() {
        pulse.event = words.next()?;
    }
    // What is zero is left out by libFuzzer, so each value is looked for by its name.
    while let Some(word) = words.next() {
        match word {
            "cov:" => pulse.edges = words.next()?.parse().ok()?,
            "ft:" => pulse.features = words.next()?.parse().ok()?,
            _ => {}
        }
    }
    Some(pulse)
}

/// How a run came to its end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ending {
    /// By itself, without a find.
    Finished,
    /// At an input that crashes, hangs, leaks or uses too much memory: says which.
    Found(String),
    /// For a reason that is not an input's.
    Broken(String),
}

/// Tells a find from a run that went wrong. `progress` is all that the run wrote.
pub(crate) fn ending(status: ExitStatus, progress: &Progress) -> Ending {
    if let Some(why) = &progress.unable {
        return Ending::Broken(format!("cannot go on: {why}"));
    }
    if let Some(artifact) = progress.artifacts.first() {
        let name = artifact.file_name().unwrap_or_default().to_string_lossy();
        let kind = name.split('-').next().unwrap_or_default();
        return Ending::Found(kind.to_owned());
    }
    // With `-fork` a job's signal comes as a shell reports it.
    let signal = status.signal().or(status.code().filter(|code| *code > 128).map(|code| code - 128));
    match signal {
        // Without a sanitizer libFuzzer has no stack left to save the input on when the target overflows it.
        Some(signal) => Ending::Found(format!("killed by signal {signal}, input not saved")),
        None if status.success() && progress.executions == 0 => Ending::Broken("executed nothing".to_owned()),
        None if status.success() => Ending::Finished,
        None => Ending::Broken(format!("{status}, see its output above")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: &str) -> Progress {
        let mut progress = Progress::default();
        log.lines().for_each(|line| progress.take(line));
        progress
    }

    fn exited(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn pulses_are_parsed() {
        let line = "#4193510\tDONE   cov: 19 ft: 49 corp: 21/389b lim: 4096 exec/s: 1048377 rss: 27Mb";
        let pulse = Pulse { executions: 4_193_510, event: "DONE", edges: 19, features: 49 };
        assert_eq!(parse_pulse(line), Some(pulse));
    }

    #[test]
    fn pulses_of_forked_jobs_are_parsed() {
        let line = "#1472266: cov: 24 ft: 55 corp: 20 exec/s: 736133 oom/timeout/crash: 0/0/0 time: 2s job: 1";
        let pulse = Pulse { executions: 1_472_266, event: "", edges: 24, features: 55 };
        assert_eq!(parse_pulse(line), Some(pulse));
    }

    #[test]
    fn pulses_may_lack_coverage() {
        let pulse = Pulse { executions: 2, event: "INITED", ..Pulse::default() };
        assert_eq!(parse_pulse("#2\tINITED exec/s: 0 rss: 27Mb"), Some(pulse));
    }

    #[test]
    fn other_lines_are_no_pulses() {
        let lines =
            ["", "#", "#x", "#12", "###### Recommended dictionary. ######", "    #0 0x55d in main", "#1 a cov:"];
        for line in lines {
            assert_eq!(parse_pulse(line), None, "{line:?}");
        }
    }

    #[test]
    fn only_new_inputs_are_chatter() {
        assert!(is_chatter("#7874\tNEW    cov: 19 ft: 46 corp: 20/252b lim: 58 exec/s: 0 rss: 27Mb L: 50/50 MS: 1"));
        assert!(!is_chatter("#2097152\tpulse  cov: 19 ft: 49 corp: 21/391b"));
        assert!(!is_chatter("NEW"));
    }

    #[test]
    fn a_crash_keeps_the_highest_counts_and_its_artifact() {
        let progress = read(
            "#900: cov: 24 ft: 55 corp: 20 exec/s: 736133\n\
             #3\tNEW    cov: 12 ft: 13 corp: 2/3b lim: 4 exec/s: 0 rss: 74Mb\n\
             on memory?strategy=next in\n\
             artifact_prefix='a/'; Test unit written to a/slow-unit-1\n\
             artifact_prefix='a/'; Test unit written to a/crash-c315\n\
             artifact_prefix='a/'; Test unit written to a/crash-c315\n\
             stat::number_of_executed_units: 927\n\
             stat::mean_steps:               45\n",
        );
        let artifacts = vec![PathBuf::from("a/crash-c315")];
        let broken = Some("memory?strategy=next".to_owned());
        let counts = Progress { executions: 927, edges: 24, features: 55, mean_steps: 45, ..Progress::default() };
        let expected = Progress { artifacts, broken, ..counts };
        assert_eq!(progress, expected);
        assert_eq!(ending(exited(77), &progress), Ending::Found("crash".to_owned()));
        let unable = Progress { unable: Some("no folder".to_owned()), ..progress };
        assert_eq!(ending(exited(77), &unable), Ending::Broken("cannot go on: no folder".to_owned()));
    }

    #[test]
    fn endings_are_told_apart() {
        let ran = Progress { executions: 1, ..Progress::default() };
        assert_eq!(ending(exited(0), &ran), Ending::Finished);
        assert!(matches!(ending(exited(0), &Progress::default()), Ending::Broken(_)));
        assert!(matches!(ending(exited(1), &ran), Ending::Broken(_)));
        assert!(matches!(ending(exited(139), &ran), Ending::Found(_)));
        assert!(matches!(ending(ExitStatus::from_raw(11), &ran), Ending::Found(_)));
    }
}
