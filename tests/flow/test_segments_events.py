"""Rules about what people got and did, on a real database: whom each matches, whom its opposite, and wrong names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from outrider.base.clock import utc_now
from outrider.base.errors import Refused
from outrider.base.ids import first_id_at
from outrider.domain.contacts import write
from outrider.domain.contacts.views import AddressView
from outrider.domain.contacts.write import NewContact
from outrider.domain.messages import events
from outrider.domain.segments import rules, segments
from outrider.domain.segments.segments import NewSegment
from tests.kit.audience import ACTOR, Audience, opened

_CAMPAIGN = """
WITH account AS (
  INSERT INTO connections (tenant_id, name, provider) VALUES ($1, $2, 'smtp') RETURNING id
), sender AS (
  INSERT INTO senders (tenant_id, name, channel, connection_id, from_address)
  SELECT $1, $2, 'email', id, 'news@example.org' FROM account RETURNING id
), list AS (
  INSERT INTO lists (tenant_id, name) VALUES ($1, $2) RETURNING id
), content AS (
  INSERT INTO contents (tenant_id, channel, hash, is_template, subject, text)
  VALUES ($1, 'email', sha256(convert_to($2, 'UTF8')), false, 'x', 'x') RETURNING id
)
INSERT INTO campaigns (tenant_id, name, channel, sender_id, content_id, list_id, created_by, state, retry_of)
SELECT $1, $2, 'email', sender.id, content.id, list.id, 'test', 'paused', $3 FROM sender, list, content RETURNING id
"""
_MESSAGE = """
WITH lane AS (
  INSERT INTO lanes (tenant_id, channel, sender_id, campaign_id, message_class) VALUES ($1, 'email', $1, $5, 'bulk')
  ON CONFLICT (tenant_id, channel, sender_id, campaign_id, message_class) DO UPDATE SET is_open = true RETURNING id
), content AS (
  INSERT INTO contents (tenant_id, channel, hash, is_template, subject, text)
  VALUES ($1, 'email', sha256('x'), false, 'x', 'x')
  ON CONFLICT (tenant_id, hash) DO UPDATE SET subject = 'x' RETURNING id
), made AS (
  INSERT INTO messages (tenant_id, id, lane_id, campaign_id, contact_id, content_id, address, purpose, state, due_at)
  SELECT $1, $2, lane.id, $5, $3, content.id, lane.id::text, 'x', $4, now() FROM lane, content RETURNING id
)
INSERT INTO message_events (tenant_id, message_id, kind, at)
SELECT $1, made.id, t.kind, now() - t.days * interval '1 day' FROM made, unnest($6::text[], $7::int[]) t(kind, days)
RETURNING 1
"""


@pytest.fixture
async def audience(migrated_url: str) -> AsyncIterator[Audience]:
    async with opened(migrated_url) as found:
        yield found


async def person(audience: Audience, name: str, *, tenant: UUID | None = None) -> UUID:
    told = NewContact(name=name, addresses=[AddressView("email", f"{name}@example.org")])
    async with audience.app(tenant) as uow:
        return (await write.create(uow, audience.channels, ACTOR, told)).id


async def campaign(audience: Audience, name: str, *, retry_of: UUID | None = None) -> UUID:
    ((made,),) = await audience.fetch(_CAMPAIGN, audience.tenant, name, retry_of)
    found: UUID = made
    return found


async def message(
    audience: Audience, contact: UUID, state: str, *story: tuple[str, int], of: UUID | None = None, days: int = 0
) -> None:
    """A message of so many days ago, and what happened to it so many days ago."""
    first = first_id_at(utc_now() - timedelta(days=days))
    made = UUID(int=first.int | (uuid4().int & (2**60 - 1)))
    kinds, ago = [kind for kind, _ in story] or ["held"], [moment for _, moment in story] or [days]
    await audience.fetch(_MESSAGE, audience.tenant, made, contact, state, of, kinds, ago)


async def names(audience: Audience, told: dict[str, Any]) -> set[str]:
    """Who belongs, and that the count says the same."""
    wanted: rules.Rule = msgspec.convert(told, type=rules.Rule)
    async with audience.app() as uow:
        found = await segments.contacts(uow, wanted, limit=1000)
        counted = await segments.count(uow, wanted)
    assert counted.contact_count == len(found)
    return {contact.name for contact in found}


async def matches(audience: Audience, told: dict[str, Any], expected: set[str], everybody: set[str]) -> None:
    """The rule matches just these, and its opposite everybody else."""
    assert await names(audience, told) == expected, told
    assert await names(audience, {"kind": "not", "rule": told}) == everybody - expected, told


async def test_people_are_told_apart_by_what_happened_to_their_messages(audience: Audience) -> None:
    everybody = {"ann", "bob", "cyd", "dan"}
    who = {name: await person(audience, name) for name in sorted(everybody)}
    spring, winter = await campaign(audience, "spring"), await campaign(audience, "winter")
    await message(audience, who["ann"], "sent", ("sent", 3), ("opened", 2), ("clicked", 2), ("clicked", 1), of=spring)
    await message(audience, who["ann"], "sent", ("sent", 40), ("unsubscribed", 39), days=40)
    await message(audience, who["bob"], "sent", ("sent", 3), ("opened", 3), of=winter)
    await message(audience, who["bob"], "sent", ("sent", 40), ("clicked", 40), of=spring, days=40)
    await message(audience, who["cyd"], "bounced", ("sent", 40), ("bounced", 39), of=spring, days=40)
    for told, expected in (
        ({"event": "sent"}, {"ann", "bob", "cyd"}),
        ({"event": "sent", "in_last_days": 30}, {"ann", "bob"}),
        ({"event": "sent", "at_least": 2}, {"ann", "bob"}),
        ({"event": "sent", "at_least": 2, "in_last_days": 30}, set()),
        ({"event": "sent", "campaign_id": str(winter)}, {"bob"}),
        ({"event": "opened"}, {"ann", "bob"}),
        ({"event": "opened", "in_last_days": 1, "campaign_id": str(spring)}, set()),
        ({"event": "opened", "in_last_days": 4, "campaign_id": str(spring)}, {"ann"}),
        ({"event": "clicked"}, {"ann", "bob"}),
        ({"event": "clicked", "in_last_days": 30}, {"ann"}),
        ({"event": "clicked", "at_least": 2}, {"ann"}),
        ({"event": "clicked", "campaign_id": str(spring)}, {"ann", "bob"}),
        ({"event": "clicked", "campaign_id": str(winter)}, set()),
        ({"event": "bounced"}, {"cyd"}),
        ({"event": "unsubscribed"}, {"ann"}),
        ({"event": "unsubscribed", "in_last_days": 30}, set()),
        ({"event": "machine_opened"}, set()),
    ):
        await matches(audience, {"kind": "event", **told}, expected, everybody)


async def test_people_are_told_apart_by_how_much_they_were_sent(audience: Audience) -> None:
    states = ("sent", "delivered", "bounced", "uncertain", "failed", "blocked", "expired", "cancelled", "queued")
    everybody = {*states, "two", "old", "never"}
    who = {name: await person(audience, name) for name in sorted(everybody)}
    for state in states:
        await message(audience, who[state], state)
    await message(audience, who["two"], "sent")
    await message(audience, who["two"], "delivered", days=20)
    await message(audience, who["old"], "sent", days=40)
    got = {"sent", "delivered", "bounced", "uncertain", "two"}
    for told, expected in (
        ({"in_last_days": 10}, got),
        ({"in_last_days": 60}, {*got, "old"}),
        ({"in_last_days": 10, "at_least": 2}, set()),
        ({"in_last_days": 30, "at_least": 2}, {"two"}),
    ):
        await matches(audience, {"kind": "written_to", **told}, expected, everybody)


async def test_people_are_told_apart_by_what_became_of_a_campaign(audience: Audience) -> None:
    states = ("sent", "delivered", "bounced", "uncertain", "failed", "blocked", "expired", "cancelled", "queued")
    everybody = {*states, "again", "other", "never"}
    who = {name: await person(audience, name) for name in sorted(everybody)}
    spring, winter = await campaign(audience, "spring"), await campaign(audience, "winter")
    retry = await campaign(audience, "spring again", retry_of=spring)
    for state in states:
        await message(audience, who[state], state, of=spring)
    await message(audience, who["again"], "sent", of=retry)
    await message(audience, who["other"], "failed", of=winter)
    went, ended = {"sent", "delivered", "again"}, {"failed", "blocked", "expired", "cancelled", "bounced"}
    for outcome, expected in (
        ("got", went),
        ("may_have_got", {*went, "queued", "uncertain", "bounced"}),
        ("did_not_get", ended),
    ):
        told = {"kind": "campaign", "campaign_ids": [str(spring)], "outcome": outcome}
        await matches(audience, told, expected, everybody)
    both = {"kind": "campaign", "campaign_ids": [str(spring), str(winter)], "outcome": "did_not_get"}
    await matches(audience, both, {*ended, "other"}, everybody)


async def test_an_event_that_there_is_not_is_refused_with_the_names_of_those_there_are(audience: Audience) -> None:
    await person(audience, "ann")
    wrong = rules.Event("click")
    told = rules.AllOf([rules.Not(wrong)])
    with pytest.raises(Refused) as refused:
        async with audience.app() as uow:
            await segments.count(uow, told)
    assert (refused.value.code, refused.value.field) == ("unknown_event", "/rules/rules/0/rule/event")
    assert "click;" in refused.value.message
    assert all(name in refused.value.message for name in events.KINDS)
    with pytest.raises(Refused) as refused:
        async with audience.app() as uow:
            await segments.create(uow, ACTOR, NewSegment("readers", wrong))
    assert (refused.value.code, refused.value.field) == ("unknown_event", "/rules/event")
    for name in events.KINDS:
        async with audience.app() as uow:
            assert (await segments.count(uow, rules.Event(name))).contact_count == 0


async def test_what_happened_to_messages_of_another_tenant_counts_for_nobody_here(audience: Audience) -> None:
    other = await audience.other_tenant()
    ann = await person(audience, "ann")
    eve = await person(audience, "eve", tenant=other)
    theirs = Audience(audience.db, other, audience.channels)
    for contact in (ann, eve):
        await message(theirs, contact, "sent", ("opened", 0))
    for told in ({"kind": "event", "event": "opened"}, {"kind": "written_to", "in_last_days": 1}):
        await matches(audience, told, set(), {"ann"})
        await matches(theirs, told, {"eve"}, {"eve"})
