"""From the cells of a row to a contact: every field checked by the rules of its own, every problem of a row at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import orjson

from outrider.base.errors import Refused
from outrider.contracts.channel import Channel
from outrider.domain.contacts import attributes, tags, values
from outrider.domain.contacts.imports.csv_rows import Problem, Row, echo
from outrider.domain.contacts.imports.dates import read_day
from outrider.domain.contacts.imports.options import Column, Holds, Options, attribute_key

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
    """One row that may be stored."""

    line: int
    address: str
    external_id: str | None
    name: str
    attributes: dict[str, Any]
    timezone: str | None
    locale: str | None
    consent: str | None
    tags: tuple[str, ...] = ()


def latest(earlier: Person, later: Person) -> Person:
    """Of two rows of an address the later one, but for a withdrawal: in whichever of them it stands, it stays."""
    return later._replace(consent=earlier.consent) if earlier.consent == "withdrawn" else later


class RowReader:
    """Reads rows of one file.

    Takes:   columns of the header, the options of the import and its channel.
    """

    def __init__(self, columns: list[Column], options: Options, channel: Channel) -> None:
        self._fields = [
            (position, column.target)
            for position, column in enumerate(columns)
            if column.target not in {"ignore", "tags", "attributes"} and not column.target.startswith("attribute:")
        ]
        self._attributes = [
            (position, column.target.removeprefix("attribute:"), column.holds)
            for position, column in enumerate(columns)
            if column.target.startswith("attribute:")
        ]
        self._json = next((n for n, column in enumerate(columns) if column.target == "attributes"), None)
        self._tags = next((position for position, column in enumerate(columns) if column.target == "tags"), None)
        self._dates = options.dates
        self._consent = options.consent
        self._normalise = partial(channel.normalise, region=options.region)

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
        found = self._read_attributes(row, problems)
        words = self._read_tags(row, problems)
        if problems:
            return problems
        return Person(
            row.line,
            told["address"] or "",
            told.get("external_id"),
            told.get("name") or "",
            found,
            told.get("timezone"),
            told.get("locale"),
            told.get("consent") or self._consent,
            words,
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

    def _read_attributes(self, row: Row, problems: list[Problem]) -> dict[str, Any]:
        """The attributes; an empty cell says nothing and takes nothing away."""
        found: dict[str, Any] = {}
        if self._json is not None and (cell := row.cells[self._json].strip()):
            try:
                found = _object(cell)
            except Refused as refused:
                problems.append(Problem(row.line, "attributes", refused.code, refused.message, echo(cell)))
        for position, key, holds in self._attributes:
            cell = row.cells[position].strip()
            if not cell:
                continue
            try:
                found[key] = self._typed(values.check_attribute_text(cell, field=key), key, holds)
            except Refused as refused:
                problems.append(Problem(row.line, key, refused.code, refused.message, echo(cell)))
        if len(orjson.dumps(found)) > values.MOST_ATTRIBUTE_BYTES:
            message = f"the attributes have more than {values.MOST_ATTRIBUTE_BYTES} bytes together"
            problems.append(Problem(row.line, "attributes", "too_large", message))
        return found

    def _typed(self, cell: str, key: str, holds: Holds | None) -> Any:
        if holds is None:
            return cell
        return attributes.from_text(holds, read_day(cell, self._dates) if holds.type == "date" else cell, key)

    def _read_tags(self, row: Row, problems: list[Problem]) -> tuple[str, ...]:
        """The tags of a row, separated by commas, each in its one form; they are added, none is taken away."""
        if self._tags is None:
            return ()
        cell = row.cells[self._tags]
        try:
            return _tags_of(cell)
        except Refused as refused:
            problems.append(Problem(row.line, "tags", refused.code, refused.message, echo(cell)))
            return ()


def _object(cell: str) -> dict[str, Any]:
    """A JSON object as other systems export what they know of a person; its keys become ours.

    Raises:  Refused(invalid_json) and what `check_attributes` says.
    """
    try:
        found = orjson.loads(cell)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refused("invalid_json", "must be a JSON object")
    return values.check_attributes({attribute_key(key): value for key, value in found.items()})


def _tags_of(cell: str) -> tuple[str, ...]:
    words = {tags.check_tag(word, field="tags") for word in cell.split(",") if word.strip()}
    if len(words) > tags.MOST_TAGS:
        raise Refused("too_many", f"at most {tags.MOST_TAGS} tags in a row", field="tags")
    return tuple(sorted(words))
