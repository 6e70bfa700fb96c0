"""Calls without their input and output: what is asked, what an answer means, when to ask again.

Both clients send what stands here and do what `Attempts` says; neither decides anything by itself.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import httpx

from outrider_client.errors import ApiError, NotNow
from outrider_client.shapes import Message

_TOO_MANY: Final = 429
_PASSING: Final = frozenset({_TOO_MANY, 502, 503, 504})
_IN_PROGRESS: Final = "idempotency_in_progress"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 20.0
_ERROR: Final = 400
CAMPAIGNS: Final = "/api/v1/campaigns"
USER_AGENT: Final = "outrider-client/0.1 (Python)"


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    method: str
    path: str
    json: Any = None
    params: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def may_be_repeated(self) -> bool:
        """Whether asking twice does no harm when the first answer was lost."""
        return self.method in {"GET", "HEAD", "PUT"} or "Idempotency-Key" in self.headers

    def arguments(self) -> dict[str, Any]:
        """As httpx takes them."""
        return {
            "method": self.method,
            "url": self.path,
            "json": self.json,
            "params": self.params,
            "headers": self.headers,
        }


class Attempts:
    """One call until its answer: `judge` and `lost` give how long to wait before the next attempt, or raise."""

    def __init__(self, call: Call, patience_s: float) -> None:
        self._call = call
        self._ends_s = time.monotonic() + patience_s
        self._count = 0

    def judge(self, response: httpx.Response) -> float | None:
        """None when the answer is one; else the seconds to wait. Raises ApiError, NotNow."""
        if response.status_code < _ERROR:
            return None
        problem = _problem(response)
        is_passing = response.status_code in _PASSING or problem.get("code") == _IN_PROGRESS
        if not is_passing:
            raise ApiError(response.status_code, problem)
        # only 429 is sure to come before anything was done: 503 may mean that a commit's own answer was lost
        if response.status_code != _TOO_MANY and not self._call.may_be_repeated:
            raise NotNow(response.status_code, problem)
        return self._pause(NotNow(response.status_code, problem), response.headers.get("Retry-After", ""))

    def lost(self, error: httpx.TransportError) -> float:
        """The seconds to wait after a connection was lost or refused. Raises NotNow."""
        failure = NotNow(0, {"code": "no_connection", "detail": f"{type(error).__name__}: {error}"})
        if not self._call.may_be_repeated and not isinstance(error, httpx.ConnectError):
            raise failure from error
        return self._pause(failure, "")

    def _pause(self, failure: NotNow, retry_after: str) -> float:
        self._count += 1
        backoff_s: float = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**self._count) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load
        pause_s = max(backoff_s, float(retry_after)) if retry_after.isdecimal() else backoff_s
        if time.monotonic() + pause_s > self._ends_s:
            raise failure
        return pause_s


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"code": "unknown", "detail": response.text[:200]}


def decoded(response: httpx.Response) -> Any:
    """The body of an answer: JSON as values, text as text, None when there is none."""
    if not response.content:
        return None
    return response.json() if "json" in response.headers.get("Content-Type", "") else response.text


def segment(identifier: str) -> str:
    """An id as one part of a path: whatever it holds, it leads nowhere else.

    Raises:  ValueError when there is none: the path would be another's.
    """
    if identifier.strip() in {"", ".", ".."}:
        raise ValueError(f"an id is wanted, not {identifier!r}")
    return quote(identifier, safe="")


def client_arguments(base_url: str, key: str, timeout_s: float) -> dict[str, Any]:
    """What both kinds of httpx client are made with."""
    headers = {"Authorization": f"Bearer {key}", "User-Agent": USER_AGENT}
    return {"base_url": base_url, "headers": headers, "timeout": timeout_s, "follow_redirects": False}


def send(message: Message, idempotency_key: str | None) -> Call:
    """Submit one message."""
    return Call("POST", "/api/v1/messages", json=message.body(), headers=_key(idempotency_key))


def send_many(messages: Sequence[Message], idempotency_key: str | None) -> Call:
    """Submit up to 5,000 messages, all or none."""
    body = {"messages": [message.body() for message in messages]}
    return Call("POST", "/api/v1/messages", json=body, headers=_key(idempotency_key))


def messages_page(filters: Mapping[str, str | None], cursor: str, limit: int) -> Call:
    """A page of messages."""
    wanted = {name: value for name, value in filters.items() if value is not None}
    return Call("GET", "/api/v1/messages", params={**wanted, "limit": limit, **({"cursor": cursor} if cursor else {})})


def message(message_id: str) -> Call:
    """One message with its timeline."""
    return Call("GET", f"/api/v1/messages/{segment(message_id)}")


def campaign_path(campaign_id: str, part: str = "") -> str:
    """Where a campaign is, or a part of it."""
    return f"{CAMPAIGNS}/{segment(campaign_id)}" + (f"/{part}" if part else "")


def measure(text: str, to: str | None, channel: str) -> Call:
    """What a text comes to and costs."""
    body = {"text": text, "channel": channel, **({"to": to} if to is not None else {})}
    return Call("POST", "/api/v1/messages/measure", json=body)


def events_page(cursor: str, start: str, kinds: Iterable[str], limit: int) -> Call:
    """A page of the feed of events."""
    params: dict[str, Any] = {"limit": limit, "from": start, "kind": list(kinds)}
    return Call("GET", "/api/v1/events", params={**params, **({"cursor": cursor} if cursor else {})})


def _key(given: str | None) -> dict[str, str]:
    return {"Idempotency-Key": given or str(uuid4())}
