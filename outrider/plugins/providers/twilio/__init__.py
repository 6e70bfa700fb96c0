"""Texts over Twilio's Messages API: one request per message, each settled once, statuses and answers by callbacks.

The key is the folder's name; `PROVIDER` is what discovery finds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from outrider.base.fields import Field
from outrider.contracts.callbacks import Callbacks
from outrider.contracts.provider import Egress, Stage, Transport
from outrider.plugins.providers.twilio.callbacks import TwilioCallbacks
from outrider.plugins.providers.twilio.examine import examine
from outrider.plugins.providers.twilio.settings import FIELDS, account_of
from outrider.plugins.providers.twilio.transport import TwilioTransport

__all__ = ["PROVIDER", "Twilio"]


class Twilio:
    """An account at Twilio, or at whatever answers like it."""

    key = "twilio"
    channel = "sms"
    help = "Twilio's Messages API, with status callbacks and answers of recipients"
    fields: tuple[Field, ...] = FIELDS
    callbacks: Callbacks = TwilioCallbacks()
    bills_later = True
    usual_rate_per_s = 100.0
    """What its API takes of an account; a number of its own sends one a second, a short code a hundred."""

    def open(self, settings: Mapping[str, Any], secrets: Mapping[str, str], egress: Egress) -> Transport:
        """Make a transport; nothing is connected yet.

        Raises:  Refused naming a setting that contradicts another.
        """
        return TwilioTransport(account_of(settings, secrets), egress)

    def account(self, settings: Mapping[str, Any], secrets: Mapping[str, str]) -> tuple[str, ...]:
        """The account's SID, where it is, and what signs in; see `contracts.provider.NamesAccount`."""
        account = account_of(settings, secrets)
        return account.base_url, account.account_sid, account.authorization

    def examine(self, settings: Mapping[str, Any], secrets: Mapping[str, str], egress: Egress) -> AsyncIterator[Stage]:
        """Try dns, connection, credentials and the account's state; the first that fails is the last. Sends nothing."""
        return examine(account_of(settings, secrets), egress)


PROVIDER = Twilio()
