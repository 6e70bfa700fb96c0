"""Email over Resend's API: a hundred messages a request, each request known again by its key, events by webhooks.

The key is the folder's name; `PROVIDER` is what discovery finds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from outrider.base.fields import Field
from outrider.contracts.callbacks import Callbacks
from outrider.contracts.provider import Egress, Stage, Transport
from outrider.plugins.providers.resend.callbacks import ResendCallbacks
from outrider.plugins.providers.resend.examine import examine
from outrider.plugins.providers.resend.settings import FIELDS, account_of
from outrider.plugins.providers.resend.transport import ResendTransport

__all__ = ["PROVIDER", "Resend"]


class Resend:
    """A team's account at Resend, or at whatever answers like it."""

    key = "resend"
    channel = "email"
    help = "Resend's API: batches, idempotency keys, events by signed webhooks"
    fields: tuple[Field, ...] = FIELDS
    callbacks: Callbacks = ResendCallbacks()

    def open(self, settings: Mapping[str, Any], secrets: Mapping[str, str], egress: Egress) -> Transport:
        """Make a transport; nothing is connected yet.

        Raises:  Refused naming a setting that cannot be used.
        """
        return ResendTransport(account_of(settings, secrets), egress)

    def account(self, settings: Mapping[str, Any], secrets: Mapping[str, str]) -> tuple[str, ...]:
        """Where it is, and the key that signs in; see `contracts.provider.NamesAccount`."""
        account = account_of(settings, secrets)
        return account.base_url, account.authorization

    def examine(self, settings: Mapping[str, Any], secrets: Mapping[str, str], egress: Egress) -> AsyncIterator[Stage]:
        """Try connection, key and domains; the first that fails is the last. Sends nothing."""
        return examine(account_of(settings, secrets), egress)


PROVIDER = Resend()
