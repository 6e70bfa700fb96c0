"""How a tenant's messages stand: shares of each state and reasons, of the last minutes or of the last messages.

Owns both windows and the sends per minute [S1-49, S1-50, S1-57, S1-60]; installation totals are stats.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.clock import utc_now
from outrider.base.errors import Refused
from outrider.base.ids import NIL, first_id_at, time_of
from outrider.domain.messages import causes
from outrider.domain.messages.rows import SQL
from outrider.domain.messages.states import STATES

MOST_MINUTES: Final = 7 * 24 * 60
MOST_MESSAGES: Final = 1_000_000
"""So many are looked at, at most; a longer time is answered for the newest of it."""
_NEWEST_EVENTS: Final = 50_000
_MINUTE_S: Final = 60.0
_WENT: Final = frozenset({"sent", "delivered", "bounced"})
_TRIED: Final = _WENT | {"failed", "uncertain"}
_REASONED: Final = frozenset({"failed", "bounced", "blocked", "uncertain"})


class Share(msgspec.Struct, frozen=True):
    """Messages of a channel in a state, and what share of the window that is."""

    channel: str
    state: str
    count: int
    percent: float


class Why(msgspec.Struct, frozen=True):
    """Why messages failed, bounced, were blocked (then the gate) or are uncertain, and what to do about it."""

    channel: str
    state: str
    code: str
    title: str
    count: int
    remedy: str


class Standing(msgspec.Struct, frozen=True):
    """A window of messages by when they were accepted.

    since             when the oldest of them was; null without any
    is_capped         there were more in the time than are looked at
    delivered_percent delivered, of those handed over (sent, delivered, bounced); null without any, as all below
    failed_percent    failed, of those that were tried
    bounced_percent   bounced, of those handed over
    sent_per_minute   handed over in the last minute, whenever they were accepted
    """

    message_count: int
    since: datetime | None
    is_capped: bool
    states: list[Share]
    reasons: list[Why]
    delivered_percent: float | None
    failed_percent: float | None
    bounced_percent: float | None
    sent_per_minute: int


async def of_tenant(
    raw: asyncpg.Connection, tenant_id: UUID, *, minutes: int | None = None, last: int | None = None
) -> Standing:
    """How messages stand that were accepted in the last minutes, or the last so many (engine role).

    Takes:   one of minutes (1 to a week) and last (1 to a million); neither: the last hour.
    Raises:  Refused(one_window, out_of_range).
    """
    if minutes is not None and last is not None:
        raise Refused("one_window", "give minutes or last, not both", field="/last")
    if last is not None:
        _bounded(last, MOST_MESSAGES, "/last")
        from_id, most = NIL, last
    else:
        minutes = 60 if minutes is None else minutes
        _bounded(minutes, MOST_MINUTES, "/minutes")
        from_id, most = first_id_at(utc_now() - timedelta(minutes=minutes)), MOST_MESSAGES
    rows = await SQL.window_counts.many(raw, tenant_id, from_id, most)
    lately = await SQL.sent_lately.one(raw, tenant_id, _NEWEST_EVENTS)
    return _standing(rows, is_capped=last is None and sum(row["n"] for row in rows) >= most, per_minute=_pace(lately))


def _standing(rows: Iterable[asyncpg.Record], *, is_capped: bool, per_minute: int) -> Standing:
    states: Counter[tuple[str, str]] = Counter()
    reasons: Counter[tuple[str, str, str]] = Counter()
    firsts: list[UUID] = []
    for row in rows:
        states[row["channel"], row["state"]] += row["n"]
        firsts.append(row["first"])
        if row["state"] in _REASONED:
            reasons[row["channel"], row["state"], row["code"]] += row["n"]
    whole = states.total()
    order = list(STATES)
    by_state: Counter[str] = Counter()
    for (_, state), count in states.items():
        by_state[state] += count
    went = sum(by_state[state] for state in _WENT)
    return Standing(
        message_count=whole,
        since=time_of(min(firsts)) if firsts else None,
        is_capped=is_capped,
        states=[
            Share(channel, state, count, _percent(count, whole) or 0.0)
            for (channel, state), count in sorted(states.items(), key=lambda one: (one[0][0], order.index(one[0][1])))
        ],
        reasons=[_why(*which, count) for which, count in reasons.most_common()],
        delivered_percent=_percent(by_state["delivered"], went),
        failed_percent=_percent(by_state["failed"], sum(by_state[state] for state in _TRIED)),
        bounced_percent=_percent(by_state["bounced"], went),
        sent_per_minute=per_minute,
    )


def _why(channel: str, state: str, code: str, count: int) -> Why:
    if state == "blocked":
        return Why(
            channel, state, code, f"stopped by the gate {code}", count, "see `outrider messages list --state blocked`"
        )
    cause = causes.view(code, state)
    return Why(channel, state, code, cause.title if cause else code, count, cause.remedy if cause else "")


def _pace(lately: asyncpg.Record | None) -> int:
    """Handed over in a minute; worked out from a part of it where the events of the whole are too many to look at."""
    if lately is None or lately["since"] is None:
        return 0
    sent: int = lately["sent"]
    if lately["reached"] < _NEWEST_EVENTS:
        return sent
    span_s: float = max((lately["now"] - lately["since"]).total_seconds(), 0.001)
    return round(sent * _MINUTE_S / min(span_s, _MINUTE_S))


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 2) if whole else None


def _bounded(value: int, most: int, field: str) -> None:
    if not 1 <= value <= most:
        raise Refused("out_of_range", f"must be from 1 to {most:,}", field=field)
