"""Scheduling, undoing, approving, retrying and the sheet over HTTP: bodies, refusals, and who may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.kit.api import Api, Caller
from tests.kit.campaign_api import campaign_api


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with campaign_api(migrated_url, tmp_path) as running:
        yield running


@pytest.fixture
async def owner(api: Api) -> Caller:
    await api.user("ann@example.org")
    return await api.signed_in("ann@example.org")


async def ask(caller: Caller, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    answer = await caller.ask(method, f"/api/v1{path}", body=body)
    assert answer.status == status, answer.text
    return answer.json


async def draft(owner: Caller) -> str:
    """The path of a draft to two people, in a tenant that somebody has told to stop before."""
    settings = {"host": "127.0.0.1", "port": 1, "tls": "off"}
    made = await ask(owner, "POST", "/connections", {"name": "mx", "provider": "smtp", "settings": settings}, 201)
    sender = {"name": "news", "connection_id": made["id"], "from_address": "news@example.org"}
    wanted = {"name": "November", "sender_id": (await ask(owner, "POST", "/senders", sender, 201))["id"]}
    letter = {"name": "letter", "subject": "Hi", "text": "{{ name }} {{ unsubscribe_url }}"}
    wanted["template_id"] = (await ask(owner, "POST", "/templates", letter, 201))["id"]
    wanted["list_id"] = (await ask(owner, "POST", "/lists", {"name": "News"}, 201))["id"]
    ids = []
    for name in ("ann", "bob"):
        person = {"name": name, "addresses": [{"channel": "email", "address": f"{name}@example.net"}]}
        ids.append((await ask(owner, "POST", "/contacts", person, 201))["id"])
        said = {"channel": "email", "purpose": "marketing", "status": "granted", "source": "form"}
        await ask(owner, "POST", f"/contacts/{ids[-1]}/consents", said)
    await ask(owner, "POST", f"/lists/{wanted['list_id']}/members", {"contact_ids": ids})
    await ask(owner, "POST", "/suppressions", {"address": "gone@example.net", "reason": "complaint"})
    return f"/campaigns/{(await ask(owner, 'POST', '/campaigns', wanted, 201))['id']}"


async def test_a_campaign_is_scheduled_and_taken_back(owner: Caller) -> None:
    path = await draft(owner)
    moment = (datetime.now(UTC) + timedelta(hours=2)).replace(microsecond=0)
    waiting = await ask(owner, "POST", f"{path}/schedule", {"launch_at": moment.isoformat(), "reason": "after lunch"})
    assert (waiting["state"], datetime.fromisoformat(waiting["launch_at"])) == ("scheduled", moment)
    assert waiting["preflight"]["will_go_count"] == 2
    twice = await ask(owner, "POST", f"{path}/schedule", {"launch_at": moment.isoformat()}, 409)
    assert twice["code"] == "not_draft"
    back = await ask(owner, "POST", f"{path}/unschedule", {"reason": "not today"})
    assert (back["state"], back["launch_at"], back["launch_trouble"]) == ("draft", None, None)
    entries = (await ask(owner, "GET", "/audit?limit=2"))["items"]
    assert {(each["action"], each["reason"]) for each in entries} == {
        ("campaign.schedule", "after lunch"),
        ("campaign.unschedule", "not today"),
    }
    for body, code in (({"launch_at": "2020-01-01T00:00:00Z"}, "not_ahead"), ({"launch_at": "soon"}, "invalid_value")):
        refused = await ask(owner, "POST", f"{path}/schedule", body, 422)
        assert (refused["code"], refused["pointer"]) == (code, "/launch_at")


async def test_a_launch_is_taken_back_while_its_time_runs(owner: Caller) -> None:
    path = await draft(owner)
    too_long = await ask(owner, "POST", f"{path}/launch", {"undo_s": 3601}, 422)
    assert too_long["pointer"] == "/undo_s"
    view = await ask(owner, "POST", f"{path}/launch", {"undo_s": 300, "reason": "go"}, 202)
    assert view["undo_until"] is not None
    progress = await ask(owner, "GET", f"{path}/progress")
    assert progress["expansion"]["state"] == "undoable"
    assert 0 < progress["undo_left_s"] <= 300
    assert (await ask(owner, "POST", f"{path}/undo", {"reason": "stop"}))["state"] == "draft"
    assert (await ask(owner, "POST", f"{path}/undo", {}, 409))["code"] == "not_running"
    assert (await ask(owner, "POST", f"{path}/launch", {"undo_s": 0}, 202))["undo_until"] is None
    assert (await ask(owner, "POST", f"{path}/undo", {}, 409))["code"] == "too_late_to_undo"


async def test_above_a_size_a_second_person_signs_in_and_approves(api: Api, owner: Caller) -> None:
    path = await draft(owner)
    tenant = (await ask(owner, "GET", "/auth/me"))["tenant_id"]
    wanted = {"settings": {"approval_above_count": 1}}
    assert (await ask(owner, "PATCH", f"/tenants/{tenant}", wanted))["settings"]["approval_above_count"] == 1
    assert (await ask(owner, "POST", f"{path}/launch", {}, 409))["code"] == "approval_needed"
    made = await ask(owner, "POST", "/keys", {"name": "robot", "scopes": ["campaigns:write", "campaigns:read"]}, 201)
    robot = api.caller(made["key"])
    assert (await ask(robot, "POST", f"{path}/launch", {}, 409))["code"] == "approval_needed"
    request = await ask(robot, "POST", f"{path}/approval/request", {"reason": "spring"}, 201)
    assert (request["state"], request["member_count"], request["requested_by"]) == ("waiting", 2, "robot")
    assert (await ask(robot, "POST", f"{path}/approval/approve", {}, 403))["code"] == "forbidden"
    assert (await ask(owner, "POST", f"{path}/approval/approve", {}, 403))["code"] == "own_request"
    await api.user("carol@example.org", "operator")
    carol = await api.signed_in("carol@example.org")
    assert (await ask(carol, "POST", f"{path}/approval/approve", {}, 403))["code"] == "forbidden"
    await api.user("bob@example.org", "admin")
    bob = await api.signed_in("bob@example.org")
    (waiting,) = (await ask(bob, "GET", "/approvals?state=waiting"))["items"]
    assert (waiting["campaign_name"], waiting["request_reason"]) == ("November", "spring")
    assert (await ask(bob, "POST", f"{path}/approval/approve", {"reason": "read it"}))["state"] == "approved"
    assert (await ask(bob, "GET", "/approvals?state=waiting"))["items"] == []
    assert (await ask(robot, "POST", f"{path}/launch", {}, 202))["state"] == "sending"


async def test_retry_and_sheet_over_http(owner: Caller) -> None:
    path = await draft(owner)
    assert (await ask(owner, "GET", f"{path}/sheet"))["rows"] == []
    await ask(owner, "POST", f"{path}/launch", {}, 202)
    due = await ask(owner, "GET", f"{path}/retry")
    assert (due["count"], due["retries"], due["is_under_way"]) == (0, [], False)
    assert (await ask(owner, "POST", f"{path}/retry", {"count": 0}, 409))["code"] == "nothing_to_retry"
    assert (await ask(owner, "POST", f"{path}/retry", {}, 422))["pointer"] == "/count"
    sheet = await ask(owner, "GET", f"{path}/sheet")
    assert (sheet["is_final"], sheet["currency"]) == (False, "EUR")
    assert {row["name"]: row["promised"] for row in sheet["rows"]}["will_go"] == 2
    assert all(row["is_explained"] for row in sheet["rows"])
