#!/usr/bin/env python3
"""Writes src/text/unicode_class_table.cpp and unicode_normalization_table.cpp.

The truth is the Hugging Face `tokenizers` package, not a Unicode version: its regular expressions and its NFC
follow two different Unicode versions, and a token id must be the one that package gives. Classes are read from
its `Split` pre-tokenizer, compositions and combining classes from its NFC; Python's unicodedata only proposes
the candidates.

    python3 tools/oracle/make_unicode_tables.py
"""
import pathlib
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TARGET = pathlib.Path(__file__).resolve().parents[2] / "src" / "text"
NFC = normalizers.NFC().normalize_str


def members(pattern):
    """The code points one regular-expression class of the oracle holds."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    found = set()
    for start in range(0, len(CODE_POINTS), 4096):
        block = CODE_POINTS[start : start + 4096]
        kept = set()
        for _, (first, last) in split.pre_tokenize_str("".join(map(chr, block))):
            kept.update(range(first, last))
        found.update(c for i, c in enumerate(block) if i not in kept)
    return found


def ranges(values):
    """[(first, count, value)] of runs of neighbours with one value; `values` maps code point to value."""
    runs = []
    for c in sorted(values):
        if runs and runs[-1][0] + runs[-1][1] == c and runs[-1][2] == values[c]:
            runs[-1][1] += 1
        else:
            runs.append([c, 1, values[c]])
    return runs


def classes():
    value = {}
    for number, pattern in ((1, r"\p{L}"), (2, r"\p{N}"), (3, r"\p{M}"), (4, r"\s")):
        for c in members(pattern):
            assert c not in value, hex(c)
            value[c] = number
    return ranges(value)


def combining_classes():
    """The canonical combining class the oracle's NFC uses: 0 for marks newer than its tables."""
    value = {}
    for c in CODE_POINTS:
        wanted = unicodedata.combining(chr(c))
        if wanted == 0:
            continue
        # A mark of a lower class moves before one of a higher class; 1 is below and 240 above all others.
        low, high = ("\u0334", "\u0345")
        moves = NFC("!" + chr(c) + low) != "!" + chr(c) + low or NFC("!" + high + chr(c)) != "!" + high + chr(c)
        if moves:
            value[c] = wanted
    return value


def decompositions(combining):
    """(compositions, one-way decompositions), each [(code point, first, second or 0)]."""
    both, one_way = [], []
    for c in CODE_POINTS:
        text = unicodedata.decomposition(chr(c))
        if not text or text.startswith("<"):
            continue
        parts = [int(x, 16) for x in text.split()]
        whole = "".join(map(chr, parts))
        if NFC(chr(c)) == chr(c):
            if NFC(whole) == chr(c):  # else: newer than the oracle's tables, an ordinary character there
                assert len(parts) == 2
                both.append((c, *parts))
        else:
            one_way.append((c, parts[0], parts[1] if len(parts) > 1 else 0))
    return both, one_way


def write(name, arrays):
    lines = [
        "// Written by tools/oracle/make_unicode_tables.py from the Hugging Face tokenizers package,",
        f"// version {tokenizers.__version__}. Do not edit.",
        '#include "text/unicode_tables.h"',
        "",
        "namespace dw::unicode_tables {",
        "// clang-format off",
    ]
    for array, numbers in arrays:
        lines.append(f"static const uint32_t {array}Data[] = {{")
        line = ""
        for number in numbers:
            if len(line) + len(str(number)) + 1 > 110:
                lines.append(line)
                line = ""
            line += f"{number},"
        lines += [line, "};", f"const std::span<const uint32_t> {array} = {array}Data;"]
    lines += ["// clang-format on", "}  // namespace dw::unicode_tables", ""]
    (TARGET / name).write_text("\n".join(lines))


def main():
    write("unicode_class_table.cpp", [("kClasses", [n for r in classes() for n in (r[0], r[1] << 3 | r[2])])])
    combining = combining_classes()
    both, one_way = decompositions(combining)
    write(
        "unicode_normalization_table.cpp",
        [
            ("kCombiningClasses", [n for r in ranges(combining) for n in (r[0], r[1] << 8 | r[2])]),
            ("kCompositions", [n for row in both for n in row]),
            ("kOneWayDecompositions", [n for row in one_way for n in row]),
        ],
    )


if __name__ == "__main__":
    main()
