//! What the benches share: sides that run in turn in one process, and ratios of their medians, so that a machine that slows
//! down slows both.

use std::time::Instant;

/// Blocks of each side. The first one more warms it up and does not count.
const BLOCKS: usize = 15;

/// Whether this is `cargo test`, which runs benches too: a figure from an unoptimised build is none.
pub(crate) fn is_test() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// The medians of both sides, in nanoseconds a step, of blocks of so many steps.
pub(crate) fn in_turn(steps: u32, mut one: impl FnMut(), mut other: impl FnMut()) -> (f64, f64) {
    let block = |side: &mut dyn FnMut()| {
        let started = Instant::now();
        (0..steps).for_each(|_| side());
        started.elapsed().as_nanos() as f64 / f64::from(steps)
    };
    blocks(|| block(&mut one), || block(&mut other))
}

/// The medians of what the blocks of both sides tell.
pub(crate) fn blocks(mut one: impl FnMut() -> f64, mut other: impl FnMut() -> f64) -> (f64, f64) {
    let mut times = (Vec::new(), Vec::new());
    for block in 0..=BLOCKS {
        let (first, second) = (one(), other());
        if block > 0 {
            times.0.push(first);
            times.1.push(second);
        }
    }
    (median(times.0), median(times.1))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The name of one of many owners, all of one length.
pub(crate) fn owner(number: u32) -> String {
    format!("owner-{number:07}")
}
