"""How fast jobs are worked off, added, and begun: beside BullMQ and Procrastinate in the same run.

Jobs do nothing; what is measured is the job layer. Ours: `outrider scheduler` processes; a job, its history and its
result are rows, committed with synchronous_commit=on. Beside it Procrastinate in the same PostgreSQL, and BullMQ whose
Redis writes its file before it answers (appendfsync always), and once more as it is usually run (everysec: a crash
loses up to a second of jobs). Processes and concurrency of each are swept; its best is used.

    .venv/bin/python bench/jobs.py [--jobs 5000] [--adds 2000] [--waits 200] [--runs 3] [--sweep 2000]

Worked off: a queue of jobs added beforehand, from the word go until the last is recorded as done. Added: one job per
call and transaction, eight callers at a time. Begun: one job about every 100 ms, workers idle, from the call that adds
it to its first line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from bench.kit import job_peers, our_jobs, ours
from bench.kit.figures import machine, median, percentile, runs, say, table
from bench.kit.job_peers import Side, Tuning
from bench.kit.servers import Postgres, install_peer, postgres, redis

CALLERS = 8
EVERY_MS = 100
PROCESSES = (1, 2)
CONCURRENCY = (5, 20, 50, 100)


def main() -> int:
    """Measure and print."""
    options = _options()
    install_peer()
    job_peers.install_procrastinate()
    print(f"machine: {machine()}")
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        sides = _sides(stack, database)
        best = {side.name: _sweep(side, options.sweep) for side in sides}
        worked: dict[str, list[float]] = {side.name: [] for side in sides}
        added: dict[str, list[float]] = {side.name: [] for side in sides}
        waited: dict[str, list[float]] = {side.name: [] for side in sides}
        for number in range(options.runs):
            for side in sides:
                worked[side.name].append(options.jobs / side.work_off(options.jobs, best[side.name]))
                added[side.name].append(options.adds / side.add(options.adds, CALLERS))
                waited[side.name] += side.waits_ms(options.waits, EVERY_MS, best[side.name])
                say(
                    f"run {number + 1}: {side.name} {worked[side.name][-1]:,.0f}/s, added {added[side.name][-1]:,.0f}/s"
                )
                database.settle()
    _report(options, best, worked, added, waited)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--adds", type=int, default=2000)
    parser.add_argument("--waits", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sweep", type=int, default=2000, help="jobs per try of a setting")
    return parser.parse_args()


def _sides(stack: ExitStack, database: Postgres) -> list[Side]:
    """Everybody, on servers of the same run; ours comes first."""
    installed = stack.enter_context(ours.installation(database))
    database.execute("CREATE DATABASE procrastinate OWNER outrider")
    sides: list[Side] = [
        our_jobs.Outrider("outrider", installed),
        job_peers.procrastinate("Procrastinate", database.url.replace("/outrider?", "/procrastinate?")),
    ]
    for fsync in ("always", "everysec"):
        port = stack.enter_context(redis(fsync=fsync))
        sides.append(job_peers.bullmq(f"BullMQ, fsync {fsync}", port))
    return sides


def _sweep(side: Side, jobs: int) -> Tuning:
    """The setting that works a queue off quickest."""
    rates = {
        tuning: jobs / side.work_off(jobs, tuning)
        for tuning in (Tuning(processes, each) for processes in PROCESSES for each in CONCURRENCY)
    }
    for tuning, rate in rates.items():
        say(f"{side.name}: {rate:,.0f}/s with {tuning}")
    return max(rates, key=lambda tuning: rates[tuning])


def _report(
    options: argparse.Namespace,
    best: dict[str, Tuning],
    worked: dict[str, list[float]],
    added: dict[str, list[float]],
    waited: dict[str, list[float]],
) -> None:
    print(f"{options.jobs:,} jobs that do nothing, {options.runs} runs each, interleaved")
    _rates("worked off", worked, {name: str(tuning) for name, tuning in best.items()})
    _rates("added one by one", added, dict.fromkeys(best, f"{CALLERS} callers"))
    rows: list[Sequence[str]] = [("begun after, idle", "p50 ms", "p99 ms", "most ms", "outrider's p50 is")]
    ours_ms = percentile(waited["outrider"], 0.5)
    for name, found in waited.items():
        shares = [f"{percentile(found, share):,.1f}" for share in (0.5, 0.99, 1.0)]
        rows.append((name, *shares, f"{ours_ms / percentile(found, 0.5):.2f} x"))
    table(rows)


def _rates(what: str, rates: dict[str, list[float]], how: dict[str, str]) -> None:
    rate = median(rates["outrider"])
    rows: list[Sequence[str]] = [(what, "jobs/s: median (all)", "with", "outrider is")]
    rows += [(name, runs(found), how[name], f"{rate / median(found):.2f} x") for name, found in rates.items()]
    table(rows)


if __name__ == "__main__":
    sys.exit(main())
