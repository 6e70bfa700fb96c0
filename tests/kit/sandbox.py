"""The mail sandbox as a process of its own, for flow tests, drills and benchmarks.

    with SandboxProcess(SandboxOptions(ledger_path=..., smtp_port=0, http_port=0)) as sandbox:
        sandbox.addresses.smtp, sandbox.reader, sandbox.stats(), sandbox.kill()

Run as a module it is that process: options as one JSON object in argv, addresses as one JSON line on stdout.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import uvloop

from outrider.interfaces.sandbox import Addresses, LedgerReader, SandboxOptions, run

_START_S = 90.0
_REPOSITORY = Path(__file__).resolve().parents[2]


class SandboxProcess:
    """A sandbox in a child process; it is gone when the block ends, however it ends."""

    def __init__(self, options: SandboxOptions) -> None:
        self.options = options
        self.reader = LedgerReader(options.ledger_path)
        self.addresses: Addresses
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The child; after `start`."""
        assert self._process is not None, "not started"
        return self._process

    def start(self) -> Addresses:
        """Start the child and wait until its ports are open."""
        argv = [sys.executable, "-m", "tests.kit.sandbox", _options_to_json(self.options)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_REPOSITORY)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the sandbox did not start, exit {self._process.wait(_START_S)}"
        self.addresses = msgspec.json.decode(line, type=Addresses, dec_hook=_from_text)
        return self.addresses

    def stop(self) -> int:
        """SIGTERM and wait; gives the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL and wait; gives the exit code (-9)."""
        return self._end(signal.SIGKILL)

    def get(self, path: str) -> bytes:
        """GET from the status pages."""
        assert self.addresses.http is not None
        host, port = self.addresses.http
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=60) as response:
            body: bytes = response.read()
        return body

    def stats(self) -> dict[str, Any]:
        """The counters of /stats."""
        stats: dict[str, Any] = json.loads(self.get("/stats"))
        return stats

    def wait_for_stats(self, is_there: Callable[[dict[str, Any]], bool], *, within_s: float = 60.0) -> dict[str, Any]:
        """Ask for statistics until they are as wished; fails after `within_s`."""
        deadline_s = time.monotonic() + within_s
        while True:
            stats = self.stats()
            if is_there(stats):
                return stats
            assert time.monotonic() < deadline_s, f"never as wished: {stats}"
            time.sleep(0.02)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def _end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(_START_S)


def _options_to_json(options: SandboxOptions) -> str:
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    return msgspec.json.encode(values, enc_hook=str).decode()


def _from_text(kind: type[Any], value: Any) -> Any:
    """Read what JSON has no word for: paths."""
    return kind(value)


def _stop_with_parent() -> None:
    """End when the parent is gone, however it went: its end of stdin closes."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _main() -> None:
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    options = msgspec.convert(json.loads(sys.argv[1]), SandboxOptions, dec_hook=_from_text)

    def ready(addresses: Addresses) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(addresses, enc_hook=str) + b"\n")
        sys.stdout.flush()

    uvloop.run(run(options, ready=ready))


if __name__ == "__main__":
    _main()
