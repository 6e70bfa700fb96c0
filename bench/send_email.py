"""How fast messages leave: Outrider against the runbooks' own stack and against Postfix's load generator.

100,000 messages of about 4 kB, rendered per recipient. Ours: every gate asked, a ledger row, a queue row and events for
each message, synchronous_commit=on, DKIM off, whole `outrider worker` processes. Beside it, on the same machine in the
same run and into the same `smtp-sink`:

(a) BullMQ + nodemailer + pg: one job, one rendered mail, one status row per message; settings swept, the best used;
(b) `smtp-source -d`: Postfix's own generator, which renders nothing and records nothing; its best number of sessions.

    .venv/bin/python bench/send_email.py [--messages 100000] [--runs 3] [--workers 2] [--peer NAME] [--dkim]

Wanted: at least 8 x (a), aim 10 x; at least 0.5 x (b). Runs of the sides are interleaved; medians are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import nullcontext

from bench.kit import bullmq, ours
from bench.kit.figures import machine, median, runs, say, table, verdict
from bench.kit.servers import Postgres, postgres, redis, smtp_sink, smtp_source

CONNECTIONS = (4, 8, 16)
PEERS = ("bullmq", "smtp-source")
SESSIONS = (1, 2, 5, 10, 20, 50, 100)


def main() -> int:
    """Measure, print, and say whether the aims are met."""
    options = _options()
    print(f"machine: {machine()}")
    with (
        postgres() as database,
        redis() if "bullmq" in options.peers else nullcontext(0) as redis_port,
        smtp_sink() as sink,
        ours.installation(database) as installed,
    ):
        sessions = 0
        if "smtp-source" in options.peers:
            sessions = max(
                SESSIONS, key=lambda count: smtp_source(sink, messages=options.sweep_messages * 3, sessions=count)
            )
            say(f"smtp-source is best with {sessions} sessions")
        tuning = None
        if "bullmq" in options.peers:
            bullmq.prepare(database)
            tuning = bullmq.sweep(database, redis_port, sink, options.sweep_messages)
        audience = asyncio.run(ours.make_audience(database, options.messages))
        connections = max(
            CONNECTIONS, key=lambda count: _ours(installed, audience, sink, workers=options.workers, connections=count)
        )
        found: dict[str, list[float]] = {side: [] for side in ("ours", *options.peers)}
        for number in range(options.runs):
            found["ours"].append(_ours(installed, audience, sink, workers=options.workers, connections=connections))
            if tuning is not None:
                found["bullmq"].append(bullmq.drain(database, redis_port, sink, options.messages, tuning))
            if "smtp-source" in options.peers:
                database.settle()
                found["smtp-source"].append(smtp_source(sink, messages=options.messages, sessions=sessions))
            say(f"run {number + 1}: " + ", ".join(f"{name} {rates[-1]:,.0f}/s" for name, rates in found.items()))
        for kind in ("rsa", "ed25519") if options.dkim else ():
            signed = _ours(installed, audience, sink, workers=options.workers, connections=connections, dkim=kind)
            found[f"ours, DKIM {kind}"] = [signed]
        if options.tracking:
            tracked = _ours(
                installed, audience, sink, workers=options.workers, connections=connections, is_tracked=True
            )
            found["ours, openings and clicks followed"] = [tracked]
    return _report(options, found, tuning, connections=connections, sessions=sessions)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sweep-messages", type=int, default=10_000)
    parser.add_argument("--peer", dest="peers", action="append", choices=PEERS, help="only beside this one, or these")
    parser.add_argument("--tracking", action="store_true", help="one more run with openings and clicks followed")
    parser.add_argument("--dkim", action="store_true", help="one more run each, signed with RSA 2048 and Ed25519")
    options = parser.parse_args()
    options.peers = options.peers or list(PEERS)
    return options


def _ours(
    installed: ours.Installation,
    audience: ours.Audience,
    sink: int,
    *,
    workers: int,
    connections: int,
    dkim: str = "",
    is_tracked: bool = False,
) -> float:
    """One campaign to everybody; messages a second from the end of the pause to the last record."""
    mailing = asyncio.run(_queue(installed.database, audience, sink, connections, dkim, is_tracked=is_tracked))
    installed.database.settle()
    with installed.workers(workers):
        rate = mailing.count / asyncio.run(_drain(installed.database, mailing))
    if complaints := ours.complaints(installed):
        raise RuntimeError(complaints)
    say(f"ours {rate:,.0f}/s with {workers} workers of {connections} connections")
    return rate


async def _queue(
    database: Postgres, audience: ours.Audience, sink: int, connections: int, dkim: str, *, is_tracked: bool
) -> ours.Mailing:
    async with ours.runtime() as made:
        await ours.pause(made)
        sender = await ours.make_sender(made, database, sink, connections=connections, dkim=dkim, is_tracked=is_tracked)
        return await ours.fan_campaign_out(made, database, sender, audience)


async def _drain(database: Postgres, mailing: ours.Mailing) -> float:
    async with ours.runtime() as made:
        return await ours.drain(made, database, [mailing])


def _report(
    options: argparse.Namespace,
    found: dict[str, list[float]],
    tuning: bullmq.Tuning | None,
    *,
    connections: int,
    sessions: int,
) -> int:
    rate = median(found["ours"])
    rows = [("side", "messages/s: median (all)", "ours is")]
    rows += [(name, runs(rates), f"{rate / median(rates):.2f} x") for name, rates in found.items()]
    print(f"{options.messages:,} messages, {options.runs} runs each, interleaved")
    table(rows)
    print(f"ours: {options.workers} workers, {connections} SMTP connections each")
    is_met = []
    if tuning is not None:
        print(f"BullMQ's best: {tuning}")
        is_met.append(verdict("Outrider to BullMQ + nodemailer + pg", rate / median(found["bullmq"]), 8))
    if "smtp-source" in options.peers:
        print(f"smtp-source's best: {sessions} sessions")
        is_met.append(verdict("Outrider to smtp-source", rate / median(found["smtp-source"]), 0.5))
    return 0 if all(is_met) else 1


if __name__ == "__main__":
    sys.exit(main())
