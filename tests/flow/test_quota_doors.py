"""A full queue at every door: HTTP, SMTP and sign-up say what is full; operators see it and change it while running."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.engine.maintenance.upkeep import Upkeep
from tests.kit.api import Answer, Api, Caller, api_of
from tests.kit.command import Command, migrated_command
from tests.kit.ports import free_port
from tests.kit.submission import intake_of, letter

SENDS = "/api/v1/messages"
QUOTAS = "/api/v1/quotas"
BULK: dict[str, Any] = {"class": "bulk"}


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated")) as running:
        async with running.engine() as uow:
            connection = await uow.raw.fetchval(
                "INSERT INTO connections (tenant_id, name, provider) VALUES ($1, 'c', 'smtp') RETURNING id",
                DEFAULT_TENANT,
            )
            await uow.raw.execute(
                "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address) "
                "VALUES ($1, 'news', 'email', $2, 'news@example.org')",
                DEFAULT_TENANT, connection,
            )  # fmt: skip
        office = running.caller(await running.key("templates:write", role="operator"))
        made = await office.post("/api/v1/templates", {"name": "one", "subject": "Hello", "text": "x"})
        assert made.status == 201, made.text
        await running.user("root@example.org", is_installation_admin=True)
        await running.user("boss@example.org", "owner")
        yield running


@pytest.fixture(scope="module")
async def caller(api: Api) -> Caller:
    return api.caller(await api.key("messages:read", "messages:write", "limits:read", role="operator"))


@pytest.fixture
async def root(api: Api) -> AsyncIterator[Caller]:
    signed_in = await api.signed_in("root@example.org")
    yield signed_in
    await signed_in.put(f"{QUOTAS}/tenants/{DEFAULT_TENANT}", {"most": None})
    await signed_in.put(f"{QUOTAS}/installation", {"most": None, "tenant_most": None, "bulk_percent": None})
    async with api.engine(None) as uow:
        for table in ("queue", "messages", "message_events", "rollups", "rollup_deltas", "open_counts"):
            await uow.raw.execute(f"DELETE FROM {table}")


def single(number: int = 0, /, **more: Any) -> dict[str, Any]:
    return {"to": f"r{number}@example.org", "template": "one", **more}


def batch(count: int, **more: Any) -> dict[str, Any]:
    return {"messages": [{"to": f"b{n}@example.org"} for n in range(count)], "text": "x", **more}


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json.get("code", "") if answer.json else ""


async def test_a_full_tenant_is_answered_429_with_what_is_full_and_when_to_come_again(
    api: Api, caller: Caller, root: Caller
) -> None:
    set_to = await root.put(f"{QUOTAS}/tenants/{DEFAULT_TENANT}", {"most": 10})
    assert (set_to.status, set_to.json["most"], set_to.json["bulk_most"], set_to.json["is_own"]) == (200, 10, 8, True)
    assert (await caller.post(SENDS, batch(7, **BULK))).status == 202
    whole = await caller.post(SENDS, batch(2, **BULK))
    assert told(whole) == (429, "tenant_queue_full")
    assert int(whole.headers["Retry-After"]) > 0
    assert (whole.json["data"]["open_count"], whole.json["data"]["most_count"]) == (7, 8)
    one = await caller.post(SENDS, single(**BULK), headers={"Idempotency-Key": "last place"})
    assert one.status == 202, one.text
    refused = await caller.post(SENDS, single(1, **BULK), headers={"Idempotency-Key": "too late"})
    assert told(refused) == (429, "tenant_queue_full")
    assert int(refused.headers["Retry-After"]) > 0
    assert "kept for transactional" in refused.json["detail"]
    replayed = await caller.post(SENDS, single(**BULK), headers={"Idempotency-Key": "last place"})
    assert (replayed.status, replayed.json) == (202, one.json)
    for number in range(2):
        assert (await caller.post(SENDS, single(number))).status == 202, "the transactional share"
    assert told(await caller.post(SENDS, single(9))) == (429, "tenant_queue_full")
    async with api.engine() as uow:
        assert await uow.raw.fetchval("SELECT count(*) FROM queue") == 10
    await root.put(f"{QUOTAS}/tenants/{DEFAULT_TENANT}", {"most": 20})
    again = await caller.post(SENDS, single(1, **BULK), headers={"Idempotency-Key": "too late"})
    assert again.status == 202, "a refusal is kept under no key"


async def test_a_full_installation_is_answered_503(api: Api, caller: Caller, root: Caller) -> None:
    changed = await root.put(f"{QUOTAS}/installation", {"most": 4, "bulk_percent": 50})
    assert (changed.json["installation"]["most"], changed.json["bulk_percent"]) == (4, 50)
    assert (await caller.post(SENDS, batch(2))).status == 202
    for body in (single(**BULK), batch(1, **BULK)):
        answer = await caller.post(SENDS, body)
        assert told(answer) == (503, "queue_full")
        assert int(answer.headers["Retry-After"]) > 0
    assert (await caller.post(SENDS, single())).status == 202
    scraped = (await api.caller().get("/metrics")).text
    assert 'outrider_submissions_refused_total{app="outrider",code="queue_full"} 2.0' in scraped
    await Upkeep(api.runtime).fold()
    async with api.engine() as uow:
        counted = await uow.raw.fetchrow(
            "SELECT transactional, bulk FROM open_counts WHERE tenant_id = $1", DEFAULT_TENANT
        )
    assert tuple(counted) == (3, 0)


async def test_everybody_sees_their_own_quota_and_only_the_installations_people_see_and_change_all(
    api: Api, caller: Caller, root: Caller
) -> None:
    assert (await caller.post(SENDS, batch(3))).status == 202
    await Upkeep(api.runtime).fold()
    own = (await caller.get("/api/v1/quota")).json
    assert (own["open_count"], own["is_own"], own["takes"]) == (3, False, ["transactional", "bulk"])
    boss = await api.signed_in("boss@example.org")
    for answer in (
        await boss.get(QUOTAS),
        await boss.put(f"{QUOTAS}/tenants/{DEFAULT_TENANT}", {"most": 10**9}),
        await boss.put(f"{QUOTAS}/installation", {"most": 10**9}),
    ):
        assert told(answer) == (403, "forbidden")
    found = (await root.get(QUOTAS)).json
    assert found["installation"]["open_count"] == 3
    assert [(each["tenant_id"], each["open_count"]) for each in found["tenants"]] == [(str(DEFAULT_TENANT), 3)]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        (f"tenants/{DEFAULT_TENANT}", {"most": -1}, "/most"),
        (f"tenants/{DEFAULT_TENANT}", {"most": 10**13}, "/most"),
        ("installation", {"tenant_most": -1}, "/tenant_most"),
        ("installation", {"bulk_percent": 0}, "/bulk_percent"),
        ("installation", {"bulk_percent": 101}, "/bulk_percent"),
    ],
)
async def test_a_quota_that_cannot_be_is_refused_by_name(
    root: Caller, path: str, body: dict[str, Any], pointer: str
) -> None:
    answer = await root.put(f"{QUOTAS}/{path}", body)
    assert (answer.status, answer.json["code"], answer.json["pointer"]) == (422, "invalid_quota", pointer)


async def test_smtp_is_told_452_and_what_was_refused_is_taken_later(new_database: Callable[..., str]) -> None:
    port = free_port()
    async with intake_of(new_database("migrated"), submission_health_port=port) as intake:
        key = await intake.api.key("messages:write", role="operator")
        async with intake.api.engine() as uow:
            await uow.raw.execute("UPDATE tenants SET open_most = 5 WHERE id = $1", DEFAULT_TENANT)
        bulk = letter(b"X-Outrider-Class: bulk", b"Message-ID: <one@example.org>")
        people = [f"p{n}@example.org" for n in range(5)]
        async with intake.talk(key) as talk:
            for recipients, expected in ((people, 452), (people[:4], 250), (people[4:], 452)):
                await talk.say(b"MAIL FROM:<>\r\n", expect=250)
                for recipient in recipients:
                    await talk.say(f"RCPT TO:<{recipient}>\r\n".encode(), expect=250)
                await talk.say(b"DATA\r\n", expect=354)
                answer = await talk.say(bulk + b".\r\n", expect=expected)
                assert (b"4.3.1" in answer, b"[tenant_queue_full]" in answer) == (expected == 452, expected == 452)
        assert await intake.addresses() == people[:4]
        async with intake.api.engine() as uow:
            await uow.raw.execute("UPDATE tenants SET open_most = 500 WHERE id = $1", DEFAULT_TENANT)
            await uow.raw.execute("UPDATE installation SET open_most = 4, open_bulk_percent = 100")
        async with intake.talk(key) as talk:
            await talk.say(b"MAIL FROM:<>\r\nRCPT TO:<p4@example.org>\r\nDATA\r\n")
            await talk.hear(250, 250, 354)
            assert b"4.3.1" in await talk.say(bulk + b".\r\n", expect=452)
        async with intake.api.engine() as uow:
            await uow.raw.execute("UPDATE installation SET open_most = NULL")
        await intake.send(key, bulk, *people)  # the four are known by their Message-ID
        assert await intake.addresses() == people
        counted = (await Caller(f"http://127.0.0.1:{port}").get("/metrics")).text
    for code, count in (("tenant_queue_full", 2.0), ("queue_full", 1.0)):
        assert f'outrider_submissions_refused_total{{app="outrider",code="{code}"}} {count}' in counted


@pytest.fixture
def command(new_database: Callable[..., str], tmp_path: Path) -> Command:
    return migrated_command(new_database, tmp_path)


def test_operators_see_and_set_quotas_on_the_command_line(command: Command) -> None:
    lines = [
        ["quota", "set", "--most", "10", "--reason", "trial", "--json"],
        ["quota", "installation", "--most", "0", "--bulk-percent", "50", "--json"],
        ["quota", "--json"],
        ["queue", "status", "--json"],
        ["status"],
        ["quota", "installation", "--most", "preset", "--json"],
        ["quota", "set", "--most", "default", "--json"],
        ["quota", "set", "--most", "ten"],
        ["quota", "installation"],
    ]
    done = command.many(lines)
    one, everybody, shown, waiting, whole, back, default, wrong, nothing = done
    assert (json.loads(one.out)["most"], json.loads(one.out)["bulk_most"]) == (10, 8)
    assert json.loads(everybody.out)["fill"]["takes"] == []
    assert json.loads(shown.out)["tenants"][0]["most"] == 10
    assert json.loads(waiting.out)["quota"]["most"] == 0
    assert "ALARM: the queue is full: all messages of every tenant are refused (503)" in whole.out
    assert json.loads(back.out)["fill"]["is_own"] is False
    assert json.loads(default.out)["is_own"] is False
    assert (wrong.code, "--most" in wrong.err) == (2, True)
    assert nothing.code == 2
