"""Sources: who asked for a text, noted when it is accepted, where a tenant limits how many one may ask for.

Owns table `message_sources`; how many are too many is the gate's (plugins/gates/source_limit.py). Campaigns have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from outrider.data.countries import country_of
from outrider.domain.limits.rows import PACES as SQL

LONGEST = 200
_OWN_DIGITS = 3


async def note(
    raw: asyncpg.Connection, tenant_id: UUID, ids: Sequence[UUID], numbers: Sequence[str], sources: Sequence[str]
) -> None:
    """Note the sources of accepted texts; those that name none count for nobody.

    Takes:   the transaction that accepts them; numbers in E.164.
    """
    named = [(mid, number, source) for mid, number, source in zip(ids, numbers, sources, strict=True) if source]
    if not named:
        return
    await SQL.sources_note.run(
        raw, tenant_id, [mid for mid, _, _ in named], [source for _, _, source in named],
        [country_of(number) for _, number, _ in named], [number[:-_OWN_DIGITS] for _, number, _ in named],
    )  # fmt: skip
