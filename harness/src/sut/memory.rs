//! `memory`: the reference allocator in memory.

use poolproof_allocator::{Allocator, MemoryAllocator, MemoryStore, SharedAllocator};

use super::reference::{self, Variant};
use super::{Failure, Sut};
use crate::contract::Contract;
use crate::operation::{Kind, Operation, Refusal, Response};

/// The reference allocator in memory. Not durable: it has no restart.
#[derive(Debug)]
pub struct Memory {
    allocator: Handle,
    variant: Variant,
    contract: Contract,
}

/// An allocator of one caller's, or of several.
#[derive(Debug)]
enum Handle {
    Own(Box<MemoryAllocator>),
    Shared(SharedAllocator<MemoryStore>),
}

impl Handle {
    fn new() -> Handle {
        Handle::Own(Box::new(Allocator::in_memory()))
    }
}

impl Memory {
    /// An empty one.
    pub fn new() -> Memory {
        Memory::with(Variant::default())
    }

    /// An empty one that is set up in some way.
    pub fn with(variant: Variant) -> Memory {
        Memory { allocator: Handle::new(), variant, contract: variant.contract(false) }
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
            self.allocator = Handle::new();
        }
        Ok(())
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        let variant = self.variant;
        match &mut self.allocator {
            Handle::Own(allocator) => Ok(reference::call(allocator, variant, operation)),
            Handle::Shared(shared) => Ok(call_shared(shared, variant, operation)),
        }
    }

    /// All threads share one allocator, which does what waits in one go.
    fn another(&mut self) -> Result<Option<Box<dyn Sut + Send>>, Failure> {
        if let Handle::Own(allocator) = &mut self.allocator {
            let allocator = std::mem::replace(&mut **allocator, Allocator::in_memory());
            self.allocator = Handle::Shared(SharedAllocator::new(allocator));
        }
        let Handle::Shared(shared) = &self.allocator else { return Ok(None) };
        let allocator = Handle::Shared(shared.clone());
        Ok(Some(Box::new(Memory { allocator, variant: self.variant, contract: self.contract.clone() })))
    }

    fn forget(&mut self) -> bool {
        self.allocator = Handle::new();
        true
    }

    fn is_fast(&self) -> bool {
        true
    }
}

/// A call that may be done together with those of others.
fn call_shared(shared: &SharedAllocator<MemoryStore>, variant: Variant, operation: &Operation) -> Response {
    let operation = operation.clone();
    let done = shared.run(move |allocator| Ok(reference::call(allocator, variant, &operation)));
    done.unwrap_or_else(|error| Err(Refusal { kind: Kind::Storage, message: error.to_string().into() }))
}
