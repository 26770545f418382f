//! What the benches share: sides that run in turn in one process, and ratios of their medians, so that a machine that slows
//! down slows both.

use std::time::Instant;

/// Blocks of each side. The first one more warms it up and does not count.
const BLOCKS: usize = 15;

/// Whether this is `cargo test`, which runs benches too: a figure from an unoptimised build is none.
pub fn is_test() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// The medians of both sides, in nanoseconds a step, of blocks of so many steps.
pub fn in_turn(steps: u32, mut one: impl FnMut(), mut other: impl FnMut()) -> (f64, f64) {
    let mut times = (Vec::new(), Vec::new());
    for block in 0..=BLOCKS {
        let (first, second) = (time(steps, &mut one), time(steps, &mut other));
        if block > 0 {
            times.0.push(first);
            times.1.push(second);
        }
    }
    (median(times.0), median(times.1))
}

fn time(steps: u32, step: &mut impl FnMut()) -> f64 {
    let started = Instant::now();
    (0..steps).for_each(|_| step());
    started.elapsed().as_nanos() as f64 / f64::from(steps)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The name of one of many owners, all of one length.
pub fn owner(number: u32) -> String {
    format!("owner-{number:07}")
}
