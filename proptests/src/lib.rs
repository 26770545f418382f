//! poolproof-proptests.
