"""The idempotency keys of the Resend-shaped sandbox: known for a day, for one body, also after a restart."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from outrider.interfaces.sandbox.resend.ledger import TAKEN, Entry
from outrider.interfaces.sandbox.resend.refusals import Error


@dataclass(slots=True)
class _Known:
    digest: str
    at_ns: int
    answer: dict[str, Any] | None


class Keys:
    """What was asked under which key, and what was answered; None: it is under way."""

    def __init__(self, remembers_s: float) -> None:
        self._remembers_ns = int(remembers_s * 1e9)
        self._known: dict[str, _Known] = {}

    def look(self, key: str, digest: str) -> tuple[Error | None, dict[str, Any] | None]:
        """The conflict a key is in, or the answer that was given under it; both None: it is new."""
        known = self._known.get(key)
        if not key or known is None or time.time_ns() - known.at_ns > self._remembers_ns:
            return None, None
        if known.digest != digest:
            return (409, "invalid_idempotent_request", "Same idempotency key used with a different payload"), None
        if known.answer is None:
            return (409, "concurrent_idempotent_requests", "The original request is still in progress"), None
        return None, known.answer

    @contextmanager
    def under_way(self, key: str, digest: str) -> Iterator[None]:
        """While a request is being answered for the first time."""
        if key:
            self._known[key] = _Known(digest, time.time_ns(), None)
        try:
            yield
        finally:
            known = self._known.get(key)
            if known is not None and known.answer is None:
                del self._known[key]

    def remember(self, key: str, digest: str, answer: dict[str, Any]) -> None:
        """What is answered under a key from now on."""
        if key:
            self._known[key] = _Known(digest, time.time_ns(), answer)

    def restore(self, entries: Sequence[Entry]) -> None:
        """Know again what was taken before a restart."""
        by_key: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            if entry.outcome in TAKEN and entry.key:
                by_key[entry.key].append(entry)
        for key, same in by_key.items():
            ids = [{"id": each.id} for each in same]
            answer = {"data": ids} if key.startswith("batch") or len(ids) > 1 else ids[0]
            self._known[key] = _Known(same[0].digest, same[0].at_ns, answer)
