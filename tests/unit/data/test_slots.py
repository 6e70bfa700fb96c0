"""Pure substitution is recognised, and gives byte for byte what the engine gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outrider.data.slots import Missing, NotPlain, Piece, Slot, fill, from_json, pieces, to_json
from tests.kit.rendering import InProcessRenderer


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Hi {{ name }}!", ["Hi ", Slot(("name",)), "!"]),
        ("{{a.b_c.d}}", [Slot(("a", "b_c", "d"))]),
        ("a\n{{ x | default( 'y' ) }}", ["a\n", Slot(("x",), "y", line=2)]),
        ('{{ x|d("")|e }}', [Slot(("x",), "", is_escaped=True)]),
        ("{{ x|escape }}", [Slot(("x",), is_escaped=True)]),
        ("a{# note #}b", ["a", "b"]),
        ("plain { text }", ["plain { text }"]),
        ("{{ größe }}", [Slot(("größe",))]),
    ],
)
def test_substitution_becomes_pieces(source: str, expected: list[Any]) -> None:
    assert pieces(source) == expected
    assert from_json(json.loads(json.dumps(to_json(expected)))) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{% if a %}{% endif %}",
        "{{ a|upper }}",
        "{{- a }}",
        "{{ a -}}",
        "{{ a }}{% raw %}{% endraw %}",
        "{{ a['b'] }}",
        "{{ a + 1 }}",
        "{{ 'a' }}",
        "{{ true }}",
        "{{ range }}",
        "{{ loop }}",
        "{{ a|e|default('x') }}",
        "{{ a|default(b) }}",
        "{{ a|default('\\n') }}",
        "{{ a.0 }}",
        "{{ a, b }}",
        "{{ not a }}",
        "{{ a if b }}",
    ],
)
def test_everything_else_is_left_to_the_engine(source: str) -> None:
    assert pieces(source) is None


VALUES = st.one_of(
    st.text(
        alphabet=st.one_of(st.sampled_from(list("<>&\"'/ é🙂{}%\n")), st.characters(exclude_categories=["Cs"])),
        max_size=30,
    ),
    st.integers(-(10**30), 10**30),
    st.booleans(),
    st.none(),
    st.floats(0.5, allow_nan=False, allow_infinity=False),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["b", "items"]), st.text(max_size=5), max_size=2),
)
EXPRESSIONS = [
    "{{ a }}",
    "{{ a.b }}",
    "{{ c|default('<d>') }}",
    '{{ c.items|default("x") }}',
    "{{ items }}",
    "{{ a|e }}",
]


@settings(max_examples=500, deadline=None)
@given(
    source=st.lists(st.sampled_from(EXPRESSIONS), min_size=1, max_size=4).map("<p>é".join),
    variables=st.dictionaries(st.sampled_from(["a", "c", "items", "other"]), VALUES, max_size=4),
    part=st.sampled_from(["html", "text"]),
)
@example(source='{{ c.items|default("x") }}<p>é{{ items }}', variables={"items": "", "c": {}}, part="html")
async def test_pieces_give_what_the_engine_gives(source: str, variables: dict[str, Any], part: str) -> None:
    parts = pieces(source)
    if parts is None:
        return
    (answer,) = await InProcessRenderer().render({part: source}, "v", [json.dumps(variables)])
    mine, missing = filled(parts, variables, part)
    if missing:
        assert isinstance(answer, str)
        assert f"variable '{missing}' is missing" in answer
    elif mine is not None:
        assert answer == {part: mine}


def filled(parts: Sequence[Piece], variables: dict[str, Any], part: str) -> tuple[str | None, str]:
    """The text (None when only the engine knows it), and the variable that is missing."""
    try:
        return fill(parts, variables, is_html=part == "html"), ""
    except NotPlain:
        return None, ""
    except Missing as missing:
        return None, str(missing)
