"""Quiet hours: nobody is written to at night by their own clock; held until the hours end [S1-53 to S1-56]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import Any, Self
from zoneinfo import ZoneInfo

from outrider.base.fields import Field
from outrider.base.windows import Answer, Hours, ask
from outrider.contracts.gate import PASS, Candidate, Fact, Gate, Hold, Lane, Pass, Verdict
from outrider.data.countries import country_of, zones_of
from outrider.data.holiday_calendar import Calendar, problem_of

_WEEKDAYS = {name: number for number, name in enumerate(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), 1)}
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_NAME = r"[a-z][a-z0-9_]{0,39}"
_LAST_ZONE = "UTC"
_PLACE = r"recipient|[A-Z]{2}(-[A-Z0-9]{1,6})?"
_OF_RECIPIENT = "recipient"
_STRICTEST = "strictest"
_MOST_LOOKS = 32
"""So many ends of quiet hours are looked at for one at which it is quiet nowhere; then it is asked about again."""


def _list_of(item: str) -> str:
    return rf"({item})(,({item}))*"


@dataclass(frozen=True, slots=True)
class QuietHours(Gate):
    """Holds what is concerned while it is quiet where its recipient is; what passes may go until it gets quiet.

    The zone is the contact's own, else the tenant's; one that is unknown here counts as none, and UTC is the last.
    Where that is wished, whose zone nobody knows is written to only while it is quiet in none its number may be in. The
    holidays are those of the places that are named, and of the country of the recipient's number where that is wished.
    """

    hours: Hours | None = None
    places: tuple[str, ...] = ()
    is_by_recipient: bool = False
    channels: frozenset[str] = frozenset()
    exempt: frozenset[str] = frozenset()
    is_for_transactional: bool = False
    is_strict: bool = False

    def configured(self, settings: Mapping[str, Any]) -> Self:
        """Read the hours once per change of the settings."""
        begins, ends = _window(settings["quiet_hours"])
        days, yearly = _holidays(settings["quiet_holidays"])
        weekdays = frozenset(_WEEKDAYS[day] for day in _split(settings["quiet_weekdays"]))
        named = _split(settings["quiet_calendars"])
        places = tuple(place for place in named if place != _OF_RECIPIENT)
        is_by_recipient = _OF_RECIPIENT in named
        hours = Hours(begins, ends, weekdays, days, yearly, Calendar(places) if places else None)
        return replace(
            self,
            hours=None if hours == Hours() and not is_by_recipient else hours,
            places=places,
            is_by_recipient=is_by_recipient,
            channels=frozenset(_split(settings["quiet_channels"])),
            exempt=frozenset(_split(settings["quiet_exempt_purposes"])),
            is_for_transactional=settings["quiet_transactional"],
            is_strict=settings["quiet_unknown_zone"] == _STRICTEST,
        )

    def concerns(self, lane: Lane) -> bool:
        """Only channels that are named; transactional messages only when that is wished."""
        is_class = self.is_for_transactional or lane.message_class == "bulk"
        return self.hours is not None and is_class and lane.channel in self.channels

    def judge(self, fact: Fact, message: Candidate, now: datetime) -> Verdict:
        """Hold until the quiet hours end, or pass until they begin."""
        if self.hours is None or message.purpose in self.exempt:
            return PASS
        hours = self._hours_for(message, self.hours)
        told = _of_zone(hours, fact["zone"], now)
        if told is None and self.is_strict:
            told = _strictest(hours, zones_of(message.address), now)
        told = told or _of_zone(hours, fact["tenant_zone"], now)
        zone, answer = told or (_LAST_ZONE, ask(hours, _LAST_ZONE, now))
        if answer.is_quiet:
            return Hold(answer.until, f"it is quiet in {zone}{_holiday(hours, zone, now)}")
        return Pass(until=answer.until)

    def _hours_for(self, message: Candidate, hours: Hours) -> Hours:
        """The hours of a recipient: with the holidays of the country its number belongs to."""
        country = country_of(message.address) if self.is_by_recipient else ""
        if not country or problem_of(country) is not None or country in self.places:
            return hours
        return replace(hours, holidays=Calendar((*self.places, country)))


def _holiday(hours: Hours, zone: str, now: datetime) -> str:
    """Which holiday it is, to be said with the reason."""
    name = None if hours.holidays is None else hours.holidays.name_of(now.astimezone(ZoneInfo(zone)).date())
    return "" if name is None else f": {name}"


def _unknown_place(text: str) -> str | None:
    """What is wrong with the places of calendars."""
    problems = (problem_of(place) for place in _split(text) if place != _OF_RECIPIENT)
    return next((problem for problem in problems if problem is not None), None)


def _of_zone(hours: Hours, zone: str | None, now: datetime) -> tuple[str, Answer] | None:
    """The answer of a zone; None when there is none, or when it is not in this machine's list of zones.

    That may be newer or older than the one that checked it.
    """
    if not zone:
        return None
    try:
        return zone, ask(hours, zone, now)
    except (KeyError, ValueError, OSError):
        return None


def _strictest(hours: Hours, zones: Sequence[str], now: datetime) -> tuple[str, Answer] | None:
    """Quiet until it is quiet in none of some zones, else until the first of them gets quiet; None without a zone."""
    moment, held_by = now, ""
    for _ in range(_MOST_LOOKS):
        found = [told for zone in zones if (told := _of_zone(hours, zone, moment)) is not None]
        if not found:
            return None
        quiet = [(answer.until, zone) for zone, answer in found if answer.is_quiet]
        if not quiet:
            break
        moment, last = max(quiet)
        held_by = held_by or last
    if held_by:
        return held_by, Answer(is_quiet=True, until=moment)
    until, first = min((answer.until, zone) for zone, answer in found)
    return first, Answer(is_quiet=False, until=until)


def _window(text: str) -> tuple[time | None, time | None]:
    """Begin and end; none of both for `off`, and for hours that are none."""
    if text == "off":
        return None, None
    begins, ends = (time.fromisoformat(part) for part in text.split("-"))
    return (None, None) if begins == ends else (begins, ends)


def _holidays(text: str) -> tuple[frozenset[date], frozenset[tuple[int, int]]]:
    """Dates with a year count once, those without every year; what no calendar has (2-30) never comes."""
    days, yearly = set(), set()
    for part in _split(text):
        numbers = [int(number) for number in part.split("-")]
        try:
            if len(numbers) == 2:  # noqa: PLR2004 - month and day
                yearly.add((numbers[0], numbers[1]))
            else:
                days.add(date(*numbers))
        except ValueError:
            continue
    return frozenset(days), frozenset(yearly)


def _split(text: str | None) -> list[str]:
    return [part for part in (text or "").split(",") if part]


GATE = QuietHours(
    key="quiet_hours",
    order=45,
    help="Holds messages while it is quiet at their recipient's place, by their own clock.",
    fields=(
        Field(
            "quiet_hours",
            "When nobody is written to, by the clock of the contact's zone, else the tenant's; `off`: at no time.",
            default="21:00-09:00",
            pattern=rf"off|{_CLOCK}-{_CLOCK}",
            example="21:00-09:00",
            is_per_campaign=True,
        ),
        Field(
            "quiet_channels",
            "The channels that keep quiet hours, separated by commas.",
            default="sms",
            pattern=rf"none|{_list_of(_NAME)}",
            example="sms,email",
            is_per_campaign=True,
        ),
        Field(
            "quiet_transactional",
            "Transactional messages keep quiet hours as well.",
            "boolean",
            default=False,
            is_per_campaign=True,
        ),
        Field(
            "quiet_exempt_purposes",
            "Purposes that keep no quiet hours, separated by commas; unset: none.",
            pattern=_list_of(_NAME),
            example="reminder",
            is_per_campaign=True,
        ),
        Field(
            "quiet_unknown_zone",
            "By which clock, when nobody knows the contact's zone: the `tenant`'s, or the `strictest` of the zones "
            "that the recipient's number may be in: from the last to end its quiet hours to the first to begin them.",
            "choice",
            default="tenant",
            choices=("tenant", _STRICTEST),
            is_per_campaign=True,
        ),
        Field(
            "quiet_weekdays",
            "Days of the week that are quiet from midnight to midnight, separated by commas; unset: none.",
            pattern=_list_of("|".join(_WEEKDAYS)),
            example="sat,sun",
            is_per_campaign=True,
        ),
        Field(
            "quiet_holidays",
            "Dates that are quiet all day: with a year once, without one every year; unset: none.",
            longest=4000,
            pattern=_list_of(r"([0-9]{4}-)?(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"),
            example="12-25,2027-04-05",
            is_per_campaign=True,
        ),
        Field(
            "quiet_calendars",
            "Whose public holidays are quiet all day, beside quiet_holidays: countries and parts of them (DE, DE-BY), "
            "`recipient` for the country of each recipient's number; separated by commas; unset: none.",
            longest=400,
            pattern=_list_of(_PLACE),
            example="DE-BY,recipient",
            refuses=_unknown_place,
            is_per_campaign=True,
        ),
    ),
    facts="""
        SELECT t.id AS message_id, c.timezone AS zone, (SELECT timezone FROM tenants WHERE id = $1) AS tenant_zone
        FROM unnest($2::uuid[], $3::uuid[], $4::text[], $7::text[]) AS t(id, contact_id, address, purpose)
        LEFT JOIN LATERAL (
          SELECT timezone FROM contacts c
          WHERE c.tenant_id = $1 AND c.id = coalesce(t.contact_id, (
            SELECT a.contact_id FROM addresses a WHERE a.tenant_id = $1 AND a.channel = $5 AND a.address = t.address))
          LIMIT 1
        ) c ON true
        WHERE $6::text IS NOT NULL -- every gate gets the same seven; the class decides before this is asked
    """,
)
