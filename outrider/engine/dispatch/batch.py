"""A claimed batch and the watch over it: asked before each write, told of each outcome.

Owns the decision "may these bytes leave now?" from memory alone; never touches database or network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from outrider.base import failpoint
from outrider.base.clock import boottime_s
from outrider.contracts.channel import Tracking
from outrider.contracts.gate import Lane
from outrider.contracts.outcome import OF_ACCOUNT, Accepted, Deferred, Outcome, Rejected, Uncertain, Unsent
from outrider.contracts.provider import Outgoing
from outrider.domain.limits.charges import Cost, Dates, Payer
from outrider.engine.dispatch.board import Board
from outrider.engine.dispatch.journal import Journal

ASK_AGAIN_S = 0.35
"""How often gates that can change their mind are asked again while a message waits for its write."""
LONGEST_UNASKED_S = 0.9
"""Without an answer for this long nothing more is written: suppression to last acceptance stays under a second."""
_JUST_S = 0.5
LEASE_MARGIN_S = 0.5
LEASE_OVER = "the lease is over"
UNREACHED = frozenset(
    {
        "connection_failed", "connection_timeout", "authentication_failed", "tls_failed", "tls_unavailable",
        "server_busy", "sender_unusable", "target_refused", "plugin_failed", "rate_limited", "provider_down",
        "account_suspended", "daily_quota", "api_unreachable", "api_timeout",
    }
)  # fmt: skip
"""Causes that tell of the account or its server, not of the message: the lane rests, one message probes."""
_ALIKE = OF_ACCOUNT | {"provider_down"}
"""Of those, what a provider also says of messages it did not try because another one had just met it."""


@dataclass(slots=True)
class Claimed:
    """One message under lease. `dated_at` is the instant of its first attempt: frozen, it is the Date header."""

    id: UUID
    contact_id: UUID | None
    content_id: UUID
    address: str
    purpose: str
    variables: str | None
    attempt: int
    dated_at: datetime
    until_s: float | None
    """CLOCK_BOOTTIME second after which it must not leave (expiry, or quiet hours begin); None: no limit."""


@dataclass(frozen=True, slots=True)
class Money:
    """What the messages of a batch were charged, to whom and in which day; `highest`: what one may cost at most.

    spent   micros by channel and currency of all that went, counted by the whole worker
    """

    payer: Payer
    dates: Dates
    costs: dict[UUID, Cost]
    highest: int | None = None
    currency: str = ""
    spent: Counter[tuple[str, str]] = field(default_factory=Counter)

    def note(self, channel: str, message_id: UUID, outcome: Outcome) -> None:
        """Count what a message cost that went, or may have gone."""
        cost = self.costs.get(message_id)
        if cost is not None and isinstance(outcome, Accepted | Uncertain):
            self.spent[channel, self.currency] += cost.micros


@dataclass(slots=True)
class Batch:
    """Messages of one lane under one lease token."""

    lane: Lane
    token: int
    lease_until_s: float
    claimed_s: float
    claimed_at: datetime
    """The database's clock at the claim."""
    messages: dict[UUID, Claimed]
    is_suspect: bool = False
    """A worker died with its one message in hand before."""
    begun: set[UUID] = field(default_factory=set)
    withdrawn: dict[UUID, str] = field(default_factory=dict)
    """Gates' second thoughts: message -> why it must not leave any more."""
    asked_s: float = 0.0
    unsettled: set[UUID] = field(default_factory=set)
    unrecorded: int = 0
    accepted_count: int = 0
    money: Money | None = None
    """None: nothing of it costs anything."""
    unreached_count: int = 0
    """Outcomes that tell of the connection rather than of the message."""
    keyed: set[UUID] = field(default_factory=set)
    """Messages of a request that is written down under a key, as far as it may have left."""
    over_rate_per_s: float | None = None
    """The rate of a connection that took over and let less go than was left; None: none did."""
    connection_id: UUID | None = None
    """The connection whose rate was asked at the claim: any other is asked before it is used."""
    tracking: Tracking | None = None
    """What may be noticed about its messages, as it was read by the claim; None: not read."""
    unconcerned: frozenset[str] = frozenset()
    """Gates that have nothing to say about its lane."""
    begin_by_s: float | None = None
    """CLOCK_BOOTTIME second at which the day in whose allowance it was counted is over; None: there is none."""

    def why_late(self, now_s: float) -> str | None:
        """Why nothing of it may begin any more; None: it may."""
        if now_s > self.lease_until_s - LEASE_MARGIN_S:
            return LEASE_OVER
        if self.begin_by_s is not None and now_s >= self.begin_by_s:
            return "the day in whose allowance it was counted is over"
        return None

    def why_kept(self, message_id: UUID) -> str | None:
        """Why one of its messages may not begin any more; None: it may."""
        if message_id not in self.unsettled:  # handed back when its send failed, and perhaps somebody else's by now
            return "it has its outcome already"
        return self.withdrawn.get(message_id)


def just_claimed(batches: Iterable[Batch], now_s: float) -> int:
    """How many messages of batches at most half a second old still wait for their outcome."""
    return sum(len(batch.unsettled) for batch in batches if now_s - batch.claimed_s <= _JUST_S)


class BatchWatch:
    """The engine's side of one send (contracts.provider.Leave); which connection it goes by is the routes'."""

    def __init__(
        self, batch: Batch, board: Board, journal: Journal, settled: Callable[[Batch, Claimed, Outcome], None]
    ) -> None:
        self._batch = batch
        self._board = board
        self._journal = journal
        self._settled = settled
        self._verdict_version = -1
        self._verdict: str | None = None

    def begin(self, message: Outgoing) -> str | None:
        """None: the attempt is in the journal, write now. Else why the bytes must stay."""
        batch = self._batch
        board = self._board
        if board.version != self._verdict_version:
            self._verdict = board.why_stopped(batch.lane)
            self._verdict_version = board.version
        if self._verdict is not None:
            return self._verdict
        now_s = boottime_s()
        late = batch.why_late(now_s)
        if late is not None:
            return late
        if now_s - batch.asked_s > LONGEST_UNASKED_S:
            return "do-not-contact could not be asked again"
        kept = batch.why_kept(message.id)
        if kept is not None:
            return kept
        until_s = batch.messages[message.id].until_s
        if until_s is not None and now_s >= until_s:
            return "its time of validity is over"
        if failpoint.ARMED:
            failpoint.hit("send.before_journal")
        try:
            self._journal.begun(batch.token, message.id)
        except OSError:
            return "the journal cannot be written"
        batch.begun.add(message.id)
        if failpoint.ARMED:
            failpoint.hit("send.before_bytes")
        return None

    def moves(self, message: Outgoing) -> None:
        """It is known not to have left, and another connection is about to try: as if it had not been begun."""
        self._batch.begun.discard(message.id)
        self._journal.outcome(self._batch.token, message.id, Unsent("another connection takes it"))

    def settle(self, message: Outgoing, outcome: Outcome) -> None:
        """Note the outcome in the journal and hand it to the recorder; a second call for a message is ignored.

        What was not tried because its account had just been refused goes back: no attempt of it is used up.
        """
        batch = self._batch
        if message.id not in batch.unsettled:
            return
        if failpoint.ARMED:
            failpoint.hit("send.answered")
        is_begun = message.id in batch.begun
        outcome = _sound(outcome, is_begun=is_begun)
        if isinstance(outcome, Deferred) and outcome.cause in _ALIKE and not is_begun:
            batch.unreached_count += 1
            outcome = Unsent(outcome.cause)
        batch.unsettled.discard(message.id)
        if batch.money is not None:
            batch.money.note(batch.lane.channel, message.id, outcome)
        self._journal.outcome(batch.token, message.id, outcome)
        self._settled(batch, batch.messages[message.id], outcome)


def _sound(outcome: Outcome, *, is_begun: bool) -> Outcome:
    """An outcome that journal and database can hold: one bad word of a server must not stop the recording of all."""
    if type(outcome) is Accepted:  # nearly all, and not by the patterns below, which take five times as long
        provider_id = outcome.provider_id
        if (provider_id is None or _is_plain(provider_id)) and _is_plain(outcome.detail):
            return outcome
    match outcome:
        case Accepted(provider_id, detail):
            return Accepted(None if provider_id is None else _plain(provider_id), _plain(detail))
        case Deferred() | Rejected() | Uncertain():
            return replace(outcome, cause=_plain(outcome.cause), detail=_plain(outcome.detail))
        case Unsent(reason, after_s):
            return Unsent(_plain(reason), after_s)
    # a plugin that breaks its contract; what may have left the house is never sent again by itself
    return Uncertain("answer_lost", "the provider gave no outcome") if is_begun else Unsent("the provider gave none")  # type: ignore[unreachable]  # plugins of others are not type-checked by us


def _plain(text: str) -> str:
    """Printable text; NUL and halves of surrogate pairs are what PostgreSQL and JSON refuse."""
    text = text if isinstance(text, str) else repr(text)
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _is_plain(text: str) -> bool:
    return isinstance(text, str) and text.isprintable()
