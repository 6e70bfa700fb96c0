"""Templates that only substitute variables, as constant pieces and slots.

Owns what counts as pure substitution and what a value looks like as text; a compiled template gives, byte for byte,
what the engine gives (`compile` proves it with the real engine before it is kept). Whatever is not plainly the same
here (numbers with a fraction, lists, maps) is left to the engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from outrider.data.template_syntax import FUNCTIONS, split

_NAME = r"[^\W\d]\w*"
_SUBSTITUTION = re.compile(
    rf"""\s*(?P<path>{_NAME}(?:\.{_NAME})*)
    \s*(?:\|\s*(?:default|d)\(\s*(?:"(?P<double>[^"\\\r\n]*)"|'(?P<single>[^'\\\r\n]*)')\s*\))?
    \s*(?P<escape>\|\s*(?:e|escape))?\s*""",
    re.VERBOSE,
)
_RESERVED = FUNCTIONS | {
    "true", "false", "none", "True", "False", "None", "not", "in", "is", "and", "or", "if", "else", "loop", "self",
    "super", "caller",
}  # fmt: skip

_SPECIAL = re.compile("[<>&\"'/]")
_ESCAPES = str.maketrans({"<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;", "'": "&#x27;", "/": "&#x2f;"})


class Slot(NamedTuple):
    """Where a value goes: its path in the variables, what stands for a missing one, and where in the part it is."""

    path: tuple[str, ...]
    default: str | None = None
    is_escaped: bool = False
    line: int = 1
    place: str = "text"


Piece = str | Slot


class Failed(Exception):
    """One recipient's message cannot be made; the text says why."""


class Missing(Exception):
    """A variable without a default is missing; the message names it."""


class NotPlain(Exception):
    """A value whose text only the engine knows."""


def pieces(source: str, places: Sequence[str] = ()) -> list[Piece] | None:
    """Split a source into constant pieces and slots.

    Takes:   places: of every expression in the source, for HTML parts (`html_policy.scan`).
    Gives:   None when the source does more than substitute variables.
    Raises:  TemplateSyntaxProblem.
    """
    result: list[Piece] = []
    place = iter(places)
    for segment in split(source):
        match segment.kind:
            case "text":
                result.append(segment.text)
            case "print":
                slot = _slot(segment.text, segment.line, next(place, "text"))
                if slot is None:
                    return None
                result.append(slot)
            case "raw" | "block":
                return None
    return result


def _slot(expression: str, line: int, place: str) -> Slot | None:
    found = _SUBSTITUTION.fullmatch(expression)
    if not found:
        return None
    path = tuple(found["path"].split("."))
    if path[0] in _RESERVED:
        return None
    default = found["double"] if found["double"] is not None else found["single"]
    return Slot(path, default, bool(found["escape"]), line, place)


def slots_of(parts: Iterable[Piece]) -> list[Slot]:
    """The slots among pieces, in order."""
    return [piece for piece in parts if isinstance(piece, Slot)]


def to_json(parts: Sequence[Piece]) -> list[Any]:
    """Pieces as JSON: texts, and slots as arrays."""
    return [[list(piece.path), *piece[1:]] if isinstance(piece, Slot) else piece for piece in parts]


def from_json(parts: Sequence[Any]) -> list[Piece]:
    """What `to_json` gave, read back."""
    return [piece if isinstance(piece, str) else Slot(tuple(piece[0]), *piece[1:]) for piece in parts]


def escape(text: str) -> str:
    """Escape for HTML exactly as the engine does."""
    return text.translate(_ESCAPES) if _SPECIAL.search(text) else text


def text_of(slot: Slot, variables: Mapping[str, Any]) -> str:
    """The text of a slot, not yet escaped for HTML.

    Raises:  Missing; NotPlain for values that the engine has to print.
    """
    value: Any = variables
    for depth, key in enumerate(slot.path):
        if type(value) is not dict:
            raise NotPlain
        value = value.get(key)
        if value is None:  # null counts as missing, as in the child
            if slot.default is not None and depth == len(slot.path) - 1:
                return slot.default
            raise Missing(".".join(slot.path[: depth + 1]))
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]  # its type was just compared
    if kind is int or kind is bool:
        return str(value)
    raise NotPlain


def fill(parts: Sequence[Piece], variables: Mapping[str, Any], *, is_html: bool) -> str:
    """A whole part for one recipient.

    Raises:  Missing, NotPlain.
    """
    done: list[str] = []
    for piece in parts:
        if isinstance(piece, str):
            done.append(piece)
            continue
        text = text_of(piece, variables)
        done.append(escape(text) if is_html or piece.is_escaped else text)
    return "".join(done)
