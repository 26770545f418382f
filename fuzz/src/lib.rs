//! What the targets share: the glue between libFuzzer and a [`Target`](poolproof::engine::fuzz::Target).

pub mod counters;

/// The target of a file: a [`Target`](poolproof::engine::fuzz::Target), with mutation and cross-over by steps, guided by the
/// model's state unless `POOLPROOF_FEEDBACK=off` is in its environment.
#[macro_export]
macro_rules! scenario_target {
    ($target:expr) => {
        thread_local! {
            static TARGET: std::cell::RefCell<poolproof::engine::fuzz::Target> =
                std::cell::RefCell::new($crate::guided($target));
        }

        libfuzzer_sys::fuzz_target!(|input: &[u8]| -> libfuzzer_sys::Corpus {
            match TARGET.with_borrow_mut(|target| target.run(input)) {
                true => libfuzzer_sys::Corpus::Keep,
                false => libfuzzer_sys::Corpus::Reject,
            }
        });

        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, _max_size: usize, seed: u32| {
            TARGET.with_borrow_mut(|target| target.mutate(data, size, seed))
        });

        libfuzzer_sys::fuzz_crossover!(|one: &[u8], other: &[u8], out: &mut [u8], seed: u32| {
            TARGET.with_borrow_mut(|target| target.cross(one, other, out, seed))
        });
    };
}

/// The target, guided by the model's state unless the environment says otherwise.
pub fn guided(target: poolproof::engine::fuzz::Target) -> poolproof::engine::fuzz::Target {
    match std::env::var_os("POOLPROOF_FEEDBACK") {
        Some(choice) if choice == "off" => target,
        _ => target.guided_by(poolproof::engine::feedback::Feedback::new(&counters::COUNTERS)),
    }
}
