"""Whether Outrider stays fast when it is full: the same mailing on an empty and on an old installation.

Old means: 10 million rows in the ledger over 36 monthly partitions, 2 million open messages of which 1.9 million are
paused, held, throttled or scheduled in the sending tenant, and a snapshot held open for the whole run (a report, a
dump). Then: 1,000 tenants with 1,000 messages each, and with 100 each, where what a tenant costs by itself (its claims,
its connection) is shared by few, each beside one tenant's campaign of as many messages: a million fill the log and the
caches of a server as a hundred thousand do not, whosever they are. The tenants share eight servers: a single one goes
through its list of timers for each of a thousand open connections, which doubles its own time. And how long a lone
tenant's single messages wait beside a million of another's.

    .venv/bin/python bench/growth.py [--messages 100000] [--ledger 10000000] [--blocked 1900000] [--tenants 1000]
    .venv/bin/python bench/growth.py --only many-tenants --each 100     # one situation alone, on an empty ledger

Wanted: at least 0.9 of the rate beside it; a lone tenant's message leaves within 2 s (p99).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from bench.kit import ballast, letter, ours
from bench.kit.figures import machine, median, numbers, parts, percentile, runs, say, table, verdict
from bench.kit.servers import Postgres, postgres, run, smtp_sink
from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.messages.admit import LaneKey, NewMessage, admit

CONNECTIONS = 8
PARTS = ("old", "snapshot", "many-tenants", "lone-tenant")
EACH = (1000, 100)
SERVERS = 8
LONE_PAUSE_S = 0.1
FINISHED_AT = (
    "SELECT extract(epoch FROM finished_at)::float8 FROM messages WHERE tenant_id = $1 AND id = $2 AND state = 'sent'"
)


@dataclass(frozen=True, slots=True)
class Figure:
    """Messages a second, run by run, of one situation and of the one that it is held against."""

    name: str
    rates: list[float]
    peer: str
    peer_rates: list[float]

    @property
    def ratio(self) -> float:
        """Median to median."""
        return median(self.rates) / median(self.peer_rates)


def main() -> int:
    """Measure, print, and say whether the aims are met."""
    options = _options()
    print(f"machine: {machine()}")
    figures: list[Figure] = []
    waits: list[float] = []
    with postgres() as database, smtp_sink() as sink, ours.installation(database) as installed:
        audience = run(ours.make_audience(database, options.messages))
        _mailing(installed, audience, sink, options.workers)  # warms the machine up; not counted
        if {"old", "snapshot"} & options.only:
            figures += _old(installed, audience, sink, options)
        if "many-tenants" in options.only:
            figures += [_tenants(installed, sink, each, options) for each in options.each]
        if "lone-tenant" in options.only:
            waits = _lone_tenant(installed, sink, options)
    return _report(figures, waits)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--ledger", type=int, default=10_000_000)
    parser.add_argument("--blocked", type=int, default=1_900_000)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--each", type=numbers, default=EACH, help="messages of each of many tenants, with commas")
    parser.add_argument("--only", type=parts(*PARTS), default=frozenset(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--beside", type=int, default=1_000_000)
    parser.add_argument("--lone", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


def _old(installed: ours.Installation, audience: ours.Audience, sink: int, options: argparse.Namespace) -> list[Figure]:
    """The same mailing on an old installation, without and with a snapshot held open, by turns with an empty one.

    Each has a server of its own: filling takes minutes, in which the speed of a shared machine changes by a fifth.
    """
    figures = []
    run(_grow_old(installed.database, sink, options))
    with postgres() as database, ours.installation(database) as empty:
        theirs = run(ours.make_audience(database, options.messages))
        _mailing(empty, theirs, sink, options.workers)  # warms it up; not counted

        def by_turns(name: str) -> Figure:
            found: tuple[list[float], list[float]] = ([], [])
            for _ in range(options.runs):
                for rates, side, whom in zip(found, (installed, empty), (audience, theirs), strict=True):
                    side.use()
                    rates.append(_mailing(side, whom, sink, options.workers))
            say(f"{name}: {runs(found[0])}; empty: {runs(found[1])}")
            return Figure(name, found[0], "empty", found[1])

        if "old" in options.only:
            figures.append(by_turns("old"))
        if "snapshot" in options.only:
            with _snapshot(installed.database):
                figures.append(by_turns("old, snapshot held"))
    installed.use()
    return figures


def _mailing(installed: ours.Installation, audience: ours.Audience, sink: int, workers: int) -> float:
    """One campaign; messages a second."""

    async def queue() -> ours.Mailing:
        async with ours.runtime() as made:
            await ours.pause(made)
            sender = await ours.make_sender(made, installed.database, sink, connections=CONNECTIONS)
            return await ours.fan_campaign_out(made, installed.database, sender, audience)

    return _drain(installed, [run(queue())], workers)


def _drain(installed: ours.Installation, mailings: list[ours.Mailing], workers: int) -> float:
    async def drain() -> float:
        async with ours.runtime() as made:
            return await ours.drain(made, installed.database, mailings)

    installed.database.settle()
    with installed.workers(workers):
        rate = sum(mailing.count for mailing in mailings) / run(drain())
    if complaints := ours.complaints(installed):
        raise RuntimeError(complaints)
    say(f"{rate:,.0f}/s")
    return rate


async def _grow_old(database: Postgres, sink: int, options: argparse.Namespace) -> None:
    """Ten million finished rows of four tenants, and what waits in the sending tenant for other reasons."""
    async with ours.runtime() as made:
        sender = await ours.make_sender(made, database, sink)
        slow = await ours.make_sender(made, database, sink)
    tenants = [DEFAULT_TENANT, *[await ours.make_tenant(database, f"old {number}") for number in range(3)]]
    await ballast.fill_ledger(database, sender, tenants, rows=options.ledger, partitions=36)
    share = options.blocked // 4
    await ballast.leave_open(database, sender, slow, paused=share, scheduled=share, held=share, throttled=share)


@contextmanager
def _snapshot(database: Postgres) -> Iterator[None]:
    """A transaction that has read something and stays open, in a loop of its own between the runs."""
    loop = asyncio.new_event_loop()
    raw = loop.run_until_complete(asyncpg.connect(database.superuser_url))
    loop.run_until_complete(raw.execute("BEGIN ISOLATION LEVEL REPEATABLE READ"))
    loop.run_until_complete(raw.fetchval("SELECT count(*) FROM lanes"))
    try:
        yield
    finally:
        loop.run_until_complete(raw.close())
        loop.close()


def _tenants(installed: ours.Installation, sink: int, each: int, options: argparse.Namespace) -> Figure:
    """Many tenants with as many messages each, by turns with one tenant's campaign of all of them."""
    audience = run(ours.make_audience(installed.database, options.tenants * each))
    many, one = [], []
    with ExitStack() as stack:
        sinks = [sink, *(stack.enter_context(smtp_sink()) for _ in range(SERVERS - 1))]
        for _ in range(options.runs):
            many.append(_many_tenants(installed, sinks, each, options))
            one.append(_mailing(installed, audience, sink, options.workers))
    found = Figure(
        f"{options.tenants:,} tenants, {each:,} each", many, f"one tenant, {options.tenants * each:,} messages", one
    )
    say(f"{found.name}: {runs(many)}; {found.peer}: {runs(one)}")
    return found


def _many_tenants(installed: ours.Installation, sinks: Sequence[int], each: int, options: argparse.Namespace) -> float:
    """A few messages of each of many tenants; rate over all."""

    async def queue() -> list[ours.Mailing]:
        mailings = []
        async with ours.runtime() as made:
            await ours.pause(made)
            for number in range(options.tenants):
                sink = sinks[number % len(sinks)]
                tenant_id = await ours.make_tenant(installed.database, f"one of many {time.time_ns()}")
                sender = await ours.make_sender(made, installed.database, sink, tenant_id=tenant_id, connections=1)
                mailings.append(await _admitted(made, sender, each))
        return mailings

    return _drain(installed, run(queue()), options.workers)


async def _admitted(made: Runtime, sender: ours.Sender, count: int) -> ours.Mailing:
    """Transactional messages of one sender, accepted in one go."""
    key = LaneKey("email", sender.id, "transactional", "orders", 5)
    messages = [
        NewMessage(letter.address(number), sender.content_id, ours.text_of(letter.variables(number)))
        for number in range(count)
    ]
    async with made.db.uow(Role.ENGINE, sender.tenant_id) as uow:
        await admit(uow, sender.tenant_id, key, messages)
        lane_id = await uow.raw.fetchval(
            "SELECT id FROM lanes WHERE tenant_id = $1 AND sender_id = $2", sender.tenant_id, sender.id
        )
    return ours.Mailing(sender.tenant_id, UUID(int=0), lane_id, count)


def _lone_tenant(installed: ours.Installation, sink: int, options: argparse.Namespace) -> list[float]:
    """Seconds from acceptance to the record of being sent, for single messages beside a backlog of another tenant."""

    async def prepare() -> ours.Sender:
        async with ours.runtime() as made:
            await ours.pause(made)
            backlog = await ours.make_sender(made, installed.database, sink, connections=CONNECTIONS)
            audience = await ours.make_audience(installed.database, options.beside)
            await ours.analyze(installed.database)
            await ours.fan_campaign_out(made, installed.database, backlog, audience)
            tenant_id = await ours.make_tenant(installed.database, f"alone {time.time_ns()}")
            return await ours.make_sender(made, installed.database, sink, tenant_id=tenant_id)

    sender = run(prepare())
    installed.database.settle()
    with installed.workers(options.workers):
        return run(_send_alone(installed.database, sender, options.lone))


async def _send_alone(database: Postgres, sender: ours.Sender, count: int) -> list[float]:
    accepted: list[tuple[UUID, float]] = []
    raw = await asyncpg.connect(database.superuser_url)
    try:
        async with ours.runtime() as made:
            await ours.resume(made)
            await asyncio.sleep(2.0)  # the backlog flows at full rate
            key = LaneKey("email", sender.id, "transactional", "orders", 5)
            for number in range(count):
                message = NewMessage(letter.address(number), sender.content_id, ours.text_of(letter.variables(number)))
                async with made.db.uow(Role.ENGINE, sender.tenant_id) as uow:
                    (message_id,) = await admit(uow, sender.tenant_id, key, [message])
                accepted.append(
                    (message_id, await raw.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))
                )
                await asyncio.sleep(LONE_PAUSE_S)
            left = await raw.fetchval(
                "SELECT count(*) FROM (SELECT FROM queue WHERE tenant_id <> $1 LIMIT 1) t", sender.tenant_id
            )
            if not left:
                raise RuntimeError("the backlog was gone before the lone tenant was done: give --beside more")
        return [await _wait_of(raw, sender.tenant_id, message_id, at_s) for message_id, at_s in accepted]
    finally:
        await raw.close()


async def _wait_of(raw: asyncpg.Connection, tenant_id: UUID, message_id: UUID, accepted_s: float) -> float:
    """Seconds until a message was recorded as sent; waited for at most a minute."""
    async with asyncio.timeout(60):
        while (finished_s := await raw.fetchval(FINISHED_AT, tenant_id, message_id)) is None:  # noqa: ASYNC110 - the worker is another process
            await asyncio.sleep(0.05)
    return float(finished_s) - accepted_s


def _report(figures: list[Figure], waits: list[float]) -> int:
    rows = [("installation", "messages/s: median (all)", "beside", "messages/s: median (all)", "ratio")]
    rows += [(each.name, runs(each.rates), each.peer, runs(each.peer_rates), f"{each.ratio:.2f} x") for each in figures]
    table(rows)
    is_met = [verdict(f"{each.name} to {each.peer}", each.ratio, 0.9) for each in figures]
    if waits:
        p50_s, p99_s = (percentile(waits, share) for share in (0.5, 0.99))
        print(f"a lone tenant's {len(waits)} messages: p50 {p50_s:.2f} s, p99 {p99_s:.2f} s")
        is_met.append(verdict("a lone tenant's message, p99", p99_s, 2, at_most=True, unit="s"))
    return 0 if all(is_met) else 1


if __name__ == "__main__":
    sys.exit(main())
