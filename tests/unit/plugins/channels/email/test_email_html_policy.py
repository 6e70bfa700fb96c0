"""The HTML policy refuses what can run, names it, and lets ordinary email HTML through untouched."""

from __future__ import annotations

import html.parser

import minijinja
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.data.template_syntax import TemplateSyntaxProblem
from outrider.plugins.channels.email.html_policy import rendered_problem, scan, url_problem

NEWSLETTER = """<!DOCTYPE html><html xmlns:v="urn:schemas-microsoft-com:vml"><head><meta charset="utf-8">
<meta http-equiv="Content-Type" content="text/html"><title>{{ title }}</title>
<style>@media (max-width:600px){.a>b{width:100%!important}} a{color:#06c}</style>
<!--[if mso]><xml><o:OfficeDocumentSettings/></xml><![endif]--></head>
<body style="margin:0" {% if dark %}class="dark"{% else %}class='light'{% endif %}>
<!--[if mso]><table width="{{ width }}"><tr><td><![endif]-->
<!--[if !mso]><!--><div>for others</div><!--<![endif]-->
{% for row in rows %}<tr{% if loop.first %} bgcolor="#eee"{% endif %}>
<td width=50 nowrap>{{ row.name }} &lt; 5 < 6</td></tr>{% endfor %}
<a href="{{ url }}" title="{{ title }}">x</a><a href='https://shop.example/{{ id }}?a={{ b }}'>y</a>
<a href="{% if x %}{{ url }}{% else %}mailto:{{ m }}{% endif %}">z</a>
<a href=https://shop.example/a>w</a><a href="#top">t</a>
<img src="cid:logo" alt="a > b"><img src="data:image/png;base64,AAAA"><br/><hr / ></body></html>
"""


def test_an_ordinary_newsletter_passes() -> None:
    found = scan(NEWSLETTER, is_template=True)
    assert found.problems == []
    assert found.places == [
        "text", "comment", "text", "url", "attribute", "attribute", "attribute", "url", "attribute",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "source",
    [
        "<script>alert(1)</script>",
        "<SCRIPT\nsrc=x>",
        "<svg/onload=alert(1)>",
        "<math><mtext>",
        "<iframe srcdoc='x'>",
        "<object>",
        "<embed>",
        "<applet>",
        "<base href='x'>",
        "<form>",
        "<input>",
        "<textarea>",
        "<noscript>",
        "<x:script>",
        "<img src=x onerror=alert(1)>",
        "<img src='x'onerror='y'>",
        "<img/src='x'/onerror='y'>",
        "<p ONclick='x'>",
        "<p x:onclick='y'>",
        "<img\x0bonerror=x>",
        "<a href='javascript:x'>",
        "<a href='java&#115;cript:x'>",
        "<a href=' java\nscript:x'>",
        "<a href=javascript:x>",
        "<a xlink:href='javascript:x'>",
        "<a href='vbscript:x'>",
        "<a href='data:text/html,x'>",
        "<img src='data:image/svg+xml,x'>",
        "<a href='file:///etc/passwd'>",
        "<p style='width:expression(alert(1))'>",
        "<p style='behavior: url(x)'>",
        "<style>a{b:expression (1)}</style>",
        "<style></styleX><script></style>",
        "<meta http-equiv='refresh' content='0'>",
        "<!--><script>-->",
        "<!---><script>-->",
        "<!-- --!><script>",
        "<p",
        "<p title='a",
        "<!-- a",
        "<style>a",
        "<",
        "</",
        "<title>",
        "<td background='javascript:x'>",
    ],
)
def test_what_can_run_is_refused(source: str) -> None:
    assert scan(source, is_template=False).problems
    assert scan(f"{{# a #}}{source}", is_template=True).problems


@pytest.mark.parametrize(
    "source",
    [
        "<style>{{ css }}</style>",
        "<scr{% if x %}ipt>{% endif %}",
        "<scr{# #}ipt>",
        "<{% if x %}script{% endif %}>",
        "<{{ x }}>",
        "</{{ x }}>",
        "<!{{ x }}>",
        "<img {{ a }}>",
        "<img{{ a }}>",
        "<img alt={{ x }}>",
        "<p a=b{{ x }}>",
        "<p a{{ x }}='b'>",
        "<img on{% if 1 %}error{% endif %}='x'>",
        "<img alt={% if 1 %}'x'{% endif %}>",
        "<a href='java{{ x }}'>",
        "<a href='{{ s }}:x'>",
        "<{% raw %}script{% endraw %}>",
        "{% raw %}<{% endraw %}script>",
        "{% raw %}<scr{% endraw %}ipt>",
        "{% if a %}<a href='{% else %}<b{% endif %}",
        "{% if a %}<p title='{% endif %}x'>",
        "{% for x in y %}<!--{% endfor %}-->",
        "{% set c %}' onerror='{% endset %}<img alt='{{ c }}'>",
        "{% macro m() %}' onerror='{% endmacro %}<img alt='{{ m() }}'>",
    ],
)
def test_template_syntax_cannot_hide_what_can_run(source: str) -> None:
    assert scan(source, is_template=True).problems


def test_a_problem_names_element_and_line() -> None:
    (problem,) = scan("<p>\n{{ a\n}}\n<img src='x'\n onerror='y'>", is_template=True).problems
    assert problem == (5, "the attribute 'onerror' of <img> is not allowed in email")


def test_an_expression_at_the_beginning_of_an_address_is_told_apart() -> None:
    source = "<a href='{{ base }}{{ path }}/{{ q }}' title='{{ t }}'>{{ x }}<!-- {{ c }} --><title>{{ y }}</title>"
    assert scan(source, is_template=True).places == ["url", "url", "attribute", "attribute", "text", "comment", "text"]


@pytest.mark.parametrize(
    "url", ["https://a.b", "http://a", "HTTPS://A", "mailto:a@b", "tel:+1", "/x", "#a", "?b", "", "a/b", "cid:x"]
)
def test_addresses_that_lead_where_they_say_pass(url: str) -> None:
    assert url_problem(url) is None


@pytest.mark.parametrize(
    "url", ["javascript:x", " JavaScript:x", "java\tscript:x", "javascript&colon;x", "data:text/html,x", "blob:x"]
)
def test_other_schemes_are_refused(url: str) -> None:
    problem = url_problem(url)
    assert problem
    assert "scheme" in problem


def test_a_rendered_address_is_looked_at_again() -> None:
    assert rendered_problem('<a title="x" href="https:&#x2f;&#x2f;a">') is None
    assert rendered_problem('<a title="x" href="javascript:alert(1)">')
    assert rendered_problem("<img\nSRC = 'data:text&#x2f;html,x'>")


class _Runs(html.parser.HTMLParser):
    """An independent reader of HTML that collects what could run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "svg"):
            self.found.append(tag)
        self.found += [name for name, _ in attrs if name.startswith("on")]


FRAGMENTS = st.lists(
    st.sampled_from(
        [
            "<",
            ">",
            "/",
            "p",
            "script",
            " ",
            "=",
            "'",
            '"',
            "onload",
            "x",
            "<!--",
            "-->",
            "--!>",
            "<p ",
            "{{ v }}",
            "{% if c %}",
            "{% endif %}",
            "{% else %}",
            "<img ",
            "alt=",
            "<style>",
            "</style>",
            "<title>",
            "</title>",
            "svg",
            "\n",
        ]
    ),
    max_size=14,
).map("".join)


@settings(max_examples=1500, deadline=None)
@given(source=FRAGMENTS, is_true=st.booleans())
def test_what_passes_the_scan_has_nothing_that_runs_in_any_branch(source: str, *, is_true: bool) -> None:

    try:
        found = scan(source, is_template=True)
        env = minijinja.Environment(auto_escape_callback=lambda _: True)
        shown = env.render_str(source, "html", v="\" onload=x <script> '", c=is_true)
    except (minijinja.TemplateError, TemplateSyntaxProblem):
        return
    if not found.problems:
        reader = _Runs()
        reader.feed(shown)
        reader.close()
        assert reader.found == []
