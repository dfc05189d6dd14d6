#!/usr/bin/env bash
# Installs what building, testing and fuzzing Deltawing needs on Debian 12, as root or with sudo.
# Nothing is downloaded but Debian packages.
set -euo pipefail

packages=(
  build-essential ccache clang-14 clang-format-14 cmake git ninja-build pkg-config
  clang-19 clang-tools-19 lld-19 llvm-19 libamdhip64-dev rocm-device-libs
  libclang-rt-14-dev libcli11-dev libedit-dev libgtest-dev libgmock-dev libsqlite3-dev libutf8proc-dev libzstd-dev
  nlohmann-json3-dev zlib1g-dev
  python3 python3-numpy
)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "setup: everything is installed"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "setup: run as root or install sudo" >&2; exit 1; }
  as_root=(sudo)
fi
echo "setup: installing ${missing[*]}"
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
