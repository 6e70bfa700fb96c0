from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.domain.audit.chain import GENESIS, Entry, canonical, digest

ENTRY = Entry(
    tenant_id=UUID(int=1),
    seq=1,
    at=datetime(2026, 11, 1, 12, 0, 0, 1, UTC),
    actor_kind="user",
    actor="ann@example.org",
    action="sending.pause",
    target_kind="tenant",
    target_id="1",
    reason="not given",
    details={"a": 1},
    ip=None,
)


@pytest.mark.parametrize(
    "change",
    [
        {"tenant_id": UUID(int=2)},
        {"seq": 2},
        {"at": ENTRY.at + timedelta(microseconds=1)},
        {"actor_kind": "key"},
        {"actor": "bob@example.org"},
        {"action": "sending.resume"},
        {"target_kind": "sender"},
        {"target_id": "2"},
        {"reason": "given"},
        {"details": {"a": 2}},
        {"ip": "127.0.0.1"},
    ],
)
def test_changing_any_field_changes_the_hash(change: dict[str, Any]) -> None:
    assert digest(replace(ENTRY, **change), GENESIS) != digest(ENTRY, GENESIS)


def test_the_previous_hash_is_part_of_the_hash() -> None:
    assert digest(ENTRY, bytes(31) + b"\1") != digest(ENTRY, GENESIS)


def test_the_hash_does_not_depend_on_the_zone_the_time_is_written_in() -> None:
    moved = replace(ENTRY, at=ENTRY.at.astimezone(timezone(timedelta(hours=5))))
    assert digest(moved, GENESIS) == digest(ENTRY, GENESIS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON)
def test_canonical_details_survive_being_written_and_read_as_json(value: Any) -> None:
    once = canonical(value)
    read_back = json.loads(json.dumps(once), parse_float=Decimal)
    assert canonical(read_back) == once


def test_canonical_text_can_be_stored() -> None:
    stored = canonical({"a\0": "b\0\ud800"})
    json.dumps(stored, ensure_ascii=False).encode()
    assert "\0" not in json.dumps(stored, ensure_ascii=False)


def test_canonical_form_of_what_callers_pass() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    given_details = {
        "id": UUID(int=7),
        "at": moment,
        "raw": b"\1",
        "rate": 2.50,
        "whole": 3.0,
        "set": {"x"},
        "tuple": (1, None),
    }
    assert canonical(given_details) == {
        "id": str(UUID(int=7)),
        "at": "2026-01-02T00:00:00+00:00",
        "raw": "01",
        "rate": "2.5",
        "whole": 3,
        "set": ["x"],
        "tuple": [1, None],
    }
