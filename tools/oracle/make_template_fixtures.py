"""Writes tests/data/text/templates.json: templates, contexts and what jinja2 makes of them.

    make_template_fixtures.py tests/data/text/templates.json
"""

import json
import random
import sys
import warnings

import compare_templates
import fuzz_templates
import template_cases
import template_oracle

RANDOM_CASES = 260


def random_cases(env):
    rng = random.Random(20240726)
    seen = {True: 0, False: 0}
    while min(seen.values()) < RANDOM_CASES // 4 or sum(seen.values()) < RANDOM_CASES:
        template = "{{ " + fuzz_templates.expression(rng, 3) + " }}" if rng.random() < 0.5 else fuzz_templates.body(rng, 2)
        text, error = template_oracle.render(env, template, fuzz_templates.CONTEXT)
        failed = error is not None
        if len(template) > 240 or not fuzz_templates.comparable(text) or (failed and seen[True] >= RANDOM_CASES // 4):
            continue
        if not failed and len(text) > 400:
            continue
        seen[failed] += 1
        yield {"template": template, "context": "random", "expected": text}


def main():
    warnings.simplefilter("ignore")
    env = template_oracle.make_environment()
    contexts = {"random": fuzz_templates.CONTEXT, "cases": template_cases.CONTEXT}
    cases = []
    for template in template_cases.CASES:
        text, error = template_oracle.render(env, template, template_cases.CONTEXT)
        cases.append({"template": template, "context": "cases", "expected": text})
    cases += random_cases(env)
    for name, source in template_cases.CHAT_TEMPLATES.items():
        for title, messages in compare_templates.CONVERSATIONS.items():
            for number, options in enumerate(compare_templates.OPTIONS):
                key = f"{title} {number}"
                contexts[key] = {"messages": messages, "tools": None, "documents": None, **options}
                text, error = template_oracle.render(env, source, contexts[key])
                cases.append({"template": source, "name": name, "context": key, "expected": text})
    # Long templates are stored once.
    shared = list(dict.fromkeys(case["template"] for case in cases if len(case["template"]) > 600))
    for case in cases:
        if case["template"] in shared:
            case["template"] = shared.index(case["template"])
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        out.write('{"shared": ' + json.dumps(shared) + ',\n"contexts": ' + json.dumps(contexts) + ',\n"cases": [\n')
        out.write(",\n".join(json.dumps(case, ensure_ascii=False) for case in cases))
        out.write("\n]}\n")
    errors = sum(case["expected"] is None for case in cases)
    print(f"{len(cases)} cases, {errors} of them errors")


if __name__ == "__main__":
    main()
