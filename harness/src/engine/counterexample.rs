//! Counterexamples on disk: written before shrinking starts, so that nothing found is ever lost.

use std::fs;
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};

use rustc_hash::FxBuildHasher;

use crate::property::Violation;
use crate::scenario::Scenario;

/// How scenario files end.
pub const EXTENSION: &str = "scenario";

/// A counterexample's file. It is replaced as a whole, never left half written.
#[derive(Clone, Debug)]
pub struct CounterexampleFile {
    folder: PathBuf,
    /// What its name says besides the property.
    origin: String,
    path: Option<PathBuf>,
}

impl CounterexampleFile {
    /// A file in `folder` (made if missing) to be named after the property, the system and the seed.
    pub fn new(folder: &Path, sut: &str, seed: u64) -> CounterexampleFile {
        // The name shows the beginning of a long command line only; the number tells systems apart.
        let number = seed ^ FxBuildHasher.hash_one(sut);
        let sut: String = sut.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
        let origin = format!("{}-{number:x}", sut.trim_matches('-'));
        CounterexampleFile { folder: folder.to_owned(), origin, path: None }
    }

    /// Where it is, once it is written.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Writes the scenario with what it breaks as a comment, in place of what was written before.
    pub fn write(&mut self, scenario: &Scenario, violation: &Violation) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(format!("{}-{}.{EXTENSION}", violation.property, self.origin));
        let partial = path.with_extension("partial");
        let written = fs::write(&partial, commented(scenario, violation)).and_then(|()| fs::rename(&partial, &path));
        if let Err(error) = written {
            // Half a file helps nobody, and the first failure is the one to tell.
            let _ = fs::remove_file(&partial);
            return Err(error);
        }
        // Shrinking may have found another property broken, and the name says which.
        if let Some(former) = self.path.replace(path).filter(|former| Some(former) != self.path.as_ref()) {
            fs::remove_file(former)?;
        }
        Ok(())
    }
}

/// The scenario with what it breaks as a comment.
pub fn commented(scenario: &Scenario, violation: &Violation) -> String {
    let complaint = violation.to_string().replace(char::is_control, " ");
    format!("{scenario}# {complaint}\n")
}
