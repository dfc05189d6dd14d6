#!/usr/bin/env python3
"""Reads what each gfx906 kernel takes from the code objects of a build: registers, LDS, scratch, spills.

Usage: check_gfx906.py BUILD_FOLDER [--table]
Fails when a kernel spills registers or uses scratch memory (an array that went there costs as much as a spill),
and when a folder holds no kernel at all. --table prints every kernel. Needs LLVM's tools, version 15 or later.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

TARGET = "hipv4-amdgcn-amd-amdhsa--gfx906"
FIELDS = {
    "vgprs": "vgpr_count",
    "sgprs": "sgpr_count",
    "lds": "group_segment_fixed_size",
    "scratch": "private_segment_fixed_size",
    "vgpr_spills": "vgpr_spill_count",
    "sgpr_spills": "sgpr_spill_count",
}


def tool(name):
    for version in (19, 18, 17, 16, 15):
        path = shutil.which(f"{name}-{version}")
        if path:
            return path
    sys.exit(f"check_gfx906: {name} of LLVM 15 to 19 is not installed")


def run(*command):
    # clang-offload-bundler looks for its helpers by their names without a version.
    folder = pathlib.Path(tool("llvm-objcopy")).resolve().parent
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode != 0:
        sys.exit(f"check_gfx906: {' '.join(map(str, command))}: {result.stderr.strip()}")
    return result.stdout


def kernels_of(object_file, folder):
    """The metadata of each kernel in one object file."""
    bundle, code = folder / "bundle", folder / "code"
    bundle.unlink(missing_ok=True)
    dumped = subprocess.run(
        [tool("llvm-objcopy"), f"--dump-section=.hip_fatbin={bundle}", object_file, "/dev/null"],
        capture_output=True, text=True, check=False)
    if dumped.returncode != 0 or not bundle.exists():
        return []  # host code only
    run(tool("clang-offload-bundler"), "--unbundle", "--type=o", f"--targets={TARGET}", f"--input={bundle}",
        f"--output={code}")
    notes = run(tool("llvm-readelf"), "--notes", code)
    kernels = []
    for part in re.split(r"\n  - \.a", notes)[1:]:
        name = re.search(r"\.name:\s+(\S+)\n(?:.*\n)*?\s+\.private_segment", part)
        names = re.findall(r"^    \.name:\s+(\S+)", part, re.M)
        if not names:
            continue
        kernel = {"name": names[-1] if name is None else name.group(1)}
        for key, field in FIELDS.items():
            found = re.search(rf"\.{field}:\s+(\d+)", part)
            kernel[key] = int(found.group(1)) if found else 0
        kernels.append(kernel)
    return kernels


def readable(names):
    filt = shutil.which("c++filt")
    if not filt:
        return names
    text = subprocess.run([filt], input="\n".join(names), capture_output=True, text=True, check=False).stdout
    return [re.sub(r"\(anonymous namespace\)::|dw::gpu::|void |\(.*", "", line) for line in text.splitlines()]


def waves_per_simd(vgprs):
    """Occupancy of a GCN SIMD: 256 registers in granules of 4, at most 10 waves."""
    return min(10, 256 // max(4, (vgprs + 3) // 4 * 4))


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    kernels = []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.cu.o")):
            kernels += kernels_of(path, pathlib.Path(folder))
    if not kernels:
        sys.exit(f"check_gfx906: no gfx906 kernel below {sys.argv[1]}")
    names = readable([k["name"] for k in kernels])
    bad = 0
    for kernel, name in zip(kernels, names):
        spills = kernel["vgpr_spills"] + kernel["sgpr_spills"]
        wrong = spills > 0 or kernel["scratch"] > 0
        bad += wrong
        if wrong or "--table" in sys.argv:
            print(f"{'SPILLS ' if wrong else '':7}{name}: {kernel['vgprs']} VGPR ({waves_per_simd(kernel['vgprs'])}"
                  f" waves a SIMD), {kernel['sgprs']} SGPR, {kernel['lds']} B LDS, {kernel['scratch']} B scratch,"
                  f" {spills} spills")
    print(f"gfx906: {len(kernels)} kernels, {bad} with spills or scratch")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
