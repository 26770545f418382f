//! `owned`, `released`, `idempotent`, `reconfigurable`: allocations come and go, pools change under them.

use poolproof::sut::memory::Memory;
use poolproof::sut::sqlite::Sqlite;
use poolproof_proptests::Suite;

#[test]
fn in_memory() {
    Suite::lifecycle().holds(&mut Memory::new(), 4_000);
}

#[test]
fn on_sqlite() {
    Suite::lifecycle().holds(&mut Sqlite::temporary().unwrap(), 120);
}
