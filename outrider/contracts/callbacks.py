"""What providers tell us by themselves: what became of messages, and what people write. Pure values.

A provider that has callbacks has an attribute `callbacks`; whoever opens it gives it, beside its settings, the address
under which it is to report, as `CALLBACK_URL`. The address names connection and tenant; a query `m=` names the message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Protocol, runtime_checkable
from uuid import UUID

CALLBACK_URL = "callback_url"
"""Beside a provider's settings: where it reports to; empty or missing: it is not to report."""

State = Literal["sent", "delivered", "failed", "bounced"]
RANKS: dict[State, int] = {"sent": 1, "delivered": 2, "failed": 3, "bounced": 4}
"""The table of precedence: of all that was told about a message the greatest holds, in whatever order it was told.

A delivery that is taken back later (an email returned after it was accepted) counts as not delivered.
"""


@dataclass(frozen=True, slots=True)
class CallbackRequest:
    """A request as it came in. `target` is path and query as sent; header names in lower case; `at_s` since 1970."""

    target: str
    headers: Mapping[str, str]
    body: bytes
    at_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a message.

    key          equal for what is told again; provider_id names the message at the provider
    message_id   ours, as the provider gave it back; None: unknown
    word         the provider's own, kept with the event; state: what it means for the message, None: nothing
    at           when it happened by the provider's own clock, shown with the event; None: it does not say
    cause        of contracts/outcome.py, with `detail`, when it says why not
    suppress     the address is put on the do-not-contact list for this reason; empty: not
    is_soft      the mailbox or handset could not be reached for now: it counts towards the limit of soft bounces
    price        what the provider charges, in `currency`; None: not told
    """

    key: str
    provider_id: str
    word: str
    state: State | None = None
    message_id: UUID | None = None
    at: datetime | None = None
    cause: str = ""
    detail: str = ""
    suppress: str = ""
    is_soft: bool = False
    price: Decimal | None = None
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Inbound:
    """What somebody wrote; `sender` and `to` as the provider gave them. `is_answered`: it answered by itself."""

    key: str
    provider_id: str
    sender: str
    to: str
    text: str
    media_count: int = 0
    is_answered: bool = False


@dataclass(frozen=True, slots=True)
class Unread:
    """Something of a kind that is not known: kept, and nothing follows from it."""

    key: str
    word: str


Told = Report | Inbound | Unread


class Callbacks(Protocol):
    """How one provider reports."""

    needs: tuple[str, ...]
    """Secrets without which nothing can be verified, any of them."""

    def glance(self, headers: Mapping[str, str], at_s: float) -> str | None:
        """What is wrong with a request by its headers alone, so that its body need not be read; None: nothing yet.

        Takes:   header names in lower case; the moment, in seconds since 1970.
        Gives:   what `verify` would say; raises nothing, whatever it is given.
        """
        ...

    def verify(
        self,
        request: CallbackRequest,
        base: str,
        settings: Mapping[str, Any],
        secrets: Mapping[str, str],
    ) -> str | None:
        """Whether a request is genuine: None, or why not, in a word that can be counted.

        Takes:   base: scheme and host by configuration; never what the request says of itself. Secrets of before a
                 rotation count as well. Constant time; raises nothing, whatever it is given.
        """
        ...

    def read(self, request: CallbackRequest, settings: Mapping[str, Any]) -> Sequence[Told]:
        """What a genuine request tells.

        Raises:  Refused(invalid_callback, unsupported_media_type) with the status to answer.
        """
        ...

    def answer(self, reply: str) -> tuple[str, bytes]:
        """Content type and body of the answer; `reply` is sent to whoever wrote, empty: nothing."""
        ...


@runtime_checkable
class Reports(Protocol):
    """A provider with callbacks."""

    callbacks: Callbacks


@runtime_checkable
class ReadsLetters(Protocol):
    """A provider whose reports come back as letters, each to the address of its message."""

    def read_letter(self, letter: bytes, *, has_null_sender: bool) -> Report | Unread:
        """What a letter says, its key and message left empty; never raises.

        Takes:   letter: as received; has_null_sender: its envelope sender was `<>`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Bill:
    """What a provider charges for a message, all its parts together; never negative.

    provider_id  the message's id there, which tells attempts apart that were both taken; empty: not known
    """

    amount: Decimal
    currency: str
    provider_id: str = ""


@runtime_checkable
class BillsLater(Protocol):
    """A provider that says what a message cost only after it was sent; its transports are `Bills`."""

    bills_later: bool


@runtime_checkable
class Bills(Protocol):
    """A transport that can be asked what messages cost."""

    async def bills(self, sent: Mapping[str, datetime]) -> Mapping[str, Bill]:
        """What each costs, by its id at the provider; one that has no price yet, or is not known, is missing.

        Takes:   1..1000 ids, and no later than when each was handed over.
        Raises:  Unavailable when it cannot be asked now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Lost:
    """A message whose answer was lost, as far as a provider can be asked about it."""

    id: UUID
    address: str
    sender: str
    body: bytes
    since: datetime
    known_ids: frozenset[str]
    """Ids at the provider of other messages to this address: none of them is this one."""


@runtime_checkable
class Finds(Protocol):
    """A transport that can be asked what became of messages whose answer was lost."""

    async def find(self, lost: Sequence[Lost]) -> dict[UUID, str | None]:
        """The provider's id of each, None where it certainly has no such message; what cannot be told is missing.

        Raises:  Unavailable when it cannot be asked now.
        """
        ...
