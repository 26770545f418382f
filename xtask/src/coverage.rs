//! `cargo xtask coverage`: how much of the allocator and of the model the committed corpus reaches.
//!
//! The fuzz targets are built as they are, only with rustc's source-based coverage (`-C instrument-coverage`) instead of
//! libFuzzer's, and each executes its committed inputs once. A region is a stretch of code without a branch in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process::{self, Ended, Interrupt};
use crate::targets::{self, Target};
use crate::toolchain::Toolchain;
use crate::{FOUND, root, summary};

/// Measure which code the committed corpus reaches
///
/// Writes a report as HTML into target/coverage/html and prints a table of the allocator and the model.
///
/// Exit status: 0 all is well, 1 less is reached than --at-least, 2 a target could not be built or run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Share of the regions of each part that is to be reached, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 95, value_parser = clap::value_parser!(u8).range(0..=100))]
    at_least: u8,

    /// Only these targets, separated by commas [default: all in fuzz/Cargo.toml]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    target: Vec<String>,

    /// A folder with a folder for each target, whose inputs are executed, too, such as fuzz/corpus
    #[arg(long, value_name = "DIR")]
    with: Option<PathBuf>,

    /// List the regions that are not reached: file, line, column
    #[arg(long)]
    missing: bool,

    /// Toolchain to build with, such as stable [default: nightly if installed]
    #[arg(long, value_name = "NAME")]
    toolchain: Option<String>,
}

/// What is measured: a name, and where its code lies.
const PARTS: [(&str, &str); 2] = [("allocator", "allocator/src/"), ("model", "harness/src/model/")];

const BUILD_FOLDER: &str = "target/coverage";
const PROFILES: &str = "target/coverage/profiles";
const REPORT: &str = "target/coverage/html";
/// Building and replaying take a minute or two; this only keeps a stuck one from holding up a CI machine for a day.
const LIMIT: Duration = Duration::from_secs(60 * 60);

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let targets = targets::chosen(&arguments.target)?;
    let with = arguments.with.as_deref().map(targets::there).transpose()?;
    let toolchain = Toolchain::for_fuzzing(arguments.toolchain.as_deref())?;
    let tools = Tools::of(&toolchain)?;
    let interrupt = Interrupt::install()?;
    build(&toolchain, &interrupt)?;
    let profiles = root().join(PROFILES);
    if profiles.exists() {
        fs::remove_dir_all(&profiles).with_context(|| format!("cannot empty {PROFILES}"))?;
    }
    for target in &targets {
        execute(target, with.as_deref(), &toolchain, &interrupt)?;
    }
    let binaries: Vec<PathBuf> = targets.iter().map(|target| binary(&toolchain, &target.name)).collect();
    let profile = tools.merge(&profiles)?;
    tools.page(&profile, &binaries)?;
    let parts = measured(&tools.export(&profile, &binaries)?)?;
    let rows = parts.iter().flat_map(rows);
    println!("{}", summary::table_of(&["code", "regions", "reached", "percent"], rows, 1..4));
    if arguments.missing {
        parts.iter().flat_map(|part| &part.missing).for_each(|place| println!("{place}"));
    }
    println!("report: {REPORT}/index.html");
    let is_enough = |part: &Part| part.total().percent() >= f64::from(arguments.at_least);
    Ok(if parts.iter().all(is_enough) { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

fn build(toolchain: &Toolchain, interrupt: &Interrupt) -> Result<()> {
    let mut command = toolchain.cargo();
    command.args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", &toolchain.host]);
    command.args(["--target-dir", BUILD_FOLDER]).env("RUSTFLAGS", "-C instrument-coverage").current_dir(root());
    let Ended { status, .. } = process::supervise(&mut command, LIMIT, interrupt)?;
    ensure!(!interrupt.is_set(), "interrupted while building");
    ensure!(status.success(), "the fuzz targets cannot be built with coverage, see above");
    Ok(())
}

fn binary(toolchain: &Toolchain, target: &str) -> PathBuf {
    root().join(BUILD_FOLDER).join(&toolchain.host).join("release").join(target)
}

/// Executes each input of a target once. Named one by one, as libFuzzer would look for its own coverage in folders.
fn execute(target: &Target, with: Option<&Path>, toolchain: &Toolchain, interrupt: &Interrupt) -> Result<()> {
    let mut inputs = target.committed_inputs()?;
    if let Some(folder) = with {
        inputs.extend(targets::files(&folder.join(&target.name))?);
    }
    eprintln!("==> {}: executing {} inputs", target.name, inputs.len());
    // A command line has room for some thousand names.
    for (number, inputs) in inputs.chunks(1000).enumerate() {
        let profile = root().join(PROFILES).join(format!("{}-{number}.profraw", target.name));
        let mut command = Command::new(binary(toolchain, &target.name));
        command.args(inputs).env("LLVM_PROFILE_FILE", profile).current_dir(root());
        let mut last = String::new();
        let ended = process::supervise_lines(&mut command, LIMIT, interrupt, |line| line.clone_into(&mut last))?;
        ensure!(!interrupt.is_set(), "interrupted: nothing was measured");
        ensure!(ended.status.success(), "`{}` fails on a committed input: {last}", target.name);
    }
    Ok(())
}

/// llvm-profdata and llvm-cov, of the LLVM that the compiler is made with: others do not read its files.
struct Tools {
    profdata: PathBuf,
    cov: PathBuf,
}

impl Tools {
    fn of(toolchain: &Toolchain) -> Result<Self> {
        let folder = toolchain.tools()?;
        if let Some(tools) = Self::among(|name| folder.join(name)) {
            return Ok(tools);
        }
        eprintln!("llvm-tools are missing: running `rustup component add llvm-tools`");
        let added = toolchain.add_component("llvm-tools");
        let version = toolchain.llvm;
        Self::among(|name| folder.join(name))
            .or_else(|| Self::among(|name| PathBuf::from(format!("{name}-{version}"))))
            .with_context(|| {
                format!(
                    "neither llvm-tools for this toolchain ({added}) nor llvm-cov-{version} in PATH: \
                     install one of them, such as Debian's package llvm-{version}"
                )
            })
    }

    fn among(place: impl Fn(&str) -> PathBuf) -> Option<Self> {
        let works = |name| Some(place(name)).filter(|path| process::succeeds(Command::new(path).arg("--version")));
        Some(Self { profdata: works("llvm-profdata")?, cov: works("llvm-cov")? })
    }

    fn merge(&self, profiles: &Path) -> Result<PathBuf> {
        let merged = profiles.join("merged.profdata");
        let raw: Vec<_> = targets::files(profiles)?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|end| end == "profraw"))
            .collect();
        output(Command::new(&self.profdata).args(["merge", "--sparse", "--output"]).arg(&merged).args(raw))?;
        Ok(merged)
    }

    fn page(&self, profile: &Path, binaries: &[PathBuf]) -> Result<()> {
        let mut command = self.on("show", profile, binaries);
        output(
            command.args(["--format=html", "--show-instantiations=false", "--output-dir"]).arg(root().join(REPORT)),
        )?;
        Ok(())
    }

    fn export(&self, profile: &Path, binaries: &[PathBuf]) -> Result<Value> {
        let text = output(self.on("export", profile, binaries).arg("--format=text"))?;
        serde_json::from_slice(&text).context("llvm-cov export did not write JSON")
    }

    fn on(&self, subcommand: &str, profile: &Path, binaries: &[PathBuf]) -> Command {
        let mut command = Command::new(&self.cov);
        command.arg(subcommand).arg(format!("--instr-profile={}", profile.display()));
        for (number, binary) in binaries.iter().enumerate() {
            command.args((number > 0).then_some("--object")).arg(binary);
        }
        command.args(PARTS.map(|(_, folder)| root().join(folder)));
        command
    }
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default());
    }
    Ok(output.stdout)
}

/// A part of the code, file by file.
struct Part {
    name: &'static str,
    files: BTreeMap<String, Count>,
    /// Where a region begins that is not reached.
    missing: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    regions: u64,
    reached: u64,
}

impl Count {
    fn percent(self) -> f64 {
        if self.regions == 0 { 0.0 } else { 100.0 * self.reached as f64 / self.regions as f64 }
    }
}

impl Part {
    fn total(&self) -> Count {
        let add = |sum: Count, file: &Count| Count {
            regions: sum.regions + file.regions,
            reached: sum.reached + file.reached,
        };
        self.files.values().fold(Count::default(), add)
    }
}

fn rows(part: &Part) -> Vec<[String; 4]> {
    let row = |name: String, count: Count| {
        [name, count.regions.to_string(), count.reached.to_string(), format!("{:.1}", count.percent())]
    };
    let files = part.files.iter().map(|(file, count)| row(format!("  {file}"), *count));
    std::iter::once(row(part.name.to_owned(), part.total())).chain(files).collect()
}

/// The parts in what `llvm-cov export` says. A region of a generic function counts once, however often it was compiled.
fn measured(export: &Value) -> Result<Vec<Part>> {
    let files = export["data"][0]["files"].as_array().context("llvm-cov export names no files")?;
    let mut parts = Vec::new();
    for (name, folder) in PARTS {
        let mut part = Part { name, files: BTreeMap::new(), missing: Vec::new() };
        for file in files {
            let path = Path::new(file["filename"].as_str().context("llvm-cov export names no file")?);
            let path = path.strip_prefix(root()).unwrap_or(path).display().to_string();
            let Some(short) = path.strip_prefix(folder) else { continue };
            let regions = &file["summary"]["regions"];
            let count = |key: &str| regions[key].as_u64().with_context(|| format!("llvm-cov export lacks {key}"));
            part.files.insert(short.to_owned(), Count { regions: count("count")?, reached: count("covered")? });
            part.missing.extend(unreached(file).map(|(line, column)| format!("{path}:{line}:{column}")));
        }
        ensure!(!part.files.is_empty(), "llvm-cov export has no file of {folder}");
        parts.push(part);
    }
    Ok(parts)
}

/// Where code begins that was not reached. A segment is `[line, column, count, has count, begins a region, is a gap]`.
fn unreached(file: &Value) -> impl Iterator<Item = (u64, u64)> {
    let segments = file["segments"].as_array().map_or(&[][..], Vec::as_slice);
    segments.iter().filter_map(|segment| {
        let is = |index: usize| segment[index].as_bool() == Some(true);
        let is_unreached = segment[2].as_u64() == Some(0) && is(3) && is(4) && !is(5);
        Some((segment[0].as_u64()?, segment[1].as_u64()?)).filter(|_| is_unreached)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn regions_are_counted_by_part_and_file() {
        let file = |name: &str, count: u64, covered: u64| {
            json!({
                "filename": root().join(name),
                "summary": { "regions": { "count": count, "covered": covered } },
                "segments": [[7, 5, 0, true, true, false], [8, 1, 3, true, true, false], [9, 1, 0, true, true, true]],
            })
        };
        let files = [
            file("allocator/src/a.rs", 10, 9),
            file("allocator/src/b/c.rs", 30, 30),
            file("harness/src/model/m.rs", 1, 0),
        ];
        let parts = measured(&json!({ "data": [{ "files": files }] })).unwrap();
        assert_eq!(parts[0].total(), Count { regions: 40, reached: 39 });
        assert_eq!(parts[0].files["b/c.rs"], Count { regions: 30, reached: 30 });
        assert_eq!(parts[0].missing, ["allocator/src/a.rs:7:5", "allocator/src/b/c.rs:7:5"]);
        assert_eq!(parts[1].total().percent(), 0.0);
        assert!(measured(&json!({ "data": [{ "files": [] }] })).is_err(), "nothing measured is no result");
    }
}
