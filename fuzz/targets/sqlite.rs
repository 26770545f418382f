//! Scenarios, run on the reference allocator on an SQLite file, in one of its variants.

#![no_main]

use poolproof::engine::fuzz::Target;
use poolproof::sut::reference::Variant;
use poolproof::sut::sqlite::Sqlite;

poolproof_fuzz::scenario_target!({
    let open = |variant| Sqlite::temporary_with(variant).expect("a temporary directory");
    let target = Target::new("sqlite", open(Variant::default()));
    Variant::all().skip(1).fold(target, |target, variant| target.and(variant.named("sqlite"), open(variant)))
});
