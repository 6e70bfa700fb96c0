"""The feed of events: whatever commits late or moves to another cluster, a reader that goes on misses nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from uuid import UUID

import asyncpg
import pytest

from outrider.base.errors import Unavailable
from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Database, Role
from outrider.domain.campaigns import told
from outrider.domain.messages import events, feed
from tests.kit.api import Api, api_of
from tests.kit.postgres import run_sql, shared_server

OTHER = UUID("00000000-0000-7000-8000-0000000000bb")


def message(number: int) -> UUID:
    return UUID(int=(0x0198_0000_0000 << 80) | (7 << 76) | (2 << 62) | number)


class Office:
    """A database with a writer and a reader of events."""

    def __init__(self, db: Database, superuser_url: str) -> None:
        self.db = db
        self._superuser_url = superuser_url
        self.place = feed.START

    async def write(self, *numbers: int, tenant_id: UUID = DEFAULT_TENANT, kind: str = "sent") -> None:
        async with self.db.uow(Role.ENGINE, tenant_id) as uow:
            for number in numbers:
                await events.append(uow.raw, tenant_id, message(number), kind, {"n": number})

    async def tell(self, *numbers: int, tenant_id: UUID = DEFAULT_TENANT, kind: str = "campaign_paused") -> None:
        """As the role that campaigns are changed by."""
        async with self.db.uow(Role.APP, tenant_id) as uow:
            for number in numbers:
                await feed.tell_campaign(uow.raw, tenant_id, message(number), kind, {"n": number})

    async def read(self, limit: int = 100, kinds: tuple[str, ...] = (), tenant_id: UUID = DEFAULT_TENANT) -> list[int]:
        """The numbers on the next page; the place moves on."""
        async with self.db.uow(Role.ENGINE, tenant_id) as uow:
            page = await feed.read(uow.raw, tenant_id, self.place, limit=limit, kinds=kinds)
        self.place = page.place
        self.has_more = page.has_more
        return [event.data["n"] for event in page.events]

    async def as_superuser(self, statement: str) -> None:
        connection = await asyncpg.connect(self._superuser_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def moves(self, *, lowered_by: int = 10**9) -> None:
        """Look like a copy from a cluster that had counted far more transactions than this one."""
        await self.as_superuser(
            f"UPDATE message_events SET position = position + {lowered_by}; "
            f"UPDATE campaign_events SET position = position + {lowered_by}; "
            "UPDATE event_clocks SET system_identifier = system_identifier + 1"
        )


@pytest.fixture(scope="module", autouse=True)
def calm() -> Iterator[None]:
    """No autovacuum: its transactions are open somewhere in the cluster, and a feed waits for whatever is."""
    superuser = shared_server().superuser_url
    run_sql(superuser, "ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()")
    yield
    run_sql(superuser, "ALTER SYSTEM RESET autovacuum", "SELECT pg_reload_conf()")


@pytest.fixture
async def office(new_database: Callable[..., str]) -> AsyncIterator[Office]:
    url = new_database("migrated")
    name = url.rpartition("@/")[2].partition("?")[0]
    db = Database(url, pool_size=6)
    yield Office(db, shared_server().url_of(name, superuser=True))
    await db.close()


async def test_a_reader_gets_every_event_once_in_pages(office: Office) -> None:
    await office.write(*range(7))
    await office.write(7, 8, 9)
    pages = [await office.read(limit=4) for _ in range(4)]
    assert [number for page in pages for number in page] == list(range(10))
    assert [len(page) for page in pages] == [4, 4, 2, 0]
    await office.write(10)
    assert await office.read(limit=4) == [10]


async def test_an_event_that_commits_after_younger_ones_is_not_missed(office: Office) -> None:
    async with office.db.uow(Role.ENGINE, DEFAULT_TENANT) as slow:
        await events.append(slow.raw, DEFAULT_TENANT, message(1), "sent", {"n": 1})
        await office.write(2, 3)
        assert await office.read() == [], "nothing may be given while something older can still appear"
        await office.write(4)
    assert sorted(await office.read()) == [1, 2, 3, 4]
    assert await office.read() == []


async def test_a_reader_in_the_middle_of_a_slow_commit_goes_on_without_a_gap(office: Office) -> None:
    await office.write(1, 2)
    assert await office.read() == [1, 2]
    async with office.db.uow(Role.ENGINE, DEFAULT_TENANT) as slow:
        await office.write(3)
        assert await office.read() == [3], "a transaction that has written nothing holds nobody up"
        await events.append(slow.raw, DEFAULT_TENANT, message(4), "sent", {"n": 4})
        await office.write(5)
        assert await office.read() == []
    assert await office.read() == [4, 5]


async def test_what_is_taken_back_is_never_given_and_holds_nobody_up(office: Office) -> None:
    async with office.db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
        await events.append(uow.raw, DEFAULT_TENANT, message(1), "sent", {"n": 1})
        uow.undo_at_end()
    await office.write(2)
    assert await office.read() == [2]


async def test_what_happens_to_campaigns_stands_between_what_happens_to_messages(office: Office) -> None:
    await office.write(1)
    await office.tell(2)
    await office.write(3)
    await office.tell(4, 5)
    await office.write(6)
    assert await office.read(limit=2) == [1, 2]
    assert (await office.read(limit=2), office.has_more) == ([3, 4], True)
    assert await office.read(limit=2) == [5, 6]
    assert await office.read() == []


async def test_one_transaction_with_events_of_both_is_read_in_pages_of_one(office: Office) -> None:
    async with office.db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
        for number in (1, 2, 3):
            await feed.tell_campaign(uow.raw, DEFAULT_TENANT, message(number), "campaign_paused", {"n": number})
            await events.append(uow.raw, DEFAULT_TENANT, message(number), "sent", {"n": number})
    pages = [await office.read(limit=1) for _ in range(7)]
    assert pages == [[1], [1], [2], [2], [3], [3], []]


async def test_a_campaign_that_is_changed_slowly_is_not_missed(office: Office) -> None:
    async with office.db.uow(Role.APP, DEFAULT_TENANT) as slow:
        await feed.tell_campaign(slow.raw, DEFAULT_TENANT, message(1), "campaign_launched", {"n": 1})
        await office.write(2)
        await office.tell(3)
        assert await office.read() == []
    assert await office.read() == [1, 2, 3]


async def test_what_happens_to_campaigns_keeps_its_place_when_the_database_moves(office: Office) -> None:
    await office.write(1)
    await office.tell(2)
    assert await office.read() == [1, 2]
    await office.moves()
    await office.tell(3)  # before anybody has settled how this cluster counts: nobody is kept from pausing
    assert await feed.settle_clock(office.db)
    await office.tell(4)
    await office.write(5)
    found = await office.read()
    assert found[-2:] == [4, 5]
    await office.tell(6)
    assert await office.read() == [6]


async def test_a_tenant_reads_its_own_events_only(office: Office) -> None:
    await office.write(1)
    await office.write(2, tenant_id=OTHER)
    assert await office.read() == [1]
    office.place = feed.START
    assert await office.read(tenant_id=OTHER) == [2]


async def test_only_some_kinds_are_given_and_the_place_passes_the_others(office: Office) -> None:
    await office.write(1, 2, kind="deferred")
    await office.write(3, kind="sent")
    await office.write(4, kind="deferred")
    await office.write(5, 6, kind="sent")
    assert await office.read(limit=2, kinds=("sent",)) == [3, 5]
    more = [office.has_more]
    assert await office.read(limit=2, kinds=("sent",)) == [6]
    assert [*more, office.has_more] == [True, False]
    assert await office.read() == []


async def test_now_is_after_everything_decided(office: Office) -> None:
    await office.write(1)
    async with office.db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
        office.place = await feed.now(uow.raw)
    assert await office.read() == []
    await office.write(2)
    assert await office.read() == [2]


async def test_positions_go_on_growing_after_a_move_to_a_younger_cluster(office: Office) -> None:
    await office.write(1, 2)
    await office.moves()
    with pytest.raises(Unavailable):
        await office.read()
    assert await feed.settle_clock(office.db)
    assert not await feed.settle_clock(office.db), "once is enough"
    await office.write(3)
    office.place = feed.START
    assert await office.read() == [1, 2, 3]
    await office.write(4)
    assert await office.read() == [4]


async def test_a_place_from_before_a_move_goes_on_where_it_was(office: Office) -> None:
    await office.write(1)
    await office.write(2)
    assert await office.read(limit=1) == [1]
    before = office.place
    await office.moves(lowered_by=0)
    await office.as_superuser("UPDATE message_events SET position = position + 500")
    await feed.settle_clock(office.db)
    await office.write(3)
    office.place = feed.Place(before.cluster + 1, before.position + 500, before.message_id, before.at, before.kind)
    assert await office.read() == [2, 3]


async def test_a_place_beyond_what_was_copied_is_taken_back_to_the_copy(office: Office) -> None:
    await office.write(1)
    assert await office.read() == [1]
    seen = office.place
    await office.moves(lowered_by=0)
    await feed.settle_clock(office.db)
    await office.write(2)
    # what the reader had seen there beyond the copy is lost with that cluster; its place must not hide what is new
    office.place = feed.Place(seen.cluster + 1, seen.position + 10**12, seen.message_id, seen.at, seen.kind)
    assert await office.read() == [2]


async def test_a_place_of_a_cluster_nobody_knows_begins_anew(office: Office) -> None:
    await office.write(1, 2)
    office.place = feed.Place(42, 10**12)
    assert await office.read() == [1, 2]


# over HTTP


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated")) as running:
        yield running


async def test_the_feed_is_followed_over_http_and_polled_with_its_own_cursor(api: Api) -> None:
    reader = api.caller(await api.key("messages:read", role="viewer"))
    newest = (await reader.get("/api/v1/events?from=latest")).json
    assert (newest["items"], newest["has_more"]) == ([], False)
    async with api.engine() as uow:
        for number in (1, 2, 3):
            await events.append(uow.raw, DEFAULT_TENANT, message(number), "sent", {"n": number})
    seen, cursor = [], newest["next_cursor"]
    for _ in range(3):
        page = (await reader.get(f"/api/v1/events?limit=2&cursor={cursor}")).json
        seen += page["items"]
        cursor = page["next_cursor"]
    assert [event["data"]["n"] for event in seen] == [1, 2, 3]
    assert len({event["id"] for event in seen}) == 3
    again = (await reader.get("/api/v1/events?kind=sent&kind=bounced")).json["items"]
    assert [event["id"] for event in again] == [event["id"] for event in seen]
    assert (await reader.get("/api/v1/events?kind=bounced")).json["items"] == []


@pytest.mark.parametrize(
    "parts",
    [
        [1],
        [1, -2],
        [2**63, 1],
        [1, 1, str(OTHER), "2026-01-01T00:00:00", "sent"],
        [1, 1, str(OTHER), "2026-01-01T00:00:00Z", "se\0nt"],
        {"cluster": 1},
        "x",
    ],
)
async def test_a_cursor_that_is_not_of_the_feed_is_refused(api: Api, parts: object) -> None:
    reader = api.caller(await api.key("messages:read"))
    forged = base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")
    answer = await reader.get(f"/api/v1/events?cursor={forged}")
    assert (answer.status, answer.code) == (422, "invalid_cursor")


async def test_a_kind_that_there_is_not_is_refused_with_the_names_of_those_there_are(api: Api) -> None:
    reader = api.caller(await api.key("messages:read"))
    answer = await reader.get("/api/v1/events?kind=sent&kind=bounce")
    assert (answer.status, answer.code, answer.json["parameter"]) == (422, "unknown_kind", "kind")
    assert answer.json["detail"].startswith("bounce is none of ")
    for kind in (*events.KINDS, *told.KINDS):
        assert kind in answer.json["detail"]
        assert (await reader.get(f"/api/v1/events?kind={kind}")).status == 200, kind


@pytest.mark.parametrize("query", ["from=yesterday", "kind=Sent", "kind=", "kind=" + "a" * 41, "limit=0"])
async def test_odd_wishes_are_refused(api: Api, query: str) -> None:
    reader = api.caller(await api.key("messages:read"))
    assert (await reader.get(f"/api/v1/events?{query}")).status == 422
