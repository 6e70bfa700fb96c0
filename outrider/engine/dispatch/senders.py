"""Senders in use: transports, composers and contents, cached by version so that a change takes effect in seconds.

Owns open connections to providers; secrets stay in memory only.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from sys import getsizeof
from uuid import UUID

import asyncpg

from outrider.base.clock import boottime_s
from outrider.base.errors import Misconfigured
from outrider.contracts.callbacks import CALLBACK_URL, Reports
from outrider.contracts.channel import Channel, Composer, Content, Tracking
from outrider.contracts.gate import Lane
from outrider.contracts.provider import RestsTogether, TakesTurns, Transport
from outrider.data.runtime import Runtime
from outrider.domain.callbacks.address import callback_url, signer_of
from outrider.domain.limits import shared_accounts
from outrider.domain.senders import accounts, circuits, identity
from outrider.domain.templates import contents
from outrider.domain.tracking import choices, destinations
from outrider.engine.dispatch.routes import NO_LIMIT, Account, Route

_FRESH_S = 5.0
_CLOSED_FRESH_S = 0.5
"""A sender none of whose connections may take anything is looked at again so soon."""
_GROWTH = 2
"""A connection that is tried again takes twice what it has taken, from look to look."""
_IDLE_S = 60.0
_MOST_COMPOSERS = 2048
_MOST_CONTENT_BYTES = 32 << 20
"""What the composers that are kept take together; a content of more than a sixty-fourth of it is not kept at all."""
_LEAST_BYTES = 8 << 10
"""What a composer takes at least, however short its content."""
_COPIES = 4
"""It holds its texts as they are, compiled, and encoded for each part of a message …"""
_COPIES_OF_FILES = 2.4
"""… and its files as they are and encoded."""


Terms = tuple[UUID, UUID, int, bool, Tracking]
"""Under what a composer is made: tenant, sender and its version, its footer, what is noticed."""
Kept = tuple[Terms, UUID]
"""What a composer is kept by: its terms, its content."""


@dataclass(slots=True)
class Use:
    """One sender as this worker uses it now. `routes`: its connections, those that take over behind its own."""

    sender: identity.SenderInUse
    routes: list[Route]
    channel: Channel
    checked_s: float

    @property
    def left(self) -> float:
        """How many messages may still go by its connections until the next look at their circuits."""
        return sum(route.left for route in self.routes if route.is_try or not route.account.is_closed)

    def is_fresh(self, now_s: float) -> bool:
        """Whether it need not be read again."""
        return now_s - self.checked_s < (_FRESH_S if self.left >= 1 else _CLOSED_FRESH_S)


@dataclass(frozen=True, slots=True)
class Made:
    """Composers by content; `fresh` are those not kept yet, with their bytes."""

    by_content: dict[UUID, Composer] = field(default_factory=dict)
    fresh: dict[Kept, tuple[Composer, int]] = field(default_factory=dict)


class Senders:
    """Loads senders, opens their accounts and makes composers."""

    def __init__(self, runtime: Runtime, *, is_sending: bool = True) -> None:
        """`is_sending` False: nothing goes by them, so nobody's turn to try a connection is taken."""
        self._runtime = runtime
        self._is_sending = is_sending
        self._uses: dict[tuple[UUID, UUID], Use] = {}
        self._loading: defaultdict[tuple[UUID, UUID], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._accounts: dict[tuple[UUID, int], Account] = {}
        self._composers: OrderedDict[Kept, tuple[Composer, int]] = OrderedDict()
        self._kept_bytes = 0
        self._noticed: OrderedDict[tuple[UUID, int], tuple[float, Tracking]] = OrderedDict()

    async def use(self, raw: asyncpg.Connection, lane: Lane) -> Use:
        """The lane's sender, at most five seconds old.

        Raises:  Refused when the sender is gone; Misconfigured when its secrets cannot be opened or its provider or
                 channel is not installed.
        """
        known = self.in_use(lane)
        if known is not None:
            return known
        key = (lane.tenant_id, lane.sender_id)
        async with self._loading[key]:  # who reads it twice at once takes a turn to try a connection and forgets it
            return await self._use(raw, lane, key)

    def in_use(self, lane: Lane) -> Use | None:
        """The lane's sender when it was read just now; None: it has to be read."""
        now_s = boottime_s()
        known = self._uses.get((lane.tenant_id, lane.sender_id))
        if known is None or not known.is_fresh(now_s):
            return None
        for route in known.routes:
            route.account.used_s = now_s
        return known

    async def _use(self, raw: asyncpg.Connection, lane: Lane, key: tuple[UUID, UUID]) -> Use:
        known = self.in_use(lane)  # somebody else may have read it meanwhile
        if known is not None:
            return known
        now_s = boottime_s()
        sender = await identity.load(raw, self._runtime.keyring, lane.tenant_id, lane.sender_id)
        channel = self._runtime.channels.get(sender.channel)
        if channel is None:
            raise Misconfigured("channel_missing", f"the channel {sender.channel!r} is not installed")
        await self._name(raw, lane.tenant_id, sender.connections, now_s)
        routes = [await self._route(raw, lane.tenant_id, each, now_s) for each in sender.connections]
        self._uses[key] = use = Use(sender, routes, channel, now_s)
        return use

    async def _name(
        self, raw: asyncpg.Connection, tenant_id: UUID, connections: Iterable[identity.ConnectionInUse], now_s: float
    ) -> None:
        """Write down which accounts connections are, where that is news; by id, as everybody locks them."""
        for each in sorted(connections, key=lambda each: each.id):
            named_by = self._account(tenant_id, each, now_s).named_by
            if named_by != each.named_by:
                await accounts.note(raw, tenant_id, each.id, each.version, named_by)

    async def _route(
        self, raw: asyncpg.Connection, tenant_id: UUID, connection: identity.ConnectionInUse, now_s: float
    ) -> Route:
        """A connection as a route: how much may go by it until the next look, says its circuit."""
        account = self._account(tenant_id, connection, now_s)
        account.is_closed = connection.circuit == "open" or (
            connection.circuit == "half_open" and not connection.passed
        )
        route = Route(connection.id, account, NO_LIMIT, connection.is_noted, version=connection.version)
        if self._is_sending and connection.is_due and await circuits.take_try(raw, tenant_id, connection.id):
            route.left, route.is_try = 1, True
        elif connection.circuit == "open":
            route.left = 0
        elif connection.circuit == "half_open":
            route.left = _GROWTH * connection.passed
        return route

    def look_again(self, connection_id: UUID, *, is_closed: bool) -> None:
        """A connection's circuit is another since: read the senders that use it anew before the next batch."""
        for (account_id, _version), account in self._accounts.items():
            if account_id == connection_id and is_closed:
                account.is_closed = True
        for use in self._uses.values():
            if any(route.connection_id == connection_id for route in use.routes):
                use.checked_s = -math.inf

    def provider_of(self, lane: Lane) -> str:
        """The provider by which a lane's messages went last; empty: none did yet."""
        known = self._uses.get((lane.tenant_id, lane.sender_id))
        return "" if known is None else known.sender.connections[0].provider

    def _account(self, tenant_id: UUID, connection: identity.ConnectionInUse, now_s: float) -> Account:
        key = (connection.id, connection.version)
        account = self._accounts.get(key)
        if account is None:
            provider = self._runtime.providers.get(connection.provider)
            if provider is None:
                raise Misconfigured("provider_missing", f"the provider {connection.provider!r} is not installed")
            settings = dict(connection.settings)
            if isinstance(provider, Reports):
                signer, public_url = signer_of(self._runtime.keyring), self._runtime.settings.public_url
                named = (tenant_id, connection.id)
                settings[CALLBACK_URL] = callback_url(signer, public_url, provider.key, settings, *named)
            transport = provider.open(settings, connection.secrets, self._runtime.egress)
            named_by = shared_accounts.digest(self._runtime.keyring, provider, connection.settings, connection.secrets)
            if named_by is not None:
                self._share(transport, connection.id, named_by)
            given_ids: dict[str, UUID] | None = {} if isinstance(provider, Reports) else None
            account = self._accounts[key] = Account(transport, now_s, given_ids=given_ids, named_by=named_by)
        account.used_s = now_s
        return account

    def _share(self, transport: Transport, connection_id: UUID, named_by: str) -> None:
        """Have a transport take turns, and rest, with those that others have opened to the same account."""
        if isinstance(transport, TakesTurns):
            transport.share(partial(shared_accounts.turn, self._runtime.db, named_by))
        if isinstance(transport, RestsTogether):
            for (other_id, _version), other in self._accounts.items():
                if other.named_by == named_by and other_id != connection_id:
                    transport.rest_with(other.transport)
                    break

    async def composers(
        self,
        raw: asyncpg.Connection,
        lane: Lane,
        use: Use,
        content_ids: Iterable[UUID],
        tracking: Tracking | None = None,
    ) -> Made:
        """A composer per content; contents that are gone are missing from the answer.

        Takes:   tracking: what may be noticed, as far as it was read just now.

        Where links lead is kept on this connection: nothing composed may leave before that is committed, after which
        `remember` is called.
        """
        tracking = await self._tracking(raw, lane) if tracking is None else tracking
        terms = _terms(lane, use, tracking)
        made, missing = self._kept(terms, content_ids)
        if missing:
            loaded = await contents.load(raw, lane.tenant_id, missing)
            for content_id, content in loaded.items():
                tracked = replace(content, tracking=tracking)
                composer = use.channel.composer(tracked, use.sender.identity, self._runtime.renderer)
                await destinations.keep(raw, lane.tenant_id, composer.links)
                made.by_content[content_id] = composer
                if _is_small(content):
                    made.fresh[terms, content_id] = composer, _weight(content)
        return made

    def at_hand(
        self, lane: Lane, use: Use, content_ids: Iterable[UUID], tracking: Tracking | None = None
    ) -> Made | None:
        """The composers of contents when all are in memory and what may be noticed was read just now."""
        if tracking is None:
            checked_s, tracking = self._noticed.get((lane.tenant_id, lane.id), (0.0, None))
            if tracking is None or boottime_s() - checked_s >= _FRESH_S:
                return None
        made, missing = self._kept(_terms(lane, use, tracking), content_ids)
        return None if missing else made

    def _kept(self, terms: Terms, content_ids: Iterable[UUID]) -> tuple[Made, list[UUID]]:
        """The composers in memory, and the contents that have none there."""
        made = Made()
        missing: list[UUID] = []
        for content_id in content_ids:
            kept = self._composers.get((terms, content_id))
            if kept is None:
                missing.append(content_id)
            else:
                self._composers.move_to_end((terms, content_id))
                made.by_content[content_id] = kept[0]
        return made, missing

    def remember(self, made: Made) -> None:
        """Keep composers for the next messages: where their links lead is committed."""
        for key, (composer, weight) in made.fresh.items():
            _, known = self._composers.get(key, (None, 0))
            self._composers[key] = composer, weight
            self._kept_bytes += weight - known
        while len(self._composers) > _MOST_COMPOSERS or self._kept_bytes > _MOST_CONTENT_BYTES:
            _, (_, weight) = self._composers.popitem(last=False)
            self._kept_bytes -= weight

    async def unknown(
        self,
        raw: asyncpg.Connection,
        lane: Lane,
        use: Use,
        content_ids: Iterable[UUID],
        tracking: Tracking | None = None,
    ) -> list[UUID]:
        """Contents whose composer is not in memory: new ones, and those too heavy to be kept."""
        terms = _terms(lane, use, await self._tracking(raw, lane) if tracking is None else tracking)
        return [content_id for content_id in content_ids if (terms, content_id) not in self._composers]

    async def _tracking(self, raw: asyncpg.Connection, lane: Lane) -> Tracking:
        """What may be noticed about a lane's messages, at most five seconds old."""
        now_s = boottime_s()
        key = (lane.tenant_id, lane.id)
        checked_s, tracking = self._noticed.get(key, (0.0, Tracking()))
        if now_s - checked_s < _FRESH_S and key in self._noticed:
            return tracking
        tracking = await choices.effective(
            raw,
            lane.tenant_id,
            sender_id=lane.sender_id,
            campaign_id=lane.campaign_id,
            message_class=lane.message_class,
        )
        self._noticed[key] = (now_s, tracking)
        self._noticed.move_to_end(key)
        if len(self._noticed) > _MOST_COMPOSERS:
            self._noticed.popitem(last=False)
        return tracking

    async def close_idle(self, *, everything: bool = False) -> None:
        """Close accounts that no sender uses any more; on shutdown all, at the same time: one may take its seconds."""
        now_s = boottime_s()
        closing: list[Account] = []
        for key, account in list(self._accounts.items()):
            if everything or (not account.busy_count and now_s - account.used_s > _IDLE_S):
                del self._accounts[key]
                self._uses = {
                    name: use
                    for name, use in self._uses.items()
                    if all(route.account is not account for route in use.routes)
                }
                closing.append(account)
        for error in await asyncio.gather(*(each.transport.close() for each in closing), return_exceptions=True):
            if isinstance(error, BaseException):
                raise error


def _terms(lane: Lane, use: Use, tracking: Tracking) -> Terms:
    sender = use.sender
    return lane.tenant_id, lane.sender_id, sender.versions.sender, sender.identity.has_preferences_footer, tracking


def _weight(content: Content) -> int:
    """How many bytes a composer takes, about; a character may take four where one of them all needs as many."""
    texts = sum(getsizeof(text) for text in (content.html, content.text) if text)
    files = sum(len(attachment.content) for attachment in content.attachments)
    return _LEAST_BYTES + _COPIES * texts + int(_COPIES_OF_FILES * files)


def _bytes_of(content: Content) -> int:
    text_bytes = len(content.html or "") + len(content.text or "")
    return text_bytes + sum(len(attachment.content) for attachment in content.attachments)


def _is_small(content: Content) -> bool:
    """Whether a composer may stay in memory; one with great texts or attachments is made anew each time."""
    return _bytes_of(content) < _MOST_CONTENT_BYTES // 64
