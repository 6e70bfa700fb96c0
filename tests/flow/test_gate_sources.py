"""The limit per source on a real database: noted at admission, judged alike by any number of claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from outrider.contracts.gate import Lane
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from outrider.domain.messages.lanes import lane_for
from outrider.engine.maintenance.upkeep import Upkeep
from outrider.plugins.gates.source_limit import GATE
from tests.kit.dispatch import Desk, Post
from tests.kit.texting import texting


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


async def limit(desk: Desk, **settings: int) -> None:
    for name, value in settings.items():
        await desk.post.execute(
            "UPDATE tenants SET settings = settings || jsonb_build_object($2::text, $3::int) WHERE id = $1",
            desk.tenant_id, name, value,
        )  # fmt: skip


async def ask(desk: Desk, numbers: Sequence[str], source: str) -> list[UUID]:
    """Accept a text to each number, one transaction each, as single calls come."""
    key = LaneKey("sms", desk.sender_id, "transactional", "transactional", 5)
    ids = []
    for number in numbers:
        async with desk.engine() as uow:
            ids += await admit(uow, desk.tenant_id, key, [NewMessage(number, desk.content_id, source=source)])
    return ids


async def lane_of(desk: Desk) -> Lane:
    async with desk.engine() as uow:
        lane_id = await lane_for(
            uow, tenant_id=desk.tenant_id, channel="sms", sender_id=desk.sender_id, campaign_id=None,
            message_class="transactional",
        )  # fmt: skip
    return Lane(desk.tenant_id, lane_id, "sms", desk.sender_id, None, "transactional")


async def stopped(desk: Desk, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Claim everything in small batches; gives what was blocked, and why."""
    lane = await lane_of(desk)
    for _ in range(len(ids)):
        await desk.claim(3, lane=lane, gates=(GATE,))
    rows = await desk.post.fetch(
        "SELECT id, detail FROM messages WHERE tenant_id = $1 AND state = 'blocked' AND code = 'source_limit'",
        desk.tenant_id,
    )
    return {row["id"]: row["detail"] for row in rows}


async def test_one_source_gets_so_many_texts_to_a_country_and_others_go_on(desk: Desk) -> None:
    await limit(desk, sms_source_most=3)
    many = await ask(desk, [f"+614123450{n:02}" for n in range(6)], "203.0.113.7")
    elsewhere = await ask(desk, ["+4915112345601"], "203.0.113.7")
    other = await ask(desk, ["+61412345678"], "198.51.100.9")
    found = await stopped(desk, [*many, *elsewhere, *other])
    assert found == dict.fromkeys(many[3:], "more than 3 texts to AU in 60 min by 203.0.113.7")


async def test_a_range_of_numbers_gets_so_many_texts_whoever_asks(desk: Desk) -> None:
    await limit(desk, sms_range_most=2, sms_source_window_min=10)
    ids = [each for n in range(4) for each in await ask(desk, [f"+61412345{n:03}"], f"192.0.2.{n}")]
    ids += await ask(desk, ["+61412346000"], "192.0.2.9")
    assert await stopped(desk, ids) == dict.fromkeys(ids[2:4], "more than 2 texts to +61412345… in 10 min")


async def test_whoever_goes_on_asking_is_counted_no_further_than_it_takes_to_stop_them(desk: Desk) -> None:
    await limit(desk, sms_source_most=2, sms_range_most=4)
    ids = await ask(desk, [f"+61412345{n:03}" for n in range(9)], "203.0.113.7")
    assert GATE.facts is not None
    nothing = [None] * len(ids)
    rows = await desk.post.fetch(
        GATE.facts, desk.tenant_id, ids, nothing, [""] * len(ids), "sms", "transactional", [""] * len(ids)
    )
    counted = {row["message_id"]: (row["of_source"], row["of_range"]) for row in rows}
    assert [counted[each] for each in ids] == [(1, 1), (2, 2), (3, 3), (3, 4), *[(3, 5)] * 5]


async def test_what_was_asked_for_before_the_time_does_not_count(desk: Desk) -> None:
    await limit(desk, sms_source_most=2)
    before = await ask(desk, ["+61412345001", "+61412345002"], "a")
    await desk.post.execute(
        "UPDATE message_sources SET at = at - interval '2 hours' WHERE tenant_id = $1", desk.tenant_id
    )
    assert await stopped(desk, [*before, *await ask(desk, ["+61412345003"], "a")]) == {}


async def test_without_a_limit_nothing_is_noted_and_old_notes_are_dropped(desk: Desk) -> None:
    noted = "SELECT count(*) FROM message_sources WHERE tenant_id = $1"
    await ask(desk, ["+61412345001"], "a")
    assert await desk.post.value(noted, desk.tenant_id) == 0
    await limit(desk, sms_range_most=5)
    await ask(desk, ["+61412345001"], "a")
    await ask(desk, ["+61412345002"], "")
    assert await desk.post.value(noted, desk.tenant_id) == 1, "nobody is counted who is not named"
    await desk.post.execute("UPDATE message_sources SET at = at - interval '3 days'")
    await Upkeep(desk.post.runtime).retention()
    assert await desk.post.value(noted, desk.tenant_id) == 0


async def test_a_call_says_who_asked_or_counts_itself(
    new_database: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with texting(new_database("migrated"), tmp_path, monkeypatch) as office:
        limited = (
            "UPDATE tenants SET settings = settings || '{\"sms_source_most\": 5}'::jsonb WHERE id = $1 RETURNING id"
        )
        assert await office.rows(limited)
        body = {"channel": "sms", "sender": office.sender["id"], "text": "code 1"}
        for more in ({"to": "+14155552671", "source": "203.0.113.7"}, {"to": "+14155552672"}):
            answer = await office.owner.post("/api/v1/messages", body | more)
            assert answer.status == 202, answer.text
        for wrong in ("a\x00b", "a\nb", "", "x" * 201):
            assert (
                await office.owner.post("/api/v1/messages", body | {"to": "+14155552671", "source": wrong})
            ).status == 422
        shared = {"source": "198.51.100.9", "messages": [{"to": "+14155552673"}, {"to": "+14155552674", "source": "b"}]}
        assert (await office.owner.post("/api/v1/messages", body | shared)).status == 202
        rows = await office.rows(
            "SELECT source, country, range FROM message_sources WHERE tenant_id = $1 ORDER BY message_id"
        )
    assert [row["source"] for row in rows][:1] == ["203.0.113.7"]
    assert [row["source"] for row in rows][1].startswith("user ")
    assert [row["source"] for row in rows][2:] == ["198.51.100.9", "b"]
    assert {(row["country"], row["range"]) for row in rows} == {("US", "+14155552")}
