"""What authors write becomes what is sent: MJML, styles in elements, text from HTML, with the template untouched."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from outrider.base.errors import Refused, RefusedMany
from outrider.contracts.channel import Content, Manuscript, Written
from outrider.data import letters
from outrider.data.render_pool import RenderPool
from outrider.plugins.channels.email import CHANNEL

MJML = """<mjml>
  <mj-head><mj-title>{{ name }}</mj-title><mj-preview>Hello {{ name }}</mj-preview>
    <mj-style>.x:hover { color: green }</mj-style></mj-head>
  <mj-body background-color="{{ colour }}">
    {% if is_new %}
    <mj-section><mj-column>
      <mj-text css-class="x">Dear {{ name }}, {% for one in items %}<b>{{ one < 3 }}</b>{% endfor %}</mj-text>
      <mj-button href="https://example.org/?a={{ id }}&amp;b=1">Go</mj-button></mj-column></mj-section>
    {% endif %}
  </mj-body>
</mjml>"""
STYLED = """<html><head>
<style>p { color: red } a:hover { color: green } @media (max-width: 1px) { p { color: blue } }</style></head>
<body><table>{% for row in rows %}<tr><td>{{ row.a < 2 }}</td></tr>{% endfor %}</table>
<p class="{{ c }}">Hi &amp; {{ name|default("you") }}</p></body></html>"""


@pytest.fixture
async def renderer() -> AsyncIterator[RenderPool]:
    pool = RenderPool(1)
    yield pool
    await pool.close()


async def written(renderer: RenderPool, **given: object) -> Written:
    return await CHANNEL.write(Manuscript(**given), renderer)  # type: ignore[arg-type]  # a test's own words


async def test_mjml_becomes_html_that_the_policy_accepts_and_the_engine_renders(renderer: RenderPool) -> None:
    made = await written(renderer, mjml=MJML)
    assert made.html is not None
    assert made.text is not None
    assert "otr" not in made.html + made.text
    assert "<mj-" not in made.html
    assert "fonts.googleapis" not in made.html
    assert 'href="https://example.org/?a={{ id }}&amp;b=1"' in made.html
    assert (
        made.html.index("{% if is_new %}") < made.html.index("{% for one in items %}") < made.html.index("{% endif %}")
    )
    assert "Go (https://example.org/?a={{ id }}&b=1)" in made.text
    content = Content("k", "Hello", made.html, made.text)
    await CHANNEL.compile(content, renderer)
    context = '{"name":"Ann","colour":"#fff","is_new":true,"items":[2],"id":7}'
    (answer,) = await renderer.render({"html": made.html, "text": made.text}, "k", [context])
    assert isinstance(answer, dict)
    assert "Dear Ann, <b>True</b>" in answer["html"]
    assert "background-color:#fff" in answer["html"].replace(" ", "")
    assert "Dear Ann, True" in answer["text"]


async def test_styles_go_into_elements_and_what_cannot_stays_in_the_head(renderer: RenderPool) -> None:
    made = await written(renderer, html=STYLED, text="own words")
    assert made.html is not None
    assert '<p class="{{ c }}" style="color: red;">Hi &amp; {{ name|default("you") }}</p>' in made.html
    assert "{% for row in rows %}<tr><td>{{ row.a < 2 }}</td></tr>{% endfor %}" in made.html.replace("<tbody>", "")
    assert "a:hover { color: green; }" in made.html
    assert "@media" in made.html
    assert (made.text, made.warnings) == ("own words", ())


async def test_a_text_part_is_made_and_one_that_was_written_is_never_touched(renderer: RenderPool) -> None:
    html = (
        "<h1>News</h1><p>Dear {{ name }},<br>see <a href='https://example.org/x'>this</a></p><ul><li>a<li>b</ul>"
        "<ol><li>one</li><li>two</li></ol><div style='display:none'>hidden</div><img alt='a picture' src='cid:1'>"
    )
    made = await written(renderer, html=html)
    assert made.html == html
    lines = [line for line in (made.text or "").splitlines() if line]
    assert lines == [
        "News", "Dear {{ name }},", "see this (https://example.org/x)", "- a", "- b", "1. one", "2. two", "a picture"
    ]  # fmt: skip
    assert "hidden" not in (made.text or "")
    assert (await written(renderer, html=html, text="mine")).text == "mine"
    assert (await written(renderer, html=html, auto_text=False)).text is None


async def test_a_text_that_would_not_hold_together_is_not_made(renderer: RenderPool) -> None:
    html = "<div style='display:none'>{% if a %}</div><p>words{% endif %}</p>"
    made = await written(renderer, html=html)
    assert made.text is None
    assert "no text part was made" in made.warnings[0]


@pytest.mark.parametrize(
    "html",
    [
        "<style>p { color: red {% if a %}; margin: 0{% endif %} }</style><p>a</p>",
        "<style>p { color: red }</style><p {% if a %}class='x'{% endif %}>a</p>",
        "<style>p { color: red }</style>{% if a %}</body>{% endif %}<p>a</p>",
    ],
)
async def test_html_whose_template_would_change_keeps_its_styles_where_they_are(
    renderer: RenderPool, html: str
) -> None:
    made = await written(renderer, html=html, text="t")
    assert made.html is not None
    if made.html != html:  # the styles went in, and every statement kept its place
        assert made.html.index("{% if a %}") < made.html.index("{% endif %}")
        assert "color: red" in made.html
    else:
        assert "styles stay where they are" in made.warnings[0]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("<mjml>\n<mj-body>", 1),
        ("<p>x</p>", 1),
        ("<mjml><mj-body>\n<mj-include path='/etc/passwd'/></mj-body></mjml>", 2),
        ("<mjml><mj-body>\n\n{{ a b }}</mj-body></mjml>", 3),
    ],
)
async def test_mjml_that_cannot_be_read_is_refused_with_its_line(renderer: RenderPool, source: str, line: int) -> None:
    with pytest.raises(Refused) as refused:
        await written(renderer, mjml=source)
    error = refused.value.errors[0] if isinstance(refused.value, RefusedMany) else refused.value
    assert error.code in {"invalid_mjml", "invalid_template"}
    assert f"line {line}:" in error.message
    assert "/etc/passwd" not in error.message


async def test_markup_made_to_exhaust_a_parser_ends_the_child_alone(renderer: RenderPool) -> None:
    with pytest.raises(Refused) as refused:
        await written(renderer, mjml="<mjml><mj-body>" + "<mj-section>" * 60_000 + "</mj-body></mjml>")
    assert refused.value.code in {"too_complex", "invalid_mjml"}
    made = await written(renderer, html="<style>b{color:red}</style><b>a</b>", text="t")
    assert made.html is not None, "the next one is not concerned"


async def test_versions_are_compared_part_by_part() -> None:
    made = await letters.asked(
        {"compare": {"text": ["a\nb\n", "a\nc\n"], "html": [None, "x"], "subject": ["s", "s"]}}, field="text"
    )
    assert made["parts"] == {
        "text": "--- \n+++ \n@@ -1,2 +1,2 @@\n a\n-b\n+c",
        "html": "--- \n+++ \n@@ -0,0 +1 @@\n+x",
        "subject": None,
    }
    long = ["\n".join(map(str, range(5_000))), "\n".join(map(str, range(1, 5_001)))]
    made = await letters.asked({"compare": {"text": long}}, field="text")
    assert made["parts"]["text"].startswith("@@ too long to compare: 5000 and 5000 lines, different from line 1")
