//! `exclusive`, `contained`, `complete`, `canonical`: what is handed out, to whom, in which spelling.

use poolproof::sut::memory::Memory;
use poolproof::sut::sqlite::Sqlite;
use poolproof_proptests::Suite;

#[test]
fn in_memory() {
    Suite::exclusive().holds(&mut Memory::new(), 4_000);
}

#[test]
fn on_sqlite() {
    Suite::exclusive().holds(&mut Sqlite::temporary().unwrap(), 120);
}
