//! poolproof-allocator.
