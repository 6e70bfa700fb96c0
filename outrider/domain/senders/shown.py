"""A sender as previews and web versions show it: made like the worker's identity, without keys.

Owns which of its fields show in a message; nothing that is made of it is ever sent.
"""

from __future__ import annotations

from outrider.contracts.channel import Identity
from outrider.data.db import UnitOfWork
from outrider.domain.senders.rows import SQL
from outrider.domain.senders.senders import SenderView


async def identity_of(uow: UnitOfWork, sender: SenderView) -> Identity:
    """Who a message of this sender comes from."""
    return Identity(
        sender.id,
        sender.from_address,
        sender.from_name,
        postal_address=sender.postal_address,
        opt_out_line=sender.opt_out_line,
        has_preferences_footer=bool(await SQL.preferences_footer.value(uow.raw, uow.tenant)),
    )
