"""Imports over HTTP: a file goes in as the body, its progress and refused rows come out, files do not stay."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.contacts import lists
from outrider.domain.contacts.imports import control
from outrider.domain.contacts.imports import run as run_module
from outrider.domain.contacts.imports.examine import examine
from outrider.domain.contacts.imports.options import Options
from outrider.interfaces.api.import_runner import ImportRunner, lifespan
from tests.kit.api import TESTER, Answer, Api, Caller, api_of, raw, runtime_for
from tests.kit.processes import until

CSV = {"Content-Type": "text/csv"}


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with api_of(migrated_url, data_dir=tmp_path / "data") as running:
        yield running


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


async def test_a_file_is_accepted_examined_and_imported_in_the_background(api: Api, importer: Caller) -> None:
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
    assert answer.json["columns"][0] == {"header": "E-Mail", "target": "address"}
    assert (answer.json["row_count"], answer.json["problems"][0]["line"]) == (2, 3)
    assert files_of(api) == []
    async with api.engine() as uow:
        assert await uow.raw.fetchval("SELECT (SELECT count(*) FROM imports) + (SELECT count(*) FROM audit_log)") == 1
    # the one entry is the key's


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


async def test_the_report_of_refused_rows_is_csv_that_no_spreadsheet_calculates(importer: Caller) -> None:
    answer = await upload(importer, 'email\n=cmd|x\n"@SUM(1)"\n')
    found = await ended(importer, answer.json["id"])
    report = await importer.get(f"/api/v1/imports/{found['id']}/errors.csv")
    assert report.headers["Content-Type"].startswith("text/csv")
    assert report.headers["Content-Disposition"].startswith("attachment;")
    lines = report.text.splitlines()
    assert lines[0] == "line,field,code,message,value"
    assert lines[1].endswith(",'=cmd|x")
    assert lines[2].endswith(",'@SUM(1)")


async def test_a_running_import_is_cancelled(api: Api, importer: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_the_next_process_goes_on_with_what_one_left_and_gives_up_what_has_no_file(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    url = new_database("migrated")
    runtime = runtime_for(url, data_dir=tmp_path)
    runner = ImportRunner(runtime)
    tenant = (await _begun(runner, runtime, tmp_path, "left", "email\na@b.co\n"))[0]
    lost = (await _begun(runner, runtime, tmp_path, "lost", "email\nb@b.co\n"))[1]
    recent = (await _begun(runner, runtime, tmp_path, "recent", "email\nc@b.co\n"))[1]
    for import_id in (lost, recent):
        (tmp_path / "imports" / f"{tenant}-{import_id}.csv").unlink()
    stray = tmp_path / "imports" / "0123.part"
    stray.write_text("half")
    os.utime(stray, (1, 1))
    async with runtime.db.uow(Role.ENGINE) as uow:
        await uow.raw.execute("UPDATE imports SET progress_at = now() - interval '2 hours' WHERE id = $1", lost)
    async with lifespan(runtime)(Litestar()):
        await until(lambda: _states_are(runtime, ["completed", "failed", "running"]), what="both to be decided")
    async with runtime.db.uow(Role.ENGINE, tenant) as uow:
        assert (await control.get(uow, lost)).state == "failed"
        assert (await control.get(uow, recent)).state == "running"
        assert await uow.raw.fetchval("SELECT array_agg(address) FROM addresses") == ["a@b.co"]
    assert list((tmp_path / "imports").iterdir()) == []
    await runtime.db.close()


async def _states_are(runtime: Any, wanted: list[str]) -> bool:
    async with runtime.db.uow(Role.ENGINE) as uow:
        return sorted(row["state"] for row in await uow.raw.fetch("SELECT state FROM imports")) == wanted


async def _begun(runner: ImportRunner, runtime: Any, folder: Path, name: str, text: str) -> tuple[Any, Any]:
    """An import that was accepted by a process which then ended."""

    async def stream() -> AsyncIterator[bytes]:
        yield text.encode()

    path = await runner.receive(stream())
    facts = examine(path, Options(), runtime.channels["email"])
    async with runtime.db.uow(Role.APP, DEFAULT_TENANT) as uow:
        view = await runner.begin(uow, path, control.begin(uow, TESTER, facts, Options(), name))
    return DEFAULT_TENANT, view.id
