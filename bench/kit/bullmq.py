"""The peer BullMQ + nodemailer + pg as whole processes: enqueue a mailing, drain it, sweep its settings.

Owns how the peer is driven and what is swept; the peer's own code is in bench/peers/bullmq.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.kit import letter
from bench.kit.figures import say
from bench.kit.servers import Postgres, answer, install_peer, node

_TABLE = """
CREATE TABLE IF NOT EXISTS deliveries (
  message_id bigint PRIMARY KEY, address text NOT NULL, status text NOT NULL, provider_id text,
  sent_at timestamptz NOT NULL
)
"""
QUEUE = "send-messages"


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is swept."""

    processes: int = 2
    concurrency: int = 50
    smtp_connections: int = 20
    pg_mode: str = "pool"
    pg_connections: int = 10
    auto_pipelining: bool = False

    def __str__(self) -> str:
        """All values, as printed beside the figures."""
        return ", ".join(f"{name}={value}" for name, value in asdict(self).items())


def prepare(database: Postgres) -> None:
    """Install the peer and make its table."""
    install_peer()
    database.execute(_TABLE, "ALTER TABLE deliveries OWNER TO outrider")


def enqueue(redis_port: int, messages: int, *, batch: int = 1000, auto_pipelining: bool = False) -> float:
    """Fill the queue; gives jobs a second."""
    settings = {
        "redis_port": redis_port,
        "queue": QUEUE,
        "messages": messages,
        "batch": batch,
        "cities": letter.CITIES,
        "auto_pipelining": auto_pipelining,
    }
    with node("enqueue.mjs", settings) as child:
        result = answer(child)
        child.wait(60)
    if result["waiting"] != messages:
        raise RuntimeError(f"{result['waiting']} jobs wait, not {messages}")
    return messages / float(result["took_s"])


def drain(database: Postgres, redis_port: int, smtp_port: int, messages: int, tuning: Tuning) -> float:
    """Send everything that waits; gives messages a second, from the word go to the last status row."""
    database.execute("TRUNCATE deliveries")
    enqueue(redis_port, messages)
    database.settle()
    settings = asdict(tuning) | {
        "redis_port": redis_port,
        "smtp_port": smtp_port,
        "database_host": str(database.home),
        "queue": QUEUE,
        "subject": letter.SUBJECT,
        "html": letter.HTML,
        "text": letter.TEXT,
        "sender": letter.SENDER,
    }
    with ExitStack() as stack:
        workers = [stack.enter_context(node("worker.mjs", settings)) for _ in range(tuning.processes)]
        for worker in workers:
            answer(worker)
        resume = stack.enter_context(node("resume.mjs", settings))
        answer(resume)
        began_s = time.perf_counter()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        _wait_until_done(workers, messages)
        took_s = time.perf_counter() - began_s
    rows = database.value("SELECT count(*) FROM deliveries")
    if rows != messages:
        raise RuntimeError(f"{rows} status rows, not {messages}")
    return messages / took_s


def _wait_until_done(workers: Sequence[Any], messages: int) -> None:
    done = dict.fromkeys(range(len(workers)), 0)
    with selectors.DefaultSelector() as selector:
        for number, worker in enumerate(workers):
            selector.register(worker.stdout, selectors.EVENT_READ, (number, worker))
        while sum(done.values()) < messages:
            for key, _ in selector.select(60):
                number, worker = key.data
                told = answer(worker)
                if "error" in told:
                    raise RuntimeError(f"the peer failed: {told['error']}")
                done[number] = told["done"]


def sweep(database: Postgres, redis_port: int, smtp_port: int, messages: int) -> Tuning:
    """Find the peer's best settings: one dimension after another, the best so far kept; twice round the first."""
    best = Tuning()
    best_rate = 0.0
    tried: dict[Tuning, float] = {}
    dimensions: list[tuple[str, tuple[Any, ...]]] = [
        ("concurrency", (10, 25, 50, 100, 200, 400)),
        ("smtp_connections", (5, 10, 20, 50, 100)),
        ("pg_connections", (2, 5, 10, 20, 40)),
        ("pg_mode", ("pool", "pipeline")),
        ("auto_pipelining", (False, True)),
        ("processes", (1, 2, 3)),
        ("concurrency", (25, 50, 100, 200, 400)),
    ]
    for name, values in dimensions:
        for value in values:
            tuning = replace(best, **{name: value})
            if tuning not in tried:
                tried[tuning] = drain(database, redis_port, smtp_port, messages, tuning)
                say(f"peer {tried[tuning]:,.0f}/s with {tuning}")
        best = max(tried, key=lambda tuning: tried[tuning])
        best_rate = tried[best]
    say(f"peer's best {best_rate:,.0f}/s with {best}")
    return best
