"""Whether rules make sense for a tenant: operators fit values and types, what they name exists, they are not too many.

Owns every refusal of rules, each with the pointer of the rule; never compiles. Segments within rules are put in place
here, so that what is compiled or frozen stands by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from outrider.base.errors import Refused
from outrider.data.db import UnitOfWork
from outrider.domain.contacts import values
from outrider.domain.contacts.attributes import Definition, read_date, read_moment, stored
from outrider.domain.contacts.tags import check_tag
from outrider.domain.messages import events
from outrider.domain.segments import rules
from outrider.domain.segments.rows import SQL

DEEPEST = 8
MOST_RULES = 200
MOST_DAYS = 36_500

_TIMES = {"since", "before"}
_DAYS = {"in_last_days", "in_next_days", "anniversary_in_next_days"}
_NUMBERS = {"above", "at_least", "below", "at_most"}
_TEXTS = {"contains", "starts_with"}
_LISTS = {"is_one_of", "is_none_of"}
_NOTHING = {"is_set", "is_not_set"}
_FITTING: dict[str, set[str]] = {
    "text": _TEXTS,
    "choice": _TEXTS,
    "number": _NUMBERS,
    "boolean": set(),
    "date": _TIMES | _DAYS,
    "moment": _TIMES | _DAYS,
}


def decode(text: str) -> rules.Rule:
    """Rules as they are stored."""
    found: rules.Rule = msgspec.json.decode(text, type=rules.Rule)
    return found


def encode(rule: rules.Rule) -> str:
    """Rules as they are stored."""
    return msgspec.json.encode(rule).decode()


async def checked(
    uow: UnitOfWork, rule: rules.Rule, definitions: Mapping[str, Definition], *, field: str = "/rules"
) -> rules.Rule:
    """The rules by themselves: segments within are put in place, and everything fits.

    Raises:  Refused(too_deep, too_large, wrong_type, unknown_… ) naming the rule by its pointer;
             Refused(circular) for a segment that contains itself.
    """
    whole = await _in_place(uow, rule, field, (), _Expansion(field))
    lists: dict[UUID, str] = {}
    campaigns: dict[UUID, str] = {}
    for depth, pointer, each in walk(whole, field):
        if depth > DEEPEST * 2:  # a segment within a segment has its own depth
            raise Refused("too_deep", f"rules may be nested {DEEPEST} levels deep", field=pointer)
        _check(each, definitions, pointer)
        if isinstance(each, rules.OnList):
            lists |= dict.fromkeys(each.list_ids, pointer)
        elif isinstance(each, rules.OfCampaign):
            campaigns |= dict.fromkeys(each.campaign_ids, pointer)
        elif isinstance(each, rules.Event) and each.campaign_id is not None:
            campaigns[each.campaign_id] = pointer
    for row in await SQL.unknown_lists.many(uow.raw, uow.tenant, list(lists)) if lists else ():
        raise Refused("unknown_list", f"no list has the id {row['id']}", field=lists[row["id"]])
    for row in await SQL.unknown_campaigns.many(uow.raw, uow.tenant, list(campaigns)) if campaigns else ():
        raise Refused("unknown_campaign", f"no campaign has the id {row['id']}", field=campaigns[row["id"]])
    return whole


def walk(rule: rules.Rule, field: str = "/rules", depth: int = 1) -> Iterator[tuple[int, str, rules.Rule]]:
    """Every rule of a tree with its depth and pointer."""
    yield depth, field, rule
    if isinstance(rule, rules.AllOf | rules.AnyOf):
        for position, each in enumerate(rule.rules):
            yield from walk(each, f"{field}/rules/{position}", depth + 1)
    elif isinstance(rule, rules.Not):
        yield from walk(rule.rule, f"{field}/rule", depth + 1)


def check_depth(rule: rules.Rule, field: str = "/rules") -> None:
    """Refuse what is nested too deeply, before anything else looks at it.

    Raises:  Refused(too_deep).
    """
    for depth, pointer, _ in walk(rule, field):
        if depth > DEEPEST:
            raise Refused("too_deep", f"rules may be nested {DEEPEST} levels deep", field=pointer)


def number_of(value: Any) -> int | float:
    """The number a checked rule has as its value."""
    return value if isinstance(value, int | float) else 0


def plain_moment(value: Any) -> datetime:
    """The moment a checked rule has as its value."""
    found = read_moment(str(value))
    if found is None:
        raise Refused("wrong_type", "must be a moment as RFC 3339 with its offset")
    return found


@dataclass(slots=True)
class _Expansion:
    """How many rules there are so far; counted while they grow, because segments name one another."""

    field: str
    count: int = 0

    def grow(self) -> None:
        """One rule more.

        Raises:  Refused(too_large).
        """
        self.count += 1
        if self.count > MOST_RULES:
            raise Refused("too_large", f"a segment has at most {MOST_RULES} rules", field=self.field)


async def _in_place(
    uow: UnitOfWork, rule: rules.Rule, field: str, above: tuple[UUID, ...], grown: _Expansion
) -> rules.Rule:
    """The same rules with those of other segments in place of their names."""
    check_depth(rule, field)
    if not isinstance(rule, rules.InSegment):  # what stands in its place counts
        grown.grow()
    if isinstance(rule, rules.AllOf | rules.AnyOf):
        parts = [
            await _in_place(uow, each, f"{field}/rules/{position}", above, grown)
            for position, each in enumerate(rule.rules)
        ]
        return msgspec.structs.replace(rule, rules=parts)
    if isinstance(rule, rules.Not):
        return rules.Not(await _in_place(uow, rule.rule, f"{field}/rule", above, grown))
    if not isinstance(rule, rules.InSegment):
        return rule
    if rule.segment_id in above:
        raise Refused("circular", "this segment would contain itself", field=f"{field}/segment_id")
    if len(above) >= DEEPEST:
        raise Refused("too_deep", f"segments may contain one another {DEEPEST} levels deep", field=field)
    found = await SQL.segments_by_id.many(uow.raw, uow.tenant, [rule.segment_id])
    if not found:
        raise Refused("unknown_segment", f"no segment has the id {rule.segment_id}", field=f"{field}/segment_id")
    return await _in_place(uow, decode(found[0]["rules"]), field, (*above, rule.segment_id), grown)


def _check(rule: rules.Rule, definitions: Mapping[str, Definition], pointer: str) -> None:
    match rule:
        case rules.Attribute():
            _check_attribute(rule, definitions.get(rule.key), pointer)
        case rules.Field():
            _check_shape(rule.op, rule.value, f"{pointer}/value")
            _check_texts(rule.value, f"{pointer}/value")
        case rules.Moment():
            is_days = rule.op in {"in_last_days", "not_in_last_days"}
            if is_days != isinstance(rule.value, int) or (not is_days and read_moment(str(rule.value)) is None):
                wanted = "a number of days" if is_days else "a moment as RFC 3339 with its offset"
                raise Refused("wrong_type", f"must be {wanted}", field=f"{pointer}/value")
        case rules.Tag():
            for position, tag in enumerate(rule.tags):
                check_tag(tag, field=f"{pointer}/tags/{position}")
        case rules.Event() if rule.event not in events.KINDS:  # it would match nobody, and its opposite everybody
            known = ", ".join(events.KINDS)
            raise Refused(
                "unknown_event", f"no event is called {rule.event}; there are {known}", field=f"{pointer}/event"
            )
        case rules.Address() | rules.Consent() | rules.Suppressed() | rules.Anywhere():
            _check_texts(list(msgspec.structs.asdict(rule).values()), pointer)


def _check_attribute(rule: rules.Attribute, definition: Definition | None, pointer: str) -> None:
    field = f"{pointer}/value"
    _check_shape(rule.op, rule.value, field)
    op, value = rule.op, rule.value
    if definition is not None and op not in {"is", "is_not", *_LISTS, *_NOTHING, *_FITTING[definition.type]}:
        raise Refused("wrong_operator", f"{rule.key} is {definition.type}: {op} does not fit", field=f"{pointer}/op")
    if op in _NUMBERS | _DAYS and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise Refused("wrong_type", "must be a number", field=field)
    if op in _DAYS and not (isinstance(value, int) and 0 <= value <= MOST_DAYS):
        raise Refused("wrong_type", f"must be a number of days, 0 to {MOST_DAYS}", field=field)
    _check_texts(value, field)
    if op in _TIMES:
        _check_time(value, definition, field)
    elif definition is not None and op in {"is", "is_not", *_LISTS}:
        for each in value if isinstance(value, list) else [value]:
            stored(definition, each, field)


def _check_time(value: Any, definition: Definition | None, field: str) -> None:
    """A day or a moment, whichever the attribute holds."""
    if definition is not None and definition.type == "moment":
        if read_moment(str(value)) is None:
            raise Refused("wrong_type", "must be a moment as RFC 3339 with its offset", field=field)
    elif read_date(str(value)) is None:
        hint = "" if definition else "; define the attribute as moment to compare moments"
        raise Refused("wrong_type", f"must be a day as YYYY-MM-DD{hint}", field=field)


def _check_shape(op: str, value: Any, field: str) -> None:
    """A value where one is needed, a list where several are, nothing where nothing is asked."""
    if op in _NOTHING:
        if value is not None:
            raise Refused("wrong_type", f"{op} takes no value", field=field)
    elif op in _LISTS:
        if not isinstance(value, list) or not value:
            raise Refused("wrong_type", f"{op} takes a list of at least one value", field=field)
    elif value is None or isinstance(value, list):
        raise Refused("wrong_type", f"{op} takes one value", field=field)
    elif op in _TEXTS and (not isinstance(value, str) or not value):
        raise Refused("wrong_type", f"{op} takes a text", field=field)


def _check_texts(value: Any, field: str) -> None:
    """Nothing that the database could not hold."""
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str):
            values.check_attribute_text(each, field=field)
        elif isinstance(each, int | float) and not isinstance(each, bool):
            values.check_number(each, field)
