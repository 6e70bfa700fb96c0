"""Storing one batch of another system's suppressions or consents: never weaker, never later, nobody subscribed again.

Owns what a row means for what is known already. An address of which there is no contact is kept by its hash alone; a
withdrawal of somebody unknown becomes such an entry, so that it holds when they come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from outrider.data.db import UnitOfWork
from outrider.domain.contacts.imports.batches import Batch, Counts
from outrider.domain.contacts.imports.control import Plan
from outrider.domain.contacts.imports.csv_rows import Problem, echo
from outrider.domain.contacts.imports.entries import SKIP, Entry
from outrider.domain.contacts.rows import MERGE, MOVING, SQL
from outrider.domain.contacts.suppressions import REASONS

BULK = frozenset({"unsubscribe"})
"""Reasons that let transactional messages through, as our own unsubscribe links do; the others let nothing through."""


class _Place(NamedTuple):
    import_id: UUID
    channel: str
    purpose: str
    is_dry_run: bool
    created_by: str


class _Held(NamedTuple):
    """An entry of the do-not-contact list; `expires_at` None: it stays."""

    scope: str
    reason: str
    at: datetime
    expires_at: datetime | None = None


def combined(earlier: Entry, later: Entry) -> Entry:
    """Two rows about one address: what protects more, and the earlier time."""
    first, second = sorted((earlier, later), key=lambda entry: _strength(entry.word))
    moments = [entry.at for entry in (first, second) if entry.at is not None and entry.word != SKIP]
    return first._replace(line=later.line, at=min(moments, default=None), note=first.note or second.note)


async def store(uow: UnitOfWork, import_id: UUID, plan: Plan, batch: Batch, created_by: str) -> Counts:
    """Store what a batch says; its refusals are added to the batch (engine role)."""
    options = plan.options
    place = _Place(import_id, options.channel, options.purpose, options.dry_run, created_by)
    counts = Counts(unchanged=sum(entry.word == SKIP for entry in batch.people))
    entries = [entry for entry in batch.people if entry.word != SKIP]
    if not entries:
        return counts
    addresses = [entry.address for entry in entries]
    rows = await MERGE.owners.many(uow.raw, uow.tenant, place.channel, addresses)
    owner_of = {row["address"]: row["id"] for row in rows}
    if options.kind == "consents":
        entries = await _consents(uow, place, entries, owner_of, batch, counts)
    await _suppress(uow, place, entries, set(owner_of), counts)
    return counts


async def _consents(
    uow: UnitOfWork, place: _Place, entries: list[Entry], owner_of: dict[str, UUID], batch: Batch, counts: Counts
) -> list[Entry]:
    """Record consent of contacts. Gives the withdrawals of those who are none, as reasons not to write to them."""
    ids = list(set(owner_of.values()))
    held = {
        row["contact_id"]: (row["status"], row["at"])
        for row in await MERGE.consents_held.many(uow.raw, uow.tenant, ids, place.channel, place.purpose)
    }
    for contact_id, after in (await _own(uow, place, ids)).items():
        held[contact_id] = (after["status"], datetime.fromisoformat(after["at"]))
    said: dict[UUID, Entry] = {}
    strangers = []
    for entry in entries:
        owner = owner_of.get(entry.address)
        if owner is not None:
            said[owner] = combined(said[owner], entry) if owner in said else entry
        elif entry.word == "withdrawn":
            strangers.append(entry._replace(word="unsubscribe"))
        else:
            message = "no contact has this address; import the contacts first"
            batch.problems.append(Problem(entry.line, "address", "unknown_contact", message, echo(entry.address)))
            batch.rejected_count += 1
    known = sum(entry.address in owner_of for entry in entries)
    changed = {owner: entry for owner, entry in said.items() if _says_more(entry, held.get(owner), counts)}
    created = sum(owner not in held for owner in changed)
    counts.created += created
    counts.updated += len(changed) - created
    counts.unchanged += known - len(changed)
    if place.is_dry_run:
        would = {owner: {"status": entry.word, "at": _moment(entry)} for owner, entry in changed.items()}
        before = {owner: {"status": held[owner][0], "at": held[owner][1]} for owner in changed if owner in held}
        await _keep(uow, place, changed, before, would)
    elif changed:
        told = sorted(changed.items())
        columns = [[getattr(entry, name) for _, entry in told] for name in ("word", "at", "source", "ip")]
        key = (uow.raw, uow.tenant, place.channel, place.purpose)
        await MOVING.say_consents.many(*key, [owner for owner, _ in told], *columns)
    return strangers


def _says_more(entry: Entry, held: tuple[str, datetime] | None, counts: Counts) -> bool:
    if held is None:
        return True
    status, at = held
    if status == entry.word:
        return entry.at is not None and entry.at < at
    counts.kept_withdrawn += status == "withdrawn"
    return status == "granted"


async def _suppress(uow: UnitOfWork, place: _Place, entries: list[Entry], known: set[str], counts: Counts) -> None:
    """Put addresses on the tenant's do-not-contact list, or make their entries stronger or earlier."""
    addresses = [entry.address for entry in entries]
    rows = await MOVING.suppressions_held.many(uow.raw, uow.tenant, addresses, place.channel) if entries else []
    held = {row["address"]: _Held(row["scope"], row["reason"], row["created_at"], row["expires_at"]) for row in rows}
    by_id = {_id_of(place.channel, address): address for address in addresses}
    for row_id, after in (await _own(uow, place, list(by_id))).items():
        held[by_id[row_id]] = _Held(after["scope"], after["reason"], datetime.fromisoformat(after["at"]))
    changed = []
    for entry in entries:
        was = held.get(entry.address)
        if was is None:
            counts.created += 1
        elif _is_stronger(entry, was):
            counts.updated += 1
        else:
            counts.unchanged += 1
            continue
        changed.append(entry)
    counts.suppressed += len(entries)
    if place.is_dry_run:
        told = {_id_of(place.channel, entry.address): entry for entry in changed}
        before = {row_id: held[entry.address]._asdict() for row_id, entry in told.items() if entry.address in held}
        would = {row_id: _joined(entry, held.get(entry.address)) for row_id, entry in told.items()}
        await _keep(uow, place, told, before, would)
    elif changed:
        scopes = [_scope(entry) for entry in changed]
        texts = [[getattr(entry, name) for entry in changed] for name in ("word", "source", "note", "at")]
        stored = ([entry.address for entry in changed], [entry.address in known for entry in changed], scopes)
        key = (uow.raw, uow.tenant, place.channel, place.created_by, list(REASONS))
        if await MOVING.suppress_all.many(*key, *stored, *texts):
            await SQL.tell_suppression.run(uow.raw, str(uow.tenant))


def _is_stronger(entry: Entry, was: _Held) -> bool:
    is_wider = was.scope == "bulk" and _scope(entry) == "all"
    is_earlier = entry.at is not None and entry.at < was.at
    return is_wider or is_earlier or _strength(entry.word) < _strength(was.reason) or _takes_its_place(entry, was)


def _takes_its_place(entry: Entry, was: _Held) -> bool:
    """What is imported stays: it replaces an entry that would end and is no stronger."""
    return was.expires_at is not None and _strength(entry.word) <= _strength(was.reason)


def _joined(entry: Entry, was: _Held | None) -> dict[str, Any]:
    if was is None:
        return {"scope": _scope(entry), "reason": entry.word, "at": _moment(entry)}
    reason = min(was.reason, entry.word, key=_strength)
    after = {"reason": reason, "at": min(was.at, entry.at or was.at)}
    if _takes_its_place(entry, was):
        return after | {"scope": _scope(entry), "expires_at": None}
    return after | {"scope": "all" if "all" in {was.scope, _scope(entry)} else "bulk"}


def _scope(entry: Entry) -> str:
    return "bulk" if entry.word in BULK else "all"


def _strength(word: str) -> int:
    """The order of what protects: a reason by its rank, a withdrawal before a grant, what says nothing last."""
    if word in REASONS:
        return REASONS.index(word)
    return {"withdrawn": 0, "granted": 1}.get(word, 100)


def _moment(entry: Entry) -> datetime:
    now = datetime.now(UTC)
    return min(entry.at or now, now)


def _id_of(channel: str, address: str) -> UUID:
    """What a dry run knows an address by that belongs to no contact."""
    return UUID(bytes=hashlib.sha256(f"{channel}:{address}".encode()).digest()[:16])


async def _own(uow: UnitOfWork, place: _Place, ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    """What this dry run would have stored in earlier batches."""
    if not place.is_dry_run:
        return {}
    rows = await MERGE.changes_of.many(uow.raw, uow.tenant, place.import_id, list(ids))
    return {row["contact_id"]: orjson.loads(row["after"]) for row in rows}


async def _keep(
    uow: UnitOfWork, place: _Place, told: dict[UUID, Entry], before: dict[UUID, Any], after: dict[UUID, Any]
) -> None:
    """Keep what a dry run would change; whose address it is stays out."""
    if told:
        rows = [
            (row_id, entry.line, "", row_id not in before, orjson.dumps(before.get(row_id, {})).decode(),
             orjson.dumps(after[row_id]).decode())
            for row_id, entry in told.items()
        ]  # fmt: skip
        await MERGE.keep_changes.run(uow.raw, uow.tenant, place.import_id, *map(list, zip(*rows, strict=True)))
