"""From the cells of a row to a contact: every field checked by the rules of its own, every problem of a row at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import orjson

from outrider.base.errors import Refused
from outrider.contracts.channel import Channel
from outrider.domain.contacts import values
from outrider.domain.contacts.imports.csv_rows import Problem, Row, echo
from outrider.domain.contacts.imports.options import Column, Options

CONSENT_WORDS = {
    "": None,
    **dict.fromkeys(("granted", "yes", "true", "1", "opt-in", "subscribed"), "granted"),
    **dict.fromkeys(("withdrawn", "no", "false", "0", "opt-out", "unsubscribed"), "withdrawn"),
}
"""What a consent column may say; anything else is refused, never guessed [C50, C51]."""

_CHECKS: dict[str, Callable[[str], str | None]] = {
    "name": values.check_name,
    "external_id": values.check_external_id,
    "timezone": values.check_timezone,
    "locale": values.check_locale,
}


class Person(NamedTuple):
    """One row that may be stored, in the order of the staging table's columns."""

    line: int
    address: str
    external_id: str | None
    name: str
    attributes: str
    timezone: str | None
    locale: str | None
    consent: str | None


class RowReader:
    """Reads rows of one file.

    Takes:   columns of the header, the options of the import and its channel.
    """

    def __init__(self, columns: list[Column], options: Options, channel: Channel) -> None:
        self._fields = [
            (position, column.target)
            for position, column in enumerate(columns)
            if column.target != "ignore" and not column.target.startswith("attribute:")
        ]
        self._attributes = [
            (position, column.target.removeprefix("attribute:"))
            for position, column in enumerate(columns)
            if column.target.startswith("attribute:")
        ]
        self._consent = options.consent
        self._normalise = channel.normalise

    def read(self, row: Row) -> Person | list[Problem]:
        """The contact a row describes, or everything that is wrong with it."""
        if row.problem is not None:
            return [row.problem]
        problems: list[Problem] = []
        told: dict[str, str | None] = {}
        for position, target in self._fields:
            cell = row.cells[position].strip()
            try:
                told[target] = self._value(target, cell)
            except Refused as refused:
                problems.append(Problem(row.line, target, refused.code, refused.message, echo(cell)))
        attributes = self._read_attributes(row, problems)
        if problems:
            return problems
        return Person(
            row.line,
            told["address"] or "",
            told.get("external_id"),
            told.get("name") or "",
            attributes,
            told.get("timezone"),
            told.get("locale"),
            told.get("consent") or self._consent,
        )

    def _value(self, target: str, cell: str) -> str | None:
        if target == "address":
            if not cell:
                raise Refused("required", "the row has no address")
            return self._normalise(cell)
        if target == "consent":
            word = cell.casefold()
            if word not in CONSENT_WORDS:
                raise Refused("bad_consent", f"must be one of {', '.join(filter(None, CONSENT_WORDS))}")
            return CONSENT_WORDS[word]
        return _CHECKS[target](cell)

    def _read_attributes(self, row: Row, problems: list[Problem]) -> str:
        """The attributes as JSON text; an empty cell says nothing and takes nothing away."""
        found: dict[str, str] = {}
        for position, key in self._attributes:
            cell = row.cells[position].strip()
            if not cell:
                continue
            try:
                found[key] = values.check_attribute_text(cell, field=key)
            except Refused as refused:
                problems.append(Problem(row.line, key, refused.code, refused.message, echo(cell)))
        text = orjson.dumps(found)
        if len(text) > values.MOST_ATTRIBUTE_BYTES:
            message = f"the attributes have more than {values.MOST_ATTRIBUTE_BYTES} bytes together"
            problems.append(Problem(row.line, "attributes", "too_large", message))
        return text.decode()
