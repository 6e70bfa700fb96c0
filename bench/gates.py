"""What the gates cost: a mailing with the first five, with all that there are, and with all of them at work.

Whole: two workers send a campaign to a sink, as `send_email.py` does; the ways of gating take turns, each round
beginning with another, on campaigns to the same contacts. All at work: quiet hours by each contact's zone, a frequency
cap that counts and stops nobody, prices, and budgets of tenant and campaign. Then, so that nothing hides what a claim
costs: one process claims batches of 500 and records them as sent, without SMTP.

    .venv/bin/python bench/gates.py [--messages 30000] [--claims 10000] [--runs 3]

Wanted: with all gates at least 0.75 of the rate with the first five, at work or not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg

from bench.kit import ours
from bench.kit.figures import machine, median, runs, say, table, verdict
from bench.kit.five_gates import FIRST_FIVE
from bench.kit.servers import Postgres, postgres, run, smtp_sink
from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.gate import Gate, Lane
from outrider.data.db import Database, Role
from outrider.data.runtime import Runtime
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch.claim import Claimer
from outrider.engine.dispatch.record import Row, write

BATCH = 500
CONNECTIONS = 8
SETTINGS = {
    "quiet_channels": "email", "quiet_hours": "00:00-00:01", "frequency_cap": 1000, "email_price_micros": 100,
}  # fmt: skip
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Sydney", "America/Sao_Paulo")
_ZONED = "UPDATE contacts SET timezone = ($1::text[])[1 + abs(hashtext(id::text)) % 5]"
_SET = "UPDATE tenants SET settings = $2::text::jsonb, daily_budget_cents = $3 WHERE id = $1"


def main() -> int:
    """Measure, print, and say whether what is wanted is met."""
    options = _options()
    print(f"machine: {machine()}")
    with postgres() as database, smtp_sink() as sink, ours.installation(database) as installed:
        whole = _measure_whole(installed, sink, options)
        claims = run(_measure_claims(database, options.claims, options.runs))
    return _report(whole, claims)


def _measure_whole(installed: ours.Installation, sink: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """Messages a second of every way, run by run, with whole workers and a mail server."""
    database = installed.database
    audience = run(ours.make_audience(database, options.messages))
    run(_change(database, _ZONED, list(ZONES)))
    ways: dict[str, tuple[Sequence[str | Path], dict[str, Any], int | None]] = {
        "first five": ((sys.executable, "-m", "bench.kit.five_gates"), {}, None),
        "all, nothing set": ((ours.PROGRAM,), {}, None),
        "all at work": ((ours.PROGRAM,), SETTINGS, 10**12),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.runs + 1):  # the first round warms up
        turn = number % len(ways)
        for name, (program, settings, budget) in (*list(ways.items())[turn:], *list(ways.items())[:turn]):
            run(_change(database, _SET, DEFAULT_TENANT, json.dumps(settings), budget))
            rate = _mail(installed, audience, sink, program)
            if number:
                rates[name].append(rate)
                say(f"run {number}: {name} {rate:,.0f}/s")
    return rates


def _mail(installed: ours.Installation, audience: ours.Audience, sink: int, program: Sequence[str | Path]) -> float:
    """One campaign by two workers; messages a second."""

    async def queue() -> ours.Mailing:
        async with ours.runtime() as made:
            await ours.pause(made)
            sender = await ours.make_sender(made, installed.database, sink, connections=CONNECTIONS)
            return await ours.fan_campaign_out(made, installed.database, sender, audience)

    async def drain() -> float:
        async with ours.runtime() as made:
            return await ours.drain(made, installed.database, [mailing])

    mailing = run(queue())
    installed.database.settle()
    with installed.workers(2, program=program):
        rate = mailing.count / run(drain())
    if complaints := ours.complaints(installed):
        raise RuntimeError(complaints)
    return rate


async def _change(database: Postgres, statement: str, *arguments: Any) -> None:
    raw = await asyncpg.connect(database.superuser_url)
    try:
        await raw.execute(statement, *arguments)
    finally:
        await raw.close()


async def _measure_claims(database: Postgres, messages: int, count: int) -> dict[str, list[float]]:
    """Messages a second of every way, run by run, of claiming and finishing alone."""
    async with ours.runtime() as made:
        await ours.resume(made)
        sender = await ours.make_sender(made, database, 25)
        audience = await ours.make_audience(database, messages)
        engine = Database(made.database_url, pool_size=2, wait_s=10, role=Role.ENGINE, name="bench gates")
        five = [gate for gate in made.gates if gate.key in FIRST_FIVE]
        ways: dict[str, tuple[Sequence[Gate], dict[str, Any], int | None]] = {
            "none": ((), {}, None),
            "first five": (five, {}, None),
            "all, nothing set": (made.gates, {}, None),
            "all at work": (made.gates, SETTINGS, 10**12),
        }
        try:
            await _change(database, _ZONED, list(ZONES))
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for number in range(count + 1):  # the first round warms up
                turn = number % len(ways)
                for name, (gates, settings, budget) in (*list(ways.items())[turn:], *list(ways.items())[:turn]):
                    await _change(database, _SET, DEFAULT_TENANT, json.dumps(settings), budget)
                    mailing = await ours.fan_campaign_out(made, database, sender, audience)
                    await ours.analyze(database)
                    lane = Lane(DEFAULT_TENANT, mailing.lane_id, "email", sender.id, mailing.campaign_id, "bulk")
                    rate = await _drain(engine, made, lane, gates, messages)
                    if number:
                        rates[name].append(rate)
            return rates
        finally:
            await engine.close()


async def _drain(engine: Database, made: Runtime, lane: Lane, gates: Sequence[Gate], messages: int) -> float:
    """Claim and finish everything of a lane; messages a second."""
    claimer = Claimer(engine, gates, lease_s=made.settings.lease_s)
    async with engine.transaction() as raw:
        token = int(await SQL.token_block.value(raw))
    done = 0
    began_s = time.perf_counter()
    while done < messages:
        token += 1
        claim = await claimer.claim(lane, token, limit=BATCH)
        if claim.batch is None:
            raise RuntimeError(f"{messages - done} messages were not claimed: {claim.why}")
        rows = [Row("sent", each, token, "sent") for each in claim.batch.messages]
        async with engine.transaction() as raw:
            done += len(await write(raw, lane.tenant_id, rows))
    return messages / (time.perf_counter() - began_s)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=30_000)
    parser.add_argument("--claims", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    return parser.parse_args()


def _report(whole: dict[str, list[float]], claims: dict[str, list[float]]) -> int:
    for what, rates in (("sent a second", whole), ("claimed and finished a second", claims)):
        base = median(rates["first five"])
        rows: list[tuple[str, ...]] = [("gates", f"{what}: median (all)", "to the first five")]
        rows += [(name, runs(values), f"{median(values) / base:.2f} x") for name, values in rates.items()]
        table(rows)
    base = median(whole["first five"])
    is_met = [
        verdict(f"{name}, to the first five", median(whole[name]) / base, 0.75)
        for name in ("all, nothing set", "all at work")
    ]
    return 0 if all(is_met) else 1


if __name__ == "__main__":
    sys.exit(main())
