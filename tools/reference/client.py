"""The synchronous Python client, drawn from the asynchronous one, so that what changes in one changes in both.

Owns the words in which the two differ; every other line of the client is written once, in aio.py.
"""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent.parent / "clients" / "python" / "outrider_client"
_WORDS = (
    ('"""The asynchronous client."""', '"""The synchronous client: aio.py without waiting, written by `make docs`."""'),
    ("import asyncio\n", "import time\n"),
    ("AsyncOutrider", "Outrider"),
    ("it belongs to one event loop", "safe to use from several threads"),
    ("httpx.AsyncBaseTransport", "httpx.BaseTransport"),
    ("httpx.AsyncClient", "httpx.Client"),
    ("AsyncIterator", "Iterator"),
    ("__aenter__", "__enter__"),
    ("__aexit__", "__exit__"),
    ("aclose", "close"),
    ("asyncio.sleep", "time.sleep"),
)


def render() -> str:
    """The text of sync.py."""
    text = (PACKAGE / "aio.py").read_text(encoding="utf-8")
    for asynchronous, synchronous in _WORDS:
        if asynchronous not in text:
            raise ValueError(f"aio.py no longer says {asynchronous!r}")
        text = text.replace(asynchronous, synchronous)
    return re.sub(r"\b(?:async|await) ", "", text)
