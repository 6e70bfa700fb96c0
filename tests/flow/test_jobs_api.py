"""Jobs and their queues over HTTP: looking, counting, changing one and many; statistics and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.domain.audit.listing import listed as audited
from outrider.domain.tenants import tenants
from outrider.interfaces.api import job_figures
from tests.kit.api import TESTER, Api, Caller, api_of
from tests.kit.job_rows import KIND, add, worker

JOBS = "/api/v1/jobs"


@pytest.fixture
async def api(new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setattr(job_figures, "_KEPT_S", 0.0)
    async with api_of(new_database("migrated")) as running:
        yield running


@pytest.fixture
async def operator(api: Api) -> Caller:
    await api.user("operator@example.org", "operator")
    return await api.signed_in("operator@example.org")


@pytest.fixture
async def root(api: Api) -> Caller:
    await api.user("root@example.org", "owner", is_installation_admin=True)
    return await api.signed_in("root@example.org")


async def make(api: Api, *states: str, **more: Any) -> list[str]:
    """Jobs in these states, oldest first."""
    async with api.engine() as uow:
        return [str(await add(uow, state=state, **more)) for state in states]


async def found(caller: Caller, query: str = "") -> list[str]:
    answer = await caller.get(f"{JOBS}{query}")
    assert answer.status == 200, answer.text
    return [item["id"] for item in answer.json["items"]]


async def entries(api: Api, action: str) -> list[Any]:
    async with api.app() as uow:
        return await audited(uow, limit=20, action=action)


async def test_jobs_are_found_by_the_words_of_three_vocabularies(api: Api, operator: Caller) -> None:
    waiting, running, failed, done, gone = await make(api, "enqueued", "processing", "failed", "succeeded", "deleted")
    words = {
        waiting: ("enqueued", "Enqueued", "waiting"),
        running: ("processing", "Processing", "active"),
        failed: ("failed", "Failed", "FAILED"),
        done: ("succeeded", "Succeeded", "completed"),
        gone: ("deleted", "Deleted", "removed"),
    }
    for job_id, names in words.items():
        for name in names:
            assert await found(operator, f"?state={name}") == [job_id], name
    assert await found(operator, "?state=failed&state=waiting") == [failed, waiting]
    assert await found(operator) == [gone, done, failed, running, waiting]
    wrong = await operator.get(f"{JOBS}?state=lost")
    assert (wrong.status, wrong.code, wrong.json["parameter"]) == (422, "unknown_state", "state")


async def test_jobs_are_found_by_type_queue_argument_text_and_time(api: Api, operator: Caller) -> None:
    async with api.engine() as uow:
        first = str(await add(uow, arguments={"campaign_id": "abc", "n": 7}))
        second = str(await add(uow, arguments={"campaign_id": "xyz"}, queue="export", error="disk FULL of it"))
    assert await found(operator, "?argument=campaign_id=abc") == [first]
    assert await found(operator, "?argument=campaign_id=abc&argument=n=7") == [first]
    assert await found(operator, '?argument=n="7"') == []
    assert await found(operator, "?queue=export") == [second]
    assert await found(operator, f"?type={KIND.key}") == [second, first]
    assert await found(operator, "?type=other") == []
    assert await found(operator, "?text=disk%20full") == [second]
    assert await found(operator, "?until=2020-01-01T00:00:00Z") == []
    assert await found(operator, "?since=2020-01-01T00:00:00Z") == [second, first]
    for query, field in (
        ("since=2020-01-01T00:00:00", "since"),
        ("argument=novalue", "argument"),
        ("argument=a=1&argument=a=2", "argument"),
    ):
        answer = await operator.get(f"{JOBS}?{query}")
        assert (answer.status, answer.json["parameter"]) == (422, field), query


async def test_a_list_of_jobs_is_paged_without_gap_or_repeat(api: Api, operator: Caller) -> None:
    made = await make(api, *["failed"] * 5)
    seen: list[str] = []
    cursor = ""
    for _page in range(3):
        answer = (await operator.get(f"{JOBS}?limit=2&cursor={cursor}")).json
        seen += [item["id"] for item in answer["items"]]
        cursor = answer["next_cursor"] or ""
    assert seen == made[::-1]
    assert not cursor
    assert (await operator.get(f"{JOBS}?cursor=nonsense")).code == "invalid_cursor"


async def test_a_job_is_shown_with_progress_rate_estimate_and_history(api: Api, operator: Caller) -> None:
    (running,) = await make(api, "processing")
    shown = (await operator.get(f"{JOBS}/{running}")).json
    progress = shown["job"]["progress"]
    assert (progress["done"], progress["total"]) == (500, 2000)
    assert progress["rate_per_s"] == pytest.approx(10, rel=0.1)
    assert progress["finish_at"] is not None
    assert [change["state"] for change in shown["history"]] == ["enqueued", "processing"]
    assert (await operator.get(f"{JOBS}/{uuid4()}")).status == 404
    assert (await operator.get(f"{JOBS}/not-an-id")).status == 404


async def test_a_failed_job_is_put_back_with_the_runbooks_reason_and_audited(api: Api, operator: Caller) -> None:
    failed, done = await make(api, "failed", "succeeded")
    answer = await operator.post(f"{JOBS}/{failed}/retry", {})
    assert (answer.status, answer.json["ids"]) == (200, [failed])
    job = (await operator.get(f"{JOBS}/{failed}")).json["job"]
    assert (job["state"], job["reason"], job["attempt"], job["error"]) == ("enqueued", "Manual retry", 0, None)
    again = await operator.post(f"{JOBS}/{failed}/retry", {})
    refused = await operator.post(f"{JOBS}/{done}/retry", {})
    assert [(one.status, one.code) for one in (again, refused)] == [(409, "wrong_state")] * 2
    (entry,) = await entries(api, "job.requeue")
    assert (entry.actor, entry.target_id, entry.reason) == ("operator@example.org", failed, "Manual retry")


async def test_cancelling_ends_what_waits_and_asks_what_runs(api: Api, operator: Caller) -> None:
    waiting, running = await make(api, "enqueued", "processing")
    gone = (await operator.post(f"{JOBS}/{waiting}/cancel", {"reason": "wrong month"})).json
    asked = (await operator.post(f"{JOBS}/{running}/cancel", {"reason": "wrong month"})).json
    assert (gone["ids"], gone["asked"]) == ([waiting], [])
    assert (asked["ids"], asked["asked"]) == ([], [running])
    job = (await operator.get(f"{JOBS}/{waiting}")).json["job"]
    assert (job["state"], job["reason"]) == ("deleted", "cancelled: wrong month")
    job = (await operator.get(f"{JOBS}/{running}")).json["job"]
    assert (job["state"], job["cancel_by"]) == ("processing", "operator@example.org")


async def test_many_are_changed_only_with_the_count_that_was_seen(api: Api, operator: Caller) -> None:
    made = await make(api, "failed", "failed", "succeeded", "processing")
    wanted = {"filter": {"type": [KIND.key]}, "reason": "clearing"}
    counted = (await operator.get(f"{JOBS}/count?type={KIND.key}")).json
    assert counted == {"count": 4, "requeue": 2, "cancel": 1, "delete": 3}
    asked = await operator.post(f"{JOBS}/delete", wanted)
    assert (asked.status, asked.code) == (409, "count_required")
    assert "count=3" in asked.json["detail"]
    wrong = await operator.post(f"{JOBS}/delete", {**wanted, "count": 2})
    assert (wrong.status, wrong.code) == (409, "count_changed")
    done = await operator.post(f"{JOBS}/delete", {**wanted, "count": 3})
    assert (done.json["count"], set(done.json["ids"])) == (3, set(made[:3]))
    (entry,) = await entries(api, "job.delete")
    assert (entry.reason, entry.details["count"], set(entry.details["ids"])) == ("clearing", 3, set(made[:3]))
    states = {item["id"]: item["state"] for item in (await operator.get(JOBS)).json["items"]}
    assert [states[job_id] for job_id in made] == ["deleted"] * 3 + ["processing"]


async def test_chosen_jobs_are_changed_each_for_itself(api: Api, operator: Caller) -> None:
    failed, done = await make(api, "failed", "succeeded")
    nobody = str(uuid4())
    answer = (await operator.post(f"{JOBS}/retry", {"ids": [failed, done, nobody, failed]})).json
    assert (answer["count"], answer["ids"]) == (1, [failed])
    assert {each["id"]: each["code"] for each in answer["not_changed"]} == {done: "wrong_state", nobody: "not_found"}
    refused: tuple[dict[str, Any], ...] = ({}, {"ids": [failed], "filter": {}}, {"ids": []})
    for wrong in refused:
        assert (await operator.post(f"{JOBS}/retry", wrong)).status == 422


async def test_another_tenants_jobs_are_neither_found_nor_changed(api: Api, operator: Caller) -> None:
    async with api.engine(None) as uow:
        other = await tenants.create(uow, TESTER, "other")
    async with api.engine(other.id) as uow:
        theirs = await add(uow)
    async with api.engine(NIL) as uow:
        ours = await add(uow)
    for job_id in (theirs, ours):
        assert (await operator.get(f"{JOBS}/{job_id}")).status == 404
        assert (await operator.post(f"{JOBS}/{job_id}/retry", {})).status == 404
    assert (await operator.post(f"{JOBS}/retry", {"filter": {}, "count": 2})).code == "count_changed"
    assert (await operator.get(f"{JOBS}?is_installation=true")).status == 403


async def test_the_installations_jobs_belong_to_its_administrators(api: Api, root: Caller) -> None:
    async with api.engine(NIL) as uow:
        ours = str(await add(uow))
    assert await found(root, "?is_installation=true") == [ours]
    assert await found(root) == []
    assert (await root.post(f"{JOBS}/{ours}/retry?is_installation=true", {})).status == 200
    many = {"filter": {"state": ["Enqueued"]}, "count": 1, "is_installation": True}
    assert (await root.post(f"{JOBS}/cancel", many)).json["ids"] == [ours]


async def test_a_queue_is_paused_limited_drained_and_opened_again(api: Api, root: Caller, operator: Caller) -> None:
    paused = (await root.post("/api/v1/queues/report/pause", {"reason": "disk"})).json
    assert (paused["pause_reason"], paused["paused_by"]) == ("disk", "root@example.org")
    closed = (await root.post("/api/v1/queues/report/drain", {})).json
    assert closed["closed_at"] is not None
    with pytest.raises(Refused, match="takes no jobs"):
        await make(api, "enqueued")
    seen = {queue["name"]: queue for queue in (await operator.get("/api/v1/queues")).json["items"]}
    assert (seen["report"]["is_paused"], seen["report"]["is_closed"]) == (True, True)
    assert seen["report"]["paused_by"] == "installation", "tenants do not learn of the installation's people"
    limited = (await root.put("/api/v1/queues/report/concurrency", {"concurrency": 3})).json
    assert (limited["concurrency"], limited["worker_concurrency"]) == (3, None)
    both = (await root.put("/api/v1/queues/report/concurrency", {"worker_concurrency": 2})).json
    assert (both["concurrency"], both["worker_concurrency"]) == (3, 2)
    none = (await root.put("/api/v1/queues/report/concurrency", {"concurrency": None})).json
    assert (none["concurrency"], none["worker_concurrency"]) == (None, 2)
    opened = (await root.post("/api/v1/queues/report/resume", {})).json
    assert (opened["paused_at"], opened["closed_at"]) == (None, None)
    assert len(await make(api, "enqueued")) == 1
    for path, body, status in (
        ("/api/v1/queues/nowhere/pause", {}, 404),
        ("/api/v1/queues/report/pause", {"reason": "two\nlines"}, 422),
    ):
        assert (await root.post(path, body)).status == status
    assert (await root.put("/api/v1/queues/report/concurrency", {"concurrency": 0})).status == 422
    assert (await operator.post("/api/v1/queues/report/pause", {})).status == 403


async def test_the_runbooks_statistics_are_told_in_its_words_without_sign_in(api: Api) -> None:
    async with api.engine() as uow:
        await worker(uow)
    await make(api, "enqueued", "processing", "failed", "failed", "succeeded", "deleted", "scheduled")
    stats = (await api.caller().get("/hangfire/stats")).json
    assert stats["servers"] == 1
    words = ("enqueued", "processing", "failed", "succeeded", "deleted", "scheduled")
    assert [stats[word] for word in words] == [1, 1, 2, 1, 1, 1]
    (report,) = [queue for queue in stats["by_queue"] if queue["queue"] == "report"]
    assert (report["enqueued"], report["processing"], report["failed"]) == (1, 1, 2)
    queue = (await api.caller().get("/api/v1/queue/stats")).json
    (report,) = [each for each in queue["jobs"] if each["queue"] == "report"]
    assert (report["waiting"], report["active"], report["delayed"], report["failed"]) == (1, 1, 1, 2)


async def test_statistics_need_a_key_from_other_networks(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated"), metrics_networks=["192.0.2.0/24"]) as closed:
        assert (await closed.caller().get("/hangfire/stats")).status == 401
        key = await closed.key("queue:read", role="viewer")
        assert (await closed.caller(key).get("/hangfire/stats")).status == 200


async def test_jobs_are_counted_as_metrics(api: Api, root: Caller) -> None:
    await make(api, "enqueued", "processing", "failed")
    await root.post("/api/v1/queues/report/pause", {})
    families = text_string_to_metric_families((await api.caller().get("/metrics")).text)
    values = {
        (sample.name, *(value for name, value in sorted(sample.labels.items()) if name != "app")): sample.value
        for family in families
        for sample in family.samples
    }
    assert values["outrider_jobs", "report", "enqueued"] == 1
    assert values["outrider_jobs", "report", "processing"] == 1
    assert values["outrider_jobs", "report", "failed"] == 1
    assert values["queue_size", "report"] == 2
    assert values["outrider_job_queue_paused", "report"] == 1
    assert values["outrider_job_queue_oldest_age_seconds", "report"] >= 0
    assert values["outrider_job_workers",] == 0


async def test_jobs_that_no_process_can_run_are_counted(api: Api) -> None:
    (waiting,) = await make(api, "enqueued")
    async with api.engine() as uow:
        await uow.raw.execute(
            "UPDATE jobs SET waiting_since = now() - interval '1 minute' WHERE id = $1", UUID(waiting)
        )
    text = (await api.caller().get("/metrics")).text
    assert f'outrider_jobs_stranded{{app="outrider",queue="report",type="{KIND.key}"}} 1.0' in text
    assert (await api.caller().get("/hangfire/stats")).json["stranded"] == 1
    async with api.engine() as uow:
        await worker(uow)
    assert (await api.caller().get("/hangfire/stats")).json["stranded"] == 0
