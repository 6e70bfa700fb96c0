"""The public API as a program of somebody else would use it: HTTP with a key.

Owns requests and their failures in one line; knows nothing of the product's inside.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import aiohttp

from outrider.base.errors import Refused, Unavailable

_TIMEOUT_S = 60
_ERROR = 400


class Api:
    """A client of one installation; use it as an async context manager."""

    def __init__(self, base_url: str, key: str) -> None:
        self._base = base_url
        self._headers = {"Authorization": f"Bearer {key}"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        self._session = aiohttp.ClientSession(self._base, headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> dict[str, Any]:
        """Read."""
        return await self._ask("GET", path)

    async def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Change something."""
        return await self._ask("POST", path, json=body or {})

    async def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Set something."""
        return await self._ask("PUT", path, json=body)

    async def upload(self, path: str, content: bytes, **parameters: str) -> dict[str, Any]:
        """Send a CSV file."""
        return await self._ask("POST", path, data=content, params=parameters, headers={"Content-Type": "text/csv"})

    async def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        assert self._session is not None, "used outside its block"  # noqa: S101 - a mistake of the caller's
        try:
            async with self._session.request(method, f"/api/v1{path}", **more) as response:
                body: dict[str, Any] = await response.json(content_type=None)
                if response.status >= _ERROR:
                    detail = body.get("detail") or body.get("title") or response.reason
                    raise Refused(str(body.get("code", "http")), f"{method} {path}: {detail}", status=response.status)
                return body
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("api_away", f"{method} {path}: {error or type(error).__name__}") from error
