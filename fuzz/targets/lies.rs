//! Scenarios, run on an allocator that lies, under a contract that may be another's: the model has a verdict on everything.

#![no_main]

use poolproof::engine::fuzz::Target;

poolproof_fuzz::scenario_target!(Target::of_lies());
