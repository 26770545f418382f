//! `cargo xtask bench`: the measurements in `harness/benches` and `allocator/benches`, which say themselves what they measure.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::{FOUND, root};

/// Run the benchmarks
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Arguments for `cargo bench`, such as `--bench NAME`, one of figures, outside, memory and sqlite
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    rest: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let status = Command::new("cargo")
        .args(["bench", "-p", "poolproof", "-p", "poolproof-allocator"])
        .args(&arguments.rest)
        .current_dir(root())
        .status()
        .context("cannot start cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}
