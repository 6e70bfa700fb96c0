"""Log lines: secrets and people are cut out, one event is one line, and a stuck reader stops nobody."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from outrider.base import settings
from outrider.data import log

CANARY = "hunter2"
Begin = Callable[[], Callable[[], list[dict[str, Any]]]]


@pytest.fixture
def begin(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Begin]:
    """Set up logging in the test itself; gives a function that reads what was written, as JSON."""
    before = logging.getLogger().handlers[:]

    def configured() -> Callable[[], list[dict[str, Any]]]:
        log.configure(settings.load(log_format="json", data_dir=tmp_path), "test", is_long_running=False)
        return lambda: [json.loads(line) for line in capfd.readouterr().err.splitlines()]

    yield configured
    logging.getLogger().handlers[:] = before
    structlog.reset_defaults()


def test_secrets_are_cut_out_wherever_they_stand(begin: Begin) -> None:
    lines = begin()
    structlog.get_logger("x").warning(
        "failed",
        password=CANARY,
        smtp_password=CANARY,
        Authorization=f"Bearer {CANARY}{CANARY}",
        headers={"cookie": CANARY, "deep": {"api_key": CANARY}},
        url=f"postgresql://me:{CANARY}@host/db",
        note=f"sent with Bearer {CANARY}{CANARY}",
        items=[{"secret": CANARY}],
        key=f"or_live_{CANARY}{CANARY}",
    )
    logging.getLogger("library").error("cannot connect to %s", f"https://me:{CANARY}@host/")
    found = lines()
    assert len(found) == 2
    assert CANARY not in json.dumps(found)
    assert found[0]["url"] == "postgresql://me:[redacted]@host/db"


def test_people_are_cut_short(begin: Begin) -> None:
    lines = begin()
    structlog.get_logger("x").warning("refused", address="ann.example@example.org")
    assert lines()[0]["address"] == "a…@example.org"


def test_a_line_has_its_time_in_utc_and_names_its_process(begin: Begin) -> None:
    lines = begin()
    structlog.get_logger("x").warning("happened")
    line = lines()[0]
    assert line["timestamp"].endswith("Z")
    assert {"event", "level", "logger", "role", "app", "environment"} <= set(line)


def test_control_characters_cannot_forge_a_line(begin: Begin) -> None:
    lines = begin()
    structlog.get_logger("x").warning("a\nb\x1b[31m", note="c\r\nd")
    found = lines()
    assert len(found) == 1
    assert found[0]["event"] == "a\\nb\\x1b[31m"


def test_a_trace_is_kept_whole_and_its_secrets_are_not(begin: Begin) -> None:
    lines = begin()
    try:
        int(f"postgresql://me:{CANARY}@host/db")
    except ValueError:
        structlog.get_logger("x").exception("broke")
    line = lines()[0]
    assert "test_a_trace_is_kept_whole" in line["exception"]
    assert CANARY not in line["exception"]


def test_a_reader_that_stops_reading_stops_nobody() -> None:
    program = (
        "import structlog, sys; from outrider.base import settings; from outrider.data import log;"
        "log.configure(settings.load(log_format='json'), 'test'); x = structlog.get_logger('x');"
        "[x.info('line', text='.' * 1000) for _ in range(20_000)]; print('done', flush=True); sys.stdin.read()"
    )
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=write_end, text=True
    )
    os.close(write_end)
    try:
        assert process.stdout is not None
        told: list[str] = []
        reader = threading.Thread(target=lambda: told.append(process.stdout.readline() if process.stdout else ""))
        reader.start()
        reader.join(60)
        assert told == ["done\n"], "20 MB of log into a pipe that nobody reads"
    finally:
        process.kill()
        process.communicate()
        os.close(read_end)
