"""A tenant's tables as CSV: whole, harmless in a spreadsheet, read back as they were, gone after an erasure."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outrider.base.errors import Refused
from outrider.base.settings import load
from outrider.domain.contacts import lists, read, suppressions
from outrider.domain.people import erase, export, making, tabular
from outrider.domain.people.files import ExportFiles
from tests.kit.api import Api, Caller, api_of
from tests.kit.audience import ACTOR, Audience, import_file, opened, write_csv
from tests.kit.processes import until
from tests.kit.running import running_jobs

HEADER = ["email", "name", "external id", "consent", "tags", "note"]
FORMULAS = ["=1+1", "+49 30", "-x", "@SUM(A1)", "'=quoted", "\uff1dwide", "'plain", "a\nb"]


@pytest.fixture
async def audience(migrated_url: str) -> AsyncIterator[Audience]:
    async with opened(migrated_url) as found:
        yield found


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows a page, so that few rows are many pages."""
    monkeypatch.setattr(tabular, "PAGE", 3)


async def nothing(_count: int) -> None:
    """Nobody is told."""


async def filled(audience: Audience, folder: Path) -> Any:
    """Eight contacts with cells that spreadsheets calculate, on a list, one suppressed."""
    async with audience.app() as uow:
        news = await lists.create(uow, ACTOR, "News")
        await suppressions.suppress(uow, audience.channels, ACTOR, "email", "p1@b.co", source="test", note="=2+2")
    rows = [[f"p{n}@b.co", text.replace("\n", " "), f"x{n}", "yes", "a,b", text] for n, text in enumerate(FORMULAS)]
    path = write_csv(folder / "people.csv", HEADER, rows)
    # as a file of somebody else's: apostrophes are doubled, since ours takes one away
    path.write_text(path.read_text(encoding="utf-8").replace("'=quoted", "''=quoted"), encoding="utf-8")
    await import_file(audience, path, list_id=news.id, consent_source="form")
    return news


async def written(audience: Audience, folder: Path, kind: tabular.Kind, **options: Any) -> list[dict[str, str]]:
    settings = load(data_dir=folder / "data")
    async with audience.app() as uow:
        asked = await tabular.ask(uow, ACTOR, kind, **options)
    count = await making.write(audience.db, settings, audience.tenant, asked.id, nothing)
    async with audience.app() as uow:
        path = await export.fetch(uow, ExportFiles(settings.data_dir), ACTOR, asked.id)
        assert (await export.get(uow, asked.id)).row_count == count
    text = (await asyncio.to_thread(path.read_bytes)).decode()
    for cell in (cell for row in csv.reader(io.StringIO(text)) for cell in row):
        assert not cell.startswith(("=", "+", "-", "@", "\uff1d", "\n"))
    (folder / f"{kind}.csv").write_text(text, encoding="utf-8", newline="")
    return list(csv.DictReader(io.StringIO(text)))


async def test_every_table_is_written_whole_and_harmless(audience: Audience, tmp_path: Path) -> None:
    news = await filled(audience, tmp_path)
    contacts = await written(audience, tmp_path, "contacts")
    assert [row["email"] for row in contacts] == [f"p{n}@b.co" for n in range(8)]
    assert contacts[0]["name"] == "'=1+1"
    assert (contacts[0]["outrider_lists"], contacts[0]["outrider_consents"]) == ("News", "email marketing: granted")
    members = await written(audience, tmp_path, "lists")
    assert {(row["list"], row["address"]) for row in members} == {("News", f"p{n}@b.co") for n in range(8)}
    (entry,) = await written(audience, tmp_path, "suppressions")
    assert (entry["address"], entry["reason"], entry["note"]) == ("p1@b.co", "manual", "'=2+2")
    proof = await written(audience, tmp_path, "consents")
    assert [(row["status"], row["source"]) for row in proof] == [("granted", "form")] * 8
    assert len(await written(audience, tmp_path, "contacts", list_id=news.id)) == 8
    rows = await audience.fetch("SELECT action, details ->> 'kind' FROM audit_log WHERE action LIKE 'export.%'")
    assert rows.count(("export.ask", "contacts")) == 2
    assert rows.count(("export.fetch", None)) == 5


async def test_an_export_of_contacts_imported_again_changes_nothing_and_elsewhere_makes_the_same(
    audience: Audience, tmp_path: Path
) -> None:
    await filled(audience, tmp_path)
    await written(audience, tmp_path, "contacts")
    again = await import_file(audience, tmp_path / "contacts.csv")
    assert (again.unchanged_count, again.rejected_count) == (8, 0)
    other = Audience(audience.db, await audience.other_tenant())
    assert (await import_file(other, tmp_path / "contacts.csv")).created_count == 8
    for n, text in enumerate(FORMULAS):
        async with other.app() as uow:
            one = await read.by_address(uow, other.channels, "email", f"p{n}@b.co")
        assert one is not None
        assert (one.name, one.attributes["note"]) == (text.replace("\n", " "), text)
        assert (one.external_id, one.tags) == (f"x{n}", ["a", "b"])


async def test_an_export_holds_one_tenant_only(audience: Audience, tmp_path: Path) -> None:
    await filled(audience, tmp_path)
    other = Audience(audience.db, await audience.other_tenant())
    for kind in ("contacts", "lists", "suppressions", "consents"):
        assert await written(other, tmp_path, kind) == []


async def test_when_somebody_is_erased_tables_with_them_in_are_no_longer_given_out(
    audience: Audience, tmp_path: Path
) -> None:
    await filled(audience, tmp_path)
    await written(audience, tmp_path, "consents")
    async with audience.engine() as uow:
        one = await read.by_address(uow, audience.channels, "email", "p0@b.co")
        assert one is not None
        await erase.begin(uow, ACTOR, one.id, reason="asked")
        (asked,) = await export.listed(uow, limit=10)
    assert asked.state == "erased"
    with pytest.raises(Refused):
        async with audience.app() as uow:
            await export.fetch(uow, ExportFiles(tmp_path / "data"), ACTOR, asked.id)


async def test_no_change_that_an_import_kept_stays_of_somebody_who_is_erased(
    audience: Audience, tmp_path: Path
) -> None:
    await filled(audience, tmp_path)
    await import_file(audience, write_csv(tmp_path / "x.csv", ["email", "name"], [["p0@b.co", "Y"]]), dry_run=True)
    await import_file(audience, write_csv(tmp_path / "y.csv", ["email"], [["new@b.co"]]), dry_run=True)
    await import_file(audience, write_csv(tmp_path / "z.csv", ["email"], [["new@b.co"]]))
    for address in ("p0@b.co", "new@b.co"):
        async with audience.engine() as uow:
            one = await read.by_address(uow, audience.channels, "email", address)
            assert one is not None
            await erase.begin(uow, ACTOR, one.id, reason="asked")
    left = await audience.fetch("SELECT address FROM import_changes ORDER BY address")
    assert left == [(f"p{n}@b.co",) for n in range(1, 8)]


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with api_of(migrated_url, data_dir=tmp_path / "data") as running:
        yield running


async def test_over_http_a_table_is_asked_for_made_by_a_job_and_fetched(api: Api) -> None:
    caller: Caller = api.caller(await api.key("contacts:write", "contacts:read", role="operator"))
    async with api.app() as uow:
        await lists.create(uow, ACTOR, "News")
    asked = await caller.post("/api/v1/exports", {"kind": "contacts"})
    assert asked.status == 202, asked.text
    path = f"/api/v1/exports/{asked.json['id']}"

    async def is_made() -> bool:
        return bool((await caller.get(path)).json["state"] == "completed")

    async with running_jobs(api.runtime):
        await until(is_made, what="the export to be made")
    assert (await caller.post(f"{path}/file.json")).status == 404
    file = await caller.post(f"{path}/file.csv")
    assert file.status == 200
    assert file.text.startswith("id,external_id,name,email,")
