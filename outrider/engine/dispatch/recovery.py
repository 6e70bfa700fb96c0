"""Recovery: what dead workers left leased is handed back, recorded, repeated or called uncertain; never lost.

Two sources: a dead sibling's journal, which proves what was not begun; else only the lease, and everything leased
counts as begun (docs/decisions: journal and recovery).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID

import asyncpg
import structlog

from outrider.base.errors import Unavailable
from outrider.base.settings import Settings
from outrider.data.db import Database
from outrider.domain.messages import keyed, poison
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch.journal import DeadClaim, DeadJournal, abandoned
from outrider.engine.dispatch.record import Row, row_for, write

_log = structlog.get_logger(__name__)
CRASHES_TO_POISON = poison.CRASHES
_SLICE = 1000


class Recovery:
    """Looks for what the dead left behind; any worker may do it, locks and tokens make it happen once."""

    def __init__(self, database: Database, journals: Path, settings: Settings) -> None:
        self._database = database
        self._journals = journals
        self._settings = settings
        self.handed_back_count = 0
        self.uncertain_count = 0

    async def step(self) -> bool:
        """One round: dead journals first, then ended leases."""
        for journal in abandoned(self._journals):
            try:
                await self._from_journal(journal)
            except Unavailable:
                raise
            except Exception:  # noqa: BLE001 - one journal that cannot be recovered must not keep the others waiting
                _log.exception("journal_unrecoverable", journal=journal.path.name)
        more = False
        async with self._database.transaction() as raw:
            tenants = [row["id"] for row in await SQL.tenants_with_expired_leases.many(raw, self._settings.lease_s)]
        for tenant_id in tenants:
            more |= await self._from_leases(tenant_id)
        return more

    async def _from_journal(self, journal: DeadJournal) -> None:
        """Recover everything open in one dead worker's journal, then remove it.

        A journal that proves nothing (another boot, damage) is removed as well: only the leases decide then.
        """
        is_done = False
        try:
            if journal.is_proof:
                found = [await self._from_claim(claim) for claim in journal.claims]
                # a claim whose commit is still on its way shows nothing yet: look again before forgetting it
                is_done = all(found) or journal.age_s > self._settings.lease_s
            else:
                _log.warning("journal_without_proof", journal=journal.path.name)
                is_done = True
        finally:
            if is_done:
                journal.discard()
            else:
                journal.release()

    async def _from_claim(self, claim: DeadClaim) -> bool:
        """One token: outcome known -> recorded; begun -> by promise; not begun -> ready at once.

        Gives:   whether anything was leased under it.
        """
        async with self._database.transaction() as raw:
            leased = await SQL.leased_by.many(raw, claim.tenant_id, [claim.token])
            if not leased:
                return False
            promises = await _promises(raw, claim.tenant_id, leased)
            requests = await _requests(raw, claim.tenant_id, leased)
            rows = [self._row(row, claim, promises, requests) for row in leased]
            await _write(raw, claim.tenant_id, rows)
        self._count(rows)
        _log.info("recovered_from_journal", token=claim.token, messages=len(rows), rendering=claim.is_rendering)
        return True

    def _row(
        self,
        leased: asyncpg.Record,
        claim: DeadClaim,
        promises: Mapping[tuple[UUID, str], bool],
        requests: Mapping[UUID, frozenset[UUID]],
    ) -> Row:
        message_id, token = leased["message_id"], leased["token"]
        may_repeat = promises[leased["sender_id"], leased["message_class"]]
        outcome = claim.outcomes.get(message_id)
        if outcome is not None:
            return row_for(
                message_id, token, outcome, attempt=leased["attempt"], may_repeat=may_repeat, settings=self._settings
            )
        together = requests.get(message_id, frozenset())
        if message_id in claim.begun and together <= claim.begun:  # all of a request begins before its first byte
            return _begun(leased, may_repeat=may_repeat, is_keyed=bool(together))
        if claim.is_rendering:
            return _poison(leased) or Row("hand_back", message_id, token, crash=1)
        return Row("hand_back", message_id, token)

    async def _from_leases(self, tenant_id: UUID) -> bool:
        """Messages whose lease ended: nobody knows whether they were begun, so each counts as begun."""
        async with self._database.transaction() as raw:
            expired = await SQL.expired_leases.many(raw, tenant_id, _SLICE)
            if not expired:
                return False
            promises = await _promises(raw, tenant_id, expired)
            requests = await _requests(raw, tenant_id, expired)
            rows = [
                _begun(
                    row,
                    may_repeat=promises[row["sender_id"], row["message_class"]],
                    is_keyed=row["message_id"] in requests,
                )
                for row in expired
            ]
            await _write(raw, tenant_id, rows)
        self._count(rows)
        _log.warning("leases_swept", tenant=str(tenant_id), messages=len(rows))
        return len(expired) == _SLICE

    def _count(self, rows: Sequence[Row]) -> None:
        self.uncertain_count += sum(row.state == "uncertain" for row in rows)
        self.handed_back_count += sum(row.kind in {"hand_back", "try_again"} for row in rows)


async def _write(raw: asyncpg.Connection, tenant_id: UUID, rows: list[Row]) -> None:
    """Write rows, and put those that are given up on the list that people decide about."""
    ours = await write(raw, tenant_id, rows)
    given_up = [row.id for row in rows if row.id in ours and (row.state, row.code) == ("failed", poison.CODE)]
    await poison.set_aside(raw, tenant_id, given_up)


def _begun(leased: asyncpg.Record, *, may_repeat: bool, is_keyed: bool = False) -> Row:
    """Begun, answer unknown: repeated where the sender promises at least once, else uncertain.

    What was begun when its worker died for the last time is uncertain as well: it may have been taken each time. Where
    the request is known by a key it is uncertain until that request is repeated, which delivers nothing twice.
    """
    if may_repeat and not is_keyed:
        return _poison(leased, "uncertain") or Row("try_again", leased["message_id"], leased["token"])
    return Row(
        "finish", leased["message_id"], leased["token"], "uncertain", None, "answer_lost",
        "its worker died, or its lease ended, while it was being sent",
    )  # fmt: skip


def _poison(leased: asyncpg.Record, state: str = "failed") -> Row | None:
    """The end of a message in whose hands workers keep dying."""
    if leased["crashes"] + 1 < CRASHES_TO_POISON:
        return None
    return Row(
        "finish", leased["message_id"], leased["token"], state, None, poison.CODE,
        f"its worker died {CRASHES_TO_POISON} times while it was being processed",
    )  # fmt: skip


async def _requests(
    raw: asyncpg.Connection, tenant_id: UUID, leased: Sequence[asyncpg.Record]
) -> dict[UUID, frozenset[UUID]]:
    """What of it went, or was about to go, in a request that can be repeated, each with all that went along."""
    return await keyed.made_under(
        raw, tenant_id, [row["message_id"] for row in leased], [row["token"] for row in leased]
    )


async def _promises(
    raw: asyncpg.Connection, tenant_id: UUID, leased: Sequence[asyncpg.Record]
) -> defaultdict[tuple[UUID, str], bool]:
    """(sender, class) -> whether an attempt without answer may be repeated; unknown senders promise nothing."""
    promises: defaultdict[tuple[UUID, str], bool] = defaultdict(bool)
    senders = list({row["sender_id"] for row in leased})
    for row in await SQL.sender_guarantees.many(raw, tenant_id, senders):
        promises[row["id"], "transactional"] = row["transactional_guarantee"] == "at_least_once"
        promises[row["id"], "bulk"] = row["bulk_guarantee"] == "at_least_once"
    return promises
