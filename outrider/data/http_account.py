"""What accounts behind an HTTP interface have in common: refusals that concern all, troubles, words safe to show.

Owns the rest an account takes after it was refused, and the watch of one batch. Never speaks HTTP itself and knows no
provider.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import orjson

from outrider.base.clock import boottime_s
from outrider.base.errors import Refused
from outrider.base.web import base_url, is_local_host
from outrider.contracts.outcome import OF_ACCOUNT, Deferred, Outcome, Uncertain, Unsent
from outrider.contracts.provider import Outgoing, Watch
from outrider.data.http_out import Reply, Trouble

_OF_WAY: Final = frozenset(
    {"provider_down", "api_unreachable", "api_timeout", "tls_failed", "target_refused", "sender_unusable"}
)
"""What is no message's fault either, but may be that of one connection: its time limits, its address, its way."""
_PAUSE_S: Final = 0.5
"""So long nothing is tried after a refusal that asks for no pause; longer ones are the circuit's, for all workers."""
_LONGEST_WISH_S: Final = 86_400.0
_LONGEST_DETAIL: Final = 240
_JSON_TYPE: Final = "application/json"
_LONGEST_TYPE: Final = 60
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")


class _Pause:
    """What was refused and for how long nothing is tried because of it, and whether a request went since."""

    def __init__(self) -> None:
        self.bar: Deferred | None = None
        self.until_s = 0.0
        self.is_probing = False
        self.proven = asyncio.Event()
        self.proof = asyncio.Lock()

    def begin(self, refusal: Deferred) -> None:
        """Try nothing for as long as was asked."""
        self.bar, self.until_s = refusal, boottime_s() + (refusal.after_s or _PAUSE_S)
        self.proven.clear()

    @property
    def barred(self) -> Deferred | None:
        """Why nothing is tried now."""
        if self.bar is None:
            return None
        left_s = self.until_s - boottime_s()
        if left_s <= 0 and not self.is_probing:
            return None
        return Deferred(self.bar.cause, self.bar.detail, max(left_s, 0.5))


class Rest:
    """The rest of an account after a refusal that concerns it: then one message probes, no sooner than asked.

    The first request of all goes alone as well: wrong credentials cost one request, not one of each connection [F53].
    What is wrong on the way is each transport's own: with time limits too short nobody keeps the others of the account.
    Source: decisions/0033-one-circuit-per-account.md
    """

    def __init__(self) -> None:
        self._way, self._account = _Pause(), _Pause()

    def share(self, other: Rest) -> None:
        """Learn of the account together with another, from now on."""
        self._account = other._account

    @property
    def is_proven(self) -> bool:
        """Whether the account took a request and refused none since: nobody has to wait for a turn."""
        return self._way.proven.is_set() and self._account.proven.is_set()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Around a request and what is learned of it: until the account took one, only one at a time is on its way.

        The own way's turn comes first: then one request of a transport waits among those of others, not all of them.
        """
        async with AsyncExitStack() as held:
            for pause in (self._way, self._account):
                if not pause.proven.is_set():
                    await held.enter_async_context(pause.proof)
            if self.is_proven:
                await held.aclose()
            yield

    def barred(self) -> Deferred | None:
        """Why nothing is tried now: the account was refused, its pause is not over, or another one probes."""
        return self._account.barred or self._way.barred

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Around a request; while it is a probe nobody else tries."""
        probed = [pause for pause in (self._way, self._account) if pause.bar is not None]
        for pause in probed:
            pause.is_probing = True
        try:
            yield
        finally:
            for pause in probed:
                pause.is_probing = False

    def learn(self, outcome: Outcome) -> None:
        """Take an outcome into account."""
        if isinstance(outcome, Deferred) and outcome.cause in OF_ACCOUNT:
            self._account.begin(outcome)
        elif isinstance(outcome, Deferred) and outcome.cause in _OF_WAY:
            self._way.begin(outcome)
        elif not isinstance(outcome, Unsent):
            for pause in (self._way, self._account):
                pause.proven.set()
                if not isinstance(outcome, Uncertain):
                    pause.bar = None


class Desk:
    """The watch of one batch, with what was begun and whether anything was withheld."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.begun: set[UUID] = set()
        self.is_withheld = False

    def begin(self, message: Outgoing) -> str | None:
        """Ask for leave."""
        reason = self.watch.begin(message)
        if reason is None:
            self.begun.add(message.id)
        else:
            self.is_withheld = True
        return reason

    def settle(self, message: Outgoing, outcome: Outcome) -> None:
        """Tell what became of a message."""
        self.watch.settle(message, outcome)

    def cut(self, message: Outgoing, why: str, *, is_keyed: bool = False) -> None:
        """Settle a message whose send was cut: what was begun may have been taken."""
        if message.id in self.begun:
            self.settle(message, Uncertain("answer_lost", "cut before the answer came", is_keyed))
        else:
            self.settle(message, Unsent(why))


def outcome_of_trouble(trouble: Trouble) -> Outcome:
    """What it means that there was no answer."""
    if trouble.kind == "withheld":
        return Unsent(trouble.detail)
    if trouble.kind == "lost":
        return Uncertain(trouble.cause, trouble.detail)
    return Deferred(trouble.cause, trouble.detail)


def object_in(body: bytes) -> dict[str, Any] | None:
    """The JSON object of an answer, if it is one."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return said if isinstance(said, dict) else None


def not_the_api(reply: Reply) -> str | None:
    """Why an answer of success is none of the API, whatever stands in it; None when it is of its type."""
    text = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if text == _JSON_TYPE:
        return None
    named = text[:_LONGEST_TYPE] if text.isprintable() else "?"
    return f"an answer of success that is {named or 'of no type'}, not {_JSON_TYPE}"


def detail_of(status: int, code: object, message: object) -> str:
    """Words about an answer that can be shown: the server's are made printable and cut."""
    text = _UNPRINTABLE.sub("?", message) if isinstance(message, str) else ""
    name = "" if code is None else f" {_UNPRINTABLE.sub('?', str(code))[:60]}"
    return f"HTTP {status}{name}: {text}"[:_LONGEST_DETAIL].rstrip(": ")


def wish_s(reply: Reply) -> float | None:
    """What Retry-After asks for, in seconds; a date is not read."""
    text = reply.headers.get("retry-after", "")
    if not re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]+)?", text):
        return None
    return min(max(float(text), 0.1), _LONGEST_WISH_S)


def checked_base(text: str) -> str:
    """The base of an API; without TLS only on this machine, because credentials go with every request.

    Raises:  Refused naming settings.base_url.
    """
    plain = base_url(text, field="settings.base_url")
    parts = urlsplit(plain)
    if parts.scheme != "https" and not is_local_host(parts.hostname or ""):
        detail = "must be https: the credentials go with every request"
        raise Refused("invalid_setting", detail, field="settings.base_url")
    return plain
