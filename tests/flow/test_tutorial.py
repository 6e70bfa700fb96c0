"""The tutorial is true: its commands are run as they stand in docs/tutorial.md, on real servers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from outrider.interfaces.sandbox import LedgerReader
from tests.kit.postgres import open_folder, run_apart
from tests.kit.processes import until
from tests.kit.statements import ROOT

BIN = Path(sys.executable).parent
FENCE = re.compile(r"^```sh(?P<kind> \w+)?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
BOUND_S = 120


def test_the_commands_of_the_tutorial_do_what_it_says() -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    blocks = [(match["kind"] or "", _here(match["text"])) for match in FENCE.finditer(page)]
    assert [kind for kind, _ in blocks[:3]] == [" setup", " background", " background"]
    with ExitStack() as stack:
        home = open_folder()
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        environment = _environment(home)
        port = _free_port()
        for _, text in blocks[1:3]:
            command = text.replace("--keep-bodies", f"--keep-bodies --smtp-port {port} --http-port 0")
            stack.enter_context(_background(command, home, environment))
        script = "set -eu\n" + "\n".join(text for kind, text in blocks if not kind).replace("port=2525", f"port={port}")
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=home, env=environment, capture_output=True, text=True, timeout=BOUND_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        ledger = LedgerReader(home / "sandbox.jsonl")
        run_apart(until(lambda: len(list(ledger.taken())) >= 5, what="Ada's order arrives once sending goes on"))
        people = sorted(str(record.rcpt_to).partition("@")[0] for record in ledger.taken())
    assert people == ["ada", "ada", "barbara", "grace", "linus"]
    for claim in ("not-an-address", "blocked", "do_not_contact", "something is wrong", "finished"):
        assert claim in done.stdout, f"{claim!r} is not in:\n{done.stdout}"


def _here(text: str) -> str:
    """The programs of this environment instead of those of a fresh clone."""
    return text.replace("$PWD/.venv/bin", str(BIN))


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OUTRIDER_")}
    return kept | {
        "OUTRIDER_DATA_DIR": str(home / "data"), "OUTRIDER_API_PORT": "0", "OUTRIDER_WORKER_HEALTH_PORT": "0",
        "COLUMNS": "200", "NO_COLOR": "1",
    }  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _background(text: str, home: Path, environment: dict[str, str]) -> Iterator[None]:
    """A command that stays, as in a terminal of its own: ready when the block begins, Ctrl-C at its end."""
    child = subprocess.Popen(
        ["bash", "-c", f"set -eu\n{text.strip()}".replace("\noutrider ", "\nexec outrider ")],
        cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    said: list[str] = []
    is_ready = threading.Event()

    def read() -> None:
        assert child.stdout is not None
        with child.stdout:
            for line in child.stdout:
                said.append(line)
                if line.startswith("ready:"):
                    is_ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert is_ready.wait(BOUND_S), "".join(said)
        yield
    finally:
        child.send_signal(signal.SIGINT)
        try:
            assert child.wait(BOUND_S) == 0, "".join(said)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            reader.join()
