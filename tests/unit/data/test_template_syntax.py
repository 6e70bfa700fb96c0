"""The template language of tenants: what it splits into, and what is not available, with the line."""

from __future__ import annotations

import minijinja
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.data import render_child, template_syntax
from outrider.data.template_syntax import (
    FILTERS,
    FUNCTIONS,
    TESTS,
    Segment,
    TemplateSyntaxProblem,
    hardened,
    problems,
    split,
)


@pytest.mark.parametrize(
    "source",
    [
        "Hi {{ name }}",
        "{{ a.b|default('x')|e }}",
        "{% if not (a or b) and c in (1, 2) %}x{% endif %}",
        "{% for k, v in d|items %}{{ loop.cycle('a', 'b') }}{% if loop.last %}.{% endif %}{% endfor %}",
        "{% set a = {'x': 1} %}{{ a.x }}",
        "{% set a %}x{% endset %}",
        "{{ {'a': {'b': 1}}.a }}",
        "{{ {'a':1}}} z",
        "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1) }}",
        "{{ x is divisibleby(3) }}{{ x is not none }}",
        "{{ '}}' }}",
        "{% raw %}{{ x.y() }}{% endraw %}",
        "{# {{ x.y() }} #}",
        "{{- x -}}{%- if y +%}{% endif -%}",
        "a } b { c %} #}",
        "{% for i in range(3) %}{% break %}{% endfor %}",
        "{{ x if y else z }}",
        "{{ x[1:2] }}{{ x['a b'] }}{{ -1.5e3 }}",
    ],
)
def test_what_templates_need_is_available(source: str) -> None:
    assert problems(source) == []
    engine = minijinja.Environment()
    engine.add_template("t", hardened(source))


@pytest.mark.parametrize(
    ("source", "line", "word"),
    [
        ("{{ x|safe }}", 1, "'safe'"),
        ("\n\n{{ x|format(1) }}", 3, "'format'"),
        ("{% include 'a' %}", 1, "include"),
        ("{% import 'a' as b %}", 1, "import"),
        ("{% extends 'a' %}", 1, "extends"),
        ("a\n{% autoescape false %}", 2, "'autoescape'"),
        ("{{ u.delete() }}", 1, ".delete()"),
        ("{{ u['a']() }}", 1, "functions"),
        ("{{ (u)() }}", 1, "functions"),
        ("{{ 'a'.join(x) }}", 1, ".join()"),
        ("{{ f(x) }}", 1, "'f'"),
        ("{{ namespace() }}", 1, "'namespace'"),
        ("{{ x is callable }}", 1, "'callable'"),
        ("{{ x is not foo }}", 1, "'foo'"),
        ("{{ _x }}", 1, "underscore"),
        ("{{ a.__class__ }}", 1, "underscore"),
        ("{{ a @ b }}", 1, "'@'"),
        ("\n{{ a", 2, "not closed"),
        ("{% if a", 1, "not closed"),
        ("{# a", 1, "not closed"),
        ("{% raw %}a", 1, "endraw"),
        ("{{ other.cycle(1) }}", 1, ".cycle()"),
    ],
)
def test_what_is_not_available_is_named_with_its_line(source: str, line: int, word: str) -> None:
    found = problems(source)
    assert found
    assert found[0][0] == line
    assert word in found[0][1]


def test_every_listed_filter_and_test_exists_and_every_other_is_gone() -> None:
    env = render_child._environment(minijinja, is_check=False)
    for name in FILTERS:
        assert _kind_of_error(env, f"{{{{ x|{name} }}}}") != "UnknownFilter", name
    for name in render_child._REMOVED_FILTERS:
        assert _kind_of_error(env, f"{{{{ x|{name} }}}}") == "UnknownFilter", name
        assert name not in FILTERS
    for name in TESTS - {"in"}:
        assert _kind_of_error(env, f"{{{{ x is {name} }}}}") != "UnknownTest", name
    assert set(env.globals) == FUNCTIONS


def test_no_filter_takes_the_escaping_off_an_escaped_value() -> None:
    env = render_child._environment(minijinja, is_check=False)
    for name in FILTERS:
        for source in (
            f"{{{{ x|e|{name} }}}}",
            f"{{{{ x|{name} }}}}",
            f"{{{{ x|e|{name}|string }}}}",
            f"{{{{ [x|e]|{name} }}}}",
        ):
            env.add_template("html", source)
            try:
                shown = env.render_template("html", x="<script>&lt;b&gt;")
            except minijinja.TemplateError:
                continue
            assert "<" not in shown, source


def _kind_of_error(env: minijinja.Environment, source: str) -> str:
    try:
        env.render_str(source, "text", x="1")
    except minijinja.TemplateError as error:
        return error.kind
    return ""


PIECES = st.lists(
    st.sampled_from(
        [
            "{{",
            "}}",
            "{%",
            "%}",
            "{#",
            "#}",
            "{",
            "}",
            " a ",
            "'",
            '"',
            "|e",
            "if x",
            "endif",
            "raw",
            "endraw",
            "\n",
            "-",
            "(",
        ]
    ),
    max_size=12,
).map("".join)


@settings(max_examples=1500, deadline=None)
@given(PIECES)
def test_whatever_the_engine_takes_is_split_as_the_engine_splits_it(source: str) -> None:
    engine = minijinja.Environment(keep_trailing_newline=True)
    try:
        engine.add_template("t", source)
        shown = engine.render_template("t")
    except minijinja.TemplateError:
        return
    segments = list(split(source))
    if "-" not in source and all(segment.kind in ("text", "raw", "comment") for segment in segments):
        assert shown == "".join([segment.text for segment in segments if segment.kind != "comment"])


@settings(max_examples=600, deadline=None)
@given(st.one_of(PIECES, st.text(max_size=80)))
def test_splitting_loses_nothing_or_says_why(source: str) -> None:
    found = [(segment.line, segment.text) for segment in _segments(source)]
    assert all(1 <= line <= source.count("\n") + 1 for line, _ in found)
    assert all(text in source for _, text in found)


def _segments(source: str) -> list[Segment]:
    """The segments, or the place of what is wrong as one."""
    try:
        return list(split(source))
    except TemplateSyntaxProblem as problem:
        return [Segment("comment", "", problem.line)] if problem.detail else []


def test_a_missing_value_before_an_escape_is_an_error_too() -> None:
    assert hardened("{{ a|e }}{{ b | escape }}{{ c|urlencode }}") == (
        "{{ a|string|e }}{{ b | string|escape }}{{ c|string|urlencode }}"
    )
    assert hardened("{{ {'a': 1}|urlencode }} |e {{ '|e' }}") == "{{ {'a': 1}|urlencode }} |e {{ '|e' }}"
    assert template_syntax.problems("{{ a|string|e }}") == []
