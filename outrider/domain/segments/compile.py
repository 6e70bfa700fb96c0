"""From rules to parameterised SQL: conditions of `rules.sql` joined by AND, OR, NOT; values are only parameters.

Owns the joining. Every condition is a named statement that is tested by itself; nothing a caller says becomes SQL text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson

from outrider.base.errors import Broken
from outrider.domain.contacts.attributes import Definition, moment_text
from outrider.domain.contacts.tags import check_tag
from outrider.domain.segments import rules
from outrider.domain.segments.check import number_of, plain_moment
from outrider.domain.segments.rows import HEAD, RULES, Statement

MARK = "/* rules */ true"
OPEN = ["queued"]
GOT = ["sent", "delivered"]
MAY_HAVE_GOT = [*GOT, *OPEN, "uncertain", "bounced"]
DID_NOT_GET = ["failed", "blocked", "expired", "cancelled", "bounced"]

_PARAMETER = re.compile(r"\$(\d+)")
_OUTCOMES = {"got": GOT, "may_have_got": MAY_HAVE_GOT, "did_not_get": DID_NOT_GET}
_NUMBERS = {
    "above": RULES.number_above,
    "at_least": RULES.number_at_least,
    "below": RULES.number_below,
    "at_most": RULES.number_at_most,
}


@dataclass(frozen=True, slots=True)
class World:
    """What rules mean something in: now, the tenant's zone (days begin there) and what its attributes hold."""

    now: datetime
    zone: tzinfo = UTC
    definitions: Mapping[str, Definition] = field(default_factory=dict)

    def day(self, days: int) -> date:
        """Today, or so many days later, where the tenant is; far ends are the calendar's."""
        here = self.now.astimezone(self.zone).date()
        try:
            return here + timedelta(days=days)
        except OverflowError:
            return date.max if days > 0 else date.min

    def start(self, days: int) -> datetime:
        """The moment so many days from now."""
        try:
            return self.now + timedelta(days=days)
        except OverflowError:
            return datetime.max.replace(tzinfo=UTC) if days > 0 else datetime.min.replace(tzinfo=UTC)


def world_of(now: datetime, timezone: str, definitions: Mapping[str, Definition]) -> World:
    """The world of a tenant at a moment."""
    return World(now, ZoneInfo(timezone), definitions)


def placed(statement: Statement, rule: rules.Rule, world: World, *own: Any) -> tuple[Statement, list[Any]]:
    """A statement with the rules in the place it has for them, and all its arguments.

    Takes:   a statement that says `/* rules */ true`; rules that were checked, without segments in them; `own`: the
             statement's own arguments, the tenant first.
    """
    if statement.sql.count(MARK) != 1:
        raise Broken("no_place", f"{statement.name} has no place for rules")
    joined = _Joined([*own])
    text = joined.condition(rule, world)
    return replace(statement, sql=statement.sql.replace(MARK, text)), joined.arguments


class _Joined:
    """Conditions being joined; collects the arguments."""

    def __init__(self, arguments: list[Any]) -> None:
        self.arguments = arguments

    def condition(self, rule: rules.Rule, world: World) -> str:
        match rule:
            case rules.AllOf():
                return self._each(rule.rules, world, " AND ") or "true"
            case rules.AnyOf():
                return self._each(rule.rules, world, " OR ") or "false"
            case rules.Not():
                return f"(NOT {self.condition(rule.rule, world)})"
            case rules.InSegment():
                raise Broken("segment_left", "segments within rules are put in place before they are compiled")
            case rules.Attribute():
                return self._attribute(rule, world)
            case rules.Field():
                return self._field(rule)
            case rules.Moment():
                return self._moment(rule, world)
            case rules.Anywhere():
                return self._anywhere(rule)
        return self._about_others(rule, world)

    def _each(self, parts: list[rules.Rule], world: World, word: str) -> str:
        texts = [self.condition(part, world) for part in parts]
        return f"({word.join(texts)})" if texts else ""

    def _put(self, statement: Statement, *values: Any, negated: bool = False) -> str:
        """A rule's condition with its parameters numbered from where we are; the tenant stays `$1`."""
        before = len(self.arguments)
        self.arguments.extend(values)
        text = _PARAMETER.sub(
            lambda found: "$1" if found[1] == "1" else f"${before + int(found[1]) - 1}", _body(statement)
        )
        return f"(NOT ({text}))" if negated else f"({text})"

    def _attribute(self, rule: rules.Attribute, world: World) -> str:
        key, value = rule.key, rule.value
        definition = world.definitions.get(key)
        is_moment = definition is not None and definition.type == "moment"
        match rule.op:
            case "is" | "is_not" | "is_one_of" | "is_none_of":
                wanted = value if isinstance(value, list) else [value]
                texts = [orjson.dumps(_one_form(each, is_moment=is_moment)).decode() for each in wanted]
                return self._put(RULES.attribute_is_one_of, key, texts, negated=rule.op in {"is_not", "is_none_of"})
            case "contains":
                return self._put(RULES.attribute_contains, key, str(value))
            case "starts_with":
                return self._put(RULES.attribute_starts_with, key, str(value))
            case "is_set" | "is_not_set":
                return self._put(RULES.attribute_is_set, key, negated=rule.op == "is_not_set")
            case "above" | "at_least" | "below" | "at_most":
                return self._put(_NUMBERS[rule.op], key, orjson.dumps(number_of(value)).decode())
            case "since":
                return self._put(RULES.time_since, key, _one_form(value, is_moment=is_moment))
            case "before":
                return self._put(RULES.time_before, key, _one_form(value, is_moment=is_moment))
            case "anniversary_in_next_days":
                return self._put(RULES.time_anniversary, key, _days_of_the_year(world, int(number_of(value))))
        return self._around_now(rule, world, is_moment=is_moment)

    def _around_now(self, rule: rules.Attribute, world: World, *, is_moment: bool) -> str:
        """In the last or next days: today counts among both."""
        days = int(number_of(rule.value))
        first, end = (-days, 0) if rule.op == "in_last_days" else (0, days)
        if is_moment:
            low, high = moment_text(world.start(first)), moment_text(world.start(end) + timedelta(seconds=1))
        else:
            low, high = world.day(first).isoformat(), world.day(end + 1).isoformat()
        since = self._put(RULES.time_since, rule.key, low)
        return f"({since} AND {self._put(RULES.time_before, rule.key, high)})"

    def _field(self, rule: rules.Field) -> str:
        match rule.op:
            case "contains":
                return self._put(RULES.field_contains, rule.field, str(rule.value))
            case "starts_with":
                return self._put(RULES.field_starts_with, rule.field, str(rule.value))
            case "is_set" | "is_not_set":
                return self._put(RULES.field_is_set, rule.field, negated=rule.op == "is_not_set")
        wanted = rule.value if isinstance(rule.value, list) else [rule.value]
        return self._put(RULES.field_is_one_of, rule.field, wanted, negated=rule.op in {"is_not", "is_none_of"})

    def _moment(self, rule: rules.Moment, world: World) -> str:
        if rule.op in {"in_last_days", "not_in_last_days"}:
            since = world.start(-int(number_of(rule.value)))
            return self._put(RULES.moment_since, rule.field, since, negated=rule.op == "not_in_last_days")
        statement = RULES.moment_since if rule.op == "since" else RULES.moment_before
        return self._put(statement, rule.field, plain_moment(rule.value))

    def _anywhere(self, rule: rules.Anywhere) -> str:
        parts = [self._put(RULES.field_contains, name, rule.contains) for name in ("name", "external_id")]
        parts.append(self._put(RULES.has_address_containing, None, rule.contains))
        return f"({' OR '.join(parts)})"

    def _about_others(self, rule: rules.Rule, world: World) -> str:
        """Rules about what other tables say of the contact."""
        match rule:
            case rules.Tag():
                return self._put(RULES.has_tag, sorted({check_tag(tag) for tag in rule.tags}))
            case rules.OnList():
                return self._put(RULES.on_list, sorted(set(rule.list_ids)))
            case rules.Address():
                return self._address(rule)
            case rules.Consent() if rule.status == "silent":
                return self._put(RULES.has_consent, rule.channel, rule.purpose, ["granted", "withdrawn"], negated=True)
            case rules.Consent():
                return self._put(RULES.has_consent, rule.channel, rule.purpose, [rule.status])
            case rules.Suppressed():
                return self._put(RULES.is_suppressed, rule.channel)
            case rules.OfCampaign():
                return self._put(RULES.of_campaign, sorted(set(rule.campaign_ids)), _OUTCOMES[rule.outcome])
            case rules.WrittenTo():
                return self._put(RULES.written_to, first_id(world.start(-rule.in_last_days)), rule.at_least)
            case rules.Event():
                since = world.start(-(rule.in_last_days or 36_500))
                return self._put(RULES.had_event, [rule.event], since, rule.at_least, rule.campaign_id)
        raise Broken("unknown_rule", f"{type(rule).__name__} has no SQL")

    def _address(self, rule: rules.Address) -> str:
        parts = []
        if rule.contains is not None:
            parts.append(self._put(RULES.has_address_containing, rule.channel, rule.contains))
        if rule.domain is not None:
            parts.append(self._put(RULES.has_address_ending, rule.channel, f"@{rule.domain.removeprefix('@')}"))
        return f"({' AND '.join(parts)})" if parts else self._put(RULES.has_address, rule.channel)


def first_id(moment: datetime) -> UUID:
    """The least id of a message of that moment; of all of them for moments before 1970."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return UUID(int=(milliseconds << 80))


@cache
def _body(statement: Statement) -> str:
    """What stands behind the head that all rules share."""
    if not statement.sql.startswith(HEAD):
        raise Broken("rule_head", f"{statement.name} does not begin as rules do")
    return statement.sql.removeprefix(HEAD)


def _one_form(value: Any, *, is_moment: bool) -> Any:
    """A value as contacts hold it: moments in UTC; a whole number is the same number however it is written."""
    return moment_text(plain_moment(value)) if is_moment else value


def _days_of_the_year(world: World, days: int) -> list[str]:
    """Today and so many days more as MM-DD; who was born on 29 February is met on the 28th of other years."""
    found = [f"{world.day(offset):%m-%d}" for offset in range(min(days, 366) + 1)]
    last = world.day(min(days, 366))
    is_leap = last.year % 4 == 0 and (last.year % 100 != 0 or last.year % 400 == 0)
    return [*found, "02-29"] if "02-28" in found and not is_leap else found
