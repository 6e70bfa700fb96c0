"""Reading JSON bodies: strictly, once, straight into the handler's type.

Owns what is refused before a handler sees it: malformed JSON (with the offset), duplicate keys, lone surrogates, NUL,
unknown fields, wrong types. Its cost is in docs/reference/api-auth.md.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, NoReturn

import msgspec
import orjson
from litestar import Request

from outrider.base.errors import Refused

DEEPEST = 254
"""Levels of a body: what orjson writes."""

_UTF8_BOM = b"\xef\xbb\xbf"
_PLACE = re.compile(r" - at `(?P<path>key in `?)?\$(?P<rest>[^`]*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*)`")


class ApiRequest(Request[Any, Any, Any]):
    """A request whose body is decoded into the type of the handler's `data` argument."""

    __slots__ = ()

    async def json(self) -> Any:
        """The body, checked. Raises Refused with pointer or offset."""
        signature = self.route_handler.parsed_fn_signature
        return decode(await self.body(), signature.parameters["data"].annotation)


def decode(body: bytes, kind: Any) -> Any:
    """Decode a body into a msgspec type.

    Raises:  Refused(malformed_json, duplicate_key, byte_order_mark, 400); Refused(lone_surrogate, nul_character,
             unknown_field, required, invalid_value, 422) with a JSON pointer.
    """
    plain = _parse(body)
    _refuse_duplicate_keys(body, plain)
    if b"\\u0000" in body:
        _refuse_nul(plain, "")
    try:
        return _decoder(kind).decode(body)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise Refused("malformed_json", "the body is not JSON that can be read", status=400) from None


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _parse(body: bytes) -> Any:
    """Parse once without a type: the strictest parser at hand, which knows the offset of what it does not like."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        _refuse_malformed(body, error)


def _refuse_malformed(body: bytes, error: orjson.JSONDecodeError) -> NoReturn:
    if body.startswith(_UTF8_BOM):
        raise Refused("byte_order_mark", "JSON begins without a byte order mark", status=400) from None
    try:
        body.decode()
    except UnicodeDecodeError as broken:
        raise Refused("malformed_json", "the body is not UTF-8", status=400, offset=broken.start) from None
    if "surrogate" in error.msg:
        raise Refused("lone_surrogate", "text contains half a surrogate pair", offset=error.pos) from None
    raise Refused(
        "malformed_json",
        f"the body is not JSON: {error.msg.partition(':')[0]} at line {error.lineno}, column {error.colno}",
        status=400,
        offset=error.pos,
    ) from None


def _refuse_duplicate_keys(body: bytes, plain: Any) -> None:
    """Refuse an object that names a key twice, of which parsers keep the last silently.

    Every member's key ends in `":` unless white space follows the key; parsing and writing again drops duplicates, so
    that fewer of these pairs remain. Only when the counts differ, or white space or an escaped quote makes them
    incomparable, a second, slower pass decides.
    """
    try:
        remaining = orjson.dumps(plain).count(b'":')
    except TypeError:
        raise Refused("nested_too_deeply", f"the body is nested more than {DEEPEST} times", status=400) from None
    comparable = not any(odd in body for odd in (b" :", b"\t:", b"\n:", b"\r:", b"\\u0022"))
    if comparable and body.count(b'":') == remaining:
        return

    def look(pairs: list[tuple[str, Any]]) -> None:
        if len(pairs) != len(dict(pairs)):
            names = [name for name, _ in pairs]
            double = next(name for position, name in enumerate(names) if name in names[:position])
            raise Refused("duplicate_key", f"an object names the key {double[:100]!r} twice", status=400)

    json.loads(body, object_pairs_hook=look, parse_int=lambda _: 0, parse_float=lambda _: 0)


def _refuse_nul(value: Any, pointer: str) -> None:
    """Refuse NUL in any text: no database column and no mail can hold it."""
    match value:
        case str() if "\0" in value:
            raise Refused("nul_character", "text must not contain NUL", field=pointer or "/")
        case dict():
            for key, item in value.items():
                _refuse_nul(key, pointer)
                _refuse_nul(item, f"{pointer}/{_escaped(key)}")
        case list():
            for position, item in enumerate(value):
                _refuse_nul(item, f"{pointer}/{position}")


def _explain(message: str) -> Refused:
    """A msgspec message as our error: `Expected `int`, got `str` - at `$.messages[0].to``."""
    found = _PLACE.search(message)
    text = message[: found.start()] if found else message
    pointer = "".join(f"/{_escaped(name or index)}" for name, index in _STEP.findall(found["rest"])) if found else ""
    if unknown := _UNKNOWN.fullmatch(text):
        name = unknown[1][:100]
        return Refused("unknown_field", f"there is no field {name!r}", field=f"{pointer}/{_escaped(name)}")
    if missing := _MISSING.fullmatch(text):
        return Refused("required", "is required", field=f"{pointer}/{_escaped(missing[1])}")
    return Refused("invalid_value", _words(text), field=pointer or "/")


def _words(text: str) -> str:
    """Msgspec's sentence in the words of JSON."""
    plain = text.replace("`", "")
    for python, name in (
        ("null", "null"),
        ("int", "integer"),
        ("str", "string"),
        ("bool", "boolean"),
        ("float", "number"),
    ):
        plain = re.sub(rf"\b{python}\b", name, plain)
    return plain[:1].lower() + plain[1:]


def _escaped(step: str) -> str:
    """A step of a JSON pointer (RFC 6901)."""
    return step.replace("~", "~0").replace("/", "~1")
