"""The requests of one account: which messages share one, at what pace, and what becomes of a lost answer.

A request whose answer is lost is made again at once, a few times, with its key and its very bytes; what is still not
known then is left to whoever repeats it later. Owns the pace, which answers slow down further; never reads an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import orjson

from outrider.base.clock import boottime_s
from outrider.base.errors import Unavailable
from outrider.contracts.callbacks import Lost
from outrider.contracts.outcome import Deferred, Outcome, Rejected, Uncertain, Unsent
from outrider.contracts.provider import Egress, Outgoing, Transport, Turn, Watch
from outrider.data.http_account import Desk, Rest, outcome_of_trouble
from outrider.data.http_out import Reply, Trouble
from outrider.data.lines import Places
from outrider.plugins.providers.resend.answers import Read, Refusal, Told, Unsure, read
from outrider.plugins.providers.resend.finding import find
from outrider.plugins.providers.resend.payload import Payload, may_share, payload_of
from outrider.plugins.providers.resend.settings import Account

_TRIES: Final = 3
_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 5.0
_MOST_BYTES: Final = 8 << 20
"""Of one request with many messages."""
_HEADERS: Final = {"x-batch-validation": "permissive"}
"""One bad message of many is refused alone."""
Item = tuple[Outgoing, Payload]


@dataclass(slots=True)
class _Request:
    """Messages that go together; `refused`: those that got no leave, so that it did not go."""

    items: list[Item]
    key: str
    refused: dict[UUID, str]

    @classmethod
    def of(cls, items: list[Item]) -> _Request:
        """A new request. One message alone has a key for good; the key of many is of this request only."""
        key = items[0][0].idempotency_key if len(items) == 1 else f"batch-{uuid4()}"
        return cls(items, key, {})

    @property
    def messages(self) -> list[Outgoing]:
        """Its messages in order."""
        return [message for message, _ in self.items]

    @property
    def body(self) -> bytes:
        """What is posted."""
        return orjson.dumps(self.items[0][1] if len(self.items) == 1 else [payload for _, payload in self.items])


class ResendTransport:
    """Requests to one account. After a refusal that concerns the account one request probes, no sooner than asked."""

    def __init__(self, account: Account, egress: Egress) -> None:
        self.request_count = account.batch_size
        self._account = account
        self._http = account.http(egress)
        self._room = Places(account.connections)
        self.rest = Rest()
        self._rate = account.requests_per_s
        self._next_s = 0.0
        self._rests_until_s = 0.0
        self._shared: Turn | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def share(self, turn: Turn) -> None:
        """Take turns with everybody who uses the account; see `contracts.provider.TakesTurns`."""
        self._shared = turn

    def rest_with(self, other: Transport) -> None:
        """Learn of the account together with another; see `contracts.provider.RestsTogether`."""
        if isinstance(other, ResendTransport):
            self.rest.share(other.rest)

    async def send(self, batch: Sequence[Outgoing], watch: Watch) -> None:
        """Take a batch outside; see `contracts.provider.Transport.send`."""
        desk = Desk(watch)
        requests = self._requests(batch, desk)
        count = min(self._account.connections, len(batch))
        workers = [asyncio.create_task(self._work(requests, desk)) for _ in range(count)]
        self._open.update(workers)
        try:
            await asyncio.gather(*workers)
        except asyncio.CancelledError:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            for request in requests:
                self._settle_cut(request.messages, desk)
            if not self._is_closed:
                raise
        finally:
            self._open.difference_update(workers)

    async def repeat(
        self, key: str, messages: Sequence[Outgoing], leave: Callable[[], str | None]
    ) -> list[Outcome] | None:
        """Make a request again; see `contracts.provider.Repeats`."""
        try:
            items = [(message, payload_of(message, self._account)) for message in messages]
        except ValueError:
            return None
        async with self._room.place():
            found = await self._ask(_Request(items, key, {}), leave)
        if isinstance(found, Trouble):
            return None if found.kind != "lost" else self._unsure(len(items), found.detail)
        match found:
            case Told(outcomes):
                return outcomes
            case Refusal() as refusal if _says_nothing_of_before(refusal):
                return None
            case Refusal(outcome):
                return [outcome] * len(items)
            case Unsure(detail):
                return self._unsure(len(items), detail)

    async def find(self, lost: Sequence[Lost]) -> dict[UUID, str | None]:
        """Ask what became of messages; see `contracts.callbacks.Finds`."""
        async with self._room.place():
            return await find(self._http, self._turn, lost)

    async def close(self) -> None:
        """Cut what is under way, which leaves it uncertain, and close the connections."""
        self._is_closed = True
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._http.close()

    def _requests(self, batch: Sequence[Outgoing], desk: Desk) -> Iterator[_Request]:
        """Messages as they share requests: in order, files alone. Made one by one, as they go."""
        together: list[Item] = []
        size = 0
        for message in batch:
            try:
                item = message, payload_of(message, self._account)
            except ValueError as error:
                desk.settle(message, Rejected("request_refused", f"the message {error}"[:200]))
                continue
            if not may_share(item[1]):
                yield _Request.of([item])
                continue
            if together and (len(together) == self.request_count or size + len(message.body) > _MOST_BYTES):
                yield _Request.of(together)
                together, size = [], 0
            together.append(item)
            size += len(message.body)
        if together:
            yield _Request.of(together)

    async def _work(self, requests: Iterator[_Request], desk: Desk) -> None:
        for request in requests:
            waiting = [request]
            try:
                while waiting:
                    async with self.rest.turn():
                        waiting[:1] = await self._one(waiting[0], desk)
            except asyncio.CancelledError:
                for each in waiting:
                    self._settle_cut(each.messages, desk)
                raise

    def _settle_cut(self, messages: Sequence[Outgoing], desk: Desk) -> None:
        for message in messages:
            desk.cut(message, "transport_closed" if self._is_closed else "cancelled", is_keyed=True)

    async def _one(self, request: _Request, desk: Desk) -> list[_Request]:
        """See one request to its end. Gives what has to go instead: without who got no leave, or in halves."""
        async with self._room.place(is_urgent=request.items[0][0].is_urgent):
            barred = self.rest.barred()
            if barred is not None:
                return self._settled(request, desk, [barred] * len(request.items))
            reason = await desk.watch.keep_key(request.key, request.messages)
            if reason is not None:
                return self._settled(request, desk, [Unsent(reason)] * len(request.items))
            with self.rest.trying():
                found = await self._sent(request, desk)
        if request.refused:
            for message in request.messages:
                if message.id in request.refused:
                    desk.settle(message, Unsent(request.refused[message.id]))
            left = [item for item in request.items if item[0].id not in request.refused]
            return [_Request.of(left)] if left else []
        if isinstance(found, Refusal) and found.is_at_fault and len(request.items) > 1:
            middle = len(request.items) // 2
            return [_Request.of(request.items[:middle]), _Request.of(request.items[middle:])]
        outcomes = found.outcomes if isinstance(found, Told) else [found.outcome] * len(request.items)
        self._learn(outcomes[0])
        return self._settled(request, desk, outcomes)

    def _learn(self, outcome: Outcome) -> None:
        """Take an end into account: where even repeating tells nothing, what waits is not put in doubt as well."""
        if isinstance(outcome, Uncertain) and outcome.cause == "answer_lost":
            outcome = Deferred("provider_down", f"no answer that says anything: {outcome.detail}"[:200])
        self.rest.learn(outcome)

    @staticmethod
    def _settled(request: _Request, desk: Desk, outcomes: Sequence[Outcome]) -> list[_Request]:
        for message, outcome in zip(request.messages, outcomes, strict=True):
            desk.settle(message, outcome)
        return []

    async def _sent(self, request: _Request, desk: Desk) -> Told | Refusal:
        """Make a request until its answer is known, with the same key and bytes; a few times, then it stays unknown."""
        detail, pause_s = "", _PAUSE_S
        for number in range(_TRIES):
            if number:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            found = await self._ask(request, lambda: self._leave(request, desk))
            if isinstance(found, Trouble):
                if found.kind == "withheld" and number:
                    request.refused.clear()  # it went before: nobody of it is known not to have been reached
                    break
                if found.kind != "lost" and not number:
                    return Refusal(outcome_of_trouble(found))
                detail = detail or found.detail
                continue
            match found:
                case Unsure():
                    detail = detail or found.detail
                    pause_s = min(max(pause_s, found.after_s or 0.0), _LONGEST_PAUSE_S)
                case Refusal() as refusal if number and _says_nothing_of_before(refusal):
                    break
                case _:
                    return found
        return Told(self._unsure(len(request.items), detail))

    @staticmethod
    def _unsure(count: int, detail: str) -> list[Outcome]:
        return [Uncertain("answer_lost", detail[:200], is_keyed=True)] * count

    @staticmethod
    def _leave(request: _Request, desk: Desk) -> str | None:
        """Ask for each message; one without leave keeps the request from going as it is."""
        for message in request.messages:
            reason = desk.begin(message)
            if reason is not None:
                request.refused[message.id] = reason
        return "some of it must not leave" if request.refused else None

    async def _ask(self, request: _Request, leave: Callable[[], str | None]) -> Read | Trouble:
        """One request, in its turn."""
        await self._turn()
        is_single = len(request.items) == 1
        reply = await self._http.ask(
            "POST",
            "/emails" if is_single else "/emails/batch",
            body=request.body,
            content_type="application/json",
            headers={"Idempotency-Key": request.key, **({} if is_single else _HEADERS)},
            leave=leave,
        )
        if isinstance(reply, Trouble):
            return reply
        self._heed(reply)
        return read(reply, len(request.items))

    async def _turn(self) -> None:
        """Wait until the next request may be made: the account's turn, or this worker's own while nobody knows that."""
        now_s = boottime_s()
        rest_s = max(0.0, self._rests_until_s - now_s)
        if self._shared is not None:
            try:
                await asyncio.sleep(await self._shared(self._rate, rest_s))
            except Unavailable:
                pass
            else:
                return
        at_s = max(now_s + rest_s, self._next_s)
        self._next_s = at_s + 1 / self._rate
        if at_s > now_s:
            await asyncio.sleep(at_s - now_s)

    def _heed(self, reply: Reply) -> None:
        """Slow down as an answer asks; never faster than the setting."""
        names = ("limit", "remaining", "reset")
        limit, left, reset = (_number(reply.headers.get(f"ratelimit-{name}")) for name in names)
        if limit:
            self._rate = min(self._account.requests_per_s, limit)
        if left == 0 and reset:
            self._rests_until_s = max(self._rests_until_s, boottime_s() + min(reset, 60.0))


def _says_nothing_of_before(refusal: Refusal) -> bool:
    """Whether a refusal leaves open what became of the same request, made earlier.

    What is wrong with its bytes was wrong then; an account or a domain may have lost its rights since.
    """
    return isinstance(refusal.outcome, Deferred) or (isinstance(refusal.outcome, Rejected) and not refusal.is_at_fault)


def _number(text: str | None) -> float | None:
    return float(text) if text and text.isdecimal() and len(text) < 7 else None  # noqa: PLR2004 - no window is longer
