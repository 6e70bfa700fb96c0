"""Between the API's JSON and plain dataclasses, by what their fields say they are."""

from __future__ import annotations

import types
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def read(kind: type[T], raw: dict[str, Any]) -> T:
    """A value of a dataclass from a JSON object; a field `raw` gets all of it, what a later server adds included."""
    given: dict[str, Any] = {}
    for name, hint, is_required in _fields(kind):  # type: ignore[arg-type]  # a class can be hashed
        if name == "raw":
            given[name] = raw
        elif name in raw:
            given[name] = _value(hint, raw[name])
        elif is_required:
            raise ValueError(f"the answer has no {name!r}: is this an installation of Outrider of this release?")
    return kind(**given)


def body(value: Any) -> Any:
    """The JSON of a value; what is None is left to the server."""
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((field.name, getattr(value, field.name)) for field in fields(value) if field.name != "raw")
        return {name: body(each) for name, each in pairs if each is not None}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return [body(each) for each in value]
    return value


@cache
def _fields(kind: type[Any]) -> list[tuple[str, Any, bool]]:
    hints = get_type_hints(kind)
    return [
        (each.name, hints[each.name], each.default is MISSING and each.default_factory is MISSING)
        for each in fields(kind)
    ]


def _value(hint: Any, raw: Any) -> Any:
    if raw is None:
        return None
    if get_origin(hint) in {Union, types.UnionType}:
        return _value(next(each for each in get_args(hint) if each is not types.NoneType), raw)
    if get_origin(hint) is list:
        return [_value(get_args(hint)[0], each) for each in raw]
    if hint is datetime:
        return datetime.fromisoformat(raw)
    if isinstance(hint, type) and is_dataclass(hint):
        return read(hint, raw)
    return raw
