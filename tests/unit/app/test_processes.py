"""What every process that stays has in common."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import gc
from outrider.app.processes import run_process

async def work(stop):
    print("|", *gc.get_threshold(), gc.get_freeze_count(), len(gc.get_objects()))

raise SystemExit(run_process("worker", work, grace_s=1.0, lifeline=False))
"""


def test_what_was_loaded_is_not_looked_through_for_garbage_and_the_rest_seldom() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    numbers = next(line for line in done.stdout.splitlines() if line.startswith("|"))
    young, middle, old, frozen, others = map(int, numbers[1:].split())
    assert (young, middle, old) == (10_000, 5, 5)
    assert frozen > 10 * others
