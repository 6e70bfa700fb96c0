"""Dry runs, changes, undos and imports of suppressions over HTTP, taken by jobs."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from outrider.domain.contacts.imports import files
from outrider.domain.jobs import change
from outrider.engine.maintenance import imports
from tests.kit.api import TESTER, Api, Caller, api_of
from tests.kit.processes import until
from tests.kit.running import running_jobs

CSV = {"Content-Type": "text/csv"}
BODY = b"email,name\na@b.co,Ann\nb@b.co,Bob\nnobody,x\n"


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with api_of(migrated_url, data_dir=tmp_path / "data") as running:
        yield running


@pytest.fixture
async def caller(api: Api) -> Caller:
    return api.caller(await api.key("imports:write", "imports:read", "suppressions:read", role="operator"))


async def ended(api: Api, caller: Caller, query: str, body: bytes = BODY) -> Any:
    """The import when it has come to an end."""
    begun = await caller.post(f"/api/v1/imports{query}", data=body, headers=CSV)
    assert begun.status == 202, begun.text
    path = f"/api/v1/imports/{begun.json['id']}"

    async def is_over() -> bool:
        return bool((await caller.get(path)).json["state"] != "running")

    async with running_jobs(api.runtime):
        await until(is_over, what="the import to end")
    return (await caller.get(path)).json


async def test_a_dry_run_an_import_what_it_changed_and_its_undo(api: Api, caller: Caller) -> None:
    tried = await ended(api, caller, "?dry_run=true")
    done = await ended(api, caller, "")
    assert (tried["is_dry_run"], tried["created_count"], tried["rejected_by"]) == (True, 2, {"invalid_address": 1})
    assert (done["is_dry_run"], done["created_count"], done["rejected_by"]) == (False, 2, {"invalid_address": 1})
    path = f"/api/v1/imports/{done['id']}"
    first = (await caller.get(f"{path}/changes?limit=1&is_new=true")).json
    rest = (await caller.get(f"{path}/changes?cursor={first['next_cursor']}")).json
    assert [one["address"] for one in (*first["items"], *rest["items"])] == ["a@b.co", "b@b.co"]
    assert (await caller.get(f"/api/v1/imports/{tried['id']}/undo")).code == "not_undoable"
    assert (await caller.get(f"{path}/undo")).json == {"count": 2, "new_count": 2, "known_count": 0}
    assert (await caller.post(f"{path}/undo", {"count": 3})).code == "count_changed"
    begun = await caller.post(f"{path}/undo", {"count": 2, "reason": "wrong file"})
    assert (begun.status, begun.json["undo_state"]) == (202, "running")
    assert (await caller.post(f"{path}/undo", {"count": 2})).code == "undo_running"

    async def is_undone() -> bool:
        return bool((await caller.get(path)).json["undo_state"] == "completed")

    async with running_jobs(api.runtime):
        await until(is_undone, what="the import to be undone")
    async with api.engine() as uow:
        assert await uow.raw.fetchval("SELECT count(*) FROM contacts") == 0
    assert (await caller.get(path)).json["deleted_count"] == 2
    assert len((await caller.get(f"{path}/changes?outcome=deleted")).json["items"]) == 2


async def test_an_undo_whose_job_was_cancelled_before_it_began_can_be_begun_again(api: Api, caller: Caller) -> None:
    done = await ended(api, caller, "")
    path = f"/api/v1/imports/{done['id']}"
    begun = (await caller.post(f"{path}/undo", {"count": 2})).json
    async with api.app() as uow:
        await change.cancel(uow, TESTER, begun["undo_job_id"], "not now")
    await imports.settle(api.runtime)
    assert (await caller.get(path)).json["undo_state"] == "cancelled"
    again = (await caller.post(f"{path}/undo", {"count": 2})).json
    assert (again["undo_state"], again["undo_job_id"] != begun["undo_job_id"]) == ("running", True)


async def test_what_uploads_left_is_looked_for_again_while_the_api_runs(
    new_database: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files.KEPT_S + imports.EVERY_S <= 3600, "gone within the hour after its last byte"
    monkeypatch.setattr(imports, "EVERY_S", 0.05)
    folder = tmp_path / "imports"
    async with api_of(new_database("migrated"), data_dir=tmp_path) as running:
        assert (await running.caller().get("/health")).status == 200
        folder.mkdir(exist_ok=True)
        fresh, old = folder / "fresh.part", folder / "old.part"
        fresh.write_bytes(b"x")
        old.write_bytes(b"x")
        aged_s = time.time() - files.KEPT_S - 1
        os.utime(old, (aged_s, aged_s))
        await until(lambda: not old.exists(), what="the next look")
        assert fresh.exists(), "it may still be coming in"


async def test_suppressions_of_another_system_are_imported_and_cannot_be_undone(api: Api, caller: Caller) -> None:
    body = b"email,status,created\na@b.co,bounced,1704189600\nb@b.co,fine,\n"
    query = "?kind=suppressions&consent_source=old"
    done = await ended(api, caller, query, body)
    assert (done["kind"], done["created_count"], done["rejected_by"]) == ("suppressions", 1, {"unknown_reason": 1})
    (entry,) = (await caller.get("/api/v1/suppressions")).json["items"]
    assert (entry["address"], entry["reason"], entry["created_at"]) == (None, "hard_bounce", "2024-01-02T10:00:00Z")
    assert (await caller.get(f"/api/v1/imports/{done['id']}/undo")).code == "not_undoable"
    refused = await caller.post(f"/api/v1/imports{query}&list_id={done['id']}", data=body, headers=CSV)
    assert refused.code == "not_for_this"
