//! Counterexamples on disk: written before shrinking starts, so that nothing found is ever lost.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::property::Violation;
use crate::scenario::Scenario;

/// How scenario files end.
pub const EXTENSION: &str = "scenario";

/// A counterexample's file. It is replaced as a whole, never left half written.
#[derive(Clone, Debug)]
pub struct CounterexampleFile {
    path: PathBuf,
}

impl CounterexampleFile {
    /// A new file in `folder` (made if missing) named after the property and the system.
    pub fn new(folder: &Path, sut: &str, seed: u64, violation: &Violation) -> io::Result<CounterexampleFile> {
        fs::create_dir_all(folder)?;
        let sut: String = sut.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
        let name = format!("{}-{}-{seed:x}.{EXTENSION}", violation.property, sut.trim_matches('-'));
        Ok(CounterexampleFile { path: folder.join(name) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the scenario with what it breaks as a comment.
    pub fn write(&self, scenario: &Scenario, violation: &Violation) -> io::Result<()> {
        let complaint = violation.to_string().replace(|c: char| c.is_control(), " ");
        let partial = self.path.with_extension("partial");
        fs::write(&partial, format!("{scenario}# {complaint}\n"))?;
        fs::rename(&partial, &self.path)
    }
}
