#!/usr/bin/env bash
# Runs every fuzz target of tests/fuzz for a number of seconds (default 60), four at a time, and prints how many
# inputs each executed. Seeds: tests/fuzz/corpus/<target> and tests/fuzz/corpus/<room>, where they exist; the room
# is the target's name up to the first underscore. Fails if a target is not built or finds a crash, a leak or a
# hang; the input that did it is kept in build-fuzz/findings.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
programs=build-fuzz/tests/fuzz
findings=build-fuzz/findings
mkdir -p "$findings"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run_target() {
  local name=$1 log=$work/$1.log status=0 folder executed
  if [ ! -x "$programs/$name" ]; then
    echo "fuzz: $name: FAILED, not built (cmake --preset fuzz && cmake --build --preset fuzz)"
    return 1
  fi
  mkdir -p "$work/$name"
  local folders=("$work/$name") # the first one receives new inputs
  for folder in "tests/fuzz/corpus/$name" "tests/fuzz/corpus/${name%%_*}"; do
    [ ! -d "$folder" ] || folders+=("$folder")
  done
  "$programs/$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="$findings/$name-" "${folders[@]}" >"$log" 2>&1 || status=$?
  executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
  if [ "$status" -eq 0 ] && [ "${executed:-0}" -gt 0 ]; then
    echo "fuzz: $name: $executed inputs, no finding"
    return 0
  fi
  tail -n 40 "$log"
  echo "fuzz: $name: FAILED after ${executed:-an unknown number of} inputs (exit status $status; see $findings)"
  return 1
}
export -f run_target
export findings programs seconds work

targets=$(find tests/fuzz -maxdepth 1 -name '*_fuzz.cpp' -printf '%f\n' | sed 's/\.cpp$//' | sort)
[ -n "$targets" ] || { echo "fuzz: no targets in tests/fuzz" >&2; exit 1; }
xargs -P 4 -I{} bash -c 'run_target {}' <<<"$targets"
