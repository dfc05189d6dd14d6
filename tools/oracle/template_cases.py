"""Hand-written templates: every part of the language, and whole chat templates with the features of published ones."""

CONTEXT = {
    "name": "Ann", "n": 5, "items": [1, 2, 3], "words": ["pear", "Fig", "apple"], "none_value": None,
    "user": {"name": "Bo", "age": 41, "tags": ["x", "y"], "items": "shadowed", "address": {"city": "Oslo"}},
    "rows": [{"k": "b", "v": 2}, {"k": "A", "v": 1}, {"k": "a", "v": 3}],
    "tree": [{"id": 1, "kids": [{"id": 2, "kids": [{"id": 3, "kids": []}]}, {"id": 4, "kids": []}]}],
    "text": "line one\nline two\n\n  line four", "uni": "\u00c5ngstr\u00f6m \u4f60\u597d \U0001f600",
}

CASES = r"""
{{ name }}
a {{- name -}} b
  {% if true %}x{% endif %}
  {%+ if true %}x{% endif %}|
{{ 1 }} {# gone #} 2
{% raw %}{{ not }} {% run %}{% endraw %}
{%- raw -%}   {{ x }}   {%- endraw -%}
{{ 1 + 2 * 3 ** 2 // 4 % 5 - -6 }}
{{ 7 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 2 ** -1 }} {{ 2 ** 0.5 }}
{{ -2 ** 2 }} {{ 2 ** 3 ** 2 }} {{ +true }} {{ -true }} {{ true + true }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1.0 % 0 }}
{{ 0.1 + 0.2 }} {{ 1e16 }} {{ 1e15 }} {{ 123456789.125 }} {{ 1e-5 }} {{ 0.0001 }} {{ 1e300 * 1e10 }} {{ -0.0 }}
{{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1_000 }} {{ 1_0.5_0 }} {{ 5e3 }} {{ 5E-1 }}
{{ 9223372036854775807 }} {{ -9223372036854775807 }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ (1,) == [1] }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ 1 in items }} {{ 9 not in items }} {{ 'a' in 'cat' }} {{ 'name' in user }} {{ 1 in missing }}
{{ 1 in 'abc' }}
{{ 1 in 5 }}
{{ not 1 }} {{ not [] }} {{ 1 and 0 or 'z' }} {{ none or 'd' }} {{ [] and 1 }}
{{ 'a' ~ 1 ~ none ~ 2.5 ~ missing ~ [1] }}
{{ 'a' + 1 }}
{{ [1] + [2] }} {{ (1,) + (2,) }} {{ 'ab' * 3 }} {{ 2 * [1] }} {{ 'a' * -1 }}
{{ 'yes' if n > 3 else 'no' }} {{ 'yes' if n > 9 }}|{{ ('a' if false).x is defined }}
{{ 'a' if 0 else 'b' if 0 else 'c' }}
{{ missing }}|{{ user.missing }}|{{ user['missing'] }}|{{ items[9] }}
{{ missing.attr }}
{{ missing['x'] }}
{{ missing() }}
{{ missing + 1 }}
{{ missing == other }} {{ missing != 1 }} {{ missing is defined }} {{ missing|length }} {{ missing|list }} {{ 'x' if missing else 'y' }}
{% for x in missing %}x{% else %}none{% endfor %}
{% for x in none %}{% endfor %}
{% for x in 5 %}{% endfor %}
{{ user.name }} {{ user['age'] }} {{ user.address.city }} {{ user.tags[0] }} {{ user.tags.1 }} {{ user['tags'][-1] }}
{{ user.items() | list | length }} {{ user['items'] }} {{ user.get('name') }} {{ user.get('zz') }} {{ user.get('zz', 3) }}
{% for k, v in user.items() %}{{ k }}={{ v }};{% endfor %}
{{ user.keys() }} {{ user.values() | list }} {{ user.copy() == user }}
{{ user.pop('name') }}
{{ user.update({}) }}
{{ items.append(4) }}
{{ items.pop is defined }} {{ items.__class__ }}|{{ user.__class__ is undefined }}
{{ items.index(2) }} {{ items.count(1) }} {{ items.index(77) }}
{{ name[0] }} {{ name[-1] }} {{ name[1:] }} {{ name[::-1] }} {{ uni[-3:] }} {{ uni[::2] }} {{ uni[8] }} {{ items[::-1] }} {{ items[:2] }} {{ (1, 2, 3)[1:] }}
{{ items[::0] }}
{{ items['a':] }}
{{ user[1:] }}
{{ items[true] }} {{ items['0'] }}|{{ items[1.0] }}|{{ items[none] }}
{{ [] }} {{ [1, 'a', none, true, 2.0, {'k': (1,)}] }} {{ () }} {{ (1,) }} {{ (1, 2) }} {{ {} }} {{ {1: 2, 'a': "it's"} }} {{ ["a'b\"c", "\n"] }}
{{ {1: 'a', 1.0: 'b', true: 'c'} }} {{ {'a': 1}['a'] }} {{ {(1, 2): 3}[(1, 2)] }}
{{ {[1]: 2} }}
{{ "a\tb\x41\u00e9\101\\\'\q" 'joined' "x" }}
{{ 'multi
line' }}
{{ 1, 2 }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}
{% set a, b = 1, 2, 3 %}
{% set (a, b), c = (1, 2), 3 %}{{ a }}{{ b }}{{ c }}
{% set x = 1 %}{% for i in items %}{% set x = i %}{{ x }}{% endfor %}{{ x }}
{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}
{% set ns = namespace(x=0, y='a') %}{% for i in items %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.y }}{{ ns.z }}|{{ ns }}
{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns['a'] }}
{% set ns = namespace(_a=1) %}
{% set ns = {} %}{% set ns.a = 1 %}
{% set x %}a {{ n }} b{% endset %}[{{ x }}]{{ x is string }}
{% set x | upper | replace('A', 'z') %}a{{ n }}{% endset %}{{ x }}
{% for i in items %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}
{% for i in items %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }};{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}
{% for i in [1, 1, 2, 2, 1] %}{{ loop.changed(i) }}{{ loop.cycle('a', 'b', 'c') }} {% endfor %}
{% for i in items if i != 2 %}{{ i }}{{ loop.index }}{{ loop.length }}{{ loop.last }}{% else %}none{% endfor %}
{% for i in items if i > 9 %}{{ i }}{% else %}none{{ loop is defined }}{% endfor %}
{% for i in items %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}{% for i in items %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for i in items %}{% break %}{% else %}else runs{% endfor %}
{% for i in items %}{% for j in items %}{{ loop.index }}{% endfor %}{{ loop.index }}|{% endfor %}
{% for r in tree recursive %}{{ loop.depth }}:{{ r.id }}({{ loop(r.kids) }}){% endfor %}
{% for a in tree %}{{ loop(a.kids) }}{% endfor %}
{% for c in 'héy' %}{{ c }}.{% endfor %}{% for k in {'a': 1, 'b': 2} %}{{ k }}{% endfor %}
{% for a, b in [[1, 2], [3]] %}{{ a }}{% endfor %}
{% for loop in items %}{% endfor %}
{% for i in range(3) %}{{ i }}{% endfor %} {{ range(5, 1, -2) | list }} {{ range(3) }} {{ range(0, 10, 3)[1] }} {{ range(3)|length }} {{ 2 in range(3) }}
{{ range(100001) }}
{{ range(1, 2, 0) }}
{% macro m(a, b='B', c=a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(b=3, a=4) }}{{ m() }}
{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}
{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}in {{ n }}{% endcall %}
{% macro m(xs) %}{% for x in xs %}{{ caller(x, loop.index) }}{% endfor %}{% endmacro %}{% call(a, b='?') m(items) %}{{ a }}-{{ b }};{% endcall %}
{% macro m() %}{{ caller }}{% endmacro %}[{{ m() }}]
{% macro f(n) %}{% if n > 1 %}{{ n }}*{{ f(n - 1) }}{% else %}1{% endif %}{% endmacro %}{{ f(5) }}
{% macro a() %}{{ x }}{% endmacro %}{% set x = 3 %}{{ a() }}
{% macro a(b) %}x{% endmacro %}{{ a.name }} {{ a.arguments }}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}|
{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}
{% filter upper %}abc {{ name }}{% endfilter %}{% filter replace('a', 'b') | upper %}aaa{% endfilter %}
{% generation %}abc{{ n }}{% endgeneration %}|
{% for i in items %}{% generation %}{{ i }}{% endgeneration %}{% endfor %}
{% if false %}a{% elif n == 5 %}b{% else %}c{% endif %}{% if none %}{% endif %}
{% print 1, 2 %}
{{ raise_exception('stop here') }}
{{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%d %b %Y') }}
{{ n is odd }}{{ n is even }}{{ n is divisibleby 5 }}{{ n is divisibleby(3) }}{{ 2.0 is even }}
{{ n is number }}{{ true is number }}{{ 1.5 is float }}{{ n is integer }}{{ true is integer }}{{ true is boolean }}{{ none is none }}{{ true is true }}{{ 1 is true }}{{ false is false }}
{{ name is string }}{{ items is string }}{{ items is sequence }}{{ user is sequence }}{{ user is mapping }}{{ items is iterable }}{{ n is iterable }}{{ range is callable }}{{ n is callable }}
{{ 'abc' is lower }}{{ 'ABC' is upper }}{{ 'aB' is lower }}{{ 1 is in items }}{{ n is eq 5 }}{{ n is ne(5) }}{{ n is gt 3 }}{{ n is lessthan 3 }}{{ n is ge 5 and n is le 5 }}{{ n is sameas n }}{{ n is equalto 5 }}
{{ n is not none }}{{ n is not odd }}{{ not n is odd }}{{ 'upper' is filter }}{{ 'zz' is filter }}{{ 'odd' is test }}
{{ n is nosuch }}
{{ n | nosuch }}
{{ 'a' is odd }}
{{ n is string is string }}
{{ ' a '|trim }}|{{ 'xax'|trim('x') }}|{{ name|upper|lower|title|capitalize }}|{{ "they're bill's-friends (x)"|title }}
{{ words|sort }}{{ words|sort(case_sensitive=true) }}{{ words|sort(reverse=true) }}{{ rows|sort(attribute='k')|map(attribute='v')|list }}{{ rows|sort(attribute='k,v') }}
{{ [1, 'a']|sort }}
{{ words|join(', ') }}{{ rows|join('-', attribute='k') }}{{ [1, none, 2.5]|join }}{{ 'abc'|join('.') }}
{{ items|first }}{{ items|last }}{{ 'abc'|first }}{{ 'abc'|last }}{{ []|first }}{{ items|min }}{{ items|max }}{{ items|sum }}{{ rows|sum('v') }}{{ [[1], [2]]|sum(start=[]) }}{{ rows|max(attribute='v') }}
{{ items|map('string')|list }}{{ words|map('length')|list }}{{ words|map('replace', 'a', 'o')|list }}{{ rows|map(attribute='v')|sum }}{{ rows|map(attribute='zz', default='-')|list }}
{{ items|map|list }}
{{ items|select('odd')|list }}{{ items|reject('gt', 1)|list }}{{ rows|selectattr('v', 'gt', 1)|list|length }}{{ rows|rejectattr('v', 'in', [1, 2])|map(attribute='k')|list }}{{ [0, 1]|select|list }}
{% for g in rows|groupby('k') %}{{ g.grouper }}{{ g.list|length }};{% endfor %}{% for k, v in rows|groupby('v') %}{{ k }}{{ v }}{% endfor %}
{{ words|unique|list }}{{ ['a', 'A', 'b']|unique|list }}{{ ['a', 'A']|unique(true)|list }}{{ items|batch(2, 'x')|list }}{{ items|slice(2)|list }}{{ items|reverse|list }}{{ 'abc'|reverse }}
{{ {'b': 1, 'a': 2}|dictsort }}{{ {'b': 1, 'a': 2}|dictsort(by='value') }}{{ {'a': 1}|items|list }}{{ 'x'|items|list }}
{{ missing|default('d') }}{{ none_value|default('d') }}{{ ''|default('d', true) }}{{ missing|d }}|{{ ''|d('x', boolean=true) }}
{{ '12'|int }}{{ ' 7 '|int }}{{ '1.9'|int }}{{ 'x'|int }}{{ 'x'|int(5) }}{{ '0x1f'|int(0, 16) }}{{ 'ff'|int(base=16) }}{{ 2.9|int }}{{ -2.9|int }}{{ none|int }}{{ '1_000'|int }}{{ true|int }}
{{ missing|int }}
{{ '1.5'|float }} {{ 'x'|float }} {{ 3|float }} {{ 'inf'|float }} {{ '1e3'|float }}
{{ -3|abs }} {{ 2.5|round }} {{ 3.5|round }} {{ 2.567|round(2) }} {{ 2.1|round(0, 'ceil') }} {{ 2.9|round(method='floor') }} {{ 5|round }} {{ 15|round(-1) }} {{ 25|round(-1) }} {{ 2.675|round(2) }}
{{ '<a b="c">\'&'|e }} {{ '<'|escape|escape }} {{ '<b>'|safe + '<i>' }} {{ '<i>' + '<b>'|safe }} {{ '<b>'|safe ~ '<i>' }} {{ ('%s'|safe) % '<' }} {{ ['<']|safe }}
{{ text|indent }}|{{ text|indent(2, true) }}|{{ text|indent('> ', blank=true) }}
{{ 'one two  three'|wordcount }} {{ 'a b&c/d'|urlencode }} {{ {'a b': 'c&d', 'x': 1}|urlencode }} {{ {'class': 'a<b', 'no': none, 'id': 3}|xmlattr }}
{{ '%s is %d and %.2f'|format('x', 3, 2.5) }} {{ '%(a)s'|format(a=1) }} {{ '%5d|%-5d|%05d|%x|%X|%o|%e|%g|%%|%c|%r' % (42, 42, 42, 255, 255, 8, 12345.678, 0.0001, 'z', 'q') }} {{ '%+d % d %#x' % (1, 2, 255) }}
{{ '%d' % 'x' }}
{{ '%s %s' % 'x' }}
{{ '%s' % ('a', 'b') }}
{{ '{} {}'.format(1, 'b') }} {{ '{1}{0}'.format('a', 'b') }} {{ '{x.name}{x[age]}'.format(x=user) }} {{ '{:>5}|{:<5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd') }} {{ '{:05d} {:,} {:.3f} {:x} {:e} {:%} {:+d} {!r}'.format(42, 1234567, 2.5, 255, 12345.0, 0.25, 7, 'q') }} {{ '{{}}'.format() }}
{{ '{}'.format() }}
{{ user|tojson }} {{ rows|tojson(indent=2) }} {{ {'b': 1, 'a': [1, (2, 3), {}], 'c': []}|tojson(indent=1, sort_keys=true) }} {{ '<é\n"\\\u0001 \u007f😀>'|tojson }} {{ 'é😀'|tojson(ensure_ascii=true) }} {{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }} {{ [1.0, 1e20, 'a']|tojson(separators=(',', ':')) }}
{{ missing|tojson }}
{{ range|tojson }}
{{ {(1, 2): 3}|tojson }}
{{ 'a,b,c'.split(',') }}{{ ' a  b '.split() }}{{ 'a b c'.split(' ', 1) }}{{ 'a b c'.rsplit(' ', 1) }}{{ 'a\nb\r\nc'.splitlines() }}{{ 'abc'.split('') }}
{{ 'xxabxx'.strip('x') }}{{ ' a '.lstrip() }}|{{ ' a '.rstrip() }}|{{ 'abc'.startswith('a') }}{{ 'abc'.endswith(('x', 'c')) }}{{ 'abc'.startswith('b', 1) }}{{ 'aXa'.replace('a', 'b', 1) }}{{ 'abc'.find('c') }}{{ 'abc'.find('z') }}{{ 'abab'.rfind('ab') }}{{ 'aaa'.count('a') }}
{{ 'ß'.upper() }}{{ 'ÀÉ'.lower() }}{{ 'ΑΣ'.lower() }}{{ "it's a-b".title() }}{{ 'hELLO wORLD'.capitalize() }}{{ 'aB'.swapcase() }}{{ 'x'.join(['a', 'b']) }}{{ 'unhappy'.removeprefix('un').removesuffix('py') }}{{ '12'.isdigit() }}{{ '²'.isdigit() }}{{ 'a1'.isalnum() }}{{ 'ab'.isalpha() }}{{ ''.isalpha() }}{{ ' '.isspace() }}{{ '7'.zfill(3) }}{{ '-7'.zfill(3) }}{{ 'a'.center(4, '*') }}{{ 'a=b=c'.partition('=') }}{{ 'a=b=c'.rpartition('=') }}
{{ 'x'.join([1]) }}
{{ 'x'.nope() }}
{{ uni|length }}{{ uni|upper }}{{ uni.find('好') }}{{ uni|list }}{{ [uni] }}
{{ dict(a=1, b=2) }}{{ dict([('x', 1)]) }}{{ dict({'q': 1}, z=2) }}
{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{% set j = joiner('|') %}{{ j() }}x{{ j() }}y{{ j() }}
{{ range(*[1, 4])|list }}{{ dict(**{'a': 1}) }}
{{ namespace }}{% include 'x' %}
{% extends 'x' %}
{% import 'x' as y %}
{% from 'x' import y %}
{% nosuch %}
{% if %}
{% if true %}
{% for x in items %}
{% endfor %}
{{ 1 +
{{ (1 }}
{{ 'abc }}
{{ 1 $ 2 }}
{# open
{% raw %} open
{% break %}
{{ a b }}
{% set 1 = 2 %}
{% set true = 2 %}
{% macro m(a=1, b) %}{% endmacro %}
{{ f(a=1, 2) }}
""".strip("\n").split("\n")
# One case a line, except a string with a line break in it.
_at = next(i for i, case in enumerate(CASES) if case == "{{ 'multi")
CASES[_at : _at + 2] = ["\n".join(CASES[_at : _at + 2])]
CASES += [
    "a\n\n{% if true %}\n\n  b\n  {% endif %}\nc\n",
    "  {# c #}\nx\n  {#- c -#}  \n y",
    "{% for i in items %}\n  {{ i }}\n{% endfor %}\nend\n\n",
    "{% for i in items -%}\n  {{ i }}\n{%- endfor %}\nend",
    "{%- set x = 1 -%}\n\n  {{- x -}}  \n\n{{ x }}\r\nz\r",
    "a\n    {%+ if true +%}\n b{% endif %}",
    "x {%- if true -%} y {%- endif %} z\n",
    "\t{% set a = 1 %}\t{{ a }}\n \t{% set a = 2 %}\n{{ a }}",
]

# A name that is set late in a scope is local to it from the start; see jinja2/idtracking.py.
CASES += [
    "{% for i in items %}{{ name }}{% endfor %}{% set name = 1 %}",
    "{{ name }}{% set name = 1 %}{{ name }}",
    "{% if n %}{{ name }}{% endif %}{% for i in items %}{{ name }}{% endfor %}{% set name = 1 %}",
    "{% for i in items %}{{ name }}{% endfor %}{% if n %}{% set name = 1 %}{% endif %}{{ name }}",
    "{% macro m() %}{{ name }}{% endmacro %}{{ m() }}{% set name = 1 %}{{ m() }}",
    "{% macro m(a=name) %}{{ a }}{% set name = 3 %}{{ name }}{% endmacro %}{{ m() }}",
    "{% macro m(a=name) %}{{ a }}{% endmacro %}{{ m() }}{% set name = 1 %}{{ m() }}",
    "{% with a = name %}{{ a }}{% endwith %}{% with b = 1 %}{{ n }}{% endwith %}{% set n = 1 %}",
    "{% filter upper %}{{ name }}{% endfilter %}{% set name = 1 %}",
    "{% set name %}{{ name }}{% endset %}{{ name }}",
    "{% set x, name = 1, name %}{{ name }}",
    "{% generation %}{{ name }}{% endgeneration %}{% set name = 1 %}",
    "{% for i in items %}{% for j in items %}{{ name }}{% endfor %}{% set name = i %}{{ name }}{% endfor %}",
    "{% for i in [] %}{% else %}{{ name }}{% endfor %}{% set name = 1 %}",
    "{% for i in items if name %}{{ i }}{% endfor %}{% set name = 1 %}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{{ name }}{% endcall %}{% set name = 1 %}",
    "{% filter replace('a', y) %}{% set y = 'b' %}banana{% endfilter %}",
    "{% set y | replace('a', name) %}banana{% endset %}{{ y }}",
    "{{ name }}{% set y | replace('a', name) %}banana{% endset %}{{ y }}",
]
# Where a filter or test may be missing.
CASES += [
    "{% if false %}{{ 1|nosuch }}{{ 1 is nosuch }}{% endif %}x",
    "{% if true %}{{ 1|nosuch }}{% endif %}x",
    "{% if false %}{% elif 1|nosuch %}{% else %}x{% endif %}",
    "{{ (n|nosuch) if false else 'b' }}",
    "{{ true or (n|nosuch) }}{{ false and (n is nosuch) }}{{ 1 < 0 < (n|nosuch) }}",
    "{{ ('ab'|upper == 'AB' or n|nosuch) }}",
    "{{ (['a']|map('upper')|list or n|nosuch) }}",
    "{{ name or (n|nosuch) }}",
    "{% for x in [] %}{{ x|nosuch }}{% endfor %}y",
    "{% if false %}{% for x in items %}{{ x|nosuch }}{% endfor %}{% endif %}z",
    "{% if false %}{% for x in items|nosuch %}{{ x }}{% endfor %}{% endif %}z",
    "{% for x in [] if x is nosuch %}{% endfor %}z",
    "{% macro m() %}{{ 1|nosuch }}{% endmacro %}m",
    "{% if false %}{% with a = 1|nosuch %}{% endwith %}{% endif %}w",
    "{% if false %}{% set y | nosuch %}a{% endset %}{% endif %}w",
    "{% if false %}{% filter nosuch %}a{% endfilter %}{% endif %}w",
    "{% if false %}{% set y = 1|nosuch %}{% call name(1|nosuch) %}{% endcall %}{% endif %}c",
    "{% if false %}{% generation %}{{ 1|nosuch }}{% endgeneration %}{% endif %}c",
]
CASES += [
    "{{ uni.encode() }}|{{ uni.encode('utf-8').decode() }}|{{ uni.encode()|length }}|{{ name.encode('ascii').hex() }}",
    "{{ 'it\\'s\\n\\t\\\\'.encode() }}{{ 'a\"\\'b'.encode() }}{{ '\\u00e9'.encode('latin-1') }}{{ uni.encode('ascii', 'ignore') }}{{ uni.encode('ascii', errors='replace') }}",
    "{{ uni.encode('ascii') }}",
    "{{ 'a'.encode() == 'a'.encode() }}{{ 'a'.encode() == 'a' }}{{ 'ab'.encode()|list }}{{ ''.encode()|length == 0 and not ''.encode() }}",
    "{{ '\\u00e9'.encode('latin-1').decode() }}",
    "{{ 'Stra\\u00dfe \\u0130\\ufb01 \\u03a3\\u03c2'.casefold() }}",
    "{{ range(4)[1:][::2] }}{{ range(10)[::-3] }}{{ range(3, 9, 2)[-2:] }}",
]

JSON_TOOLS = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- "# Functions\n\nSignatures:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n<|im_end|>\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string and not (message.content.startswith('<result>') and message.content.endswith('</result>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or (not loop.last and reasoning)) %}
            {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}{{- '\n' }}{%- endif %}
                {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
                {{- '<tool_call>\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}{{- tool_call.arguments }}{%- else %}{{- tool_call.arguments | tojson }}{%- endif %}
                {{- '}\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\n<result>\n' + content + '\n</result>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}"""

XML_TOOLS = r"""{% macro extra_keys(dict_value, known) %}
    {%- if dict_value is mapping %}
        {%- for key in dict_value if key not in known %}
            {%- if dict_value[key] is mapping or (dict_value[key] is sequence and dict_value[key] is not string) %}
                {{- '\n<' ~ key ~ '>' ~ (dict_value[key] | tojson | safe) ~ '</' ~ key ~ '>' }}
            {%- else %}
                {{- '\n<' ~ key ~ '>' ~ (dict_value[key] | string) ~ '</' ~ key ~ '>' }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
{% endmacro %}
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = [] %}{%- endif %}
{%- if system_message is defined %}
    {{- "<|im_start|>system\n" + system_message }}
{%- elif tools is iterable and tools | length > 0 %}
    {{- "<|im_start|>system\nYou can use functions." }}
{%- endif %}
{%- if tools is iterable and tools | length > 0 %}
    {{- "\n\n# Tools\n\n<tools>" }}
    {%- for tool in tools %}
        {%- if tool.function is defined %}{%- set tool = tool.function %}{%- endif %}
        {{- "\n<function>\n<name>" ~ tool.name ~ "</name>" }}
        {%- if tool.description is defined %}{{- '\n<description>' ~ (tool.description | trim) ~ '</description>' }}{%- endif %}
        {{- '\n<parameters>' }}
        {%- if tool.parameters is defined and tool.parameters is mapping and tool.parameters.properties is defined and tool.parameters.properties is mapping %}
            {%- for name, fields in tool.parameters.properties|items %}
                {{- '\n<parameter>\n<name>' ~ name ~ '</name>' }}
                {%- if fields.type is defined %}{{- '\n<type>' ~ (fields.type | string) ~ '</type>' }}{%- endif %}
                {{- extra_keys(fields, ['name', 'type']) }}
                {{- '\n</parameter>' }}
            {%- endfor %}
        {%- endif %}
        {{- extra_keys(tool.parameters, ['type', 'properties']) }}
        {{- '\n</parameters>\n</function>' }}
    {%- endfor %}
    {{- "\n</tools>" }}
{%- endif %}
{%- if system_message is defined or (tools is iterable and tools | length > 0) %}{{- '<|im_end|>\n' }}{%- endif %}
{%- for message in loop_messages %}
    {%- if message.role == "assistant" and message.tool_calls is defined and message.tool_calls is iterable and message.tool_calls | length > 0 %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content is defined and message.content is string and message.content | trim | length > 0 %}{{- '\n' + message.content | trim + '\n' }}{%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}
            {{- '\n<tool_call>\n<function=' + tool_call.name + '>\n' }}
            {%- if tool_call.arguments is mapping %}
                {%- for name, value in tool_call.arguments|items %}
                    {{- '<parameter=' + name + '>\n' }}
                    {%- set value = value if value is string else value | tojson | safe %}
                    {{- value }}
                    {{- '\n</parameter>\n' }}
                {%- endfor %}
            {%- endif %}
            {{- '</function>\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role in ["user", "system", "assistant"] %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.previtem and loop.previtem.role != "tool" %}{{- '<|im_start|>user\n' }}{%- endif %}
        {{- '<tool_response>\n' + message.content + '\n</tool_response>\n' }}
        {%- if not loop.last and loop.nextitem.role != "tool" %}{{- '<|im_end|>\n' }}{%- elif loop.last %}{{- '<|im_end|>\n' }}{%- endif %}
    {%- else %}
        {{- raise_exception('unknown role ' ~ message.role ~ ' on ' ~ strftime_now('%Y-%m-%d')) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>\n' }}{%- endif %}"""

XML_LISTS = r"""{# Lists in tags, reasoning cut with a loop. #}
{% macro list_in_tag(values, tag='required') %}
    {%- if values is defined and values is iterable and values | length > 0 %}
        {%- if tag %}{{- '\n<' ~ tag ~ '>' -}}{% endif %}
            {{- '(' }}
                {%- for value in values -%}
                    {%- if loop.index > 1 %}{{- "; "}}{% endif -%}
                    {%- if value is string -%}
                        {{ "'" ~ value ~ "'" }}
                    {%- else -%}
                        {{ value }}
                    {%- endif -%}
                {%- endfor -%}
            {{- ')' }}
        {%- if tag %}{{- '</' ~ tag ~ '>' -}}{% endif %}
    {%- endif %}
{% endmacro %}

{%- for tool in tools or [] %}
    {%- set tool = tool.function if tool.function is defined else tool %}
    {{- '\n<function name="' ~ tool.name ~ '">' ~ (tool.description | trim) }}
    {%- for name, fields in tool.parameters.properties|items %}
        {{- '\n' ~ name ~ ':' }}
        {{- list_in_tag(fields.enum, 'enum') }}
        {%- for key, value in fields|items if key not in ['enum', 'required'] %}
            {%- set key_text = key|string %}
            {{- ' ' ~ key_text ~ '=' ~ ((value | tojson | safe) if value is mapping else (value | string)) }}
        {%- endfor %}
    {%- endfor %}
    {{- list_in_tag(tool.parameters.required) }}
    {%- if tool.return is defined %}{{- tool.return | tojson }}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- set reasoning = message.reasoning_content if message.reasoning_content is string else '' %}
    {%- if not reasoning and '</think>' in content %}
        {%- set parts = content.split('</think>') %}
        {%- for part in parts %}
            {%- if loop.index0 == 0 -%}
                {%- set reasoning = (part.rstrip('\n').split('<think>')|last).lstrip('\n') %}
                {{- '{' ~ reasoning ~ '}' }}
            {%- else -%}
                {%- set content = part.lstrip('\n') %}
                {{- '[' ~ content ~ ']' -}}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_start|>' ~ message.role ~ '\n' ~ reasoning ~ content }}
    {%- for tool_call in message.tool_calls or [] %}
        {%- set tool_call = tool_call.function or tool_call %}
        {%- if tool_call.arguments is mapping %}
            {%- for name, value in tool_call.arguments|items %}
                {%- set value = value | tojson | safe if value is mapping or (value is sequence and value is not string) else value | string %}
                {{- '<parameter=' + name + '>' + value }}
            {%- endfor %}
        {%- endif %}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
"""

CHAT_TEMPLATES = {"tools as JSON, thinking": JSON_TOOLS, "tools as XML": XML_TOOLS, "lists in tags": XML_LISTS}
