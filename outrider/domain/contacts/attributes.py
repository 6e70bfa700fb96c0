"""What a tenant's attributes hold: text, number, boolean, date, moment or one of some choices.

Owns the definitions and the check of values against them. An attribute without a definition holds any JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Literal, Protocol

import msgspec
import orjson

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts import values
from outrider.domain.contacts.rows import AUDIENCE as SQL

Type = Literal["text", "number", "boolean", "date", "moment", "choice"]
MOST_DEFINITIONS = 200
MOST_CHOICES = 200
MOST_VALUES = 100
RESERVED = frozenset({"email", "name", "external_id"})
"""What messages hold beside the attributes: an attribute of this name would never be seen."""

_LONGEST_CHOICE = 200
_LONGEST_NUMBER = 40
_KEY = re.compile(r"[a-z][a-z0-9_]{0,62}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Typed(Protocol):
    """Whatever says what an attribute holds: a definition, or what an import remembers of one."""

    @property
    def type(self) -> Type:
        """What it holds."""

    @property
    def choices(self) -> list[str]:
        """Its choices, for type choice alone."""


class NewDefinition(msgspec.Struct, forbid_unknown_fields=True):
    """What an attribute shall hold; `choices` for type choice alone."""

    type: Type
    label: str = ""
    choices: list[str] = []


class Definition(msgspec.Struct, frozen=True):
    """What an attribute holds."""

    key: str
    type: Type
    label: str
    choices: list[str]
    created_by: str
    created_at: datetime


class ValueCount(msgspec.Struct, frozen=True):
    """A value of an attribute as text, what JSON type it has, and how many contacts have it."""

    value: str | None
    type: str
    contact_count: int


async def define(uow: UnitOfWork, actor: Actor, key: str, wanted: NewDefinition) -> Definition:
    """Say what an attribute holds from now on. Values that contacts have already stay as they are.

    Raises:  Refused(invalid_key, reserved_key, invalid_choices, too_many);
             Refused(type_fixed, 409) for another type than it has: forget it first.
    """
    _check_key(key)
    label = values.check_name(wanted.label, field="/label")
    choices = _checked_choices(wanted)
    held = await SQL.lock_definition.value(uow.raw, uow.tenant, key)
    if held is None and len(await listed(uow)) >= MOST_DEFINITIONS:
        raise Refused("too_many", f"at most {MOST_DEFINITIONS} attributes may be defined", field="/key")
    if held not in {None, wanted.type}:
        raise Refused("type_fixed", f"the attribute is {held}; forget it before giving it another type", status=409)
    row = (uow.raw, uow.tenant, key, wanted.type, label, orjson.dumps(choices).decode(), actor.name)
    await SQL.define_attribute.one(*row)
    details = {"type": wanted.type, "choices": len(choices)}
    await append(uow, actor, action="attribute.define", target=("attribute", key), details=details)
    return (await listed(uow))[key]


async def forget(uow: UnitOfWork, actor: Actor, key: str) -> None:
    """Take a definition away; the values stay with the contacts and may be anything from now on.

    Raises:  Refused(not_found).
    """
    if await SQL.forget_attribute.value(uow.raw, uow.tenant, key) is None:
        raise Refused("not_found", "no attribute is defined under this key", field="/key", status=404)
    await append(uow, actor, action="attribute.forget", target=("attribute", key))


async def listed(uow: UnitOfWork) -> dict[str, Definition]:
    """Every definition of the tenant by its key."""
    return {
        row["key"]: Definition(**{**dict(row), "choices": orjson.loads(row["choices"])})
        for row in await SQL.definitions.many(uow.raw, uow.tenant)
    }


async def used_values(uow: UnitOfWork, key: str) -> list[ValueCount]:
    """Up to 100 different values of an attribute, the most frequent first; what does not fit its type shows here."""
    _check_key(key)
    rows = await SQL.values_of_attribute.many(uow.raw, uow.tenant, key, MOST_VALUES)
    return [ValueCount(**dict(row)) for row in rows]


def conform(
    attributes: Mapping[str, Any], definitions: Mapping[str, Definition], *, field: str = "/attributes"
) -> dict[str, Any]:
    """The attributes as they are stored, each that has a definition checked and in its one form. Pure.

    Raises:  Refused(wrong_type, unknown_choice) naming the member.
    """
    return {
        key: value if value is None or key not in definitions else stored(definitions[key], value, f"{field}/{key}")
        for key, value in attributes.items()
    }


def stored(definition: Typed, value: Any, field: str) -> Any:
    """A JSON value as an attribute of this type holds it: dates as YYYY-MM-DD, moments in UTC. Pure.

    Raises:  Refused(wrong_type, unknown_choice).
    """
    match definition.type:
        case "number" if isinstance(value, (int, float)) and not isinstance(value, bool):
            return value
        case "boolean" if isinstance(value, bool):
            return value
        case "text" if isinstance(value, str):
            return value
        case "date" if isinstance(value, str) and (day := read_date(value)) is not None:
            return day.isoformat()
        case "moment" if isinstance(value, str) and (moment := read_moment(value)) is not None:
            return moment_text(moment)
        case "choice" if isinstance(value, str):
            if value not in definition.choices:
                raise Refused("unknown_choice", f"must be one of {', '.join(definition.choices)[:500]}", field=field)
            return value
    raise Refused("wrong_type", f"must be {_EXPECTED[definition.type]}", field=field)


def from_text(definition: Typed, text: str, field: str) -> Any:
    """A value typed as text (a cell of a file, an option of a command) as an attribute of this type holds it. Pure.

    Raises:  Refused(wrong_type, unknown_choice).
    """
    plain = text.strip()
    match definition.type:
        case "number" if len(plain) <= _LONGEST_NUMBER and _NUMBER.fullmatch(plain):
            return values.check_number(float(plain) if "." in plain else int(plain), field)
        case "boolean" if plain.casefold() in _BOOLEANS:
            return _BOOLEANS[plain.casefold()]
        case "number" | "boolean":
            raise Refused("wrong_type", f"must be {_EXPECTED[definition.type]}", field=field)
    return stored(definition, plain, field)


def read_date(text: str) -> date | None:
    """A day as YYYY-MM-DD; None for anything else."""
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None


def read_moment(text: str) -> datetime | None:
    """A moment as RFC 3339 with its offset; None for anything else."""
    try:
        moment = datetime.fromisoformat(text) if _DATE.match(text) else None
        return moment.astimezone(UTC) if moment is not None and moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def moment_text(moment: datetime) -> str:
    """The one form in which moments are stored, so that their order as text is their order in time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").zfill(len("YYYY-MM-DDTHH:MM:SSZ"))


_EXPECTED: dict[str, str] = {
    "text": "text",
    "number": "a number",
    "boolean": "true or false",
    "date": "a day as YYYY-MM-DD",
    "moment": "a moment as RFC 3339 with its offset, such as 2027-01-31T10:00:00Z",
    "choice": "one of its choices as text",
}


def _check_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise Refused("invalid_key", "a key has lower-case letters, digits and _, a letter first", field="/key")
    if key in RESERVED:
        raise Refused("reserved_key", f"messages have a variable {key} of their own", field="/key")


def _checked_choices(wanted: NewDefinition) -> list[str]:
    if wanted.type != "choice":
        if wanted.choices:
            raise Refused("invalid_choices", "only an attribute of type choice has choices", field="/choices")
        return []
    if not 1 <= len(wanted.choices) <= MOST_CHOICES:
        raise Refused("invalid_choices", f"must name 1 to {MOST_CHOICES} choices", field="/choices")
    found: list[str] = []
    for position, choice in enumerate(wanted.choices):
        field = f"/choices/{position}"
        plain = values.check_attribute_text(choice, field=field).strip()
        if not plain or len(plain) > _LONGEST_CHOICE or plain in found:
            raise Refused("invalid_choices", f"must be different and have 1 to {_LONGEST_CHOICE} letters", field=field)
        found.append(plain)
    return found
