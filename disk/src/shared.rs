//! Memory that processes share: the index of a write-ahead log.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

/// Regions of memory, each of which stays where it is for as long as anybody holds this. SQLite reads and writes them by
/// pointer, and keeps to its own protocol of locks and barriers while it does; no code here looks into them.
#[derive(Debug, Default)]
pub(crate) struct Regions(Mutex<Vec<Box<[AtomicU64]>>>);

impl Regions {
    /// Where a region of so many bytes is; `None` where there is none yet, and none shall be made.
    pub(crate) fn region(&self, number: usize, bytes: usize, makes: bool) -> Option<*mut u8> {
        let mut regions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while makes && regions.len() <= number {
            regions.push((0..bytes.div_ceil(size_of::<u64>())).map(|_| AtomicU64::new(0)).collect());
        }
        let region = regions.get(number)?;
        region.first().map(|word| word.as_ptr().cast())
    }
}
