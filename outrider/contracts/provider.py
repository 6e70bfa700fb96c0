"""What a provider is: it takes batches of finished messages to the outside and settles each exactly once.

A provider is one file `plugins/providers/<key>.py` with a module-level `PROVIDER`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

from outrider.base.fields import Field
from outrider.contracts.outcome import Outcome


@dataclass(slots=True)
class Outgoing:
    """One message ready for the wire.

    body is a pure function of what was frozen at acceptance; for email complete RFC 5322 bytes with CRLF line ends,
    ending in CRLF, not dot-stuffed; whoever needs its parts reads them with data/mail_parts.py. `is_8bit` when the
    body has bytes above 127, `needs_smtputf8` when the envelope has. `idempotency_key` is the same for every attempt.
    """

    id: UUID
    address: str
    envelope_from: str
    body: bytes
    idempotency_key: str
    is_8bit: bool = False
    needs_smtputf8: bool = False
    until_s: float | None = None
    """CLOCK_BOOTTIME second after which it must not reach anybody, for providers that can be told; None: no limit."""
    is_urgent: bool = False
    """Transactional, as all messages of its batch: it goes before campaigns that wait for the same account."""


class Leave(Protocol):
    """Who gives leave to send and is told what became of it."""

    def begin(self, message: Outgoing) -> str | None:
        """Ask leave directly before the first byte whose arrival may lead to acceptance.

        Gives:   None: go on, the attempt is in the journal; else the reason why it must not leave: the provider
                 settles it as Unsent(reason) without writing. May be asked twice for one message (once ahead of
                 time, after another of its batch was withdrawn): the last answer counts.
        """
        ...

    def settle(self, message: Outgoing, outcome: Outcome) -> None:
        """Tell what became of the message; exactly once for each message of a batch."""
        ...


class Watch(Leave, Protocol):
    """The engine's side of a send, called by the provider from the event loop."""

    async def keep_key(self, key: str, messages: Sequence[Outgoing]) -> str | None:
        """Have it written down, before any of them is begun, that these go in one request under a key.

        The provider answers a request that it knows by its key as it did the first time and delivers nothing again. So
        one whose answer is lost can be repeated, by anybody, as long as the provider remembers (see `Repeats`).

        Takes:   key of at most 200 characters, of this request alone; messages in the order of the request.
        Gives:   None: it is written down for good; else why nothing of it must leave.
        """
        ...


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a provider's examination by `doctor`: dns, tcp, tls, auth … Nothing is sent."""

    name: str
    is_ok: bool
    detail: str


class Transport(Protocol):
    """Open connections to one account of a provider, shared by the batches of a worker."""

    async def send(self, batch: Sequence[Outgoing], watch: Watch) -> None:
        """Take a batch outside.

        Takes:   1..1000 messages.
        Gives:   nothing; returns after `watch.settle` was called once for every message of the batch.
        Raises:  nothing but CancelledError; on cancellation messages already begun are settled Uncertain and the
                 others Unsent before it propagates.
        """
        ...

    async def close(self) -> None:
        """End the connections politely; idempotent."""
        ...


@runtime_checkable
class Repeats(Protocol):
    """A transport whose provider knows requests again by their key."""

    request_count: int
    """How many messages go in one request at most: fewer per claim would waste requests, which are what is limited."""

    async def repeat(
        self, key: str, messages: Sequence[Outgoing], leave: Callable[[], str | None]
    ) -> list[Outcome] | None:
        """Make a request again whose answer was lost: the same key, the same messages in the same order.

        Takes:   leave: asked directly before the first byte; None: go on.
        Gives:   what became of each message, never Deferred or Unsent: Uncertain when that is still not known; None:
                 leave was not given, or nothing could be asked, and nothing left.
        Raises:  nothing but CancelledError.
        """
        ...


class Provider(Protocol):
    """One kind of account that carries messages of one channel."""

    key: str
    channel: str
    help: str
    fields: tuple[Field, ...]

    def open(self, settings: Mapping[str, Any], secrets: Mapping[str, str], egress: Egress) -> Transport:
        """Make a transport; connects lazily. Settings have passed `fields.check`."""
        ...

    def examine(self, settings: Mapping[str, Any], secrets: Mapping[str, str], egress: Egress) -> AsyncIterator[Stage]:
        """Try each stage of a connection and name the first that fails; sends nothing."""
        ...


@runtime_checkable
class NamesAccount(Protocol):
    """A provider that says what an account is known by: connections to the same one share its rates and its rests."""

    def account(self, settings: Mapping[str, Any], secrets: Mapping[str, str]) -> tuple[str, ...]:
        """What names the account of a connection, and what signs in to it.

        Whoever knows the name alone has not got the account: nothing of theirs may count for those who have.

        Takes:   settings and secrets that `open` takes.
        Gives:   texts that are the same for the same account and credentials; empty: nobody knows whose it is.
        """
        ...


def outdated(provider: Any) -> str | None:
    """What a provider written for an earlier release has to change; asked when plugins are loaded, before any send."""
    account = getattr(provider, "account", None)
    if account is None or callable(account):
        return None
    return (
        "`account` names settings; it has to be a method, `def account(self, settings, secrets) -> tuple[str, ...]`, "
        "that gives what names the account and what signs in to it, or an empty tuple"
    )


@runtime_checkable
class KnowsRate(Protocol):
    """A provider that takes so many messages a second of an account, unless its owner has agreed on more."""

    usual_rate_per_s: float


@runtime_checkable
class HasLines(Protocol):
    """A transport that has several messages on the wire at once, each on a line of its own."""

    line_count: int
    """How many at most: claims of fewer would leave lines idle, however slow the server answers."""


@runtime_checkable
class RestsTogether(Protocol):
    """A transport that rests when its account is refused or slowed down, together with others of the same account."""

    def rest_with(self, other: Transport) -> None:
        """Learn of the account together with another transport of it in this process, from now on."""
        ...


Turn = Callable[[float, float], Awaitable[float]]
"""Takes the next turn to make a request: so many a second at most, none before so many seconds; gives in how many."""


@runtime_checkable
class TakesTurns(Protocol):
    """A transport whose provider limits requests of an account, whoever makes them."""

    def share(self, turn: Turn) -> None:
        """Take turns with every worker that uses the account, from now on. It raises Unavailable when nobody knows."""
        ...


class Egress(Protocol):
    """The one guard in front of every address a tenant can set (SSRF)."""

    async def resolve(self, host: str, port: int) -> list[str]:
        """Numeric addresses of a host that may be dialled, in order of preference.

        Raises:  Refused(target_refused) when any is private, loopback, link-local, multicast or reserved and not in the
                 operator's allow-list; Unavailable(dns_failed) when the name does not resolve now.
        """
        ...
