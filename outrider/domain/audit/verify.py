"""Checking a chain from its first entry to its tip; and the tips for the daily log line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from outrider.data.db import UnitOfWork
from outrider.domain.audit.chain import GENESIS, Entry, canonical, digest
from outrider.domain.audit.prune import PRUNED
from outrider.domain.audit.rows import SQL

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Verified:
    """What a walk over one chain found. `problem` is empty for a whole chain, else `at_seq` is where it breaks."""

    tenant_id: UUID
    count: int
    first_seq: int
    last_seq: int
    problem: str = ""
    at_seq: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing was changed, taken out or cut off."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class Head:
    """The tip of one chain: logged daily elsewhere, it shows a tail that was cut together with its head."""

    tenant_id: UUID
    seq: int
    hash: str


async def verify(uow: UnitOfWork, tenant_id: UUID) -> Verified:
    """Walk a tenant's chain and report the first break, a missing beginning or a cut tail.

    Gives:   a value, never an exception, for whatever was done to the rows. One statement sees each batch; entries
             appended meanwhile are checked too.
    Source:  ASVS V16.4; style.md, what separates a proof from a toy
    """
    head = await SQL.head_read.one(uow.raw, tenant_id)
    walk = _Walk(tenant_id, head["seq"] if head else 0)
    while True:
        batch = await SQL.entries_after.many(uow.raw, tenant_id, walk.last_seq, _BATCH)
        for row in batch:
            problem = walk.step(row)
            if problem:
                return walk.result(problem, row["seq"])
        if len(batch) < _BATCH:
            break
    if walk.missing_hash is not None:
        return walk.result("entries before this one are missing and no entry says that they were pruned", walk.first)
    if head is None:
        return walk.result("the chain's head is missing", walk.last_seq) if walk.count else walk.result()
    if head["seq"] > walk.last_seq:
        return walk.result(f"the tail is cut: the head is at {head['seq']}", walk.last_seq)
    head_now = await SQL.head_read.one(uow.raw, tenant_id)
    if head["hash"] != walk.hash_at_head or head_now is None or head_now["seq"] < walk.last_seq:
        return walk.result("the head does not fit the entries", head["seq"])
    return walk.result()


async def heads(uow: UnitOfWork) -> list[Head]:
    """The tips of every chain (engine role), for the daily log line and the backup manifest."""
    return [Head(row["tenant_id"], row["seq"], row["hash"].hex()) for row in await SQL.heads_all.many(uow.raw)]


class _Walk:
    """State of one walk: where it is and what the next entry must follow."""

    def __init__(self, tenant_id: UUID, head_seq: int) -> None:
        self._tenant_id = tenant_id
        self._head_seq = head_seq
        self._hash = GENESIS
        self.hash_at_head: bytes | None = None
        self.count = 0
        self.first = 0
        self.last_seq = 0
        self.missing_hash: bytes | None = None

    def step(self, row: asyncpg.Record) -> str:
        """Check one entry against the one before; gives what is wrong."""
        seq, previous = row["seq"], row["previous_hash"]
        if self.count == 0:
            self.first = seq
            if seq != 1:
                self.missing_hash = previous
                self._hash = previous
        elif seq != self.last_seq + 1:
            return f"entries {self.last_seq + 1} to {seq - 1} are missing"
        if previous != self._hash:
            return "it does not follow the entry before it"
        entry = _entry(row)
        if digest(entry, previous) != row["hash"]:
            return "it was changed"
        if entry.action == PRUNED and self.missing_hash is not None:
            self._recognise(entry.details)
        self.count += 1
        self.last_seq = seq
        self._hash = row["hash"]
        if seq == self._head_seq:
            self.hash_at_head = row["hash"]
        return ""

    def _recognise(self, details: Any) -> None:
        """Take an entry about pruning as the reason why the chain does not begin at 1, if it fits."""
        if details.get("to_seq") == self.first - 1 and details.get("hash") == (self.missing_hash or b"").hex():
            self.missing_hash = None

    def result(self, problem: str = "", at_seq: int | None = None) -> Verified:
        return Verified(self._tenant_id, self.count, self.first, self.last_seq, problem, at_seq)


def _entry(row: asyncpg.Record) -> Entry:
    details = json.loads(row["details"], parse_float=Decimal)
    return Entry(
        tenant_id=row["tenant_id"],
        seq=row["seq"],
        at=row["at"],
        actor_kind=row["actor_kind"],
        actor=row["actor"],
        action=row["action"],
        target_kind=row["target_kind"],
        target_id=row["target_id"],
        reason=row["reason"],
        details=canonical(details),
        ip=row["ip"],
    )
