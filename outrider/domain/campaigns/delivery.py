"""How a campaign goes out: at which local hour, how evenly, after which trial, in which variants. Pure data and checks.

Owns the words people give and what can be combined; the world (templates, zones, tracking) is asked by those who act.
"""

from __future__ import annotations

from datetime import datetime
from itertools import accumulate
from typing import Annotated, Final, Literal, Self
from uuid import UUID

import msgspec

from outrider.base.errors import Refused, RefusedMany

BUCKETS = 10_000
"""Parts that an audience is cut into; a share of 0.01 % is one."""
MOST_VARIANTS = 5

Decision = Literal["automatic", "by_hand"]
_Within: Final = msgspec.Meta(ge=0, le=10_080)
WaitMinutes = Annotated[int, _Within] | Annotated[float, _Within]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Share = Annotated[float, msgspec.Meta(ge=0.01, le=100)]


class LocalTime(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Everybody gets it when their own clock shows this.

    at             a local time without offset, such as 2027-03-01T09:00:00
    late           who is past that hour when the campaign reaches them: `send` at once, or `skip` them
    attribute      names the contacts' attribute that holds a zone, for those without a zone of their own
    fallback_zone  for those of whom no zone is known; without it the tenant's
    """

    at: Annotated[datetime, msgspec.Meta(tz=False)]
    late: Literal["send", "skip"] = "send"
    attribute: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    fallback_zone: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None


class Pacing(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How evenly: spread over so many hours of sending, or at most so many messages. One of the three."""

    spread_hours: Annotated[float, msgspec.Meta(ge=0.01, le=720)] | None = None
    per_hour: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)] | None = None
    per_minute: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] | None = None


class Canary(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A small part goes first; the rest only if it fares well.

    share_percent   of the audience, but at least minimum_count of its members
    wait_minutes    from when the last of them was tried until the look
    decision        `by_hand`: nobody but people lets the rest go
    max_…_percent   of those that went out; above it the campaign is paused. complained counts against the sent ones,
                    waiting is what the server keeps putting off
    """

    share_percent: Annotated[float, msgspec.Meta(ge=0.01, le=50)] = 1.0
    minimum_count: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 100
    wait_minutes: WaitMinutes = 30
    decision: Decision = "automatic"
    max_failed_percent: Percent = 5.0
    max_bounced_percent: Percent = 5.0
    max_complained_percent: Percent = 0.1
    max_uncertain_percent: Percent = 2.0
    max_waiting_percent: Percent = 50.0


class NewVariant(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One of the contents that are compared.

    share_percent     of those who get the test; the shares make 100
    template_id       another template than the campaign's
    template_version  the newest one when absent; fixed when the variants are set
    subject           in place of the template's own
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
    share_percent: Share
    template_id: UUID | None = None
    template_version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)] | None = None


class AbTest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Two to five variants: some get them by lot, the rest get the one that did best. With 100 all get them by lot.

    audience_percent  of the audience takes part; at 100 there is no winner
    wait_minutes      from when the last of them was tried until the winner is chosen
    metric            people who clicked, or opened, of those it was sent to; machines do not count
    minimum_count     sent per variant, below which the first variant goes on
    """

    variants: Annotated[list[NewVariant], msgspec.Meta(min_length=2, max_length=MOST_VARIANTS)]
    audience_percent: Share = 20.0
    wait_minutes: WaitMinutes = 240
    metric: Literal["clicks", "opens"] = "clicks"
    minimum_count: Count = 100
    decision: Decision = "automatic"

    @property
    def has_winner(self) -> bool:
        """Whether a rest waits for the winner."""
        return parts(self.audience_percent) < BUCKETS


class Delivery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How a campaign goes out. Without anything: at once, to all, as fast as sender and tenant allow."""

    local_time: LocalTime | None = None
    pacing: Pacing | None = None
    canary: Canary | None = None
    ab_test: AbTest | None = None

    @property
    def has_waves(self) -> bool:
        """Whether some go before the others."""
        return self.canary is not None or (self.ab_test is not None and self.ab_test.has_winner)

    @classmethod
    def read(cls, text: str | None) -> Self:
        """As it is stored."""
        return msgspec.json.decode(text, type=cls) if text else cls()

    def stored(self) -> str | None:
        """What `read` reads."""
        return None if self == type(self)() else msgspec.json.encode(self).decode()


def check(wanted: Delivery) -> None:
    """Refuse what contradicts itself.

    Raises:  RefusedMany naming each field.
    """
    found: list[Refused] = []
    if wanted.pacing is not None and sum(each is not None for each in msgspec.structs.astuple(wanted.pacing)) != 1:
        found.append(Refused("one_pace", "needs one of spread_hours, per_hour and per_minute", field="/pacing"))
    if wanted.local_time is not None and wanted.has_waves:
        what = "/canary" if wanted.canary is not None else "/ab_test/audience_percent"
        why = "cannot go with local_time: nothing can be judged before the last zone had its hour, a day later"
        found.append(Refused("cannot_combine", why, field=what))
    if wanted.ab_test is not None:
        found += _check_variants(wanted.ab_test.variants)
    if found:
        raise RefusedMany(found)


def _check_variants(variants: list[NewVariant]) -> list[Refused]:
    found = []
    if sum(parts(each.share_percent) for each in variants) != BUCKETS:
        found.append(Refused("shares", "the shares of the variants must make 100", field="/ab_test/variants"))
    names = [each.name for each in variants]
    for at, name in enumerate(names):
        if name != name.strip() or not name.isprintable():
            found.append(Refused("invalid_name", "must be plain text", field=f"/ab_test/variants/{at}/name"))
        if name in names[:at]:
            message = "two variants have this name"
            found.append(Refused("name_taken", message, field=f"/ab_test/variants/{at}/name"))
    return found


def shares(variants: list[NewVariant]) -> list[int]:
    """How many buckets each variant has; they make 10,000."""
    return [parts(each.share_percent) for each in variants]


def bounds(widths: list[int]) -> list[int]:
    """The first bucket of each variant."""
    return [0, *accumulate(widths[:-1])]


def rate_per_s(pacing: Pacing, will_go_count: int) -> float:
    """How many messages a second at most."""
    if pacing.per_hour is not None:
        return pacing.per_hour / 3600
    if pacing.per_minute is not None:
        return pacing.per_minute / 60
    return max(1, will_go_count) / ((pacing.spread_hours or 1.0) * 3600)


def waits_s(wanted: Delivery) -> float:
    """What passes between the waves at least."""
    minutes: float = wanted.canary.wait_minutes if wanted.canary is not None else 0
    if wanted.ab_test is not None and wanted.ab_test.has_winner:
        minutes += wanted.ab_test.wait_minutes
    return minutes * 60


def parts(percent: float) -> int:
    """A share as buckets."""
    return round(percent * BUCKETS / 100)
