"""The do-not-contact list: addresses that must not be written to, of one tenant or of the installation [S1-37, S1-38].

Owns the strength of entries: all is stronger than bulk, a recipient's word stronger than ours; none becomes weaker
but by `unsuppress`, or when its time is over. The gate reads the table itself.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg

from outrider.base.errors import Broken, Refused, RefusedMany
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel
from outrider.data.db import Role, UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts import values
from outrider.domain.contacts.channels import channel_of, needs_region, stored_form
from outrider.domain.contacts.rows import SQL
from outrider.domain.contacts.views import SuppressionView
from outrider.domain.tenants.regions import region_of

Scope = Literal["all", "bulk"]
Reason = Literal["complaint", "unsubscribe", "stop", "erased", "hard_bounce", "invalid", "manual", "soft_bounce"]
REASONS: tuple[Reason, ...] = (
    "complaint", "unsubscribe", "stop", "erased", "hard_bounce", "invalid", "manual", "soft_bounce",
)  # fmt: skip
"""The strongest first."""

RECIPIENT_ASKED = frozenset({"complaint", "unsubscribe", "stop", "erased"})
"""Reasons that are the recipient's own word: taking such an entry away needs force and a reason."""

_LONGEST_NOTE = 500
_MOST_NAMED = 100
MOST_AT_ONCE = 5_000
_YIELD_COUNT = 100
_UPKEEP = Actor("system", "upkeep")


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry to be made of an address in its stored form; `expires_at` None: it stays until it is taken away.

    `source` and `made_by` in the place of what is said of all that are made at once.
    """

    channel: str
    address: str
    scope: Scope
    reason: Reason
    note: str = ""
    expires_at: datetime | None = None
    source: str = ""
    made_by: str = ""


def strongest(entries: Iterable[Entry]) -> list[Entry]:
    """Of several entries of one address the one whose reason is the strongest; the first of equal ones."""
    found: dict[tuple[str, str], Entry] = {}
    for each in entries:
        whom = (each.channel, each.address)
        known = found.get(whom)
        if known is None or REASONS.index(each.reason) < REASONS.index(known.reason):
            found[whom] = each
    return list(found.values())


async def suppress(
    uow: UnitOfWork,
    channels: Mapping[str, Channel],
    actor: Actor,
    channel: str,
    address: str,
    *,
    scope: Scope = "all",
    reason: Reason = "manual",
    source: str,
    note: str = "",
) -> bool:
    """Put an address, typed in any form, on the do-not-contact list.

    Takes:   a unit of work without a tenant (engine role): the entry holds for every tenant. scope bulk lets
             transactional messages through.
    Gives:   whether the entry is new or became stronger; an entry never becomes weaker. Workers are told at commit.
    Raises:  Refused naming channel, address, scope or reason.
    """
    plain = await _plain(uow, channels, channel, address)
    changed = await record(uow, actor, channel, plain, scope=scope, reason=reason, source=source, note=note)
    await append(
        uow,
        actor,
        action="suppression.add",
        target=("suppression", f"{channel}:{_hash(plain)}"),
        reason=reason,
        details={"scope": scope, "source": source, "changed": changed},
    )
    return changed


async def suppress_many(
    uow: UnitOfWork, channels: Mapping[str, Channel], actor: Actor, entries: Sequence[Entry], *, source: str
) -> int:
    """Put addresses, typed in any form, on the do-not-contact list: all of them or none; audited as one.

    Takes:   1..5,000 entries; one address several times is one entry, as strong as the strongest of them. Without a
             tenant as `suppress`.
    Gives:   how many entries are new or became stronger. Workers are told at commit.
    Raises:  Refused(too_many); RefusedMany naming what is wrong with each, by its place: `/entries/3/address`.
    """
    if not 0 < len(entries) <= MOST_AT_ONCE:
        raise Refused("too_many", f"give 1 to {MOST_AT_ONCE:,} at once; import a file of more", field="/entries")
    plain: dict[tuple[str, str], Entry] = {}
    errors: list[Refused] = []
    region: str | None = None
    for at, each in enumerate(entries):
        if at % _YIELD_COUNT == 0:
            await asyncio.sleep(0)  # reading thousands of addresses takes a second or so: requests go on meanwhile
        within = f"/entries/{at}"
        try:
            _check(each.scope, each.reason, each.note, within=within)
            channel = channel_of(channels, each.channel, field=f"{within}/channel")
            is_home = needs_region(channel, each.address)
            if is_home and region is None:
                region = await region_of(uow.raw, uow.tenant_id)
            typed, home = each.address, (region or "") if is_home else ""
            address = channel.normalise(typed, field=f"{within}/address", region=home)
        except Refused as refused:
            errors.append(refused)
            continue
        entry = replace(each, address=address)
        known = plain.get((entry.channel, address))
        plain[entry.channel, address] = entry if known is None else _both(known, entry)
    if errors:
        raise RefusedMany(errors)
    changed = len(await record_all(uow.raw, _owner(uow), actor, list(plain.values()), source=source))
    named = [f"{channel}:{_hash(address)}" for channel, address in list(plain)[:_MOST_NAMED]]
    details = {"count": len(plain), "changed": changed, "source": source, "entries": named}
    target = ("suppression", f"{len(plain)} entries")
    await append(uow, actor, action="suppression.add_many", target=target, details=details)
    return changed


def _both(one: Entry, other: Entry) -> Entry:
    """Two entries of one address: the stronger reason with its note, and the wider scope."""
    stronger = min(one, other, key=lambda each: REASONS.index(each.reason))
    return replace(stronger, scope="all" if "all" in {one.scope, other.scope} else "bulk")


async def record(
    uow: UnitOfWork,
    actor: Actor,
    channel: str,
    address: str,
    *,
    scope: Scope,
    reason: Reason,
    source: str,
    note: str = "",
) -> bool:
    """`suppress` for an address in its stored form and without an entry in the audit log: a recipient's own act."""
    _check(scope, reason, note)
    entry = Entry(channel, address, scope, reason, note)
    return bool(await record_all(uow.raw, _owner(uow), actor, [entry], source=source))


async def record_all(
    raw: asyncpg.Connection, owner: UUID, actor: Actor, entries: Sequence[Entry], *, source: str
) -> set[tuple[str, str]]:
    """`record` for entries of different addresses, in one statement and one order of locks.

    Takes:   all that a transaction lists: two calls could wait for somebody who waits for them.
    Gives:   channel and address of those that are new or became stronger; workers are told of them at commit.
    """
    rows = await SQL.suppress.many(
        raw, owner, [each.channel for each in entries], [each.address for each in entries],
        [each.scope for each in entries], [each.reason for each in entries],
        [each.source or source for each in entries], [each.made_by or actor.name for each in entries], list(REASONS),
        [each.note for each in entries], [each.expires_at for each in entries],
    )  # fmt: skip
    if rows:
        await SQL.tell_suppression.run(raw, str(owner))
    return {(row["channel"], row["address"]) for row in rows}


def _check(scope: Scope, reason: Reason, note: str, *, within: str = "") -> None:
    """Refuse what no entry says, naming its field `within` what holds it."""
    if scope not in ("all", "bulk"):
        raise Refused("unknown_scope", "must be all or bulk", field=f"{within}/scope")
    if reason not in REASONS:
        raise Refused("unknown_reason", f"must be one of {', '.join(REASONS)}", field=f"{within}/reason")
    if len(note) > _LONGEST_NOTE:
        raise Refused("field_too_long", f"must have at most {_LONGEST_NOTE} characters", field=f"{within}/note")
    values.check_attribute_text(note, field=f"{within}/note")


def reason_of(word: str) -> Reason:
    """The reason that a provider's plugin names; a word that is none stands for an address that cannot be used."""
    return next((reason for reason in REASONS if reason == word), "invalid")


async def expire(uow: UnitOfWork, most: int) -> int:
    """Take away entries whose time is over, `most` at a time; audited once per tenant (engine role, no tenant).

    Gives:   how many.
    """
    gone: defaultdict[UUID, list[asyncpg.Record]] = defaultdict(list)
    for row in await SQL.suppressions_expire.many(uow.raw, most):
        gone[row["tenant_id"]].append(row)
    for tenant_id in sorted(gone):
        rows = gone[tenant_id]
        named = [f"{row['channel']}:{row['address_hash']}" for row in rows[:_MOST_NAMED]]
        await append(
            uow, _UPKEEP, action="suppression.expired", target=("suppression", f"{len(rows)} entries"),
            reason="their time is over", details={"count": len(rows), "entries": named}, tenant_id=tenant_id,
        )  # fmt: skip
    return sum(map(len, gone.values()))


async def unsuppress(
    uow: UnitOfWork,
    channels: Mapping[str, Channel],
    actor: Actor,
    channel: str,
    address: str,
    *,
    reason: str,
    force: bool = False,
) -> None:
    """Take an address from the do-not-contact list. Consent that was withdrawn stays withdrawn.

    Takes:   reason: why; force: also when the recipient asked not to be contacted, and then the reason is required.
    Raises:  Refused(not_found); Refused(recipient_asked, 409) without force and reason.
    """
    plain = await _plain(uow, channels, channel, address)
    owner = _owner(uow)
    row = await SQL.lock_suppression.one(uow.raw, owner, channel, plain)
    if row is None:
        raise Refused("not_found", "the address is not on this do-not-contact list", field="/address", status=404)
    if row["reason"] in RECIPIENT_ASKED and not (force and reason.strip()):
        raise Refused(
            "recipient_asked",
            f"the recipient asked for this ({row['reason']} on {row['created_at']:%Y-%m-%d}); needs force and a reason",
            field="/force",
            status=409,
        )
    await SQL.unsuppress.value(uow.raw, owner, channel, plain)
    was = {name: row[name] for name in ("scope", "reason", "source", "created_by")}
    await append(
        uow,
        actor,
        action="suppression.remove",
        target=("suppression", f"{channel}:{_hash(plain)}"),
        reason=reason,
        details={"forced": force, **{f"was_{name}": value for name, value in was.items()}},
    )


async def lookup(uow: UnitOfWork, channels: Mapping[str, Channel], channel: str, address: str) -> list[SuppressionView]:
    """What stands against an address, typed in any form: the tenant's entry and the installation's [S1-38]."""
    plain = await _plain(uow, channels, channel, address)
    return [_view(row) for row in await SQL.suppressions_of.many(uow.raw, _owner(uow), channel, plain)]


async def listed(
    uow: UnitOfWork,
    *,
    limit: int,
    after: tuple[str, str] | None = None,
    channel: str | None = None,
    reason: str | None = None,
) -> list[SuppressionView]:
    """The do-not-contact list by key: `after` is channel and address_hash of the last entry seen.

    Takes:   a unit of work without a tenant: the installation's own list.
    """
    last_channel, last_hash = after or ("", "")
    rows = await SQL.suppressions_page.many(
        uow.raw, _owner(uow), last_channel, bytes.fromhex(last_hash), limit, channel, reason
    )
    return [_view(row) for row in rows]


async def _plain(uow: UnitOfWork, channels: Mapping[str, Channel], channel: str, address: str) -> str:
    return await stored_form(uow.raw, uow.tenant_id, channel_of(channels, channel), address, field="/address")


def _owner(uow: UnitOfWork) -> UUID:
    """Whose list it is; the installation's can be changed by the engine role alone."""
    if uow.tenant_id is None and uow.role is not Role.ENGINE:
        raise Broken("no_tenant", "the installation's do-not-contact list needs the engine role")
    return uow.tenant_id or NIL


def _hash(address: str) -> str:
    """How the audit log names an address without keeping it."""
    return hashlib.sha256(address.encode()).hexdigest()


def _view(row: asyncpg.Record) -> SuppressionView:
    facts = dict(row)
    return SuppressionView(is_installation=facts.pop("tenant_id") == NIL, **facts)
