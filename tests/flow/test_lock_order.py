"""Recorder, reports, answers and people change the same accounts and addresses at once: nobody waits in a ring.

In each test two transactions are brought to where each has its first lock, or waits for the other's: with two orders of
locks the database would end one of them as a deadlock, every time.

Source:  decisions/0006
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from outrider.contracts.actor import Actor
from outrider.contracts.callbacks import Bill, Inbound, Report
from outrider.domain.callbacks.take import Came, take_in
from outrider.domain.contacts import suppressions
from outrider.domain.limits import accounts, charges
from outrider.domain.limits.charges import Cost, Dates, Payer
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch.record import Row, write
from outrider.engine.inbound import writing
from outrider.engine.inbound.reports import apply_due
from outrider.engine.inbound.writing import Text
from tests.kit.dispatch import BOUND_S, Desk, Post, until

ROUNDS = 2
ANN = Actor("user", "ann@example.org")
_WAITING = (
    "SELECT count(*) FROM pg_locks WHERE NOT granted "
    "AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
)
Side = Callable[[], Awaitable[None]]


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


def pair(number: int) -> tuple[str, str]:
    """Two addresses in the order in which entries are locked."""
    first, second = sorted(
        (f"{name}{number}@example.org" for name in ("a", "b")), key=lambda each: hashlib.sha256(each.encode()).digest()
    )
    return first, second


async def meet(desk: Desk, monkeypatch: pytest.MonkeyPatch, number: int, *sides: Side) -> None:
    """Run two transactions against each other, in odd rounds the second first; raises what either raises.

    The first stops at its first lock of an account or of entries, and only then the other begins; it goes on when that
    has a lock as well, or waits for one.
    """
    sides = sides[::-1] if number % 2 else sides
    has_locked = {each: asyncio.Event() for each in sides}
    mine: dict[asyncio.Task[None], Side] = {}

    def stopping(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def stopped(*arguments: Any, **more: Any) -> Any:
            result = await function(*arguments, **more)
            side = mine[asyncio.current_task()]  # type: ignore[index]  # within a task of this function
            if not has_locked[side].is_set():
                has_locked[side].set()
                await until(met)
            return result

        return stopped

    async def met() -> bool:
        return all(each.is_set() for each in has_locked.values()) or bool(await desk.post.value(_WAITING))

    with monkeypatch.context() as patch:
        patch.setattr(accounts, "lock", stopping(accounts.lock))
        patch.setattr(suppressions, "record_all", stopping(suppressions.record_all))
        for side in sides:
            task = asyncio.ensure_future(_run(side))
            mine[task] = side
            reached = asyncio.ensure_future(has_locked[side].wait())
            async with asyncio.timeout(BOUND_S):
                await asyncio.wait((task, reached, *mine), return_when=asyncio.FIRST_COMPLETED)
            reached.cancel()
        await asyncio.gather(*mine)


async def _run(side: Side) -> None:
    await side()


async def handed_over(desk: Desk, address: str) -> UUID:
    """A message that was sent."""
    (message_id,) = await desk.admit(address=address)
    await desk.post.execute(
        "WITH gone AS (DELETE FROM queue WHERE tenant_id = $1 AND message_id = $2) "
        "UPDATE messages SET state = 'sent', finished_at = now() WHERE tenant_id = $1 AND id = $2",
        desk.tenant_id, message_id,
    )  # fmt: skip
    return message_id


async def charged(desk: Desk, message_id: UUID, token: int) -> None:
    today = datetime.now(UTC).date()
    await desk.post.execute(
        "INSERT INTO charges (tenant_id, message_id, token, micros, segments, day_on, month_on) "
        "VALUES ($1, $2, $3, 50000, 1, $4, $5)",
        desk.tenant_id, message_id, token, today, today.replace(day=1),
    )  # fmt: skip


async def told(desk: Desk, *addresses: str, is_billed: bool = False) -> None:
    """It is reported of messages to these addresses that nobody is there, and what they cost."""
    currency = str(await desk.post.value("SELECT coalesce(settings ->> 'currency', 'EUR') FROM tenants LIMIT 1"))
    came = []
    for address in addresses:
        message_id = await handed_over(desk, address)
        if is_billed:
            await charged(desk, message_id, 1)
        report = Report(
            str(message_id), "p1", "undelivered", "bounced", message_id, cause="bounced_permanently",
            suppress="hard_bounce", price=Decimal("0.01") if is_billed else None, currency=currency,
        )  # fmt: skip
        came.append(Came(desk.connection_id, "glass", report, b"", "genuine", "test"))
    async with desk.engine() as uow:
        await take_in(uow.raw, desk.tenant_id, came)


async def failing(desk: Desk, *cases: tuple[str, str], is_charged: bool = False) -> list[Row]:
    """Messages in hand that their server refuses: address, and the reason to list it; empty: it may pass."""
    ids = [(await desk.admit(address=address))[0] for address, _ in cases]
    claim = await desk.claim(gates=())
    assert claim.batch is not None
    assert set(claim.batch.messages) == set(ids)
    token = claim.batch.token
    for message_id in ids if is_charged else ():
        await charged(desk, message_id, token)
    return [
        Row("finish", each, token, "failed", None, "refused", "no", suppress=reason, is_soft=not reason)
        for each, (_, reason) in zip(ids, cases, strict=True)
    ]


def recording(desk: Desk, rows: list[Row]) -> Side:
    async def record() -> None:
        async with desk.post.engine.transaction() as raw:
            assert len(await write(raw, desk.tenant_id, rows)) == len(rows)

    return record


def applying(desk: Desk, count: int) -> Side:
    async def apply() -> None:
        async with desk.engine() as uow:
            assert await apply_due(uow) == count

    return apply


def answering(desk: Desk, *texts: tuple[str, str]) -> Side:
    """What people write, kept together: who, and the word."""

    async def answer() -> None:
        given = [
            Text(desk.post.channel, desk.connection_id, uuid4(), Inbound(str(uuid4()), "", sender, "x", word))
            for sender, word in texts
        ]
        async with desk.engine() as uow:
            await writing.take_all(uow, given)

    return answer


async def listed(desk: Desk) -> list[str]:
    rows = await desk.post.fetch(
        "SELECT address FROM suppressions WHERE tenant_id = $1 ORDER BY address", desk.tenant_id
    )
    return [row["address"] for row in rows]


async def test_who_records_and_who_applies_reports_take_money_before_addresses(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(ROUNDS):
        address, _ = pair(number)
        await told(desk, address, is_billed=True)
        rows = await failing(desk, (address, "hard_bounce"), is_charged=True)
        await meet(desk, monkeypatch, number, recording(desk, rows), applying(desk, 1))
    assert len(await listed(desk)) == ROUNDS
    spent = "SELECT day_spent_micros FROM budget_accounts WHERE tenant_id = $1 AND scope = 'tenant'"
    assert await desk.post.value(spent, desk.tenant_id) is not None, "both had to do with money"


async def test_who_corrects_a_charge_and_who_settles_it_take_it_before_the_account(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = datetime.now(UTC).date()
    dates = Dates(today, today.replace(day=1))
    currency = str(await desk.post.value("SELECT coalesce(settings ->> 'currency', 'EUR') FROM tenants LIMIT 1"))
    for number in range(ROUNDS):
        (message_id,) = await desk.admit()
        await charged(desk, message_id, 1)

        async def correct(message_id: UUID = message_id) -> None:
            changes = {message_id: (Cost(message_id, 50_000, 1), 2)}
            async with desk.post.engine.transaction() as raw:
                assert await charges.correct(raw, Payer(desk.tenant_id, None, "UTC"), 1, dates, changes) == set()

        async def settle(message_id: UUID = message_id) -> None:
            bills = {message_id: Bill(Decimal("0.07"), currency)}
            async with desk.post.engine.transaction() as raw:
                assert await charges.settle(raw, desk.tenant_id, bills) == {message_id}

        await meet(desk, monkeypatch, number, correct, settle)
    rows = await desk.post.fetch("SELECT micros, is_settled FROM charges WHERE tenant_id = $1", desk.tenant_id)
    assert [tuple(row) for row in rows] == [(70_000, True)] * ROUNDS, "the provider's price is the last word"


async def test_what_is_listed_for_good_and_what_for_a_while_is_locked_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = '{"soft_bounce_limit": 1, "soft_bounce_least_days": 1}'
    await desk.post.execute("UPDATE tenants SET settings = $2::text::jsonb WHERE id = $1", desk.tenant_id, policy)
    for number in range(ROUNDS):
        first, second = pair(number)
        await told(desk, second, first)
        rows = await failing(desk, (second, "hard_bounce"), (first, ""))
        await meet(desk, monkeypatch, number, recording(desk, rows), applying(desk, 2))
    assert len(await listed(desk)) == 2 * ROUNDS


async def test_what_people_answer_is_done_in_the_order_in_which_reports_are(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(ROUNDS):
        first, second = pair(number)
        await told(desk, first, second)
        await meet(desk, monkeypatch, number, answering(desk, (second, "STOP"), (first, "STOP")), applying(desk, 2))
    assert len(await listed(desk)) == 2 * ROUNDS


async def test_who_comes_back_is_in_the_audit_log_after_every_entry(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(ROUNDS):
        first, second = pair(number)
        await answering(desk, (first, "STOP"))()

        async def by_hand(address: str = second) -> None:
            async with desk.engine() as uow:
                channels = {"email": desk.post.channel}
                await suppressions.suppress(uow, channels, ANN, "email", address, source="test")

        came_back = answering(desk, (first, "START"), (second, "STOP"))
        await meet(desk, monkeypatch, number, by_hand, came_back)
    assert len(await listed(desk)) == ROUNDS
    rows = await desk.post.fetch(
        "SELECT action FROM audit_log WHERE tenant_id = $1 AND action = 'recipient.came_back'", desk.tenant_id
    )
    assert len(rows) == ROUNDS


async def test_what_one_person_writes_is_done_in_the_order_in_which_it_came(desk: Desk) -> None:
    first, second = pair(0)
    words = [(second, "STOP"), (first, "STOP"), (second, "START"), (first, "START"), (first, "STOP")]
    await answering(desk, *words)()
    assert await listed(desk) == [first]


async def test_an_uncertain_message_is_settled_by_one_and_nobody_else_waits_for_it(desk: Desk) -> None:
    (message_id,) = await desk.admit()
    await desk.post.execute(
        "WITH gone AS (DELETE FROM queue WHERE tenant_id = $1 AND message_id = $2 RETURNING lane_id), "
        "doubt AS (INSERT INTO uncertain_messages (tenant_id, message_id, lane_id, cause, detail) "
        "SELECT $1, $2, lane_id, 'answer_lost', '' FROM gone) "
        "UPDATE messages SET state = 'uncertain', code = 'answer_lost' WHERE tenant_id = $1 AND id = $2",
        desk.tenant_id, message_id,
    )  # fmt: skip
    report = Report(str(message_id), "p1", "delivered", "delivered", message_id)
    async with desk.engine() as uow:
        await take_in(uow.raw, desk.tenant_id, [Came(desk.connection_id, "glass", report, b"", "genuine", "test")])
    async with desk.engine() as uow:
        assert await apply_due(uow) == 1
        async with asyncio.timeout(BOUND_S), desk.post.engine.transaction() as raw:
            assert await SQL.uncertain_mark.many(raw, desk.tenant_id, [message_id], "failed", "ann", "test") == []
            assert await SQL.uncertain_resend.many(raw, desk.tenant_id, [message_id], "ann", "test") == []
    assert await desk.states([message_id]) == ["delivered"]
