"""Imports over HTTP: a file goes in as the body, its progress and refused rows come out, files do not stay."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.contacts import attributes, lists, read
from outrider.domain.contacts.imports import control, merge
from outrider.domain.contacts.imports import run as run_module
from outrider.domain.contacts.imports.examine import examine
from outrider.domain.contacts.imports.files import ImportFiles
from outrider.domain.contacts.imports.options import Options
from outrider.domain.jobs import change, search
from outrider.interfaces.api.application import create_app
from tests.kit.api import TESTER, Answer, Api, Caller, api_of, raw, runtime_for
from tests.kit.processes import until
from tests.kit.running import running_jobs

CSV = {"Content-Type": "text/csv"}


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with api_of(migrated_url, data_dir=tmp_path / "data") as running:
        yield running


@pytest.fixture
async def jobs(api: Api) -> AsyncIterator[None]:
    async with running_jobs(api.runtime):
        yield


@pytest.fixture
async def importer(api: Api) -> Caller:
    return api.caller(await api.key("imports:write", "imports:read", role="operator"))


def files_of(api: Api) -> list[Path]:
    folder = api.runtime.settings.data_dir / "imports"
    return sorted(folder.iterdir()) if folder.exists() else []


async def ended(caller: Caller, import_id: str) -> Any:
    """The import when it has come to an end."""
    path = f"/api/v1/imports/{import_id}"

    async def is_over() -> bool:
        return bool((await caller.get(path)).json["state"] != "running")

    await until(is_over, what="the import to end")
    return (await caller.get(path)).json


async def upload(caller: Caller, body: str | bytes, query: str = "") -> Answer:
    data = body.encode() if isinstance(body, str) else body
    return await caller.post(f"/api/v1/imports{query}", data=data, headers=CSV)


async def test_a_file_is_accepted_examined_and_imported_in_the_background(
    api: Api, importer: Caller, jobs: None
) -> None:
    async with api.app() as uow:
        news = await lists.create(uow, TESTER, "News")
    body = "E-Mail;Vorname;Consent\n" + "".join(f"p{n}@example.org;P{n};yes\n" for n in range(300)) + "bad;x;maybe\n"
    query = f"?list_id={news.id}&consent_source=form&file_name=Leute.csv&map=Vorname%3Dname"
    answer = await upload(importer, body, query)
    assert answer.status == 202, answer.text
    found = await ended(importer, answer.json["id"])
    assert (found["state"], found["created_count"], found["rejected_count"]) == ("completed", 300, 1)
    assert found["file_name"] == "Leute.csv"
    assert [column["target"] for column in found["plan"]["columns"]] == ["address", "name", "consent"]
    async with api.app() as uow:
        assert (await lists.get(uow, news.id)).member_count == 300
    errors = (await importer.get(f"/api/v1/imports/{found['id']}/errors?limit=1")).json
    assert errors["items"][0]["line"] == 302
    rest = await importer.get(f"/api/v1/imports/{found['id']}/errors?limit=1&cursor={errors['next_cursor']}")
    assert rest.json["items"][0]["code"] == "bad_consent"
    assert (await importer.get("/api/v1/imports")).json["items"][0]["id"] == found["id"]
    assert files_of(api) == []


async def test_a_file_can_be_examined_without_anything_being_stored(api: Api, importer: Caller) -> None:
    answer = await importer.post("/api/v1/imports/examine", data=b" E-Mail \tName\na@b.co\tAnn\nno\tBob\n", headers=CSV)
    assert answer.status == 200, answer.text
    assert answer.json["delimiter"] == "\t"
    assert answer.json["columns"][0] == {"header": "E-Mail", "target": "address", "holds": None}
    assert answer.json["examples"] == [["a@b.co", "Ann"], ["no", "Bob"]]
    assert (answer.json["row_count"], answer.json["problems"][0]["line"]) == (2, 3)
    assert files_of(api) == []
    async with api.engine() as uow:
        assert await uow.raw.fetchval("SELECT (SELECT count(*) FROM imports) + (SELECT count(*) FROM audit_log)") == 1
    # the one entry is the key's


async def test_columns_are_examined_and_read_by_what_the_tenant_defined(api: Api, importer: Caller, jobs: None) -> None:
    async with api.app() as uow:
        await attributes.define(uow, TESTER, "born", attributes.NewDefinition("date"))
    body = 'Kontakt,Born,Tags\na@b.co,01/02/1990,"VIP, new"\nb@b.co,13/13/1990,\n'
    proposed = await importer.post("/api/v1/imports/examine", data=body.encode(), headers=CSV)
    assert (proposed.status, proposed.code) == (422, "no_address_column")
    assert "Kontakt=address" in proposed.json["detail"]
    query = "?map=Kontakt%3Daddress&dates=day_first"
    shown = await importer.post(f"/api/v1/imports/examine{query}", data=body.encode(), headers=CSV)
    assert shown.json["columns"][1:] == [
        {"header": "Born", "target": "attribute:born", "holds": {"type": "date", "choices": []}},
        {"header": "Tags", "target": "tags", "holds": None},
    ]
    assert [(one["line"], one["code"]) for one in shown.json["problems"]] == [(3, "wrong_type")]
    view = await ended(importer, (await upload(importer, body, query)).json["id"])
    assert (view["created_count"], view["rejected_count"]) == (1, 1)
    async with api.app() as uow:
        ann = await read.by_address(uow, api.runtime.channels, "email", "a@b.co")
    assert ann is not None
    assert (ann.attributes, ann.tags) == ({"born": "1990-02-01"}, ["new", "vip"])


@pytest.mark.parametrize(
    ("body", "query", "code"),
    [
        (b"", "", "empty"),
        (b"name\nAnn\n", "", "bad_header"),
        (b"email\na@b.co\n", "?list_id=00000000-0000-0000-0000-0000000000ff", "not_found"),
        (b"email\na@b.co\n", "?list_id=x", "not_found"),
        (b"email\na@b.co\n", "?consent=granted", "required"),
        (b"email\na@b.co\n", "?consent=maybe", "invalid_parameter"),
        (b"email\na@b.co\n", "?channel=fax", "unknown_channel"),
        (b"email\na@b.co\n", "?map=email", "bad_mapping"),
        (b"email\na@b.co\n", "?map=email%3Dtenant_id", "bad_mapping"),
    ],
)
async def test_what_cannot_be_imported_is_refused_and_no_file_stays(
    api: Api, importer: Caller, body: bytes, query: str, code: str
) -> None:
    answer = await upload(importer, body, query)
    assert answer.status in {404, 422}
    if code != "invalid_parameter":
        assert answer.code == code
    assert files_of(api) == []
    async with api.engine() as uow:
        assert await uow.raw.fetchval("SELECT count(*) FROM imports") == 0


async def test_an_upload_that_ends_half_way_imports_nothing(api: Api, importer: Caller) -> None:
    head = (
        "POST /api/v1/imports HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 1000\r\n"
        f"Authorization: {importer.headers['Authorization']}\r\n\r\n"
    )
    await raw(api.url, head.encode(), b"email\na@b.co\n", bound_s=0.5)
    await until(lambda: not files_of(api), what="the file to go")
    async with api.engine() as uow:
        assert await uow.raw.fetchval("SELECT count(*) FROM imports") == 0


async def test_a_body_of_another_type_is_refused(importer: Caller) -> None:
    for kind in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = await importer.post("/api/v1/imports", data=b"email\na@b.co\n", headers={"Content-Type": kind})
        assert (answer.status, answer.code) == (415, "unsupported_media_type")


async def test_the_report_of_refused_rows_is_csv_that_no_spreadsheet_calculates(importer: Caller, jobs: None) -> None:
    answer = await upload(importer, 'email\n=cmd|x\n"@SUM(1)"\n')
    found = await ended(importer, answer.json["id"])
    report = await importer.get(f"/api/v1/imports/{found['id']}/errors.csv")
    assert report.headers["Content-Type"].startswith("text/csv")
    assert report.headers["Content-Disposition"].startswith("attachment;")
    lines = report.text.splitlines()
    assert lines[0] == "line,field,code,message,value"
    assert lines[1].endswith(",'=cmd|x")
    assert lines[2].endswith(",'@SUM(1)")


async def test_a_running_import_is_cancelled(
    api: Api, importer: Caller, jobs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "BATCH_ROWS", 1)
    answer = await upload(importer, "email\n" + "".join(f"p{n}@b.co\n" for n in range(5_000)))
    cancelled = await importer.post(f"/api/v1/imports/{answer.json['id']}/cancel")
    assert (cancelled.status, cancelled.json["state"]) == (200, "cancelled")
    await until(lambda: not files_of(api), what="the file to go")
    found = (await importer.get(f"/api/v1/imports/{answer.json['id']}")).json
    assert found["row_count"] < 5_000
    again = await importer.post(f"/api/v1/imports/{found['id']}/cancel")
    assert again.json["row_count"] == found["row_count"]


async def test_files_are_private_and_have_names_of_our_own(
    api: Api, importer: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "BATCH_ROWS", 1)
    old = os.umask(0)
    try:
        answer = await upload(importer, "email\n" + "".join(f"p{n}@b.co\n" for n in range(3_000)), "?file_name=../../x")
        (path,) = files_of(api)
        assert path.name == f"{DEFAULT_TENANT}-{answer.json['id']}.csv"
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(old)
    await importer.post(f"/api/v1/imports/{answer.json['id']}/cancel")


async def test_an_import_is_recorded_with_its_job_or_not_at_all(api: Api, importer: Caller) -> None:
    answer = await upload(importer, "email\na@b.co\n")
    async with api.app() as uow:
        job, _ = await search.get(uow, UUID(answer.json["job_id"]))
    assert (job.type, job.state, job.arguments) == ("import_contacts", "enqueued", {"import_id": answer.json["id"]})
    again = await upload(importer, "email\na@b.co\n")
    assert (again.json["id"], again.json["job_id"]) == (answer.json["id"], answer.json["job_id"])
    async with api.engine(None) as uow:
        await uow.raw.execute("UPDATE job_queues SET closed_at = now(), close_reason = 'drained' WHERE name = 'import'")
    refused = await upload(importer, "email\nb@b.co\n")
    assert (refused.status, refused.code) == (409, "queue_closed")
    assert len((await importer.get("/api/v1/imports")).json["items"]) == 1


async def test_progress_and_result_of_an_import_are_the_job_s(api: Api, importer: Caller, jobs: None) -> None:
    answer = await upload(importer, "email\n" + "".join(f"p{n}@b.co\n" for n in range(40)) + "bad\n")
    await ended(importer, answer.json["id"])
    await until(lambda: job_is(api, answer.json["job_id"], "succeeded"), what="the job to end")
    async with api.app() as uow:
        job, history = await search.get(uow, UUID(answer.json["job_id"]))
    assert job.progress is not None
    assert (job.progress.done, job.progress.total) == (41, 41)
    assert (job.result["state"], job.result["created_count"], job.result["rejected_count"]) == ("completed", 40, 1)
    assert [change.state for change in history] == ["enqueued", "processing", "succeeded"]


async def test_cancelling_an_import_cancels_its_job(
    api: Api, importer: Caller, jobs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "BATCH_ROWS", 1)
    answer = await upload(importer, "email\n" + "".join(f"p{n}@b.co\n" for n in range(5_000)))
    await until(lambda: job_is(api, answer.json["job_id"], "processing"), what="the job to begin")
    cancelled = await importer.post(f"/api/v1/imports/{answer.json['id']}/cancel")
    assert (cancelled.status, cancelled.json["state"]) == (200, "cancelled")
    # told to end, or at its next batch seen that there is nothing to do any more
    await until(lambda: job_is(api, answer.json["job_id"], "deleted", "succeeded"), what="the job to end")
    assert (await importer.get(f"/api/v1/imports/{answer.json['id']}")).json["row_count"] < 5_000
    assert files_of(api) == []


async def test_cancelling_the_job_of_an_import_cancels_the_import(
    api: Api, importer: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "BATCH_ROWS", 1)
    waiting = (await upload(importer, "email\na@b.co\n")).json
    async with api.app() as uow:
        await change.cancel(uow, TESTER, UUID(waiting["job_id"]), "wrong file")
    assert (await importer.get(f"/api/v1/imports/{waiting['id']}")).json["state"] == "cancelled"
    running = (await upload(importer, "email\n" + "".join(f"p{n}@b.co\n" for n in range(5_000)))).json
    async with running_jobs(api.runtime):
        await until(lambda: job_is(api, running["job_id"], "processing"), what="the job to begin")
        async with api.app() as uow:
            await change.cancel(uow, TESTER, UUID(running["job_id"]), "wrong file")
        await until(lambda: job_is(api, running["job_id"], "deleted"), what="the job to end")
    found = (await importer.get(f"/api/v1/imports/{running['id']}")).json
    assert found["state"] == "cancelled"
    assert found["row_count"] < 5_000
    assert files_of(api) == []


async def test_an_import_ends_when_its_job_has_given_up(api: Api, importer: Caller) -> None:
    answer = (await upload(importer, "email\na@b.co\n")).json
    (path,) = files_of(api)
    path.unlink()
    async with api.engine() as uow:
        await uow.raw.execute("UPDATE jobs SET max_attempts = 10, attempt = 9")
    async with running_jobs(api.runtime):
        await until(lambda: job_is(api, answer["job_id"], "failed"), what="the job to give up")
    found = (await importer.get(f"/api/v1/imports/{answer['id']}")).json
    assert found["state"] == "failed"
    assert "on no machine" in found["error"]


async def test_an_import_that_meets_a_bug_is_tried_again_and_given_up_at_the_third_time(
    api: Api, importer: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_args: Any, **_more: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(merge, "store", broken)
    answer = (await upload(importer, "email\na@b.co\n")).json
    for attempt, job_state, import_state in ((0, "scheduled", "running"), (2, "failed", "failed")):
        async with api.engine() as uow:
            await uow.raw.execute("UPDATE jobs SET state = 'enqueued', run = run + 1, attempt = $1", attempt)
        async with running_jobs(api.runtime):
            await until(partial(job_is, api, answer["job_id"], job_state), what="the run to end")
        assert (await importer.get(f"/api/v1/imports/{answer['id']}")).json["state"] == import_state
    assert files_of(api) == []


async def test_what_another_release_left_gets_a_job_and_what_has_no_file_is_given_up(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    runtime = runtime_for(new_database("migrated"), data_dir=tmp_path)
    left = await _begun(runtime, "left", "email\na@b.co\n")
    lost = await _begun(runtime, "lost", "email\nb@b.co\n")
    recent = await _begun(runtime, "recent", "email\nc@b.co\n")
    for import_id in (lost, recent):
        ImportFiles(tmp_path).of(DEFAULT_TENANT, import_id).unlink()
    stray = tmp_path / "imports" / "0123.part"
    stray.write_text("half")
    os.utime(stray, (1, 1))
    async with runtime.db.uow(Role.ENGINE) as uow:
        await uow.raw.execute("UPDATE imports SET progress_at = now() - interval '2 hours' WHERE id = $1", lost)
    async with create_app(runtime).lifespan(), running_jobs(runtime):
        await until(lambda: _states_are(runtime, ["completed", "failed", "running"]), what="both to be decided")
        await until(lambda: not list((tmp_path / "imports").iterdir()), what="the files to go")
    async with runtime.db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
        assert (await control.get(uow, left)).state == "completed"
        assert (await control.get(uow, lost)).state == "failed"
        assert (await control.get(uow, recent)).state == "running"
        assert await uow.raw.fetchval("SELECT array_agg(address) FROM addresses") == ["a@b.co"]
    await runtime.db.close()


async def job_is(api: Api, job_id: str, *states: str) -> bool:
    async with api.app() as uow:
        return (await search.get(uow, UUID(job_id)))[0].state in states


async def _states_are(runtime: Any, wanted: list[str]) -> bool:
    async with runtime.db.uow(Role.ENGINE) as uow:
        return sorted(row["state"] for row in await uow.raw.fetch("SELECT state FROM imports")) == wanted


async def _begun(runtime: Any, name: str, text: str) -> UUID:
    """An import that was accepted by a process of a release without jobs, which then ended."""

    async def stream() -> AsyncIterator[bytes]:
        yield text.encode()

    files = ImportFiles(runtime.settings.data_dir)
    path = await files.receive(stream())
    facts = examine(path, Options(), runtime.channels["email"])
    async with runtime.db.uow(Role.APP, DEFAULT_TENANT) as uow:
        view = await control.begin(uow, TESTER, facts, Options(), name)
        await files.keep(path, DEFAULT_TENANT, view.id)
    return view.id
