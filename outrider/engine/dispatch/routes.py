"""Routes: by which of a sender's connections messages go, and what moves on to the next one.

A connection takes what its circuit allows: everything, a few while it is being tried, nothing while it is known not to
be reachable. What one connection settles as known not to have left goes by the next, at once and within the same
lease; what may have left never moves, and what none may take goes back. A connection that takes over takes what its
rate allows; what no connection's rate lets go is held until its turn. A refusal that concerns the whole account stops
everything of this worker that has not begun, before its circuit is told. Owns this choice and the counting; circuits
are `domain/senders/circuits.py`'s.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from outrider.base.clock import boottime_s
from outrider.contracts.outcome import OF_ACCOUNT, Accepted, Deferred, Outcome, Rejected, Uncertain, Unsent
from outrider.contracts.provider import HasLines, Leave, Outgoing, Repeats, Transport
from outrider.engine.dispatch.batch import UNREACHED

NO_LIMIT = math.inf
CLOSED = "its connection is left alone for now"
"""Why something goes back that no connection of its sender may take."""
OVER_RATE = "connection_rate: the connection that takes over has sent what it may, and its turn comes then"
_LONGEST_TURN_S = 60.0
"""Nothing is held for longer by the rate of a connection that takes over: the one before it may be back."""
_MOST_IDS = 50_000
Keep = Callable[[UUID, str, Sequence[Outgoing]], Awaitable[str | None]]
"""Write down that messages go by a connection in one request under a key; gives why they must not."""
Drop = Callable[[Sequence[Outgoing]], Awaitable[str | None]]
"""Forget what was written down of messages, because another connection takes them; gives why it must not."""
Share = tuple[int, Sequence[Outgoing]]
"""By which connection, counted in their order, which messages go."""


@dataclass(slots=True)
class Account:
    """One open account at a provider; shared by the senders that use the same connection version.

    is_closed  its circuit is open, or is about to be: nothing begins by it but what tries it
    given_ids  the provider's latest ids of messages, where it reports by them; None: nobody looks at them
    named_by   by what the account is known that several connections may be
    """

    transport: Transport
    used_s: float
    busy_count: int = 0
    is_closed: bool = False
    given_ids: dict[str, UUID] | None = None
    named_by: str | None = None

    @contextmanager
    def busy(self) -> Iterator[Transport]:
        """The transport, kept open while the block runs."""
        self.busy_count += 1
        try:
            yield self.transport
        finally:
            self.busy_count -= 1
            self.used_s = boottime_s()

    def owner_of(self, provider_id: str, message_id: UUID) -> UUID | None:
        """Note an id that the provider gave a message; tells whose it was before, which must not be."""
        if self.given_ids is None:
            return None
        owner = self.given_ids.setdefault(provider_id, message_id)
        if len(self.given_ids) > _MOST_IDS:
            del self.given_ids[next(iter(self.given_ids))]
        return None if owner == message_id else owner


@dataclass(slots=True)
class Route:
    """One connection of a sender as this worker sees it, for some seconds.

    left      how many messages may still go by it until the next look at its circuit
    is_noted  something is known against it: what it accepts is told to its circuit
    is_try    the one message that may go is this worker's try of it
    version   of the connection
    """

    connection_id: UUID
    account: Account
    left: float = NO_LIMIT
    is_noted: bool = False
    is_try: bool = False
    version: int | None = None

    @property
    def request_count(self) -> int:
        """How many messages share a request by this connection at most."""
        transport = self.account.transport
        return transport.request_count if isinstance(transport, Repeats) else 1

    @property
    def line_count(self) -> int:
        """How many messages this connection has on the wire at once at most, each on a line of its own."""
        transport = self.account.transport
        return transport.line_count if isinstance(transport, HasLines) else 1

    def take(self, waiting: Sequence[Outgoing]) -> int:
        """How many of those waiting go by it."""
        count = int(min(self.left, len(waiting)))
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


async def nothing_kept(_connection_id: UUID, _key: str, _messages: Sequence[Outgoing]) -> str | None:
    """For whom nothing is written down: nobody repeats what is lost."""
    return None


async def nothing_dropped(_messages: Sequence[Outgoing]) -> str | None:
    """For whom nothing was written down."""
    return None


@dataclass(slots=True)
class Tally:
    """What one send by one connection came to. `answered`: messages the provider decided about, either way.

    `doubtful`: messages of which nobody knows whether they were taken.
    """

    route: Route
    accepted: int = 0
    answered: int = 0
    unreached: int = 0
    doubtful: int = 0
    cause: str = ""
    wish_s: float | None = None
    """For how long the provider asked to be left alone, when it did."""
    is_told: bool = False
    """Its circuit knows of the refusal already."""
    began_s: float = field(default_factory=boottime_s)

    @property
    def is_refused(self) -> bool:
        """Whether the account as a whole was refused or slowed down."""
        return self.cause in OF_ACCOUNT

    @property
    def is_failure(self) -> bool:
        """Whether it reached nobody, its account was refused, or nothing but doubt came of it.

        Else one message after the other would be put in doubt, alone as they come, as long as a provider fails.
        """
        if self.doubtful and not self.answered:
            return True
        return self.unreached > 0 and (self.is_refused or not self.accepted)

    def hear(self, outcome: Deferred) -> bool:
        """Count one that did not reach anybody; tells whether that is news about the account."""
        self.unreached += 1
        if self.is_refused:
            self.wish_s = max(self.wish_s or 0.0, outcome.after_s or 0.0) or None
            return False
        self.cause, self.wish_s = outcome.cause, outcome.after_s
        return self.is_refused

    def doubt(self, outcome: Uncertain) -> None:
        """Count one of which nobody knows whether it was taken; an answer about its key is one of the provider."""
        if outcome.cause == "answer_lost":
            self.doubtful += 1
            self.cause = self.cause or "provider_down"
        else:
            self.answered += 1


Refused = Callable[["Tally"], None]
Repeated = Callable[[Outgoing, UUID, str], None]


def _nobody(*_what: object) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Ears:
    """Who is told of what happens during a send.

    moves     a message, before another connection tries it
    refused   a send whose account was just refused or slowed down, before it has ended
    repeated  a message, whose id at the provider is that of another one, and the id
    ask       a connection's rate, before each send
    keep      that messages go by a connection in one request under a key, before it is made
    drop      that messages did not leave in such a request, before another connection takes them
    """

    moves: Callable[[Outgoing], None]
    refused: Refused = _nobody
    repeated: Repeated = _nobody
    ask: Ask = everything
    keep: Keep = nothing_kept
    drop: Drop = nothing_dropped


@dataclass(slots=True)
class _RouteWatch:
    """The watch over one send by one connection: keeps back what the next one may take."""

    watch: Leave
    tally: Tally
    ears: Ears
    is_last: bool
    moved: dict[UUID, Outgoing] = field(default_factory=dict)

    def begin(self, message: Outgoing) -> str | None:
        """As the batch's watch says, while the connection is not to be left alone."""
        route = self.tally.route
        if route.account.is_closed and not route.is_try:
            return CLOSED
        return self.watch.begin(message)

    async def keep_key(self, key: str, messages: Sequence[Outgoing]) -> str | None:
        """Have a request by this connection written down."""
        return await self.ears.keep(self.tally.route.connection_id, key, messages)

    def settle(self, message: Outgoing, outcome: Outcome) -> None:
        """Settle, or keep back what is known not to have left; a provider's second word about that is not heard."""
        if message.id in self.moved:
            return
        if isinstance(outcome, Accepted):
            self._accepted(message, outcome)
        elif isinstance(outcome, Rejected) or (isinstance(outcome, Deferred) and outcome.cause not in UNREACHED):
            self.tally.answered += 1
        elif isinstance(outcome, Deferred):
            if self.tally.hear(outcome):
                self.tally.route.account.is_closed = True
                self.ears.refused(self.tally)
            if self._moves(message):
                return
        elif isinstance(outcome, Uncertain):
            self.tally.doubt(outcome)
        elif isinstance(outcome, Unsent) and outcome.reason == CLOSED and self._moves(message):
            return
        self.watch.settle(message, outcome)

    def _accepted(self, message: Outgoing, outcome: Accepted) -> None:
        self.tally.accepted += 1
        self.tally.answered += 1
        if outcome.provider_id is not None:
            owner = self.tally.route.account.owner_of(outcome.provider_id, message.id)
            if owner is not None:
                self.ears.repeated(message, owner, outcome.provider_id)

    def _moves(self, message: Outgoing) -> bool:
        """Keep a message for the next connection, if there is one."""
        if self.is_last:
            return False
        self.moved[message.id] = message
        self.ears.moves(message)
        return True

    async def leaving(self) -> list[Outgoing]:
        """What the next connections may take: nothing that could still go by this one, in a request made again."""
        waiting = list(self.moved.values())
        why = await self.ears.drop(waiting) if waiting else None
        if why is None:
            return waiting
        for message in waiting:
            self.watch.settle(message, Unsent(why))
        return []


async def send(routes: Sequence[Route], outgoing: Sequence[Outgoing], watch: Leave, ears: Ears) -> list[Tally]:
    """Send by the first connection that takes it, and by the next what did not leave by that one.

    Parts that go by different connections go at the same time: one that is only being tried holds up nobody.

    Takes:   routes: in their order, at least one.
    Gives:   what each send came to; every message was settled once, unless a provider forgot it. What no connection may
             take is settled Unsent(CLOSED).
    Raises:  what a provider raises that breaks its contract, when the others have ended.
    """
    usable = [route for route in routes if route.left >= 1]
    with ExitStack() as open_ones:
        for route in usable:  # one that may have to take over stays open, however long those before it take
            open_ones.enter_context(route.account.busy())
        return await _send(usable, outgoing, watch, ears)


async def _send(usable: Sequence[Route], outgoing: Sequence[Outgoing], watch: Leave, ears: Ears) -> list[Tally]:
    """In rounds, until nothing has to move on."""
    tallies: list[Tally] = []
    shares = await _granted(usable, _taken(usable, 0, outgoing, watch), watch, ears.ask, tallies)
    while shares:
        sends = [_RouteWatch(watch, Tally(usable[at]), ears, at == len(usable) - 1) for at, _part in shares]
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
            for share in _taken(usable, at + 1, await each.leaving(), watch)
        ]
        shares = await _granted(usable, moved, watch, ears.ask, tallies)
    return tallies


async def _granted(
    usable: Sequence[Route], shares: Sequence[Share], watch: Leave, ask: Ask, tallies: list[Tally]
) -> list[Share]:
    """What the rates of connections let go; the rest goes by the next ones, or is held, one turn after another.

    What a rate keeps back leaves its place by that connection to others. A try that is kept back has come to nothing,
    and is among the tallies as such, so that somebody else takes it.
    """
    granted: list[Share] = []
    waiting = list(shares)
    while waiting:
        at, part = waiting.pop(0)
        grant = await ask(usable[at], len(part))
        if grant.count:
            granted.append((at, part[: grant.count]))
        elif usable[at].is_try:
            tallies.append(Tally(usable[at]))
        if not usable[at].is_try:
            usable[at].left += len(part) - grant.count
        further, rest = _shares(usable, at + 1, part[grant.count :])
        waiting += further
        for place, message in enumerate(rest, 1):
            watch.settle(message, Unsent(OVER_RATE, min(place / grant.rate_per_s, _LONGEST_TURN_S)))
    return granted


def _taken(usable: Sequence[Route], first: int, waiting: Sequence[Outgoing], watch: Leave) -> list[Share]:
    """Which connection takes which messages; what none takes goes back."""
    shares, rest = _shares(usable, first, waiting)
    for message in rest:
        watch.settle(message, Unsent(CLOSED))
    return shares


def _shares(usable: Sequence[Route], first: int, waiting: Sequence[Outgoing]) -> tuple[list[Share], Sequence[Outgoing]]:
    """Which connection takes which messages, from the first one on, and what none takes."""
    shares: list[Share] = []
    for at in range(first, len(usable)):
        count = usable[at].take(waiting)
        if count:
            shares.append((at, waiting[:count]))
            waiting = waiting[count:]
    return shares, waiting


async def _together(sends: list[Coroutine[None, None, None]]) -> None:
    """Run them to their ends, also when one fails; nearly always there is one."""
    if len(sends) == 1:
        await sends[0]
        return
    for error in await asyncio.gather(*sends, return_exceptions=True):
        if isinstance(error, BaseException):
            raise error
