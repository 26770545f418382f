//! The system under test: the one trait that an adapter implements.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::contract::Contract;
use crate::fault::{Counted, Fault};
use crate::operation::{Operation, Response};
use crate::property::{Property, Violation};
pub use crate::resources::{Growth, Resource, Resources};

#[cfg(feature = "reference")]
pub mod reference;

/// Who decides which calls of several callers meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduling {
    /// The machine, as it likes.
    Machine,
    /// Whoever runs the scenario: wherever callers can be interrupted, they ask whose [turn](crate::turns) it is.
    Turns,
    /// The scenario's turns where it has some, else the machine.
    Either,
}

/// A system under test.
///
/// Engines call [`reset`](Sut::reset) before each scenario, then any number of calls, restarts and
/// crashes, then [`finish`](Sut::finish). A panic inside a method is caught and reported as a
/// violation of `total`, after which only `reset` is called.
pub trait Sut {
    /// What the system promises. Constant over the life of the adapter.
    fn contract(&self) -> &Contract;

    /// Goes back to the empty state.
    fn reset(&mut self) -> Result<(), Failure>;

    /// One call. The error is for systems that do not answer properly at all; a refusal is an
    /// answer.
    fn call(&mut self, operation: &Operation) -> Result<Response, Failure>;

    /// A clean restart, keeping durable state. Called only where the contract is durable.
    fn restart(&mut self) -> Result<(), Failure> {
        Err(Failure::Unable("this adapter cannot restart its system".to_owned()))
    }

    /// A sudden death and a new start on the same durable state. Called only where the contract is
    /// durable.
    fn crash(&mut self) -> Result<(), Failure> {
        Err(Failure::Unable("this adapter cannot crash its system".to_owned()))
    }

    /// The end of a scenario: a last look for output that nobody asked for.
    fn finish(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Ends this instance of the system, so that the next `reset` starts another one; says whether
    /// it could. Random choice must differ from instance to instance.
    fn forget(&mut self) -> bool {
        false
    }

    /// Does a call take so little, about a microsecond, that looking at the clock for each would
    /// cost too much?
    fn is_fast(&self) -> bool {
        false
    }

    /// Does a start take longer than hundreds of calls, as that of a process does? Then few scenarios have restarts.
    fn restarts_slowly(&self) -> bool {
        false
    }

    /// Does the adapter itself give up calls that take longer than the contract allows? Calls into
    /// this process cannot be given up; those are watched from outside.
    fn ends_late_calls(&self) -> bool {
        false
    }

    /// For adapters that end late calls: for the time being a call is late after this, `None` for
    /// what the contract says. Making a scenario small that hangs would else take minutes.
    fn hurry(&mut self, limit: Option<Duration>) {
        let _ = limit;
    }

    /// A temporary folder of the adapter's own, which must go however the process ends.
    fn scratch(&self) -> Option<&Path> {
        None
    }

    /// Sets what goes wrong from here on, and counts steps of I/O and allocations from 0.
    ///
    /// # Errors
    ///
    /// [`Failure::Unable`] where these faults cannot be injected, and why.
    fn arm(&mut self, faults: &[Fault]) -> Result<(), Failure> {
        let _ = faults;
        Err(Failure::Unable(
            "faults cannot be injected into this system; `simulated` is on a disk that can fail".to_owned(),
        ))
    }

    /// From here on nothing goes wrong any more. Gives what was counted since it was armed.
    fn disarm(&mut self) -> Counted {
        Counted::default()
    }

    /// The faults that have struck since it was armed, in order; one that lasts is there each time that it struck.
    fn struck(&self) -> Vec<Fault> {
        Vec::new()
    }

    /// Has a fault ended the process? Then only a crash or a reset may follow, and what the last call answered never
    /// reached anybody.
    fn is_down(&self) -> bool {
        false
    }

    /// What it has hold of just now, where that can be counted.
    fn resources(&self) -> Resources {
        Resources::UNKNOWN
    }

    /// Does a reset leave what it has hold of? Then a scenario that is run again and again shows what it leaves behind; else
    /// calls are watched one by one.
    fn resets_in_place(&self) -> bool {
        false
    }

    /// Another handle on the same state, for one more caller at the same time; nothing where there can be none. It is used in
    /// another thread, and gone before the next reset. Its contract may lack methods that such callers do not have.
    ///
    /// # Errors
    ///
    /// When there could be one, and it cannot be had.
    fn another(&mut self) -> Result<Option<Box<dyn Sut + Send>>, Failure> {
        Ok(None)
    }

    /// Who decides which calls meet of callers with several handles.
    fn scheduling(&self) -> Scheduling {
        Scheduling::Machine
    }

    /// The end of what the system wrote for people, to be shown with a violation.
    fn diagnostics(&self) -> String {
        String::new()
    }
}

/// A system that does not answer properly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It misbehaved; a violation of this property, most often `total`.
    Misbehaved(Violation),
    /// The harness itself cannot go on: the program does not exist, a directory cannot be made.
    Unable(String),
    /// The user asked to stop.
    Interrupted,
}

impl Failure {
    /// A violation of `total`.
    pub fn total(message: impl Into<String>) -> Failure {
        Failure::Misbehaved(Violation::new(Property::Total, message))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Misbehaved(violation) => violation.fmt(f),
            Failure::Unable(message) => f.write_str(message),
            Failure::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Failure {}
