"""JSON Schema of what the API takes and gives, drawn from the handlers' own types.

Owns how a type becomes a schema, named components included; msgspec, which reads the bodies, also writes the schemas,
so that both say the same.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Union, get_args, get_origin

import msgspec
from litestar import Response
from litestar.params import KwargDefinition
from litestar.typing import FieldDefinition

REFERENCE: Final = "#/components/schemas/{name}"
_BOUNDS: Final = {
    # what a parameter of the framework is bounded by -> the words of JSON Schema
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "min_length": "minLength",
    "max_length": "maxLength",
    "min_items": "minItems",
    "max_items": "maxItems",
    "pattern": "pattern",
}
_NOTHING: Final = type(None)


class Schemas:
    """The schemas of a set of types; those with a name are components."""

    def __init__(self, kinds: Iterable[Any]) -> None:
        wanted = list(dict.fromkeys(kinds))
        found, self.components = msgspec.json.schema_components(wanted, ref_template=REFERENCE)
        for component in self.components.values():
            _tidy(component)
        self._by_kind: dict[Any, dict[str, Any]] = {
            kind: _tidy(schema) for kind, schema in zip(wanted, found, strict=True)
        }

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of one of the types."""
        return self._by_kind[kind]


def given(annotation: Any) -> Any:
    """The type of an answer's body: what a handler returns, out of its Response."""
    return get_args(annotation)[0] if get_origin(annotation) is Response else annotation


def without_none(kind: Any) -> Any:
    """A parameter's type: one that is left out is None, but nobody can send None."""
    if get_origin(kind) in {Union, types.UnionType}:
        rest = [part for part in get_args(kind) if part is not _NOTHING]
        return rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007 - made at run time
    return kind


def parameter(field: FieldDefinition, schema: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The schema of a parameter with the bounds and the description that the framework checks it by."""
    found = dict(schema)
    if without_none(field.annotation) is datetime:
        found["format"] = "date-time"
    rules = field.kwarg_definition
    if not isinstance(rules, KwargDefinition):
        return found, ""
    for name, word in _BOUNDS.items():
        value = getattr(rules, name, None)
        if value is not None:
            found[word] = int(value) if isinstance(value, float) and value.is_integer() else value
    return _tidy(found), rules.description or ""


def _tidy(schema: Any) -> Any:
    """Say what no reader of JSON Schema can know: a `$` of ours never stands before a line's end."""
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name == "pattern" and isinstance(value, str):
                schema[name] = value.replace(r"$(?!\n)", "$")
            else:
                _tidy(value)
    elif isinstance(schema, list):
        for value in schema:
            _tidy(value)
    return schema
