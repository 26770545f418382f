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
    /// Input or output that fails within a call.
    Faults,
    /// Callers at the same time, or several handles.
    Callers,
}

impl Needs {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Needs::Faults => "faults",
            Needs::Callers => "several callers",
        }
    }
}

const fn faults(id: &'static str) -> Waiting {
    Waiting { id, needs: Needs::Faults }
}

const fn callers(id: &'static str) -> Waiting {
    Waiting { id, needs: Needs::Callers }
}

/// All of them.
pub const WAITING: &[Waiting] = &[
    faults("one-error-path-forgets-dealloc"),
    faults("rollback-masks-error"),
    faults("owner-index-write-ignored"),
    faults("parent-child-two-writes"),
    faults("retry-after-release-without-realloc"),
    faults("cleanup-uses-dead-deadline"),
    faults("commit-outcome-unknown"),
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
