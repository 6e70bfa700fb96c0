"""What `doctor` says of the server's write-ahead log: segments kept ready for commits, checkpoints far enough apart.

Owns the judgement and what to set; changes nothing. It warns and never fails: nothing is lost by it, others only wait.

Source:  docs/decisions/0035-segments-made-ahead.md; PostgreSQL's manual, "WAL Configuration"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

import asyncpg

from outrider.data.server_settings import bytes_of, seconds_of, shown
from outrider.interfaces.cli.checks import Finding

SETTINGS: Final = (
    "min_wal_size", "max_wal_size", "wal_segment_size", "checkpoint_timeout", "checkpoint_completion_target",
    "wal_recycle", "wal_init_zero",
)  # fmt: skip
_LITTLE_KEPT_BYTES: Final = 1 << 30
_LITTLE_MOST_BYTES: Final = 2 << 30
_OFTEN_S: Final = 300.0
_IN_BURSTS: Final = 0.7
_WHERE = "docs/how-to/move-to-an-external-database.md"


async def write_ahead(url: str) -> Finding:
    """Whether commits find their WAL segments made, and how far checkpoints are apart."""
    connection = await asyncpg.connect(url, timeout=10)
    found: dict[str, str] = {}
    try:
        for name in SETTINGS:
            with suppress(asyncpg.UndefinedObjectError):  # servers that are not PostgreSQL's own may lack one
                found |= await shown(connection, name)
    finally:
        await connection.close()
    return judged(found)


def judged(settings: Mapping[str, str]) -> Finding:
    """The settings as a finding; one that the server does not show is not judged."""
    wanted = list(_wanted(settings))
    detail = ", ".join(f"{name} {settings[name]}" for name in SETTINGS[:2] if name in settings) or "not shown"
    if "off" in {settings.get("wal_recycle"), settings.get("wal_init_zero")}:
        detail += "; WAL segments are not recycled or not filled ahead, which suits ZFS and btrfs only"
    if not wanted:
        return Finding("write-ahead log", "ok", detail)
    detail += "".join(f"; {why}" for _, why in wanted)
    changes = ", ".join(change for change, _ in wanted)
    return Finding("write-ahead log", "warn", detail, f"set {changes} and reload the server: {_WHERE}")


def _wanted(settings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What should be set, and why."""
    segment = settings.get("wal_segment_size", "16MB")
    if (kept := settings.get("min_wal_size")) is not None and bytes_of(kept) < _LITTLE_KEPT_BYTES:
        why = f"a commit that finds no segment ready makes every other one wait until {segment} are written to the disk"
        yield "min_wal_size = 1GB", why
    if (most := settings.get("max_wal_size")) is not None and bytes_of(most) < _LITTLE_MOST_BYTES:
        yield "max_wal_size = 4GB", "an import brings one checkpoint after the other, and more to write after each"
    often = settings.get("checkpoint_timeout")
    if often is not None and seconds_of(often) < _OFTEN_S:
        yield "checkpoint_timeout = 15min", f"checkpoints come every {often}, and more has to be written after each"
    spread = settings.get("checkpoint_completion_target")
    if spread is not None and float(spread) < _IN_BURSTS:
        yield "checkpoint_completion_target = 0.9", "checkpoints write all at once, and commits wait for the disk"
