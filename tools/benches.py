"""Run every benchmark, one after another, and say at the end which reached its aim.

Owns the order; each file in bench/ can also be run alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent / "bench"


def main() -> int:
    """Gives 0 when every benchmark reached its aim."""
    busy = os.getloadavg()[0]
    if busy > 0.5:  # noqa: PLR2004 - half a core at work is enough to spoil a comparison
        print(f"warning: this machine is busy (load {busy:.1f}): figures will be too low and ratios uncertain\n")
    results = {}
    for path in sorted(BENCH.glob("*.py")):
        print(f"== {path.name}", flush=True)
        results[path.name] = subprocess.run([sys.executable, path], check=False).returncode
        print(flush=True)
    for name, status in results.items():
        print(f"{name:<20}{'ok' if status == 0 else 'not met or failed'}")
    return max(results.values(), default=0)


if __name__ == "__main__":
    sys.exit(main())
