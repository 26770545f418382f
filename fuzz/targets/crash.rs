//! Scenarios with faults, run on the reference allocator on a simulated disk, in one of its variants.

#![no_main]

use poolproof::engine::fuzz::Target;
use poolproof::sut::reference::Variant;
use poolproof::sut::simulated::Simulated;

poolproof_fuzz::scenario_target!({
    let open = |variant| Simulated::exposed(variant).expect("SQLite takes the disk");
    let target = Target::striking("simulated", open(Variant::default()));
    Variant::all().skip(1).fold(target, |target, variant| target.and(variant.named("simulated"), open(variant)))
});
