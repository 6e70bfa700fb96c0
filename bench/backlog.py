"""What a backlog of ten million marketing messages does to single transactional ones (F93).

Two installations stand side by side: an empty one, and one in which campaigns, fanned out by the product itself, left
ten million messages waiting. By turns each gets its API and a worker, and single messages are handed in over HTTP at a
steady pace; each one's time is from the call to the record of being sent. In the full one this happens twice: with the
campaigns paused, so that the backlog waits, and with all of them going out at full rate through the same sender.

    .venv/bin/python bench/backlog.py [--backlog 10000000] [--each 500000] [--per-s 20] [--window-s 20] [--rounds 3]
    .venv/bin/python bench/backlog.py --only flowing --before PROGRAM     # by turns with a worker of another release

Wanted: p99 of transactional messages at most twice that of the empty installation, waiting or flowing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg

from bench.kit import client, letter, ours
from bench.kit.figures import machine, parts, percentile, say, table, verdict
from bench.kit.servers import postgres, run, smtp_sink
from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.limits import switches
from outrider.domain.messages import fills
from outrider.domain.tenants import keys

PARTS = ("waiting", "flowing")
MOST_RATIO = 2.0
CONNECTIONS = 8
_WARM_S = 3.0
_BOUND_S = 60
_FANS = 2
"""So many campaigns are fanned out at once."""

_SENT_AT = (
    "SELECT id, extract(epoch FROM finished_at)::float8 AS at FROM messages "
    "WHERE tenant_id = $1 AND id = ANY ($2) AND state = 'sent'"
)
_WAITING = "SELECT count(*) FROM queue WHERE tenant_id = $1"


@dataclass(slots=True)
class Place:
    """One installation, what singles are handed in with, and the campaigns that lie in it."""

    made: ours.Installation
    sender: ours.Sender
    token: str
    fields: dict[str, str]
    mailings: list[ours.Mailing] = field(default_factory=list)


@dataclass(slots=True)
class Waits:
    """Seconds from the call to the answer, and to the record of being sent; messages of campaigns sent meanwhile."""

    answered_s: list[float] = field(default_factory=list)
    sent_s: list[float] = field(default_factory=list)
    beside: int = 0

    def add(self, more: Waits) -> None:
        """Take in another window's."""
        self.answered_s += more.answered_s
        self.sent_s += more.sent_s
        self.beside += more.beside


def main() -> int:
    """Measure, print, and say whether the aims are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backlog", type=int, default=10_000_000)
    parser.add_argument("--each", type=int, default=500_000)
    parser.add_argument("--per-s", type=float, default=20.0)
    parser.add_argument("--window-s", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=parts(*PARTS), default=frozenset(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--before", type=Path, help="the program of another Outrider for the same schema")
    options = parser.parse_args()
    print(f"machine: {machine()}")
    found: dict[str, Waits] = defaultdict(Waits)
    with smtp_sink() as sink, postgres() as first, postgres() as second, ours.installation(first) as made:
        empty = run(_prepare(made, sink, options.backlog))
        with ours.installation(second) as other:  # from here on this process's own work is done in the full one
            full = run(_prepare(other, sink, options.backlog))
            run(_fill(full, options.backlog, options.each))
            second.settle()
            _window(empty, options, ours.PROGRAM)  # warms the machine up; not counted
            for number in range(options.rounds):
                _round(found, empty, full, options)
                told = ", ".join(f"{name} {percentile(each.sent_s, 0.99):.3f}" for name, each in found.items())
                say(f"round {number + 1}: p99 so far, s: {told}")
            left = second.value(_WAITING, DEFAULT_TENANT)
    return _report(found, left, options)


def _round(found: dict[str, Waits], empty: Place, full: Place, options: argparse.Namespace) -> None:
    for suffix, program in _programs(options).items():
        run(_switch(full, is_paused=True))
        found[f"empty{suffix}"].add(_window(empty, options, program))
        if "waiting" in options.only:
            found[f"waiting{suffix}"].add(_window(full, options, program))
        if "flowing" in options.only:
            run(_switch(full, is_paused=False))
            found[f"flowing{suffix}"].add(_window(full, options, program))


def _programs(options: argparse.Namespace) -> dict[str, Path]:
    """Whose worker it is, by what is added to the names of its figures."""
    return {"": ours.PROGRAM} | ({", before": options.before} if options.before else {})


async def _prepare(installed: ours.Installation, sink: int, backlog: int) -> Place:
    """A sender, a key for the API, the fields that every body shares, and quotas in which the backlog has its place."""
    quotas = fills.Change(most=4 * backlog, tenant_most=2 * backlog)
    async with ours.runtime() as made:
        sender = await ours.make_sender(made, installed.database, sink, connections=CONNECTIONS)
        name = await ours.name_template(installed.database, sender)
        async with made.db.uow(Role.APP, DEFAULT_TENANT) as uow:
            _, token = await keys.create(uow, ours.BENCH, name="backlog", role="operator", scopes=["messages:write"])
        async with made.db.uow(Role.ENGINE) as uow:
            await fills.set_for_all(uow, ours.BENCH, quotas, reason="benchmark")
    return Place(installed, sender, token, {"sender": str(sender.id), "template": name})


async def _fill(full: Place, backlog: int, each: int) -> None:
    """Campaigns to everybody of one audience, fanned out by the product, until so many messages wait."""
    database = full.made.database
    audience = await ours.make_audience(database, each)
    numbers = iter(range(backlog // each))
    async with ours.runtime() as made:

        async def fan_out() -> None:
            for _ in numbers:
                full.mailings.append(await ours.fan_campaign_out(made, database, full.sender, audience))
                await ours.analyze(database)
                say(f"backlog: {sum(mailing.count for mailing in full.mailings):,} of {backlog:,}")

        async with asyncio.TaskGroup() as group:
            for _ in range(_FANS):
                group.create_task(fan_out())


async def _switch(full: Place, *, is_paused: bool) -> None:
    """Pause every campaign, or let all of them go; no worker is running."""
    change = switches.pause if is_paused else switches.resume
    async with ours.runtime() as made, made.db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
        for mailing in full.mailings:
            await change(uow, ours.BENCH, "campaign", str(mailing.campaign_id), "benchmark")


def _window(place: Place, options: argparse.Namespace, program: Path) -> Waits:
    """Single messages at a steady pace through the API and one worker; those of the first seconds are not counted."""
    with place.made.role("api", api_rate_per_s="100000") as api, place.made.workers(1, program=[program]):
        found = run(_singles(place, api.where, options.per_s, options.window_s))
    if complaints := ours.complaints(place.made):
        raise RuntimeError(complaints)
    return found


async def _singles(place: Place, where: str, per_s: float, window_s: float) -> Waits:
    warm, count = int(per_s * _WARM_S), int(per_s * (_WARM_S + window_s))
    numbers = iter(range(count))
    called: dict[UUID, tuple[float, float]] = {}
    raw = await asyncpg.connect(place.made.database.superuser_url)

    async def one(began_s: float) -> None:
        connection = client.Connection(where)
        try:
            for number in numbers:
                at_s = began_s + number / per_s
                await asyncio.sleep(max(0.0, at_s - time.time()))
                status, body = await connection.call(_request(place, number))
                if status != 202:
                    raise RuntimeError(f"{status}: {body[:300]!r}")
                if number >= warm:
                    called[UUID(json.loads(body)["id"])] = (at_s, time.time())
        finally:
            connection.close()

    try:
        before = await raw.fetchval(_WAITING, DEFAULT_TENANT)
        began_s = time.time()
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(one(began_s))
        sent = await _sent(raw, list(called))
        beside = before - await raw.fetchval(_WAITING, DEFAULT_TENANT)
    finally:
        await raw.close()
    return Waits(
        [answered_s - at_s for at_s, answered_s in called.values()],
        [sent[message_id] - at_s for message_id, (at_s, _) in called.items()],
        beside,
    )


async def _sent(raw: asyncpg.Connection, ids: list[UUID]) -> dict[UUID, float]:
    """When each was recorded as sent, by the same machine's clock; waited for at most a minute."""
    async with asyncio.timeout(_BOUND_S):
        while True:
            rows = await raw.fetch(_SENT_AT, DEFAULT_TENANT, ids)
            if len(rows) == len(ids):
                return {row["id"]: row["at"] for row in rows}
            await asyncio.sleep(0.2)


def _request(place: Place, number: int) -> bytes:
    variables = letter.variables(number)
    body = json.dumps(place.fields | {"to": letter.address(number), "variables": variables}).encode()
    headers = {"Authorization": f"Bearer {place.token}", "Idempotency-Key": str(uuid4())}
    return client.request("/api/v1/messages", body, headers)


def _report(found: dict[str, Waits], left: int, options: argparse.Namespace) -> int:
    rows = [["transactional messages", "count", "answered p50, p99 ms", "sent p50 ms", "sent p99 ms", "p99 to empty"]]
    ratios = {}
    for name, each in found.items():
        empty = found["empty" + name.removeprefix(name.partition(",")[0])]
        ratios[name] = percentile(each.sent_s, 0.99) / percentile(empty.sent_s, 0.99)
        answered = [f"{1000 * percentile(each.answered_s, share):.0f}" for share in (0.5, 0.99)]
        sent = [f"{1000 * percentile(each.sent_s, share):.0f}" for share in (0.5, 0.99)]
        rows.append([name, f"{len(each.sent_s):,}", ", ".join(answered), *sent, f"{ratios[name]:.2f} x"])
    table(rows)
    beside = sum(each.beside for name, each in found.items() if name.startswith("flowing"))
    print(f"sent beside them: {beside:,}; still waiting: {left:,} of {options.backlog:,}")
    is_met = [
        verdict(f"{name}: p99 to empty", ratios[name], MOST_RATIO, at_most=True) for name in PARTS if name in found
    ]
    return 0 if all(is_met) and left else 1


if __name__ == "__main__":
    sys.exit(main())
