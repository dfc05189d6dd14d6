#!/usr/bin/env bash
# Sets up and runs every check: include graph, style, format, release build and tests, the tests again under
# AddressSanitizer + UndefinedBehaviorSanitizer and (threads, engine) ThreadSanitizer, and each fuzz target for
# FUZZ_SECONDS (default 60).
set -euo pipefail
cd "$(dirname "$0")/.."
fuzz_seconds=${FUZZ_SECONDS:-60}
jobs=$(nproc)

stage() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

stage "setup"
tools/setup.sh

stage "include graph, style and format"
python3 tools/check_includes.py
python3 tools/check_style.py
git ls-files '*.h' '*.cpp' '*.cu' | xargs clang-format-14 --dry-run -Werror

stage "release build and tests"
cmake --preset release -DDW_CUDA_ARCHITECTURES=90a-real >/dev/null  # PTX for other GPUs doubles the time
cmake --build --preset release -- -j"$jobs"
ctest --test-dir build -j"$jobs" --no-tests=error --output-on-failure | tee build/tests.log

stage "gfx906 build and its kernels' registers"
cmake --preset gfx906 >/dev/null
cmake --build --preset gfx906 --target dw_gpu -- -j"$jobs"
python3 tools/check_gfx906.py build-gfx906 | tee build-gfx906/kernels.log

stage "address and undefined-behaviour sanitizers"
cmake --preset asan >/dev/null
cmake --build --preset asan -- -j"$jobs"
ctest --test-dir build-asan -j"$jobs" --no-tests=error --output-on-failure | tee build-asan/tests.log

stage "thread sanitizer"
cmake --preset tsan >/dev/null
cmake --build --preset tsan --target test_base test_kernels test_engine -- -j"$jobs"
ctest --test-dir build-tsan -j1 --no-tests=error --output-on-failure \
  -R '^(base/ThreadPool|engine/Engine|kernels/Cpu.*(Thread|Batch))' | tee build-tsan/tests.log

stage "fuzz targets, $fuzz_seconds s each"
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz -- -j"$jobs"
tools/fuzz.sh "$fuzz_seconds" | tee build-fuzz/fuzz.log

stage "all checks passed"
grep -H 'tests passed' build/tests.log build-asan/tests.log build-tsan/tests.log
cat build-gfx906/kernels.log
grep '^fuzz:' build-fuzz/fuzz.log
