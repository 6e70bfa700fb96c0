"""How many clicks and openings a process answers, each counted in the end, and how fast they are judged.

Ours: one `outrider api` (access log on, as installed) and one `outrider worker` that judges. Beside it in the same run
a server of the same parts (uvicorn, uvloop, asyncpg) and nothing else that stores each click before it answers it, one
statement each, as listmonk does; its pool is swept and its best is used.

    .venv/bin/python bench/tracking.py [--clicks 20000] [--messages 5000] [--connections 32] [--runs 3]

Aim: 1.5 x the peer's clicks, a 99th percentile of at most 50 ms, none lost, judged at 5,000 a second or more.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID

from bench.kit import client, letter, ours
from bench.kit.click_store import SCHEMA
from bench.kit.figures import machine, median, percentile, runs, say, table, verdict
from bench.kit.servers import Postgres, postgres, process, run, smtp_sink
from outrider.base.ids import DEFAULT_TENANT
from outrider.base.signing import TrackingSigner
from outrider.contracts.channel import Link
from outrider.data.db import Role
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from outrider.domain.tracking import destinations

AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
LINKS = 10
POOLS = (5, 10, 20)
_FINISHED = "UPDATE messages SET state = 'sent', finished_at = now() - interval '1 hour'"
_PEER_LINKS = "INSERT INTO peer_links SELECT n, 'https://shop.example/' || n FROM generate_series(1, 10) n"
_JUDGED = "SELECT coalesce(sum(hits), 0)::bigint FROM response_counts WHERE facet = 'hour'"


def main() -> int:
    """Measure, print, and say whether the aims are met."""
    options = _options()
    print(f"machine: {machine()}")
    rates: dict[str, list[float]] = {"clicks": [], "openings": [], "peer": []}
    waits: dict[str, list[float]] = {name: [] for name in rates}
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        sink = stack.enter_context(smtp_sink())
        installed = stack.enter_context(ours.installation(database))
        clicks, opens = run(_prepare(database, sink, options.messages))
        database.execute(
            *SCHEMA.split(";"),
            _PEER_LINKS,
        )
        database.execute(
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO outrider",
            "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO outrider",
        )
        api = stack.enter_context(installed.role("api", log_level="info"))
        pool = _best_pool(database, options)
        say(f"peer's best pool: {pool}")
        with _peer(database, pool) as peer:
            for number in range(options.runs):
                for name, where, paths, expected in (
                    ("clicks", api.where, clicks, 302),
                    ("openings", api.where, opens, 200),
                    (
                        "peer",
                        peer,
                        [f"/c/{1 + at % LINKS}/m{at % options.messages}" for at in range(options.messages)],
                        302,
                    ),
                ):
                    done = run(
                        client.load(
                            [where],
                            _requests(paths, options.clicks),
                            connections=options.connections,
                            expected=expected,
                        )
                    )
                    rates[name].append(options.clicks / done.took_s)
                    waits[name] += [wait_s * 1000 for wait_s in done.latencies_s]
                    say(f"run {number + 1}: {name} {rates[name][-1]:,.0f}/s")
        asked = 2 * options.runs * options.clicks
        waiting = _stored(database, asked)
        began_s = time.perf_counter()
        with installed.workers(1):
            while database.value("SELECT count(*) FROM tracking_hits"):
                time.sleep(0.1)
        took_s = time.perf_counter() - began_s
        counted = database.value(_JUDGED)
    return _report(rates, waits, asked=asked, counted=counted, judged=waiting / took_s)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, default=20_000)
    parser.add_argument("--messages", type=int, default=5_000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    return parser.parse_args()


async def _prepare(database: Postgres, sink: int, count: int) -> tuple[list[str], list[str]]:
    """Messages handed over an hour ago, their links, and the paths in them."""
    async with ours.runtime() as made:
        sender = await ours.make_sender(made, database, sink, is_tracked=True)
        signer = TrackingSigner(made.keyring.derive("tracking"))
        links = [Link(n, f"https://shop.example/{n}", (f"https://shop.example/{n}",)) for n in range(1, LINKS + 1)]
        ids: list[UUID] = []
        async with made.db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
            await destinations.keep(uow.raw, DEFAULT_TENANT, links)
            key = LaneKey("email", sender.id, "bulk", "marketing", 5)
            for first in range(0, count, 5_000):
                new = [
                    NewMessage(letter.address(at), sender.content_id) for at in range(first, min(first + 5_000, count))
                ]
                ids += await admit(uow, DEFAULT_TENANT, key, new)
            await uow.raw.execute(_FINISHED)
            await uow.raw.execute("DELETE FROM queue")
    clicks = [
        f"/t/c/{signer.signed(TrackingSigner.CLICK, DEFAULT_TENANT, each, (1 + at % LINKS,))[0]}"
        for at, each in enumerate(ids)
    ]
    opens = [f"/t/o/{signer.signed(TrackingSigner.OPEN, DEFAULT_TENANT, each)[0]}.gif" for each in ids]
    return clicks, opens


def _requests(paths: list[str], count: int) -> Iterator[bytes]:
    """So many requests, path after path; encoded before the clock starts."""
    encoded = [f"GET {path} HTTP/1.1\r\nHost: t.example\r\nUser-Agent: {AGENT}\r\n\r\n".encode() for path in paths]
    return iter([encoded[at % len(encoded)] for at in range(count)])


@contextmanager
def _peer(database: Postgres, pool: int) -> Iterator[str]:
    script = Path(__file__).parent / "kit" / "click_store.py"
    arguments = [sys.executable, str(script), database.url, str(pool)]
    with process(arguments, name="peer", stdout=subprocess.PIPE, text=True) as child:
        yield ours.wait_ready(child)


def _best_pool(database: Postgres, options: argparse.Namespace) -> int:
    """The pool with which the peer is fastest."""
    seen = {}
    paths = [f"/c/{1 + at % LINKS}/m{at}" for at in range(1000)]
    for pool in POOLS:
        with _peer(database, pool) as where:
            requests = _requests(paths, options.clicks // 4)
            done = run(client.load([where], requests, connections=options.connections, expected=302))
            seen[pool] = options.clicks / 4 / done.took_s
            say(f"peer with a pool of {pool}: {seen[pool]:,.0f}/s")
    return max(seen, key=lambda pool: seen[pool])


def _stored(database: Postgres, asked: int) -> int:
    """Wait until everything that was answered is stored; gives the rows that wait to be judged."""
    for _ in range(100):
        if database.value("SELECT coalesce(sum(n), 0) FROM tracking_hits") >= asked:
            break
        time.sleep(0.1)
    return int(database.value("SELECT count(*) FROM tracking_hits"))


def _report(
    rates: dict[str, list[float]], waits: dict[str, list[float]], *, asked: int, counted: int, judged: float
) -> int:
    ours_rate, theirs = median(rates["clicks"]), median(rates["peer"])
    rows: list[tuple[str, ...]] = [("one process", "per second: median (all)", "p50 ms", "p99 ms")]
    names = {
        "clicks": "clicks, outrider api",
        "openings": "openings, outrider api",
        "peer": "peer: stored, then answered",
    }
    for name, shown in names.items():
        rows.append((shown, runs(rates[name]), *(f"{percentile(waits[name], share):.1f}" for share in (0.5, 0.99))))
    table(rows)
    print(f"asked for {asked:,}, counted {counted:,}; judged {judged:,.0f} rows a second by one worker")
    is_met = [
        verdict("clicks beside the peer", ours_rate / theirs, 1.5),
        verdict("99th percentile of a click", percentile(waits["clicks"], 0.99), 50, at_most=True, unit="ms"),
        verdict("lost", asked - counted, 0, at_most=True, unit=""),
        verdict("judged", judged, 5_000, unit="/s"),
    ]
    return 0 if all(is_met) else 1


if __name__ == "__main__":
    sys.exit(main())
