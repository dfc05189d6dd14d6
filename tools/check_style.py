#!/usr/bin/env python3
"""Checks what a formatter does not: file lengths, leftover marks, tabs, final newlines, links between documents.

    tools/check_style.py [FOLDER]     (default: the repository this script lies in)

Looks at the files git tracks or would add. Data (tests/data, fuzz seeds, models) may hold anything.
"""

import pathlib
import re
import subprocess
import sys

MAX_LINES = 600
LIMITED = {".h", ".cpp", ".cu", ".cuh", ".py"}
GENERATED = re.compile(r"_tables?\.(cpp|h)$")
TEXT = LIMITED | {".sh", ".cmake", ".txt", ".md", ".json", ".svg", ".html", ".css", ".js", ".yml", ".toml", ""}
DATA = ("tests/data/", "tests/fuzz/corpus/", "models/")
MARKS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")  # split, so that this file does not match
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def files_of(root):
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    for name in sorted(set(filter(None, listed.split("\0")))):
        path = root / name
        if path.is_file() and path.suffix in TEXT and not name.startswith(DATA):
            yield path, name


def anchors_of(text):
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+\s+(.+?)\s*$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", h.replace("`", "").lower()).replace(" ", "-") for h in headings}


def check_links(path, name, text, problems):
    for target in LINK.findall(re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        if not linked.exists():
            problems.append(f"{name}: links to {target}, which does not exist")
        elif anchor and linked.suffix == ".md" and anchor not in anchors_of(linked.read_text(encoding="utf-8")):
            problems.append(f"{name}: links to {target}, a heading that does not exist")


def check_file(path, name, problems):
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        problems.append(f"{name}: is not UTF-8")
        return
    lines = text.split("\n")
    if path.suffix in LIMITED and len(lines) - 1 > MAX_LINES and not GENERATED.search(path.name):
        problems.append(f"{name}: {len(lines) - 1} lines; split it (the limit is {MAX_LINES})")
    if text and not text.endswith("\n"):
        problems.append(f"{name}: no newline at the end")
    for number, line in enumerate(lines, 1):
        if "\t" in line:
            problems.append(f"{name}:{number}: a tab")
        mark = MARKS.search(line)
        if mark:
            problems.append(f"{name}:{number}: {mark.group()}; finish it or file it as an issue")
    if path.suffix == ".md":
        check_links(path, name, text, problems)


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    problems, count = [], 0
    for path, name in files_of(root):
        count += 1
        check_file(path, name, problems)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"style: {count} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
