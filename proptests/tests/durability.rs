//! `durable`: what was acknowledged is there after a restart and after a crash, on the file.

use poolproof::sut::sqlite::Sqlite;
use poolproof_proptests::Suite;

#[test]
fn on_sqlite() {
    Suite::durability().holds(&mut Sqlite::temporary().unwrap(), 120);
}
