//! `memory`: the reference allocator in memory.

use poolproof_allocator::{Allocator, MemoryAllocator};

use super::reference::{self, Variant};
use super::{Failure, Sut};
use crate::contract::Contract;
use crate::operation::{Operation, Response};

/// The reference allocator in memory. Not durable: it has no restart.
#[derive(Debug)]
pub struct Memory {
    allocator: MemoryAllocator,
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
        Memory { allocator: Allocator::in_memory(), variant, contract: variant.contract(false) }
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
        // After a panic nothing inside is to be trusted, so a failed reset starts afresh.
        self.allocator.reset().or_else(|_| {
            self.allocator = Allocator::in_memory();
            Ok(())
        })
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        Ok(reference::call(&mut self.allocator, self.variant, operation))
    }

    fn forget(&mut self) -> bool {
        self.allocator = Allocator::in_memory();
        true
    }

    fn is_fast(&self) -> bool {
        true
    }
}
