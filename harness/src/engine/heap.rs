//! Memory that this thread has in use, counted to the byte where the feature `heap` is on: Rust's by a global allocator that
//! keeps count, SQLite's where it asks for it. What other threads do does not count: neither those of a system that starts
//! some, nor those of somebody else's test.

/// Is memory counted?
pub(super) const IS_COUNTED: bool = cfg!(feature = "heap");

#[cfg(feature = "heap")]
#[global_allocator]
static COUNTING: poolproof_disk::Counting = poolproof_disk::Counting;

/// What the work comes to, and how many bytes more are in use after it than before; below zero if it gave some back.
#[cfg(feature = "heap")]
pub(super) fn growth_in<T>(work: impl FnOnce() -> T) -> (T, i64) {
    let before = poolproof_disk::bytes_in_use();
    let result = work();
    (result, poolproof_disk::bytes_in_use().wrapping_sub(before))
}

/// What the work comes to.
#[cfg(not(feature = "heap"))]
pub(super) fn growth_in<T>(work: impl FnOnce() -> T) -> (T, i64) {
    (work(), 0)
}

#[cfg(all(test, feature = "heap"))]
mod tests {
    use super::growth_in;

    #[test]
    fn what_is_kept_is_counted_to_the_byte() {
        assert_eq!(growth_in(|| vec![0_u8; 1000]).1, 1000);
        assert_eq!(growth_in(|| drop(vec![0_u8; 1000])).1, 0);
        let kept = vec![0_u8; 1000];
        assert_eq!(growth_in(move || drop(kept)).1, -1000);
    }

    #[test]
    fn what_grows_and_shrinks_in_place_is_counted_to_the_byte() {
        let mut kept = Vec::<u8>::with_capacity(10);
        assert_eq!(growth_in(|| kept.reserve_exact(1000)).1, 990);
        assert_eq!(growth_in(|| kept.shrink_to(10)).1, -990);
    }

    #[test]
    #[cfg(feature = "reference")]
    fn what_sqlite_keeps_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let open = || poolproof_allocator::Allocator::open(folder.path().join("a.db")).unwrap();
        // What it makes once it keeps.
        drop(open());
        let (allocator, grown) = growth_in(open);
        assert!(grown > 10_000, "{grown} bytes for a connection");
        assert_eq!(growth_in(move || drop(allocator)).1, -grown);
    }
}
