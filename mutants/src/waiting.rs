//! Defects of real allocators that cannot be brought about in mutants yet.

/// A mutant to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its name.
    pub id: &'static str,
    /// What an engine must be able to do.
    pub needs: Needs,
}

/// What has to happen for a defect to show, beyond calls one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Something beside the allocator that the protocol has no method for: a collector, a lock that somebody keeps.
    Company,
}

impl Needs {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Needs::Company => "what the protocol has no method for",
        }
    }
}

const fn company(id: &'static str) -> Waiting {
    Waiting { id, needs: Needs::Company }
}

/// All of them.
pub const WAITING: &[Waiting] = &[company("gc-snapshot-order"), company("lock-order-and-stuck-holder")];
