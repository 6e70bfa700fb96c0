"""The requests of one account and the batches that share them.

Owns how many go at once, and asking about messages whose answer was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from outrider.contracts.callbacks import Bill, Lost
from outrider.contracts.outcome import Deferred, Outcome, Uncertain, Unsent
from outrider.contracts.provider import Egress, Outgoing, Transport, Watch
from outrider.data.http_account import Desk, Rest, outcome_of_trouble, wish_s
from outrider.data.http_out import HttpOut, Reply, Trouble
from outrider.data.lines import Places
from outrider.plugins.providers.twilio.answers import SERVER, outcome_of
from outrider.plugins.providers.twilio.bills import bills
from outrider.plugins.providers.twilio.finding import find
from outrider.plugins.providers.twilio.form import Forms, left_s
from outrider.plugins.providers.twilio.settings import Account


class TwilioTransport:
    """Requests to one account. After a refusal that concerns the account one message probes, no sooner than asked."""

    def __init__(self, account: Account, egress: Egress) -> None:
        self.line_count = account.connections
        self._account = account
        self._http = HttpOut(
            account.base_url,
            egress,
            headers={"Authorization": account.authorization, "Accept": "application/json"},
            connections=account.connections,
            connect_timeout_s=account.connect_timeout_s,
            answer_timeout_s=account.answer_timeout_s,
        )
        self._room = Places(account.connections)
        self._forms = Forms(account)
        self._path = f"{account.path}/Messages.json"
        self.rest = Rest()
        self._open: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def send(self, batch: Sequence[Outgoing], watch: Watch) -> None:
        """Take a batch outside; see `contracts.provider.Transport.send`."""
        desk = Desk(watch)
        waiting = iter(batch)
        workers = [
            asyncio.create_task(self._work(waiting, desk)) for _ in range(min(self._account.connections, len(batch)))
        ]
        self._open.update(workers)
        try:
            await asyncio.gather(*workers)
        except asyncio.CancelledError:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            reason = "transport_closed" if self._is_closed else "cancelled"
            for message in waiting:
                watch.settle(message, Unsent(reason))
            if not self._is_closed:
                raise
        finally:
            self._open.difference_update(workers)

    def rest_with(self, other: Transport) -> None:
        """Learn of the account together with another; see `contracts.provider.RestsTogether`."""
        if isinstance(other, TwilioTransport):
            self.rest.share(other.rest)

    async def close(self) -> None:
        """Cut what is under way, which leaves it uncertain, and close the connections."""
        self._is_closed = True
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._http.close()

    async def find(self, lost: Sequence[Lost]) -> dict[UUID, str | None]:
        """Ask for the messages to each number; see `contracts.callbacks.Finds`."""
        return await find(self._http, self._path, lost)

    async def bills(self, sent: Mapping[str, datetime]) -> Mapping[str, Bill]:
        """Ask what messages cost; see `contracts.callbacks.Bills`."""
        return await bills(self._http, self._account.path, sent)

    async def _work(self, waiting: Any, desk: Desk) -> None:
        for message in waiting:
            try:
                if self.rest.is_proven:  # nearly always
                    outcome = await self._one(message, desk)
                else:
                    async with self.rest.turn():
                        outcome = await self._one(message, desk)
            except asyncio.CancelledError:
                desk.cut(message, "transport_closed" if self._is_closed else "cancelled")
                raise
            desk.settle(message, outcome)

    async def _one(self, message: Outgoing, desk: Desk) -> Outcome:
        if desk.is_withheld:  # somebody of the batch was: ask ahead, before it costs a connection
            reason = desk.begin(message)
            if reason is not None:
                return Unsent(reason)
        if message.until_s is not None and left_s(message) < 1:
            return Unsent("its time of validity is over")  # the least that can be asked for would be too long
        async with self._room.place(is_urgent=message.is_urgent):
            barred = self.rest.barred()
            if barred is not None:
                return barred
            with self.rest.trying():
                reply = await self._http.ask(
                    "POST",
                    self._path,
                    body=self._forms.form(message),
                    leave=lambda: desk.begin(message),
                )
        outcome = outcome_of(reply) if isinstance(reply, Reply) else outcome_of_trouble(reply)
        self.rest.learn(_news_of(reply, outcome))
        return outcome


def _news_of(reply: Reply | Trouble, outcome: Outcome) -> Outcome:
    """What an end says of the account: while it answers that it fails, what waits is not put in doubt as well."""
    if isinstance(reply, Reply) and isinstance(outcome, Uncertain) and reply.status in SERVER:
        return Deferred("provider_down", outcome.detail, wish_s(reply))
    return outcome
