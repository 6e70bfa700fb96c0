"""What a provider is: it takes batches of finished messages to the outside and settles each exactly once.

A provider is one file `plugins/providers/<key>.py` with a module-level `PROVIDER`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from outrider.base.fields import Field
from outrider.contracts.outcome import Outcome


@dataclass(slots=True)
class Outgoing:
    """One message ready for the wire.

    body is a pure function of what was frozen at acceptance; for email complete RFC 5322 bytes with CRLF line ends,
    ending in CRLF, not dot-stuffed. `is_8bit` when the body has bytes above 127, `needs_smtputf8` when the
    envelope has. `idempotency_key` is the same for every attempt.
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


class Watch(Protocol):
    """The engine's side of a send, called by the provider from the event loop."""

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


class Egress(Protocol):
    """The one guard in front of every address a tenant can set (SSRF)."""

    async def resolve(self, host: str, port: int) -> list[str]:
        """Numeric addresses of a host that may be dialled, in order of preference.

        Raises:  Refused(target_refused) when any is private, loopback, link-local, multicast or reserved and not in the
                 operator's allow-list; Unavailable(dns_failed) when the name does not resolve now.
        """
        ...
