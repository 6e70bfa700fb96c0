"""What the gates cost: claiming and finishing a campaign with none, with the first five, and with all of them at work.

One process claims batches of 500 and records them as sent, without SMTP, so that nothing hides what a claim costs. The
ways of gating take turns, each run beginning with another, on campaigns to the same contacts. All at work: quiet hours
by each contact's zone, a frequency cap that counts and stops nobody, prices, and budgets of tenant and campaign.

    .venv/bin/python bench/gates.py [--messages 10000] [--runs 5]

Aim: with all gates of a tenant that set none, at least 0.95 of the first five; with all at work at least 0.5 here,
which is beside SMTP (some 20,000 messages a second) at most 25 % of the rate of sending.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from bench.kit import ours
from bench.kit.figures import machine, median, runs, say, table, verdict
from bench.kit.servers import Postgres, postgres, run
from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.gate import Gate, Lane
from outrider.data.db import Database, Role
from outrider.data.runtime import Runtime
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch.claim import Claimer
from outrider.engine.dispatch.record import Row, write

BATCH = 500
FIRST_FIVE = frozenset({"kill_switch", "maintenance", "expiry", "do_not_contact", "consent"})
SETTINGS = {
    "quiet_channels": "email", "quiet_hours": "00:00-00:01", "frequency_cap": 1000, "email_price_micros": 100,
}  # fmt: skip
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Sydney", "America/Sao_Paulo")
_ZONED = "UPDATE contacts SET timezone = ($1::text[])[1 + abs(hashtext(id::text)) % 5]"
_SET = "UPDATE tenants SET settings = $2::text::jsonb, daily_budget_cents = $3 WHERE id = $1"


def main() -> int:
    """Measure, print, and say whether the aims are met."""
    options = _options()
    print(f"machine: {machine()}")
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        stack.enter_context(ours.installation(database))
        rates = run(_measure(database, options.messages, options.runs))
    return _report(rates)


async def _measure(database: Postgres, messages: int, count: int) -> dict[str, list[float]]:
    """Messages a second of every way, run by run."""
    async with ours.runtime() as made:
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
            async with engine.transaction() as raw:
                await raw.execute(_ZONED, list(ZONES))
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for number in range(count + 1):  # the first round warms up
                order = list(ways.items())
                for name, (gates, settings, budget) in (*order[number % 4 :], *order[: number % 4]):
                    async with engine.transaction() as raw:
                        await raw.execute(_SET, DEFAULT_TENANT, json.dumps(settings), budget)
                    mailing = await ours.fan_campaign_out(made, database, sender, audience)
                    await ours.analyze(database)
                    lane = Lane(DEFAULT_TENANT, mailing.lane_id, "email", sender.id, mailing.campaign_id, "bulk")
                    rate = await _drain(engine, made, lane, gates, messages)
                    if number:
                        rates[name].append(rate)
                        say(f"run {number}: {name} {rate:,.0f}/s")
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
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


def _report(rates: dict[str, list[float]]) -> int:
    base = median(rates["first five"])
    rows: list[tuple[str, ...]] = [("gates", "claimed and finished a second: median (all)", "to the first five")]
    rows += [(name, runs(values), f"{median(values) / base:.2f}") for name, values in rates.items()]
    table(rows)
    is_met = verdict("all gates, nothing set, to the first five", median(rates["all, nothing set"]) / base, 0.95)
    is_met &= verdict("all gates at work, to the first five", median(rates["all at work"]) / base, 0.5)
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
