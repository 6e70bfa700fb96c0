"""Email over SMTP: pipelined where the server allows it, encrypted unless told otherwise, each message settled once.

The key is the folder's name; `PROVIDER` is what discovery finds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from outrider.base.fields import Field
from outrider.contracts.callbacks import Report, Unread
from outrider.contracts.provider import Egress, Stage, Transport
from outrider.plugins.providers.smtp.examine import examine
from outrider.plugins.providers.smtp.handshake import TlsContexts, tls_context
from outrider.plugins.providers.smtp.reports import read
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

    def account(self, settings: Mapping[str, Any], secrets: Mapping[str, str]) -> tuple[str, ...]:
        """The server with user and password; a relay that asks for none is nobody's.

        Services give all their customers one user, `apikey`.
        """
        account = account_of(settings, secrets)
        if not account.username:
            return ()
        return account.host.lower(), str(account.port), account.username, account.password

    def examine(self, settings: Mapping[str, Any], secrets: Mapping[str, str], egress: Egress) -> AsyncIterator[Stage]:
        """Try dns, tcp, greeting, tls and auth in turn; the first that fails is the last. Sends nothing."""
        return examine(account_of(settings, secrets), egress, self._contexts)

    def read_letter(self, letter: bytes, *, has_null_sender: bool) -> Report | Unread:
        """What a bounce or a complaint says of its message; see `contracts.callbacks.ReadsLetters`."""
        found = read(letter, has_null_sender=has_null_sender)
        word = found.status or found.kind
        match found.kind:
            case "bounced":
                suppress = "hard_bounce" if found.is_hard else ""
                return Report(
                    "", "", word, "bounced", cause=found.cause, detail=found.detail, suppress=suppress,
                    is_soft=found.is_soft,
                )  # fmt: skip
            case "delivered":
                return Report("", "", word, "delivered", detail=found.detail)
            case "delayed":
                return Report("", "", "delayed", detail=found.detail)
            case "complaint":
                return Report("", "", "complaint", detail=found.detail, suppress="complaint")
        return Unread("", found.kind)


PROVIDER = Smtp()
