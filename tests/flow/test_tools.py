"""The repository's own tools: nothing a command starts outlives it, and the end of a run says what failed in it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.postgres import run_apart
from tests.kit.processes import until
from tests.kit.statements import ROOT
from tools.checks import CLOCKS, ORDER, Result, read, report, steps_of

CONTAINED = [sys.executable, str(ROOT / "tools" / "contained.py")]


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CONTAINED, "sh", "-c", script], capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("status", [0, 3])
def test_the_status_of_a_clean_command_is_passed_on(status: int) -> None:
    done = run(f"echo hello; exit {status}")
    assert (done.returncode, done.stdout, done.stderr) == (status, "hello\n", "")


def test_what_a_command_leaves_behind_is_named_and_ended_and_makes_it_fail() -> None:
    done = run('setsid sleep 1000 > /dev/null 2>&1 & echo $!; trap "" TERM')
    pid = int(done.stdout)
    assert done.returncode == 1
    assert f"left behind by sh: sleep 1000 (process {pid})" in done.stderr
    assert not Path(f"/proc/{pid}").exists()


def test_a_process_that_ends_by_itself_soon_after_is_no_fault() -> None:
    assert run("setsid sleep 0.3 > /dev/null 2>&1 &").returncode == 0


def test_a_stop_reaches_the_command_and_its_orphans(tmp_path: Path) -> None:
    started = tmp_path / "started"
    script = f"setsid sleep 1000 & echo $! > {started}.part; mv {started}.part {started}; exec sleep 1000"
    child = subprocess.Popen([*CONTAINED, "sh", "-c", script], stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    with child.stderr:
        run_apart(until(started.exists, what="the command runs"))
        orphan = int(started.read_text())
        child.send_signal(signal.SIGTERM)
        told = child.stderr.read()
        assert child.wait(60) == 128 + signal.SIGTERM
    assert f"process {orphan}" in told
    assert not Path(f"/proc/{orphan}").exists()


FAILING = """
import pytest

@pytest.fixture
def broken() -> None:
    raise OSError("no such thing")

def test_fine() -> None: pass

def test_needs(broken: None) -> None: pass

@pytest.mark.skip(reason="never here")
def test_skipped() -> None: pass

class TestMany:
    @pytest.mark.parametrize("n", [3])
    def test_wrong(self, n: int) -> None:
        assert n == 4, "\\n".join(f"line {at}" for at in range(100))
"""


def test_the_last_lines_of_a_run_name_each_failed_test_and_what_it_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_made_up.py").write_text(FAILING)
    (tmp_path / "pytest.ini").touch()
    written = tmp_path / "unit.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={written}"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=240, check=False)
    result = Result("unit", is_ok=False, took_s=1.0)
    read(result, written)
    assert result.counts == {"passed": 1, "failed": 2, "skipped": 1}
    assert report([Result("flow", is_ok=True, took_s=1.0), result], 2.0) == 1
    lines = capsys.readouterr().out.splitlines()
    last = lines[lines.index("unit: test_made_up.py::test_needs") :]
    assert "OSError: no such thing" in last[1]
    assert last[2] == "unit: test_made_up.py::TestMany::test_wrong[3]"
    assert last[3].strip() == "AssertionError: line 0"
    assert last[-1].strip() == "line 14"
    assert any(line.startswith("failed: unit") for line in lines[: -len(last)])


def test_every_file_of_tests_is_in_one_step_and_every_step_is_run() -> None:
    steps = steps_of(ROOT / "tests")
    assert set(ORDER["all"]) == set(steps)
    assert set(ORDER["quick"]) == {"contract", "unit"}
    dealt = [path for files in steps.values() for path in files]
    assert sorted(dealt) == sorted((ROOT / "tests").rglob("test_*.py"))
    assert len(steps["clocks"]) >= len(CLOCKS)
    for beginning in CLOCKS:
        assert any(path.name.startswith(f"test_{beginning}") for path in steps["clocks"]), f"no drill {beginning}"
