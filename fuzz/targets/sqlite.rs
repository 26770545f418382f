//! Scenarios, run on the reference allocator on an SQLite file, in one of its variants.

#![no_main]

use poolproof::engine::fuzz::Target;
use poolproof::sut::reference::Variant;
use poolproof::sut::sqlite::Sqlite;

poolproof_fuzz::scenario_target!({
    let open = |variant| Sqlite::temporary_with(variant).expect("a temporary directory");
    let others = Variant::all().skip(1).map(open);
    others.fold(Target::new(open(Variant::default())), Target::and)
});
