"""Jobs and queues from the command line: on the database itself, with no API and no scheduler running."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from outrider.base.ids import DEFAULT_TENANT, NIL
from outrider.contracts.outcome import CAUSES
from outrider.data.db import UnitOfWork
from outrider.plugins.jobs.audit_heads import JOB as AUDIT_HEADS
from tests.kit.command import Command, Done, migrated_command
from tests.kit.job_rows import KIND, add, at, state_of, worker


@pytest.fixture
def outrider(new_database: Callable[..., str], tmp_path: Path) -> Command:
    """A command on a migrated database; nothing else runs."""
    return migrated_command(new_database, tmp_path).with_(OUTRIDER_SCHEDULER_HEALTH_PORT="0")


def _url(outrider: Command) -> str:
    return outrider.environment["OUTRIDER_DATABASE_URL"]


def _made(outrider: Command, *states: str, tenant_id: UUID | None = None, **more: Any) -> list[UUID]:
    async def make(uow: UnitOfWork) -> list[UUID]:
        return [await add(uow, state=state, **more) for state in states]

    return at(_url(outrider), make) if tenant_id is None else at(_url(outrider), make, tenant_id=tenant_id)


def _ok(done: Done) -> Any:
    assert done.code == 0, done
    return json.loads(done.out)


def test_a_failed_job_is_put_back_while_everything_is_down(outrider: Command) -> None:
    (failed,) = _made(outrider, "failed")
    unasked = outrider.run("jobs", "retry", str(failed))
    assert (unasked.code, "needs confirmation" in unasked.err) == (2, True)
    assert str(failed) in unasked.err, "the question names the job"
    assert state_of(_url(outrider), failed)[0] == "failed"
    done = outrider.run("jobs", "retry", str(failed), "--yes")
    assert done.code == 0, done
    assert "no scheduler is alive" in done.out
    assert state_of(_url(outrider), failed) == ("enqueued", "Manual retry")
    (entry,) = outrider.run("audit", "list", "--action", "job.requeue", "--json").json()
    assert (entry["target_id"], entry["reason"]) == (str(failed), "Manual retry")
    assert entry["actor"].startswith("cli:")


def test_only_failed_jobs_are_put_back_and_deleted_ones_when_named_so(outrider: Command) -> None:
    jobs = _made(outrider, "succeeded", "processing", "enqueued", "scheduled", "deleted")
    refused = outrider.many([("jobs", "retry", str(job), "--yes") for job in jobs])
    assert [done.code for done in refused] == [75] * 5
    assert all("not failed" in done.err for done in refused)
    states = [state_of(_url(outrider), job)[0] for job in jobs]
    assert states == ["succeeded", "processing", "enqueued", "scheduled", "deleted"]
    back, unknown, nonsense = outrider.many(
        [
            ("jobs", "retry", str(jobs[-1]), "--deleted", "--yes", "--reason", "too early", "--json"),
            ("jobs", "retry", str(uuid4()), "--yes"),
            ("jobs", "retry", "17", "--yes"),
        ]
    )
    assert _ok(back)["ids"] == [str(jobs[-1])]
    assert state_of(_url(outrider), jobs[-1]) == ("enqueued", "too early")
    assert (unknown.code, nonsense.code) == (4, 4)


def test_many_are_asked_about_with_their_count_first(outrider: Command) -> None:
    jobs = _made(outrider, "failed", "failed", "failed", "succeeded")
    (other,) = _made(outrider, "failed", queue="export")
    asked, tried, done, again = outrider.many(
        [
            ("jobs", "delete", "--all", "--state", "Failed", "--queue", "report"),
            ("jobs", "delete", "--all", "--state", "Failed", "--queue", "report", "--dry-run", "--json"),
            ("jobs", "delete", "--all", "--state", "Failed", "--queue", "report", "--yes", "--json"),
            ("jobs", "delete", "--all", "--state", "Failed", "--queue", "report", "--yes", "--json"),
        ]
    )
    assert (asked.code, "3 job(s)" in asked.err) == (2, True)
    assert _ok(tried)["count"] == 3
    assert set(_ok(done)["ids"]) == {str(job) for job in jobs[:3]}
    assert _ok(again)["count"] == 0
    assert state_of(_url(outrider), jobs[3])[0] == "succeeded"
    assert state_of(_url(outrider), other)[0] == "failed"
    entries = outrider.run("audit", "list", "--action", "job.delete", "--json").json()
    listed = {job for entry in entries for job in entry["details"]["ids"]}
    assert listed == {str(job) for job in jobs[:3]}, "what was deleted is written down"


def test_jobs_are_named_or_all_is_said_never_both_or_neither(outrider: Command) -> None:
    (failed,) = _made(outrider, "failed")
    lines = [
        ("jobs", "delete", "--yes"),
        ("jobs", "delete", "--state", "failed", "--yes"),
        ("jobs", "delete", str(failed), "--all", "--yes"),
        ("jobs", "delete", str(failed), "--state", "failed", "--yes"),
        ("jobs", "list", "--state", "lost"),
        ("jobs", "list", "--since", "yesterday"),
        ("jobs", "list", "--tenant", "default", "--installation"),
    ]
    assert [done.code for done in outrider.many(lines)] == [2] * len(lines)
    assert state_of(_url(outrider), failed)[0] == "failed"


def test_of_named_jobs_those_that_cannot_be_changed_are_left_and_told(outrider: Command) -> None:
    failed, done = _made(outrider, "failed", "succeeded")
    answer = _ok(outrider.run("jobs", "retry", str(failed), str(done), "--yes", "--json"))
    assert answer["ids"] == [str(failed)]
    assert [each["id"] for each in answer["not_changed"]] == [str(done)]


def test_a_running_job_is_asked_to_end_and_a_waiting_one_ends_at_once(outrider: Command) -> None:
    waiting, running = _made(outrider, "enqueued", "processing")
    answer = _ok(outrider.run("jobs", "cancel", str(waiting), str(running), "--reason", "stop", "--yes", "--json"))
    assert (answer["ids"], answer["asked"]) == ([str(waiting)], [str(running)])
    assert state_of(_url(outrider), waiting) == ("deleted", "cancelled: stop")
    assert state_of(_url(outrider), running)[0] == "processing"
    shown = outrider.run("jobs", "show", str(running))
    assert "asked for at" in shown.out


def test_jobs_are_listed_and_shown_in_words_and_as_data(outrider: Command) -> None:
    failed, running = _made(outrider, "failed", "processing", arguments={"campaign_id": "abc"})
    (ours,) = _made(outrider, "failed", tenant_id=NIL)
    listed, waiting, table, shown, data, missing, own, counted = outrider.many(
        [
            ("jobs", "list", "--argument", "campaign_id=abc", "--json"),
            ("jobs", "list", "--state", "active", "--state", "Enqueued", "--json"),
            ("jobs", "list"),
            ("jobs", "show", str(running)),
            ("jobs", "show", str(failed), "--json"),
            ("jobs", "show", str(ours)),
            ("jobs", "list", "--installation", "--json"),
            ("jobs", "stats", "--json"),
        ]
    )
    assert [job["id"] for job in _ok(listed)] == [str(running), str(failed)]
    assert [job["id"] for job in _ok(waiting)] == [str(running)]
    assert "the sums do not add up" in table.out
    assert "1 min 30 s" in table.out
    assert "500 of 2,000, 10.0/s" in shown.out
    assert "Hangfire Processing, BullMQ active" in shown.out
    assert [change["state"] for change in _ok(data)["history"]] == ["enqueued", "failed"]
    assert missing.code == 4
    assert [job["id"] for job in _ok(own)] == [str(ours)]
    assert _ok(counted) == [
        {"queue": "report", "scheduled": 0, "enqueued": 0, "processing": 1, "succeeded": 0, "failed": 1, "deleted": 0}
    ]


def test_following_a_job_ends_with_it(outrider: Command) -> None:
    (running,) = _made(outrider, "processing")
    with outrider.start("jobs", "show", str(running), "--follow", "--json") as process:

        async def end(uow: UnitOfWork) -> None:
            await uow.raw.execute("UPDATE jobs SET state = 'succeeded', finished_at = now() WHERE id = $1", running)

        at(_url(outrider), end)
        out, err = process.communicate(timeout=180)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["state"] == "succeeded"


def test_a_queue_is_paused_limited_and_opened_from_the_command_line(outrider: Command) -> None:
    _made(outrider, "enqueued", "failed")
    paused, limited, none, status, resumed, unknown, neither, nothing = outrider.many(
        [
            ("queue", "pause", "report", "export", "--reason", "disk", "--json"),
            ("queue", "concurrency", "report", "--total", "4", "--per-process", "2", "--json"),
            ("queue", "concurrency", "report", "--unlimited", "--total", "9", "--json"),
            ("queue", "status", "--json"),
            ("queue", "resume", "--all", "--json"),
            ("queue", "pause", "report", "nowhere"),
            ("queue", "pause"),
            ("queue", "concurrency", "report"),
        ]
    )
    assert [queue["pause_reason"] for queue in _ok(paused)] == ["disk", "disk"]
    assert (_ok(limited)["concurrency"], _ok(limited)["worker_concurrency"]) == (4, 2)
    assert (_ok(none)["concurrency"], _ok(none)["worker_concurrency"]) == (9, None)
    (report,) = [queue for queue in _ok(status)["jobs"] if queue["queue"] == "report"]
    assert (report["state"], report["waiting"], report["failed_24h"]) == ("paused", 1, 1)
    assert all(queue["paused_at"] is None for queue in _ok(resumed))
    assert (unknown.code, neither.code, nothing.code) == (4, 2, 2)
    assert outrider.run("queue", "status", "--json").json()["jobs"][0]["state"] == "open", "all or none"
    entries = outrider.run("audit", "list", "--installation", "--action", "queue.pause", "--json").json()
    assert {entry["target_id"] for entry in entries} == {"report", "export"}


def test_a_drain_waits_for_what_can_be_finished_and_reports_what_is_held(outrider: Command) -> None:
    async def begin(uow: UnitOfWork) -> UUID:
        await worker(uow)
        # however long the commands below take, it is alive
        await uow.raw.execute("UPDATE job_workers SET heartbeat_at = now() + interval '10 minutes'")
        await add(uow, state="scheduled")
        await add(uow, state="enqueued", queue="export")
        return await add(uow, state="processing")

    running = at(_url(outrider), begin)
    outrider.run("queue", "pause", "export")
    late = outrider.run("queue", "drain", "report", "--time-limit", "1", "--json")
    assert late.code == 1
    assert late.json()["is_drained"] is False
    with outrider.start("queue", "drain", "report", "export") as process:

        async def end(uow: UnitOfWork) -> None:
            await uow.raw.execute("UPDATE jobs SET state = 'succeeded', finished_at = now() WHERE id = $1", running)

        at(_url(outrider), end)
        out, err = process.communicate(timeout=180)
    assert (process.returncode, err) == (0, ""), out
    assert "drained" in out
    held = [line.split() for line in out.splitlines() if line.startswith(("report", "export"))]
    assert ["export", "paused,", "closed", "1", "0", "0"] in held
    assert ["report", "closed", "0", "0", "1"] in held
    closed = {queue["queue"]: queue["state"] for queue in outrider.run("queue", "status", "--json").json()["jobs"]}
    assert (closed["report"], closed["export"], closed["import"]) == ("closed", "paused, closed", "open")


def test_a_drain_with_nobody_at_work_ends_at_once(outrider: Command) -> None:
    _made(outrider, "enqueued")
    tried, done = outrider.many([("queue", "drain", "--dry-run", "--json"), ("queue", "drain")])
    assert _ok(tried)["queues"]
    assert done.code == 0
    assert "no scheduler is alive" in done.out
    assert "pause installation" in done.out, "messages go on being sent"
    states = {queue["state"] for queue in outrider.run("queue", "status", "--json").json()["jobs"]}
    assert states == {"closed"}


def test_a_drain_of_everything_waits_for_messages_on_the_wire_while_sending_is_paused(outrider: Command) -> None:
    async def queue(uow: UnitOfWork) -> None:
        lane = await uow.raw.fetchval(
            "INSERT INTO lanes (tenant_id, channel, sender_id, message_class) "
            "VALUES ($1, 'email', $1, 'bulk') RETURNING id",
            uow.tenant,
        )
        for state in (0, 1, 5):
            await uow.raw.execute(
                "INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state) "
                "VALUES ($1, $2, $3, now(), 5, $4)",
                uow.tenant, uuid4(), lane, state,
            )  # fmt: skip

    at(_url(outrider), queue)
    outrider.run("pause", "installation")
    with outrider.start("queue", "drain", "--json") as process:

        async def landed(uow: UnitOfWork) -> None:
            await uow.raw.execute("DELETE FROM queue WHERE state = 1")

        at(_url(outrider), landed)
        out, _err = process.communicate(timeout=180)
    assert process.returncode == 0
    assert json.loads(out)["messages"] == {"queued": 1, "held": 1}


def test_status_tells_whose_messages_nobody_can_work_on(outrider: Command) -> None:
    async def wait(uow: UnitOfWork) -> None:
        lane = await uow.raw.fetchval(
            "INSERT INTO lanes (tenant_id, channel, sender_id, message_class) "
            "VALUES ($1, 'email', gen_random_uuid(), 'bulk') RETURNING id", DEFAULT_TENANT,
        )  # fmt: skip
        await uow.raw.execute(
            "INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state, attempt, attempted_at, "
            "reason) SELECT $1, gen_random_uuid(), $2, now() + interval '1 hour', 5, 4, 1, now(), reason "
            "FROM unnest(ARRAY['sender_unusable', 'sender_unusable', 'server_deferred']) reason", DEFAULT_TENANT, lane,
        )  # fmt: skip

    async def mended(uow: UnitOfWork) -> None:
        await uow.raw.execute("DELETE FROM queue WHERE reason IS NOT NULL")

    at(_url(outrider), wait)
    said = outrider.run("status").out
    at(_url(outrider), mended)
    (line,) = [line for line in said.splitlines() if "cannot be worked on" in line]
    assert line.startswith("ALARM: sender ")
    assert f"(tenant {DEFAULT_TENANT}): 2 message(s)" in line
    assert line.endswith(CAUSES["sender_unusable"].why)
    assert "cannot be worked on" not in outrider.run("status").out


def test_status_shows_queues_workers_and_what_is_stranded(outrider: Command) -> None:
    async def begin(uow: UnitOfWork) -> None:
        waiting = await add(uow, state="enqueued")
        await uow.raw.execute("UPDATE jobs SET waiting_since = now() - interval '1 minute' WHERE id = $1", waiting)

    at(_url(outrider), begin)
    data, text = outrider.many([("status", "--json"), ("status",)])
    (stranded,) = _ok(data)["stranded"]
    assert (stranded["queue"], stranded["type"], stranded["count"]) == ("report", KIND.key, 1)
    assert _ok(data)["job_workers"] == []
    assert f"ALARM: 1 {KIND.key} job(s) wait in queue report" in text.out
    at(_url(outrider), worker)
    after = _ok(outrider.run("status", "--json"))
    assert (after["stranded"], [each["state"] for each in after["job_workers"]]) == ([], ["running"])


def test_what_was_put_back_while_all_was_down_is_done_when_a_scheduler_starts(outrider: Command) -> None:
    async def fail(uow: UnitOfWork) -> UUID:
        return await add(uow, state="failed", kind=AUDIT_HEADS)

    failed = at(_url(outrider), fail, tenant_id=NIL)
    retried = outrider.run("jobs", "retry", str(failed), "--installation", "--yes")
    assert "no scheduler is alive" in retried.out
    with outrider.start("scheduler", stderr=subprocess.DEVNULL) as scheduler:
        try:
            assert scheduler.stdout is not None
            assert scheduler.stdout.readline().startswith("ready: ")
            followed, listed, status, doctor, drained = outrider.many(
                [
                    ("jobs", "show", str(failed), "--installation", "--follow", "--json"),
                    ("jobs", "list", "--installation", "--state", "Succeeded", "--json"),
                    ("status", "--json"),
                    ("doctor", "--json"),
                    ("queue", "drain", "--time-limit", "60", "--json"),
                ]
            )
        finally:
            scheduler.send_signal(signal.SIGTERM)
            assert scheduler.wait(60) == 0
    job = _ok(followed)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    assert [change["state"] for change in job["history"]] == [
        "enqueued", "failed", "enqueued", "processing", "succeeded",
    ]  # fmt: skip
    assert str(failed) in {each["id"] for each in _ok(listed)}
    assert [each["state"] for each in _ok(status)["job_workers"]] == ["running"]
    verdicts = {finding["subject"]: finding["verdict"] for finding in json.loads(doctor.out)["findings"]}
    assert verdicts["schedulers"] == "ok"
    assert _ok(drained)["is_drained"] is True


def test_doctor_warns_when_nobody_runs_jobs(outrider: Command) -> None:
    findings = {finding["subject"]: finding for finding in outrider.run("doctor", "--json").json()["findings"]}
    assert findings["schedulers"]["verdict"] == "warn"
    assert "outrider scheduler" in findings["schedulers"]["remedy"]
