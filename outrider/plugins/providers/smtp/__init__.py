"""Email over SMTP: pipelined where the server allows it, encrypted unless told otherwise, each message settled once.

The key is the folder's name; `PROVIDER` is what discovery finds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from outrider.base.fields import Field
from outrider.contracts.provider import Egress, Stage, Transport
from outrider.plugins.providers.smtp.examine import examine
from outrider.plugins.providers.smtp.handshake import TlsContexts, tls_context
from outrider.plugins.providers.smtp.settings import FIELDS, account_of
from outrider.plugins.providers.smtp.transport import SmtpTransport

__all__ = ["PROVIDER", "Smtp"]


class Smtp:
    """Any SMTP account: a submission service, a relay, a local Postfix."""

    key = "smtp"
    channel = "email"
    help = "Any mail server that speaks SMTP, with STARTTLS and a password or without"
    fields: tuple[Field, ...] = FIELDS

    def __init__(self, contexts: TlsContexts = tls_context) -> None:
        """Take another maker of TLS contexts than the system's trust store, as tests do."""
        self._contexts = contexts

    def open(self, settings: Mapping[str, Any], secrets: Mapping[str, str], egress: Egress) -> Transport:
        """Make a transport; nothing is connected yet.

        Raises:  Refused naming a setting that contradicts another.
        """
        return SmtpTransport(account_of(settings, secrets), egress, self._contexts)

    def examine(self, settings: Mapping[str, Any], secrets: Mapping[str, str], egress: Egress) -> AsyncIterator[Stage]:
        """Try dns, tcp, greeting, tls and auth in turn; the first that fails is the last. Sends nothing."""
        return examine(account_of(settings, secrets), egress, self._contexts)


PROVIDER = Smtp()
