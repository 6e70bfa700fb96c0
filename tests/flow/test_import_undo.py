"""Undoing an import puts back what it changed, and leaves alone, with the reason, what was used or changed since."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from outrider.base.errors import Refused
from outrider.data.db import UnitOfWork
from outrider.domain.contacts import consent, lists, offers, read, suppressions, tags, write
from outrider.domain.contacts.imports import changes, control
from outrider.domain.contacts.imports.control import ImportView
from outrider.domain.people import undo
from tests.kit.audience import ACTOR, Audience, import_file, opened, write_csv

HEADER = ["email", "name", "external id", "consent", "tags", "town", "age"]
TABLES = {
    "contacts": "id, external_id, name, attributes, timezone, locale",
    "addresses": "channel, address, contact_id",
    "list_members": "list_id, contact_id",
    "contact_tags": "contact_id, tag",
    "consents": "contact_id, channel, purpose, status, at, source",
    "suppressions": "channel, address, reason, created_at",
}


@pytest.fixture
async def audience(migrated_url: str) -> AsyncIterator[Audience]:
    async with opened(migrated_url) as found:
        yield found


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four contacts a page, so that few contacts are many pages."""
    monkeypatch.setattr(undo, "PAGE", 4)


async def everything(audience: Audience) -> dict[str, list[str]]:
    """What contacts are, without when they were written."""
    return {
        table: [text for (text,) in await audience.fetch(f"SELECT ({columns})::text FROM {table} ORDER BY 1")]
        for table, columns in TABLES.items()
    }


async def nobody(_uow: UnitOfWork) -> None:
    """No run of a job to be held."""


async def silent(_done: int) -> None:
    """Nobody is told."""


async def undone(audience: Audience, view: ImportView) -> ImportView:
    async with audience.engine() as uow:
        found = await undo.preview(uow, view.id)
        await undo.begin(uow, ACTOR, view.id, count=found.count, reason="wrong file")
    return await undo.run(audience.db, audience.tenant, view.id, ACTOR, hold=nobody, told=silent)


async def contact(audience: Audience, address: str) -> Any:
    async with audience.app() as uow:
        return await read.by_address(uow, audience.channels, "email", address)


async def left(audience: Audience, view: ImportView) -> dict[str, tuple[str | None, list[str]]]:
    async with audience.app() as uow:
        found = await changes.listed(uow, view.id, limit=1000)
    return {one.address: (one.outcome, one.reasons) for one in found if one.outcome not in {"restored", "deleted"}}


async def known(audience: Audience, folder: Path) -> UUID:
    """Ten contacts with everything; gives a list nobody is on yet."""
    rows = [[f"k{n}@b.co", f"K{n}", f"k{n}" if n % 2 else "", "yes", "vip", "Ulm", str(n)] for n in range(10)]
    await import_file(audience, write_csv(folder / "known.csv", HEADER, rows), consent_source="form")
    async with audience.app() as uow:
        return (await lists.create(uow, ACTOR, "News")).id


def wrong() -> list[list[str]]:
    """A file that changes everybody and brings new people, some with second addresses."""
    rows = [[f"k{n}@b.co", f"Wrong {n}", f"k{n}", "no" if n < 3 else "", "bad", "Bonn", ""] for n in range(10)]
    rows += [[f"n{n}@b.co", f"N{n}", f"n{n}", "yes", "bad", "", "1"] for n in range(9)]
    return [*rows, ["k1b@b.co", "", "k1", "", "", "", ""], ["n1b@b.co", "", "n1", "", "", "", ""]]


async def test_an_undo_puts_back_exactly_what_was_there(audience: Audience, tmp_path: Path) -> None:
    news = await known(audience, tmp_path)
    before = await everything(audience)
    path = write_csv(tmp_path / "wrong.csv", HEADER, wrong())
    view = await import_file(audience, path, list_id=news, consent_source="fair")
    assert (view.created_count, view.updated_count) == (9, 12)
    assert await everything(audience) != before
    done = await undone(audience, view)
    assert await everything(audience) == before
    assert (done.undo_state, done.restored_count, done.deleted_count, done.left_count) == ("completed", 10, 9, 0)
    async with audience.app() as uow:
        history = await read.consent_history(uow, (await contact(audience, "k0@b.co")).id)
    assert [one.status for one in history] == ["granted", "withdrawn", "granted"]
    rows = await audience.fetch("SELECT action FROM audit_log WHERE action LIKE 'import.und%' ORDER BY seq")
    assert rows == [("import.undo",), ("import.undone",)]
    with pytest.raises(Refused) as refused:
        await undone(audience, view)
    assert refused.value.code == "not_undoable"


async def test_what_somebody_changed_since_is_left_alone_field_by_field(audience: Audience, tmp_path: Path) -> None:
    news = await known(audience, tmp_path)
    path = write_csv(tmp_path / "wrong.csv", HEADER, wrong())
    view = await import_file(audience, path, list_id=news, consent_source="fair")
    one, new = await contact(audience, "k4@b.co"), await contact(audience, "n0@b.co")
    async with audience.app() as uow:
        await write.update(uow, ACTOR, one.id, write.ContactChange(name="By hand"))
        await write.update(uow, ACTOR, new.id, write.ContactChange(name="By hand"))
    done = await undone(audience, view)
    assert (done.restored_count, done.deleted_count, done.left_count) == (9, 8, 2)
    assert await left(audience, view) == {
        "k4@b.co": ("partly", ["name: changed_since"]),
        "n0@b.co": ("left", ["changed_since"]),
    }
    after = await contact(audience, "k4@b.co")
    assert (after.name, after.attributes, after.tags) == ("By hand", {"town": "Ulm", "age": "4"}, ["vip"])
    assert (await contact(audience, "n0@b.co")).name == "By hand"


async def test_a_new_contact_of_whom_something_has_come_stays(audience: Audience, tmp_path: Path) -> None:
    news = await known(audience, tmp_path)
    path = write_csv(tmp_path / "wrong.csv", HEADER, wrong())
    view = await import_file(audience, path, consent_source="fair")
    n = [await contact(audience, f"n{number}@b.co") for number in range(8)]
    async with audience.app() as uow:
        await lists.add_members(uow, ACTOR, news, [n[0].id])
        await tags.add(uow, ACTOR, [n[2].id], ["mine"])
        await suppressions.suppress(uow, audience.channels, ACTOR, "email", "n3@b.co", source="test")
    async with audience.engine() as uow:
        await consent.withdraw(uow, n[4].id, "email", "marketing", source="message:1", ip=None)
        await offers.turn_off(uow, n[6].id, {news}, source="message:2")  # by the link of a message of before the import
        await uow.raw.execute(
            "INSERT INTO lanes (tenant_id, channel, sender_id, message_class) VALUES ($1, 'email', $1, 'bulk')",
            uow.tenant,
        )
        await uow.raw.execute(
            "INSERT INTO messages (tenant_id, id, lane_id, contact_id, content_id, address, purpose, due_at)"
            " SELECT $1, outrider_id(), id, $2, $1, 'n5@b.co', 'marketing', now() FROM lanes",
            uow.tenant, n[5].id,
        )  # fmt: skip
    done = await undone(audience, view)
    assert await left(audience, view) == {
        "n0@b.co": ("left", ["listed_since"]),
        "n2@b.co": ("left", ["tagged_since"]),
        "n3@b.co": ("left", ["suppressed_since"]),
        "n4@b.co": ("left", ["consent_since"]),
        "n5@b.co": ("left", ["written_to"]),
        "n6@b.co": ("left", ["refused_since"]),
    }
    assert (done.deleted_count, done.left_count) == (3, 6)
    again = await import_file(audience, path, list_id=news, consent_source="fair")
    async with audience.app() as uow:
        rows = await uow.raw.fetch("SELECT contact_id FROM list_members WHERE list_id = $1", news)
    assert n[6].id not in {row["contact_id"] for row in rows}, "what they turned off is off for the next file as well"
    assert again.state == "completed"
    assert (await contact(audience, "n4@b.co")).consents[0].status == "withdrawn"


async def test_a_withdrawal_made_since_is_never_undone_also_when_the_file_had_withdrawn_before(
    audience: Audience, tmp_path: Path
) -> None:
    await known(audience, tmp_path)
    view = await import_file(audience, write_csv(tmp_path / "w.csv", HEADER, wrong()), consent_source="fair")
    first, second = [(await contact(audience, f"k{n}@b.co")).id for n in (0, 1)]
    async with audience.engine() as uow:
        await consent.withdraw(uow, first, "email", "marketing", source="message:1", ip=None)
        await suppressions.record(
            uow, ACTOR, "email", "k1@b.co", scope="bulk", reason="unsubscribe", source="message:2"
        )  # fmt: skip
    await undone(audience, view)
    found = {n: (await contact(audience, f"k{n}@b.co")).consents[0].status for n in range(3)}
    assert found == {0: "withdrawn", 1: "withdrawn", 2: "granted"}
    reasons = await left(audience, view)
    assert reasons["k0@b.co"] == ("partly", ["consent: consent_since"])
    assert reasons["k1@b.co"] == ("partly", ["consent: suppressed_since"])
    assert second != first


async def test_a_withdrawal_that_was_moved_in_since_keeps_its_contact_whatever_its_date(
    audience: Audience, tmp_path: Path
) -> None:
    people = write_csv(tmp_path / "people.csv", ["email", "name"], [["n1@b.co", "Ann"], ["n2@b.co", "Ben"]])
    view = await import_file(audience, people)
    told = [["n1@b.co", "withdrawn", "2024-05-01T10:00:00Z"]]
    former = write_csv(tmp_path / "consents.csv", ["email", "status", "at"], told)
    moved = await import_file(audience, former, kind="consents")
    assert (moved.created_count, moved.rejected_count) == (1, 0)
    await undone(audience, view)
    assert await left(audience, view) == {"n1@b.co": ("left", ["consent_since"])}
    assert await audience.fetch("SELECT status FROM consents") == [("withdrawn",)]


async def test_an_undo_that_was_stopped_goes_on_where_it_was(audience: Audience, tmp_path: Path) -> None:
    await known(audience, tmp_path)
    before = await everything(audience)
    view = await import_file(audience, write_csv(tmp_path / "w.csv", HEADER, wrong()), consent_source="fair")
    async with audience.engine() as uow:
        await undo.begin(uow, ACTOR, view.id, count=19, reason="wrong file")

    async def stopped(done: int) -> None:
        if done >= 8:
            async with audience.engine() as uow:
                await undo.end(uow, view.id, "cancelled")

    half = await undo.run(audience.db, audience.tenant, view.id, ACTOR, hold=nobody, told=stopped)
    assert half.undo_state == "cancelled"
    assert half.restored_count + half.deleted_count == 8
    with pytest.raises(Refused) as refused:
        async with audience.engine() as uow:
            await undo.begin(uow, ACTOR, view.id, count=19, reason="x")
    assert (refused.value.code, refused.value.data["count"]) == ("count_changed", 11)
    assert (await undone(audience, view)).undo_state == "completed"
    assert await everything(audience) == before


@pytest.mark.parametrize("kind", ["dry_run", "running"])
async def test_what_changed_nothing_or_is_still_running_cannot_be_undone(
    audience: Audience, tmp_path: Path, kind: str
) -> None:
    path = write_csv(tmp_path / "x.csv", ["email"], [["a@b.co"]])
    view = await import_file(audience, path, dry_run=kind == "dry_run")
    if kind == "running":
        async with audience.engine() as uow:
            await uow.raw.execute("UPDATE imports SET state = 'running'")
    with pytest.raises(Refused) as refused:
        await undone(audience, view)
    assert refused.value.code == {"dry_run": "not_undoable", "running": "import_running"}[kind]
    async with audience.app() as uow:
        assert (await control.get(uow, view.id)).undo_state is None
