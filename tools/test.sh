#!/usr/bin/env bash
# Sets up and runs every check: include graph, format, release build and tests, the tests again under
# AddressSanitizer + UndefinedBehaviorSanitizer and (threads, engine) ThreadSanitizer, and each fuzz target for
# FUZZ_SECONDS (default 60).
set -euo pipefail
cd "$(dirname "$0")/.."
fuzz_seconds=${FUZZ_SECONDS:-60}
jobs=$(nproc)

stage() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

stage "setup"
tools/setup.sh

stage "include graph and format"
python3 tools/check_includes.py
git ls-files '*.h' '*.cpp' | xargs clang-format-14 --dry-run -Werror

stage "release build and tests"
cmake --preset release >/dev/null
cmake --build --preset release -- -j"$jobs"
ctest --test-dir build -j"$jobs" --output-on-failure

stage "address and undefined-behaviour sanitizers"
cmake --preset asan >/dev/null
cmake --build --preset asan -- -j"$jobs"
ctest --test-dir build-asan -j"$jobs" --output-on-failure

stage "thread sanitizer"
cmake --preset tsan >/dev/null
cmake --build --preset tsan --target test_base test_kernels test_engine -- -j"$jobs"
ctest --test-dir build-tsan -j1 --output-on-failure -R '^(base|engine|kernels)/.*(Thread|Pool|Engine|Session|Mixer)'

stage "fuzz targets, $fuzz_seconds s each"
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz -- -j"$jobs"
tools/fuzz.sh "$fuzz_seconds"

stage "release tests, summary"
ctest --test-dir build -j"$jobs" | tail -n 3
