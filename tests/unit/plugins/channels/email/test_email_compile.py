"""Content is checked when it is saved: every mistake names its part and line, and nothing doubtful is compiled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from outrider.base.errors import Refused, RefusedMany
from outrider.contracts.channel import Attachment, TemplateProblem
from outrider.plugins.channels.email import CHANNEL
from outrider.plugins.channels.email.compile import read_compiled
from tests.kit import letters
from tests.kit.rendering import InProcessRenderer


async def errors(**parts: object) -> list[tuple[str, str]]:
    """(field, code) of every refusal."""
    with pytest.raises(Refused) as refused:
        await CHANNEL.compile(letters.content(**parts), InProcessRenderer())  # type: ignore[arg-type]  # by name
    found = refused.value.errors if isinstance(refused.value, RefusedMany) else [refused.value]
    return [(str(error.field), error.code) for error in found]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"html": None, "text": None}, [("html", "required")]),
        ({"subject": ""}, [("subject", "required")]),
        ({"subject": "  \t"}, [("subject", "required")]),
        ({"subject": "a\r\nBcc: b@c.de"}, [("subject", "header_newline")]),
        ({"subject": "a\0"}, [("subject", "invalid_header")]),
        ({"subject": "=?utf-8?q?=0D=0ABcc:_v=40e.co?="}, [("subject", "invalid_header")]),
        ({"subject": "x" * 999}, [("subject", "too_long")]),
        ({"html": " \n"}, [("html", "required")]),
        ({"text": "a\n\ufffe"}, [("text", "invalid_character")]),
        ({"html": "\ud800"}, [("html", "invalid_character")]),
        ({"text": "x" * 1_100_000}, [("text", "too_long")]),
        ({"preheader": "x" * 501}, [("preheader", "too_long")]),
        ({"preheader": "{{ x"}, [("preheader", "invalid_template")]),
        ({"preheader": "{{ x|safe }}"}, [("html", "invalid_template")]),
        ({"subject": "{{ x|safe }}", "text": "{% if %}"}, [("subject", "invalid_template")]),
        ({"text": "{% if x %}"}, [("text", "invalid_template")]),
        ({"html": "<script>1</script>"}, [("html", "unsafe_html")]),
        ({"html": "<p onclick='x'><iframe>"}, [("html", "unsafe_html"), ("html", "unsafe_html")]),
        (
            {"attachments": (Attachment("a/b.pdf", "application/pdf", b""),)},
            [("attachments.0.name", "invalid_attachment")],
        ),
        (
            {"attachments": (Attachment("a\r\nb", "application/pdf", b""),)},
            [("attachments.0.name", "invalid_attachment")],
        ),
        ({"attachments": (Attachment("..", "application/pdf", b""),)}, [("attachments.0.name", "invalid_attachment")]),
        (
            {"attachments": (Attachment("a.pdf", "multipart/mixed", b""),)},
            [("attachments.0.content_type", "invalid_attachment")],
        ),
    ],
)
async def test_a_mistake_is_refused_by_field(parts: dict[str, object], expected: list[tuple[str, str]]) -> None:
    assert (await errors(**parts))[: len(expected)] == expected


async def test_a_refusal_tells_the_line() -> None:
    with pytest.raises(Refused) as refused:
        await CHANNEL.compile(letters.content(html="<p>\n\n{{ a|nofilter }}</p>"), InProcessRenderer())
    assert refused.value.message == "line 3: unknown filter 'nofilter'"
    assert refused.value.data == {"line": 3} or isinstance(refused.value, RefusedMany)


async def test_what_only_substitutes_is_compiled_and_what_does_more_is_not() -> None:
    renderer = InProcessRenderer()
    compiled = await CHANNEL.compile(letters.content(), renderer)
    assert compiled is not None
    assert json.loads(json.dumps(compiled)) == compiled
    assert renderer.rendered > 0, "the pieces were not compared with the engine"
    for html in ("{% if name %}a{% endif %}", "{{ name|upper }}", "{{ a }}{{ a.b }}"):
        assert await CHANNEL.compile(letters.content(html=html), renderer) is None


async def test_literal_content_needs_no_engine() -> None:
    renderer = InProcessRenderer()
    of = letters.content(subject="{{ name }} {%", html="<p>{{ name</p>", text="{% if", is_template=False)
    composer = await letters.composer(of, letters.identity(), renderer)
    (message,) = await composer.compose([letters.item({"name": "x"})])
    found = letters.read(message)
    assert found["Subject"] == "{{ name }} {%"
    assert letters.part(found, "text/html") == "<p>{{ name</p>\r\n"
    assert letters.part(found, "text/plain") == "{% if\r\n"
    assert renderer.rendered == 0
    assert await errors(html="<script>", is_template=False) == [("html", "unsafe_html")]


class _LyingRenderer(InProcessRenderer):
    """An engine that answers differently from the pieces."""

    async def render(
        self, sources: Mapping[str, str], version_key: str, contexts: Sequence[str]
    ) -> list[dict[str, str] | str]:
        answers = await super().render(sources, version_key, contexts)
        return [*answers[:-1], "something else"]


async def test_pieces_that_differ_from_the_engine_are_not_kept() -> None:
    assert await CHANNEL.compile(letters.content(), _LyingRenderer()) is None


class _RefusingRenderer(InProcessRenderer):
    """A child that ended while it tried the template."""

    async def check(self, sources: Mapping[str, str], version_key: str) -> list[TemplateProblem]:
        return [TemplateProblem("text", 4, "ended its renderer")]


async def test_a_template_that_ends_its_child_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        await CHANNEL.compile(letters.content(), _RefusingRenderer())
    assert (refused.value.field, refused.value.message) == ("text", "line 4: ended its renderer")


async def test_compiled_pieces_of_another_source_or_version_are_not_used() -> None:
    of = letters.content()
    compiled = await CHANNEL.compile(of, InProcessRenderer())
    assert compiled is not None
    assert read_compiled(replace(of, compiled=compiled))
    assert read_compiled(replace(of, compiled=compiled, text="changed")) is None
    assert read_compiled(replace(of, compiled={**compiled, "version": 0})) is None
    assert read_compiled(replace(of, compiled=None)) is None
