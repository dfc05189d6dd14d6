"""Compares the template interpreter with jinja2 over a folder of templates and a set of conversations.

    compare_templates.py path/to/jinja_lines [--random COUNT] folder...

Every *.jinja file is rendered with every conversation and option set, and with COUNT random conversations, by
both. A difference is printed; the exit status is 1 if there is any.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys

import template_oracle

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city, \"now\" <b>&</b> later\u00e9",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "the city", "enum": ["Paris", "Oslo"]},
                    "days": {"type": "integer", "default": 3, "minimum": 0.5},
                    "deep": {"type": "object", "properties": {"x": {"type": ["string", "null"]}}, "required": []},
                    "tags": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}},
]
CALL = {
    "id": "call12345",
    "type": "function",
    "function": {"name": "get_weather", "arguments": {"city": "Paris", "days": 2, "flag": True, "none": None, "list": [1, 2.5]}},
}
TEXT_CALL = {"id": "call12346", "type": "function", "function": {"name": "now", "arguments": '{"a": 1}'}}


def user(text="Hi there"):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


SYSTEM = {"role": "system", "content": " You are helpful.\n"}
CONVERSATIONS = {
    "user": [user()],
    "system": [SYSTEM, user("caf\u00e9 \U0001f600\n\n")],
    "turns": [SYSTEM, user(), assistant("Hello!"), user("And?"), assistant("Fine."), user("  ok  ")],
    "ends with assistant": [user(), assistant("Sure: ")],
    "thinking in text": [user(), assistant("<think>\nhmm\n</think>\n\nYes"), user("Why?")],
    "reasoning": [user(), assistant("Yes", reasoning_content="let me\nthink"), user("Why?"), assistant("So", reasoning_content="x")],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
    "image": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}],
    "call": [SYSTEM, user("weather?"), assistant("", tool_calls=[CALL]), {"role": "tool", "content": "sunny", "name": "get_weather", "tool_call_id": "call12345"}],
    "calls": [
        user("weather?"),
        assistant("Looking", tool_calls=[CALL, TEXT_CALL], reasoning_content="tools"),
        {"role": "tool", "content": "sunny", "name": "get_weather", "tool_call_id": "call12345"},
        {"role": "tool", "content": '{"t": 12}', "name": "now", "tool_call_id": "call12346"},
        assistant("It is sunny."),
        user("Thanks"),
    ],
    "call without content": [user(), assistant(None, tool_calls=[TEXT_CALL]), {"role": "tool", "content": "1", "tool_call_id": "call12346"}],
    "developer": [{"role": "developer", "content": "d"}, user()],
    "late system": [user(), SYSTEM],
    "unknown role": [{"role": "narrator", "content": "x"}],
    "empty": [],
    "many tools turns": [SYSTEM] + [m for i in range(3) for m in (user(f"q{i}"), assistant("", tool_calls=[CALL]), {"role": "tool", "content": f"r{i}", "tool_call_id": "call12345"}, assistant(f"a{i}"))],
}
OPTIONS = [
    {"add_generation_prompt": True},
    {"add_generation_prompt": False, "enable_thinking": False},
    {"add_generation_prompt": True, "enable_thinking": False, "tools": TOOLS},
    {"add_generation_prompt": True, "enable_thinking": True, "tools": TOOLS, "reasoning_effort": "high"},
    {"add_generation_prompt": True, "tools": [], "preserve_thinking": True, "clear_thinking": False, "thinking": True},
]


TEXTS = ["", " ", "\n", "Hi", " two\n\nlines \n", "caf\u00e9 \U0001f600 \u4e16\u754c", "<think>\na\n</think>\n\nb", "</think>c", "<think>", "a</think>b</think>c", "<tool_response>\nx\n</tool_response>", "{{ x }} {% y %}", "\"quoted\" \\n 'single' <b>&amp;", "\u2028\x85\t", "a\r\nb", "-" * 300]
VALUES = ["", "x", "caf\u00e9", 0, -1, 2.0, 1e-7, 1e22, True, False, None, [], [1, "a", None], {}, {"b": [True], "a": {"z": 1.5}}, "<&>'\""]


def random_call(rng):
    arguments = {rng.choice("abcdef") * rng.randint(1, 2): rng.choice(VALUES) for _ in range(rng.randrange(4))}
    function = {"name": rng.choice(["f", "get_weather", "g\u00e9"]), "arguments": json.dumps(arguments) if rng.random() < 0.3 else arguments}
    call = {"type": "function", "id": "call%05d" % rng.randrange(100000), "function": function}
    return call if rng.random() < 0.85 else function


def random_conversation(rng):
    messages = [{"role": "system", "content": rng.choice(TEXTS)}] if rng.random() < 0.5 else []
    for _ in range(rng.randint(1, 7)):
        role = rng.choices(["user", "assistant", "tool", "system"], [4, 5, 3, 0.3])[0]
        message = {"role": role, "content": rng.choice(TEXTS)}
        if role == "assistant" and rng.random() < 0.4:
            message["tool_calls"] = [random_call(rng) for _ in range(rng.randrange(4))]
            message["content"] = rng.choice([message["content"], None, ""])
        if role == "assistant" and rng.random() < 0.4:
            message["reasoning_content"] = rng.choice([*TEXTS, None])
        if role == "user" and rng.random() < 0.1:
            message["content"] = [{"type": "text", "text": rng.choice(TEXTS)} for _ in range(rng.randrange(3))]
        if role == "tool":
            message.update(name="f", tool_call_id="call00000")
        messages.append(message)
    return messages


def random_tool(rng):
    def field():
        keys = rng.sample(["type", "description", "enum", "default", "items", "minimum", "required", "properties", "nullable"], rng.randrange(6))
        known = {"type": rng.choice(["string", "object", ["string", "null"]]), "description": rng.choice(TEXTS), "enum": rng.sample(VALUES, 3), "required": ["a"]}
        return {key: known.get(key, rng.choice(VALUES)) for key in keys}

    parameters = {"type": "object", "properties": {name: field() for name in rng.sample(["a", "b", "items", "\u00e9", "type"], rng.randrange(4))}}
    if rng.random() < 0.7:
        parameters["required"] = list(parameters["properties"])
    function = {"name": rng.choice(["f", "get_weather"]), "description": rng.choice(TEXTS), "parameters": parameters}
    for key in ("description", "parameters"):
        if rng.random() < 0.1:
            del function[key]
    if rng.random() < 0.1:
        function["return"] = rng.choice(VALUES)
    return {"type": "function", "function": function} if rng.random() < 0.9 else function


def random_options(rng):
    options = {"add_generation_prompt": rng.random() < 0.7}
    if rng.random() < 0.5:
        options["tools"] = [random_tool(rng) for _ in range(rng.randrange(4))]
    for name in ("enable_thinking", "preserve_thinking", "add_vision_id"):
        if rng.random() < 0.3:
            options[name] = rng.random() < 0.5
    return options


def cases(folders, random_count=0):
    paths = [path for folder in folders for path in sorted(pathlib.Path(folder).rglob("*.jinja"))]
    for path in paths:
        rng = random.Random(path.name)
        source = path.read_text(encoding="utf-8")
        common = {"tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>"}
        for number in range(random_count):
            context = {**common, "messages": random_conversation(rng), **random_options(rng)}
            yield f"{path.name} / random / {number}", source, context
        for name, messages in CONVERSATIONS.items():
            for number, options in enumerate(OPTIONS):
                yield f"{path.name} / {name} / {number}", source, {**common, "messages": messages, **options}


def run_ours(program, inputs):
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in inputs)
    result = subprocess.run([program], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in result.stdout.decode().split("\n") if line]


def compare(program, items, comparable=lambda text: True):
    """Prints the differences over (name, template, context) and returns their number and that of errors."""
    env = template_oracle.make_environment()
    ours = run_ours(program, [{"template": t, "context": c} for _, t, c in items])
    assert len(ours) == len(items), "the program stopped early"
    different = errors = 0
    for (name, template, context), our in zip(items, ours):
        text, error = template_oracle.render(env, template, context)
        errors += error is not None
        same = our.get("output") == text if error is None else "error" in our
        if same or not comparable(text):
            continue
        different += 1
        if different <= 40:
            print("DIFFERENT:", name)
            if len(template) < 600:
                print("  template:", repr(template), "context:", json.dumps(context)[:300])
            print("  jinja2:", repr(text)[-300:] if error is None else error)
            print("  ours:  ", repr(our.get("output", our))[-300:])
    return different, errors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--random", type=int, default=0, metavar="COUNT")
    options = parser.parse_args()
    items = list(cases(options.folders, options.random))
    different, errors = compare(options.program, items)
    templates = len({name.split(" / ")[0] for name, _, _ in items})
    print(f"{templates} templates, {len(items)} renderings ({errors} are errors in jinja2): {different} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
