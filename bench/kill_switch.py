"""How fast the kill switch stops the mail: from the HTTP answer to the last acceptance in the mail server's own ledger.

Workers send at full rate into `outrider sandbox`, which writes every acceptance down before it answers, on a clock all
processes of the machine share. Each round: pause the whole installation over HTTP, remember the instant of the answer,
wait until the ledger has been silent for two seconds, take the last acceptance; resume.

    .venv/bin/python bench/kill_switch.py [--rounds 10] [--messages 400000] [--workers 2]

Wanted: at most 1 s in every round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bench.kit import client, ours
from bench.kit.figures import machine, median, say, table, verdict
from bench.kit.servers import postgres, process, run
from outrider.base.clock import boottime_s
from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.tenants import keys
from outrider.interfaces.sandbox import LedgerReader, Record

FLOW_S = 2.0
"""How long mail flows before each pause, and what the rate is taken from."""
SILENCE_S = 2.0
"""Twice the bound: an acceptance later than this would be seen in the next round's records."""


def main() -> int:
    """Measure, print, and say whether the bound holds in every round."""
    options = _options()
    print(f"machine: {machine()}")
    with postgres() as database, ours.installation(database) as installed, _sandbox(installed) as (port, ledger):
        token = run(_prepare(installed, port, options.messages))
        database.settle()
        with installed.role("api", api_rate_per_s="100000") as api, installed.workers(options.workers):
            rounds = run(_rounds(api.where, token, ledger, options.rounds))
    rows = [
        (
            "round",
            "rate before, messages/s",
            "answer after, ms",
            "last acceptance after the answer, ms",
            "accepted after it",
        )
    ]
    for number, (rate, answer_ms, last_ms, late) in enumerate(rounds, 1):
        rows.append((str(number), f"{rate:,.0f}", f"{answer_ms:.0f}", f"{last_ms:.0f}", str(late)))
    table(rows)
    last = [round_[2] for round_ in rounds]
    rate = median([round_[0] for round_ in rounds])
    print(f"rate before: median {rate:,.0f}/s; last acceptance: median {median(last):.0f} ms")
    return 0 if verdict("worst: answer to last acceptance", max(last) / 1000, 1, at_most=True, unit="s") else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--messages", type=int, default=400_000)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


@contextmanager
def _sandbox(installed: ours.Installation) -> Iterator[tuple[int, LedgerReader]]:
    """The capture server with its ledger; gives its SMTP port."""
    path = installed.data_dir / "ledger.jsonl"
    arguments: list[str | Path] = [ours.PROGRAM, "sandbox", "--ledger", path, "--smtp-port", "0", "--no-http"]
    environment = installed.environment
    with process(arguments, name="sandbox", env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        where = next(line for line in child.stdout if line.startswith("ready:"))
        yield urlsplit(where.split()[1]).port or 0, LedgerReader(path)


async def _prepare(installed: ours.Installation, port: int, messages: int) -> str:
    """A backlog that lasts for all rounds, paused, and a key that may pause."""
    async with ours.runtime() as made:
        await ours.pause(made)
        sender = await ours.make_sender(made, installed.database, port)
        audience = await ours.make_audience(installed.database, messages)
        mailing = await ours.fan_campaign_out(made, installed.database, sender, audience)
        say(f"{mailing.count:,} messages queued")
        async with made.db.uow(Role.APP, DEFAULT_TENANT) as uow:
            _, token = await keys.create(uow, ours.BENCH, name="bench", role="operator", scopes=["switches:write"])
    return token


async def _rounds(url: str, token: str, ledger: LedgerReader, count: int) -> list[tuple[float, float, float, int]]:
    """Per round: rate before the pause, milliseconds to the answer, from it to the last acceptance, how many late."""
    body = json.dumps({"scope": "tenant", "reason": "benchmark"}).encode()
    headers = {"Authorization": f"Bearer {token}"}
    pause = client.request("/api/v1/switches/pause", body, headers)
    resume = client.request("/api/v1/switches/resume", body, headers)
    connection = client.Connection(url)
    await _ok(connection, pause)
    async with ours.runtime() as made:
        await ours.resume(made)
    rounds = []
    for number in range(count):
        ledger.read_new()
        await _ok(connection, resume)
        await asyncio.sleep(FLOW_S)
        asked_s = boottime_s()
        await _ok(connection, pause)
        answered_s = boottime_s()
        await asyncio.sleep(SILENCE_S)
        rounds.append(_judge(ledger.read_new(), asked_s, answered_s))
        say(f"round {number + 1}: {rounds[-1]}")
    connection.close()
    return rounds


def _judge(records: list[Record], asked_s: float, answered_s: float) -> tuple[float, float, float, int]:
    """Read one round out of the ledger; a round without mail proves nothing."""
    instants = [record.boot_ns / 1e9 for record in records if record.is_taken]
    before = [at for at in instants if asked_s - 1 < at <= asked_s]
    if not before:
        raise RuntimeError("no mail flowed before the pause: give --messages more")
    late = [at for at in instants if at > answered_s]
    last_s = max(instants) - answered_s
    return float(len(before)), (answered_s - asked_s) * 1000, max(last_s, 0.0) * 1000, len(late)


async def _ok(connection: client.Connection, request: bytes) -> None:
    status, body = await connection.call(request)
    if status != 200:
        raise RuntimeError(f"{status}: {body[:300]!r}")


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    say(f"took {time.monotonic() - began:.0f} s")
    sys.exit(code)
