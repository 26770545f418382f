//! `cargo xtask corpus`: the life of the committed inputs.
//!
//! People keep `corpus/rules`, `regressions`, `lanes` and `faults`: each file there has a name and a reason. What fuzzers found
//! is in `corpus/TARGET`, and is as little as reaches the same code. libFuzzer chooses: of inputs that reach the same, the
//! smallest.
//!
//! Reaching a line of code counts here, not how often, nor in which state of the model. What guides a fuzzer may be large and
//! stays on the machines that fuzz, in `fuzz/corpus`; what is committed is read by people and replayed with every change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;

use crate::fuzzer::{self, Fuzzer};
use crate::process::{self, Ended, Interrupt};
use crate::targets::{self, Target, files};
use crate::toolchain::Toolchain;
use crate::{FOUND, root, summary};

/// Keep the committed corpus small: take in what fuzzers found, drop what adds nothing
///
/// Exit status: 0 all is well, 1 the corpus is larger than 2 MB or `minimize --check` found something to drop, 2 a target could not run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take from fuzz/corpus/TARGET, or another folder, into corpus/TARGET what reaches new code; then minimize
    Merge {
        #[command(flatten)]
        selection: Selection,
        /// A folder with a folder for each target, such as one that another machine collected [default: fuzz/corpus]
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// Drop from corpus/TARGET what reaches nothing that other committed inputs do not
    Minimize {
        #[command(flatten)]
        selection: Selection,
        /// Only say what would be dropped
        #[arg(long)]
        check: bool,
    },
    /// Count files and bytes
    Stats {
        #[command(flatten)]
        selection: Selection,
    },
    /// Print the folders of committed inputs for each target: the target, a tab, the folder
    Folders {
        #[command(flatten)]
        selection: Selection,
    },
}

#[derive(clap::Args)]
struct Selection {
    /// Only these targets, separated by commas [default: all in fuzz/Cargo.toml]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    target: Vec<String>,
}

/// The whole corpus is no larger.
const MOST_BYTES: u64 = 2 << 20;
/// Merging takes a minute or two; this only keeps a stuck one from holding up a CI machine for a day.
const MERGE_LIMIT: Duration = Duration::from_secs(60 * 60);
/// So much of a hash tells some hundred files apart.
const HASH_LENGTH: usize = 12;
/// What the name of a committed input begins with where libFuzzer merges.
const BASE: &str = "base-";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.command {
        Command::Merge { selection, from } => {
            let targets = targets::chosen(&selection.target)?;
            let from = from.as_deref().map(targets::there).transpose()?;
            let merger = Merger::new(&targets)?;
            for target in &targets {
                let found =
                    from.as_ref().map_or_else(|| root().join(target.own_folder()), |from| from.join(&target.name));
                let added = merger.merge(target, &found)?;
                let dropped = merger.minimize(target)?;
                println!("{}: {added} added, {} dropped", target.name, dropped.len());
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Minimize { selection, check } => minimize(&targets::chosen(&selection.target)?, *check),
        Command::Stats { selection } => stats(&targets::chosen(&selection.target)?),
        Command::Folders { selection } => {
            for target in targets::chosen(&selection.target)? {
                target.committed_folders().iter().for_each(|folder| println!("{}\t{folder}", target.name));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn minimize(targets: &[Target], check: bool) -> Result<ExitCode> {
    let merger = Merger::new(targets)?;
    let mut all = 0;
    for target in targets {
        let dropped = if check { merger.superfluous(target)? } else { merger.minimize(target)? };
        all += dropped.len();
        println!("{}: {} {}", target.name, dropped.len(), if check { "to drop" } else { "dropped" });
        dropped.iter().for_each(|path| println!("  {}", path.strip_prefix(root()).unwrap_or(path).display()));
    }
    Ok(if check && all > 0 { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

fn stats(targets: &[Target]) -> Result<ExitCode> {
    let mut folders: Vec<String> = targets.iter().flat_map(Target::kept_folders).collect();
    folders.extend(targets.iter().flat_map(|target| [target.committed_folder(), target.own_folder()]));
    folders.sort();
    folders.dedup();
    let mut rows = Vec::new();
    for folder in folders {
        let (count, bytes) = size(&root().join(&folder))?;
        rows.push([folder, count.to_string(), bytes.to_string()]);
    }
    println!("{}", summary::table_of(&["folder", "files", "bytes"], rows, 1..3));
    let (count, bytes) = size(&root().join("corpus"))?;
    println!("committed: {count} files, {bytes} bytes, at most {MOST_BYTES}");
    Ok(if bytes > MOST_BYTES { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

fn size(folder: &Path) -> Result<(usize, u64)> {
    let files = files(folder)?;
    let mut bytes = 0;
    for file in &files {
        bytes += fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    }
    Ok((files.len(), bytes))
}

/// How libFuzzer chooses among inputs that reach the same.
#[derive(Clone, Copy)]
enum Choice {
    /// As few as it finds, large or small.
    Few,
    /// From the smallest up, each that reaches something new: what drops nothing more is minimal.
    Small,
}

impl Choice {
    fn option(self) -> &'static str {
        match self {
            Choice::Few => "-set_cover_merge=1",
            Choice::Small => "-merge=1",
        }
    }
}

/// Has libFuzzer choose among inputs.
struct Merger(Fuzzer);

impl Merger {
    fn new(targets: &[Target]) -> Result<Self> {
        let fuzzer = Fuzzer::new(fuzzer::SANITIZED, Toolchain::for_fuzzing(None)?, Interrupt::install()?)?;
        targets.iter().try_for_each(|target| fuzzer.build(&target.name))?;
        Ok(Self(fuzzer))
    }

    /// Takes from a folder what reaches something that no committed input does. Says how many.
    fn merge(&self, target: &Target, from: &Path) -> Result<usize> {
        let chosen = self.choose(target, &target.committed_folders(), from, Choice::Few)?;
        let folder = root().join(target.committed_folder());
        let unable = || format!("cannot write into {}", folder.display());
        fs::create_dir_all(&folder).with_context(unable)?;
        for input in &chosen {
            fs::write(folder.join(committed_name(&input.hash)), &input.content).with_context(unable)?;
        }
        Ok(chosen.len())
    }

    /// Removes what the target's folder can do without. Says what that was.
    fn minimize(&self, target: &Target) -> Result<Vec<PathBuf>> {
        let mut dropped = self.not_chosen(target, Choice::Few)?;
        remove(&dropped)?;
        let more = self.superfluous(target)?;
        remove(&more)?;
        dropped.extend(more);
        Ok(dropped)
    }

    /// The inputs of the target's folder that reach nothing by themselves. Where threads are at work, a run does not always
    /// reach the same, so two have to say so.
    fn superfluous(&self, target: &Target) -> Result<Vec<PathBuf>> {
        let mut superfluous = self.not_chosen(target, Choice::Small)?;
        if !superfluous.is_empty() {
            let again = self.not_chosen(target, Choice::Small)?;
            superfluous.retain(|path| again.contains(path));
        }
        Ok(superfluous)
    }

    /// The inputs of the target's folder that are not chosen.
    fn not_chosen(&self, target: &Target, choice: Choice) -> Result<Vec<PathBuf>> {
        let folder = root().join(target.committed_folder());
        let mut chosen = self.choose(target, &target.kept_folders(), &folder, choice)?;
        let mut dropped = Vec::new();
        for path in files(&folder)? {
            let content = read(&path)?;
            // Of two files with the same content one is chosen.
            match chosen.iter().position(|input| input.content == content) {
                Some(place) => drop(chosen.swap_remove(place)),
                None => dropped.push(path),
            }
        }
        Ok(dropped)
    }

    /// Inputs of `from` that reach all that any of them does and nothing in `base`.
    fn choose(&self, target: &Target, base: &[String], from: &Path, choice: Choice) -> Result<Vec<Input>> {
        if files(from)?.is_empty() {
            return Ok(Vec::new());
        }
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        // libFuzzer adds to the folder that is named first what the others have beyond it.
        let merged = folder.path().join("merged");
        fs::create_dir(&merged).context("cannot make a temporary folder")?;
        let base = base.iter().map(|base| files(&root().join(base))).collect::<Result<Vec<_>>>()?.concat();
        for (number, path) in base.iter().enumerate() {
            let copy = merged.join(format!("{BASE}{number}"));
            fs::copy(path, copy).with_context(|| format!("cannot copy {}", path.display()))?;
        }
        self.add(target, &merged, from, choice)?;
        let mut chosen = Vec::new();
        for path in files(&merged)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with(BASE) {
                chosen.push(Input { hash: name.into_owned(), content: read(&path)? });
            }
        }
        Ok(chosen)
    }

    fn add(&self, target: &Target, merged: &Path, from: &Path, choice: Choice) -> Result<()> {
        let mut command = self.0.command(&target.name, &std::env::temp_dir().display().to_string());
        command.args([choice.option(), "-use_counters=0"]).arg(merged).arg(from).env("POOLPROOF_FEEDBACK", "off");
        let mut last = String::new();
        let Ended { status, .. } = process::supervise_lines(&mut command, MERGE_LIMIT, &self.0.interrupt, |line| {
            line.clone_into(&mut last);
        })?;
        ensure!(!self.0.interrupt.is_set(), "interrupted: the corpus of `{}` is as it was", target.name);
        ensure!(status.success(), "the inputs of `{}` cannot be merged: {last}", target.name);
        Ok(())
    }
}

/// What libFuzzer chose, and what it calls it.
struct Input {
    hash: String,
    content: Vec<u8>,
}

fn remove(paths: &[PathBuf]) -> Result<()> {
    paths.iter().try_for_each(|path| fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display())))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// What a chosen input is called in the corpus: as libFuzzer calls it, but shorter. Not `.scenario`, for which `poolproof replay`
/// looks in folders: each is for one target, and of the variants of an allocator for one.
fn committed_name(hash: &str) -> String {
    hash.chars().take(HASH_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_corpus_is_small() {
        let (files, bytes) = size(&root().join("corpus")).unwrap();
        assert!(files > 0 && bytes <= MOST_BYTES, "{files} files, {bytes} bytes");
    }
}
