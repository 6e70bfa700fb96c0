"""What `outrider data validate` reports: an invariant that does not hold, and the rows that break it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Finding:
    """One row that breaks an invariant.

    invariant  the statement's name, which begins with the number of faults.md 2.0: `i7_one_message_per_recipient`
    meaning    what must hold, in a sentence
    """

    invariant: str
    meaning: str
    tenant_id: UUID | None
    id: str
    detail: str = ""


class Check(Protocol):
    """A named statement that gives one row (tenant_id, id, detail) per violation, at most `$1` of them."""

    @property
    def name(self) -> str:
        """The invariant's name."""
        ...

    @property
    def purpose(self) -> str:
        """What must hold."""
        ...

    async def many(self, connection: Any, *args: Any) -> list[Any]:
        """The violations."""
        ...


async def broken(raw: Any, checks: Iterable[Check], *, most: int) -> AsyncIterator[Finding]:
    """Run checks one after another.

    Takes:   raw   a connection in a transaction of the engine role
             most  findings per check, so that a damaged table does not fill the memory
    """
    for check in checks:
        for row in await check.many(raw, most):
            yield Finding(check.name, check.purpose, row["tenant_id"], str(row["id"]), str(row["detail"] or ""))
