"""From the cells of a row to what another system knows of an address: why not to write there, or consent. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from outrider.base.errors import Refused
from outrider.contracts.channel import Channel
from outrider.domain.contacts import values
from outrider.domain.contacts.imports.csv_rows import Problem, Row, echo
from outrider.domain.contacts.imports.options import Column, Options, plain_word

SKIP = ""
"""The row says nothing of the kind that is imported, such as `enabled` among suppressions."""

_REASONS = {
    **dict.fromkeys(("complaint", "complained", "spam", "spamreport", "spamreports", "abuse", "junk"), "complaint"),
    **dict.fromkeys(
        ("unsubscribe", "unsubscribed", "unsubscribes", "optout", "optedout", "withdrawn", "groupunsubscribe"),
        "unsubscribe",
    ),
    **dict.fromkeys(("bounce", "bounced", "bounces", "hard", "hardbounce", "hardbounced", "cleaned"), "hard_bounce"),
    **dict.fromkeys(("invalid", "invalidemail", "invalidaddress"), "invalid"),
    **dict.fromkeys(
        ("manual", "blocklist", "blocklisted", "blacklist", "blacklisted", "suppressed", "disabled", "deleted"),
        "manual",
    ),
    "stop": "stop",
    "erased": "erased",
    **dict.fromkeys(("enabled", "subscribed", "active", "confirmed", "unconfirmed", "granted", "pending"), SKIP),
}
_STATUSES = {
    **dict.fromkeys(("granted", "yes", "true", "1", "optin", "optedin", "subscribed", "confirmed"), "granted"),
    **dict.fromkeys(
        (
            "withdrawn",
            "no",
            "false",
            "0",
            "optout",
            "optedout",
            "unsubscribed",
            "blocklisted",
            "blacklisted",
            "complained",
        ),
        "withdrawn",
    ),
    **dict.fromkeys(("", "unconfirmed", "pending", "enabled", "disabled", "nonsubscribed", "cleaned"), SKIP),
}
"""Subscribed is consent; merely known, or asked and not answered, is none."""

_EPOCH = re.compile(r"\d{10}(?:\d{3})?", re.ASCII)
_OF_GO = re.compile(
    r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.\d+)? ([+-]\d\d)(\d\d)(?: [A-Z]{1,5}| [+-]\d{2,4})?", re.ASCII
)
_LONGEST_NOTE = 200
_T = TypeVar("_T")


class Entry(NamedTuple):
    """One row. `word` is a reason or a status, or SKIP; `at` is when it was said, where the file tells."""

    line: int
    address: str
    word: str
    at: datetime | None
    source: str
    note: str
    ip: str | None


class EntryReader:
    """Reads rows of one file, for imports of suppressions and of consents."""

    def __init__(self, columns: list[Column], options: Options, channel: Channel) -> None:
        self._at = {column.target: n for n, column in enumerate(columns) if column.target != "ignore"}
        self._options = options
        self._channel = channel

    def read(self, row: Row) -> Entry | list[Problem]:
        """What a row says, or everything that is wrong with it."""
        if row.problem is not None:
            return [row.problem]
        problems: list[Problem] = []
        address = self._tried(row, "address", self._address, problems)
        word = self._tried(row, self._word_column, self._word, problems)
        at = self._tried(row, "at", read_when, problems)
        if problems or address is None or word is None:
            return problems
        texts = {name: echo(row.cells[self._at[name]].strip()) for name in ("source", "note", "ip") if name in self._at}
        source = texts.get("source") or self._options.consent_source or "import"
        return Entry(row.line, address, word, at, source, texts.get("note", ""), texts.get("ip") or None)

    def _tried(self, row: Row, name: str, check: Callable[[str], _T], problems: list[Problem]) -> _T | None:
        """What a check makes of a cell; None where it refuses it, which is noted."""
        cell = row.cells[self._at[name]].strip() if name in self._at else ""
        try:
            return check(cell)
        except Refused as refused:
            problems.append(Problem(row.line, name, refused.code, refused.message, echo(cell)))
            return None

    @property
    def _word_column(self) -> str:
        return "reason" if self._options.kind == "suppressions" else "status"

    def _address(self, cell: str) -> str:
        if not cell:
            raise Refused("required", "the row has no address")
        return self._channel.normalise(cell, region=self._options.region)

    def _word(self, cell: str) -> str:
        options = self._options
        if options.kind == "suppressions":
            if options.reason is not None or (not cell and "reason" not in self._at):
                return options.reason or "manual"
            words, code = _REASONS, "unknown_reason"
        else:
            if not cell and options.consent is not None:
                return options.consent
            words, code = _STATUSES, "bad_consent"
        word = plain_word(cell)
        if word not in words:
            known = ", ".join(sorted(filter(None, set(words.values()))))
            raise Refused(code, f"must be one of {known}, or a word of another system that is known to mean one")
        return words[word]


def read_when(cell: str) -> datetime | None:
    """When something was said: RFC 3339, `2026-01-31 10:00:00` (UTC), Go's form, or seconds since 1970; empty: None.

    Raises:  Refused(bad_time) for anything else. What is still to come counts as now when it is stored.
    """
    if not cell:
        return None
    try:
        if _EPOCH.fullmatch(cell):
            moment = datetime.fromtimestamp(int(cell[:10]), UTC)
        else:
            of_go = _OF_GO.fullmatch(cell)
            moment = datetime.fromisoformat("{}T{}{}:{}".format(*of_go.groups()) if of_go else cell)
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refused("bad_time", "must be a moment like 2026-01-31T10:00:00Z, or seconds since 1970") from None
    return moment


def check_entry_source(source: str) -> str:
    """Where another system's knowledge comes from, in a few words."""
    return values.check_name(source, field="source")[:_LONGEST_NOTE]
