"""The rendering child's code, run in this process: plain data, clear reasons, limits that count."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import minijinja
import pytest

from outrider.data import render_child, template_syntax
from tests.kit.rendering import InProcessRenderer


def render(source: str, variables: Any, part: str = "html") -> str:
    """The text, or "! reason"."""
    text = variables if isinstance(variables, str) else json.dumps(variables)
    (answer,) = asyncio.run(InProcessRenderer().render({part: source}, "v", [text]))
    return f"! {answer}" if isinstance(answer, str) else answer[part]


@pytest.mark.parametrize(
    ("source", "variables", "shown"),
    [
        ("{{ name }}", {"name": "<b>x</b>"}, "&lt;b&gt;x&lt;&#x2f;b&gt;"),
        ("{{ name }}", {"name": "{{ 7*7 }}"}, "{{ 7*7 }}"),
        ("{{ name|default('friend') }}", {}, "friend"),
        ("{{ name|default('friend') }}", {"name": None}, "friend"),
        ("{% if name %}a{% else %}b{% endif %}", {}, "b"),
        ("{% if name %}a{% else %}b{% endif %}", {"name": None}, "b"),
        ("{{ u.name|default('x') }}", {"u": {}}, "x"),
        ("{{ items|default('none') }}{{ values|default('none') }}", {}, "nonenone"),
        ("{{ items[0] }}", {"items": [1]}, "1"),
        ("{{ u.items|default('none') }}{{ w.items[0].n }}", {"u": {}, "w": {"items": [{"n": 1}]}}, "none1"),
        ("{% for k, v in u|items %}{{ k }}{% endfor %}{% if u.items %}x{% endif %}", {"u": {"a": 1}}, "a"),
        ("{% for k, v in u|items %}{{ k }}={{ v }};{% endfor %}", {"u": {"a": 1, "b": "<"}}, "a=1;b=&lt;;"),
        ("{{ u|dictsort }}", {"u": {"a": 1}}, "[(&#x27;a&#x27;, 1)]"),
        ("{{ u is mapping }}{{ l is sequence }}", {"u": {}, "l": []}, "TrueTrue"),
        (
            "{% for r in rows %}{{ r.x }}{% if not loop.last %},{% endif %}{% endfor %}",
            {"rows": [{"x": 1}, {"x": 2}]},
            "1,2",
        ),
        ("{{ a['b.c'] }}", {"a": {"b.c": 1}}, "1"),
        ("{{ n }}", {"n": 10**30}, str(10**30)),
        ("{{ a }}\n", {"a": 1}, "1\n"),
    ],
)
def test_templates_see_plain_data(source: str, variables: Any, shown: str) -> None:
    assert render(source, variables) == shown


@pytest.mark.parametrize(
    ("source", "variables", "reason"),
    [
        ("a\n{{ name }}", {}, "html line 2: variable 'name' is missing"),
        ("{{ name }}", {"name": None}, "html line 1: variable 'name' is missing"),
        ("{{ u.name }}", {"u": {}}, "html line 1: variable 'u.name' is missing"),
        ("{{ u.name|default('x') }}", {}, "html line 1: variable 'u' is missing"),
        ("{{ name|e }}", {}, "html line 1: variable 'name' is missing"),
        ("{{ name|urlencode }}", {}, "html line 1: variable 'name' is missing"),
        ("{{ items }}", {}, "html line 1: variable 'items' is missing"),
        ("{{ u.items }}", {"u": {}}, "html line 1: variable 'u.items' is missing"),
        ("{{ u.items }}{% for k, v in u|items %}{% endfor %}", {"u": {}}, "html: variable 'items' is missing"),
        ("{{ u.pop }}", {"u": {"a": 1}}, "html line 1: variable 'u.pop' is missing"),
        ("{{ l.append }}", {"l": []}, "html line 1: variable 'l.append' is missing"),
        ("{{ u['__class__'] }}", {"u": {}}, "html line 1: variable 'u['__class__']' is missing"),
        ("{{ u.pop('a') }}", {"u": {"a": 1}}, "html line 1: methods are not available: .pop()"),
        ("{{ x", {}, "html line 1: {{ is not closed by }}"),
        ("{{ x|safe }}", {"x": 1}, "html line 1: unknown filter 'safe'"),
        ("{{ ['x']|map('safe')|list }}", {}, "html line 1: unknown filter"),
        ("{% for i in range(99999) %}{% endfor %}", {}, "html line 1: takes too many steps (limit 200,000)"),
        ("{{ 'a' * 2000000 }}", {}, "gives more than 1,048,576 bytes"),
        ("{{ 'é' * 600000 }}", {}, "gives more than 1,048,576 bytes"),
        ("{{ x|round }}", {"x": "abc"}, "html line 1: cannot round value (string)"),
        ("x", "[1]", "variables: the variables are not a JSON object"),
        ("x", "nonsense", "variables: the variables are not a JSON object"),
        ("x", "", "variables: the variables are not a JSON object"),
        ("x", '{"a": NaN}', "variables: NaN is not JSON"),
        ("x", '{"a": -Infinity}', "variables: -Infinity is not JSON"),
        ("x", '{"a": [1e400]}', "variables: the number 1e400 cannot be represented"),
        ("x", '{"a": -0.0}', "variables: the number -0.0 cannot be represented"),
        ("x", '{"a": "\\ud800"}', "variables: the variables have half a surrogate pair"),
        ("x", "[" * 100_000, "variables: the variables are not a JSON object"),
    ],
)
def test_what_cannot_be_rendered_says_why(source: str, variables: Any, reason: str) -> None:
    assert render(source, variables).removeprefix("! ") == reason
    assert render(source, variables).startswith("! ")


def test_one_bad_recipient_fails_alone() -> None:
    renderer = InProcessRenderer()
    answers = asyncio.run(
        renderer.render({"subject": "Hi {{ a }}", "html": "{{ a }}"}, "v", ['{"a": "<"}', "{}", '{"a": 2}'])
    )
    assert answers == [
        {"subject": "Hi <", "html": "&lt;"},
        "subject line 1: variable 'a' is missing",
        {"subject": "Hi 2", "html": "2"},
    ]


def test_an_answer_has_a_limit_over_all_recipients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_child, "LARGEST_ANSWER_BYTES", 25)
    answers = asyncio.run(InProcessRenderer().render({"text": "{{ 'x' * 10 }}"}, "v", ["{}"] * 3))
    assert answers[:2] == [{"text": "x" * 10}] * 2
    assert answers[2] == "the batch gives more than 25 bytes"


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("{% if x %}{% endfor %}", "endfor"),
        ("{{ x|nofilter }}", "nofilter"),
        ('{{ "a"*10**9 }}', "too large"),
        ('{{ "a" * 10000000 }}', "1,048,576"),
        ("{% for i in range(99999) %}{% endfor %}", "steps"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("{% if 1 %}" * 10_000, "recursion"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "recursion"),
        ("{% for i in range(10**9) %}{% endfor %}", "too many"),
    ],
)
def test_a_trial_finds_what_is_wrong_whatever_the_data(source: str, word: str) -> None:
    found = asyncio.run(InProcessRenderer().check({"text": "fine", "html": source}, "v"))
    assert found
    assert (found[0].part, found[0].line) == ("html", 1)
    assert word in found[0].detail


@pytest.mark.parametrize(
    "source",
    [
        "{{ x }}",
        "{{ x + 1 }}{{ x|first }}{{ a.b.c }}",
        "{% for i in items %}{{ i.x|upper }}{% endfor %}",
        "{{ x|round(2) }}",
        "{{ n / 2 }}",
        "{{ x|batch(3) }}",
        "{{ x|join(', ') }}",
        "{{ values }}",
        "{% if x > 3 %}{% endif %}",
    ],
)
def test_a_trial_does_not_hold_missing_data_against_a_template(source: str) -> None:
    assert asyncio.run(InProcessRenderer().check({"html": source}, "v")) == []


def test_the_children_of_two_templates_share_no_state() -> None:
    first = render_child.Template({"text": "{% set a = 1 %}{{ a }}"}, template_syntax, minijinja)
    second = render_child.Template({"text": "{{ a|default('none') }}"}, template_syntax, minijinja)
    assert first.render("text", {}) == b"1"
    assert second.render("text", {}) == b"none"
