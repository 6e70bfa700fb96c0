"""Schedules over HTTP and on the command line: what people see and do, and that everything is on record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from outrider.base.ids import DEFAULT_TENANT, NIL
from outrider.domain.schedules import standing
from tests.kit.api import Answer, Api, Caller, api_of
from tests.kit.command import migrated_command
from tests.kit.postgres import run_sql

ARGUMENTS = {"import_id": "00000000-0000-0000-0000-000000000009"}


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated")) as running:
        await running.user("root@example.org", is_installation_admin=True)
        await running.user("owner@example.org")
        yield running


@pytest.fixture
async def caller(api: Api) -> Caller:
    return api.caller(await api.key("schedules:read", "schedules:write"))


async def make(caller: Caller, **given: Any) -> Any:
    answer = await attempt(caller, **given)
    assert answer.status == 201, answer.text
    return answer.json


async def attempt(caller: Caller, **given: Any) -> Answer:
    body = {"name": f"s {uuid4()}", "job_type": "import_contacts", "arguments": ARGUMENTS, "cron": "0 2 * * *"}
    return await caller.post("/api/v1/schedules", {**body, "timezone": "Europe/Istanbul", **given})


async def end_jobs(api: Api, schedule_id: str, state: str = "succeeded") -> None:
    async with api.engine(None) as uow:
        await uow.raw.execute(
            "UPDATE jobs SET state = $2, finished_at = now() WHERE schedule_id = $1", UUID(schedule_id), state
        )


async def test_a_person_sees_schedule_zone_next_run_in_both_times_last_run_and_what_was_missed(
    api: Api, caller: Caller
) -> None:
    made = await make(caller, name="weekly-cdr-report", cron="0 2 * * mon")
    assert (made["cron"], made["meaning"], made["timezone"]) == ("0 2 * * MON", "At 02:00 on Monday", "Europe/Istanbul")
    assert (made["state"], made["last_run"], made["missed_count"]) == ("waiting", None, 0)
    assert made["next_run"]["at"].endswith("T23:00:00Z")
    assert made["next_run"]["local"].endswith("T02:00:00+03:00")
    listed = (await caller.get("/api/v1/schedules?limit=1000")).json["items"]
    assert [each for each in listed if each["id"] == made["id"]] == [made]
    shown = (await caller.get(f"/api/v1/schedules/{made['id']}")).json
    assert (len(shown["next_runs"]), len(shown["previous_runs"])) == (5, 5)
    assert shown["next_runs"][0] == made["next_run"]
    assert shown["previous_runs"][-1]["at"] < shown["next_runs"][0]["at"]


async def test_an_expression_is_previewed_before_it_is_kept(caller: Caller) -> None:
    answer = await caller.post("/api/v1/schedules/preview", {"cron": "30 1 * * *", "timezone": "America/New_York"})
    assert answer.status == 200
    assert "once per local day" in answer.json["rule"]
    assert {run["local"][11:16] for run in answer.json["next_runs"]} == {"01:30"}
    hourly = await caller.post("/api/v1/schedules/preview", {"cron": "0 * * * *", "timezone": "UTC"})
    assert "25 hours" in hourly.json["rule"]


async def test_trigger_now_is_refused_or_queued_while_a_run_goes_on(api: Api, caller: Caller) -> None:
    made = await make(caller)
    path = f"/api/v1/schedules/{made['id']}"
    first = await caller.post(f"{path}/trigger", {"reason": "again"})
    assert (first.status, first.json["trigger"], first.json["state"]) == (202, "manual", "enqueued")
    assert (first.json["reason"], first.json["actor"]) == ("again", "test")
    refused = await caller.post(f"{path}/trigger", {})
    assert (refused.status, refused.code) == (409, "already_running")
    assert first.json["job_id"] in refused.json["detail"]
    queued = await caller.post(f"{path}/trigger", {"when_busy": "queue"})
    assert (queued.status, queued.json["state"], queued.json["job_id"]) == (202, "waiting", None)
    again = await caller.post(f"{path}/trigger", {"when_busy": "queue"})
    assert (again.status, again.code) == (409, "already_waiting")
    assert (await caller.get(path)).json["schedule"]["state"] == "running"
    runs = (await caller.get(f"{path}/runs")).json["items"]
    assert [run["state"] for run in runs] == ["waiting", "enqueued"]
    waiting = (await caller.get(f"{path}/runs?state=waiting")).json["items"]
    assert [run["id"] for run in waiting] == [queued.json["id"]]


async def test_a_run_by_hand_does_not_move_the_planned_times(api: Api, caller: Caller) -> None:
    made = await make(caller)
    await caller.post(f"/api/v1/schedules/{made['id']}/trigger", {})
    await end_jobs(api, made["id"])
    shown = (await caller.get(f"/api/v1/schedules/{made['id']}")).json["schedule"]
    assert shown["next_run"] == made["next_run"]
    assert shown["last_run"]["outcome"] == "succeeded, by hand"
    assert shown["state"] == "waiting"


async def test_a_schedule_rests_and_goes_on(caller: Caller) -> None:
    made = await make(caller)
    path = f"/api/v1/schedules/{made['id']}"
    for _ in range(2):
        paused = await caller.post(f"{path}/pause", {"reason": "holidays"})
        assert (paused.status, paused.json["state"], paused.json["pause_reason"]) == (200, "paused", "holidays")
    assert (await caller.get(path)).json["next_runs"] == []
    resumed = await caller.post(f"{path}/resume", {})
    assert (resumed.json["state"], resumed.json["paused_at"]) == ("waiting", None)
    assert resumed.json["next_run"] == made["next_run"]


async def test_a_schedule_is_changed_and_deleted(api: Api, caller: Caller) -> None:
    made, other = await make(caller), await make(caller)
    path = f"/api/v1/schedules/{made['id']}"
    changed = await caller.patch(path, {"cron": "0 5 * * *", "timezone": "UTC", "misfire": "skip", "name": "moved"})
    assert (changed.status, changed.json["misfire"], changed.json["name"]) == (200, "skip", "moved")
    assert changed.json["next_run"]["local"].endswith("T05:00:00+00:00")
    taken = await caller.patch(path, {"name": other["name"]})
    assert (taken.status, taken.code) == (409, "name_taken")
    assert (await caller.patch(path, {"cron": "* * * * *"})).code == "too_frequent"
    assert (await caller.patch(path, {"arguments": {"import_id": 7}})).code == "invalid_arguments"
    assert (await caller.delete(path)).status == 204
    assert (await caller.get(path)).status == 404
    async with api.engine(None) as uow:
        rows = await uow.raw.fetch("SELECT action FROM audit_log WHERE target_id = $1 ORDER BY seq", made["id"])
    assert [row["action"] for row in rows] == ["schedule.create", "schedule.update", "schedule.delete"]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"job_type": "nothing"}, "unknown_job_type"),
        ({"job_type": "retention", "arguments": {}}, "unknown_job_type"),
        ({"arguments": {"wrong": 1}}, "invalid_arguments"),
        ({"name": ""}, "invalid_name"),
        ({"name": " \u202e "}, "invalid_name"),
        ({"misfire": "twice"}, "invalid_value"),
        ({"jitter_s": 99_999}, "invalid_value"),
    ],
)
async def test_what_cannot_be_a_schedule_is_refused(given: dict[str, Any], code: str, caller: Caller) -> None:
    answer = await attempt(caller, **given)
    assert (answer.status, answer.code) == (422, code)


async def test_a_name_is_taken_once_per_tenant(caller: Caller) -> None:
    await make(caller, name="only one")
    answer = await attempt(caller, name="only one")
    assert (answer.status, answer.code) == (409, "name_taken")


async def test_the_upkeep_of_the_installation_is_for_its_administrators(api: Api) -> None:
    async with api.engine(NIL) as uow:
        await standing.register(uow, api.runtime.jobs.types)
    owner, root = await api.signed_in("owner@example.org"), await api.signed_in("root@example.org")
    path = "/api/v1/schedules?is_installation=true"
    assert (await owner.get(path)).status == 403
    found = {each["name"]: each for each in (await root.get(path)).json["items"]}
    assert {"retention", "partitions", "health-check", "audit-heads", "clean-files"} <= set(found)
    assert all(each["is_standing"] and each["is_installation"] and each["next_run"] for each in found.values())
    one = f"/api/v1/schedules/{found['retention']['id']}"
    assert (await owner.get(one)).status == 404
    assert (await root.get(f"{one}?is_installation=true")).status == 200
    kept = await root.ask("DELETE", f"{one}?is_installation=true")
    assert (kept.status, kept.code) == (409, "is_standing")
    triggered = await root.post(f"{one}/trigger?is_installation=true", {})
    assert triggered.status == 202
    async with api.engine(None) as uow:
        row = await uow.raw.fetchrow("SELECT tenant_id, type FROM jobs WHERE id = $1", UUID(triggered.json["job_id"]))
    assert row is not None
    assert (row["tenant_id"], row["type"]) == (NIL, "retention")


async def test_what_did_not_fire_is_in_the_metrics(api: Api, caller: Caller) -> None:
    made = await make(caller)
    async with api.engine(None) as uow:
        await uow.raw.execute(
            "UPDATE schedules SET due_at = now() - interval '50 seconds', next_at = now() - interval '50 seconds', "
            "handled_at = now() - interval '2 days' WHERE id = $1",
            UUID(made["id"]),
        )
    text = (await api.caller().get("/metrics")).text
    assert 'outrider_schedules_overdue{app="outrider"} 1.0' in text
    assert 'outrider_schedulers_silent{app="outrider"} 0.0' in text
    assert 'outrider_schedule_runs_missed{app="outrider"}' in text
    shown = (await caller.get(f"/api/v1/schedules/{made['id']}")).json["schedule"]
    assert shown["state"] == "overdue"
    assert shown["missed_count"] >= 1
    await caller.delete(f"/api/v1/schedules/{made['id']}")


def test_the_command_line_walks_through_the_life_of_a_schedule(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    told = migrated_command(new_database, tmp_path)
    created = told.run(
        "schedules", "create", "nightly", "--job", "import_contacts", "--cron", "0 2 * * *", "--timezone",
        "Europe/Istanbul", "--arguments", '{"import_id": "00000000-0000-0000-0000-000000000009"}', "--json",
    )  # fmt: skip
    assert created.code == 0, created.err
    walk = [
        ["schedules", "list"],
        ["schedules", "show", "nightly"],
        ["schedules", "trigger", "nightly", "--json"],
        ["schedules", "trigger", "nightly"],
        ["schedules", "trigger", "nightly", "--queue"],
        ["schedules", "runs", "nightly", "--json"],
        ["schedules", "update", "nightly", "--cron", "0 4 * * *", "--reason", "earlier is busy", "--json"],
        ["schedules", "pause", "nightly", "--reason", "holidays"],
        ["schedules", "list", "--json"],
        ["schedules", "resume", created.json()["id"]],
        ["schedules", "delete", "nightly"],
        ["schedules", "delete", "nightly", "--yes", "--dry-run"],
        ["schedules", "delete", "nightly", "--yes"],
        ["schedules", "show", "nightly"],
        ["schedules", "preview", "0 2 * * *", "--timezone", "Europe/Berlin"],
    ]
    (
        listed,
        shown,
        first,
        refused,
        queued,
        runs,
        updated,
        paused,
        resting,
        resumed,
        unsure,
        tried,
        gone,
        missing,
        preview,
    ) = told.many(walk)
    for column in ("nightly", "0 2 * * *", "Europe/Istanbul", "T02:00:00+03:00", "23:00Z"):
        assert column in listed.out
    assert shown.out.count("T02:00:00+03:00") >= 11
    assert first.json()["state"] == "enqueued"
    assert refused.code == 75
    assert "already" not in refused.out
    assert queued.code == 0
    assert [run["state"] for run in runs.json()] == ["waiting", "enqueued"]
    assert updated.json()["cron"] == "0 4 * * *"
    assert paused.code == 0
    assert [(each["name"], each["state"]) for each in resting.json() if not each["is_installation"]] == [
        ("nightly", "running")
    ], "a run that goes on ends by itself"
    assert resumed.code == 0
    assert (unsure.code, tried.code, gone.code, missing.code) == (2, 0, 0, 4)
    assert "Europe/Berlin" in preview.out
    assert "once per local day" in preview.out


def test_status_raises_the_alarm_within_a_minute(new_database: Callable[..., str], tmp_path: Path) -> None:
    url = new_database("migrated")
    told = migrated_command(lambda _template: url, tmp_path)
    worker = "'00000000-0000-0000-0000-00000000000{}'"
    run_sql(
        url,
        "SET ROLE outrider_engine; "
        "INSERT INTO workers (id, role, host, boot_id, pid, version, heartbeat_at) "
        f"VALUES ({worker.format(1)}, 'scheduler', 'h', 'b', 4711, 'x', now() - interval '40 seconds'); "
        "INSERT INTO schedules (tenant_id, name, job_type, cron, timezone, grace_s, jitter_s, handled_at, next_at, "
        f"due_at, created_by) VALUES ('{DEFAULT_TENANT}', 'nightly', 'import_contacts', '0 2 * * *', 'UTC', 60, 0, "
        "now() - interval '1 day', now() - interval '50 seconds', now() - interval '50 seconds', 'test'); "
        "INSERT INTO jobs (tenant_id, type, queue, state, max_attempts, timeout_s, created_by, run_at) VALUES "
        f"('{DEFAULT_TENANT}', 'import_contacts', 'import', 'enqueued', 3, 60, 'x', now() - interval '50 seconds')",
    )
    alarms = told.run("status", "--json").json()["alarms"]
    assert len(alarms) == 4, alarms
    assert alarms[0].startswith("no scheduler is alive")
    assert "scheduler 4711 on h stopped without a word" in alarms[1]
    assert "wait in queue import: no scheduler process is alive" in alarms[2]
    assert "schedule nightly" in alarms[3]
    assert told.run("status").out.count("ALARM: ") == 4
