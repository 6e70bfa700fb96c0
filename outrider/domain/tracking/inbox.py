"""What came in, stored until it is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from outrider.data.db import UnitOfWork
from outrider.domain.tracking.rows import SQL


@dataclass(frozen=True, slots=True)
class Taken:
    """A hit of `n` alike, the first one `age_s` ago; what it concerns comes out of a signed address."""

    tenant_id: UUID
    message_id: UUID
    kind: int
    link: int
    machine: str
    age_s: float
    n: int


async def take_in(uow: UnitOfWork, hits: Sequence[Taken]) -> None:
    """Store hits of any tenants (engine role): one statement."""
    await SQL.hits_take_in.run(
        uow.raw,
        [hit.tenant_id for hit in hits],
        [hit.message_id for hit in hits],
        [hit.age_s for hit in hits],
        [hit.kind for hit in hits],
        [hit.link for hit in hits],
        [hit.machine for hit in hits],
        [hit.n for hit in hits],
    )
