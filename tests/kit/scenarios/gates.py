"""Drills about gates: whatever is killed, no gate is violated, no budget exceeded, nothing permitted left behind.

Tenants, contacts, zones, prices, budgets and caps are a seeded die's; what holds is counted anew from the rows.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from outrider.contracts.gate import MessageClass
from outrider.data.db import Role
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from tests.kit.drill import Drill, Sender
from tests.kit.processes import until

_CENT = 10_000
_QUIET, _AWAKE = "UTC", "Asia/Kolkata"
"""Quiet hours lie around now by the clock of the first zone, which is five and a half hours behind the second."""
_CLASSES: tuple[MessageClass, ...] = ("transactional", "bulk")


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


async def random_tenants(drill: Drill, *, tenants: int, rounds: int, seed: int) -> list[str]:
    """Four workers on random tenants; two of them are killed in each round, at random moments."""
    dice = random.Random(seed)  # noqa: S311 - repeatable by the seed
    drill.faults({"action": "slow", "stage": "dot", "delay_ms": 3})
    cases = [await _tenant(drill, dice, n) for n in range(tenants)]
    workers = list(await asyncio.gather(*(drill.worker() for _ in range(4))))
    for _ in range(rounds):
        await asyncio.gather(*(_admit(drill, dice, case) for case in cases))
        await asyncio.sleep(dice.uniform(0.05, 0.4))  # the moment of the kill
        for at in dice.sample(range(len(workers)), 2):
            workers[at].kill()
            workers[at] = await drill.worker()
    drill.faults()
    await until(lambda: _is_settled(drill), what="everything that may go has gone", bound_s=60)
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
    case = Case(tenant_id, senders, price, limit * _CENT, cap, set(), defaultdict(int))
    for person in range(dice.randint(20, 60)):
        zone = dice.choice((_QUIET, _AWAKE, _AWAKE, None))
        address = f"t{n}p{person}@example.com"
        await drill.execute(
            "WITH c AS (INSERT INTO contacts (tenant_id, timezone) VALUES ($1, $2) RETURNING id) "
            "INSERT INTO addresses (tenant_id, channel, address, contact_id) SELECT $1, 'email', $3, id FROM c",
            tenant_id, zone, address,
        )  # fmt: skip
        case.wanted[address] = 0
        if zone == _QUIET:
            case.quiet.add(address)
    return case


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


async def _is_settled(drill: Drill) -> bool:
    """Nothing is ready or in hand; what a cap held for a moment only is asked about now."""
    await drill.execute(
        "UPDATE queue SET due_at = now() WHERE state = 5 AND due_at < now() + interval '2 minutes' AND due_at > now()"
    )
    moving: int = await drill.value(
        "SELECT (SELECT count(*) FROM queue"
        " WHERE state IN (0, 1, 4) OR (state = 5 AND due_at < now() + interval '2 minutes'))"
        " + (SELECT count(*) FROM budget_accounts WHERE is_freed)"
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
        elif row["state"] != "held":
            found.append(f"{row['id']} is {row['state']}")
    found += [f"{address} was written to in quiet hours" for address in case.quiet if went[address]]
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
    if case.limit - spent >= case.price:
        behind = {
            address: wanted - went[address]
            for address, wanted in case.wanted.items()
            if address not in case.quiet and went[address] < min(wanted, case.cap)
        }
        found += [
            f"{count} for {address} left behind with {case.limit - spent} left" for address, count in behind.items()
        ]
    return found
