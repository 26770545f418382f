//! poolproof.
