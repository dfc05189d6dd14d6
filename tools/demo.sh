#!/usr/bin/env bash
# Sets up, builds, and lets the bundled demo model continue a story. Arguments go to `deltawing run`.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh
cmake --preset release >build-demo.log 2>&1 && cmake --build --preset release --target deltawing >>build-demo.log 2>&1 || {
  tail -n 40 build-demo.log >&2
  exit 1
}
rm -f build-demo.log
if [ $# -eq 0 ]; then
  set -- -p "Once upon a time, in a small house at the edge of the forest," -n 200 --temp 0.7 --seed 1
fi
exec build/apps/deltawing/deltawing run -m "$(ls models/demo-*.gguf | head -n 1)" "$@"
