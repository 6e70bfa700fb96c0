"""Drills about gates: whatever is killed, no gate is violated, no budget exceeded, nothing permitted left behind.

Tenants, contacts, zones, prices, budgets, caps, rates of accounts and domains, warm-ups and who says stop meanwhile are
a seeded die's; what holds is counted anew from the rows and from the provider's ledger.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from outrider.contracts.gate import MessageClass
from outrider.data.db import Role
from outrider.domain.limits import buckets, destinations, plans, warm_ups
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from tests.kit.drill import OPERATOR, Drill, Sender, boot_ns
from tests.kit.processes import until

_CENT = 10_000
_QUIET, _AWAKE = "UTC", "Asia/Kolkata"
"""Quiet hours lie around now by the clock of the first zone, which is five and a half hours behind the second."""
_CLASSES: tuple[MessageClass, ...] = ("transactional", "bulk")
_SHARED = 0.5
"""How often two senders share an account."""
_STOPPED_WITHIN_S = 5.0
"""However busy the machine is; that it is a second is drilled in test_f85_kill_switch.py [faults.md F84]."""
_SLOW = "slow.example"
"""The domain that has a rate; the other, `example.com`, has none."""


@dataclass(slots=True)
class Case:
    """One tenant as the die made it."""

    tenant_id: UUID
    senders: list[Sender]
    price: int
    limit: int
    cap: int
    quiet: set[str]
    wanted: dict[str, int]
    """Address -> how many messages it would get."""
    domain: Rate
    account: Rate
    warm_up: tuple[int, int]
    """What the second sender may send on the first and the second day of its plan."""
    day_on: date
    begun_ns: int
    stopped: dict[str, int] = field(default_factory=dict)
    """Who has said stop since, and when it was committed, on the clock of the provider's ledger."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `burst` at once and `per_s` on average."""

    per_s: float
    burst: int

    def most(self, took_s: float) -> int:
        """How many may have gone in so long a time."""
        return math.floor(self.burst + self.per_s * took_s)


async def random_tenants(drill: Drill, *, tenants: int, rounds: int, seed: int) -> list[str]:
    """Four workers on random tenants; two of them are killed in each round, at random moments."""
    dice = random.Random(seed)  # noqa: S311 - repeatable by the seed
    drill.faults({"action": "slow", "stage": "dot", "delay_ms": 3})
    cases = [await _tenant(drill, dice, n) for n in range(tenants)]
    workers = list(await asyncio.gather(*(drill.worker() for _ in range(4))))
    for _ in range(rounds):
        await asyncio.gather(*(_admit(drill, dice, case) for case in cases))
        await asyncio.gather(*(_stop(drill, dice, case) for case in cases))
        await asyncio.sleep(dice.uniform(0.05, 0.4))  # the moment of the kill
        for at in dice.sample(range(len(workers)), 2):
            workers[at].kill()
            workers[at] = await drill.worker()
    drill.faults()
    await until(lambda: _is_settled(drill), what="everything that may go has gone", bound_s=120)
    return [each for case in cases for each in await _violations(drill, case)]


async def _tenant(drill: Drill, dice: random.Random, n: int) -> Case:
    tenant_id = await drill.tenant(f"gated {n}")
    now, cap = datetime.now(UTC), dice.randint(1, 3)
    settings = {
        "quiet_hours": f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=2):%H:%M}",
        "quiet_channels": "email",
        "quiet_transactional": True,
        "frequency_cap": cap,
        "frequency_purposes": "transactional",
        "consent_required": False,
    }
    price = dice.randint(5_000, 35_000)
    limit = dice.randint(20, 160)
    await drill.execute(
        "UPDATE tenants SET settings = $2::text::jsonb, timezone = $3, daily_budget_cents = $4 WHERE id = $1",
        tenant_id, json.dumps(settings), _AWAKE, limit,
    )  # fmt: skip
    await drill.execute(
        "INSERT INTO prices (tenant_id, channel, micros, created_by, valid_from) VALUES ($1, 'email', $2, 'drill', $3)",
        tenant_id, price, now - timedelta(hours=1),
    )  # fmt: skip
    senders = [await drill.sender("at_most_once", tenant_id=tenant_id) for _ in range(2)]
    case = await _paced(drill, dice, Case(
        tenant_id, senders, price, limit * _CENT, cap, set(), defaultdict(int),
        Rate(dice.uniform(1, 2), dice.randint(1, 3)), Rate(dice.uniform(2, 4), dice.randint(1, 5)),
        (dice.randint(3, 20), 1_000), now.date(), 0,
    ))  # fmt: skip
    for person in range(dice.randint(20, 60)):
        zone = dice.choice((_QUIET, _AWAKE, _AWAKE, None))
        address = f"t{n}p{person}@{dice.choice((_SLOW, 'example.com'))}"
        await drill.execute(
            "WITH c AS (INSERT INTO contacts (tenant_id, timezone) VALUES ($1, $2) RETURNING id) "
            "INSERT INTO addresses (tenant_id, channel, address, contact_id) SELECT $1, 'email', $3, id FROM c",
            tenant_id, zone, address,
        )  # fmt: skip
        case.wanted[address] = 0
        if zone == _QUIET:
            case.quiet.add(address)
    return case


async def _paced(drill: Drill, dice: random.Random, case: Case) -> Case:
    """Limit a domain and the account of both senders (or of the first), and warm the second one up."""
    begun_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    async with drill.db.uow(Role.ENGINE, case.tenant_id) as uow:
        account = await uow.raw.fetchval("SELECT connection_id FROM senders WHERE id = $1", case.senders[0].id)
        if dice.random() < _SHARED:
            await uow.raw.execute("UPDATE senders SET connection_id = $2 WHERE id = $1", case.senders[1].id, account)
        await destinations.set_rate(uow, OPERATOR, "email", _SLOW, case.domain.per_s, float(case.domain.burst))
        await buckets.set_rate(uow, OPERATOR, "connection", account, case.account.per_s, float(case.account.burst))
        plan = await warm_ups.begin(
            uow, OPERATOR, case.senders[1].id, plans.OWN, steps=[plans.Step(count) for count in case.warm_up],
            options=warm_ups.Options(reserve_percent=dice.choice((0, 20))),
        )  # fmt: skip
    return replace(case, day_on=plan.day_on, begun_ns=begun_ns)


async def _admit(drill: Drill, dice: random.Random, case: Case) -> None:
    """Some messages to some people, by both senders and in both classes."""
    for sender in case.senders:
        chosen = [dice.choice(list(case.wanted)) for _ in range(dice.randint(5, 25))]
        key = LaneKey("email", sender.id, dice.choice(_CLASSES), "transactional", 5)
        new = [NewMessage(address, sender.content_id) for address in chosen]
        async with drill.db.uow(Role.ENGINE, case.tenant_id) as uow:
            drill.client.add(await admit(uow, case.tenant_id, key, new))
        for address in chosen:
            case.wanted[address] += 1


async def _stop(drill: Drill, dice: random.Random, case: Case) -> None:
    """Some people say stop, whatever waits for them or is on its way."""
    for address in dice.sample(sorted(case.wanted.keys() - case.stopped.keys()), dice.randint(0, 2)):
        await drill.suppress(address, case.tenant_id)
        case.stopped[address] = boot_ns()


async def _is_settled(drill: Drill) -> bool:
    """Nothing is ready or in hand; what a cap held for a moment only is asked about now."""
    await drill.execute(
        "UPDATE queue SET due_at = now() WHERE state = 5 AND due_at < now() + interval '2 minutes' AND due_at > now()"
        " AND starts_with(reason, 'frequency_cap: ')"
    )
    moving: int = await drill.value(
        "SELECT (SELECT count(*) FROM queue"
        " WHERE state IN (0, 1, 4) OR (state = 5 AND due_at < now() + interval '2 minutes'))"
        " + (SELECT count(*) FROM budget_accounts WHERE is_freed)"
        " + (SELECT count(*) FROM warm_ups w JOIN lanes l ON l.tenant_id = w.tenant_id AND l.sender_id = w.sender_id"
        "    JOIN queue q ON q.tenant_id = l.tenant_id AND q.lane_id = l.id"
        "    WHERE q.state = 5 AND starts_with(q.reason, 'warm_up: ')"
        "    AND w.day_sent < (w.steps -> (w.step - 1) ->> 'per_day')::int * (100 - CASE l.message_class WHEN 'bulk'"
        "        THEN w.reserve_percent ELSE 0 END) / 100)"
    )
    return moving == 0


async def _violations(drill: Drill, case: Case) -> list[str]:
    """What should not be, counted from the provider's ledger and the rows."""
    found = []
    rows = await drill.rows("SELECT id, address, state FROM message_states WHERE tenant_id = $1", case.tenant_id)
    went: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        if row["state"] in {"sent", "uncertain"}:
            went[row["address"]] += 1
        elif row["state"] != "held" and (row["state"], row["address"] in case.stopped) != ("blocked", True):
            found.append(f"{row['id']} is {row['state']}")
    found += [f"{address} was written to in quiet hours" for address in case.quiet if went[address]]
    found += [
        f"{each.address} was written to {(each.boot_ns - case.stopped[each.address]) / 1e9:.1f} s after a stop"
        for each in drill.acceptances()
        if each.address in case.stopped and each.boot_ns > case.stopped[each.address] + _STOPPED_WITHIN_S * 1e9
    ]
    found += [f"{address} got {count} of {case.cap}" for address, count in went.items() if count > case.cap]
    charged = await drill.value(
        "SELECT coalesce(sum(micros), 0)::bigint FROM charges WHERE tenant_id = $1", case.tenant_id
    )
    spent = await drill.value(
        "SELECT day_spent_micros FROM budget_accounts WHERE tenant_id = $1 AND scope = 'tenant'", case.tenant_id
    )
    if not charged == spent == sum(went.values()) * case.price:
        found.append(f"spent {spent}, charged {charged}, {sum(went.values())} at {case.price} went")
    if spent > case.limit:
        found.append(f"{spent} of {case.limit} spent")
    found += await _out_of_pace(drill, case)
    if case.limit - spent >= case.price:
        warming = await drill.rows(
            "SELECT m.address FROM queue q JOIN messages m ON m.tenant_id = q.tenant_id AND m.id = q.message_id"
            " WHERE q.tenant_id = $1 AND starts_with(q.reason, 'warm_up: ')",
            case.tenant_id,
        )
        later = {row["address"] for row in warming} | case.quiet | case.stopped.keys()
        behind = {
            address: wanted - went[address]
            for address, wanted in case.wanted.items()
            if address not in later and went[address] < min(wanted, case.cap)
        }
        found += [
            f"{count} for {address} left behind with {case.limit - spent} left" for address, count in behind.items()
        ]
    return found


async def _out_of_pace(drill: Drill, case: Case) -> list[str]:
    """Rates and allowances that were exceeded, by the provider's ledger; allowances that were not used up."""
    senders = {
        row["id"]: (row["sender_id"], row["connection_id"])
        for row in await drill.rows(
            "SELECT m.id, l.sender_id, s.connection_id FROM messages m JOIN lanes l ON l.id = m.lane_id"
            " JOIN senders s ON s.id = l.sender_id WHERE m.tenant_id = $1",
            case.tenant_id,
        )
    }
    account = await drill.value("SELECT connection_id FROM senders WHERE id = $1", case.senders[0].id)
    taken = [each for each in drill.acceptances() if each.message_id in senders]
    warm = case.senders[1].id
    plan = (await drill.rows("SELECT day_on, day_sent, step FROM warm_ups WHERE sender_id = $1", warm))[0]
    is_next_day = plan["day_on"] != case.day_on
    found = []
    for what, rate, times in (
        (_SLOW, case.domain, [each.boot_ns for each in taken if each.address.endswith(_SLOW)]),
        ("the account", case.account, [each.boot_ns for each in taken if senders[each.message_id][1] == account]),
    ):
        for count, at_ns in enumerate(sorted(times), 1):  # tokens are taken before: whenever one looks, it must hold
            took_s = (at_ns - case.begun_ns) / 1e9
            if count > rate.most(took_s):
                found.append(f"{what} got {count} in {took_s:.1f} s by {rate}")
                break
    warmed = sum(senders[each.message_id][0] == warm for each in taken)
    if warmed > sum(case.warm_up[: 1 + is_next_day]):
        found.append(f"{warmed} of {case.warm_up} went in the warm-up")
    counted = await drill.value(
        "SELECT count(*) FROM warm_up_sends WHERE sender_id = $1 AND day_on = $2", warm, plan["day_on"]
    )
    doubtful = await drill.value(
        "SELECT count(*) FROM messages m JOIN lanes l ON l.id = m.lane_id WHERE l.sender_id = $1"
        " AND m.state IN ('sent', 'uncertain')",
        warm,
    )
    if not is_next_day and not counted == plan["day_sent"] == doubtful:
        found.append(f"counted {plan['day_sent']}, noted {counted}, went {doubtful} in the warm-up")
    return found
