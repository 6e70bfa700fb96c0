"""Destinations: what comes out of the database goes into a header unharmed, and nothing else does."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.domain.tracking.destinations import Destination, safe


def test_variables_are_put_where_they_were_written_with_their_defaults() -> None:
    where = Destination(("https://a.example/", (("a", "b"), None), "?x=", (("c",), "preset"), "&y=", (("d",), None)))
    assert where.has_variables
    assert where.url(json.dumps({"a": {"b": "1 2"}, "d": 7})) == "https://a.example/1%202?x=preset&y=7"
    assert where.url(json.dumps({"a": {"b": None}, "d": 7})) is None
    assert where.url(json.dumps({"a": "no object", "d": 7})) is None
    assert where.url(None) is None


@pytest.mark.parametrize(
    "address",
    ["", "x", "//evil.example", "javascript:alert(1)", "data:text/html,x", "https://", "https:///x", "http:a",
     "https://[", "ftp://a.example/", "https://a.example/" + "x" * 9000],
)  # fmt: skip
def test_what_is_no_web_address_leads_nowhere(address: str) -> None:
    assert safe(address) is None


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        ("https://a.example/ä b?q=ü#ö", "https://a.example/%C3%A4%20b?q=%C3%BC#%C3%B6"),
        ("https://a.example/%20?a=1&b=2", "https://a.example/%20?a=1&b=2"),
        ("HTTPS://a.example/\r\nSet-Cookie: a=b", "HTTPS://a.example/Set-Cookie:%20a=b"),
        ('https://a.example/"<>`{}|\\^', "https://a.example/%22%3C%3E%60%7B%7D%7C%5C%5E"),
    ],
)
def test_an_address_becomes_a_header(address: str, sent: str) -> None:
    assert safe(address) == sent


@given(st.text(max_size=200))
def test_a_value_never_leaves_the_host_its_author_wrote_and_never_breaks_a_header(value: str) -> None:
    where = Destination(("https://a.example/", (("v",), None)))
    url = where.url(json.dumps({"v": value}))
    assert url is not None
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url
    assert urlsplit(url).hostname == "a.example"
