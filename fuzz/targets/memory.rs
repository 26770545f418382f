//! Scenarios, run on the reference allocator in memory, in one of its variants.

#![no_main]

use poolproof::engine::fuzz::Target;
use poolproof::sut::memory::Memory;
use poolproof::sut::reference::Variant;

poolproof_fuzz::scenario_target!({
    let others = Variant::all().skip(1).map(Memory::with);
    others.fold(Target::new(Memory::new()), Target::and)
});
