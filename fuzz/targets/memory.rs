//! Scenarios, run on the reference allocator in memory, in one of its variants.

#![no_main]

use poolproof::engine::fuzz::Target;
use poolproof::sut::memory::Memory;
use poolproof::sut::reference::Variant;

poolproof_fuzz::scenario_target!({
    let target = Target::new("memory", Memory::new());
    Variant::all().skip(1).fold(target, |target, variant| target.and(variant.named("memory"), Memory::with(variant)))
});
