from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.base.errors import Refused
from outrider.interfaces.api.bodies import decode


class Item(msgspec.Struct, forbid_unknown_fields=True):
    to: Annotated[str, msgspec.Meta(max_length=20)]
    priority: int = 5
    variables: msgspec.Raw = msgspec.Raw(b"{}")


class Body(msgspec.Struct, forbid_unknown_fields=True):
    messages: list[Item]
    tags: dict[str, str] = {}


def refusal(body: bytes, kind: Any = Body) -> Refused:
    with pytest.raises(Refused) as caught:
        decode(body, kind)
    return caught.value


def test_a_good_body_becomes_the_type() -> None:
    body = decode(b'{"messages":[{"to":"ann","variables":{"n":"A\\"B"}}]}', Body)
    assert body.messages[0].to == "ann"
    assert bytes(body.messages[0].variables) == b'{"n":"A\\"B"}'


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed_json"),
        (b"", 400, "malformed_json"),
        (b"[1" + b"0" * 5000 + b"]", 400, "malformed_json"),
        (b"{} trailing", 400, "malformed_json"),
        (b"{'a': 1}", 400, "malformed_json"),
        (b"[NaN]", 400, "malformed_json"),
        (b'{"messages":[],"tags":{"a":"\xff"}}', 400, "malformed_json"),
        (b"[" * 100_000, 400, "malformed_json"),
        (b'{"messages":' + b"[" * 1000 + b"]" * 1000 + b"}", 400, "nested_too_deeply"),
        (b'{"messages":' + b"[" * 250 + b"]" * 250 + b"}", 422, "invalid_value"),
        (b"\xef\xbb\xbf{}", 400, "byte_order_mark"),
        (b'{"messages":[],"tags":{"a":"\\ud800"}}', 422, "lone_surrogate"),
        (b'{"messages":[{"to":"a","variables":{"x":"\\udc00"}}]}', 422, "lone_surrogate"),
        (b'{"messages":[],"messages":[]}', 400, "duplicate_key"),
        (b'{"messages":[],"m\\u0065ssages":[]}', 400, "duplicate_key"),
        (b'{"messages":[], "tags":{"a" :"1","a":"2"}}', 400, "duplicate_key"),
        (b'{"messages":[{"to":"a","variables":{"x":1,"x":2}}]}', 400, "duplicate_key"),
        (b"[]", 422, "invalid_value"),
        (b"null", 422, "invalid_value"),
        (b'"text"', 422, "invalid_value"),
    ],
)
def test_bodies_that_are_refused(body: bytes, status: int, code: str) -> None:
    refused = refusal(body)
    assert (refused.http_status, refused.code) == (status, code)


def test_malformed_json_names_the_offset() -> None:
    assert refusal(b'{"messages": [}').data["offset"] == 14


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        (b'{"messages":[{"to":1}]}', "invalid_value", "/messages/0/to"),
        (b'{"messages":[{"to":"a"},{"to":"a","priority":"5"}]}', "invalid_value", "/messages/1/priority"),
        (b'{"messages":[{"to":"a","priority":true}]}', "invalid_value", "/messages/0/priority"),
        (b'{"messages":[{"to":"a","admin":true}]}', "unknown_field", "/messages/0/admin"),
        (b'{"messages":[{"to":"a","a/b~c":true}]}', "unknown_field", "/messages/0/a~1b~0c"),
        (b'{"messages":[{}]}', "required", "/messages/0/to"),
        (b"{}", "required", "/messages"),
        (b'{"messages":[{"to":"' + b"x" * 21 + b'"}]}', "invalid_value", "/messages/0/to"),
        (b'{"messages":[{"to":"a\\u0000b"}]}', "nul_character", "/messages/0/to"),
        (b'{"messages":[],"tags":{"k\\u0000":"b"}}', "nul_character", "/tags"),
        (b'{"messages":[{"to":"a","variables":{"x":["\\u0000"]}}]}', "nul_character", "/messages/0/variables/x/0"),
    ],
)
def test_mistakes_name_their_place(body: bytes, code: str, pointer: str) -> None:
    refused = refusal(body)
    assert (refused.code, refused.field) == (code, pointer)


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    assert decode(b'{"messages":[{"to":"a\\\\u0000b"}]}', Body).messages[0].to == "a\\u0000b"


def test_the_message_of_a_wrong_type_speaks_json() -> None:
    assert refusal(b'{"messages":[{"to":1}]}').message == "expected string, got integer"


def test_what_a_caller_sent_is_echoed_in_at_most_100_characters() -> None:
    refused = refusal(b'{"messages":[],"' + b"x" * 5000 + b'":1}')
    assert refused.code == "unknown_field"
    assert len(refused.message) < 140


class Pairs(list[tuple[str, Any]]):
    """An object as a list of members, so that a key can come twice."""


KEYS = st.sampled_from(["a", "b", ":", 'a"', '":', "a b", "\\", "é"])
VALUES = st.recursive(
    st.integers(0, 9) | st.sampled_from(['":', ' "a":1', "x :", '\\"', ":", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(KEYS, inner), max_size=4).map(Pairs),
    max_leaves=8,
)


def written(value: Any, colon: str, *, is_ascii: bool) -> str:
    if isinstance(value, Pairs):
        members = (
            f"{json.dumps(key, ensure_ascii=is_ascii)}{colon}{written(item, colon, is_ascii=is_ascii)}"
            for key, item in value
        )
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(item, colon, is_ascii=is_ascii) for item in value) + "]"
    return json.dumps(value, ensure_ascii=is_ascii).replace('\\"', "\\u0022" if is_ascii else '\\"')


def has_double(value: Any) -> bool:
    if isinstance(value, Pairs):
        return len({key for key, _ in value}) != len(value) or any(has_double(item) for _, item in value)
    return isinstance(value, list) and any(has_double(item) for item in value)


@given(VALUES, st.sampled_from([":", ": ", " :", "\n:"]), st.booleans())
def test_exactly_the_bodies_with_a_doubled_key_are_refused_for_it(value: Any, colon: str, is_ascii: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    body = written(value, colon, is_ascii=is_ascii).encode()
    if has_double(value):
        assert refusal(body, Any).code == "duplicate_key"
    else:
        decode(body, Any)
