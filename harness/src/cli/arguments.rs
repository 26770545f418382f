//! The command line, as clap reads it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use poolproof::generate::{Generator, Lanes};
use poolproof::property::Property;

/// Fuzzing and property testing for allocators of IP addresses and prefixes.
///
/// Exit codes: 0 every property held and everything was exercised; 1 a property is violated;
/// 2 cannot run; 3 unknown: nothing was violated, but something was never exercised.
#[derive(Debug, Parser)]
#[command(name = "poolproof", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Draw scenarios, run them on a system, judge every answer
    Check(Check),
    /// Try every scenario up to a depth over two tiny pools
    Exhaust(Exhaust),
    /// Strike with every fault at every step of I/O of given or drawn scenarios
    Crash(Crash),
    /// Run scenarios from files and folders, as written
    Replay(Replay),
    /// Make a failing scenario small
    Shrink(Shrink),
    /// Print each step with what the system answered and what the model allowed
    Explain(Explain),
    /// Run callers at the same time, in drawn scenarios or in each schedule of given ones, and judge what they saw
    Race(Race),
    /// Judge a recorded history of concurrent callers: is there an order that explains it?
    History(History),
    /// Be a system on a pipe: speak the protocol on standard input and output
    #[cfg(feature = "reference")]
    Serve(Serve),
    /// Put faulty allocators under test: each must be caught
    #[cfg(feature = "mutants")]
    Mutants(Mutants),
    /// List the systems that can be put under test
    Suts(List),
    /// List the properties, what each promises and which weakness it answers
    Properties(List),
}

/// What every command that runs a system takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The system under test: sqlite, sqlite:PATH, memory, simulated, 'stdio:COMMAND ARG…', cni:PLUGIN
    #[arg(long, default_value = "sqlite", value_name = "SUT")]
    pub(crate) sut: String,
    /// Form of the report; json is one object as the last line of stdout
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
    /// Write the report as JUnit's XML into this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
}

/// What every command that looks for violations takes: which count, and what becomes of them.
#[derive(Clone, Debug, Args)]
pub(crate) struct Finds {
    /// Only violations of these properties count
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = property)]
    pub(crate) property: Vec<Property>,
    /// Go on after a violation; each property is reported once
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Folder for counterexamples
    #[arg(long, value_name = "DIR", default_value = "counterexamples")]
    pub(crate) save: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people
    Human,
    /// One JSON object
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How long: 30s, 5m, 1h [default: 30s]
    #[arg(long, value_parser = time, conflicts_with = "runs", allow_hyphen_values = true)]
    pub(crate) time: Option<Duration>,
    /// How many scenarios, instead of a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) runs: Option<u64>,
    /// Decides everything that is drawn [default: another one each time; it is printed]
    #[arg(long, value_name = "S", value_parser = seed)]
    pub(crate) seed: Option<u64>,
    /// Steps a scenario, at most
    #[arg(long, value_name = "N", default_value_t = Generator::DEFAULT_MAX_STEPS as u64,
          value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) steps: u64,
    /// Draw from the first scenario on: leave out the tour, a few scenarios that are the same with every seed
    #[arg(long)]
    pub(crate) no_tour: bool,
    #[command(flatten)]
    pub(crate) finds: Finds,
}

#[derive(Debug, Args)]
pub(crate) struct Exhaust {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Steps a scenario, at most; each one more takes some ten times as long
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=32))]
    pub(crate) depth: u64,
    #[command(flatten)]
    pub(crate) finds: Finds,
}

#[derive(Debug, Args)]
pub(crate) struct Race {
    /// Scenario files with lanes, of which each schedule is tried where callers take turns; of folders, every *.scenario
    /// below [default: drawn ones]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) common: Common,
    /// Callers at the same time, at most, in drawn scenarios
    #[arg(long, value_name = "N", default_value_t = Lanes::DEFAULT as u64, value_parser = clap::value_parser!(u64).range(2..=16))]
    pub(crate) lanes: u64,
    /// Of given scenarios, schedules in which callers are interrupted so often at most; each one more takes many times as
    /// long
    #[arg(long, value_name = "N", default_value_t = 2, requires = "paths", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) interruptions: u32,
    /// At most so long: 30s, 5m, 1h [default: 30s for drawn scenarios, no limit for given ones]
    #[arg(long, value_parser = time, conflicts_with = "runs", allow_hyphen_values = true)]
    pub(crate) time: Option<Duration>,
    /// How many scenarios, or schedules of given ones, instead of a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) runs: Option<u64>,
    /// Decides everything that is drawn, but not which calls meet [default: another one each time; it is printed]
    #[arg(long, value_name = "S", value_parser = seed, conflicts_with = "paths")]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) finds: Finds,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// JSON lines, one event a line (README.md, "Histories"); - is standard input
    pub(crate) file: PathBuf,
    /// What is left to search through may take so long: 30s, 5m, 1h
    #[arg(long, value_parser = time, default_value = "20s", allow_hyphen_values = true)]
    pub(crate) time: Duration,
    /// Draw it into this file, too: one HTML page with a time line for each caller
    #[arg(long, value_name = "FILE")]
    pub(crate) picture: Option<PathBuf>,
    /// Write the verdict as JUnit's XML into this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Form of the report; json is one object as the last line of stdout
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

/// POOLPROOF_STATE_DIR names the folder of its state, as the protocol says: 'stdio:poolproof serve'.
#[cfg(feature = "reference")]
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The system: sqlite (several processes may serve one folder), memory, mutant:ID
    #[arg(long, default_value = "sqlite", value_name = "SUT")]
    pub(crate) sut: String,
}

/// `sqlite` is put on a simulated disk: it is `simulated` here.
#[derive(Debug, Args)]
pub(crate) struct Crash {
    /// Scenario files, each step of which is struck, whatever is found before; of folders, every *.scenario below
    /// [default: drawn ones]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) common: Common,
    /// At most so long: 30s, 5m, 1h [default: 30s for drawn scenarios, no limit for given ones]
    #[arg(long, value_parser = time, allow_hyphen_values = true)]
    pub(crate) time: Option<Duration>,
    /// How many scenarios to draw, instead of a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["time", "paths"])]
    pub(crate) runs: Option<u64>,
    /// How many runs, with a fault and without one, instead of a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["time", "runs"])]
    pub(crate) executions: Option<u64>,
    /// Decides everything that is drawn [default: another one each time; it is printed]
    #[arg(long, value_name = "S", value_parser = seed)]
    pub(crate) seed: Option<u64>,
    /// Steps a drawn scenario, at most
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) steps: u64,
    /// Draw from the first scenario on: leave out the tour, a few scenarios that are the same with every seed
    #[arg(long)]
    pub(crate) no_tour: bool,
    #[command(flatten)]
    pub(crate) finds: Finds,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Scenario files; of folders, every *.scenario below
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Shrink {
    /// A scenario that fails
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Write the small scenario into this file [default: only print it]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// A scenario
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[cfg(feature = "mutants")]
#[derive(Debug, Args)]
pub(crate) struct Mutants {
    /// Only these
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Scenarios that each may take
    #[arg(long, value_name = "EXECUTIONS", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) budget: u64,
    /// How many seeds, from the first one on
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) seeds: u64,
    /// The first seed
    #[arg(long, value_name = "S", default_value = "1", value_parser = seed)]
    pub(crate) seed: u64,
    /// Draw from the first scenario on: leave out the tour, a few scenarios that are the same with every seed
    #[arg(long)]
    pub(crate) no_tour: bool,
    /// Their defects are mended: now none may be caught
    #[arg(long)]
    pub(crate) mended: bool,
    /// List them, and run none
    #[arg(long)]
    pub(crate) list: bool,
    /// Write what became of each as JUnit's XML into this file, too
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    pub(crate) junit: Option<PathBuf>,
    /// Form of the table
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Form of the list
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 30s, 5m or 1h"))?;
    if time.is_zero() { Err("the time must be longer than nothing".to_owned()) } else { Ok(time) }
}

fn seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("{error}; a seed is a whole number below 2^64, decimal or 0x…"))
}

fn property(name: &str) -> Result<Property, String> {
    let unknown = || "there is no such property; `poolproof properties` lists them".to_owned();
    Property::from_name(name).ok_or_else(unknown)
}
