"""Keys: what of a batch goes in a request that its provider knows again, written down before the request is made.

Owns when that is written and forgotten; who repeats a request is repeats.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from outrider.base import failpoint
from outrider.base.errors import Unavailable
from outrider.contracts.provider import Outgoing
from outrider.data.db import Database
from outrider.domain.messages import keyed
from outrider.engine.dispatch.batch import Batch


class Keys:
    """For one batch; `batch.keyed` says which of its messages a request may be repeated for."""

    def __init__(self, database: Database, batch: Batch) -> None:
        self._database = database
        self._batch = batch

    async def keep(self, connection_id: UUID, key: str, messages: Sequence[Outgoing]) -> str | None:
        """Write down a request by its key before it is made; without a database it is not made."""
        batch = self._batch
        ids = [message.id for message in messages]
        batch.keyed.update(ids)  # also when the answer to the commit is lost: it may be written down
        try:
            async with self._database.transaction() as raw:
                await keyed.keep(
                    raw, batch.lane.tenant_id, key=key, connection_id=connection_id, ids=ids, token=batch.token
                )
        except Unavailable:
            return "its key cannot be written down"
        if failpoint.ARMED:
            failpoint.hit("send.key_kept")
        return None

    async def drop(self, messages: Sequence[Outgoing]) -> str | None:
        """Forget requests that are known not to have left, before another connection takes their messages.

        Else what that one is not sure of would be sent by the first as well, as a repetition.

        Gives:   None: they may go; else why they must not.
        """
        batch = self._batch
        ids = [message.id for message in messages if message.id in batch.keyed]
        if not ids:
            return None
        try:
            async with self._database.transaction() as raw:
                await keyed.forget(raw, batch.lane.tenant_id, ids, [batch.token] * len(ids))
        except Unavailable:
            return "the request that it was part of cannot be forgotten"
        batch.keyed.difference_update(ids)
        return None
