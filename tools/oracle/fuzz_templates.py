"""Random templates, rendered by the interpreter and by jinja2: fuzz_templates.py path/to/jinja_lines count [seed]."""

import random
import warnings
import sys

import compare_templates
import template_oracle

CONTEXT = {
    "s": "Hello World", "u": "h\u00e9llo \u00df\u4e16\u754c \U0001f600", "e": "", "ws": "  a b\tc \n", "n": 7, "z": 0, "neg": -3, "f": 2.5,
    "big": 1e20, "t": True, "no": False, "nil": None, "l": [3, 1, 2], "m": [1, "a", None, 2.5, [1], {"k": 1}],
    "w": ["b", "A", "c", "a"], "d": {"a": 1, "b": [1, 2], "items": "x", "C": None}, "rows": [{"n": "x", "v": 2}, {"n": "Y", "v": 1}, {"n": "y", "v": 2}],
    "html": "<a href='x'>&</a>", "lines": "one\n  two\n\nthree",
}
NAMES = list(CONTEXT) + ["missing"]
METHODS = [
    "strip()", "lstrip()", "rstrip('dl ')", "upper()", "lower()", "title()", "capitalize()", "swapcase()", "split()", "split('l')",
    "split(' ', 1)", "rsplit('l', 1)", "rsplit(maxsplit=1)", "splitlines()", "splitlines(true)", "startswith('H')", "startswith(('x', 'h'))",
    "endswith('d')", "replace('l', 'LL')", "replace('', '-', 3)", "find('l')", "find('l', 4)", "rfind('l')", "count('l')", "count('')",
    "isdigit()", "isalpha()", "isspace()", "isupper()", "islower()", "istitle()", "removeprefix('He')", "removesuffix('ld')",
    "partition('o')", "rpartition('o')", "zfill(14)", "center(15, '*')", "ljust(13)", "rjust(13, '.')", "join(w)", "join(l)", "format(1, 2)",
    "index('z')", "get('a')", "get('zz', 5)", "keys()|list", "values()|list", "items()|list", "count(1)", "index(2)", "copy()", "append(1)", "foo",
    "a", "b", "n", "x.y", "expandtabs(4)", "casefold()", "isalnum()", "encode", "encode()", "encode('latin-1', 'replace')", "encode().decode()", "encode().hex()", "length",
]
FILTERS = [
    "upper", "lower", "title", "capitalize", "trim", "trim('lH')", "length", "count", "list", "first", "last", "reverse|list", "reverse", "join", "join(', ')",
    "join('-', 'n')", "sort", "sort(reverse=true)", "sort(attribute='v')", "sort(attribute='n,v')", "sort(case_sensitive=true)", "unique|list", "min", "max",
    "max(attribute='v')", "sum", "sum(attribute='v')", "map('upper')|list", "map(attribute='v')|list", "map(attribute='q', default=0)|list",
    "select('odd')|list", "select|list", "reject('none')|list", "selectattr('v', 'gt', 1)|list", "rejectattr('n', 'eq', 'x')|list", "selectattr('v')|map(attribute='n')|join('+')",
    "default('D')", "default('D', true)", "d(1)", "int", "int(5)", "int(0, 16)", "float", "float(1.5)", "abs", "round", "round(1)", "round(-1)", "round(1, 'ceil')",
    "round(method='floor')", "string", "tojson", "tojson(indent=2)", "tojson(sort_keys=true)", "tojson(separators=(',', ':'))", "tojson(ensure_ascii=true)", "e", "escape", "safe",
    "replace('l', 'x')", "replace('l', 'x', 1)", "indent", "indent(2, true)", "indent('> ', first=true, blank=true)", "batch(2)|list", "batch(2, 0)|list", "slice(2)|list", "slice(2, 9)|list",
    "groupby('v')|list", "groupby('n')|map('first')|list", "dictsort", "dictsort(by='value')", "dictsort(reverse=true)", "items|list", "wordcount", "urlencode", "xmlattr", "format(1)", "attr('real')",
    "truncate(8)", "truncate(8, true, '')", "center(20)", "nosuch", "forceescape", "tojson|safe", "map('int')|sum", "map('length')|list",
]
TESTS = [
    "defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping", "iterable", "sequence", "callable", "odd", "even",
    "divisibleby 2", "divisibleby(3)", "eq 7", "ne 'a'", "lt 3", "gt(1)", "le 2.5", "ge 7", "in [1, 7]", "in 'abc'", "lower", "upper", "sameas none", "equalto(1)", "nosuch", "filter", "escaped",
]
BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">", "<=", ">=", "in", "not in", "and", "or"]
ATOMS = ["1", "0", "2", "-1", "10", "3.0", "0.1", "1e3", "1e16", "1e-5", "'a'", "\"l\"", "'x' 'y'", "'\\n\\t\\x41\\u00e9'", "true", "none", "[]", "()", "{}", "(1,)", "'%s-%05.1f'", "'{0}{1!r:>5}'", "'%d'", "range(4)", "namespace(a=1).a", "dict(x=1)"]
SLICES = ["0", "-1", "1:", ":2", "::-1", "1:-1", "-3:", "::2", "5:1:-2", "'a'", "9", "'items'", "'v'", "none", "true", "1.0", "::0", "s"]


def expression(rng, depth=3):
    if depth <= 0 or rng.random() < 0.2:
        return rng.choice(NAMES) if rng.random() < 0.6 else rng.choice(ATOMS)
    sub = lambda: expression(rng, depth - 1)
    kind = rng.randrange(13)
    if kind == 0:
        return f"({sub()} {rng.choice(BINARY)} {sub()})"
    if kind == 1:
        return f"{sub()} {rng.choice(BINARY)} {sub()}"
    if kind in (2, 3):
        return f"({sub()})|{rng.choice(FILTERS)}"
    if kind in (4, 5):
        return f"({sub()}).{rng.choice(METHODS)}"
    if kind == 6:
        return f"({sub()}) is {rng.choice(['', 'not '])}{rng.choice(TESTS)}"
    if kind == 7:
        return f"({sub()})[{rng.choice(SLICES)}]"
    if kind == 8:
        return f"({sub()} if {sub()}{rng.choice(['', ' else ' + sub()])})"
    if kind == 9:
        return f"[{sub()}, {sub()}]"
    if kind == 10:
        return "{" + f"{rng.choice(['1', '(1, 2)', chr(39) + 'k' + chr(39), 's', 'l'])}: {sub()}" + "}"
    if kind == 11:
        return f"{rng.choice(['not ', '-', '+'])}({sub()})"
    return f"{sub()} {rng.choice(['<', '==', 'in'])} {sub()} {rng.choice(['<=', '!=', '>'])} {sub()}"


def tag(rng, text):
    return "{%" + rng.choice(["", "", "-", "+"]) + f" {text} " + rng.choice(["", "", "-", "+"]) + "%}" + rng.choice(["", "\n", " \n  ", "\n\n", "x"])


def body(rng, depth, loop=False):
    return "".join(statement(rng, depth, loop) for _ in range(rng.randrange(1, 4)))


def statement(rng, depth, loop=False):
    kind = rng.randrange(15) if depth > 0 else rng.randrange(4)
    expr = lambda: expression(rng, 2)
    if kind == 0:
        return rng.choice(["text", " \n", "\n  ", "a\r\nb", "{", "}", "# %", "\t", "\u00e9"])
    if kind in (1, 2):
        return "{{" + rng.choice(["", "-"]) + f" {expr()} " + rng.choice(["", "-"]) + "}}" + rng.choice(["", "\n"])
    if kind == 3:
        if loop and rng.random() < 0.6:
            return "{{ loop." + rng.choice(["index", "index0", "first", "last", "length", "revindex", "revindex0", "depth", "previtem", "nextitem", "cycle('a', 'b')", "changed(x)"]) + " }}"
        return rng.choice(["{# note #}", "{#- c -#}\n", "{# d #}\n", "{% raw %}{{ x }}{% endraw %}\n", "{%- raw -%} {% {%- endraw -%} "])
    inner = lambda again=loop: body(rng, depth - 1, again)
    if kind in (4, 5):
        middle = tag(rng, f"elif {expr()}") + inner() if rng.random() < 0.3 else ""
        middle += tag(rng, "else") + inner() if rng.random() < 0.5 else ""
        return tag(rng, f"if {expr()}") + inner() + middle + tag(rng, "endif")
    if kind in (6, 7, 8):
        source = rng.choice(["l", "w", "rows", "m", "range(3)", "d", "s[:3]", "e", "missing", "l|select('odd')", expr()])
        head = rng.choice([f"for x in {source}", f"for x in {source}", f"for x in {source} if {expr()}", "for k, x in d.items()", "for k, x in d|items", "for x, k in [[1, 2], (3, 4)]"])
        control = rng.choice(["", "", "", "{% if x == 1 %}{% continue %}{% endif %}", "{% if loop.index == 2 %}{% break %}{% endif %}"])
        other = tag(rng, "else") + inner() if rng.random() < 0.3 else ""
        return tag(rng, head) + control + inner(True) + other + tag(rng, "endfor")
    if kind == 9:
        return tag(rng, f"set {rng.choice(['s', 'n', 'y', 'l'])} = {expr()}")
    if kind == 10:
        return tag(rng, "set " + rng.choice(["y", "y | upper", "s|trim", "y | replace('l', s)", "y|nosuch"])) + inner() + tag(rng, "endset") + "{{ y }}"
    if kind == 11:
        name = rng.choice(["f1", "f2"])
        call = rng.choice(["()", "(1)", "(1, 2)", "(b=3)", "(n, z=4)", "(1, 2, 3)"])
        return tag(rng, f"macro {name}(a, b={rng.choice(ATOMS)})") + "{{ a }}{{ b }}" + inner(False).replace("{% continue %}", "").replace("{% break %}", "") + rng.choice(["", "{{ varargs }}", "{{ kwargs }}"]) + tag(rng, "endmacro") + "{{ " + name + call + " }}"
    if kind == 12:
        return tag(rng, f"with y = {expr()}, n = {expr()}") + inner() + "{{ y }}" + tag(rng, "endwith")
    if kind == 13:
        return tag(rng, "filter " + rng.choice(["upper", "trim", "replace('a', 'b')|length", "replace('l', y)", "nosuch", "upper|nosuch"])) + inner() + tag(rng, "endfilter")
    return "{% set ns = namespace(c=0) %}{% for x in l %}{% set ns.c = ns.c + x %}" + inner(True) + "{% endfor %}{{ ns.c }}"


# What two runs of Python do not agree on, or what cannot be compared: addresses of objects.
def comparable(text):
    return text is None or not any(mark in text for mark in (" object at 0x", "<bound", "<built-in", "<function", "<generator", "<reversed", "<macro", "<Macro", "LoopContext", "Markup("))


def main():
    warnings.simplefilter("ignore")
    template_oracle.fold_no_slices()
    program, count = sys.argv[1], int(sys.argv[2])
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    items = []
    for i in range(count):
        template = "{{ " + expression(rng, 4) + " }}" if i % 2 else body(rng, 2)
        items.append((str(i), template, CONTEXT))
    different, errors = compare_templates.compare(program, items, comparable)
    print(f"{count} random templates ({errors} are errors in jinja2): {different} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
