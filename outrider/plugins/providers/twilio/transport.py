"""The requests of one account and the batches that share them.

Owns how many go at once, the pause the provider asks for, and asking it about messages whose answer was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote, urlencode
from uuid import UUID

import orjson

from outrider.base.clock import boottime_s
from outrider.base.errors import Unavailable
from outrider.contracts.callbacks import Bill, Lost
from outrider.contracts.outcome import Deferred, Outcome, Uncertain, Unsent
from outrider.contracts.provider import Egress, Outgoing, Watch
from outrider.data.http_out import HttpOut, Reply, Trouble
from outrider.plugins.providers.twilio.answers import is_sid, outcome_of
from outrider.plugins.providers.twilio.bills import bills
from outrider.plugins.providers.twilio.settings import Account

_ACCOUNT_CAUSES: Final = frozenset(
    {
        "rate_limited", "provider_down", "authentication_failed", "account_suspended", "connection_failed",
        "connection_timeout", "tls_failed", "target_refused",
    }
)  # fmt: skip
"""What tells of the account and not of a message: others that wait are not tried in vain."""
_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_PAGE: Final = 1000
_OK: Final = 200


class TwilioTransport:
    """Requests to one account. After a refusal that concerns the account one message probes, no sooner than asked."""

    def __init__(self, account: Account, egress: Egress) -> None:
        self._account = account
        self._http = HttpOut(
            account.base_url,
            egress,
            headers={"Authorization": account.authorization, "Accept": "application/json"},
            connections=account.connections,
            connect_timeout_s=account.connect_timeout_s,
            answer_timeout_s=account.answer_timeout_s,
        )
        self._room = asyncio.Semaphore(account.connections)
        self._bar: Deferred | None = None
        self._bar_until_s = 0.0
        self._pause_s = _PAUSE_S
        self._probing = False
        self._open: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def send(self, batch: Sequence[Outgoing], watch: Watch) -> None:
        """Take a batch outside; see `contracts.provider.Transport.send`."""
        desk = _Desk(watch)
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

    async def close(self) -> None:
        """Cut what is under way, which leaves it uncertain, and close the connections."""
        self._is_closed = True
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._http.close()

    async def find(self, lost: Sequence[Lost]) -> dict[UUID, str | None]:
        """Ask for the messages to each address since then; see `contracts.callbacks.Finds`."""
        found: dict[UUID, str | None] = {}
        taken: set[str] = set()
        for each in lost:
            listed = await self._listed(each)
            if listed is None:
                continue
            candidates = [sid for sid in listed if sid not in each.known_ids | taken]
            # of several alike it does not matter which is which: the same text reached the same person
            found[each.id] = candidates[-1] if candidates else None
            taken.update(candidates[-1:])
        return found

    async def bills(self, sent: Mapping[str, datetime]) -> Mapping[str, Bill]:
        """Ask what messages cost; see `contracts.callbacks.Bills`."""
        return await bills(self._http, self._account.path, sent)

    async def _work(self, waiting: Any, desk: _Desk) -> None:
        for message in waiting:
            try:
                outcome = await self._one(message, desk)
            except asyncio.CancelledError:
                if message.id in desk.begun:
                    desk.settle(message, Uncertain("answer_lost", "cut before the answer came"))
                else:
                    desk.settle(message, Unsent("transport_closed" if self._is_closed else "cancelled"))
                raise
            desk.settle(message, outcome)

    async def _one(self, message: Outgoing, desk: _Desk) -> Outcome:
        if desk.is_withheld:  # somebody of the batch was: ask ahead, before it costs a connection
            reason = desk.begin(message)
            if reason is not None:
                return Unsent(reason)
        async with self._room:
            barred = self._barred()
            if barred is not None:
                return barred
            is_probe = self._probing = self._bar is not None
            try:
                reply = await self._http.ask(
                    "POST",
                    f"{self._account.path}/Messages.json",
                    body=self._form(message),
                    leave=lambda: desk.begin(message),
                )
            finally:
                if is_probe:
                    self._probing = False
        outcome = outcome_of(reply) if isinstance(reply, Reply) else _of_trouble(reply)
        self._learn(outcome)
        return outcome

    def _barred(self) -> Deferred | None:
        """Why nothing is tried now: the account was refused, its pause is not over, or another one probes."""
        if self._bar is None:
            return None
        left_s = self._bar_until_s - boottime_s()
        if left_s <= 0 and not self._probing:
            return None
        return Deferred(self._bar.cause, self._bar.detail, max(left_s, 0.5))

    def _learn(self, outcome: Outcome) -> None:
        if isinstance(outcome, Deferred) and outcome.cause in _ACCOUNT_CAUSES:
            wish_s = outcome.after_s or self._pause_s
            self._bar, self._bar_until_s = outcome, boottime_s() + wish_s
            self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        elif not isinstance(outcome, (Uncertain, Unsent)):
            self._bar, self._pause_s = None, _PAUSE_S

    def _form(self, message: Outgoing) -> bytes:
        """The request for a message: a pure function of it, but for how long it stays valid."""
        account = self._account
        form = {"To": message.address, "From": message.envelope_from, "Body": message.body.decode()}
        if account.messaging_service_sid:
            form["MessagingServiceSid"] = account.messaging_service_sid
        if account.callback_url:
            form["StatusCallback"] = f"{account.callback_url}?m={message.id}"
        left_s = account.validity_s
        if message.until_s is not None:
            left_s = min(left_s, max(1, int(message.until_s - boottime_s())))
        form["ValidityPeriod"] = str(left_s)
        return urlencode(form).encode()

    async def _listed(self, lost: Lost) -> list[str] | None:
        """Ids of messages with the same recipient and text since the day of the attempt; None: too many to compare.

        Never asked for by when they were sent: what still waits at the provider was not sent yet, but it was taken.
        """
        query = f"To={quote(lost.address, safe='')}&PageSize={_PAGE}"
        reply = await self._http.ask("GET", f"{self._account.path}/Messages.json?{query}")
        said = _object(reply) if isinstance(reply, Reply) and reply.status == _OK else None
        if said is None or not isinstance(said.get("messages"), list):
            raise Unavailable("provider_unavailable", "the provider cannot be asked now")
        if said.get("next_page_uri"):
            return None
        text = lost.body.decode()
        return [
            each["sid"]
            for each in said["messages"]
            if isinstance(each, dict)
            and each.get("body") == text
            and is_sid(str(each.get("sid")))
            and _made_since(each.get("date_created"), lost.since)
        ]


def _made_since(made: object, since: datetime) -> bool:
    """Whether a message was made on the day of an attempt or later; one that does not say when may have been."""
    try:
        return parsedate_to_datetime(str(made)).astimezone(UTC).date() >= since.astimezone(UTC).date()
    except (ValueError, OverflowError):
        return True


class _Desk:
    """The watch of one batch, with what was begun and whether anything was withheld."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.begun: set[UUID] = set()
        self.is_withheld = False

    def begin(self, message: Outgoing) -> str | None:
        reason = self._watch.begin(message)
        if reason is None:
            self.begun.add(message.id)
        else:
            self.is_withheld = True
        return reason

    def settle(self, message: Outgoing, outcome: Outcome) -> None:
        self._watch.settle(message, outcome)


def _of_trouble(trouble: Trouble) -> Outcome:
    if trouble.kind == "withheld":
        return Unsent(trouble.detail)
    if trouble.kind == "lost":
        return Uncertain(trouble.cause, trouble.detail)
    return Deferred(trouble.cause, trouble.detail)


def _object(reply: Reply) -> dict[str, Any] | None:
    try:
        said = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return None
    return said if isinstance(said, dict) else None
