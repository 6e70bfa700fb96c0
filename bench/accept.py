"""How fast messages are accepted, durably, over HTTP: in batches and one at a time.

Ours: `outrider api` processes; a 202 means ledger row, queue row and idempotency key are committed with
synchronous_commit=on. Beside it in the same run a plain Node server that puts the same bodies into BullMQ, whose Redis
writes its file before it answers (appendfsync always), and once more as it is usually run (everysec: a crash loses up
to a second of accepted messages).

    .venv/bin/python bench/accept.py [--messages 100000] [--batch 1000] [--singles 2000] [--processes 2] [--runs 3]
    .venv/bin/python bench/accept.py --only singles --connections 1,16     # one at a time alone, by so many callers

Aim: 40,000 messages a second in batches.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from uuid import uuid4

from bench.kit import client, letter, ours
from bench.kit.bullmq import QUEUE
from bench.kit.figures import machine, median, numbers, parts, percentile, runs, say, table, verdict
from bench.kit.servers import answer, install_peer, node, postgres, redis, run, smtp_sink
from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.tenants import keys

SINGLE_CONNECTIONS = (1, 16)
PARTS = ("batches", "singles")


def main() -> int:
    """Measure, print, and say whether the aim is met."""
    options = _options()
    install_peer()
    print(f"machine: {machine()}")
    rates: dict[str, list[float]] = {}
    singles: dict[str, dict[int, client.Load]] = {}
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        sink = stack.enter_context(smtp_sink())
        installed = stack.enter_context(ours.installation(database))
        token, fields = run(_prepare(installed, sink))
        urls = [
            stack.enter_context(installed.role("api", api_rate_per_s="100000")).where for _ in range(options.processes)
        ]
        sides = {"outrider": (urls, "/api/v1/messages", {"Authorization": f"Bearer {token}"}, fields)}
        for fsync in ("always", "everysec"):
            port = stack.enter_context(redis(fsync=fsync))
            doors = [
                stack.enter_context(node("api.mjs", {"redis_port": port, "queue": QUEUE}))
                for _ in range(options.processes)
            ]
            sides[f"BullMQ, fsync {fsync}"] = ([f"http://127.0.0.1:{answer(d)['port']}" for d in doors], "/", {}, {})
        for number in range(options.runs if "batches" in options.only else 0):
            for name, (where, path, headers, shared) in sides.items():
                bodies = _batches(options.messages, options.batch, path, headers, shared)
                done = run(client.load(where, bodies, connections=4 * options.processes))
                rates.setdefault(name, []).append(options.messages / done.took_s)
                say(f"run {number + 1}: {name} {rates[name][-1]:,.0f}/s")
                database.settle()
        for name, (where, path, headers, shared) in sides.items() if "singles" in options.only else ():
            singles[name] = {
                count: run(client.load(where, _singles(options.singles, path, headers, shared), connections=count))
                for count in options.connections
            }
        stored = database.value("SELECT count(*) FROM queue")
        expected = len(rates.get("outrider", ())) * options.messages
        expected += len(singles.get("outrider", ())) * options.singles
        if stored != expected:
            raise RuntimeError(f"{stored} messages are in the queue, {expected} were accepted")
    return _report(options, rates, singles)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--singles", type=int, default=2000)
    parser.add_argument("--connections", type=numbers, default=SINGLE_CONNECTIONS, help="of singles, with commas")
    parser.add_argument("--only", type=parts(*PARTS), default=frozenset(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    return parser.parse_args()


async def _prepare(installed: ours.Installation, sink: int) -> tuple[str, dict[str, str]]:
    """A key for the API, and the fields that every body shares."""
    async with ours.runtime() as made:
        sender = await ours.make_sender(made, installed.database, sink)
        name = await ours.name_template(installed.database, sender)
        async with made.db.uow(Role.APP, DEFAULT_TENANT) as uow:
            _, token = await keys.create(uow, ours.BENCH, name="bench", role="operator", scopes=["messages:write"])
        await ours.pause(made)
    return token, {"sender": str(sender.id), "template": name}


def _batches(messages: int, size: int, path: str, headers: dict[str, str], shared: dict[str, str]) -> Iterator[bytes]:
    """Encoded requests of so many messages each; made before the clock starts."""
    made = []
    for first in range(0, messages, size):
        many = [
            {"to": letter.address(number), "variables": letter.variables(number)}
            for number in range(first, min(first + size, messages))
        ]
        body = json.dumps(shared | {"messages": many}).encode()
        made.append(client.request(path, body, headers | {"Idempotency-Key": str(uuid4())}))
    return iter(made)


def _singles(count: int, path: str, headers: dict[str, str], shared: dict[str, str]) -> Iterator[bytes]:
    """Encoded requests of one message each."""
    return iter(
        [
            client.request(
                path,
                json.dumps(shared | {"to": letter.address(number), "variables": letter.variables(number)}).encode(),
                headers | {"Idempotency-Key": str(uuid4())},
            )
            for number in range(count)
        ]
    )


def _report(
    options: argparse.Namespace, rates: dict[str, list[float]], singles: dict[str, dict[int, client.Load]]
) -> int:
    rows: list[tuple[str, ...]] = [
        ("one message per call", "connections", "calls/s", "p50 ms", "p99 ms", "outrider is")
    ]
    for name, by_count in singles.items():
        for count, done in by_count.items():
            waits = [value * 1000 for value in done.latencies_s]
            percentiles = (f"{percentile(waits, share):.1f}" for share in (0.5, 0.99))
            ratio = done.took_s / singles["outrider"][count].took_s
            rows.append((name, str(count), f"{len(waits) / done.took_s:,.0f}", *percentiles, f"{ratio:.2f} x"))
    if singles:
        table(rows)
    if not rates:
        return 0
    rate = median(rates["outrider"])
    print(f"batches of {options.batch:,}, {options.processes} API processes, {options.runs} runs each, interleaved")
    rows = [("accepted over HTTP in batches", "messages/s: median (all)", "outrider is")]
    rows += [(name, runs(found), f"{rate / median(found):.2f} x") for name, found in rates.items()]
    table(rows)
    verdict("messages a second in batches", rate, 40_000, unit="/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
