"""How accounts rest: what concerns the account holds for all, what lies on one's own way for nobody else."""

from __future__ import annotations

import asyncio

import pytest

from outrider.contracts.outcome import OF_ACCOUNT, Accepted, Deferred, Uncertain
from outrider.data import http_account
from outrider.data.http_account import Rest

TAKEN = Accepted("SM1")
OF_WAY = {"api_timeout", "api_unreachable", "provider_down", "tls_failed", "target_refused", "sender_unusable"}
PATIENCE_S = 20


def entered() -> tuple[Rest, Rest]:
    """Two tenants' transports to one account."""
    first, second = Rest(), Rest()
    second.share(first)
    return first, second


async def take_turn(rest: Rest) -> None:
    """Go once, when it is one's turn."""
    async with rest.turn():
        pass


@pytest.mark.parametrize("cause", sorted(OF_WAY))
def test_what_is_wrong_on_the_way_of_one_bars_no_other_of_the_account(cause: str) -> None:
    first, second = entered()
    second.learn(TAKEN)
    first.learn(Deferred(cause, after_s=60.0))
    barred = first.barred()
    assert barred is not None
    assert barred.cause == cause
    assert not first.is_proven
    assert second.barred() is None
    assert second.is_proven


@pytest.mark.parametrize("cause", sorted(OF_ACCOUNT))
def test_what_concerns_the_account_bars_all_of_it_until_one_of_them_is_taken(cause: str) -> None:
    first, second = entered()
    first.learn(TAKEN)
    second.learn(TAKEN)
    first.learn(Deferred(cause, after_s=60.0))
    barred = second.barred()
    assert barred is not None
    assert barred.cause == cause
    assert not second.is_proven
    second.learn(TAKEN)
    assert first.barred() is None
    assert first.is_proven


def test_a_request_that_was_taken_proves_the_account_for_all_and_the_way_for_itself() -> None:
    first, second = entered()
    first.learn(Uncertain("answer_lost"))
    assert first.is_proven
    assert not second.is_proven, "its own way may be another"


def test_one_message_probes_for_all_of_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(http_account, "boottime_s", lambda: now_s)
    first, second = entered()
    first.learn(Deferred("rate_limited", after_s=1.0))
    assert first.barred() is not None
    now_s += 2.0
    with first.trying():
        assert second.barred() is not None
    assert second.barred() is None


async def test_whose_way_is_broken_keeps_nobody_waiting_who_may_enter_a_proven_account() -> None:
    first, second = entered()
    second.learn(TAKEN)
    first.learn(Deferred("api_timeout"))
    third = Rest()
    third.share(first)
    async with first.turn(), asyncio.timeout(PATIENCE_S), second.turn(), third.turn():
        pass


async def test_of_an_account_nobody_has_proven_one_request_goes_at_a_time() -> None:
    first, second = entered()
    async with first.turn():
        waiting = asyncio.create_task(take_turn(second))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, PATIENCE_S)
