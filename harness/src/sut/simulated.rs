//! `simulated`: the reference allocator on SQLite, on a disk that fails at any step it is told to, and in memory that is
//! refused at any allocation.

use std::sync::Arc;
use std::time::Duration;

use poolproof_allocator::{Allocator, SqliteAllocator, SqliteOptions, SqliteStore, Synchronous};
use poolproof_disk::{Disk, Snapshot};

use super::reference::{Handle, Variant, take_turns};
use super::sqlite::with_causes;
use super::{Failure, Resource, Resources, Scheduling, Sut};
use crate::contract::Contract;
use crate::engine::canary;
use crate::fault::{Counted, Fault, IoStep};
use crate::operation::{Operation, Response};
use crate::property::{Property, Violation};

/// The file on the disk.
const NAME: &str = "allocator.db";

/// The reference allocator on a simulated disk.
#[derive(Debug)]
pub struct Simulated {
    disk: Arc<Disk>,
    /// The disk with an allocator on it that holds nothing.
    empty: Snapshot,
    variant: Variant,
    synchronous: Synchronous,
    contract: Contract,
    /// Gone while the process is down.
    allocator: Option<Handle<SqliteStore>>,
}

impl Simulated {
    /// A new disk with an allocator on it.
    ///
    /// # Errors
    ///
    /// When SQLite does not take the disk.
    pub fn new(variant: Variant) -> Result<Simulated, Failure> {
        Simulated::with(variant, Synchronous::Full)
    }

    /// The same with what an acknowledged change is to survive.
    ///
    /// # Errors
    ///
    /// When SQLite does not take the disk.
    pub fn with(variant: Variant, synchronous: Synchronous) -> Result<Simulated, Failure> {
        let unable = |why: String| Failure::Unable(format!("cannot make a simulated disk: {why}"));
        let disk = Arc::new(Disk::new().ok_or_else(|| unable("SQLite does not take it".to_owned()))?);
        disk.start();
        drop(open(&disk, synchronous).map_err(|error| unable(with_causes(&error)))?);
        let empty = disk.snapshot();
        Ok(Simulated { disk, empty, variant, synchronous, contract: variant.contract(true), allocator: None })
    }

    /// The same for a fuzz target: where the [canary] is asked for, what is acknowledged does not wait for the disk.
    ///
    /// # Errors
    ///
    /// When SQLite does not take the disk.
    pub fn exposed(variant: Variant) -> Result<Simulated, Failure> {
        let synchronous = if canary::is_asked_for() { Synchronous::Normal } else { Synchronous::Full };
        Simulated::with(variant, synchronous)
    }

    fn start(&mut self) -> Result<&mut Handle<SqliteStore>, Failure> {
        let opened = match self.allocator.take() {
            Some(handle) => handle,
            None => Handle::own(open(&self.disk, self.synchronous).map_err(|error| {
                let message = format!("it does not start: {}", with_causes(&error));
                Failure::Misbehaved(Violation::new(Property::Durable, message))
            })?),
        };
        Ok(self.allocator.insert(opened))
    }
}

fn open(disk: &Disk, synchronous: Synchronous) -> Result<SqliteAllocator, poolproof_allocator::Error> {
    // Nobody else has the file: to wait for others would be to wait for nobody.
    let busy_timeout = Duration::ZERO;
    let options = SqliteOptions { synchronous, busy_timeout, vfs: Some(Disk::VFS), ..SqliteOptions::default() };
    Allocator::open_with(disk.path(NAME), options)
}

impl Sut for Simulated {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.allocator = None;
        self.disk.restore(&self.empty);
        self.disk.start();
        self.start().map(|_| ())
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        let variant = self.variant;
        Ok(self.start()?.call(variant, operation))
    }

    /// Another connection to the same file, or to share this one. Callers can be interrupted before each step of I/O.
    fn another(&mut self) -> Result<Option<Box<dyn Sut + Send>>, Failure> {
        self.start()?;
        let (disk, empty, contract) = (self.disk.clone(), self.empty.clone(), self.contract.clone());
        let (variant, synchronous) = (self.variant, self.synchronous);
        let mut other = Simulated { disk, empty, variant, synchronous, contract, allocator: None };
        if let Some(handle) = self.allocator.take_if(|_| variant.one_handle) {
            take_turns();
            let (own, its) = handle.shared();
            (self.allocator, other.allocator) = (Some(own), Some(its));
            other.contract = self.contract.without_transactions();
        }
        other.start()?;
        Ok(Some(Box::new(other)))
    }

    fn scheduling(&self) -> Scheduling {
        Scheduling::Turns
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.allocator = None;
        self.start().map(|_| ())
    }

    fn crash(&mut self) -> Result<(), Failure> {
        if !self.disk.is_down() {
            self.disk.kill();
        }
        self.allocator = None;
        self.disk.start();
        self.start().map(|_| ())
    }

    fn forget(&mut self) -> bool {
        self.allocator = None;
        true
    }

    fn arm(&mut self, faults: &[Fault]) -> Result<(), Failure> {
        if faults.iter().any(|fault| fault.call.is_some()) {
            return Err(Failure::Unable("there are no system calls on a simulated disk".to_owned()));
        }
        self.disk.arm(faults);
        let is_of_memory = faults.iter().any(|fault| fault.kind.is_of_memory());
        if is_of_memory && !Disk::can_refuse_memory() {
            let why = "SQLite was started before it could be given memory that is refused";
            return Err(Failure::Unable(why.to_owned()));
        }
        Ok(())
    }

    fn disarm(&mut self) -> Counted {
        let steps = IoStep::numbered(&self.disk.steps());
        let counted = Counted { steps, allocations: self.disk.allocations() };
        self.disk.arm(&[]);
        counted
    }

    fn struck(&self) -> Vec<Fault> {
        self.disk.struck()
    }

    fn is_down(&self) -> bool {
        self.disk.is_down()
    }

    fn resources(&self) -> Resources {
        Resources::UNKNOWN
            .with(Resource::Files, Some(self.disk.open_files() as u64))
            .with(Resource::Locks, Some(self.disk.locks() as u64))
    }
}
