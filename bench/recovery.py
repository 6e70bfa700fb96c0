"""What it costs when workers die: a campaign with and without kills, and how soon a lost machine counts again.

Kills (F11): two workers send a campaign; every 20 s all of them are killed -9 and started again at once, as a
supervisor does. The rate is what was recorded as sent over the phase, start-up and recovery included; by turns with a
phase in which nobody is killed.

A lost node (F12): two workers with a data directory each, as on two machines; one is killed -9 and stays away, the
other carries on. Counted is from the start of its program until the first window of 5 s begins in which 95 % of what
both did before is sent.

    .venv/bin/python bench/recovery.py [--phase-s 120] [--every-s 20] [--away-s 60] [--messages 2500000] [--runs 3]
    .venv/bin/python bench/recovery.py --only kills

Wanted: at least 0.9 of the rate without kills; a node counts again within 10 s.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from bench.kit import ours
from bench.kit.figures import machine, median, parts, runs, say, table, verdict
from bench.kit.servers import Postgres, postgres, run, smtp_sink
from outrider.data.db import Role
from outrider.domain.messages import fills

PARTS = ("kills", "node")
WORKERS = 2
CONNECTIONS = 8
LEAST_RATIO = 0.9
LEAST_SHARE = 0.95
MOST_BACK_S = 10.0
WARM_S = 5.0
WINDOW_S = 5.0
_LOOK_S = 0.5
_WATCHED_S = 60.0
_SENT = (
    "SELECT coalesce(sum(n), 0)::bigint FROM (SELECT n FROM rollups WHERE state = 'sent' "
    "UNION ALL SELECT n FROM rollup_deltas WHERE state = 'sent') t"
)
_WAITING = "SELECT count(*) FROM queue"
_UNCERTAIN = "SELECT count(*) FROM uncertain_messages"


@dataclass(slots=True)
class Crew:
    """Worker processes that are killed and started again; `nodes`: each has a data directory of its own."""

    installed: ours.Installation
    nodes: bool
    _pool: ThreadPoolExecutor
    _running: dict[int, tuple[ExitStack, int]] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def open(cls, installed: ours.Installation, *, nodes: bool = False) -> Iterator[Crew]:
        """All of them, ready; ended with the block."""
        # the threads stay: what a thread has started ends with it
        with ThreadPoolExecutor(WORKERS) as pool:
            crew = cls(installed, nodes, pool)
            try:
                crew.start(*range(WORKERS))
                yield crew
            finally:
                for stack, _ in crew._running.values():
                    stack.close()

    def start(self, *which: int) -> None:
        """Start some and wait until they are ready, at the same time."""
        list(self._pool.map(self._start, which))

    def _start(self, which: int) -> None:
        home = self.installed.data_dir / f"node-{which}"
        settings = {"data_dir": str(home)} if self.nodes else {}
        stack = ExitStack()
        self._running[which] = stack, stack.enter_context(self.installed.role("worker", **settings)).pid

    def kill(self, *which: int) -> None:
        """SIGKILL some with everything that is theirs, all at the same moment."""
        gone = [self._running.pop(each) for each in which]
        for _, pid in gone:
            os.killpg(pid, signal.SIGKILL)
        for stack, _ in gone:
            with suppress(RuntimeError):  # it did not end by itself
                stack.close()


@dataclass(slots=True)
class Node:
    """What became of one loss: rates before and while it was away, and when it counted again, if it did."""

    before: float
    alone: float
    back_s: float | None


def main() -> int:
    """Measure, print, and say whether the aims are met."""
    options = _options()
    print(f"machine: {machine()}")
    quiet: list[float] = []
    killed: list[float] = []
    nodes: list[Node] = []
    with postgres() as database, smtp_sink() as sink, ours.installation(database) as installed:
        place = run(_prepare(installed, sink, options.messages))
        for number in range(options.runs):
            if "kills" in options.only:
                quiet.append(_phase(place, options, every_s=None))
                killed.append(_phase(place, options, every_s=options.every_s))
                say(f"run {number + 1}: {quiet[-1]:,.0f}/s, killed every {options.every_s:g} s {killed[-1]:,.0f}/s")
            if "node" in options.only:
                nodes.append(_node(place, options))
                say(f"run {number + 1}: {nodes[-1]}")
        uncertain = database.value(_UNCERTAIN)
    return _report(options, quiet, killed, nodes, uncertain)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phase-s", type=float, default=120.0)
    parser.add_argument("--every-s", type=float, default=20.0)
    parser.add_argument("--away-s", type=float, default=60.0)
    parser.add_argument("--messages", type=int, default=2_500_000, help="that wait when a phase begins")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", type=parts(*PARTS), default=frozenset(PARTS), help=f"of {', '.join(PARTS)}")
    return parser.parse_args()


@dataclass(slots=True)
class Place:
    """One installation, its one sender, and who is written to."""

    installed: ours.Installation
    sender: ours.Sender
    audience: ours.Audience

    def top_up(self, messages: int) -> None:
        """Fan campaigns out until so many messages wait."""

        async def fan_out() -> None:
            async with ours.runtime() as made:
                await ours.fan_campaign_out(made, self.installed.database, self.sender, self.audience)

        while (waiting := self.installed.database.value(_WAITING)) < messages:
            say(f"{waiting:,} of {messages:,} wait")
            run(fan_out())
        self.installed.database.settle()

    @contextmanager
    def flowing(self, messages: int, *, nodes: bool = False) -> Iterator[Crew]:
        """Campaigns on their way through all workers, of which some must be left when the block ends."""

        async def switch(*, is_paused: bool) -> None:
            async with ours.runtime() as made:
                await (ours.pause if is_paused else ours.resume)(made)

        self.top_up(messages)
        with Crew.open(self.installed, nodes=nodes) as crew:
            run(switch(is_paused=False))
            time.sleep(WARM_S)
            yield crew
            if not self.installed.database.value("SELECT EXISTS (SELECT FROM queue)"):
                raise RuntimeError("everything was sent before the end: give --messages more")
            run(switch(is_paused=True))


async def _prepare(installed: ours.Installation, sink: int, messages: int) -> Place:
    """A sender, half as many contacts as are to wait, and quotas in which all that waits has its place."""
    async with ours.runtime() as made:
        await ours.pause(made)
        async with made.db.uow(Role.ENGINE) as uow:
            quotas = fills.Change(most=4 * messages, tenant_most=4 * messages)
            await fills.set_for_all(uow, ours.BENCH, quotas, reason="benchmark")
        sender = await ours.make_sender(made, installed.database, sink, connections=CONNECTIONS)
    return Place(installed, sender, await ours.make_audience(installed.database, max(1, messages // 2)))


def _phase(place: Place, options: argparse.Namespace, *, every_s: float | None) -> float:
    """Messages a second over a phase; every so many seconds all workers are killed and started again."""
    database = place.installed.database
    with place.flowing(options.messages) as crew:
        first, began_s = _sent(database), time.perf_counter()
        next_s = every_s
        while (at_s := time.perf_counter() - began_s) < options.phase_s:
            if next_s is not None and every_s is not None and at_s >= next_s:
                crew.kill(*range(WORKERS))
                crew.start(*range(WORKERS))
                next_s += every_s
            time.sleep(min(0.1, max(0.0, options.phase_s - at_s)))
        return (_sent(database) - first) / (time.perf_counter() - began_s)


def _node(place: Place, options: argparse.Namespace) -> Node:
    """Lose one of two and start it again."""
    database = place.installed.database
    with place.flowing(options.messages, nodes=True) as crew:
        before = _rate(database, 4 * WINDOW_S)
        crew.kill(1)
        alone = _rate(database, options.away_s)
        began_s = time.perf_counter()
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(crew.start, 1)
            back_s = _back(database, began_s, before * LEAST_SHARE)
            starting.result()
    return Node(before, alone, back_s)


def _back(database: Postgres, began_s: float, wanted: float) -> float | None:
    """Seconds from the start to the beginning of the first window that is fast enough."""
    looks: list[tuple[float, int]] = []
    while (at_s := time.perf_counter() - began_s) < _WATCHED_S:
        looks.append((at_s, _sent(database)))
        for first_s, first in looks:
            if at_s - first_s < WINDOW_S:
                break
            if (looks[-1][1] - first) / (at_s - first_s) >= wanted:
                return first_s
        looks = [each for each in looks if at_s - each[0] < WINDOW_S + _LOOK_S]
        time.sleep(_LOOK_S)
    return None


def _rate(database: Postgres, over_s: float) -> float:
    first, began_s = _sent(database), time.perf_counter()
    time.sleep(over_s)
    return (_sent(database) - first) / (time.perf_counter() - began_s)


def _sent(database: Postgres) -> int:
    return int(database.value(_SENT))


def _report(
    options: argparse.Namespace, quiet: list[float], killed: list[float], nodes: list[Node], uncertain: int
) -> int:
    is_met = []
    if killed:
        ratio = median(killed) / median(quiet)
        rows = [(f"{WORKERS} workers, phases of {options.phase_s:g} s", "messages/s: median (all)", "ratio")]
        rows += [("nobody is killed", runs(quiet), "")]
        rows += [(f"all are killed -9 every {options.every_s:g} s", runs(killed), f"{ratio:.2f} x")]
        table(rows)
        is_met.append(verdict("with kills to without", ratio, LEAST_RATIO))
    if nodes:
        before, alone = [each.before for each in nodes], [each.alone for each in nodes]
        back = [_WATCHED_S if each.back_s is None else each.back_s for each in nodes]
        rows = [("one of two nodes", "median (all)", "")]
        rows += [("messages/s before", runs(before), ""), ("… while it is away", runs(alone), "")]
        rows += [(f"s until {LEAST_SHARE:.0%} again", runs(back, 1), "")]
        table(rows)
        is_met.append(verdict("a node counts again", median(back), MOST_BACK_S, at_most=True, unit="s"))
    print(f"in flight at a kill, and so uncertain (at most once): {uncertain:,}")
    return 0 if all(is_met) else 1


if __name__ == "__main__":
    sys.exit(main())
