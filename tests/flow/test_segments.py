"""Segments on a real database: what each rule means, that values never become SQL, that nothing crosses tenants."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import msgspec
import pytest

from outrider.base.clock import utc_now
from outrider.base.errors import Refused
from outrider.domain.contacts import attributes, consent, lists, suppressions, tags, write
from outrider.domain.contacts.attributes import NewDefinition
from outrider.domain.contacts.consent import ConsentStatement
from outrider.domain.contacts.views import AddressView
from outrider.domain.contacts.write import NewContact
from outrider.domain.segments import check, rules, segments
from outrider.domain.segments.rows import SQL
from outrider.domain.segments.segments import NewSegment, SegmentChange
from tests.kit.audience import ACTOR, Audience, opened
from tests.kit.noon import noon_zone


@pytest.fixture
async def audience(migrated_url: str) -> AsyncIterator[Audience]:
    async with opened(migrated_url) as found:
        yield found


def rule(**told: Any) -> rules.Rule:
    found: rules.Rule = msgspec.convert(told, type=rules.Rule)
    return found


async def person(audience: Audience, name: str, *, tenant: UUID | None = None, **fields: Any) -> UUID:
    given = {"addresses": [AddressView("email", f"{name}@example.org")], **fields}
    async with audience.app(tenant) as uow:
        return (await write.create(uow, audience.channels, ACTOR, NewContact(name=name, **given))).id


async def names(audience: Audience, wanted: rules.Rule) -> set[str]:
    """Who belongs, and that the count says the same."""
    async with audience.app() as uow:
        found = await segments.contacts(uow, wanted, limit=1000)
        counted = await segments.count(uow, wanted)
    assert counted.contact_count == len(found)
    return {contact.name for contact in found}


async def define(audience: Audience, **types: str) -> None:
    async with audience.app() as uow:
        for key, kind in types.items():
            choices = ["free", "gold"] if kind == "choice" else []
            await attributes.define(uow, ACTOR, key, NewDefinition(kind, choices=choices))  # type: ignore[arg-type]  # each case names a type


async def test_rules_about_attributes_mean_what_their_words_say(audience: Audience) -> None:
    await person(audience, "ann", attributes={"plan": "gold", "age": 40, "is_vip": True, "likes": ["tea", "art"]})
    await person(audience, "bob", attributes={"plan": "Free", "age": 9.5, "is_vip": False})
    await person(audience, "cyd", attributes={"age": "40"})
    for told, expected in (
        ({"key": "plan", "value": "gold"}, {"ann"}),
        ({"key": "plan", "op": "is_not", "value": "gold"}, {"bob", "cyd"}),
        ({"key": "plan", "op": "is_one_of", "value": ["gold", "Free"]}, {"ann", "bob"}),
        ({"key": "plan", "op": "is_none_of", "value": ["gold", "Free"]}, {"cyd"}),
        ({"key": "plan", "op": "contains", "value": "FRE"}, {"bob"}),
        ({"key": "plan", "op": "starts_with", "value": "GO"}, {"ann"}),
        ({"key": "plan", "op": "is_set"}, {"ann", "bob"}),
        ({"key": "plan", "op": "is_not_set"}, {"cyd"}),
        ({"key": "age", "value": 40}, {"ann"}),
        ({"key": "age", "value": 40.0}, {"ann"}),
        ({"key": "age", "value": "40"}, {"cyd"}),
        ({"key": "age", "op": "at_least", "value": 40}, {"ann"}),
        ({"key": "age", "op": "above", "value": 40}, set()),
        ({"key": "age", "op": "below", "value": 40}, {"bob"}),
        ({"key": "age", "op": "at_most", "value": 9.5}, {"bob"}),
        ({"key": "is_vip", "value": True}, {"ann"}),
        ({"key": "likes", "op": "contains", "value": "tea"}, {"ann"}),
        ({"key": "missing", "value": "x"}, set()),
    ):
        assert await names(audience, rule(kind="attribute", **told)) == expected, told


async def test_dates_and_moments_are_compared_where_the_tenant_is(audience: Audience) -> None:
    await define(audience, born="date", seen="moment")
    here = noon_zone()  # no day ends meanwhile
    await audience.fetch("UPDATE tenants SET timezone = $2 WHERE id = $1 RETURNING id", audience.tenant, here)
    now = utc_now()
    today = now.astimezone(ZoneInfo(here)).date()
    await person(audience, "ann", attributes={"born": f"1980-{today:%m-%d}", "seen": now.isoformat()})
    await person(
        audience, "bob", attributes={"born": str(today - timedelta(days=3)), "seen": "2020-02-29T23:30:00-05:00"}
    )
    stored = await audience.fetch("SELECT attributes ->> 'seen' FROM contacts WHERE name = 'bob'")
    assert stored == [("2020-03-01T04:30:00Z",)]
    for told, expected in (
        ({"key": "born", "op": "in_last_days", "value": 3}, {"bob"}),
        ({"key": "born", "op": "in_last_days", "value": 2}, set()),
        ({"key": "born", "op": "anniversary_in_next_days", "value": 0}, {"ann"}),
        (
            {"key": "born", "op": "before", "value": "1980-12-31"},
            {"ann"} if (today.month, today.day) != (12, 31) else set(),
        ),
        ({"key": "born", "op": "since", "value": "1980-01-01"}, {"ann", "bob"}),
        ({"key": "seen", "op": "before", "value": "2020-03-01T05:30:01+01:00"}, {"bob"}),
        ({"key": "seen", "op": "before", "value": "2020-03-01T05:30:00+01:00"}, set()),
        ({"key": "seen", "op": "in_last_days", "value": 1}, {"ann"}),
    ):
        assert await names(audience, rule(kind="attribute", **told)) == expected, told


async def test_rules_about_tags_lists_addresses_consent_and_the_do_not_contact_list(audience: Audience) -> None:
    ann = await person(audience, "ann", tags=["VIP", "Two  Words"], locale="de", external_id="X-1")
    bob = await person(audience, "bob", addresses=[AddressView("email", "bob@other.example")])
    await person(audience, "cyd", addresses=[])
    async with audience.app() as uow:
        news = (await lists.create(uow, ACTOR, "news")).id
        await lists.add_members(uow, ACTOR, news, [ann])
        await consent.set_consent(
            uow, audience.channels, ACTOR, ann, ConsentStatement("email", "marketing", "granted", "x")
        )
        await consent.set_consent(
            uow, audience.channels, ACTOR, bob, ConsentStatement("email", "marketing", "withdrawn", "x")
        )
        await suppressions.suppress(uow, audience.channels, ACTOR, "email", "bob@other.example", source="test")
    for told, expected in (
        ({"kind": "tag", "tags": ["vip"]}, {"ann"}),
        ({"kind": "tag", "tags": ["two words", "none"]}, {"ann"}),
        ({"kind": "list", "list_ids": [str(news)]}, {"ann"}),
        ({"kind": "address", "channel": "email"}, {"ann", "bob"}),
        ({"kind": "address", "channel": "email", "domain": "OTHER.example"}, {"bob"}),
        ({"kind": "address", "channel": "email", "contains": "ann@"}, {"ann"}),
        ({"kind": "consent", "status": "granted"}, {"ann"}),
        ({"kind": "consent", "status": "withdrawn"}, {"bob"}),
        ({"kind": "consent", "status": "silent"}, {"cyd"}),
        ({"kind": "suppressed"}, {"bob"}),
        ({"kind": "field", "field": "locale", "value": "de"}, {"ann"}),
        ({"kind": "field", "field": "external_id", "op": "is_set"}, {"ann"}),
        ({"kind": "field", "field": "name", "op": "starts_with", "value": "B"}, {"bob"}),
        ({"kind": "moment", "field": "created_at", "op": "in_last_days", "value": 1}, {"ann", "bob", "cyd"}),
        ({"kind": "moment", "field": "created_at", "op": "before", "value": "2020-01-01T00:00:00Z"}, set()),
        ({"kind": "text", "contains": "x-1"}, {"ann"}),
        ({"kind": "text", "contains": "OTHER"}, {"bob"}),
        ({"kind": "all", "rules": []}, {"ann", "bob", "cyd"}),
        ({"kind": "any", "rules": []}, set()),
        ({"kind": "not", "rule": {"kind": "tag", "tags": ["vip"]}}, {"bob", "cyd"}),
    ):
        assert await names(audience, rule(**told)) == expected, told


async def test_rules_join_as_a_tree(audience: Audience) -> None:
    for name, plan in (("ann", "gold"), ("bob", "gold"), ("cyd", "free")):
        await person(audience, name, attributes={"plan": plan}, tags=["old"] if name == "bob" else [])
    gold = {"kind": "attribute", "key": "plan", "value": "gold"}
    old = {"kind": "tag", "tags": ["old"]}
    assert await names(audience, rule(kind="all", rules=[gold, {"kind": "not", "rule": old}])) == {"ann"}
    assert await names(audience, rule(kind="any", rules=[old, {"kind": "not", "rule": gold}])) == {"bob", "cyd"}


@pytest.mark.parametrize("text", ["'; DROP TABLE contacts; --", "$1", "%", "_", "\\", "$$", "x' OR '1'='1", "é\u202e"])
async def test_a_value_is_only_ever_a_value(text: str, audience: Audience) -> None:
    await person(audience, "ann", attributes={"plan": text})
    await person(audience, "bob", attributes={"plan": "zz"})
    assert await names(audience, rule(kind="attribute", key="plan", value=text)) == {"ann"}
    assert await names(audience, rule(kind="attribute", key="plan", op="contains", value=text)) == {"ann"}
    assert await names(audience, rule(kind="text", contains=text)) == set()


@pytest.mark.parametrize(
    ("told", "code", "pointer"),
    [
        ({"kind": "attribute", "key": "age", "op": "contains", "value": "1"}, "wrong_operator", "/rules/op"),
        ({"kind": "attribute", "key": "age", "value": "1"}, "wrong_type", "/rules/value"),
        ({"kind": "attribute", "key": "plan", "value": "silver"}, "unknown_choice", "/rules/value"),
        ({"kind": "attribute", "key": "born", "op": "since", "value": "yesterday"}, "wrong_type", "/rules/value"),
        ({"kind": "attribute", "key": "other", "op": "in_last_days", "value": -1}, "wrong_type", "/rules/value"),
        ({"kind": "attribute", "key": "other", "op": "is_set", "value": 1}, "wrong_type", "/rules/value"),
        ({"kind": "attribute", "key": "other", "op": "is_one_of", "value": []}, "wrong_type", "/rules/value"),
        ({"kind": "attribute", "key": "other", "value": 2**60}, "invalid_number", "/rules/value"),
        ({"kind": "attribute", "key": "other", "value": "a\0b"}, "control_character", "/rules/value"),
        ({"kind": "tag", "tags": ["a,b"]}, "invalid_tag", "/rules/tags/0"),
        ({"kind": "list", "list_ids": [str(uuid4())]}, "unknown_list", "/rules"),
        ({"kind": "campaign", "campaign_ids": [str(uuid4())]}, "unknown_campaign", "/rules"),
        ({"kind": "segment", "segment_id": str(uuid4())}, "unknown_segment", "/rules/segment_id"),
        ({"kind": "moment", "field": "created_at", "op": "since", "value": 3}, "wrong_type", "/rules/value"),
    ],
)  # fmt: skip
async def test_rules_that_make_no_sense_are_refused_where_they_stand(
    told: dict[str, Any], code: str, pointer: str, audience: Audience
) -> None:
    await define(audience, age="number", plan="choice", born="date")
    with pytest.raises(Refused) as refused:
        async with audience.app() as uow:
            await segments.create(uow, ACTOR, NewSegment("x", rule(**told)))
    assert (refused.value.code, refused.value.field) == (code, pointer)
    nested = {"kind": "all", "rules": [{"kind": "not", "rule": told}]}
    with pytest.raises(Refused) as refused:
        async with audience.app() as uow:
            await segments.count(uow, rule(**nested))
    assert str(refused.value.field).startswith("/rules/rules/0/rule")


async def test_rules_are_bounded_in_depth_and_number(audience: Audience) -> None:
    told: dict[str, Any] = {"kind": "tag", "tags": ["x"]}
    for _ in range(8):
        told = {"kind": "not", "rule": told}
    many = {"kind": "all", "rules": [{"kind": "all", "rules": [{"kind": "suppressed"}] * 50}] * 5}
    for given, code in ((told, "too_deep"), (many, "too_large")):
        with pytest.raises(Refused) as refused:
            async with audience.app() as uow:
                await segments.count(uow, rule(**given))
        assert refused.value.code == code


async def test_a_segment_is_made_changed_counted_used_by_another_and_deleted(audience: Audience) -> None:
    await person(audience, "ann", tags=["vip"])
    await person(audience, "bob")
    async with audience.app() as uow:
        vip = await segments.create(uow, ACTOR, NewSegment("vip", rule(kind="tag", tags=["vip"])))
        rest = await segments.create(
            uow, ACTOR, NewSegment("rest", rule(kind="not", rule={"kind": "segment", "segment_id": str(vip.id)}))
        )
        assert (await segments.count_segment(uow, rest.id)).contact_count == 1
        assert (await segments.get(uow, rest.id)).contact_count == 1
        changed = await segments.update(uow, ACTOR, rest.id, SegmentChange(rules=rules.EVERYBODY))
        assert changed.contact_count is None
    for change, code in (
        (SegmentChange(name="rest"), "name_taken"),
        (SegmentChange(rules=rules.InSegment(vip.id)), "circular"),
    ):
        with pytest.raises(Refused) as refused:
            async with audience.app() as uow:
                await segments.update(uow, ACTOR, vip.id, change)
        assert refused.value.code == code
    async with audience.app() as uow:
        await segments.update(uow, ACTOR, rest.id, SegmentChange(rules=rules.InSegment(vip.id)))
    with pytest.raises(Refused) as refused:
        async with audience.app() as uow:
            await segments.delete(uow, ACTOR, vip.id)
    assert refused.value.code == "segment_in_use"
    async with audience.app() as uow:
        await segments.delete(uow, ACTOR, rest.id)
        await segments.delete(uow, ACTOR, vip.id)
        assert await segments.listed(uow, limit=10) == []


async def test_a_segment_never_reaches_into_another_tenant(audience: Audience) -> None:
    other = await audience.other_tenant()
    await person(audience, "ann", tags=["vip"])
    await person(audience, "eve", tenant=other, tags=["vip"])
    async with audience.app() as uow:
        mine = await segments.create(uow, ACTOR, NewSegment("vip", rule(kind="tag", tags=["vip"])))
    assert await names(audience, rules.EVERYBODY) == {"ann"}
    async with audience.app(other) as uow:
        found = await segments.contacts(uow, rule(kind="tag", tags=["vip"]), limit=10)
        assert [each.name for each in found] == ["eve"]
        with pytest.raises(Refused) as refused:
            await segments.count(uow, rules.InSegment(mine.id))
        assert refused.value.code == "unknown_segment"


async def test_tags_are_words_that_are_one_whatever_their_case(audience: Audience) -> None:
    ann = await person(audience, "ann")
    unknown = uuid4()
    async with audience.app() as uow:
        done = await tags.add(uow, ACTOR, [ann, unknown], ["VIP", "vip ", "New"])
        assert (done.changed_count, done.unchanged_count, done.unknown) == (1, 0, [unknown])
        again = await tags.add(uow, ACTOR, [ann], ["vip"])
        assert (again.changed_count, again.unchanged_count) == (0, 1)
        assert [(each.tag, each.contact_count) for each in await tags.listed(uow, limit=10)] == [("new", 1), ("vip", 1)]
        await tags.remove(uow, ACTOR, [ann], ["NEW"])
        assert await tags.delete(uow, ACTOR, "Vip") == 1
    async with audience.app() as uow:
        for start in (0, 50):
            await tags.add(uow, ACTOR, [ann], [f"t{n}" for n in range(start, start + 50)])
    with pytest.raises(Refused) as refused:
        async with audience.app() as uow:
            await tags.add(uow, ACTOR, [ann], ["one more"])
    assert refused.value.code == "too_many"


async def test_attributes_that_are_defined_hold_what_they_were_defined_for(audience: Audience) -> None:
    await define(audience, age="number", born="date", plan="choice")
    with pytest.raises(Refused) as refused:
        await person(audience, "ann", attributes={"age": "forty"})
    assert (refused.value.code, refused.value.field) == ("wrong_type", "/attributes/age")
    ann = await person(audience, "ann", attributes={"age": 40, "plan": "gold", "free": [1, {"x": 2}]})
    with pytest.raises(Refused) as refused:
        async with audience.app() as uow:
            await write.update(uow, ACTOR, ann, write.ContactChange(attributes={"born": "31.12.1999"}))
    assert refused.value.field == "/attributes/born"
    with pytest.raises(Refused) as refused:
        await define(audience, age="text")
    assert (refused.value.code, refused.value.http_status) == ("type_fixed", 409)
    async with audience.app() as uow:
        await attributes.forget(uow, ACTOR, "age")
        await write.update(uow, ACTOR, ann, write.ContactChange(attributes={"age": "forty"}))
        found = await attributes.used_values(uow, "age")
    assert [(each.value, each.type, each.contact_count) for each in found] == [("forty", "string", 1)]


async def test_segments_that_grow_by_naming_one_another_are_refused_before_they_have_grown(
    audience: Audience, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is small when it is made; what the last one names a hundred times is changed afterwards."""
    made: list[UUID] = []
    async with audience.app() as uow:
        for number in range(4):
            new = NewSegment(f"s{number}", rule(kind="tag", tags=["x"]))
            made.append((await segments.create(uow, ACTOR, new)).id)
        for upper, lower in itertools.pairwise(made):
            wanted = rules.AllOf([rules.AnyOf([rules.InSegment(lower)] * 40)] * 2)
            await segments.update(uow, ACTOR, upper, SegmentChange(rules=wanted))
    asked = 0
    many = SQL.segments_by_id.many

    async def counted(*told: Any) -> Any:
        nonlocal asked
        asked += 1
        return await many(*told)

    monkeypatch.setattr(check, "SQL", SimpleNamespace(segments_by_id=SimpleNamespace(many=counted)))
    async with audience.app() as uow:
        with pytest.raises(Refused) as info:
            await segments.count(uow, rules.InSegment(made[0]))
    assert (info.value.code, asked <= 2 * check.MOST_RULES) == ("too_large", True)
