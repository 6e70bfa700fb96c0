"""What an operator of one tenant could write to stop everybody else: content that takes for ever to look at."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from outrider.plugins.channels.email import headers, html_policy
from tests.kit.rendering import InProcessRenderer

_BOUND_S = 60
_PROGRAM = """
import json, sys
from outrider.contracts.channel import Content
from outrider.plugins.channels.email import body, headers, html_policy
what, text = json.load(sys.stdin)
try:
    if what == "preheader":
        body.sources_of(Content("", "s", text, None, "x", None, (), True))
    elif what == "scan":
        html_policy.scan(text, is_template=True)
    else:
        headers.unstructured("Subject", headers.one_line(text))
except ValueError:
    pass
"""

SLOW = {
    "a body tag of expressions that never ends": ("preheader", "<body" + "{{a}}" * 200_000),
    "body tags that never end": ("preheader", "<body" * 200_000),
    "a link of expressions": ("scan", '{% if no %}<a href="' + "{{a}}" * 200_000 + '">{% endif %}'),
    "a style of expressions": ("scan", '{% if no %}<p style="' + "{{a}}" * 200_000 + '">{% endif %}'),
    "a value without quotes": ("scan", "<a x=" + "y" * 1_000_000 + ">"),
    "a subject of half encoded words": ("subject", "é" + "=?a" * 330_000),
    "a subject of a million letters": ("subject", "é" * 1_000_000),
}


@pytest.mark.parametrize(("what", "text"), SLOW.values(), ids=SLOW)
def test_no_content_takes_for_ever_to_look_at(what: str, text: str) -> None:
    """Each of these took minutes to centuries, with everybody's requests or messages waiting behind it."""
    given = json.dumps([what, text]).encode()
    subprocess.run([sys.executable, "-c", _PROGRAM], input=given, timeout=_BOUND_S, check=True)


@pytest.mark.parametrize("before", [" ", "\n", "/", '"', "'"])
def test_a_value_gives_no_address_its_scheme_whatever_stands_before_the_attribute(before: str) -> None:
    assert html_policy.rendered_problem(f'<a title=\'x{before}href="javascript:alert(1)">') is not None


def test_a_subject_ends_somewhere() -> None:
    with pytest.raises(ValueError, match="characters"):
        headers.one_line("x" * 100_000)
    assert headers.one_line("é" * 998)


@pytest.mark.parametrize(
    "source",
    [
        "{{ labels[language] }}",
        "{{ labels['it' ~ 'ems'] }}",
        "{{ labels['ITEMS'|lower] }}",
        "{{ [labels]|map(attribute=language)|list }}",
        "{{ [labels]|map(attribute='it' ~ 'ems')|join }}",
        "{% for key in labels %}{% endfor %}{{ labels[language] }}",
    ],
)
async def test_no_data_make_a_message_show_the_inside_of_the_engine(source: str) -> None:
    """A recipient whose language is `items` was shown a method of the engine, with its address in memory."""
    renderer = InProcessRenderer()
    context = json.dumps({"labels": {"en": "Hello"}, "language": "items"})
    (answer,) = await renderer.render({"text": source}, "v", [context])
    assert isinstance(answer, str), answer
    assert "0x" not in answer


async def test_a_label_is_still_found_by_a_name_in_the_data() -> None:
    source = "{{ labels[language] }}{% for key, value in labels|items %} {{ key }}={{ value }}{% endfor %}"
    context = json.dumps({"labels": {"en": "Hello", "de": "Hallo"}, "language": "de"})
    (answer,) = await InProcessRenderer().render({"text": source}, "v", [context])
    assert answer == {"text": "Hallo en=Hello de=Hallo"}
