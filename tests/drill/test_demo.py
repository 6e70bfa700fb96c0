"""`outrider demo`: the proof adds up on real servers, and nothing stays behind however it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider.data import embedded_postgres
from tests.kit.command import Command, command

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that the embedded database's user can pass."""
    made = Path(tempfile.mkdtemp(prefix="outrider-demo-test-"))
    made.chmod(0o711)
    yield made
    for pid in _processes(made):
        os.kill(pid, signal.SIGKILL)
    embedded_postgres.stop(made / "postgresql")
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def outrider(tmp_path: Path) -> Command:
    """A command whose own settings lead nowhere: the demonstration must not use them."""
    return command(tmp_path, url="postgresql://nobody:hunter2@127.0.0.1:1/nothing")


def _processes(home: Path) -> list[int]:
    """Processes that work in the demonstration's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"OUTRIDER_DATA_DIR={home}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_every_number_adds_up_and_nobody_stays(outrider: Command, home: Path) -> None:
    done = outrider.run("demo", "--contacts", "2000", "--folder", str(home), "--json", timeout_s=700)
    assert done.code == 0, done
    lines = {line["name"]: line for line in done.json()["lines"]}
    assert done.json()["is_ok"]
    assert all(line["is_right"] for line in lines.values())
    assert (lines["lost"]["value"], lines["doubled"]["value"]) == (0, 0)
    assert lines["accepted"]["value"] == lines["people imported"]["value"]
    assert _processes(home) == []
    assert embedded_postgres.status(home / "postgresql").state == "stopped"


def test_it_stays_when_asked_to_and_ends_with_ctrl_c(outrider: Command, home: Path) -> None:
    process = outrider.start(
        "demo", "--contacts", "600", "--folder", str(home), "--keep", "--json", start_new_session=True
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["is_ok"]
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Authorization: Bearer" in told
    assert _processes(home) == []


def test_ctrl_c_in_the_middle_leaves_nobody(outrider: Command, home: Path) -> None:
    process = outrider.start("demo", "--folder", str(home), start_new_session=True)
    assert process.stderr is not None
    while "launched to" not in (line := process.stderr.readline()):
        assert line, "it ended before it launched"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    assert process.returncode == 130
    give_up_at = time.monotonic() + 120
    while _processes(home):
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
