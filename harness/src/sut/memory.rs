//! `memory`: the reference allocator in memory.

use poolproof_allocator::{Allocator, MemoryStore};

use super::reference::{Handle, Variant, take_turns};
use super::{Failure, Scheduling, Sut};
use crate::contract::Contract;
use crate::operation::{Operation, Response};

/// The reference allocator in memory. Not durable: it has no restart.
#[derive(Debug)]
pub struct Memory {
    allocator: Handle<MemoryStore>,
    variant: Variant,
    contract: Contract,
}

impl Memory {
    /// An empty one.
    pub fn new() -> Memory {
        Memory::with(Variant::default())
    }

    /// An empty one that is set up in some way.
    pub fn with(variant: Variant) -> Memory {
        Memory { allocator: empty(), variant, contract: variant.contract(false) }
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new()
    }
}

impl Sut for Memory {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn reset(&mut self) -> Result<(), Failure> {
        // After a panic nothing inside is to be trusted, and what is shared may still be others': then it starts afresh.
        let is_reset = match &mut self.allocator {
            Handle::Own(allocator) => allocator.reset().is_ok(),
            Handle::Shared(_) => false,
        };
        if !is_reset {
            self.allocator = empty();
        }
        Ok(())
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        Ok(self.allocator.call(self.variant, operation))
    }

    /// All threads share one allocator, which does what waits in one go.
    fn another(&mut self) -> Result<Option<Box<dyn Sut + Send>>, Failure> {
        take_turns();
        let (own, allocator) = std::mem::replace(&mut self.allocator, empty()).shared();
        self.allocator = own;
        let contract = self.contract.without_transactions();
        Ok(Some(Box::new(Memory { allocator, variant: self.variant, contract })))
    }

    fn scheduling(&self) -> Scheduling {
        Scheduling::Either
    }

    fn forget(&mut self) -> bool {
        self.allocator = empty();
        true
    }

    fn is_fast(&self) -> bool {
        true
    }
}

fn empty() -> Handle<MemoryStore> {
    Handle::own(Allocator::in_memory())
}
