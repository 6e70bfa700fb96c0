"""How much memory Outrider takes: each process idle and at full rate, and everything of `outrider up` idle.

Counted is the proportional set size (PSS) of a process and its children: pages shared by several processes are split
between them. For PostgreSQL's processes what they share in shared_buffers is left out, since that is a setting.

    .venv/bin/python bench/memory.py [--messages 300000] [--idle-s 30]

Wanted: a worker at most 250 MB at full rate and flat (the last fifth of the run at most 10 % above the second), all in
one idle at most 300 MB. Beside it a worker process of BullMQ + nodemailer + pg at its own full rate.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import outrider
from bench.kit import bullmq, ours
from bench.kit.figures import machine, median, say, table, verdict
from bench.kit.servers import Postgres, postgres, process, redis, run, smtp_sink

MEGA = 1_000_000
EVERY_S = 0.25


def main() -> int:
    """Measure, print, and say whether the bounds hold."""
    options = _options()
    print(f"machine: {machine()}")
    compileall.compile_dir(Path(outrider.__file__).parent, quiet=1)  # as an installer does: compiling costs memory
    idle_all, shares = _all_in_one(options.idle_s)
    with postgres() as database, smtp_sink() as sink, ours.installation(database) as installed, redis() as redis_port:
        mailing = run(_queue(database, sink, options.messages))
        database.settle()
        with installed.workers(1) as (worker,):
            time.sleep(options.idle_s / 3)
            idle = _family_bytes(worker.pid)
            with _sampled(worker.pid) as samples:
                took_s = run(_drain(database, mailing))
        bullmq.prepare(database)
        with _sampled(os.getpid(), named="worker.mjs") as theirs:
            rate = bullmq.drain(database, redis_port, sink, options.messages // 10, bullmq.Tuning(processes=1))
    say(f"worker {mailing.count / took_s:,.0f}/s, BullMQ's {rate:,.0f}/s")
    fifth = max(1, len(samples.seen) // 5)
    early, late = median(samples.seen[fifth : 2 * fifth]), median(samples.seen[-fifth:])
    rows = [("what", "MB")]
    rows += [(f"`outrider up`, idle: {name}", f"{size / MEGA:.0f}") for name, size in shares.items()]
    rows += [
        ("`outrider up`, idle: all of it", f"{idle_all / MEGA:.0f}"),
        ("worker, idle (its renderers included)", f"{idle / MEGA:.0f}"),
        (f"worker at {mailing.count / took_s:,.0f} messages/s: most", f"{max(samples.seen) / MEGA:.0f}"),
        ("worker at full rate: second fifth, last fifth of the run", f"{early / MEGA:.0f}, {late / MEGA:.0f}"),
        (f"peer's worker at {rate:,.0f} messages/s: most", f"{max(theirs.seen) / MEGA:.0f}"),
    ]
    table(rows)
    is_met = [
        verdict("all in one, idle", idle_all / MEGA, 300, at_most=True, unit="MB"),
        verdict("worker at full rate", max(samples.seen) / MEGA, 250, at_most=True, unit="MB"),
        verdict("growth over the run", late / early, 1.1, at_most=True),
    ]
    return 0 if all(is_met) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--idle-s", type=float, default=30.0)
    return parser.parse_args()


@dataclass(slots=True)
class Samples:
    """Memory over time, in bytes."""

    seen: list[int] = field(default_factory=list)


@contextmanager
def _sampled(pid: int, *, named: str = "") -> Iterator[Samples]:
    """Look at a process family four times a second while the block runs; `named` picks children by their command."""
    samples, done = Samples(), threading.Event()

    def look() -> None:
        while not done.wait(EVERY_S):
            pids = [child for child in _descendants(pid) if named in _command(child)] if named else [pid]
            if pids:
                samples.seen.append(sum(_family_bytes(one) for one in pids))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def _all_in_one(idle_s: float) -> tuple[int, dict[str, int]]:
    """Everything of `outrider up` on its embedded database after a while without work, in sum and by process."""
    with ours.data_dir() as home:
        environment = ours.environment_for(home)
        with process(
            [ours.PROGRAM, "up"],
            name="up",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as up:
            ours.wait_ready(up)
            time.sleep(idle_s)
            shares: dict[str, int] = {}
            for pid in {up.pid, *_processes_of(home)}:
                kind = _kind(_command(pid))
                shares[kind] = shares.get(kind, 0) + _own_bytes(pid)
    return sum(shares.values()), dict(sorted(shares.items()))


def _kind(command: str) -> str:
    if "postgres" in command.partition(" ")[0]:
        return "PostgreSQL without shared buffers"
    for name in ("render", "nursery", "scheduler", "worker", "api", "up"):
        if name in command:
            return "renderers" if name == "render" else name
    return "other"


def _processes_of(home: Path) -> set[int]:
    """Everybody who works for a data directory, and their children: roles and the database are no children of `up`."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pid = int(entry.name)
            is_one = f"OUTRIDER_DATA_DIR={home}".encode() in (entry / "environ").read_bytes().split(b"\0")
            if is_one or (str(home) in _command(pid) and "postgres" in _command(pid)):
                found |= {pid, *_descendants(pid)}
    return found


def _command(pid: int) -> str:
    with suppress(OSError):
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = {root}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return sorted(found - {root})


def _family_bytes(pid: int) -> int:
    return sum(_own_bytes(one) for one in (pid, *_descendants(pid)))


def _own_bytes(pid: int) -> int:
    """PSS of one process; of PostgreSQL's without what lies in shared memory."""
    with suppress(OSError):
        lines = (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
        return sizes["Pss"] - (sizes.get("Pss_Shmem", 0) if "postgres" in _command(pid) else 0)
    return 0


async def _queue(database: Postgres, sink: int, messages: int) -> ours.Mailing:
    async with ours.runtime() as made:
        await ours.pause(made)
        sender = await ours.make_sender(made, database, sink)
        audience = await ours.make_audience(database, messages)
        return await ours.fan_campaign_out(made, database, sender, audience)


async def _drain(database: Postgres, mailing: ours.Mailing) -> float:
    async with ours.runtime() as made:
        took_s = await ours.drain(made, database, [mailing])
        await asyncio.sleep(0.5)
    return took_s


if __name__ == "__main__":
    sys.exit(main())
