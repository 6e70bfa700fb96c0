"""A filter of jobs from what a person or a program wrote: the runbooks' state words, `name=value` arguments, times.

Owns reading and refusing; the search itself is `search.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from outrider.base.errors import Refused
from outrider.domain.jobs.search import Filter
from outrider.domain.jobs.states import state_named

MOST_VALUES = 50
_LONGEST_PAIR = 500


def wanted(
    *,
    states: Sequence[str] = (),
    types: Sequence[str] = (),
    queues: Sequence[str] = (),
    text: str | None = None,
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    arguments: Sequence[str] = (),
    prefix: str = "",
) -> Filter:
    """The filter that somebody asked for; what is empty is off.

    Takes:   states in any of the three vocabularies (Failed, failed; waiting, Enqueued …); arguments as name=value
             since and until as RFC 3339 with an offset
             prefix of a field's name in errors: `?`, `--`, `/filter/`
    Raises:  Refused naming the field.
    """
    for name, values in (("state", states), ("type", types), ("queue", queues), ("argument", arguments)):
        if len(values) > MOST_VALUES:
            raise Refused("too_many", f"at most {MOST_VALUES} values", field=f"{prefix}{name}")
    return Filter(
        states=[state_named(each, f"{prefix}state") for each in states] or None,
        types=list(types) or None,
        queues=list(queues) or None,
        text=text or None,
        since=moment_of(since, f"{prefix}since"),
        until=moment_of(until, f"{prefix}until"),
        argument=argument_of(arguments, field=f"{prefix}argument"),
    )


def moment_of(given: datetime | str | None, field: str) -> datetime | None:
    """A moment as people and programs write it; nothing and empty text are none.

    Raises:  Refused(invalid_moment).
    """
    if given is None or given == "":
        return None
    try:
        found = given if isinstance(given, datetime) else datetime.fromisoformat(given)
        if found.tzinfo is not None:
            found = found.astimezone(UTC)
    except (ValueError, OverflowError):  # also a moment that is in no year of UTC
        found = None
    if found is None or found.tzinfo is None:
        raise Refused("invalid_moment", "must be a moment with its offset, such as 2026-11-20T09:00:00Z", field=field)
    return found


def argument_of(pairs: Sequence[str], *, field: str) -> dict[str, Any] | None:
    """What a job's arguments must contain: `name=value`, where a value that is JSON is meant as such.

    Gives:   None for no pairs; `n=5` means the number, `n="5"` the text, `campaign_id=0190…` the text.
    Raises:  Refused(invalid_argument).
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name or name in found or len(pair) > _LONGEST_PAIR:
            raise Refused("invalid_argument", "must be name=value, each name once", field=field)
        try:
            found[name] = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            found[name] = value
    return found or None
