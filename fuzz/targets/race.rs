//! Scenarios with lanes, run on the reference allocator on a simulated disk: with a connection for each caller, or one for all.

#![no_main]

use poolproof::engine::fuzz::Target;
use poolproof::sut::reference::Variant;
use poolproof::sut::simulated::Simulated;

poolproof_fuzz::scenario_target!({
    let open =
        |one_handle| Simulated::new(Variant { one_handle, ..Variant::default() }).expect("SQLite takes the disk");
    Target::racing("simulated", open(false)).and("simulated?handles=one", open(true))
});
