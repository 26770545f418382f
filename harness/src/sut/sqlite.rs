//! `sqlite`: the reference allocator on an SQLite file.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use poolproof_allocator::{Allocator, SqliteStore};
use tempfile::TempDir;

use super::reference::{Handle, Variant};
use super::{Failure, Sut};
#[cfg(feature = "process")]
use super::{Resource, Resources, procfs};
use crate::contract::Contract;
use crate::operation::{Operation, Response};
use crate::property::{Property, Violation};

/// What SQLite keeps beside the file: the write-ahead log, which holds acknowledged changes, and
/// the index of the log, which dies with the last process.
const LOG: &str = "-wal";
const LOG_INDEX: &str = "-shm";

/// The reference allocator on an SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    variant: Variant,
    contract: Contract,
    /// Closed only for a moment, while it starts again.
    allocator: Option<Handle<SqliteStore>>,
    /// Removed with everything in it when the adapter goes.
    folder: Option<TempDir>,
}

impl Sqlite {
    /// A file in a fresh temporary directory.
    ///
    /// # Errors
    ///
    /// When the directory or the file cannot be made.
    pub fn temporary() -> Result<Sqlite, Failure> {
        Sqlite::temporary_with(Variant::default())
    }

    /// A file in a fresh temporary directory, for an allocator that is set up in some way.
    ///
    /// # Errors
    ///
    /// When the directory or the file cannot be made.
    pub fn temporary_with(variant: Variant) -> Result<Sqlite, Failure> {
        let folder = TempDir::with_prefix("poolproof-").map_err(|error| {
            Failure::Unable(format!("cannot make a temporary directory: {error}; TMPDIR names another place"))
        })?;
        let path = folder.path().join("allocator.db");
        Sqlite::open(path, Some(folder), variant)
    }

    /// A new file that stays. Scenarios wipe it, so it must not exist yet.
    ///
    /// # Errors
    ///
    /// When it exists or cannot be made.
    pub fn at(path: &Path, variant: Variant) -> Result<Sqlite, Failure> {
        if path.exists() {
            let message = format!("{} exists; every scenario would wipe it, so name a new file", path.display());
            return Err(Failure::Unable(message));
        }
        Sqlite::open(path.to_owned(), None, variant)
    }

    /// A file that stays, and that may be there already: other processes may have it open.
    ///
    /// # Errors
    ///
    /// When it cannot be opened or made.
    pub fn beside_others(path: &Path, variant: Variant) -> Result<Sqlite, Failure> {
        let mut sqlite = Sqlite {
            path: path.to_owned(),
            variant,
            contract: Contract { shared: true, ..variant.contract(true) },
            allocator: None,
            folder: None,
        };
        sqlite.start()?;
        Ok(sqlite)
    }

    fn open(path: PathBuf, folder: Option<TempDir>, variant: Variant) -> Result<Sqlite, Failure> {
        let allocator = Allocator::open(&path).map_err(|error| {
            // What was not there before stays away; there is nothing in it.
            let _ = fs::remove_file(&path);
            Failure::Unable(describe(&path, &error))
        })?;
        Ok(Sqlite { path, variant, contract: variant.contract(true), allocator: Some(Handle::own(allocator)), folder })
    }

    fn start(&mut self) -> Result<&mut Handle<SqliteStore>, Failure> {
        let opened = match self.allocator.take() {
            Some(handle) => handle,
            None => Handle::own(Allocator::open(&self.path).map_err(|error| {
                let message = format!("it does not start again: {}", describe(&self.path, &error));
                Failure::Misbehaved(Violation::new(Property::Durable, message))
            })?),
        };
        Ok(self.allocator.insert(opened))
    }

    /// Leaves on disk what a process that is killed leaves: everything written, nothing tidied up.
    fn die(&mut self) -> io::Result<()> {
        let left = [self.path.clone(), beside(&self.path, LOG)];
        let kept = left.iter().map(|path| if path.exists() { fs::read(path).map(Some) } else { Ok(None) });
        let kept = kept.collect::<io::Result<Vec<_>>>()?;
        self.allocator = None;
        for (path, content) in left.iter().zip(kept) {
            match content {
                Some(content) => fs::write(path, content)?,
                None => remove(path)?,
            }
        }
        remove(&beside(&self.path, LOG_INDEX))
    }
}

impl Sut for Sqlite {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn reset(&mut self) -> Result<(), Failure> {
        if matches!(self.allocator, Some(Handle::Shared(_))) {
            self.allocator = None;
        }
        let Handle::Own(allocator) = self.start()? else { return Ok(()) };
        let wiped = allocator.reset();
        wiped.map_err(|error| Failure::Unable(describe(&self.path, &error)))
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        let variant = self.variant;
        Ok(self.start()?.call(variant, operation))
    }

    /// Another connection to the same file, or to share this one.
    fn another(&mut self) -> Result<Option<Box<dyn Sut + Send>>, Failure> {
        self.start()?;
        let (path, variant, contract) = (self.path.clone(), self.variant, self.contract.clone());
        let mut other = Sqlite { path, variant, contract, allocator: None, folder: None };
        if let Some(handle) = self.allocator.take_if(|_| variant.one_handle) {
            let (own, its) = handle.shared();
            (self.allocator, other.allocator) = (Some(own), Some(its));
            other.contract = self.contract.without_transactions();
        }
        other.start()?;
        Ok(Some(Box::new(other)))
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.allocator = None;
        self.start().map(|_| ())
    }

    fn crash(&mut self) -> Result<(), Failure> {
        self.die().map_err(|error| Failure::Unable(format!("{}: {error}", self.path.display())))?;
        self.start().map(|_| ())
    }

    fn forget(&mut self) -> bool {
        self.allocator = None;
        true
    }

    /// Files of the allocator's: the whole process may have others.
    #[cfg(feature = "process")]
    fn resources(&self) -> Resources {
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        Resources::UNKNOWN.with(Resource::Files, procfs::open_like(&path))
    }

    fn resets_in_place(&self) -> bool {
        true
    }

    fn scratch(&self) -> Option<&Path> {
        self.folder.as_ref().map(TempDir::path)
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What went wrong with a file of ours.
fn describe(path: &Path, error: &poolproof_allocator::Error) -> String {
    format!("{}: {}", path.display(), with_causes(error))
}

/// The error with its causes, which are ours to see: this is our own file.
pub(super) fn with_causes(error: &poolproof_allocator::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
