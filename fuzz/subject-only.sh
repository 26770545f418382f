#!/bin/sh
# A compiler for fuzz targets in which only what is under test is instrumented: the reference allocator, the faulty ones and
# the calls on them. The harness around them runs twice as fast then, and its lines are not taken for anything new.
#
#   RUSTC_WRAPPER=$PWD/fuzz/subject-only.sh cargo fuzz run -O --sanitizer none --no-trace-compares memory
#
# cargo starts it as `subject-only.sh rustc ARGUMENT…`.
compiler=$1
shift
case " $* " in
*" --crate-name poolproof_allocator "* | *" --crate-name poolproof_core "* | *" --crate-name poolproof_mutants "*)
    exec "$compiler" "$@"
    ;;
esac
for argument do
    shift
    case $argument in
    -Cpasses=sancov-module | -Cllvm-args=-sanitizer-coverage-* | -Cllvm-args=-simplifycfg-branch-fold-threshold=0) ;;
    *) set -- "$@" "$argument" ;;
    esac
done
exec "$compiler" "$@"
