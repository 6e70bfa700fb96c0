"""What runs beside the dispatch: lease renewal in its own thread, promotion, the health endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import aiohttp
import asyncpg
import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from outrider.base.clock import boottime_s
from outrider.base.errors import Misconfigured
from outrider.data.db import Database
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch.batch import LEASE_OVER, Batch
from outrider.engine.dispatch.lease import Renewer
from outrider.engine.health import HealthServer
from outrider.engine.inbound import reports
from tests.kit.dispatch import Desk, Post, until


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


async def leased(desk: Desk, count: int = 3, *, lease_s: float = 30.0) -> Batch:
    await desk.admit(count)
    claim = await desk.claim(lease_s=lease_s)
    assert claim.batch is not None
    return claim.batch


# renewal


async def renew(desk: Desk, batch: Batch, *, lease_s: float = 30.0) -> None:
    """One renewal on a connection of its own."""
    connection = await desk.post.engine.connect()
    try:
        await Renewer(desk.post.engine, {batch.token: batch}, lease_s=lease_s)._renew(connection, batch)
    finally:
        await connection.close()


async def test_a_renewed_lease_is_longer_in_the_database_and_in_memory(desk: Desk) -> None:
    batch = await leased(desk)
    batch.lease_until_s = boottime_s() + 5
    before_s = boottime_s()
    await renew(desk, batch, lease_s=300.0)
    assert before_s + 300 <= batch.lease_until_s <= boottime_s() + 300
    assert await desk.post.value(
        "SELECT min(lease_until) > now() + interval '250 seconds' FROM queue WHERE tenant_id = $1", desk.tenant_id
    )
    assert batch.withdrawn == {}


async def test_what_was_swept_is_withdrawn_before_the_rest_gets_its_longer_lease(desk: Desk) -> None:
    batch = await leased(desk)
    swept, settled, ours = batch.messages
    await desk.post.execute("UPDATE queue SET state = 0, token = NULL WHERE message_id = ANY($1)", [swept, settled])
    batch.unsettled.discard(settled)
    await renew(desk, batch)
    assert batch.withdrawn == {swept: LEASE_OVER}
    row = await desk.queued(ours)
    assert row is not None
    assert (row["state"], row["token"]) == (1, batch.token)


async def test_what_a_transaction_holds_keeps_no_other_from_its_longer_lease(desk: Desk) -> None:
    batch = await leased(desk, lease_s=300.0)
    recorded, held, ours = batch.messages
    batch.unsettled.discard(recorded)
    async with asyncio.timeout(60), desk.post.engine.transaction() as raw:
        # as our recorder does, whose transaction is open for as long as the event loop stands still
        await raw.execute("SELECT FROM queue WHERE message_id = ANY($1) FOR UPDATE", [recorded, held])
        await renew(desk, batch, lease_s=900.0)
    assert batch.withdrawn == {held: LEASE_OVER}, "whoever holds it may take it over"
    assert batch.lease_until_s > boottime_s() + 800
    longer = "SELECT lease_until > now() + interval '800 seconds' FROM queue WHERE message_id = $1"
    assert [await desk.post.value(longer, each) for each in (recorded, held, ours)] == [False, False, True]


async def test_a_batch_that_lost_everything_gets_no_longer_lease(desk: Desk) -> None:
    batch = await leased(desk)
    await desk.post.execute("UPDATE queue SET token = token + 1 WHERE tenant_id = $1", desk.tenant_id)
    until_s = batch.lease_until_s
    await renew(desk, batch)
    assert batch.lease_until_s == until_s
    assert set(batch.withdrawn) == set(batch.messages)


async def test_only_what_is_open_and_a_third_old_is_renewed(desk: Desk) -> None:
    batch = await leased(desk)
    renewer = Renewer(desk.post.engine, {batch.token: batch}, lease_s=30.0)
    now_s = boottime_s()
    batch.lease_until_s = now_s + 25
    assert renewer._old() == []
    batch.lease_until_s = now_s + 15
    assert renewer._old() == [batch]
    batch.unrecorded = 0
    assert renewer._old() == []


async def test_the_thread_renews_while_the_event_loop_is_busy_and_survives_a_lost_connection(desk: Desk) -> None:
    batch = await leased(desk, lease_s=1.2)
    connections: list[asyncpg.Connection] = []

    class Cut:
        """The first connection cannot be had, the second dies before its first statement."""

        async def connect(self) -> asyncpg.Connection:
            if not connections:
                connections.append(None)
                raise OSError
            made = await desk.post.engine.connect()
            connections.append(made)
            if len(connections) == 2:
                made.terminate()
            return made

    renewer = Renewer(cast("Database", Cut()), {batch.token: batch}, lease_s=1.2)
    until_s = batch.lease_until_s
    renewer.start()
    try:
        while batch.lease_until_s == until_s and boottime_s() < until_s + 20:
            pass  # this thread never gives the event loop a chance
        assert batch.lease_until_s > until_s
        assert len(connections) >= 3
    finally:
        renewer.stop()
    assert not renewer._thread.is_alive()


# promotion


async def test_what_has_become_due_is_ready_and_the_rest_waits(desk: Desk) -> None:
    due = await desk.admit(3, due_at=datetime.now(UTC) + timedelta(hours=1))
    later = await desk.admit(2, due_at=datetime.now(UTC) + timedelta(hours=2))
    await desk.post.execute(
        "UPDATE queue SET due_at = now() - interval '1 second', reason = 'x',"
        " state = CASE WHEN message_id = $2 THEN 5 ELSE 4 END WHERE message_id = ANY($1)",
        due, due[0],
    )  # fmt: skip
    async with desk.post.engine.transaction() as raw:
        tenants = {row["id"] for row in await SQL.tenants_with_due.many(raw)}
        assert desk.tenant_id in tenants
        assert await SQL.promote.run(raw, desk.tenant_id, 2) == 2
        assert await SQL.promote.run(raw, desk.tenant_id, 2) == 1
        assert await SQL.promote.run(raw, desk.tenant_id, 2) == 0
        assert desk.tenant_id not in {row["id"] for row in await SQL.tenants_with_due.many(raw)}
    assert await desk.states([*due, *later]) == ["queued"] * 3 + ["scheduled"] * 2
    row = await desk.queued(due[0])
    assert row is not None
    assert row["reason"] is None


async def test_a_scheduled_message_is_sent_when_its_time_comes(post: Post, desk: Desk) -> None:
    (message_id,) = await desk.admit(due_at=datetime.now(UTC) + timedelta(hours=1))
    async with post.working():
        await post.execute("UPDATE queue SET due_at = now() WHERE message_id = $1", message_id)
        await desk.until([message_id], "sent")


# the health endpoint


class Watched:
    """A health server with a report of the test's choosing."""

    def __init__(self) -> None:
        self.report: dict[str, Any] = {"is_ok": True, "status": "running"}
        self.registry = CollectorRegistry()
        Gauge("outrider_in_flight", "Messages", ["app"], registry=self.registry).labels("outrider").set(7)
        self.server = HealthServer(lambda: self.report, self.registry)
        self.url = ""


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    made = Watched()
    made.url = await made.server.start("127.0.0.1", 0)
    yield made
    await made.server.stop()


async def get(watched: Watched, path: str, method: str = "GET") -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.request(method, watched.url + path) as response:
        assert response.headers["Connection"] == "close"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        return response.status, await response.text()


async def test_health_and_readiness_say_what_the_worker_says_and_life_is_life(watched: Watched) -> None:
    for path in ("/health", "/readyz", "/health?verbose=1"):
        assert await get(watched, path) == (200, '{"is_ok":true,"status":"running"}')
    watched.report = {"is_ok": False, "status": "late", "late_loops": ["promotion"]}
    for path in ("/health", "/readyz"):
        assert (await get(watched, path))[0] == 503
    assert await get(watched, "/livez") == (200, '{"status":"alive"}')


async def test_metrics_are_readable_by_prometheus(watched: Watched) -> None:
    status, text = await get(watched, "/metrics")
    assert status == 200
    (family,) = text_string_to_metric_families(text)
    assert [(sample.labels, sample.value) for sample in family.samples] == [({"app": "outrider"}, 7.0)]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/health", 405), ("DELETE", "/", 405), ("GET", "/x", 404)]
)
async def test_everything_else_is_refused(watched: Watched, method: str, path: str, status: int) -> None:
    assert (await get(watched, path, method))[0] == status


async def test_head_has_no_body(watched: Watched) -> None:
    assert await get(watched, "/health", "HEAD") == (200, "")


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET /health\r\n\r\n", b"HTTP/1.1 400"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET /health HTTP/1.1\r\nHost: " + b"x" * 9000 + b"\r\n\r\n", b"HTTP/1.1 200"),
        (b"GET /health HTTP/1.1\r\n" + b"x" * 200_000, b""),
        (b"GET /he", b""),
    ],
)
async def test_nonsense_is_answered_or_cut_and_the_next_caller_is_served(
    watched: Watched, sent: bytes, answer: bytes
) -> None:
    host, _, port = watched.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    writer.write_eof()
    async with asyncio.timeout(90):
        try:
            received = await reader.read()
        except ConnectionResetError:
            received = b""
    writer.close()
    assert received.startswith(answer)
    assert (await get(watched, "/livez"))[0] == 200


async def test_a_taken_port_is_passed_over_and_the_chosen_one_is_told(watched: Watched) -> None:
    port = int(watched.url.rpartition(":")[2])
    second = HealthServer(lambda: watched.report, watched.registry)
    url = await second.start("127.0.0.1", port)
    try:
        assert int(url.rpartition(":")[2]) > port
    finally:
        await second.stop()


async def test_an_address_that_is_not_ours_is_the_operators_to_mend(watched: Watched) -> None:
    with pytest.raises(Misconfigured, match=r"cannot listen on 192\.0\.2\.1"):
        await HealthServer(lambda: watched.report, watched.registry).start("192.0.2.1", 3002)


async def test_a_worker_serves_its_own_health(post: Post) -> None:
    async with post.working(reports.loops(post.runtime)) as worker:
        server = HealthServer(worker.report, worker.registry)
        url = await server.start("127.0.0.1", 0)
        try:

            async def is_well() -> bool:
                async with aiohttp.ClientSession() as session, session.get(f"{url}/health") as response:
                    body = await response.json()
                    return response.status == 200 and {"switches", "recovery", "promotion"} <= set(body["loops"])

            await until(is_well)
            async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
                names = {family.name for family in text_string_to_metric_families(await response.text())}
        finally:
            await server.stop()
    assert {"outrider_in_flight", "outrider_outcomes", "outrider_loop_heartbeat_age_seconds"} <= names
    assert "outrider_callback_apply_seconds" in names, "what a loop shows is shown by its process"
