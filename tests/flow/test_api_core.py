"""What holds for every answer of the API, and health, metrics and queue statistics."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from outrider.base.errors import Misconfigured
from outrider.base.ids import DEFAULT_TENANT
from outrider.domain.messages import workers
from outrider.domain.messages.stats import queue_stats
from outrider.domain.messages.workers import Process
from outrider.interfaces.api import protocol, server, snapshot
from outrider.interfaces.api.middleware import body_clock
from tests.kit.api import Api, Caller, api_of, raw, refill_nothing
from tests.kit.postgres import fresh_database
from tests.kit.processes import until

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated")) as running:
        await running.user("ann@example.org")
        yield running


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez", 200),
        ("GET", "/no/such/path", 404),
        ("GET", "/api/v1/auth/me", 401),
        ("DELETE", "/health", 405),
        ("POST", "/api/v1/auth/login", 415),
        ("OPTIONS", "/api/v1/auth/login", 204),
        ("GET", "/openapi.json", 200),
        ("GET", "/metrics", 200),
        ("GET", "/..%5cetc", 404),
    ],
)
async def test_every_answer_has_the_security_headers_a_request_id_and_no_banner(
    api: Api, method: str, path: str, status: int
) -> None:
    answer = await api.caller().ask(method, path)
    assert answer.status == status
    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; frame-ancestors 'none'")
    assert "Strict-Transport-Security" not in answer.headers
    assert len(answer.headers["X-Request-ID"]) == 32
    assert "Server" not in answer.headers
    if status >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json["request_id"] == answer.headers["X-Request-ID"]
        assert (answer.json["status"], answer.json["type"]) == (status, f"urn:outrider:problem:{answer.code}")


async def test_refusals_below_the_framework_have_the_same_form(api: Api) -> None:
    head, _, body = (await raw(api.url, b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n")).partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert {name: headers.get(name.lower()) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["request_id"] == headers["x-request-id"]


async def test_on_https_every_answer_asks_browsers_to_stay_there(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated"), public_url="https://mail.example.org") as secure:
        for path in ("/livez", "/none"):
            assert "max-age=31536000" in (await secure.caller().get(path)).headers["Strict-Transport-Security"]
        assert b"strict-transport-security" in await raw(secure.url, b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n")


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        ("client-id:1234.abc", True),
        ("short", False),
        ("x" * 129, False),
        ("with space here", False),
        ("<script>alert", False),
    ],
)
async def test_a_sane_request_id_is_taken_over_and_any_other_replaced(api: Api, given: str, is_taken: bool) -> None:  # noqa: FBT001 - a case
    answer = await api.caller(**{"X-Request-ID": given}).get("/livez")
    assert (answer.headers["X-Request-ID"] == given) is is_taken


async def test_a_bug_is_answered_without_a_trace_and_logged_with_one(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> Any:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("outrider.interfaces.api.v1.auth.tenants.get", broken)
    person = await api.signed_in("ann@example.org")
    with capture_logs() as lines:
        answer = await person.get("/api/v1/auth/me")
    assert (answer.status, answer.code) == (500, "internal_error")
    assert "secret" not in answer.text
    assert "Zero" not in answer.text
    (line,) = [line for line in lines if line["event"] == "request_broken"]
    assert isinstance(line["exc_info"], ZeroDivisionError)
    assert line["request_id"] == answer.json["request_id"]


async def test_an_error_outside_the_framework_is_answered_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("outrider.interfaces.api.middleware.door.refuse_odd", broken)
    answer = await api.caller().get("/livez")
    assert (answer.status, answer.code) == (500, "internal_error")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_request_leaves_one_log_line_without_credentials_query_or_token_paths(api: Api) -> None:
    key = await api.key("switches:read")
    with capture_logs() as lines:
        await api.caller(key).get("/api/v1/switches?api_key=sk_live_secret&x=%0a")
        await api.caller().get("/u/" + "T" * 64 + "%1b[31m")
    text = str(lines)
    assert [line["event"] for line in lines] == ["request", "request"]
    assert [(line["route"], line["status"], line["ip"]) for line in lines] == [
        ("/api/v1/switches", 422, "127.0.0.1"),
        ("unmatched", 404, "127.0.0.1"),
    ]
    assert lines[0]["who"] == "test"
    for secret in (key, "sk_live_secret", "TTTTTTTT", "\x1b"):
        assert secret not in text


async def test_forwarded_addresses_are_believed_from_trusted_proxies_only(new_database: Callable[..., str]) -> None:
    forwarded = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}
    for trusted, address, metrics in (([], "127.0.0.1", 200), (["127.0.0.0/8"], "198.51.100.7", 401)):
        async with api_of(new_database("migrated"), trusted_proxies=trusted) as proxied:
            with capture_logs() as lines:
                assert (await proxied.caller(**forwarded).get("/metrics")).status == metrics
            assert lines[-1]["ip"] == address


async def test_a_key_that_asks_too_often_is_slowed_down_and_others_are_not(
    new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refill_nothing(monkeypatch)
    async with api_of(new_database("migrated"), api_rate_per_s=5) as slow:
        noisy = slow.caller(await slow.key("switches:read"))
        quiet = slow.caller(await slow.key("switches:read"))
        answers = await asyncio.gather(*(noisy.get("/api/v1/switches") for _ in range(40)))
        refused = [answer for answer in answers if answer.status == 429]
        assert len(refused) == 30
        assert refused[0].code == "rate_limited"
        assert int(refused[0].headers["Retry-After"]) >= 1
        assert refused[0].headers["RateLimit-Policy"] == '"default";q=10;w=2'
        assert refused[0].headers["RateLimit"].startswith('"default";r=0;')
        answer = await quiet.get("/api/v1/switches")
        assert (answer.status, answer.headers["RateLimit"]) == (200, '"default";r=9;t=1')


async def test_guessing_keys_is_slowed_down_by_address(
    new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refill_nothing(monkeypatch)
    async with api_of(new_database("migrated"), api_rate_per_s=5) as slow:
        guesses = (slow.caller("or_live_" + f"{number:043d}").get("/api/v1/auth/me") for number in range(40))
        statuses = [answer.status for answer in await asyncio.gather(*guesses)]
        assert Counter(statuses) == {401: 10, 429: 30}
        assert (await slow.caller().get("/health")).status == 200


async def test_a_stalled_body_is_cut_off_and_the_rest_keeps_being_served(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_clock, "STALL_S", 0.3)
    head = (
        b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n"
    )
    stalled = asyncio.create_task(raw(api.url, head + b'{"a":'))
    assert (await api.caller().get("/livez")).status == 200
    answer = await asyncio.wait_for(stalled, 90)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer


async def test_a_trickling_body_is_cut_off_although_it_never_stalls(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_clock, "START_S", 0.3)
    head = (
        b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
    )
    answer = await raw(api.url, head, *[b" "] * 100, pause_s=0.02)
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_grows_beyond_its_limit_is_cut_off(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated"), max_body_bytes=5000) as small:
        head = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"7d0\r\n" + b" " * 2000 + b"\r\n"
        answer = await raw(small.url, chunked, b"7d0\r\n" + b" " * 2000 + b"\r\n", b"7d0\r\n" + b" " * 2000 + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 413 ")
        announced = await raw(small.url, head + b"Content-Length: 5001\r\n\r\n")
        assert announced.startswith(b"HTTP/1.1 413 ")
        at_the_limit = await raw(small.url, head + b"Connection: close\r\nContent-Length: 5000\r\n\r\n" + b" " * 5000)
        assert at_the_limit.startswith(b"HTTP/1.1 400 ")


async def test_a_slow_head_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_WITHIN_S", 2.0)
    whole = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    first, silent, second = await asyncio.gather(
        raw(api.url, b"GET /livez HTTP/1.1\r\nHo"),
        raw(api.url, b""),
        raw(api.url, whole, b"GET /livez HTT", pause_s=0.1),
    )
    assert first.startswith(b"HTTP/1.1 408 ")
    assert silent == b""
    assert second.count(b"HTTP/1.1 200 ") == 1
    assert b"HTTP/1.1 408 " in second


async def test_health_is_degraded_without_workers_and_ok_with_one(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated")) as own:
        before = (await own.caller().get("/health")).json
        assert (before["status"], before["workers"]) == ("degraded", {"alive": 0, "silent": 0})
        await beat(own)
    async with api_of(own.runtime.database_url) as own:
        for path in ("/health", "/api/health", "/api/v1/health"):
            answer = await own.caller().get(path)
            assert (answer.status, answer.json["status"], answer.json["migrations"]) == (200, "ok", "current")
            assert "version" not in answer.json
        assert (await own.caller().ask("HEAD", "/health")).status == 200
        await own.user("ann@example.org")
        assert (await (await own.signed_in("ann@example.org")).get("/health")).json["version"]
        assert "version" not in (await own.caller("or_live_wrong").get("/health")).json


async def test_without_its_database_health_is_down_and_the_process_alive() -> None:
    url = fresh_database("migrated")
    async with api_of(url) as lonely:
        assert (await lonely.caller().get("/readyz")).status == 200
        lonely.runtime.db.url = url.replace("@/", "@/gone_")
        await lonely.runtime.db.engine.dispose()
        async with asyncio.timeout(90):
            while (await lonely.caller().get("/health")).status != 503:  # noqa: ASYNC110 - the server's own clock decides
                await asyncio.sleep(0.05)
        answer = await lonely.caller().get("/api/health")
        assert (answer.json["status"], answer.json["database"]["status"]) == ("down", "down")
        assert (await lonely.caller().get("/readyz")).status == 503
        assert (await lonely.caller().get("/livez")).status == 200
        assert (await lonely.caller().get("/api/v1/queue/stats")).status == 503
        body = {"email": "ann@example.org", "password": "x" * 9}
        login = await lonely.caller().post("/api/v1/auth/login", body)
        assert login.status == 503
        figures = (await lonely.caller().get("/metrics")).text
        assert 'outrider_database_up{app="outrider"} 0.0' in figures


async def test_a_database_of_another_schema_is_not_ready(api: Api) -> None:
    assert (await api.caller().get("/readyz")).status == 200
    connection = await asyncpg.connect(api.runtime.database_url)
    try:
        head = await connection.fetchval("SELECT version_num FROM alembic_version")
        await connection.execute("UPDATE alembic_version SET version_num = $1", "9999")
        async with api_of(api.runtime.database_url) as other:
            assert (await other.caller().get("/readyz")).status == 503
            assert (await other.caller().get("/health")).json["migrations"] == "newer"
    finally:
        await connection.execute("UPDATE alembic_version SET version_num = $1", head)
        await connection.close()


async def test_the_emergency_file_shows_in_health(new_database: Callable[..., str], tmp_path: Path) -> None:
    async with api_of(new_database("migrated"), emergency_file=tmp_path / "STOP") as own:
        assert (await own.caller().get("/health")).json["emergency_file"] is False
        (tmp_path / "STOP").touch()
        assert (await own.caller().get("/health")).json["emergency_file"] is True


async def test_metrics_carry_the_runbooks_names_and_the_label_app(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated"), app_label="email-dashboard") as own:
        await beat(own)
        await queue(own, ready=3, held=1)
        await own.caller().get("/api/v1/auth/me")
        answer = await own.caller().get("/api/v1/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    ours = [family for name, family in families.items() if not name.startswith("process_")]
    assert all(s.labels["app"] == "email-dashboard" for family in ours for s in family.samples)
    values = {(s.name, *sorted(s.labels.items())[1:]): s.value for family in ours for s in family.samples}
    assert values["queue_size", ("queue", "email")] == 4
    assert values["outrider_queue_depth", ("channel", "email"), ("state", "queued")] == 3
    assert values["outrider_queue_depth", ("channel", "email"), ("state", "held")] == 1
    assert values["outrider_queue_oldest_age_seconds", ("channel", "email"), ("state", "queued")] >= 60
    assert values["email_dashboard_db_pool_size",] == own.runtime.db.pool_size
    assert 0 < values["email_dashboard_db_pool_available",] <= own.runtime.db.pool_size
    me = (("method", "GET"), ("route", "/api/v1/auth/me"))
    assert values["http_requests_total", *me, ("status", "401")] == 1
    assert values["http_request_errors_total", ("status", "401")] == 1
    assert values["http_request_duration_seconds_count", *me] == 1
    names = set(families)
    assert {"outrider_worker_heartbeat_age_seconds", "outrider_loop_heartbeat_age_seconds"} <= names
    assert {"db_connection_pool", "process_resident_memory_bytes"} <= names


async def test_metrics_count_the_messages_that_reached_each_state(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated")) as own:
        async with own.engine() as uow:
            lane = await uow.raw.fetchval(
                "INSERT INTO lanes (tenant_id, channel, sender_id, message_class) "
                "VALUES ($1, 'email', $1, 'bulk') RETURNING id",
                DEFAULT_TENANT,
            )
            for table, age, state, count in (
                ("rollups", "9 days", "sent", 100), ("rollups", "2 hours", "sent", 20),
                ("rollups", "0 hours", "sent", 3),
                ("rollup_deltas", "0 hours", "sent", 4), ("rollup_deltas", "0 hours", "uncertain", -1),
                ("rollups", "9 days", "uncertain", 2),
            ):  # fmt: skip
                await uow.raw.execute(
                    f"INSERT INTO {table} (tenant_id, lane_id, hour, state, n) "
                    f"VALUES ($1, $2, date_trunc('hour', now() - interval '{age}'), $3, $4)",
                    DEFAULT_TENANT, lane, state, count,
                )  # fmt: skip
        text = (await own.caller().get("/metrics")).text
    assert 'outrider_messages{app="outrider",channel="email",state="sent"} 127.0' in text
    assert 'outrider_messages{app="outrider",channel="email",state="uncertain"} 1.0' in text


async def test_paths_people_make_up_do_not_become_labels(api: Api) -> None:
    for number in range(5):
        await api.caller().get(f"/made/up/{number}")
        await api.caller().ask("PROPFIND", f"/made/up/{number}")
    assert "/made" not in (await api.caller().get("/metrics")).text


async def test_scraping_reads_the_database_once_a_second_however_many_scrape(
    new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = 0
    stats = queue_stats

    async def counted(connection: Any) -> Any:
        nonlocal readings
        readings += 1
        return await stats(connection)

    monkeypatch.setattr(snapshot, "queue_stats", counted)
    monkeypatch.setattr(snapshot, "_KEPT_S", 60.0)
    async with api_of(new_database("migrated")) as own:
        paths = ["/metrics", "/api/v1/queue/stats", "/health", "/readyz"] * 5
        assert {(await one).status for one in [own.caller().get(path) for path in paths]} == {200}
        await asyncio.gather(*(own.caller().get(path) for path in paths))
    assert readings == 1


async def test_queue_statistics_count_by_channel_and_state(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated")) as own:
        await queue(own, ready=3, held=1)
        stats = (await own.caller().get("/api/v1/queue/stats")).json
    assert (stats["total"], stats["totals"]) == (4, {"held": 1, "queued": 3})
    assert {(row["channel"], row["state"], row["depth"]) for row in stats["queues"]} == {
        ("email", "queued", 3),
        ("email", "held", 1),
    }


async def test_figures_from_other_networks_need_a_key_with_the_scope(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated"), metrics_networks=["192.0.2.0/24"]) as closed:
        for path, scope in (("/metrics", "metrics:read"), ("/api/v1/queue/stats", "queue:read")):
            right, wrong = await closed.key(scope), await closed.key("messages:read")
            asked = [await caller.get(path) for caller in (closed.caller(), closed.caller(wrong), closed.caller(right))]
            assert [answer.status for answer in asked] == [401, 403, 200]


async def test_the_schema_describes_every_route_with_its_security(api: Api) -> None:
    schema = (await api.caller().get("/openapi.json")).json
    assert schema["openapi"].startswith("3.1")
    assert set(schema["components"]["securitySchemes"]) == {"key", "session"}
    assert "post" in schema["paths"]["/api/v1/switches/pause"]
    operations = [
        one["operationId"] for path in schema["paths"].values() for one in path.values() if "operationId" in one
    ]
    assert len(operations) == len(set(operations)) > 20
    assert (await api.caller().get("/schema")).status == 404


async def test_the_server_finishes_what_is_under_way_when_told_to_stop(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated")) as stopping:
        head = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        place = urlsplit(stopping.url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(head + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 "), "its handler waits for the body"

        async def finish() -> bytes:
            await until(partial(_listens_no_more, place.hostname, place.port), what="nobody new is let in")
            writer.write(b"{}")
            return await reader.read()

        finishing = asyncio.create_task(finish())
    assert (await finishing).startswith(b"HTTP/1.1 422 ")
    writer.close()


async def _listens_no_more(host: str | None, port: int | None) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except ConnectionError:
        return True
    writer.close()
    return False


async def test_an_address_that_is_taken_stops_the_start_with_its_name() -> None:
    taken = server.bind("127.0.0.1", 0)
    taken.listen()
    try:
        with pytest.raises(Misconfigured) as caught:
            server.bind("127.0.0.1", taken.getsockname()[1])
    finally:
        taken.close()
    assert caught.value.code == "cannot_listen"
    assert str(taken) not in caught.value.message


async def test_the_app_serves_over_ipv6_and_says_so(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated"), api_host="::1") as six:
        assert six.url.startswith("http://[::1]:")
        assert (await Caller(six.url).get("/livez")).status == 200


async def beat(api: Api) -> None:
    """One worker's heartbeat."""
    process = Process(uuid4(), "worker", "host", "boot", 1, "0", None, None)
    async with api.engine(None) as uow:
        await workers.beat(uow.raw, process, state="running", loops={"dispatch": 0.2})
        # it counts as alive however long the test takes
        await uow.raw.execute("UPDATE workers SET heartbeat_at = now() + interval '5 minutes'")


async def queue(api: Api, *, ready: int, held: int) -> None:
    """Rows of the queue as the ledger would write them."""
    async with api.engine() as uow:
        lane = await uow.raw.fetchval(
            "INSERT INTO lanes (tenant_id, channel, sender_id, message_class) "
            "VALUES ($1, 'email', $2, 'bulk') RETURNING id",
            DEFAULT_TENANT,
            uuid4(),
        )
        await uow.raw.execute(
            "INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state) "
            "SELECT $1, gen_random_uuid(), $2, now() - interval '2 minutes', 5, (n > $3::int)::int * 5"
            " FROM generate_series(1, $3::int + $4::int) n",
            DEFAULT_TENANT,
            lane,
            ready,
            held,
        )
