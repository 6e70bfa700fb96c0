"""The do-not-contact list: entries only grow stronger, a recipient's word needs force, ours and the installation's."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from outrider.base.errors import Broken, Refused, RefusedMany
from outrider.base.ids import NIL
from outrider.data.db import Role
from outrider.domain.contacts import suppressions
from outrider.domain.contacts.suppressions import Entry, Reason, Scope
from outrider.domain.contacts.views import SuppressionView
from tests.kit.audience import ACTOR, Audience, PlainEmail, opened


@pytest.fixture
async def audience(migrated_url: str) -> AsyncIterator[Audience]:
    async with opened(migrated_url) as found:
        yield found


async def add(audience: Audience, address: str, scope: Scope, reason: Reason, note: str = "") -> bool:
    async with audience.app() as uow:
        return await suppressions.suppress(
            uow, audience.channels, ACTOR, "email", address, scope=scope, reason=reason, source="test", note=note
        )


async def look(audience: Audience, address: str) -> list[SuppressionView]:
    async with audience.app() as uow:
        return await suppressions.lookup(uow, audience.channels, "email", address)


async def remove(audience: Audience, address: str, *, reason: str = "", force: bool = False) -> None:
    async with audience.app() as uow:
        await suppressions.unsuppress(uow, audience.channels, ACTOR, "email", address, reason=reason, force=force)


async def test_an_entry_is_found_by_any_typed_form_and_kept_by_its_hash(audience: Audience) -> None:
    assert await add(audience, "Ann@EXAMPLE.org", "all", "manual", "asked by phone")
    (entry,) = await look(audience, "ann@Example.org")
    assert (entry.address, entry.scope, entry.reason, entry.note) == (
        "ann@example.org",
        "all",
        "manual",
        "asked by phone",
    )
    assert entry.address_hash == hashlib.sha256(b"ann@example.org").hexdigest()
    assert entry.created_by == ACTOR.name
    assert await look(audience, "bob@example.org") == []


async def test_an_entry_never_becomes_weaker(audience: Audience) -> None:
    assert await add(audience, "a@example.org", "bulk", "unsubscribe")
    assert not await add(audience, "a@example.org", "bulk", "manual")
    assert await add(audience, "a@example.org", "all", "manual")
    assert not await add(audience, "a@example.org", "bulk", "hard_bounce")
    (entry,) = await look(audience, "a@example.org")
    assert (entry.scope, entry.reason) == ("all", "unsubscribe")
    assert await add(audience, "a@example.org", "bulk", "complaint")
    (entry,) = await look(audience, "a@example.org")
    assert (entry.scope, entry.reason) == ("all", "complaint")


async def add_many(audience: Audience, *entries: Entry) -> int:
    async with audience.app() as uow:
        return await suppressions.suppress_many(uow, audience.channels, ACTOR, entries, source="test")


async def test_many_are_taken_together_and_audited_as_one(audience: Audience) -> None:
    assert await add(audience, "a@example.org", "all", "unsubscribe")
    given = [Entry("email", f"P{n}@EXAMPLE.org", "bulk", "manual", "by post") for n in range(300)]
    again = [Entry("email", "p7@example.org", "all", "manual"), Entry("email", "p7@example.org", "bulk", "stop", "sms")]
    weaker = Entry("email", "A@example.org", "bulk", "manual")
    assert await add_many(audience, *given, *again, weaker) == 300
    (seven,) = await look(audience, "p7@example.org")
    assert (seven.scope, seven.reason, seven.note) == ("all", "stop", "sms"), "as strong as the strongest of them"
    (eight,) = await look(audience, "p8@example.org")
    assert (eight.scope, eight.reason, eight.note) == ("bulk", "manual", "by post")
    (first,) = await look(audience, "a@example.org")
    assert (first.scope, first.reason) == ("all", "unsubscribe")
    rows = await audience.fetch(
        "SELECT target_id, (details ->> 'count')::int, (details ->> 'changed')::int, "
        "jsonb_array_length(details -> 'entries') FROM audit_log WHERE action = 'suppression.add_many'"
    )
    assert rows == [("301 entries", 301, 300, 100)]
    assert "example.org" not in str(await audience.fetch("SELECT details FROM audit_log")), "kept by hashes only"


async def test_the_loop_is_left_to_others_while_many_are_read(audience: Audience) -> None:
    count = 0
    seen: set[int] = set()

    class Counting(PlainEmail):
        def normalise(self, address: str, *, field: str = "address", region: str = "") -> str:
            nonlocal count
            count += 1
            return super().normalise(address, field=field, region=region)

    async def others() -> None:
        while True:
            seen.add(count)
            await asyncio.sleep(0)

    given = [Entry("email", f"p{n}@example.org", "all", "manual") for n in range(1_000)]
    beside = asyncio.create_task(others())
    async with audience.app() as uow:
        await suppressions.suppress_many(uow, {"email": Counting()}, ACTOR, given, source="test")
    beside.cancel()
    assert len(seen & set(range(1, 1_000))) >= 5


async def test_of_many_one_mistake_refuses_all_and_each_is_named_by_its_place(audience: Audience) -> None:
    good = Entry("email", "fine@example.org", "all", "manual")
    bad = [
        Entry("email", "nobody", "all", "manual"),
        Entry("pigeon", "p@example.org", "all", "manual"),
        Entry("email", "long@example.org", "all", "manual", "x" * 501),
    ]
    with pytest.raises(RefusedMany) as refused:
        await add_many(audience, good, *bad)
    assert [each.field for each in refused.value.errors] == [
        "/entries/1/address", "/entries/2/channel", "/entries/3/note",
    ]  # fmt: skip
    assert await look(audience, "fine@example.org") == []
    for wrong in ([], [good] * 5_001):
        with pytest.raises(Refused, match="give 1 to 5,000 at once"):
            await add_many(audience, *wrong)


@pytest.mark.parametrize("reason", ["complaint", "unsubscribe", "stop"])
async def test_a_recipients_word_is_taken_away_only_with_force_and_a_reason(audience: Audience, reason: Reason) -> None:
    await add(audience, "a@example.org", "bulk", reason)
    for given in ({}, {"force": True}, {"reason": "they called"}):
        with pytest.raises(Refused) as refused:
            await remove(audience, "a@example.org", **given)
        assert (refused.value.code, refused.value.http_status) == ("recipient_asked", 409)
    await remove(audience, "A@example.org", reason="they called", force=True)
    assert await look(audience, "a@example.org") == []
    rows = await audience.fetch(
        "SELECT action, reason, details ->> 'was_reason' FROM audit_log ORDER BY seq DESC LIMIT 1"
    )
    assert rows == [("suppression.remove", "they called", reason)]


async def test_our_own_entry_is_taken_away_and_what_is_not_there_is_not_found(audience: Audience) -> None:
    await add(audience, "a@example.org", "all", "manual")
    await remove(audience, "a@example.org")
    with pytest.raises(Refused) as refused:
        await remove(audience, "a@example.org")
    assert refused.value.http_status == 404


async def test_an_entry_of_one_tenant_says_nothing_about_another(audience: Audience) -> None:
    await add(audience, "a@example.org", "all", "manual")
    async with audience.app(await audience.other_tenant()) as uow:
        assert await suppressions.lookup(uow, audience.channels, "email", "a@example.org") == []
        assert await suppressions.listed(uow, limit=10) == []


async def test_an_entry_of_the_installation_shows_to_every_tenant_and_none_can_remove_it(audience: Audience) -> None:
    async with audience.db.uow(Role.ENGINE) as uow:
        await suppressions.suppress(uow, audience.channels, ACTOR, "email", "a@example.org", source="admin")
        assert [entry.address for entry in await suppressions.listed(uow, limit=10)] == ["a@example.org"]
    (entry,) = await look(audience, "a@example.org")
    assert entry.is_installation
    with pytest.raises(Refused) as refused:
        await remove(audience, "a@example.org")
    assert refused.value.http_status == 404
    assert await audience.fetch("SELECT tenant_id FROM audit_log") == [(NIL,)]
    with pytest.raises(Broken):
        async with audience.db.uow(Role.APP) as uow:
            await suppressions.suppress(uow, audience.channels, ACTOR, "email", "b@example.org", source="x")


async def test_the_list_is_paged_by_key_and_filtered(audience: Audience) -> None:
    for number in range(5):
        await add(audience, f"p{number}@example.org", "all", "manual" if number % 2 else "complaint")
    found: list[SuppressionView] = []
    async with audience.app() as uow:
        while True:
            last = (found[-1].channel, found[-1].address_hash) if found else None
            batch = await suppressions.listed(uow, limit=2, after=last)
            found += batch
            if len(batch) < 2:
                break
        complaints = await suppressions.listed(uow, limit=10, reason="complaint")
    assert sorted(entry.address or "" for entry in found) == [f"p{number}@example.org" for number in range(5)]
    assert len(complaints) == 3


async def test_workers_are_told_at_the_commit_and_not_of_what_changed_nothing(audience: Audience) -> None:
    heard: list[str] = []
    listener = await asyncpg.connect(audience.db.url)
    try:
        await listener.add_listener("outrider_suppression", lambda *told: heard.append(told[3]))
        await add(audience, "a@example.org", "all", "manual")
        await add(audience, "a@example.org", "all", "manual")
        async with audience.app() as uow:
            await uow.raw.execute("SELECT pg_notify('outrider_suppression', 'end')")
        async with asyncio.timeout(90):
            while "end" not in heard:
                await listener.fetchval("SELECT 1")
    finally:
        await listener.close()
    assert heard == [str(audience.tenant), "end"]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"address": "no address"}, "/address"),
        ({"channel": "fax"}, "/channel"),
        ({"note": "x" * 501}, "/note"),
        ({"note": "a\0b"}, "/note"),
    ],
)
async def test_what_cannot_be_an_entry_is_refused_by_its_field(
    audience: Audience, values: dict[str, str], field: str
) -> None:
    with pytest.raises(Refused) as refused:
        async with audience.app() as uow:
            await suppressions.suppress(
                uow,
                audience.channels,
                ACTOR,
                values.get("channel", "email"),
                values.get("address", "a@example.org"),
                source="test",
                note=values.get("note", ""),
            )
    assert refused.value.field == field
