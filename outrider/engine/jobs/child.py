"""The child program of a CPU-bound job: one order in on stdin, progress and one answer out on stdout, as JSON lines.

Run by file, isolated; owns nothing beyond its own end: it dies with its parent, whose end of stdin is the lifeline.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import threading
import traceback
from typing import Any
from uuid import UUID


class ChildContext:
    """`JobContext` in a child: no runtime; progress goes to the parent, who writes it."""

    def __init__(self, order: dict[str, Any], answers: int) -> None:
        self.tenant_id = UUID(order["tenant_id"])
        self.job_id = UUID(order["job_id"])
        self.type_key: str = order["type"]
        self.attempt: int = order["attempt"]
        self.created_by: str = order["created_by"]
        self.is_cancelled = False
        self._answers = answers

    @property
    def runtime(self) -> Any:
        """Not here."""
        raise RuntimeError("a CPU-bound job has no runtime: put what it needs into its arguments")

    async def progress(self, done: int, total: int | None = None, note: str = "") -> None:
        """Tell the parent."""
        say(self._answers, {"kind": "progress", "done": int(done), "total": total, "note": note[:200]})

    async def hold(self, uow: Any) -> None:
        """Not here."""
        del uow
        raise RuntimeError("a CPU-bound job has no database")


def say(answers: int, what: dict[str, Any]) -> None:
    """Write one line whole."""
    line = json.dumps(what).encode() + b"\n"
    while line:
        line = line[os.write(answers, line) :]


def die_with_parent() -> None:
    """End when the other end of stdin is gone."""

    def read() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()


def read_order() -> dict[str, Any]:
    """The first line of stdin, read without reading further."""
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(0, 65_536)
        if not piece:
            os._exit(1)
        line += piece
    order: dict[str, Any] = json.loads(bytes(line))
    return order


def main() -> None:
    """Do the work of one order."""
    order = read_order()
    die_with_parent()
    answers = os.dup(1)
    os.dup2(2, 1)  # what the work prints goes nowhere
    os.nice(5)  # messages go first
    sys.path[:] = order["path"]
    try:
        say(answers, {"kind": "result", "result": work(order, answers)})
    except Exception as error:  # noqa: BLE001 - told to the parent, which decides
        known = hasattr(error, "code") and hasattr(error, "message")
        say(
            answers,
            {
                "kind": "error",
                "code": str(error.code) if known else "broken",  # type: ignore[attr-defined]  # looked at above
                "message": str(error) if known else f"{type(error).__name__}: {error}",
                "is_final": type(error).__name__ in {"Refused", "RefusedMany", "Misconfigured"},
                "trace": "" if known else traceback.format_exc()[-4000:],
            },
        )


def work(order: dict[str, Any], answers: int) -> Any:
    """The result of the job's own function, as plain values."""
    msgspec = importlib.import_module("msgspec")
    job = importlib.import_module(order["module"]).JOB
    if job.key != order["key"]:
        raise LookupError(f"{order['module']} is {job.key!r}, not {order['key']!r}")
    arguments = msgspec.json.decode(order["arguments"], type=job.arguments)
    return msgspec.to_builtins(asyncio.run(job.run(ChildContext(order, answers), arguments)))


if __name__ == "__main__":
    main()
