"""Rates of connections and destinations, and warm-ups, over HTTP and by the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from outrider.base.ids import DEFAULT_TENANT
from tests.kit.api import Api, api_of
from tests.kit.command import migrated_command

GMAIL = "/api/v1/limits/destinations/email/gmail.com"


@pytest.fixture
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated")) as running:
        await running.user("admin@example.org", "admin")
        await running.user("viewer@example.org", "viewer")
        yield running


async def sender_of(api: Api) -> tuple[UUID, UUID]:
    """A sender and its connection."""
    async with api.engine(DEFAULT_TENANT) as uow:
        connection_id = await uow.raw.fetchval(
            "INSERT INTO connections (tenant_id, name, provider) VALUES ($1, 'mx', 'smtp') RETURNING id", DEFAULT_TENANT
        )
        sender_id = await uow.raw.fetchval(
            "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address) "
            "VALUES ($1, 'news', 'email', $2, 'news@example.org') RETURNING id",
            DEFAULT_TENANT, connection_id,
        )  # fmt: skip
    return sender_id, connection_id


async def test_destinations_are_limited_by_admins_and_the_installations_by_its_own(api: Api) -> None:
    admin, viewer = await api.signed_in("admin@example.org"), await api.signed_in("viewer@example.org")
    assert (await viewer.put(GMAIL, {"rate_per_s": 20})).status == 403
    made = await admin.put(GMAIL, {"rate_per_s": 20, "reason": "agreed"})
    assert made.status == 200, made.text
    assert (made.json["destination"], made.json["burst"], made.json["is_own"]) == ("gmail.com", 20, True)
    for_all = {"rate_per_s": 5, "installation": True}
    assert (await admin.put("/api/v1/limits/destinations/sms/AU", for_all)).status == 403
    assert (await admin.delete(f"{GMAIL}?installation=true")).status == 403
    listed = (await viewer.get("/api/v1/limits/destinations")).json["items"]
    assert [each["destination"] for each in listed] == ["gmail.com"]
    wrong = await admin.put("/api/v1/limits/destinations/email/nonsense", {"rate_per_s": 20})
    assert (wrong.status, wrong.json["pointer"]) == (422, "/destination")
    slow = await admin.put(GMAIL, {"rate_per_s": 0})
    assert (slow.status, slow.json["pointer"]) == (422, "/rate_per_s")
    assert (await admin.delete(GMAIL)).status == 204
    assert (await viewer.get("/api/v1/limits/destinations")).json["items"] == []


async def test_a_connection_is_limited_as_senders_are(api: Api) -> None:
    admin = await api.signed_in("admin@example.org")
    _sender, connection = await sender_of(api)
    made = await admin.put(f"/api/v1/limits/connection/{connection}", {"rate_per_s": 2})
    assert made.status == 200, made.text
    assert [each["scope"] for each in (await admin.get("/api/v1/limits")).json["items"]] == ["connection"]
    assert (await admin.put(f"/api/v1/limits/connection/{uuid4()}", {"rate_per_s": 2})).status == 404


async def test_a_warm_up_is_begun_changed_and_ended(api: Api) -> None:
    admin, viewer = await api.signed_in("admin@example.org"), await api.signed_in("viewer@example.org")
    sender, _connection = await sender_of(api)
    path = f"/api/v1/senders/{sender}/warm-up"
    assert (await viewer.get(path)).status == 404
    assert (await viewer.put(path, {"plan": "standard"})).status == 403
    begun = await admin.put(path, {"plan": "own", "steps": [{"per_day": 10}, {"per_day": 30, "per_hour": 5}]})
    assert begun.status == 200, begun.text
    assert (begun.json["state"], begun.json["step"], begun.json["day_allowed"]) == ("running", 1, 10)
    changed = await admin.patch(path, {"step": 2, "state": "paused", "options": {"reserve_percent": 0}})
    assert changed.status == 200, changed.text
    assert (changed.json["state"], changed.json["step"], changed.json["day_allowed"]) == ("paused", 2, 30)
    assert changed.json["options"]["reserve_percent"] == 0
    metrics = (await api.caller().get("/metrics")).text
    assert 'outrider_warm_ups{app="outrider",state="paused"} 1.0' in metrics
    for body, pointer in (
        ({"state": "asleep"}, "/state"),
        ({"step": 3}, "/step"),
        ({"options": {"reserve_percent": 90}}, "/options/reserve_percent"),
        ({"steps": [{"per_day": 5}, {"per_day": 0}]}, "/steps/1/per_day"),
    ):
        wrong = await admin.patch(path, body)
        assert (wrong.status, wrong.json["pointer"]) == (422, pointer), wrong.text
    assert (await admin.post(f"{path}/restart", {})).json["step"] == 1
    assert (await admin.patch(path, {"state": "finished"})).json["state"] == "finished"
    assert (await admin.patch(path, {"state": "paused"})).status == 409
    listed = (await viewer.get("/api/v1/warm-ups")).json["items"]
    assert [(each["sender"], each["state"]) for each in listed] == [("news", "finished")]


def test_rates_and_warm_ups_by_the_command_line(new_database: Callable[..., str], tmp_path: Path) -> None:
    outrider = migrated_command(new_database, tmp_path)
    done = outrider.many(
        [
            ("connection", "create", "mx", "--set", "host=mail.example.org"),
            ("sender", "create", "news", "--connection", "mx", "--from", "News <news@example.com>"),
            ("limits", "set", "connection", "mx", "--rate", "2"),
            ("limits", "set-destination", "GMail.com", "--rate", "20", "--burst", "40"),
            ("limits", "set-destination", "AU", "--channel", "sms", "--rate", "5", "--installation"),
            ("limits", "destinations"),
            ("limits", "clear-destination", "gmail.com"),
            ("limits", "clear-destination", "gmail.com"),
            ("warm-up", "plans"),
            ("warm-up", "begin", "news", "--step", "10", "--step", "30/5", "--transactional", "exempt"),
            ("warm-up", "skip", "news", "--to", "2"),
            ("warm-up", "pause", "news"),
            ("warm-up", "resume", "news"),
            ("warm-up", "adjust", "news", "--bounces", "2.5"),
            ("warm-up", "list"),
            ("warm-up", "restart", "news", "--dry-run"),
            ("warm-up", "end", "news"),
            ("warm-up", "pause", "news"),
            ("warm-up", "begin", "news", "--starts", "soon"),
            ("warm-up", "begin", "news", "--plan", "fast"),
        ]
    )
    assert [each.code for each in done[:17]] == [0] * 17, done
    assert "2 a second" in done[2].out
    assert "gmail.com: at most 20 a second, 40 at once" in done[3].out
    assert ["gmail.com" in done[5].out, "AU" in done[5].out] == [True, True]
    assert done[7].out.strip().endswith("as before")
    assert "day 1 of 2, 0 of 10 sent" in done[9].out
    assert "day 2 of 2, 0 of 30 sent" in done[10].out
    assert "2 of 2" in done[14].out
    assert done[15].out.startswith("dry run")
    assert [each.code != 0 for each in done[17:]] == [True] * 3
    assert "--starts" in done[18].err
