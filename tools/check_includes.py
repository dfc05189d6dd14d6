#!/usr/bin/env python3
"""Checks the include graph: a room of src/ includes only itself and the rooms below it.

The arrows are those of docs/architecture.md. Also refuses includes that do not exist.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# room -> rooms it may include (transitively closed below)
ARROWS = {
    "base": [],
    "quant": ["base"],
    "gguf": ["quant"],
    "kernels": ["quant"],
    "backend": ["kernels"],
    "model": ["backend", "gguf"],
    "text": ["base"],
    "engine": ["model", "text"],
    "profile": ["base"],
    "server": ["engine", "text"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def closure(room):
    rooms = {room}
    for below in ARROWS[room]:
        rooms |= closure(below)
    return rooms


def check_file(path, room, problems):
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT)
    for include in INCLUDE.findall(text):
        target = ROOT / "src" / include
        if not target.exists():
            if (path.parent / include).exists() or room is None:
                continue
            problems.append(f"{name}: includes {include}, which is not below src/")
            continue
        if room is not None and include.split("/")[0] not in closure(room):
            problems.append(f"{name}: room {room} must not include {include}")


def main():
    problems, count = [], 0
    for path in sorted((ROOT / "src").rglob("*")):
        if path.suffix not in {".h", ".cpp", ".cu", ".cuh"}:
            continue
        room = path.relative_to(ROOT / "src").parts[0]
        if room not in ARROWS:
            problems.append(f"{path.relative_to(ROOT)}: the room {room} is not in the plan")
            continue
        count += 1
        check_file(path, room, problems)
    for folder in ("apps", "tests", "bench"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".h", ".cpp"}:
                count += 1
                check_file(path, None, problems)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"include graph: {count} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
