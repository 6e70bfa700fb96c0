"""Routes: by which of a sender's connections messages go, and what moves on to the next one.

A connection takes what its circuit allows: everything, a few while it is being tried, nothing while it is known not to
be reachable. What one connection settles as known not to have left goes by the next, at once and within the same
lease; what may have left never moves. A connection that takes over takes what its rate allows; what no connection's
rate lets go is held until its turn. Owns this choice and the counting; circuits are `domain/senders/circuits.py`'s.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from outrider.base.clock import boottime_s
from outrider.contracts.outcome import Accepted, Deferred, Outcome, Unsent
from outrider.contracts.provider import Outgoing, Transport, Watch
from outrider.engine.dispatch.batch import UNREACHED

NO_LIMIT = math.inf
OVER_RATE = "connection_rate: the connection that takes over has sent what it may, and its turn comes then"
Share = tuple[int, Sequence[Outgoing]]
"""By which connection, counted in their order, which messages go."""


@dataclass(slots=True)
class Account:
    """One open account at a provider; shared by the senders that use the same connection version."""

    transport: Transport
    used_s: float
    busy_count: int = 0

    @contextmanager
    def busy(self) -> Iterator[Transport]:
        """The transport, kept open while the block runs."""
        self.busy_count += 1
        try:
            yield self.transport
        finally:
            self.busy_count -= 1
            self.used_s = boottime_s()


@dataclass(slots=True)
class Route:
    """One connection of a sender as this worker sees it, for some seconds.

    left      how many messages may still go by it until the next look at its circuit
    is_noted  something is known against it: what it accepts is told to its circuit
    """

    connection_id: UUID
    account: Account
    left: float = NO_LIMIT
    is_noted: bool = False

    def take(self, waiting: Sequence[Outgoing], *, is_last_resort: bool) -> int:
        """How many of those waiting go by it. The last resort takes what nobody else may."""
        count = len(waiting) if is_last_resort else int(min(self.left, len(waiting)))
        self.left -= count
        return count


@dataclass(frozen=True, slots=True)
class Grant:
    """How many messages a connection's rate lets go now, and how many a second it does; 0: it has none."""

    count: int
    rate_per_s: float = 0.0


Ask = Callable[[Route, int], Awaitable[Grant]]
"""Asks a connection's rate for so many messages, and takes them."""


async def everything(_route: Route, count: int) -> Grant:
    """For whom no rate is asked: everything goes."""
    return Grant(count)


@dataclass(slots=True)
class Tally:
    """What one send by one connection came to."""

    route: Route
    accepted: int = 0
    unreached: int = 0
    cause: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether it reached nobody."""
        return self.unreached > 0 and not self.accepted


@dataclass(slots=True)
class _RouteWatch:
    """The watch over one send by one connection: keeps back what the next one may take."""

    watch: Watch
    tally: Tally
    move: Callable[[Outgoing], None] | None
    moved: dict[UUID, Outgoing] = field(default_factory=dict)

    def begin(self, message: Outgoing) -> str | None:
        """As the batch's watch says."""
        return self.watch.begin(message)

    def settle(self, message: Outgoing, outcome: Outcome) -> None:
        """Settle, or keep back what is known not to have left; a provider's second word about that is not heard."""
        if message.id in self.moved:
            return
        if isinstance(outcome, Accepted):
            self.tally.accepted += 1
        elif isinstance(outcome, Deferred) and outcome.cause in UNREACHED:
            self.tally.unreached += 1
            self.tally.cause = outcome.cause
            if self.move is not None:
                self.moved[message.id] = message
                self.move(message)
                return
        self.watch.settle(message, outcome)


async def send(
    routes: Sequence[Route],
    outgoing: Sequence[Outgoing],
    watch: Watch,
    *,
    moves: Callable[[Outgoing], None],
    ask: Ask = everything,
) -> list[Tally]:
    """Send by the first connection that takes it, and by the next what did not leave by that one.

    Parts that go by different connections go at the same time: one that is only being tried holds up nobody.

    Takes:   routes: in their order, at least one; moves: told of each message before another connection tries it; ask:
             the connection's rate, before each send.
    Gives:   what each send came to; every message was settled once, unless a provider forgot it.
    Raises:  what a provider raises that breaks its contract, when the others have ended.
    """
    usable = [route for route in routes if route.left >= 1] or [routes[0]]
    with ExitStack() as open_ones:
        for route in usable:  # one that may have to take over stays open, however long those before it take
            open_ones.enter_context(route.account.busy())
        return await _send(usable, outgoing, watch, moves, ask)


async def _send(
    usable: Sequence[Route], outgoing: Sequence[Outgoing], watch: Watch, moves: Callable[[Outgoing], None], ask: Ask
) -> list[Tally]:
    """In rounds, until nothing has to move on."""
    tallies: list[Tally] = []
    shares = await _granted(usable, _shares(usable, 0, outgoing), watch, ask)
    while shares:
        sends = [
            _RouteWatch(watch, Tally(usable[at]), None if at == len(usable) - 1 else moves) for at, _part in shares
        ]
        tallies += [each.tally for each in sends]
        await _together(
            [
                each.tally.route.account.transport.send(part, each)
                for each, (_at, part) in zip(sends, shares, strict=True)
            ]
        )
        moved = [
            share
            for each, (at, _part) in zip(sends, shares, strict=True)
            for share in _shares(usable, at + 1, list(each.moved.values()))
        ]
        shares = await _granted(usable, moved, watch, ask)
    return tallies


async def _granted(usable: Sequence[Route], shares: Sequence[Share], watch: Watch, ask: Ask) -> list[Share]:
    """What the rates of connections let go; the rest goes by the next ones, or is held, one turn after another."""
    granted: list[Share] = []
    waiting = list(shares)
    while waiting:
        at, part = waiting.pop(0)
        grant = await ask(usable[at], len(part))
        if grant.count:
            granted.append((at, part[: grant.count]))
        rest = part[grant.count :]
        further = _shares(usable, at + 1, rest)
        waiting += further
        if not further:
            for place, message in enumerate(rest, 1):
                watch.settle(message, Unsent(OVER_RATE, place / grant.rate_per_s))
    return granted


def _shares(usable: Sequence[Route], first: int, waiting: Sequence[Outgoing]) -> list[Share]:
    """Which connection takes which messages, from the first one on; the last one takes what is left."""
    shares: list[Share] = []
    for at in range(first, len(usable)):
        count = usable[at].take(waiting, is_last_resort=at == len(usable) - 1)
        if count:
            shares.append((at, waiting[:count]))
            waiting = waiting[count:]
    return shares


async def _together(sends: list[Coroutine[None, None, None]]) -> None:
    """Run them to their ends, also when one fails; nearly always there is one."""
    if len(sends) == 1:
        await sends[0]
        return
    for error in await asyncio.gather(*sends, return_exceptions=True):
        if isinstance(error, BaseException):
            raise error
