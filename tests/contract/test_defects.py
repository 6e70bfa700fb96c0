"""Every seeded defect still finds what it breaks: a renamed function or a rewritten statement shows within a second."""

from __future__ import annotations

import subprocess
import sys

from tests.kit.command import ROOT
from tests.kit.defects import DEFECTS

_EACH_IN_A_PROCESS = """
import os, sys
from tests.kit.defects import DEFECTS
for name, defect in DEFECTS.items():
    child = os.fork()
    if not child:
        try:
            defect.patch()
        except Exception as error:
            print(f"{name}: {error}", flush=True)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
print(len(DEFECTS), "tried")
"""


def test_every_seeded_defect_fits_what_it_breaks() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _EACH_IN_A_PROCESS], cwd=ROOT, capture_output=True, text=True, timeout=400, check=True
    )
    assert ended.stdout.splitlines() == [f"{len(DEFECTS)} tried"]
