"""What all sessions of one sandbox share: options, ledger, fault book, counters, who is connected.

Owns the shared state and nothing of the protocol.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from typing import Any, Protocol

from outrider.interfaces.sandbox.faults import FaultBook
from outrider.interfaces.sandbox.ledger import Ledger
from outrider.interfaces.sandbox.options import SandboxOptions


class Guest(Protocol):
    """A connected session, as the house sees it."""

    @property
    def is_in_transaction(self) -> bool:
        """Whether a message is under way."""
        ...

    def tick(self, most_ticks: int) -> None:
        """Time passes; one that has said nothing for more ticks is dismissed."""
        ...

    def abort(self) -> None:
        """End the connection at once."""
        ...

    def dismiss(self, answer: bytes) -> None:
        """Say this and close."""
        ...


class House:
    """Shared by all sessions of a process; one event loop, no locks."""

    def __init__(
        self, options: SandboxOptions, ledger: Ledger, book: FaultBook, tls: ssl.SSLContext, session_prefix: str
    ) -> None:
        self.options = options
        self.ledger = ledger
        self.book = book
        self.tls = tls
        self.session_prefix = session_prefix
        self.sessions: set[Guest] = set()
        self.empty = asyncio.Event()
        self.empty.set()
        self.counts: Counter[str] = Counter()
        """sessions, tls_sessions, turned_away, commands_in_error, auth_failures, timeouts."""
        self.is_stopping = False
        self.rules_error: str | None = None
        self.rules_reads = 0

    def enter(self, guest: Guest) -> None:
        """Count somebody in."""
        self.sessions.add(guest)
        self.empty.clear()

    def leave(self, guest: Guest) -> None:
        """Count somebody out; idempotent."""
        self.sessions.discard(guest)
        if not self.sessions:
            self.empty.set()

    def next_session_id(self) -> str:
        """A session id that no earlier process of this ledger used."""
        self.counts["sessions"] += 1
        return f"{self.session_prefix}-{self.counts['sessions']}"

    def stats(self) -> dict[str, Any]:
        """The counters since the start of this process, as `/stats` shows them."""
        outcomes = self.ledger.counts
        before, after = outcomes["dropped_before_dot"], outcomes["dropped_after_dot"]
        return {
            "accepted": outcomes["accepted"],
            "refused": outcomes["refused"],
            "deferred": outcomes["deferred"],
            "dropped": before + after,
            "dropped_before_dot": before,
            "dropped_after_dot": after,
            "sessions": self.counts["sessions"],
            "sessions_open": len(self.sessions),
            "bytes": self.ledger.taken_bytes,
            "last_seq": self.ledger.last_seq,
            "tls_sessions": self.counts["tls_sessions"],
            "turned_away": self.counts["turned_away"],
            "commands_in_error": self.counts["commands_in_error"],
            "auth_failures": self.counts["auth_failures"],
            "timeouts": self.counts["timeouts"],
            "rules": self.book.names,
            "rules_reads": self.rules_reads,
            "rules_error": self.rules_error,
            "fault_hits": self.book.hits,
            "is_ledger_healthy": self.ledger.is_healthy,
        }
