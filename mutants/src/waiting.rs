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
    /// Callers at the same time, or several handles.
    Callers,
}

impl Needs {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Needs::Callers => "several callers",
        }
    }
}

const fn callers(id: &'static str) -> Waiting {
    Waiting { id, needs: Needs::Callers }
}

/// All of them.
pub const WAITING: &[Waiting] = &[
    callers("stale-full-flag"),
    callers("collisions-eat-the-retries"),
    callers("read-pick-insert"),
    callers("lost-update"),
    callers("gc-snapshot-order"),
    callers("lock-order-and-stuck-holder"),
    callers("linearizable-two-grants"),
    callers("linearizable-lost-release"),
    callers("linearizable-stale-exhausted"),
];
