//! Mutants for callers at the same time: what a call does is a few critical sections, and between them others come in.

use std::sync::{Arc, Mutex, PoisonError};

use poolproof_core::contract::Contract;
use poolproof_core::operation::{Operation, Response};
use poolproof_core::sut::reference::Variant;
use poolproof_core::sut::{Failure, Scheduling, Sut};
use poolproof_core::turns::pass;

use crate::base::Base;
use crate::faulty::Bug;

/// An allocator with a defect that one caller alone never meets. Each caller has one of its own, and all have the
/// [`Common`] state.
pub trait Racing: Send {
    /// A call.
    fn call(&mut self, common: &Common, operation: &Operation, bug: Bug) -> Response;
}

/// A mutant that remembers nothing of its caller, and so is but a function.
pub struct Sections(pub fn(&Common, &Operation, Bug) -> Response);

impl Racing for Sections {
    fn call(&mut self, common: &Common, operation: &Operation, bug: Bug) -> Response {
        (self.0)(common, operation, bug)
    }
}

/// What all callers have in common.
#[derive(Debug)]
pub struct Common(Mutex<Held>);

/// What a critical section has before it.
#[derive(Debug)]
pub struct Held {
    /// The allocator.
    pub base: Base,
    /// A number that a mutant may count with.
    pub count: u64,
}

impl Common {
    pub(crate) fn new(variant: Variant) -> Common {
        Common(Mutex::new(Held { base: Base::new(variant), count: 0 }))
    }

    /// A critical section: nobody comes in during it, anybody before it.
    pub fn section<T>(&self, work: impl FnOnce(&mut Held) -> T) -> T {
        pass();
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does a call as it should be done.
    pub fn call(&self, operation: &Operation) -> Response {
        self.section(|held| held.base.call(operation))
    }
}

/// A mutant under test, as one caller has it.
pub(crate) struct Raced {
    pub(crate) make: fn() -> Box<dyn Racing>,
    pub(crate) variant: Variant,
    pub(crate) bug: Bug,
    pub(crate) contract: Contract,
    pub(crate) caller: Box<dyn Racing>,
    pub(crate) common: Arc<Common>,
}

impl Sut for Raced {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn reset(&mut self) -> Result<(), Failure> {
        (self.caller, self.common) = ((self.make)(), Arc::new(Common::new(self.variant)));
        Ok(())
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        Ok(self.caller.call(&self.common, operation, self.bug))
    }

    fn another(&mut self) -> Result<Option<Box<dyn Sut + Send>>, Failure> {
        let Raced { make, variant, bug, .. } = *self;
        let (contract, common) = (self.contract.without_transactions(), self.common.clone());
        Ok(Some(Box::new(Raced { make, variant, bug, contract, caller: make(), common })))
    }

    fn scheduling(&self) -> Scheduling {
        Scheduling::Turns
    }

    fn is_fast(&self) -> bool {
        true
    }
}
