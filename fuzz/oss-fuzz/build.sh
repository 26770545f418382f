#!/bin/bash -eu
# Builds the fuzz targets where OSS-Fuzz or ClusterFuzzLite wants them: for each, $OUT gets the fuzzer TARGET, its seeds
# TARGET_seed_corpus.zip, its options TARGET.options and, where there is one, its dictionary TARGET.dict.
#
# They set SRC, OUT, SANITIZER and the compilers' flags. `cargo xtask oss-fuzz try` does so here.
cd "$SRC/poolproof"

# Their only other sanitizer for Rust is `coverage`, whose flags are in RUSTFLAGS already.
sanitizer=none
if [ "${SANITIZER:-address}" = address ]; then
    sanitizer=address
fi
host=$(rustc --version --verbose | sed -n 's/^host: //p')
cargo fuzz build --no-trace-compares --sanitizer "$sanitizer" --target "$host" --target-dir fuzz/target

# A tool that runs here, so without the flags of what is fuzzed.
env -u RUSTFLAGS -u CFLAGS -u CXXFLAGS \
    cargo run --quiet --package xtask --target-dir target -- oss-fuzz package --from "fuzz/target/$host/release" --out "$OUT"
