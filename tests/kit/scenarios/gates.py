"""Drills about gates: whatever is killed, no gate is violated, no budget exceeded, nothing permitted left behind.

Tenants, people with email and telephones in several countries, zones, consent, prices, budgets of tenants and of
campaigns, caps, rates of accounts, domains and countries, warm-ups, who asks for texts how often, and who says stop
meanwhile are a seeded die's;
what holds is worked out anew (tests/kit/verdicts.py) from the ledgers of the servers and from what was charged.
"""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from outrider.contracts.gate import MessageClass
from outrider.data.db import Role
from outrider.domain.contacts import consent
from outrider.domain.contacts.consent import ConsentStatement
from outrider.domain.limits import buckets, budgets, destinations, plans, warm_ups
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from outrider.domain.templates import contents
from outrider.plugins.channels.email import CHANNEL as EMAIL
from outrider.plugins.channels.sms import CHANNEL as SMS
from tests.kit import ledgers
from tests.kit.drill import OPERATOR, Drill, boot_ns
from tests.kit.gated import (
    AWAKE,
    CAPPED,
    CENT,
    NUMBERS,
    SLOW_COUNTRY,
    SLOW_DOMAIN,
    SOURCES,
    Budget,
    Campaign,
    Case,
    Person,
    Rate,
    Want,
    Words,
)
from tests.kit.phones import Phones
from tests.kit.processes import until
from tests.kit.rendering import InProcessRenderer
from tests.kit.verdicts import judged

_QUIET = "UTC"
"""Quiet hours lie around now by the clock of this zone, which is five and a half hours behind the tenants' own."""
_KINDS: tuple[tuple[MessageClass, str], ...] = (
    ("transactional", "transactional"), ("transactional", "news"), ("bulk", "marketing"), ("bulk", "news"),
)  # fmt: skip
_BULK = ("marketing", "news")
_CONNECTIONS = 4
_SHARED = 0.5
"""How often two senders share an account."""
_STOPS = ("STOP", " stop.", "Unsubscribe", "ARRET")
_TEMPLATE = "{{ words }}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least and the most that the die may say.

    cents    that a tenant may spend; the preset is too little for most
    asked    texts to a country that one source may ask for; None: half of the tenants limit sources, half ranges
    """

    cents: tuple[int, int] = (10, 100)
    asked: tuple[int, int] | None = None


PRESET = Bounds()


async def random_tenants(drill: Drill, *, tenants: int, rounds: int, seed: int, bounds: Bounds = PRESET) -> list[str]:
    """Four workers on random tenants; two of them are killed in each round, at random moments."""
    dice = random.Random(seed)  # noqa: S311 - repeatable by the seed
    drill.faults({"action": "slow", "stage": "dot", "delay_ms": 3})
    api = await drill.start("api").ready()
    async with AsyncExitStack() as stack:
        cases = [await _tenant(drill, stack, dice, api.where, n, bounds) for n in range(tenants)]
        workers = list(await asyncio.gather(*(drill.worker() for _ in range(4))))
        for at in range(rounds):
            await asyncio.gather(*(_admit(drill, dice, case, at) for case in cases))
            if at % 2 == 0:
                await asyncio.gather(*(_launch(drill, dice, case) for case in cases))
            await asyncio.gather(*(_stop(drill, dice, case, api.where) for case in cases))
            for victim in dice.sample(range(len(workers)), 2):
                await asyncio.sleep(dice.uniform(0.05, 0.4))  # the moment of the kill
                workers[victim].kill()
                workers[victim] = drill.start_worker()
            await asyncio.gather(*(worker.ready() for worker in workers))
        drill.faults()
        settled_at = datetime.now(UTC)

        async def is_settled() -> bool:
            nonlocal settled_at
            settled_at = datetime.now(UTC)
            return await _is_settled(drill)

        await until(is_settled, what="everything that may go has gone", bound_s=300)
        found = [each for case in cases for each in await judged(drill, case, settled_at)]
        evidence = await drill.evidence()
        evidence.acceptances += [each for case in cases for each in case.phones.acceptances()]
        lines = 2 * rounds * tenants * 3 * _CONNECTIONS  # of the two that are killed in each round, at their most
        return found + ledgers.violations(evidence, uncertain=lines)


# what the die makes


async def _tenant(drill: Drill, stack: AsyncExitStack, dice: random.Random, base: str, n: int, bounds: Bounds) -> Case:
    tenant_id = await drill.tenant(f"gated {n}")
    now = datetime.now(UTC)
    countries = None if dice.random() < _SHARED else frozenset(NUMBERS.keys() - {"GB"})
    prices = {("email", ""): dice.randint(5_000, 35_000)}
    prices |= {("sms", country): dice.randint(5_000, 25_000) for country in ("US", SLOW_COUNTRY, "GB")}
    prices |= {("sms", ""): dice.randint(5_000, 25_000)} if dice.random() < _SHARED else {}
    highest = None if dice.random() < _SHARED else 2 * max(prices.values())
    cap, budget = dice.randint(1, 4), _budget(dice, *bounds.cents)
    source_most, range_most = _asked(dice, bounds)
    settings = {
        "quiet_hours": f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=2):%H:%M}",
        "quiet_channels": "email,sms", "quiet_transactional": True, "frequency_cap": cap,
        "frequency_purposes": ",".join(sorted(CAPPED)), "consent_required": True,
        "sms_countries": None if countries is None else ",".join(sorted(countries)), "highest_price_micros": highest,
        "sms_source_most": source_most, "sms_range_most": range_most,
    }  # fmt: skip
    await drill.execute(
        "UPDATE tenants SET settings = $2::text::jsonb, timezone = $3, daily_budget_cents = $4,"
        " monthly_budget_cents = $5 WHERE id = $1",
        tenant_id, json.dumps({name: value for name, value in settings.items() if value is not None}), AWAKE,
        *_cents(budget),
    )  # fmt: skip
    for (channel, country), micros in prices.items():
        await drill.execute(
            "INSERT INTO prices (tenant_id, channel, country, micros, created_by, valid_from)"
            " VALUES ($1, $2, $3, $4, 'drill', $5)",
            tenant_id, channel, country, micros, now - timedelta(hours=1),
        )  # fmt: skip
    senders = [await drill.sender("at_most_once", tenant_id=tenant_id) for _ in range(2)]
    phones = await stack.enter_async_context(Phones.open(drill, base, tenant_id=tenant_id, connections=_CONNECTIONS))
    phones.rules(delay_s=0.02)
    says = {sender.id: [Words(sender.content_id)] for sender in senders}
    says[phones.sender.id] = await _texts(drill, phones)
    case = Case(
        tenant_id, senders, phones, budget, cap, prices, highest, countries, source_most, range_most,
        domain=Rate(dice.uniform(1, 3), dice.randint(1, 3)), account=Rate(dice.uniform(2, 4), dice.randint(1, 5)),
        country=Rate(dice.uniform(1, 3), dice.randint(1, 3)), warm_up=(dice.randint(3, 20), 1_000),
        reserve_percent=dice.choice((0, 20)), day_on=now.date(), begun_ns=0, says=says,
    )  # fmt: skip
    await _pace(drill, dice, case)
    case.people = [await _person(drill, dice, tenant_id, n, each) for each in range(dice.randint(20, 50))]
    return case


async def _texts(drill: Drill, phones: Phones) -> list[Words]:
    """Texts of one part and of several, in the GSM alphabet and not; some by a template that is shorter than they."""
    said: list[tuple[str, str | None]] = [("a" * 40, None), ("b" * 200, None), ("\u015f" * 90, None)]
    said += [(_TEMPLATE, letter * length) for letter, length in (("c", 20), ("d", 170), ("e", 320))]
    found = []
    async with drill.db.uow(Role.APP, phones.sender.tenant_id) as uow:
        for text, words in said:
            content_id = await contents.save(
                uow, SMS, InProcessRenderer(), subject="", html=None, text=text, is_template=words is not None
            )
            variables = None if words is None else json.dumps({"words": words})
            found.append(Words(content_id, words or text, variables))
    return found


async def _person(drill: Drill, dice: random.Random, tenant_id: UUID, n: int, at: int) -> Person:
    """Somebody who can be written to in one or two ways, somewhere, and has agreed to some of it."""
    zone = dice.choice((_QUIET, AWAKE, AWAKE, None))
    country = dice.choice(sorted(NUMBERS))
    reached = dice.choice((("email",), ("sms",), ("email", "sms")))
    places = {
        "email": f"t{n}p{at}@{dice.choice((SLOW_DOMAIN, 'example.com'))}",
        "sms": NUMBERS[country].format(2000 + 100 * n + at),
    }
    places = {channel: places[channel] for channel in reached}
    contact_id = await drill.value("INSERT INTO contacts (tenant_id, timezone) VALUES ($1, $2) RETURNING id",
                                   tenant_id, zone)  # fmt: skip
    said: dict[str, set[tuple[str, str]]] = {"granted": set(), "withdrawn": set(), "nothing": set()}
    for channel, address in places.items():
        await drill.execute(
            "INSERT INTO addresses (tenant_id, channel, address, contact_id) VALUES ($1, $2, $3, $4)",
            tenant_id, channel, address, contact_id,
        )  # fmt: skip
        for purpose in _BULK:
            status = dice.choice(("granted", "granted", "granted", "granted", "withdrawn", "nothing"))
            said[status].add((channel, purpose))
            if status != "nothing":
                await drill.execute(
                    "INSERT INTO consents (tenant_id, contact_id, channel, purpose, status, source)"
                    " VALUES ($1, $2, $3, $4, $5, 'drill')",
                    tenant_id, contact_id, channel, purpose, status,
                )  # fmt: skip
    return Person(contact_id, zone == _QUIET, places, country, frozenset(said["granted"]), frozenset(said["withdrawn"]))


async def _pace(drill: Drill, dice: random.Random, case: Case) -> None:
    """Limit a domain, a country and the account of both senders (or of the first), and warm the second one up."""
    case.begun_ns = boot_ns()
    first, second = case.senders
    async with drill.db.uow(Role.ENGINE, case.tenant_id) as uow:
        account = await uow.raw.fetchval("SELECT connection_id FROM senders WHERE id = $1", first.id)
        if dice.random() < _SHARED:
            await uow.raw.execute("UPDATE senders SET connection_id = $2 WHERE id = $1", second.id, account)
        for channel, where, rate in (("email", SLOW_DOMAIN, case.domain), ("sms", SLOW_COUNTRY, case.country)):
            await destinations.set_rate(uow, OPERATOR, channel, where, rate.per_s, float(rate.burst))
        await buckets.set_rate(uow, OPERATOR, "connection", account, case.account.per_s, float(case.account.burst))
        plan = await warm_ups.begin(
            uow, OPERATOR, second.id, plans.OWN, steps=[plans.Step(count) for count in case.warm_up],
            options=warm_ups.Options(reserve_percent=case.reserve_percent),
        )  # fmt: skip
    case.day_on = plan.day_on


# what happens meanwhile


async def _admit(drill: Drill, dice: random.Random, case: Case, turn: int) -> None:
    """Some messages to some people, by every sender; somebody asks for each."""
    for sender_id, said in case.says.items():
        channel = "sms" if sender_id == case.phones.sender.id else "email"
        message_class, purpose = dice.choice(_KINDS)
        reached = [person for person in case.people if channel in person.places]
        wants = [
            Want(dice.choice(reached), channel, sender_id, message_class, purpose, dice.choice(said),
                 source=dice.choice(SOURCES), turn=turn)
            for _ in range(dice.randint(3, 15))
        ]  # fmt: skip
        new = [
            NewMessage(each.address, each.words.content_id, each.words.variables, each.person.contact_id,
                       source=each.source)
            for each in wants
        ]  # fmt: skip
        key = LaneKey(channel, sender_id, message_class, purpose, 5)
        async with drill.db.uow(Role.ENGINE, case.tenant_id) as uow:
            ids = await admit(uow, case.tenant_id, key, new)
        drill.client.add(ids)
        case.wants |= dict(zip(ids, wants, strict=True))


async def _launch(drill: Drill, dice: random.Random, case: Case) -> None:
    """A campaign with a budget of its own, to some who agreed to it and to some who did not."""
    channel, purpose = dice.choice(("email", "sms")), dice.choice(_BULK)
    sender_id = case.phones.sender.id if channel == "sms" else dice.choice(case.senders).id
    words = dice.choice([each for each in case.says[sender_id] if each.variables is None])
    reached = [person for person in case.people if channel in person.places]
    members = tuple(dice.sample(reached, dice.randint(1, len(reached))))
    budget = _budget(dice, 2, 20)
    async with drill.db.uow(Role.ENGINE, case.tenant_id) as uow:
        campaign_id = await uow.raw.fetchval(
            _CAMPAIGN, case.tenant_id, f"campaign {len(case.campaigns)}", [each.contact_id for each in members],
            channel, sender_id, words.content_id, purpose,
        )  # fmt: skip
        daily, monthly = _cents(budget)
        await budgets.set_budget(
            uow, OPERATOR, "campaign", campaign_id, daily_cents=daily, monthly_cents=monthly, reason="drill"
        )
    case.campaigns.append(Campaign(campaign_id, channel, sender_id, purpose, words, budget, members))


async def _stop(drill: Drill, dice: random.Random, case: Case, where: str) -> None:
    """Some people say stop or take their consent back, whatever waits for them or is on its way."""
    places = sorted(place for person in case.people for place in person.places.items())
    left = [(channel, address) for channel, address in places if address not in case.stopped]
    for channel, address in dice.sample(left, min(len(left), dice.randint(0, 2))):
        if channel == "sms":
            await case.phones.write(where, address, dice.choice(_STOPS))
        else:
            await drill.suppress(address, case.tenant_id)
        case.stopped[address] = boot_ns()
    agreed = sorted((str(each.contact_id), *key) for each in case.people for key in each.granted)
    for contact_id, channel, purpose in dice.sample(agreed, min(len(agreed), dice.randint(0, 2))):
        said = ConsentStatement(channel, purpose, "withdrawn", "drill")
        async with drill.db.uow(Role.APP, case.tenant_id) as uow:
            await consent.set_consent(uow, {"email": EMAIL, "sms": SMS}, OPERATOR, UUID(contact_id), said)
        case.withdrawn.setdefault((UUID(contact_id), channel, purpose), boot_ns())


async def _is_settled(drill: Drill) -> bool:
    """Nothing is ready or in hand; what a cap held for a moment only is asked about now."""
    await drill.execute(
        "UPDATE queue SET due_at = now() WHERE state = 5 AND due_at < now() + interval '2 minutes' AND due_at > now()"
        " AND starts_with(reason, 'frequency_cap: ')"
    )
    moving: int = await drill.value(
        "SELECT (SELECT count(*) FROM queue"
        " WHERE state IN (0, 1, 4) OR (state = 5 AND due_at < now() + interval '2 minutes'))"
        " + (SELECT count(*) FROM campaigns WHERE state = 'sending' AND expanded_at IS NULL)"
        " + (SELECT count(*) FROM budget_accounts WHERE is_freed)"
        " + (SELECT count(*) FROM contact_sends WHERE at = '-infinity')"
        " + (SELECT count(*) FROM warm_ups w JOIN lanes l ON l.tenant_id = w.tenant_id AND l.sender_id = w.sender_id"
        "    JOIN queue q ON q.tenant_id = l.tenant_id AND q.lane_id = l.id"
        "    WHERE q.state = 5 AND starts_with(q.reason, 'warm_up: ')"
        "    AND w.day_sent < (w.steps -> (w.step - 1) ->> 'per_day')::int * (100 - CASE l.message_class WHEN 'bulk'"
        "        THEN w.reserve_percent ELSE 0 END) / 100)"
    )
    return moving == 0


def _asked(dice: random.Random, bounds: Bounds) -> tuple[int | None, int | None]:
    """How many texts a source may ask for to a country, and how many may go to a range of numbers; None: no limit."""
    if bounds.asked is not None:
        return dice.randint(*bounds.asked), None
    of_source, of_range = dice.randint(2, 8), dice.randint(8, 20)
    return (of_source, None) if dice.random() < _SHARED else (None, of_range)


def _budget(dice: random.Random, least: int, most: int) -> Budget:
    """By day, by month or both, in whole cents."""
    daily, monthly = dice.choice(((True, False), (False, True), (True, True)))
    return Budget(
        CENT * dice.randint(least, most) if daily else None, CENT * dice.randint(least, most) if monthly else None
    )


def _cents(budget: Budget) -> tuple[int | None, int | None]:
    daily, monthly = budget.daily, budget.monthly
    return None if daily is None else daily // CENT, None if monthly is None else monthly // CENT


_CAMPAIGN = """
WITH list AS (
  INSERT INTO lists (tenant_id, name) VALUES ($1, $2) RETURNING id
), members AS (
  INSERT INTO list_members (tenant_id, list_id, contact_id) SELECT $1, list.id, m FROM list, unnest($3::uuid[]) m
)
INSERT INTO campaigns
  (tenant_id, name, channel, sender_id, content_id, list_id, purpose, state, launched_at, created_by)
SELECT $1, $2, $4, $5, $6, list.id, $7, 'sending', now(), 'drill' FROM list RETURNING id
"""
