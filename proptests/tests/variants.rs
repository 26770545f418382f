//! Every suite, on every variant of the reference allocator.

use poolproof::sut::memory::Memory;
use poolproof::sut::reference::Variant;
use poolproof::sut::sqlite::Sqlite;
use poolproof_proptests::Suite;

fn suites() -> [Suite; 4] {
    [Suite::exclusive(), Suite::lifecycle(), Suite::transactions(), Suite::leases()]
}

#[test]
fn in_memory() {
    for variant in Variant::all().skip(1) {
        suites().iter().for_each(|suite| suite.holds(&mut Memory::with(variant), 500));
    }
}

#[test]
fn on_sqlite() {
    for variant in Variant::all().skip(1) {
        let mut sut = Sqlite::temporary_with(variant).unwrap();
        suites().iter().for_each(|suite| suite.holds(&mut sut, 40));
        Suite::durability().holds(&mut sut, 40);
    }
}
