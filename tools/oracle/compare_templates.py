"""Compares the template interpreter with jinja2 over a folder of templates and a set of conversations.

    compare_templates.py path/to/jinja_lines folder...

Every *.jinja file is rendered with every conversation and option set by both. A difference is printed; the
exit status is 1 if there is any.
"""

import json
import pathlib
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


def cases(folders):
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob("*.jinja")):
            source = path.read_text(encoding="utf-8")
            for name, messages in CONVERSATIONS.items():
                for number, options in enumerate(OPTIONS):
                    context = {"messages": messages, "tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>", **options}
                    yield f"{path.name} / {name} / {number}", source, context


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
    items = list(cases(sys.argv[2:]))
    different, errors = compare(sys.argv[1], items)
    templates = len({name.split(" / ")[0] for name, _, _ in items})
    print(f"{templates} templates, {len(items)} renderings ({errors} are errors in jinja2): {different} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
