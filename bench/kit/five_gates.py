"""`outrider` with no other gates than the first five: what the cost of all is measured against.

    python -m bench.kit.five_gates worker

Owns leaving the others out; everything else is the program as it is.
"""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

from outrider.app import main
from outrider.base.registry import discover

FIRST_FIVE = frozenset({"kill_switch", "maintenance", "expiry", "do_not_contact", "consent"})


def _discover(package: str, attribute: str) -> dict[str, Any]:
    found = discover(package, attribute)
    return {key: each for key, each in found.items() if key in FIRST_FIVE} if attribute == "GATE" else found


if __name__ == "__main__":
    with mock.patch("outrider.app.wiring.discover", _discover):
        sys.exit(main(sys.argv[1:]))
