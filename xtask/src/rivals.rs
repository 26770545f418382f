//! `cargo xtask rivals`: Poolproof beside other tools, on the mutants that all of them can express.
//!
//! The crate `rivals/` stays outside the workspace: nobody who uses Poolproof needs what is compared there.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::fuzzer::{self, Fuzzer};
use crate::process::Interrupt;
use crate::toolchain::Toolchain;
use crate::{CANNOT_RUN, root};

/// Compare with proptest, proptest-state-machine, hegel, bolero and libFuzzer
///
/// Writes rivals/RESULTS.md, rivals/plot.svg and rivals/results.json. Takes an hour or two on two cores with all
/// mutants and seeds.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Arguments for the comparison, such as `--seeds N`, `--budget N`, `--only MUTANT,…`, `--tools TOOL,…`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    rest: Vec<String>,
}

const BUILD_FOLDER: &str = "target/rivals";
const FUZZER: &str = "derive";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let fuzzer = Fuzzer::new(fuzzer::RIVAL, Toolchain::for_fuzzing(None)?, Interrupt::install()?)?;
    fuzzer.build(FUZZER)?;
    let cargo = |words: &str| words.split(' ').map(String::from).collect::<Vec<_>>();
    succeed(&cargo(&format!("cargo build --release -p poolproof --target-dir {BUILD_FOLDER}/own")))?;
    succeed(&cargo(&format!("cargo build --release --manifest-path rivals/Cargo.toml --target-dir {BUILD_FOLDER}")))?;

    let status = Command::new(root().join(BUILD_FOLDER).join("release/rivals"))
        .args(["compare", "--out", "rivals", "--poolproof", &format!("{BUILD_FOLDER}/own/release/poolproof")])
        .arg("--fuzzer")
        .arg(fuzzer.binary(FUZZER))
        .args(&arguments.rest)
        .current_dir(root())
        .status()
        .context("cannot start the comparison")?;
    // What is compared finds nothing wrong with us: it either ran or could not.
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::from(CANNOT_RUN) })
}

fn succeed(words: &[String]) -> Result<()> {
    let shown = shell_words::join(words);
    let status = Command::new(&words[0]).args(&words[1..]).current_dir(root()).status();
    ensure!(status.with_context(|| format!("cannot start `{shown}`"))?.success(), "`{shown}` failed, see above");
    Ok(())
}
