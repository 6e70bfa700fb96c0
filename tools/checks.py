"""Run the checks of this repository one after another and print what became of each as a table.

    tools/checks.py quick    linters, types, layers, contract and unit tests
    tools/checks.py all      the same, then flow, drill and browser tests

Everything runs even when something before it failed; the exit status is 0 only when all passed. With CI set in the
environment a skipped test is a failure: what cannot run there proves nothing. Steps run side by side, because most
tests wait more than they compute; each line of output begins with its step. Drills that measure time are one step: none
of them runs beside another. The last lines name every test that failed and the beginning of what it said, so that the
end of any log is enough. Owns the order.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
RESULTS = ROOT / ".state" / "results"
LINTERS: dict[str, list[str]] = {
    "ruff": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "--quiet", "."],
    "types": ["mypy"],
    "layers": ["lint-imports"],
}
LANES = {"quick": 2, "all": 3}
"""How many steps of tests run at a time."""
SHARES = {"flow": 4, "drill": 2}
"""In how many steps a folder is run; any other is one."""
CLOCKS = (
    "f08_", "f13_", "f21_", "f26_", "f53_", "f57_", "f60_", "f77_", "f79_", "f83_", "f85_", "f94_",
    "f_seeded_defects", "gates_under_kills",
)  # fmt: skip
"""The drills that measure time, by the beginnings of their names."""
ORDER = {
    "quick": ("contract", "unit"),
    "all": ("clocks", "drill-1", "contract", "flow-1", "drill-2", "flow-2", "flow-3", "flow-4", "e2e", "unit"),
}
"""Which step begins next: the long ones first, so that the lanes end together."""
_LAST_WORDS_S = 10.0
_LINES_OF_A_FAILURE = 15


@dataclass(slots=True)
class Result:
    """What became of one step."""

    name: str
    is_ok: bool
    took_s: float
    counts: dict[str, int] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def main(extent: str) -> int:
    """Run everything of an extent; gives the exit status."""
    os.chdir(ROOT)
    RESULTS.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OUTRIDER_")}
    began_s = time.monotonic()
    results = [_lint(name, command, environment) for name, command in LINTERS.items()]
    steps = steps_of(ROOT / "tests")
    with ThreadPoolExecutor(LANES[extent]) as lanes:
        results += lanes.map(lambda name: _test(name, steps[name], environment), ORDER[extent])
    return report(results, time.monotonic() - began_s)


def steps_of(tests: Path) -> dict[str, list[Path]]:
    """Every file of tests in the one step it belongs to; those of a shared folder are dealt out like cards."""
    steps: dict[str, list[Path]] = {}
    for folder in sorted(path for path in tests.iterdir() if any(path.rglob("test_*.py"))):
        files = sorted(folder.rglob("test_*.py"))
        if folder.name == "drill":
            steps["clocks"] = [path for path in files if path.name.removeprefix("test_").startswith(CLOCKS)]
            files = [path for path in files if path not in steps["clocks"]]
        count = SHARES.get(folder.name, 1)
        for share in range(count):
            steps[folder.name if count == 1 else f"{folder.name}-{share + 1}"] = files[share::count]
    return steps


def _lint(name: str, command: list[str], environment: dict[str, str]) -> Result:
    print(f"== {name}: {' '.join(command)}", flush=True)
    began_s = time.monotonic()
    status = subprocess.run([BIN / command[0], *command[1:]], env=environment, check=False).returncode
    return Result(name, status == 0, time.monotonic() - began_s)


def _test(name: str, files: list[Path], environment: dict[str, str]) -> Result:
    print(f"== {name}: pytest, {len(files)} files", flush=True)
    began_s = time.monotonic()
    written = RESULTS / f"{name}.xml"
    written.unlink(missing_ok=True)
    command = [str(BIN / "python"), "-m", "pytest", f"--junit-xml={written}", *map(str, files)]
    running = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    telling = threading.Thread(target=_tell, args=(name, running.stdout), daemon=True)
    telling.start()
    running.wait()
    telling.join(_LAST_WORDS_S)  # a process left behind may hold the pipe; it must not hold up what follows
    result = Result(name, running.returncode == 0, time.monotonic() - began_s)
    if written.is_file():
        read(result, written)
    else:
        result.failures.append(f"{name}: pytest ended with {running.returncode} and left no report")
    if result.skipped and os.environ.get("CI"):
        result.is_ok = False
    return result


def _tell(name: str, lines: IO[str] | None) -> None:
    for line in lines or ():
        print(f"{name:<8} | {line}", end="", flush=True)


def read(result: Result, written: Path) -> None:
    """Read from pytest's report how many tests passed, and which failed or were skipped, and why."""
    suites = list(ET.parse(written).getroot().iter("testsuite"))  # noqa: S314 - written by our own pytest a moment ago
    tests, failed, errors, skipped = (
        sum(int(suite.get(kind, "0")) for suite in suites) for kind in ("tests", "failures", "errors", "skipped")
    )
    result.counts = {"passed": tests - failed - errors - skipped, "failed": failed + errors, "skipped": skipped}
    for suite in suites:
        for case in suite.iter("testcase"):
            name = _node_id(case)
            result.skipped += [f"{name}: {why.get('message')}" for why in case.iter("skipped")]
            for why in (*case.iter("failure"), *case.iter("error")):
                said = (why.get("message") or why.text or "").splitlines()[:_LINES_OF_A_FAILURE]
                result.failures.append("\n    ".join([f"{result.name}: {name}", *said]))


def _node_id(case: ET.Element) -> str:
    """The name by which pytest runs this test alone."""
    module, _, group = case.get("classname", "").partition(".Test")
    return "::".join([f"{module.replace('.', '/')}.py", *([f"Test{group}"] if group else []), case.get("name", "")])


def report(results: list[Result], took_s: float) -> int:
    """Print what became of every step and, last of all, what failed; gives the exit status."""
    skipped = [line for result in results for line in result.skipped]
    for line in skipped:
        print(f"skipped: {line}")
    print(f"\n{'step':<10}{'result':<8}{'passed':>8}{'failed':>8}{'skipped':>8}{'seconds':>9}")
    for result in results:
        counts = "".join(f"{result.counts.get(kind, ''):>8}" for kind in ("passed", "failed", "skipped"))
        print(f"{result.name:<10}{'ok' if result.is_ok else 'FAILED':<8}{counts}{result.took_s:>9.1f}")
    print(f"{'total':<10}{'':<32}{took_s:>9.1f}")
    failed = [result.name for result in results if not result.is_ok]
    if not failed:
        print("all passed")
        return 0
    print(f"failed: {', '.join(failed)}" + ("; nothing may be skipped where CI is set" if skipped else ""))
    for failure in (each for result in results for each in result.failures):
        print(failure)
    return 1


if __name__ == "__main__":
    if sys.argv[1:] not in (["quick"], ["all"]):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
