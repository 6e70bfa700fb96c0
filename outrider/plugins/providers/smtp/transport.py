"""The connections of one account and the batches that share them.

Owns how many connections there are, when one is opened, and what becomes of messages when none can be. Never speaks
SMTP itself.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog

from outrider.contracts.outcome import Deferred, Unsent
from outrider.contracts.provider import Egress, Outgoing, Watch
from outrider.plugins.providers.smtp.handshake import TlsContexts, open_session
from outrider.plugins.providers.smtp.queue import Batch, Item, Queue
from outrider.plugins.providers.smtp.session import Session
from outrider.plugins.providers.smtp.settings import Account

_log = structlog.get_logger()

_BACK_OFF_S: Final = 1.0
_LONGEST_BACK_OFF_S: Final = 60.0
_AUTH_BACK_OFF_S: Final = 30.0
"""A wrong password is not tried more often: servers lock accounts and ban addresses."""
_MOVING_S: Final = 10.0
_FRUITLESS: Final = 2
"""So many connections in a row that ended before any message was decided stand for a server that is down."""
_GRACE_S: Final = 5.0
_TICK_S: Final = 0.5


class SmtpTransport:
    """A pool of connections to one account; opened when there is work, at most `connections` at once.

    After a failure one connection is tried alone before others follow, not sooner than a second later. A message is
    never left waiting for a server that cannot be reached: all that wait are settled with the reason.
    """

    def __init__(self, account: Account, egress: Egress, contexts: TlsContexts) -> None:
        self.line_count = account.connections
        self._account = account
        self._egress = egress
        self._contexts = contexts
        self._context: ssl.SSLContext | None = None
        self._queue = Queue()
        self._sessions: set[Session] = set()
        self._idle: list[Session] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._is_proven = False
        self._is_closed = False
        self._fruitless = 0
        self._back_off_s = _BACK_OFF_S
        self._not_before = 0.0
        self._no_more_before = 0.0
        self._bar: Deferred | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event = asyncio.Event()
        slowest = min(account.connect_timeout_s, account.command_timeout_s, account.data_timeout_s)
        self._tick_s = min(_TICK_S, slowest / 4)

    # contracts.provider.Transport

    async def send(self, batch: Sequence[Outgoing], watch: Watch) -> None:
        """Take a batch outside; see `contracts.provider.Transport.send`."""
        if not batch:
            return
        loop = asyncio.get_running_loop()
        ours = Batch(batch, watch, loop.create_future())
        self._queue.add(ours)
        if self._is_closed:
            self._queue.drop(ours, Unsent("transport_closed"))
        elif self._bar is not None and loop.time() < self._not_before:
            self._queue.drop(ours, self._bar)
        else:
            self._wake()
        try:
            await ours.done
        except asyncio.CancelledError:
            self._queue.drop(ours, Unsent("cancelled"))
            for session in tuple(self._sessions):
                session.withdraw(ours, "cancelled")
            raise

    async def close(self) -> None:
        """End the connections politely; messages under way get a few seconds for their answer."""
        self._is_closed = True
        self._queue.drain(Unsent("transport_closed"))
        for task in tuple(self._connecting):
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for session in tuple(self._sessions):
            session.quit()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_S):
                    while self._sessions:
                        self._emptied.clear()
                        await self._emptied.wait()
        finally:
            for session in tuple(self._sessions):
                session.withdraw(None, "transport_closed")
                session.end("closed")
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    # session.Source

    def take(self) -> Item | None:
        """The next message in turn."""
        return self._queue.take()

    def give_back(self, item: Item) -> None:
        """A message that its connection could not carry, known not sent."""
        if self._is_closed:
            item.settle(Unsent("transport_closed"))
        elif not item.is_settled:
            self._queue.put_back(item)
            asyncio.get_running_loop().call_soon(self._wake)

    def sift(self, batch: Batch) -> None:
        """One of a batch was withdrawn: see whether its others may go, before they cost a connection each."""
        self._queue.sift(batch)

    def rest(self, session: Session) -> None:
        """A connection without work."""
        session.rest()
        if session.answered:
            self._fruitless = 0
        if self._is_closed:
            session.quit()
        else:
            self._idle.append(session)

    def gone(self, session: Session, reason: Deferred | None) -> None:
        """A connection ended; with a reason when that was not our doing."""
        if session not in self._sessions:
            return  # it never became ready: `_connect` hears of it
        self._sessions.discard(session)
        if session in self._idle:
            self._idle.remove(session)
        self._emptied.set()
        if session.answered:
            self._fruitless = 0
        if reason is not None and session.answered:
            # The others that rest may have been dropped alike; a message must not find out one by one.
            idle, self._idle = self._idle, []
            for other in idle:
                other.quit()
        elif reason is not None:
            self._fruitless += 1
            if self._fruitless >= _FRUITLESS:
                self._fall_back(reason)
        asyncio.get_running_loop().call_soon(self._wake)

    # growing and falling back

    def _wake(self) -> None:
        """Give waiting messages to resting connections, open more where that is not enough, see that time passes."""
        while self._queue.count and self._idle:
            session = self._idle.pop()
            if not session.is_leaving and not session.start():
                self._idle.append(session)
        loop = asyncio.get_running_loop()
        if self._queue.count and not self._is_closed and self._may_connect(loop.time()):
            for _ in range(min(self._room(), self._queue.count - len(self._connecting))):
                task = loop.create_task(self._connect())
                self._connecting.add(task)
                task.add_done_callback(self._connecting.discard)
        if self._sessions or self._queue.count:
            self._set_timer(loop)

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        """See that time passes: soon while anything is under way, else when the first that rests has rested enough.

        A worker holds the resting connections of hundreds of accounts: looking at each twice a second was half of what
        opening them costs.
        """
        now = loop.time()
        at = now + self._tick_s
        if not self._queue.count and not self._connecting and len(self._idle) == len(self._sessions):
            at = max(at, min(session.deadline for session in self._idle))
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._tick)

    def _room(self) -> int:
        left = self._account.connections - len(self._sessions)
        return (left if self._is_proven else min(left, 1)) - len(self._connecting)

    def _may_connect(self, now: float) -> bool:
        """The first connection waits for the end of a back-off; further ones for the end of theirs, which grows."""
        return now >= (self._no_more_before if self._sessions else self._not_before)

    async def _connect(self) -> None:
        """Open one connection and put it to work."""
        try:
            if self._context is None and self._account.tls != "off":
                # once for all connections: reading the trust store takes longer than a handshake
                self._context = await asyncio.to_thread(self._contexts, self._account.is_verified)
            opened = await open_session(self._account, self._egress, self._context, self)
        except Exception:  # noqa: BLE001 - whatever it was, no message may wait for it for ever
            _log.exception("smtp_connect_broken", host=self._account.host)
            opened = Deferred("connection_failed", "connecting failed unexpectedly")
        if isinstance(opened, Deferred):
            self._fall_back(opened)
            return
        self._is_proven = True
        self._back_off_s, self._bar = _BACK_OFF_S, None
        self._sessions.add(opened)
        if self._is_closed:
            opened.quit()
        elif not opened.start():
            self.rest(opened)
        asyncio.get_running_loop().call_soon(self._wake)

    def _fall_back(self, reason: Deferred) -> None:
        """No connection could be had: others that work carry on, else all that waits is settled with the reason."""
        now = asyncio.get_running_loop().time()
        if any(now - session.moved_at < _MOVING_S for session in self._sessions):
            self._no_more_before = now + self._back_off_s  # perhaps a limit on connections: ask ever more rarely
            self._back_off_s = min(self._back_off_s * 2, _LONGEST_BACK_OFF_S)
            return
        is_auth = reason.cause == "authentication_failed"
        self._is_proven = False
        self._bar = reason if is_auth else None
        self._not_before = now + (_AUTH_BACK_OFF_S if is_auth else _BACK_OFF_S)
        self._queue.drain(reason)

    def _tick(self) -> None:
        """Time-outs, stuck messages, and connecting again after a back-off."""
        loop = asyncio.get_running_loop()
        self._timer = None
        try:
            now = loop.time()
            has_room = bool(self._idle) or (self._room() > 0 and self._may_connect(now))
            for session in tuple(self._sessions):
                session.tick(now, has_room=has_room)
        finally:
            self._wake()
