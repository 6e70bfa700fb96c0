"""Settings of a plugin as data: form, API schema, CLI flags and docs are drawn from them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from outrider.base.errors import Refused, RefusedMany

Kind = Literal["text", "secret", "integer", "number", "boolean", "choice"]


@dataclass(frozen=True, slots=True)
class Field:
    """One setting: its name, what it is for, its kind, bounds and default."""

    name: str
    help: str
    kind: Kind = "text"
    default: Any = None
    is_required: bool = False
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    longest: int = 1000
    """Greatest number of characters of a text or secret."""
    pattern: str = ""
    """A regular expression that a text matches as a whole; `example` tells people what it means."""
    example: str = ""
    refuses: Callable[[str], str | None] | None = None
    """Says what is wrong with a text that the pattern lets through; None: nothing."""
    is_per_campaign: bool = False
    """A setting of a tenant that a campaign may set otherwise for itself."""


def check(fields: Sequence[Field], given: Mapping[str, Any], *, where: str = "settings") -> dict[str, Any]:
    """Validate and complete settings.

    Gives:   every field of `fields` with a value (given, default or None).
    Raises:  RefusedMany naming each unknown, missing or ill-typed field at once.
    """
    errors: list[Refused] = []
    known = {field.name for field in fields}
    errors.extend(
        Refused("no_such_setting", f"unknown setting; known ones: {', '.join(sorted(known))}", field=f"{where}.{name}")
        for name in given
        if name not in known
    )
    result: dict[str, Any] = {}
    for field in fields:
        value = given.get(field.name)
        if value is None:
            if field.is_required:
                errors.append(Refused("required", f"is required: {field.help}", field=f"{where}.{field.name}"))
            result[field.name] = field.default
            continue
        problem = _problem(field, value)
        if problem:
            errors.append(Refused("invalid_setting", problem, field=f"{where}.{field.name}"))
        result[field.name] = value
    if errors:
        raise RefusedMany(errors)
    return result


def _problem(field: Field, value: Any) -> str | None:
    """What is wrong with one value, or None."""
    match field.kind:
        case "integer" if isinstance(value, bool) or not isinstance(value, int):
            return "must be a whole number"
        case "number" if isinstance(value, bool) or not isinstance(value, (int, float)):
            return "must be a number"
        case "number" if isinstance(value, float) and not math.isfinite(value):
            return "must be a finite number"
        case "boolean" if not isinstance(value, bool):
            return "must be true or false"
        case "choice" if value not in field.choices:
            return f"must be one of {', '.join(field.choices)}"
        case "text" | "secret":
            return _text_problem(field, value)
    if isinstance(value, (int, float)):
        if field.least is not None and value < field.least:
            return f"must be at least {field.least:g}"
        if field.most is not None and value > field.most:
            return f"must be at most {field.most:g}"
    return None


def _text_problem(field: Field, value: Any) -> str | None:
    if not isinstance(value, str):
        return "must be text"
    if len(value) > field.longest:
        return f"must have at most {field.longest} characters"
    if any(character in value for character in "\r\n\0"):
        return "must be one line without control characters"
    if field.pattern and not re.fullmatch(field.pattern, value):
        return f"must look like {field.example}"
    return None if field.refuses is None else field.refuses(value)
