"""The asynchronous client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from outrider_client import calls
from outrider_client.calls import Attempts, Call
from outrider_client.campaigns_aio import AsyncCampaigns
from outrider_client.reading import read
from outrider_client.shapes import EventPage, Measure, Message, MessageInfo


class AsyncOutrider:
    """A client of one installation with one key; it belongs to one event loop.

    Takes:   base_url    for example `https://outrider.example.org`
             patience_s  how long a call is repeated while the API cannot be reached or says "not now"
             transport   for tests
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        timeout_s: float = 10.0,
        patience_s: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._patience_s = patience_s
        self._http = httpx.AsyncClient(**calls.client_arguments(base_url, key, timeout_s), transport=transport)
        self.campaigns = AsyncCampaigns(self._call)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def send(self, message: Message, *, idempotency_key: str | None = None) -> str:
        """Submit a message; it is durable when this returns.

        Takes:   idempotency_key: a name of yours for this message; without one a lost answer is repeated all the same,
                 but calling `send` again sends again.
        Gives:   its id.
        Raises:  ApiError for what is wrong with it, NotNow when the API could not be reached.
        """
        answer = await self._call(calls.send(message, idempotency_key))
        return str(answer["id"])

    async def send_many(self, messages: Sequence[Message], *, idempotency_key: str | None = None) -> list[str]:
        """Submit 1 to 5,000 messages, all or none; gives their ids in order. As `send`."""
        answer = await self._call(calls.send_many(messages, idempotency_key))
        return [str(one["id"]) for one in answer["items"]]

    async def measure(self, text: str, *, to: str | None = None, channel: str = "sms") -> Measure:
        """In how many parts a finished text is sent and billed, and what it costs to `to`; sends nothing.

        Raises:  ApiError for a channel without parts, or an address that is none.
        """
        return read(Measure, await self._call(calls.measure(text, to, channel)))

    async def message(self, message_id: str) -> MessageInfo:
        """One message with everything that happened to it."""
        answer = await self._call(calls.message(message_id))
        return MessageInfo.read(answer["message"], tuple(answer["events"]))

    async def messages(
        self,
        *,
        state: str | None = None,
        campaign_id: str | None = None,
        to: str | None = None,
        channel: str | None = None,
        page_size: int = 500,
    ) -> AsyncIterator[MessageInfo]:
        """Messages, newest first, read page after page."""
        wanted = {"state": state, "campaign_id": campaign_id, "to": to, "channel": channel}
        cursor = ""
        while True:
            answer = await self._call(calls.messages_page(wanted, cursor, page_size))
            for one in answer["items"]:
                yield MessageInfo.read(one)
            cursor = answer["next_cursor"] or ""
            if not cursor:
                return

    async def events(
        self,
        cursor: str = "",
        *,
        start: Literal["oldest", "latest"] = "oldest",
        kinds: Sequence[str] = (),
        limit: int = 500,
    ) -> EventPage:
        """The events after a cursor; without one from the oldest that is kept, or from now on."""
        return EventPage.read(await self._call(calls.events_page(cursor, start, kinds, limit)))

    async def follow(
        self,
        cursor: str = "",
        *,
        start: Literal["oldest", "latest"] = "oldest",
        kinds: Sequence[str] = (),
        poll_s: float = 2.0,
    ) -> AsyncIterator[EventPage]:
        """Pages of events for ever: nothing is left out, and pages without an event are not given.

        Keep `next_cursor` of a page together with what was done about its events.
        """
        while True:
            page = await self.events(cursor, start=start, kinds=kinds)
            cursor = page.next_cursor
            if page.items:
                yield page
            if not page.has_more:
                await asyncio.sleep(poll_s)

    async def request(self, method: str, path: str, *, json: Any = None, params: dict[str, Any] | None = None) -> Any:
        """Any other call of the API; gives its decoded answer. Repeated only where that does no harm."""
        return await self._call(Call(method, path, json, params))

    async def _call(self, call: Call) -> Any:
        attempts = Attempts(call, self._patience_s)
        while True:
            try:
                response = await self._http.request(**call.arguments())
            except httpx.TransportError as error:
                await asyncio.sleep(attempts.lost(error))
                continue
            pause_s = attempts.judge(response)
            if pause_s is None:
                return calls.decoded(response)
            await asyncio.sleep(pause_s)
