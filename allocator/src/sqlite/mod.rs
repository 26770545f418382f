//! Stub while the store is rewritten.
