"""Messages over which workers died, over HTTP: listed in pages, queued again with the number one has seen."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role, UnitOfWork
from outrider.domain.messages import poison
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from outrider.engine.dispatch import recovery
from outrider.engine.dispatch.record import Row
from tests.kit.api import Api, api_of

_LEASE = "UPDATE queue SET state = 1, token = 77, attempt = 1, lease_until = now() WHERE message_id = ANY ($1)"


async def _set_aside(uow: UnitOfWork, ids: list[UUID]) -> None:
    """What recovery writes about messages over which the third worker died."""
    await uow.raw.execute(_LEASE, ids)
    rows = [Row("finish", each, 77, "failed", None, poison.CODE, "its worker died 3 times") for each in ids]
    await recovery._write(uow.raw, uow.tenant, rows)


async def test_over_http_all_of_them_go_only_with_the_number_one_has_seen(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated")) as api:
        ids = await _prepared(api)
        caller = api.caller(await api.key("messages:read", "messages:write", role="operator"))
        page = (await caller.get("/api/v1/poison?limit=2")).json
        assert [item["id"] for item in page["items"]] == ids[:2]
        rest = (await caller.get(f"/api/v1/poison?cursor={page['next_cursor']}")).json["items"]
        assert [item["id"] for item in rest] == ids[2:]
        refused = await caller.post("/api/v1/poison/requeue", {"reason": "mended", "count": 2})
        assert (refused.status, refused.code) == (409, "count_differs")
        for beside in ({"count": 3}, {"campaign_id": ids[0]}):
            refused = await caller.post("/api/v1/poison/requeue", {"reason": "mended", "ids": ids[:1], **beside})
            assert (refused.status, refused.code) == (422, "invalid_choice"), "one of the two would be ignored"
        refused = await caller.post("/api/v1/poison/requeue", {"reason": "two\nlines", "ids": ids[:1]})
        assert (refused.status, refused.code) == (422, "invalid_reason")
        one = await caller.post("/api/v1/poison/requeue", {"reason": "mended", "ids": ids[:1]})
        assert (one.status, one.json) == (200, {"count": 1, "ids": ids[:1]})
        done = await caller.post("/api/v1/poison/requeue", {"reason": "mended", "count": 2})
        assert (done.status, sorted(done.json["ids"])) == (200, ids[1:])
        reader = api.caller(await api.key("messages:read", role="viewer"))
        assert (await reader.post("/api/v1/poison/requeue", {"reason": "x", "count": 0})).status == 403


async def _prepared(api: Api) -> list[str]:
    """Three messages of the default tenant that were set aside, oldest first."""
    async with api.runtime.db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
        connection = await uow.raw.fetchval(
            "INSERT INTO connections (tenant_id, name, provider) VALUES ($1, 'c', 'smtp') RETURNING id", DEFAULT_TENANT
        )
        sender = await uow.raw.fetchval(
            "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address) "
            "VALUES ($1, 'news', 'email', $2, 'news@example.org') RETURNING id",
            DEFAULT_TENANT, connection,
        )  # fmt: skip
        content = await uow.raw.fetchval(
            "INSERT INTO contents (tenant_id, channel, hash, is_template, subject, text) "
            "VALUES ($1, 'email', '\\x00', false, 's', 't') RETURNING id",
            DEFAULT_TENANT,
        )
        key = LaneKey("email", sender, "transactional", "transactional", 5)
        messages = [NewMessage(f"p{n}@example.org", content) for n in range(3)]
        ids = await admit(uow, DEFAULT_TENANT, key, messages)
        await _set_aside(uow, ids)
    return [str(each) for each in sorted(ids)]
