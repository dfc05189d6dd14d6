#!/usr/bin/env bash
# Runs every fuzz target for a number of seconds (default 60), two at a time, from the seeds in
# tests/fuzz/corpus/<target>, and prints how many inputs each tried. Fails if one finds a crash, a leak or a hang.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
build=build-fuzz/tests/fuzz
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run_target() {
  local name=$1 log=$work/$1.log seeds=tests/fuzz/corpus/$1
  mkdir -p "$work/$name"
  local arguments=("$work/$name")
  [ -d "$seeds" ] && arguments+=("$seeds")
  if "$build/$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="$work/$name-" "${arguments[@]}" >"$log" 2>&1; then
    echo "fuzz: $name: $(grep -o 'number_of_executed_units: *[0-9]*' "$log" | grep -o '[0-9]*$') inputs, no finding"
  else
    tail -n 40 "$log"
    echo "fuzz: $name: FAILED"
    return 1
  fi
}
export -f run_target
export work build seconds
find "$build" -maxdepth 1 -name '*_fuzz' -type f -printf '%f\n' | sort |
  xargs -P 2 -I{} bash -c 'run_target {}'
