//! How a pool hands out addresses, and what becomes of those that come back.

/// What a pool does that is not a matter of which addresses it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which free address a request for any gets.
    pub strategy: Strategy,
    /// What an owner gets that holds something in the pool already.
    pub repeat: Repeat,
    /// For so many milliseconds after its release or the end of its lease nobody gets an address again, so that what is
    /// still under way to the former owner does not reach the next one. 0, the default, is not at all.
    pub quarantine_ms: u64,
}

/// Which free address, or free aligned block, a request for any gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The lowest.
    #[default]
    Lowest,
    /// The lowest above the last one that this strategy chose, then the lowest of all: addresses come round as late as can
    /// be. What is named, or granted again, was not chosen.
    Next,
    /// Any free address with the same probability, from a cryptographic generator seeded by the operating system, so that
    /// nobody can tell the next one (CWE-330). A block is the first one at or above such an address.
    Random,
}

/// What a request for any address gets whose owner holds something in the pool already, from earlier calls. Several
/// requests in one call are never repeats of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Repeat {
    /// Another address.
    #[default]
    Another,
    /// What it holds, lowest first, with the end that the new call asks for; another one only when it asks for more than
    /// it holds. A block is the same if it has the length that is asked for.
    Same,
    /// A refusal, [`Error::Conflict`](crate::Error::Conflict), named addresses included.
    Conflict,
}
