"""How many signed callbacks a process takes, each committed before its answer, and what forged ones cost.

Ours: one `outrider api` (access log on, as installed): signature, reading, one row for each callback, the state of its
message later by a worker. Beside it in the same run an endpoint of the same parts (uvicorn, uvloop, asyncpg) that only
inserts what was posted, one statement each; its pool is swept and its best is used. Then, with a worker beside it, so
many a second for a while: answer and lag; and as many with a forged signature: what they cost.

    .venv/bin/python bench/callbacks.py [--callbacks 10000] [--connections 64] [--runs 3] [--per-s 1000] [--for-s 60]

Aim: 0.5 x the bare endpoint; at 1,000 a second a 99th percentile of the answer of at most 500 ms, a 99th percentile of
the lag (from commit to the message's own state) of at most 2 s, none lost, all applied a minute after the last; forged
ones at most 20 % of a core.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from bench.kit import client, ours
from bench.kit.bare_callbacks import SCHEMA
from bench.kit.figures import machine, median, percentile, runs, say, table, verdict
from bench.kit.servers import Postgres, cpu_s, postgres, process, run
from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from outrider.interfaces.sandbox.twilio.callbacks import signature, status_form

AIM = 0.5
POOLS = (5, 10, 20)
STATUSES = ("sent", "delivered")
_FORM = "application/x-www-form-urlencoded"
_HANDED_OVER = (
    "UPDATE messages SET state = 'sent', provider_id = 'SM' || replace(id::text, '-', ''), finished_at = now() "
    "WHERE state = 'queued'"
)
_WAITING = "SELECT count(*) FROM webhook_events WHERE state IN ('new', 'parked')"
_LAGS = (
    "SELECT array_agg(extract(epoch FROM applied_at - received_at)::float8) FROM webhook_events "
    "WHERE applied_at IS NOT NULL AND id > $1"
)


@dataclass(slots=True)
class Found:
    """What was measured: callbacks a second, microseconds of processor time each, answers and lags in seconds."""

    rates: dict[str, list[float]] = field(default_factory=lambda: {"ours": [], "bare": [], "forged": []})
    cpu_us: dict[str, list[float]] = field(default_factory=lambda: {"ours": [], "bare": [], "forged": []})
    answers_s: list[float] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)
    applied_per_s: float = 0.0
    drained_s: float = 0.0
    forged_share: float = 0.0
    lost: int = 0


def main() -> int:
    """Measure, print, and say whether the aims are met."""
    options = _options()
    print(f"machine: {machine()}")
    found = Found()
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        installed = stack.enter_context(ours.installation(database))
        sender = run(_sender())
        database.execute(*SCHEMA.split(";"))
        database.execute(
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO outrider",
            "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO outrider",
        )
        api = stack.enter_context(installed.role("api", log_level="info"))
        pool = _best_pool(database, sender, options)
        say(f"the bare endpoint's best pool: {pool}")
        for number in range(options.runs):
            _compare(database, sender, api, pool, options, found)
            say(f"run {number + 1}: " + ", ".join(f"{name} {each[-1]:,.0f}/s" for name, each in found.rates.items()))
        _drain(installed, found, database)
        with installed.workers(1):
            _steadily(database, sender, api, options, found)
        asked = options.runs * options.callbacks + options.per_s * options.for_s
        found.lost = asked - database.value("SELECT count(*) FROM webhook_events WHERE state = 'applied'")
    return _report(options, found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callbacks", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--per-s", type=int, default=1_000)
    parser.add_argument("--for-s", type=int, default=60)
    return parser.parse_args()


async def _sender() -> ours.TextSender:
    async with ours.runtime() as made:
        return await ours.make_text_sender(made, "Hello", callback_base="https://callbacks.example.org")


async def _sent(sender: ours.TextSender, count: int) -> list[UUID]:
    """So many more texts that were handed over."""
    async with ours.runtime() as made:
        key = LaneKey("sms", sender.id, "transactional", "transactional", 5)
        ids: list[UUID] = []
        async with made.db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
            for first in range(0, count, 5_000):
                new = [NewMessage(f"+1415{at:07}", sender.content_id) for at in range(first, min(first + 5_000, count))]
                ids += await admit(uow, DEFAULT_TENANT, key, new)
            await uow.raw.execute(_HANDED_OVER)
            await uow.raw.execute("DELETE FROM queue")
    return ids


def _callbacks(sender: ours.TextSender, ids: list[UUID], *, is_forged: bool = False) -> list[bytes]:
    """Every status of every message, signed or not, as the bytes of a request."""
    token = "another" if is_forged else ours.TEXT_TOKEN
    made = []
    for status in STATUSES:
        for message_id in ids:
            url = f"{sender.callback_url}?m={message_id}"
            said = {"sid": f"SM{message_id.hex}", "from": "+14155550100", "to": "+14155552671"}
            form = status_form(said, ours.TEXT_ACCOUNT, status, None)
            parts = urlsplit(url)
            headers = {"X-Twilio-Signature": signature(token, url, form), "User-Agent": "TwilioProxy/1.1"}
            made.append(client.request(f"{parts.path}?{parts.query}", urlencode(form).encode(), headers, kind=_FORM))
    return made


@contextmanager
def _bare(database: Postgres, pool: int) -> Iterator[ours.Running]:
    script = Path(__file__).parent / "kit" / "bare_callbacks.py"
    arguments: list[str | Path] = [sys.executable, script, database.url, str(pool)]
    with process(arguments, name="bare endpoint", stdout=subprocess.PIPE, text=True) as child:
        yield ours.Running(child.pid, ours.wait_ready(child))


def _best_pool(database: Postgres, sender: ours.TextSender, options: argparse.Namespace) -> int:
    """The pool with which the bare endpoint is fastest."""
    requests = _callbacks(sender, run(_sent(sender, options.callbacks // 4)))
    seen = {}
    for pool in POOLS:
        with _bare(database, pool) as bare:
            seen[pool], _ = _load(bare, requests, options, expected=200)
            say(f"the bare endpoint with a pool of {pool}: {seen[pool]:,.0f}/s")
    return max(seen, key=lambda pool: seen[pool])


def _compare(
    database: Postgres,
    sender: ours.TextSender,
    api: ours.Running,
    pool: int,
    options: argparse.Namespace,
    found: Found,
) -> None:
    """Genuine ones for both, forged ones for ours."""
    ids = run(_sent(sender, options.callbacks // len(STATUSES)))
    genuine, forged = _callbacks(sender, ids), _callbacks(sender, ids, is_forged=True)
    for name, requests, expected in (("ours", genuine, 200), ("bare", genuine, 200), ("forged", forged, 403)):
        database.settle()
        if name == "bare":
            with _bare(database, pool) as bare:
                rate, cpu_us = _load(bare, requests, options, expected=expected)
        else:
            rate, cpu_us = _load(api, requests, options, expected=expected)
        found.rates[name].append(rate)
        found.cpu_us[name].append(cpu_us)


def _load(
    server: ours.Running, requests: list[bytes], options: argparse.Namespace, *, expected: int
) -> tuple[float, float]:
    """Requests a second, and microseconds of the server's processor time each."""
    before_s = cpu_s(server.pid)
    done = run(client.load([server.where], iter(requests), connections=options.connections, expected=expected))
    return len(requests) / done.took_s, (cpu_s(server.pid) - before_s) / len(requests) * 1e6


def _drain(installed: ours.Installation, found: Found, database: Postgres) -> None:
    """How fast one worker applies what has been waiting."""
    waiting = database.value(_WAITING)
    with installed.workers(1):
        began_s = time.perf_counter()
        while database.value(_WAITING):
            time.sleep(0.05)
        found.applied_per_s = waiting / (time.perf_counter() - began_s)


def _steadily(
    database: Postgres, sender: ours.TextSender, api: ours.Running, options: argparse.Namespace, found: Found
) -> None:
    """So many a second for a while, then as many forged ones."""
    ids = run(_sent(sender, options.per_s * options.for_s // len(STATUSES)))
    genuine, forged = _callbacks(sender, ids), _callbacks(sender, ids, is_forged=True)
    last = database.value("SELECT id FROM webhook_events ORDER BY id DESC LIMIT 1")
    done = run(
        client.load([api.where], iter(genuine), connections=options.connections, expected=200, per_s=options.per_s)
    )
    found.answers_s = done.latencies_s
    ended_s = time.perf_counter()
    while database.value(_WAITING):
        time.sleep(0.05)
    found.drained_s = time.perf_counter() - ended_s
    found.lags_s = list(database.value(_LAGS, last))
    before_s = cpu_s(api.pid)
    done = run(
        client.load([api.where], iter(forged), connections=options.connections, expected=403, per_s=options.per_s)
    )
    found.forged_share = (cpu_s(api.pid) - before_s) / done.took_s


def _report(options: argparse.Namespace, found: Found) -> int:
    rows: list[tuple[str, ...]] = [("one process", "per second: median (all)", "µs of processor time each")]
    names = {
        "ours": "signed, committed, answered: outrider api",
        "bare": "inserted and answered: bare endpoint",
        "forged": "forged, refused: outrider api",
    }
    rows += [(shown, runs(found.rates[name]), f"{median(found.cpu_us[name]):,.0f}") for name, shown in names.items()]
    table(rows)
    print(f"applied by one worker: {found.applied_per_s:,.0f} a second")
    print(
        f"{options.per_s:,} a second for {options.for_s} s with a worker beside it: answered p50 "
        f"{percentile(found.answers_s, 0.5) * 1000:.1f} ms, p99 {percentile(found.answers_s, 0.99) * 1000:.1f} ms; "
        f"lag p50 {percentile(found.lags_s, 0.5):.2f} s, p99 {percentile(found.lags_s, 0.99):.2f} s"
    )
    print(f"forged at {options.per_s:,} a second: {found.forged_share:.0%} of a core")
    cost = median(found.cpu_us["forged"]) / median(found.cpu_us["ours"])
    print(f"processor time of a forged one beside a genuine one: {cost:.2f} x")
    is_met = [
        verdict("callbacks beside the bare endpoint", median(found.rates["ours"]) / median(found.rates["bare"]), AIM),
        verdict("p99 of the answer", percentile(found.answers_s, 0.99) * 1000, 500, at_most=True, unit="ms"),
        verdict("p99 of the lag", percentile(found.lags_s, 0.99), 2, at_most=True, unit="s"),
        verdict("until all are applied", found.drained_s, 60, at_most=True, unit="s"),
        verdict("lost", found.lost, 0, at_most=True, unit=""),
        verdict("forged, of a core", found.forged_share * 100, 20, at_most=True, unit="%"),
    ]
    return 0 if all(is_met) else 1


if __name__ == "__main__":
    sys.exit(main())
