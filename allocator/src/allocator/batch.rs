//! Calls of several callers in one transaction; what [`SharedAllocator`](crate::SharedAllocator) is made of.

use super::Allocator;
use crate::error::Result;
use crate::store::Store;

impl<S: Store> Allocator<S> {
    /// Runs the work of several callers in one transaction, which none of them can end, and commits it.
    pub(crate) fn in_batch(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.begin()?;
        self.is_batch = true;
        let done = work(self);
        self.is_batch = false;
        if let Err(error) = done {
            // The first cause is the one to report; the store tries again to undo.
            let _ = self.rollback();
            return Err(error);
        }
        self.commit()
    }

    /// Runs the work of one of them, all or nothing: it tells whether what it did shall last.
    pub(crate) fn in_part_of_batch(&mut self, work: impl FnOnce(&mut Self) -> bool) -> Result<()> {
        let savepoint = self.savepoint()?;
        if !work(self) {
            self.rollback_to(savepoint)?;
        }
        self.release_savepoint(savepoint)
    }
}
