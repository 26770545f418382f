//! Scenarios with faults, run on the reference allocator on a simulated disk, in one of its variants.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target};
use poolproof::engine::fuzz::Target;
use poolproof::sut::reference::Variant;
use poolproof::sut::simulated::Simulated;

thread_local! {
    static TARGET: RefCell<Target> = RefCell::new({
        let open = |variant| Simulated::exposed(variant).expect("SQLite takes the disk");
        let others = Variant::all().skip(1).map(open);
        others.fold(Target::striking(open(Variant::default())), Target::and)
    });
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let is_scenario = TARGET.with_borrow_mut(|target| target.run(input));
    if is_scenario { Corpus::Keep } else { Corpus::Reject }
});

fuzz_mutator!(|data: &mut [u8], size: usize, _max_size: usize, seed: u32| {
    TARGET.with_borrow(|target| target.mutate(data, size, seed))
});
