"""How fast texts leave: the whole pipeline against a bare loop of aiohttp that makes the same calls.

Ours: a campaign of rendered texts, every gate asked, a ledger row, a queue row and events for each, one request each
with a report asked for, whole `outrider worker` processes. Beside it in the same run, into the same server (which
answers as Twilio does and keeps nothing): a process that posts the same forms with aiohttp and uvloop and records
nothing; calls under way at once are swept on both sides and the best are used.

    .venv/bin/python bench/sms.py [--texts 20000] [--runs 3] [--workers 1]

Aim: 0.6 x the bare loops, as many of them as workers. Runs of the sides are interleaved; medians are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.kit import ours
from bench.kit.figures import machine, median, runs, say, table, verdict
from bench.kit.servers import Postgres, cpu_s, postgres, process

AIM = 0.6
CALLS = (8, 16, 32, 64)
TEXT = "{{ name }}, your order {{ order }} is on its way."
_QUIET = "UPDATE tenants SET settings = settings || jsonb_build_object('quiet_hours', '{}')"


def main() -> int:
    """Measure, print, and say whether the aim is met."""
    options = _options()
    print(f"machine: {machine()}")
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        installed = stack.enter_context(ours.installation(database))
        server = stack.enter_context(_server())
        away = datetime.now(UTC) + timedelta(hours=6)
        database.execute(_QUIET.format(f"{away:%H:%M}-{away + timedelta(hours=1):%H:%M}"))
        few = max(options.texts // 5, 1000)
        audience = asyncio.run(ours.make_audience(database, options.texts, channel="sms"))
        ours_best = max(CALLS, key=lambda calls: _ours(installed, audience, server, options.workers, calls)[0])
        bare_best = max(CALLS, key=lambda calls: _bare(server, few, options.workers, calls)[0])
        found: dict[str, list[tuple[float, float]]] = {"ours": [], "bare aiohttp": []}
        for number in range(options.runs):
            found["ours"].append(_ours(installed, audience, server, options.workers, ours_best))
            found["bare aiohttp"].append(_bare(server, options.texts, options.workers, bare_best))
            say(f"run {number + 1}: " + ", ".join(f"{name} {each[-1][0]:,.0f}/s" for name, each in found.items()))
    print(f"{options.texts:,} texts, {options.workers} worker(s) and as many bare loops; interleaved")
    print(f"calls at once: ours {ours_best}, bare {bare_best}")
    rates = {name: [rate for rate, _ in each] for name, each in found.items()}
    rows: list[tuple[str, ...]] = [("side", "texts/s: median (all)", "µs of processor time each")]
    rows += [(name, runs(rates[name]), f"{median([us for _, us in each]):,.0f}") for name, each in found.items()]
    table(rows)
    ratio = median(rates["ours"]) / median(rates["bare aiohttp"])
    return 0 if verdict("Outrider to a bare loop", ratio, AIM) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    return parser.parse_args()


@contextmanager
def _server() -> Iterator[str]:
    script = Path(__file__).parent / "kit" / "fake_twilio.py"
    with process([sys.executable, script], name="fake twilio", stdout=subprocess.PIPE, text=True) as child:
        yield ours.wait_ready(child)


def _ours(
    installed: ours.Installation, audience: ours.Audience, server: str, workers: int, calls: int
) -> tuple[float, float]:
    """One campaign to everybody; texts a second from the end of the pause to the last record, and what each cost."""
    mailing = asyncio.run(_queue(installed.database, audience, server, calls))
    installed.database.settle()
    with installed.workers(workers) as running:
        before_s = sum(cpu_s(each.pid) for each in running)
        rate = mailing.count / asyncio.run(_drain(installed.database, mailing))
        cpu_us = (sum(cpu_s(each.pid) for each in running) - before_s) / mailing.count * 1e6
    if complaints := ours.complaints(installed):
        raise RuntimeError(complaints)
    say(f"ours {rate:,.0f}/s with {workers} worker(s) of {calls} calls at once")
    return rate, cpu_us


async def _queue(database: Postgres, audience: ours.Audience, server: str, calls: int) -> ours.Mailing:
    async with ours.runtime() as made:
        await ours.pause(made)
        sender = await ours.make_text_sender(made, TEXT, connections=calls, base_url=server, callback_base=server)
        return await ours.fan_campaign_out(made, database, sender, audience, channel="sms")


async def _drain(database: Postgres, mailing: ours.Mailing) -> float:
    async with ours.runtime() as made:
        return await ours.drain(made, database, [mailing])


def _bare(server: str, texts: int, loops: int, calls: int) -> tuple[float, float]:
    """Bare loops, each its share of the texts; texts a second until the last has ended, and what each cost."""
    script = Path(__file__).parent / "kit" / "bare_texts.py"
    share = texts // loops
    arguments: list[str | Path] = [
        sys.executable,
        script,
        server,
        ours.TEXT_ACCOUNT,
        ours.TEXT_TOKEN,
        str(share),
        str(calls),
    ]
    with ExitStack() as stack:
        children = [
            stack.enter_context(
                process(arguments, name="bare loop", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(loops)
        ]
        for child in children:
            ours.wait_ready(child)
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        ends = [child.stdout.readline().split() for child in children if child.stdout is not None]
    rate = share * loops / max(float(took_s) for took_s, _ in ends)
    say(f"bare {rate:,.0f}/s with {loops} loop(s) of {calls} calls at once")
    return rate, sum(float(used_s) for _, used_s in ends) / (share * loops) * 1e6


if __name__ == "__main__":
    sys.exit(main())
