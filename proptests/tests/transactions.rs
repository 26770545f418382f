//! `atomic`: refused calls change nothing, rolled-back transactions leave nothing.

use poolproof::sut::memory::Memory;
use poolproof::sut::sqlite::Sqlite;
use poolproof_proptests::Suite;

#[test]
fn in_memory() {
    Suite::transactions().holds(&mut Memory::new(), 4_000);
}

#[test]
fn on_sqlite() {
    Suite::transactions().holds(&mut Sqlite::temporary().unwrap(), 120);
}
