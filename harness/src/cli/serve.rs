//! The command `serve`: a system inside this process, for whoever speaks the protocol.

use std::env;
use std::io::{stdin, stdout};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use poolproof::property::Verdict;
use poolproof::sut::serve::serve;
use poolproof::sut::spec;

use super::arguments::Serve;

/// Names the folder of the system's durable state.
const STATE_DIR: &str = "POOLPROOF_STATE_DIR";

pub(super) fn run(arguments: &Serve) -> Result<Verdict> {
    let folder = env::var_os(STATE_DIR).map(PathBuf::from);
    let folder =
        folder.with_context(|| format!("{STATE_DIR} must name the folder that the system keeps its files in"))?;
    let (mut sut, contract) =
        spec::start_for_others(&arguments.sut, &folder).map_err(|failure| anyhow!("{failure}"))?;
    serve(sut.as_mut(), &contract, stdin().lock(), stdout().lock())?;
    Ok(Verdict::Pass)
}
