"""From a letter that came back to what is known of the message: kept in one transaction, like every callback.

Owns which message an address means; what a letter says is the mail provider's reading, what follows from it is decided
by the loop that applies callbacks.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from uuid import UUID

from outrider.base import failpoint
from outrider.base.errors import Misconfigured
from outrider.base.signing import ReturnSigner
from outrider.contracts.callbacks import ReadsLetters, Report, Told, Unread
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.callbacks import take
from outrider.domain.callbacks.take import Came
from outrider.domain.messages import accounts

PROVIDER = "smtp"
_SOURCE = "smtp"


class Intake:
    """What conversations ask; knows the database and no socket."""

    def __init__(self, runtime: Runtime, signer: ReturnSigner) -> None:
        provider: object = runtime.providers.get(PROVIDER)
        if not isinstance(provider, ReadsLetters):
            raise Misconfigured("provider_missing", f"the provider {PROVIDER!r}, which reads returns, is not installed")
        self._runtime = runtime
        self._signer = signer
        self._provider: ReadsLetters = provider

    def message_of(self, address: str) -> tuple[UUID, UUID] | None:
        """(tenant, message) of an address that we made; None for any other."""
        return self._signer.read(address.rpartition("@")[0])

    async def keep(self, messages: Sequence[tuple[UUID, UUID]], letter: bytes, *, has_null_sender: bool) -> str:
        """Keep what a letter says of each message; committed when this returns.

        Takes:   messages: (tenant, message), at least one.
        Gives:   in a word, what it says: bounced, delayed, complaint …
        Raises:  Unavailable: nothing is kept, and the server will bring it again.
        """
        told = await asyncio.to_thread(self._provider.read_letter, letter, has_null_sender=has_null_sender)
        digest = hashlib.sha256(letter).digest()
        for tenant_id in dict.fromkeys(tenant for tenant, _ in messages):
            async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
                wanted = [message_id for tenant, message_id in messages if tenant == tenant_id]
                connections = await accounts.connections_of(uow.raw, tenant_id, wanted)
                came = [
                    Came(connections[each], PROVIDER, _about(told, each, digest), digest, "genuine", _SOURCE)
                    for each in wanted
                    if each in connections  # the others are gone by retention: nothing is left to say of them
                ]
                if came:
                    await take.take_in(uow.raw, tenant_id, came)
                if failpoint.ARMED:
                    failpoint.hit("returns.before_commit")
        return told.word


def _about(told: Report | Unread, message_id: UUID, digest: bytes) -> Told:
    """What was told, of one message; the same letter brought again is the same."""
    key = f"{message_id} {digest.hex()}"
    if isinstance(told, Report):
        return Report(
            key, "", told.word, told.state, message_id, cause=told.cause, detail=told.detail, suppress=told.suppress,
            is_soft=told.is_soft,
        )  # fmt: skip
    return Unread(key, told.word)
