"""How an entry becomes a hash: canonical JSON of every column, chained with SHA-256. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

GENESIS = bytes(32)
"""The previous hash of a chain's first entry."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry without its own hash. `details` has passed `canonical`."""

    tenant_id: UUID
    seq: int
    at: datetime
    actor_kind: str
    actor: str
    action: str
    target_kind: str
    target_id: str
    reason: str
    details: Any
    ip: str | None


def canonical(value: Any) -> Any:
    """The one form of a JSON value that survives a round trip through jsonb.

    Takes:   what a caller puts into `details`: text, numbers, booleans, None, mappings, sequences, UUIDs, times.
    Gives:   text without NUL and lone surrogates, whole numbers as int, other numbers as plain decimal text; UUIDs and
             times as text.
    """
    match value:
        case None | bool() | int():
            return value
        case str():
            return value.replace("\0", "�").encode("utf-8", "replace").decode()
        case float() | Decimal():
            return _number(Decimal(repr(value)) if isinstance(value, float) else value)
        case UUID() | date():
            return value.isoformat() if isinstance(value, date) else str(value)
        case bytes():
            return value.hex()
        case Mapping():
            return {canonical(str(key)): canonical(item) for key, item in value.items()}
        case Sequence() | set() | frozenset():
            return [canonical(item) for item in value]
    return canonical(str(value))


def _number(value: Decimal) -> int | str:
    if not value.is_finite():
        return str(value)
    return int(value) if value == value.to_integral_value() else format(value.normalize(), "f")


def digest(entry: Entry, previous: bytes) -> bytes:
    """SHA-256 over the entry's canonical JSON, which contains the previous entry's hash."""
    fields = {
        "tenant_id": str(entry.tenant_id),
        "seq": entry.seq,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor_kind": entry.actor_kind,
        "actor": entry.actor,
        "action": entry.action,
        "target_kind": entry.target_kind,
        "target_id": entry.target_id,
        "reason": entry.reason,
        "details": entry.details,
        "ip": entry.ip,
        "previous_hash": previous.hex(),
    }
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).digest()
