"""How a campaign goes out, over HTTP: said, refused by field, decided by people, and how its variants fared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.engine.fanout import expand
from outrider.plugins.channels.email import CHANNEL
from outrider.plugins.providers.smtp import PROVIDER
from tests.kit import api as api_kit
from tests.kit.api import Answer, Api, Caller, api_of

PEOPLE = 40
_PEOPLE = (
    "WITH people AS (INSERT INTO contacts (tenant_id, name, external_id) SELECT $1, 'P' || n, 'x' || n "
    "FROM generate_series(1, $3::int) n RETURNING id, external_id), members AS (INSERT INTO list_members "
    "(tenant_id, list_id, contact_id) SELECT $1, $2, id FROM people), agreed AS (INSERT INTO consents "
    "(tenant_id, contact_id, channel, purpose, status, source) SELECT $1, id, 'email', 'marketing', 'granted', 'test' "
    "FROM people) INSERT INTO addresses (tenant_id, channel, address, contact_id) "
    "SELECT $1, 'email', external_id || '@example.org', id FROM people"
)
_VARIANTS = [{"name": "a", "share_percent": 50}, {"name": "b", "share_percent": 50, "subject": "Another"}]


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    runtime_for = api_kit.runtime_for

    def with_real_plugins(url: str, **settings: Any) -> Any:
        runtime = runtime_for(url, **settings)
        return replace(runtime, channels={"email": CHANNEL}, providers={"smtp": PROVIDER})

    monkeypatch.setattr(api_kit, "runtime_for", with_real_plugins)
    async with api_of(migrated_url, data_dir=tmp_path, public_url="https://news.example.org") as running:
        yield running


@pytest.fixture
async def owner(api: Api) -> Caller:
    await api.user("ann@example.org")
    return await api.signed_in("ann@example.org")


def made(answer: Answer, status: int = 200) -> Any:
    assert answer.status == status, answer.text
    return answer.json


@pytest.fixture
async def path(api: Api, owner: Caller) -> str:
    """A draft to forty people."""
    settings = {"host": "127.0.0.1", "port": 1, "tls": "off"}
    relay = {"name": "relay", "provider": "smtp", "settings": settings}
    connection = made(await owner.post("/api/v1/connections", relay), 201)
    sender = {"name": "news", "connection_id": connection["id"], "from_address": "news@example.org"}
    template = {"name": "t", "subject": "Hi", "text": "x"}
    ids = {
        "sender_id": made(await owner.post("/api/v1/senders", sender), 201)["id"],
        "template_id": made(await owner.post("/api/v1/templates", template), 201)["id"],
        "list_id": made(await owner.post("/api/v1/lists", {"name": "News"}), 201)["id"],
    }
    await owner.post("/api/v1/suppressions", {"address": "gone@example.org"})
    async with api.engine() as uow:
        await uow.raw.execute(_PEOPLE, DEFAULT_TENANT, ids["list_id"], PEOPLE)
    campaign = made(await owner.post("/api/v1/campaigns", {"name": "November", **ids}), 201)
    return f"/api/v1/campaigns/{campaign['id']}"


async def turn(api: Api) -> None:
    """One round of what a worker does beside sending."""
    for loop in expand.loops(api.runtime):
        if loop.name in {"settle_audiences", "look_at_waves", "fan_out"}:
            while await loop.step():
                pass


async def test_a_campaign_in_waves_is_said_launched_decided_and_compared(api: Api, owner: Caller, path: str) -> None:
    test = {"variants": _VARIANTS, "audience_percent": 50, "decision": "by_hand"}
    wanted = {"canary": {"share_percent": 10, "minimum_count": 5}, "ab_test": test, "pacing": {"per_hour": 3600}}
    view = made(await owner.put(f"{path}/delivery", wanted))
    assert [each["name"] for each in view["variants"]] == ["a", "b"]
    assert made(await owner.get(path))["delivery"]["pacing"]["per_hour"] == 3600
    sheet = made(await owner.post(f"{path}/preflight", {}))
    assert (sheet["rate_source"], sheet["rate_per_s"]) == ("pace", 1)
    made(await owner.post(f"{path}/launch"), 202)
    await turn(api)
    progress = made(await owner.get(f"{path}/progress"))
    assert [(wave["kind"], wave["state"]) for wave in progress["delivery"]["waves"]] == [
        ("canary", "going_out"), ("test", "waiting"), ("rest", "waiting"),
    ]  # fmt: skip
    assert progress["expansion"]["state"] == "between_waves"
    refused = await owner.post(f"{path}/winner", {"variant": "a"})
    assert (refused.status, refused.code) == (409, "no_wave_waits")
    stopped = made(await owner.post(f"{path}/stop", {"reason": "wrong link"}))
    assert (stopped["waits_for"], stopped["waves"][0]["why"]) == ("decision", "wrong link")
    refused = await owner.post(f"{path}/resume", {})
    assert (refused.status, refused.code) == (409, "stopped_by_wave")
    assert made(await owner.post(f"{path}/go-on", {"reason": "it is right"}))["waves"][0]["verdict"] == "go_on"
    await turn(api)
    unknown = await owner.post(f"{path}/winner", {"variant": "z"})
    assert (unknown.status, unknown.json["pointer"]) == (422, "/variant")
    chosen = made(await owner.post(f"{path}/winner", {"variant": "b", "reason": "shorter"}))
    assert chosen["waves"][1]["winner"] == "b"
    again = await owner.post(f"{path}/winner", {"variant": "a"})
    assert (again.status, again.code) == (409, "winner_chosen")
    await turn(api)
    assert made(await owner.get(f"{path}/progress"))["expanded_count"] == PEOPLE
    fared = made(await owner.get(f"{path}/results/variants"))["items"]
    assert [(each["name"], each["is_winner"]) for each in fared] == [("a", False), ("b", True)]
    assert sum(each["counts"]["queued"] for each in fared) == PEOPLE
    message = made(await owner.get(f"/api/v1/messages?limit=1&campaign_id={path.rpartition('/')[2]}"))["items"][0]
    assert made(await owner.get(f"/api/v1/messages/{message['id']}/variant"))["name"] in {"a", "b"}
    assert made(await owner.put(f"{path}/pace", {"pacing": None}))["pace_per_s"] is None
    actions = {entry["action"] for entry in made(await owner.get("/api/v1/audit?limit=100"))["items"]}
    assert {"campaign.delivery", "campaign.wave_stop", "campaign.wave_go_on", "campaign.pace"} <= actions


@pytest.mark.parametrize(
    ("said", "code", "pointer"),
    [
        ({"pacing": {}}, "one_pace", "/pacing"),
        ({"canary": {"wait_minutes": -1}}, "invalid_value", "/canary/wait_minutes"),
        ({"local_time": {"at": "2027-03-01T09:00:00Z"}}, "invalid_value", "/local_time/at"),
        ({"ab_test": {"variants": _VARIANTS[:1]}}, "invalid_value", "/ab_test/variants"),
        ({"ab_test": {"variants": [_VARIANTS[0], {"name": "b", "share_percent": 50}]}}, "same_content",
         "/ab_test/variants/1"),
        ({"canari": {}}, "unknown_field", "/canari"),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_refused_by_its_field(
    owner: Caller, path: str, said: dict[str, Any], code: str, pointer: str
) -> None:
    answer = await owner.put(f"{path}/delivery", said)
    assert (answer.status, answer.json["pointer"]) == (422, pointer), answer.text
    assert answer.code == code
