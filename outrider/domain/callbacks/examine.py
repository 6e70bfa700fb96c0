"""Examining a connection as it is used: with the address under which its provider is to report.

Owns only that address; the examination itself is the provider's (`domain/senders/connections.py`).
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from outrider.contracts.callbacks import CALLBACK_URL, Reports
from outrider.data.runtime import Runtime
from outrider.domain.callbacks.address import callback_url, signer_of
from outrider.domain.senders import connections
from outrider.domain.senders.connections import Account, StageView


async def examined(runtime: Runtime, account: Account, tenant_id: UUID, connection_id: UUID) -> list[StageView]:
    """Try each stage of a connection, what its provider is configured to report to among them; sends nothing."""
    if isinstance(account.provider, Reports):
        signer, public_url = signer_of(runtime.keyring), runtime.settings.public_url
        named = (tenant_id, connection_id)
        url = callback_url(signer, public_url, account.provider.key, account.settings, *named)
        account = replace(account, settings={**account.settings, CALLBACK_URL: url})
    return await connections.examined(account, runtime.egress)
