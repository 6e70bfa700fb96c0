"""The servers of benchmarks: what a killed one leaves running."""

from __future__ import annotations

import select
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BENCHMARK = """
import sys, time
from bench.kit.servers import process

with process(["sleep", "600"], name="a server", stdout=sys.stdout, as_nobody=True):
    print("started", flush=True)
    time.sleep(600)
"""
_BOUND_S = 60


def test_the_servers_of_a_killed_benchmark_end_with_it() -> None:
    with subprocess.Popen([sys.executable, "-c", _BENCHMARK], cwd=ROOT, stdout=subprocess.PIPE) as benchmark:
        assert benchmark.stdout is not None
        assert benchmark.stdout.readline() == b"started\n"
        assert not select.select([benchmark.stdout], [], [], 0.2)[0], "the server holds the pipe"
        benchmark.kill()
        assert select.select([benchmark.stdout], [], [], _BOUND_S)[0], "its server goes on"
        assert benchmark.stdout.read() == b""
