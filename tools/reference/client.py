"""The synchronous Python client, drawn from the asynchronous one, so that what changes in one changes in both.

Owns the words in which the two differ; every other line of the client is written once, in aio.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent.parent / "clients" / "python" / "outrider_client"
_FILES = {"aio.py": "sync.py", "campaigns_aio.py": "campaigns_sync.py"}
_CAMPAIGNS = (
    (
        '"""The asynchronous client\'s calls about campaigns."""',
        '"""The synchronous client\'s calls about campaigns: campaigns_aio.py drawn by `make docs`."""',
    ),
    ("Callable[[Call], Awaitable[Any]]", "Callable[[Call], Any]"),
    ("AsyncIterator, Awaitable, Callable", "Callable, Iterator"),
    ("AsyncIterator", "Iterator"),
    ("AsyncCampaigns", "Campaigns"),
)
_WORDS = (
    ('"""The asynchronous client."""', '"""The synchronous client: aio.py without waiting, written by `make docs`."""'),
    ("import asyncio\n", "import time\n"),
    ("from outrider_client.campaigns_aio import", "from outrider_client.campaigns_sync import"),
    ("AsyncCampaigns", "Campaigns"),
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


def render() -> dict[str, str]:
    """File name -> text of what is drawn from the asynchronous client."""
    return {drawn: _drawn(source, _WORDS if source == "aio.py" else _CAMPAIGNS) for source, drawn in _FILES.items()}


def write() -> None:
    """Write it."""
    for name, text in render().items():
        (PACKAGE / name).write_text(text, encoding="utf-8")


def _drawn(source: str, words: Sequence[tuple[str, str]]) -> str:
    text = (PACKAGE / source).read_text(encoding="utf-8")
    for asynchronous, synchronous in words:
        if asynchronous not in text:
            raise ValueError(f"{source} no longer says {asynchronous!r}")
        text = text.replace(asynchronous, synchronous)
    return re.sub(r"\b(?:async|await) ", "", text)
