"""Moving in: whom not to write to and what was agreed to elsewhere; never weaker, nobody subscribed again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from outrider.domain.contacts import consent, read, suppressions
from outrider.domain.contacts.imports import changes, control
from outrider.domain.contacts.imports import run as run_module
from outrider.domain.contacts.imports.control import ImportView
from tests.kit.audience import ACTOR, Audience, import_file, opened, write_csv

COUNTED = (
    "row_count", "created_count", "updated_count", "unchanged_count", "duplicate_count", "rejected_count",
    "rejected_by", "suppressed_count", "kept_withdrawn_count",
)  # fmt: skip
LISTMONK = ["uuid", "email", "name", "attributes", "status", "created_at", "updated_at"]


@pytest.fixture
async def audience(migrated_url: str) -> AsyncIterator[Audience]:
    async with opened(migrated_url) as found:
        yield found


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows a batch, so that a file meets itself in other batches."""
    monkeypatch.setattr(run_module, "BATCH_ROWS", 3)


async def moved(audience: Audience, path: Path, **options: Any) -> ImportView:
    """Tried first: it changes nothing and counts the same."""
    before = await everything(audience)
    tried = await import_file(audience, path, **options, dry_run=True)
    assert await everything(audience) == before
    done = await import_file(audience, path, **options)
    assert [getattr(tried, name) for name in COUNTED] == [getattr(done, name) for name in COUNTED]
    assert done.row_count == (
        done.created_count + done.updated_count + done.unchanged_count + done.duplicate_count + done.rejected_count
    )
    return done


async def everything(audience: Audience) -> list[Any]:
    found = await audience.fetch("SELECT s::text FROM suppressions s ORDER BY 1")
    return [*found, *await audience.fetch("SELECT c::text FROM consents c ORDER BY 1")]


async def entry(audience: Audience, address: str) -> tuple[Any, ...] | None:
    rows = await audience.fetch(
        "SELECT address, scope, reason, source, created_at FROM suppressions WHERE address_hash = $1",
        sha256(address.encode()).digest(),
    )
    return rows[0] if rows else None


async def people(audience: Audience, folder: Path, *addresses: str, **options: Any) -> None:
    await import_file(audience, write_csv(folder / "people.csv", ["email"], [[a] for a in addresses]), **options)


def day(number: int) -> datetime:
    return datetime(2024, 1, number, 10, tzinfo=UTC)


async def test_suppressions_of_another_system_are_taken_with_their_reason_and_time(
    audience: Audience, tmp_path: Path
) -> None:
    await people(audience, tmp_path, "known@b.co")
    rows = [
        ["known@b.co", "unsubscribed", "2024-01-01 10:00:00"],
        ["Gone@B.co", "bounced", "1704189600"],
        ["angry@b.co", "spam report", "2024-01-03T12:00:00+02:00"],
        ["fine@b.co", "subscribed", ""],
        ["odd@b.co", "purple", ""],
        ["late@b.co", "blocklisted", "yesterday"],
        ["Gone@b.co", "complaint", "2024-01-09T10:00:00Z"],
    ]
    path = write_csv(tmp_path / "s.csv", ["Email Address", "Status", "Date"], rows)
    done = await moved(audience, path, kind="suppressions", consent_source="mailchimp")
    assert (done.created_count, done.updated_count, done.unchanged_count) == (3, 1, 1)
    assert done.rejected_by == {"unknown_reason": 1, "bad_time": 1}
    assert await entry(audience, "known@b.co") == ("known@b.co", "bulk", "unsubscribe", "mailchimp", day(1))
    assert await entry(audience, "gone@b.co") == (None, "all", "complaint", "mailchimp", day(2))
    assert await entry(audience, "angry@b.co") == (None, "all", "complaint", "mailchimp", day(3))
    assert await entry(audience, "fine@b.co") is None
    assert await audience.fetch("SELECT count(*) FROM contacts") == [(1,)]


async def test_an_entry_never_becomes_weaker_or_later(audience: Audience, tmp_path: Path) -> None:
    async with audience.app() as uow:
        await suppressions.suppress(
            uow, audience.channels, ACTOR, "email", "a@b.co", reason="complaint", source="callback"
        )
    rows = [["a@b.co", "unsubscribed", "2030-01-01"], ["b@b.co", "bounced", "2024-01-05 10:00:00"]]
    path = write_csv(tmp_path / "s.csv", ["email", "reason", "time"], rows)
    await moved(audience, path, kind="suppressions")
    later = write_csv(tmp_path / "t.csv", ["email", "reason", "time"], [["b@b.co", "unsubscribed", "2024-01-07"]])
    assert (await moved(audience, later, kind="suppressions")).updated_count == 1  # a person's word is stronger
    assert (await moved(audience, later, kind="suppressions")).unchanged_count == 1
    held = await entry(audience, "a@b.co")
    assert held is not None
    assert held[1:4] == ("all", "complaint", "callback")
    assert await entry(audience, "b@b.co") == (None, "all", "unsubscribe", "import", day(5))


async def test_a_blocklist_without_reasons_is_taken_by_the_reason_that_is_given(
    audience: Audience, tmp_path: Path
) -> None:
    rows = [["x@b.co", "550 5.1.1 no such user", "1704189600"]]  # as a provider exports bounces: reason is a text
    path = write_csv(tmp_path / "b.csv", ["email", "reason", "created"], rows)
    await moved(audience, path, kind="suppressions", reason="hard_bounce", consent_source="sendgrid")
    assert await entry(audience, "x@b.co") == (None, "all", "hard_bounce", "sendgrid", day(2))


async def test_listmonk_s_export_gives_contacts_with_their_attributes_and_its_blocklist(
    audience: Audience, tmp_path: Path
) -> None:
    written = "2024-01-02 10:00:00.123 +0000 UTC"
    rows = [
        ["u1", "ann@b.co", "Ann", '{"city": "Bonn", "vip": true, "Jobs": [1, 2]}', "enabled", written, written],
        ["u2", "bob@b.co", "Bob", "{}", "blocklisted", written, "2024-01-02 10:00:00 +0000 +0000"],
        ["u3", "bad@b.co", "Bad", "[1]", "enabled", written, written],
    ]
    path = write_csv(tmp_path / "subscribers.csv", LISTMONK, rows)
    stopped = await moved(audience, path, kind="suppressions", consent_source="listmonk")
    assert (stopped.created_count, stopped.unchanged_count) == (1, 2)
    bob = await entry(audience, "bob@b.co")
    assert bob is not None
    assert (bob[2], bob[4]) == ("manual", day(2))
    view = await import_file(audience, path, mapping={"uuid": "external_id", "status": "ignore"})
    assert (view.created_count, view.suppressed_count, view.rejected_by) == (2, 1, {"invalid_json": 1})
    async with audience.app() as uow:
        ann = await read.by_address(uow, audience.channels, "email", "ann@b.co")
    assert ann is not None
    assert (ann.external_id, ann.attributes) == ("u1", {"city": "Bonn", "vip": True, "jobs": [1, 2]})


async def test_consents_are_taken_with_their_time_and_proof_and_nobody_is_subscribed_again(
    audience: Audience, tmp_path: Path
) -> None:
    await people(audience, tmp_path, "yes@b.co", "no@b.co", "stays@b.co", "maybe@b.co")
    async with audience.engine() as uow:
        stays = await read.by_address(uow, audience.channels, "email", "stays@b.co")
        assert stays is not None
        await consent.withdraw(uow, stays.id, "email", "marketing", source="message:1", ip=None)
    rows = [
        ["yes@b.co", "subscribed", "2024-01-01 10:00:00", "10.0.0.1"],
        ["no@b.co", "unsubscribed", "2024-01-02 10:00:00", ""],
        ["stays@b.co", "subscribed", "2024-01-03 10:00:00", ""],
        ["maybe@b.co", "unconfirmed", "", ""],
        ["stranger@b.co", "unsubscribed", "2024-01-04 10:00:00", ""],
        ["nobody@b.co", "subscribed", "", ""],
        ["yes@b.co", "subscribed", "2024-01-09 10:00:00", ""],
    ]
    path = write_csv(tmp_path / "c.csv", ["Email Address", "Status", "CONFIRM_TIME", "CONFIRM_IP"], rows)
    done = await moved(audience, path, kind="consents", consent_source="mailchimp")
    assert (done.created_count, done.unchanged_count, done.kept_withdrawn_count) == (3, 3, 1)
    assert done.rejected_by == {"unknown_contact": 1}
    held = await audience.fetch(
        "SELECT a.address, c.status, c.at FROM consents c JOIN addresses a USING (contact_id) "
        "WHERE c.source = 'mailchimp' ORDER BY 1"
    )
    assert held == [("no@b.co", "withdrawn", day(2)), ("yes@b.co", "granted", day(1))]
    assert await entry(audience, "stranger@b.co") == (None, "bulk", "unsubscribe", "mailchimp", day(4))
    assert await audience.fetch("SELECT status, ip, at FROM consent_events WHERE ip IS NOT NULL") == [
        ("granted", "10.0.0.1", day(1))
    ]
    async with audience.engine() as uow:
        from_proof = await read.consent_history(uow, stays.id)
    assert [one.status for one in from_proof] == ["withdrawn"]


async def test_a_withdrawal_from_another_system_holds_against_a_grant_here(audience: Audience, tmp_path: Path) -> None:
    await people(audience, tmp_path, "a@b.co", consent="granted", consent_source="form")
    path = write_csv(tmp_path / "c.csv", ["email", "status", "time"], [["a@b.co", "opt-out", "2020-05-05"]])
    assert (await moved(audience, path, kind="consents", consent_source="old")).updated_count == 1
    assert (await moved(audience, path, kind="consents", consent_source="old")).unchanged_count == 1
    events = await audience.fetch("SELECT status, source FROM consent_events ORDER BY at, id")
    assert events == [("granted", "form"), ("withdrawn", "old")]


async def test_who_comes_after_their_withdrawal_is_not_written_to(audience: Audience, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "c.csv", ["email", "status"], [["late@b.co", "unsubscribed"]])
    view = await moved(audience, path, kind="consents", consent_source="old")
    await people(audience, tmp_path, "late@b.co", consent="granted", consent_source="form")
    async with audience.app() as uow:
        assert len(await suppressions.lookup(uow, audience.channels, "email", "late@b.co")) == 1
        assert (await control.get(uow, view.id)).kind == "consents"


@pytest.mark.parametrize(("reason", "scope"), [("soft_bounce", "all"), ("unsubscribe", "bulk"), ("complaint", "all")])
async def test_what_is_brought_stays_where_an_entry_would_have_ended(
    audience: Audience, tmp_path: Path, reason: Any, scope: str
) -> None:
    (soon,) = await audience.fetch("SELECT now() + interval '90 days'")
    full = suppressions.Entry("email", "a@b.co", "all", "soft_bounce", expires_at=soon[0])
    async with audience.engine() as uow:
        await suppressions.record_all(uow.raw, audience.tenant, ACTOR, [full], source="callback")
    path = write_csv(tmp_path / "s.csv", ["email"], [["a@b.co"]])
    tried = await import_file(audience, path, kind="suppressions", reason=reason, dry_run=True)
    async with audience.app() as uow:
        (would,) = await changes.listed(uow, tried.id, limit=10)
    assert {change.field: change.after for change in would.fields}["expires_at"] is None
    assert (await moved(audience, path, kind="suppressions", reason=reason)).updated_count == 1
    held = await audience.fetch("SELECT scope, reason, expires_at FROM suppressions")
    assert held == [(scope, reason, None)], "it ends no more, and keeps no receipts away that it would let through"
    assert (await moved(audience, path, kind="suppressions", reason=reason)).unchanged_count == 1
