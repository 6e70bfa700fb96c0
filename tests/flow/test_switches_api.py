"""The kill switch over HTTP: the runbook's two commands and their successors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest

from outrider.base.ids import DEFAULT_TENANT, NIL
from outrider.domain.audit.listing import listed as audited
from outrider.domain.limits import switches
from outrider.domain.tenants import tenants
from tests.kit.api import TESTER, Api, api_of, raw

PAUSE, RESUME = f"/tenants/{DEFAULT_TENANT}/pause", f"/tenants/{DEFAULT_TENANT}/resume"


@pytest.fixture
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated")) as running:
        for role in ("operator", "support"):
            await running.user(f"{role}@example.org", role)
        await running.user("root@example.org", "owner", is_installation_admin=True)
        yield running


async def test_the_runbooks_commands_work_with_the_cookie_alone_and_no_body(api: Api) -> None:
    cookie = (await api.signed_in("operator@example.org")).cookies["session_id"]

    async def curl(path: str) -> bytes:
        request = f"POST {path} HTTP/1.1\r\nHost: localhost:3000\r\nUser-Agent: curl/8\r\nAccept: */*\r\n"
        return await raw(api.url, f"{request}Cookie: session_id={cookie}\r\nConnection: close\r\n\r\n".encode())

    paused = await curl(PAUSE)
    assert paused.startswith(b"HTTP/1.1 200 ")
    assert b'"is_paused":true' in paused
    assert b'"reason":"not given"' in paused
    resumed = await curl(RESUME)
    assert b'"is_paused":false' in resumed
    async with api.app() as uow:
        entries = await audited(uow, limit=2)
    assert [(entry.action, entry.actor, entry.reason) for entry in entries] == [
        ("sending.resume", "operator@example.org", "not given"),
        ("sending.pause", "operator@example.org", "not given"),
    ]


async def test_pausing_needs_an_operator_and_a_sign_in(api: Api) -> None:
    support = await api.signed_in("support@example.org")
    assert (await support.post(PAUSE)).status == 403
    assert (await api.caller().post(PAUSE)).status == 401
    assert (await api.caller().get(PAUSE)).status == 405
    reader = api.caller(await api.key("switches:read"))
    writer = api.caller(await api.key("switches:write", role="operator"))
    assert [(await one.post(PAUSE)).status for one in (reader, writer)] == [403, 200]


async def test_what_is_paused_is_listed_with_reason_person_and_time(api: Api) -> None:
    operator = await api.signed_in("operator@example.org")
    body = {"scope": "channel", "id": "email", "reason": "spam report"}
    answer = await operator.post("/api/v1/switches/pause", body)
    assert answer.status == 200
    assert (answer.json["changed"], answer.json["is_settled"]) == (True, True)
    assert answer.json["took_effect_ms"] > 0
    again = (await operator.post("/api/v1/switches/pause", {**body, "reason": "another"})).json
    assert (again["changed"], again["reason"]) == (False, "spam report")
    (item,) = (await operator.get("/api/v1/switches")).json["items"]
    assert (item["scope"], item["id"], item["reason"]) == ("channel", "email", "spam report")
    assert item["actor"] == "operator@example.org"
    resumed = (await operator.post("/api/v1/switches/resume", {"scope": "channel", "id": "email"})).json
    assert (resumed["changed"], resumed["is_paused"]) == (True, False)
    assert (await operator.get("/api/v1/switches")).json["items"] == []


async def test_the_answer_comes_when_no_earlier_claim_is_open(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switches, "_SETTLE_MS", "60000")  # however slow this machine is
    operator = await api.signed_in("operator@example.org")
    async with api.engine() as uow:
        lane = "INSERT INTO lanes (tenant_id, channel, sender_id, message_class) VALUES ($1, 'email', $2, 'bulk')"
        await uow.raw.execute(lane, DEFAULT_TENANT, uuid4())
    async with api.engine() as claim:
        await claim.raw.execute("SELECT FROM lanes FOR UPDATE")
        pausing = asyncio.create_task(operator.post(PAUSE))
        async with asyncio.timeout(90):
            while True:
                async with api.engine() as uow:
                    if await uow.raw.fetchval("SELECT count(*) FROM switches"):
                        break
                await asyncio.sleep(0.01)
        assert not pausing.done()
    assert (await pausing).json["is_settled"] is True


async def test_the_installation_and_maintenance_are_for_its_administrators(api: Api) -> None:
    operator, root = await api.signed_in("operator@example.org"), await api.signed_in("root@example.org")
    for path, body in (
        ("/api/v1/switches/pause", {"scope": "installation"}),
        ("/api/v1/switches/resume", {"scope": "installation"}),
        ("/api/v1/switches/pause", {"scope": "channel", "id": "email", "everywhere": True}),
        ("/api/v1/maintenance/on", {}),
        ("/api/v1/maintenance/off", {}),
    ):
        assert (await operator.post(path, body)).status == 403, path
    paused = (await root.post("/api/v1/switches/pause", {"scope": "installation", "reason": "breach"})).json
    assert (paused["tenant_id"], paused["changed"]) == (str(NIL), True)
    assert (await root.post("/api/v1/maintenance/on", {"reason": "upgrade"})).json["is_on"] is True
    seen = (await operator.get("/api/v1/switches")).json["items"]
    assert [(one["scope"], one["reason"]) for one in seen] == [("installation", "breach")]
    assert (await operator.get("/api/v1/maintenance")).json["reason"] == "upgrade"
    health = (await operator.get("/health")).json
    assert (health["maintenance"], health["paused_switches"], health["status"]) == (True, 1, "degraded")
    assert (await root.post("/api/v1/maintenance/off", {})).json["is_on"] is False


async def test_an_administrator_of_the_installation_pauses_any_tenant_that_exists(api: Api) -> None:
    root = await api.signed_in("root@example.org")
    async with api.engine(None) as uow:
        other = await tenants.create(uow, TESTER, "North")
    assert (await root.post(f"/tenants/{other.id}/pause")).json["tenant_id"] == str(other.id)
    assert (await root.post(f"/tenants/{uuid4()}/pause")).status == 404
    assert (await root.post("/tenants/no-id/pause")).status == 404
    async with api.app(other.id) as uow:
        assert [entry.action for entry in await audited(uow)] == ["sending.pause", "tenant.create"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"scope": "world"}, 422, "invalid_value"),
        ({"scope": "sender"}, 422, "required"),
        ({"scope": "sender", "id": "x"}, 404, "not_found"),
        ({"scope": "sender", "id": str(uuid4())}, 404, "not_found"),
        ({"scope": "channel", "id": "pigeon"}, 404, "not_found"),
        ({"scope": "tenant", "reason": "two\nlines"}, 422, "invalid_reason"),
        ({"scope": "tenant", "reason": "x" * 501}, 422, "invalid_value"),
        ({"scope": "tenant", "tenant_id": "x"}, 422, "invalid_value"),
        ({"scope": "tenant", "paused": True}, 422, "unknown_field"),
        ({}, 422, "required"),
    ],
)
async def test_commands_that_make_no_sense_pause_nothing(api: Api, body: object, status: int, code: str) -> None:
    operator = await api.signed_in("operator@example.org")
    answer = await operator.post("/api/v1/switches/pause", body)
    assert (answer.status, answer.code) == (status, code)
    assert (await operator.get("/api/v1/switches")).json["items"] == []
