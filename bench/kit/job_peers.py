"""The peers of the job layer as whole processes: BullMQ on Redis, and Procrastinate in the same PostgreSQL.

Owns how they are installed and driven; what they run is in bench/peers. Both keep what is finished, as Outrider does.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.kit.figures import say
from bench.kit.servers import answer, node, process

PROCRASTINATE = Path(__file__).resolve().parent.parent / "peers" / "procrastinate"
_PYTHON = PROCRASTINATE / ".venv" / "bin" / "python"
_BATCH = 1000
_FILL = {"jobs": 0, "batch": _BATCH, "callers": 0, "every_ms": 0}


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is swept: worker processes, and jobs that each of them runs at a time."""

    processes: int = 1
    concurrency: int = 20

    def __str__(self) -> str:
        """As printed beside the figures."""
        return f"{self.processes} processes, concurrency {self.concurrency}"


class Side(Protocol):
    """One job system under measurement. All times are seen from outside, seconds unless named otherwise."""

    @property
    def name(self) -> str:
        """As printed."""
        ...

    def work_off(self, jobs: int, tuning: Tuning) -> float:
        """Fill the queue, then let the workers go: seconds from the word go until all are done."""
        ...

    def add(self, jobs: int, callers: int) -> float:
        """Seconds that so many calls take that add one job each, durably, with nobody working."""
        ...

    def waits_ms(self, jobs: int, every_ms: float, tuning: Tuning) -> list[float]:
        """Milliseconds from the call that adds a job to its first line, one job every so often, workers idle."""
        ...


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer whose processes speak JSON lines: `start(program, settings)` starts one."""

    name: str
    start: Callable[[str, dict[str, Any]], AbstractContextManager[subprocess.Popen[str]]]

    def work_off(self, jobs: int, tuning: Tuning) -> float:
        """See `Side`."""
        self._add(**_FILL | {"jobs": jobs, "is_first": True})
        with ExitStack() as stack:
            workers = self._workers(stack, tuning, is_timed=False)
            began_s = time.perf_counter()
            _go(workers)
            _until_done(workers, jobs)
            return time.perf_counter() - began_s

    def add(self, jobs: int, callers: int) -> float:
        """See `Side`."""
        took_s = self._add(jobs=jobs, batch=1, callers=callers, every_ms=0, is_first=True)
        with ExitStack() as stack:  # leave nothing for the next measurement
            workers = self._workers(stack, Tuning(), is_timed=False)
            _go(workers)
            _until_done(workers, jobs)
        return took_s

    def waits_ms(self, jobs: int, every_ms: float, tuning: Tuning) -> list[float]:
        """See `Side`."""
        with ExitStack() as stack:
            workers = self._workers(stack, tuning, is_timed=True)
            _go(workers)
            self._add(jobs=jobs, batch=1, callers=1, every_ms=every_ms, is_first=False)
            return _until_done(workers, jobs)

    def _add(self, **settings: Any) -> float:
        with self.start("add", settings) as child:
            took_s = float(answer(child)["took_s"])
            child.wait(60)
        return took_s

    def _workers(self, stack: ExitStack, tuning: Tuning, *, is_timed: bool) -> list[subprocess.Popen[str]]:
        settings = {"concurrency": tuning.concurrency, "is_timed": is_timed}
        workers = [stack.enter_context(self.start("work", settings)) for _ in range(tuning.processes)]
        for worker in workers:
            answer(worker)
        return workers


def bullmq(name: str, redis_port: int) -> Peer:
    """BullMQ; how durable it is, is its Redis's setting."""
    scripts = {"add": "jobs-add.mjs", "work": "jobs-worker.mjs"}
    common = {"redis_port": redis_port, "queue": "bench-jobs"}
    return Peer(name, lambda program, settings: node(scripts[program], common | settings))


def procrastinate(name: str, url: str) -> Peer:
    """Procrastinate in an empty database."""
    common = {"url": url, "connections": 20, "is_timed": False}
    with _python("schema", common) as child:
        answer(child)
        child.wait(60)
    return Peer(name, lambda program, settings: _python(program, common | settings))


def install_procrastinate() -> None:
    """Make its environment from its pinned requirements, once."""
    marker, wanted = PROCRASTINATE / ".venv" / "installed.txt", PROCRASTINATE / "requirements.txt"
    if marker.exists() and marker.read_text() == wanted.read_text():
        return
    say("installing Procrastinate")
    shutil.rmtree(PROCRASTINATE / ".venv", ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", PROCRASTINATE / ".venv"], check=True)
    arguments = ["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(wanted)]
    subprocess.run([str(_PYTHON), *arguments], check=True)
    marker.write_text(wanted.read_text())


@contextmanager
def _python(program: str, settings: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    arguments: list[str | Path] = [_PYTHON, PROCRASTINATE / "peer.py", program, json.dumps(settings)]
    with process(
        arguments,
        name=f"procrastinate {program}",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONOPTIMIZE": "1"},
    ) as child:
        yield child


def _go(workers: Sequence[subprocess.Popen[str]]) -> None:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()


def _until_done(workers: Sequence[subprocess.Popen[str]], jobs: int) -> list[float]:
    """Read the workers' reports until so many jobs are done; gives the waits they told."""
    reports: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()
    for number, worker in enumerate(workers):
        threading.Thread(target=_read, args=(number, worker, reports), daemon=True).start()
    done = dict.fromkeys(range(len(workers)), 0)
    waits_ms: list[float] = []
    while sum(done.values()) < jobs:
        number, told = reports.get(timeout=120)
        if "error" in told:
            raise RuntimeError(f"the peer failed: {told['error']}")
        done[number] = told["done"]
        waits_ms += told["waits_ms"]
    return waits_ms


def _read(number: int, worker: subprocess.Popen[str], reports: queue.SimpleQueue[tuple[int, dict[str, Any]]]) -> None:
    assert worker.stdout is not None
    for line in worker.stdout:
        reports.put((number, json.loads(line)))
