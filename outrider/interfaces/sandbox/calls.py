"""Callbacks of the sandboxes: posted until they are answered with 2xx, a few times."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp

_LONGEST_ANSWER_S = 15.0
"""Providers give up after fifteen seconds."""
_OK = range(200, 300)


class Calls:
    """Whoever calls back; counts what was taken and what was given up."""

    def __init__(self, *, tries: int) -> None:
        self._tries = tries
        self._session: aiohttp.ClientSession | None = None
        self.sent_count = 0
        self.failed_count = 0

    async def call(
        self, url: str, data: bytes | dict[str, str], headers: Mapping[str, str], *, tries: int | None = None
    ) -> tuple[int, str]:
        """Post one; gives the last status (0: no answer) and its body."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_LONGEST_ANSWER_S))
        status, text = 0, ""
        for number in range(tries or self._tries):
            if number:
                await asyncio.sleep(min(2.0, 0.1 * 2**number))
            try:
                async with self._session.post(url, data=data, headers=headers) as answer:
                    status, text = answer.status, await answer.text()
            except (aiohttp.ClientError, TimeoutError, OSError):
                status, text = 0, ""
            if status in _OK:
                self.sent_count += 1
                return status, text
        self.failed_count += 1
        return status, text

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
