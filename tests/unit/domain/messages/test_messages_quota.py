"""Who is let in: a quota's share for bulk, all of it for transactional, and what a fan-out may queue."""

from __future__ import annotations

import pytest

from outrider.base.errors import OutriderError, Refused, Unavailable
from outrider.contracts.gate import MessageClass
from outrider.domain.messages.quota import FULL, TENANT_FULL, Limit, Room


def _room(count: int = 0, most: int = 100, *, in_all: tuple[int, int] = (0, 10_000), percent: int = 80) -> Room:
    return Room(Limit(count, most, percent), Limit(*in_all, percent))


@pytest.mark.parametrize(
    ("message_class", "count", "taken", "code"),
    [
        ("bulk", 79, 1, None),
        ("bulk", 80, 1, TENANT_FULL),
        ("bulk", 79, 2, TENANT_FULL),
        ("transactional", 80, 20, None),
        ("transactional", 80, 21, TENANT_FULL),
        ("transactional", 100, 1, TENANT_FULL),
    ],
)
def test_bulk_fills_its_share_and_transactional_the_whole_quota(
    message_class: MessageClass, count: int, taken: int, code: str | None
) -> None:
    room = _room(count)
    refusal = room.take(message_class, taken)
    assert (refusal.code if refusal else None) == code
    assert room.tenant.count == count + (0 if refusal else taken)


def test_what_is_taken_is_gone_for_the_next() -> None:
    room = _room(78)
    assert [room.take("bulk") is None for _ in range(4)] == [True, True, False, False]
    assert room.take("transactional", 20) is None
    assert room.in_all.count == 22


def test_a_full_installation_is_told_apart_from_a_full_tenant_and_takes_nothing() -> None:
    room = _room(0, in_all=(80, 100))
    refusal = room.take("bulk")
    assert isinstance(refusal, Unavailable)
    assert (refusal.code, room.tenant.count, room.in_all.count) == (FULL, 0, 80)
    assert room.take("transactional") is None


def test_the_refusal_says_what_is_full_and_when_to_come_again() -> None:
    refusal: OutriderError | None = _room(80).take("bulk", 7)
    assert isinstance(refusal, Refused)
    assert (refusal.http_status, refusal.data["open_count"], refusal.data["most_count"]) == (429, 80, 80)
    assert refusal.data["retry_after_s"] > 0
    for word in ("80 messages", "7", "80 percent", "kept for transactional"):
        assert word in refusal.message


def test_a_quota_of_nothing_lets_nothing_in() -> None:
    room = _room(0, 0)
    assert room.take("transactional") is not None
    assert room.page(1000)[0] == 0


def test_a_fan_out_queues_what_there_is_room_for() -> None:
    assert _room(0, 100).page(5000) == (80, "")
    assert _room(0, 100_000).page(5000) == (5000, "")
    assert _room(0, 100_000, in_all=(0, 1000)).page(5000) == (800, "")


def test_a_fan_out_waits_until_a_twentieth_is_free_and_says_whose_queue_is_full() -> None:
    assert _room(77, 100).page(5000)[0] == 0
    assert _room(76, 100).page(5000)[0] == 4
    most, why = _room(0, in_all=(10_000, 10_000)).page(5000)
    assert most == 0
    assert "the installation's queue" in why
    assert "this tenant's queue holds 80" in _room(80).page(5000)[1]
