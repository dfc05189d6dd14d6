#!/usr/bin/env bash
# Sets up, builds, and lets the bundled demo model continue a story. Arguments replace the story: they go to
# `deltawing run`, e.g. tools/demo.sh -p "The sea was calm" -n 100
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh
models=(models/demo-*.gguf)
[ -f "${models[0]}" ] || { echo "demo: there is no models/demo-*.gguf in this checkout" >&2; exit 1; }

mkdir -p build
log=build/demo.log
echo "demo: building (some minutes the first time)"
if ! { cmake --preset release && cmake --build --preset release --target deltawing; } >"$log" 2>&1; then
  tail -n 40 "$log" >&2
  echo "demo: the build failed; all of its output is in $log" >&2
  exit 1
fi
[ $# -gt 0 ] ||
  set -- -p "Once upon a time, in a small house at the edge of the forest," -n 200 --temp 0.7 --seed 1
exec build/apps/deltawing/deltawing run -m "${models[0]}" "$@"
