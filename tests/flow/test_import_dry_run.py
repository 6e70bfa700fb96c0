"""A dry run of an import says exactly what the import then does, and changes nothing; both can be looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outrider.domain.contacts import consent, lists, read, suppressions
from outrider.domain.contacts.imports import changes
from outrider.domain.contacts.imports import run as run_module
from outrider.domain.contacts.imports.control import ImportView
from tests.kit.audience import ACTOR, Audience, import_file, opened, write_csv

COUNTED = (
    "row_count", "created_count", "updated_count", "unchanged_count", "duplicate_count", "rejected_count",
    "rejected_by", "suppressed_count", "kept_withdrawn_count",
)  # fmt: skip
HEADER = ["email", "name", "external id", "consent", "tags", "town"]
TABLES = (
    "contacts", "addresses", "list_members", "contact_tags", "consents", "consent_events", "suppressions",
)  # fmt: skip


@pytest.fixture
async def audience(migrated_url: str) -> AsyncIterator[Audience]:
    async with opened(migrated_url) as found:
        yield found


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten rows a batch, so that a file meets itself in other batches."""
    monkeypatch.setattr(run_module, "BATCH_ROWS", 10)


def counts(view: ImportView) -> dict[str, Any]:
    return {name: getattr(view, name) for name in COUNTED}


async def everything(audience: Audience) -> dict[str, list[str]]:
    """Every row of what an import may write, as text."""
    return {
        table: [text for (text,) in await audience.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")]
        for table in TABLES
    }


async def shown(audience: Audience, view: ImportView) -> list[Any]:
    async with audience.app() as uow:
        return await changes.listed(uow, view.id, limit=1000)


def by_address(found: list[Any]) -> list[Any]:
    """Changes without what differs by nature: ids of contacts that a dry run did not make, and moments."""
    return sorted((one.address, one.line, one.is_new, str(one.fields)) for one in found)


async def prepared(audience: Audience, folder: Path) -> dict[str, Any]:
    """People who are known, one who has withdrawn, one who is suppressed; options for the next file."""
    async with audience.app() as uow:
        news = await lists.create(uow, ACTOR, "News")
        await suppressions.suppress(uow, audience.channels, ACTOR, "email", "stopped@b.co", source="test")
    known = [["ann@b.co", "Ann", "1", "yes", "vip", "Bonn"], ["bob@b.co", "Bob", "", "yes", "", "Rom"]]
    known += [[f"k{n}@b.co", f"K{n}", f"k{n}", "", "", "Ulm"] for n in range(25)]
    await import_file(audience, write_csv(folder / "known.csv", HEADER, known), consent_source="form")
    async with audience.engine() as uow:
        bob = await read.by_address(uow, audience.channels, "email", "bob@b.co")
        assert bob is not None
        await consent.withdraw(uow, bob.id, "email", "marketing", source="message:1", ip=None)
    return {"list_id": news.id, "consent_source": "fair"}


def mixed() -> list[list[str]]:
    """Rows of every kind, many of which are met again in later batches."""
    rows = [
        ["ann@b.co", "Ann B", "1", "no", "vip, gold", "Köln"],
        ["bob@b.co", "", "", "yes", "", ""],
        ["stopped@b.co", "Stop", "", "", "", ""],
        ["not an address", "", "", "", "", ""],
        ["new@b.co", "New", "n1", "yes", "a", "Bonn"],
        ["k1@b.co", "K1", "9999", "", "", ""],  # contradicts its id
        ["k2@b.co", "K2", "k2", "maybe", "", ""],
    ]
    rows += [[f"p{n}@b.co", f"P{n}", f"x{n}", "yes", "", ""] for n in range(20)]
    rows += [
        ["new2@b.co", "New", "n1", "", "b", "Rom"],  # a second address of one made two batches before
        ["new2@b.co", "Newer", "", "", "", ""],  # and a change by that address
        ["p3@b.co", "P3", "x3", "yes", "", ""],  # says nothing new
        ["p4@b.co", "P4!", "", "no", "c", "Ulm"],
        ["bob@b.co", "Bobby", "b7", "yes", "", ""],
        ["q@b.co", "Q", "b7", "", "", ""],  # by the id that Bob has just got
        ["ann@b.co", "Ann C", "", "", "silver", ""],
        ["stopped@b.co", "", "n1", "", "", ""],  # the id of somebody new
    ]
    rows += [[f"k{n}@b.co", f"K{n}", f"k{n}", "", "", "Ulm"] for n in range(4, 25)]
    return [*rows, ["p0@b.co", "P0", "x0", "", "", "last"], ["ann@b.co", "Ann C", "1", "", "gold", "Bonn"]]


async def test_a_dry_run_counts_and_shows_what_the_import_then_does_and_changes_nothing(
    audience: Audience, tmp_path: Path
) -> None:
    options = await prepared(audience, tmp_path)
    path = write_csv(tmp_path / "mixed.csv", HEADER, mixed())
    before = await everything(audience)
    tried = await import_file(audience, path, **options, dry_run=True)
    assert await everything(audience) == before
    assert (tried.state, tried.is_dry_run) == ("completed", True)
    would = by_address(await shown(audience, tried))
    done = await import_file(audience, path, **options)
    assert counts(done) == counts(tried)
    assert by_address(await shown(audience, done)) == would
    assert done.rejected_by == {
        "invalid_address": 1, "external_id_differs": 1, "bad_consent": 1, "external_id_taken": 1,
    }  # fmt: skip
    assert (done.kept_withdrawn_count, done.suppressed_count) == (2, 1)
    assert await audience.fetch("SELECT count(*) FROM import_keys") == [(0,)]


async def test_an_import_after_an_import_would_change_nothing(audience: Audience, tmp_path: Path) -> None:
    options = await prepared(audience, tmp_path)
    path = write_csv(tmp_path / "p.csv", HEADER, [[f"p{n}@b.co", f"P{n}", f"x{n}", "yes", "a", "b"] for n in range(25)])
    await import_file(audience, path, **options)
    tried = await import_file(audience, path, **options, dry_run=True)
    again = await import_file(audience, path, **options)
    assert tried.unchanged_count == again.unchanged_count == 25
    assert await shown(audience, tried) == await shown(audience, again) == []


async def test_a_change_says_field_by_field_what_was_before_and_what_is_after(
    audience: Audience, tmp_path: Path
) -> None:
    options = await prepared(audience, tmp_path)
    header = ["email", "name", "consent", "tags", "town", "age"]
    rows = [["ann@b.co", "Ann B", "no", "vip,gold", "Köln", "7"], ["new@b.co", "Neu", "", "", "", ""]]
    view = await import_file(audience, write_csv(tmp_path / "x.csv", header, rows), **options)
    ann, new = sorted(await shown(audience, view), key=lambda one: one.line)
    assert (ann.line, ann.is_new, new.is_new) == (2, False, True)
    told = {one.field: (one.before, one.after) for one in ann.fields}
    assert told.pop("consent")[1] == {
        "channel": "email", "purpose": "marketing", "status": "withdrawn", "source": "fair",
    }  # fmt: skip
    assert told == {
        "name": ("Ann", "Ann B"),
        "attributes.town": ("Bonn", "Köln"),
        "attributes.age": (None, "7"),
        "tags": (None, ["gold"]),
        "lists": (None, [str(options["list_id"])]),
    }
    assert {one.field: one.after for one in new.fields}["addresses"] == ["email:new@b.co"]


async def test_of_a_dry_run_only_as_many_changes_stay_as_are_shown(
    audience: Audience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "MOST_SHOWN", 12)
    monkeypatch.setattr(run_module, "_BITE", 5)
    path = write_csv(tmp_path / "p.csv", ["email"], [[f"p{n}@b.co"] for n in range(45)])
    view = await import_file(audience, path, dry_run=True)
    assert view.created_count == 45
    assert len(await shown(audience, view)) == 12
    assert await audience.fetch("SELECT count(*) FROM import_keys") == [(0,)]
