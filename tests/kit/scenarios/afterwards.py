"""Drills about what comes after a message has gone: its true price, and its return as a soft bounce.

Workers are killed around the commits on the way. Each drill gives what the checker found: nothing with the
product as it is, something with a seeded defect (`drill.defect`).
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal

from outrider.base.ids import DEFAULT_TENANT
from outrider.interfaces.sandbox.twilio.options import Rule
from tests.kit.drill import Drill
from tests.kit.phones import Phones, Request, people
from tests.kit.processes import until
from tests.kit.scenarios.callbacks import applied

_RESERVED = 20_000
_PRICES = {"0": "0.0150", "1": "0.0335"}
"""What texts cost, by the last digit of the number; others cost `_ELSE`."""
_ELSE = "0.0079"
_COUNT = 60
_LIMIT = 3
_UNREACHABLE = 30003
_COUNTED = "reports.before_commit"


async def settled_under_kills(drill: Drill) -> list[str]:
    """Whoever asks a provider for prices is killed around the commit: each text costs what it cost, once."""
    await _settings(drill, {"consent_required": False, "currency": "USD"})
    await drill.execute("UPDATE tenants SET monthly_budget_cents = 100000 WHERE id = $1", DEFAULT_TENANT)
    await drill.execute(
        "INSERT INTO prices (tenant_id, channel, micros, created_by, valid_from)"
        " VALUES ($1, 'sms', $2, 'drill', now() - interval '1 hour')",
        DEFAULT_TENANT, _RESERVED,
    )  # fmt: skip
    async with Phones.open(drill, "http://127.0.0.1:9") as phones:
        phones.sandbox.rules = [*(Rule(to=f"*{digit}", price=price) for digit, price in _PRICES.items()),
                                Rule(price=_ELSE)]  # fmt: skip
        found = []
        for lot, (point, count) in enumerate((("bills.before_commit", 0), ("bills.committed", 2 * _COUNT)), 1):
            await _send(drill, phones, lot)
            await drill.start_worker(at=f"{point}:1:kill").killed(point)
            settled = await drill.value("SELECT count(*) FROM charges WHERE is_settled")
            found += [] if settled == count else [f"I8: {settled} prices are counted after {point}, not {count}"]
        await _send(drill, phones, 3)
        await asyncio.gather(*(drill.worker() for _ in range(2)))  # both ask at once, as soon as they have begun

        async def are_settled() -> bool:
            return not await drill.value("SELECT EXISTS (SELECT FROM charges WHERE NOT is_settled)")

        with suppress(AssertionError):  # what is not settled is named below
            await until(are_settled, what="every charge is settled", bound_s=15 if drill.defect else 180)
        return [*found, *await _unpaid(drill, phones), *await phones.violations()]


async def _send(drill: Drill, phones: Phones, lot: int) -> None:
    """Some texts go, at the price that is reserved for them; then it is time to ask what they, and others, cost."""
    sending = await drill.worker()
    before = await drill.value("SELECT coalesce(sum(micros), 0)::bigint FROM charges")
    await phones.sent(people(_COUNT, first=1000 * lot))
    reserved = await drill.value("SELECT sum(micros)::bigint FROM charges") - before
    assert reserved == _COUNT * _RESERVED, f"{reserved} were reserved for {_COUNT} texts"
    sending.kill()
    await drill.execute("UPDATE charges SET ask_at = now() WHERE ask_at IS NOT NULL")


async def _unpaid(drill: Drill, phones: Phones) -> list[str]:
    """What is not charged once, at the price of the provider's ledger; an account that says something else."""
    owed = {
        each.message_id: int(Decimal(_PRICES.get(each.address[-1], _ELSE)) * 1_000_000) for each in phones.acceptances()
    }
    rows = await drill.rows("SELECT message_id, micros, is_settled FROM charges")
    times = Counter(row["message_id"] for row in rows)
    found = [f"I8: {count} charges for {each}" for each, count in times.items() if count != 1]
    found += [f"I8: nothing was charged for {each}" for each in owed.keys() - times.keys()]
    found += [
        f"I8: {row['message_id']} costs {owed.get(row['message_id'])}, {row['micros']} is charged,"
        f" {'settled' if row['is_settled'] else 'and never settled'}"
        for row in rows
        if not row["is_settled"] or row["micros"] != owed.get(row["message_id"])
    ]
    account = (await drill.rows("SELECT day_on, day_spent_micros, month_spent_micros FROM budget_accounts"))[0]
    today = sum(row["micros"] for row in await drill.rows("SELECT micros FROM charges WHERE day_on = $1", account[0]))
    if (account["day_spent_micros"], account["month_spent_micros"]) != (today, sum(row["micros"] for row in rows)):
        found.append(f"I8: the account says {tuple(account)}, the charges {today} and {sum(owed.values())}")
    return found[:10]


async def bounced_under_kills(drill: Drill) -> list[str]:
    """Workers that count soft bounces are killed before commits, each is told twice and again: each counts once."""
    await _settings(drill, {"consent_required": False, "soft_bounce_limit": _LIMIT, "soft_bounce_least_days": 1})
    api = await drill.start("api").ready()
    async with Phones.open(drill, api.where) as phones:
        spared, listed = people(2)
        sending = await drill.worker()
        ids = await phones.sent([spared] * (_LIMIT - 1) + [listed] * _LIMIT)
        sending.kill()
        told = [
            await phones.report(each, word, error=_UNREACHABLE) for each in ids for word in ("undelivered", "failed")
        ]
        third = len(told) // 3

        async def tell(part: Sequence[Request]) -> None:
            for request in part:
                status, body = await phones.post(api.where, request)
                assert status == 200, body

        await tell(told[:third])
        await drill.start_worker(at=f"{_COUNTED}:1:kill").killed(_COUNTED)
        victim = await drill.worker(at=f"{_COUNTED}:2:kill")  # what it finds is applied, what comes then kills it
        await applied(drill)
        await tell(told[third:])
        await victim.killed(_COUNTED)
        await asyncio.gather(*(drill.worker() for _ in range(2)))
        await tell(told)  # once more: the provider did not hear our answer
        await applied(drill)
        rows = await drill.rows(
            "SELECT address, count(*) AS n, count(DISTINCT message_id) AS messages FROM soft_bounces GROUP BY 1"
        )
        counted = {row["address"]: (row["n"], row["messages"]) for row in rows}
        wanted = {spared: (_LIMIT - 1, _LIMIT - 1), listed: (_LIMIT, _LIMIT)}
        found = [] if counted == wanted else [f"I9: counted {counted}, not {wanted}"]
        entries = [tuple(row) for row in await drill.rows("SELECT address, reason FROM suppressions")]
        if entries != [(listed, "soft_bounce")]:
            found.append(f"I9: not to be contacted are {entries}")
        times = await drill.rows("SELECT message_id FROM message_events WHERE kind = 'bounced'")
        if Counter(row["message_id"] for row in times) != Counter(ids):
            found.append(f"I9: {len(times)} bounces on the timelines of {len(ids)} messages")
        return found + await phones.violations()


async def _settings(drill: Drill, given: dict[str, object]) -> None:
    await drill.execute(
        "UPDATE tenants SET settings = settings || $2::text::jsonb WHERE id = $1", DEFAULT_TENANT, json.dumps(given)
    )
