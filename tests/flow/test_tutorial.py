"""The tutorials are true: their commands are run as they stand in docs/tutorial*.md, on real servers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from outrider.interfaces.sandbox import LedgerReader, lines
from outrider.interfaces.sandbox.twilio import ledger as texts
from tests.kit.ports import free_port
from tests.kit.postgres import open_folder, run_apart
from tests.kit.processes import until
from tests.kit.statements import ROOT

BIN = Path(sys.executable).parent
FENCE = re.compile(r"^```sh(?P<kind> \w+)?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
BOUND_S = 300


@dataclass(frozen=True, slots=True)
class Shown:
    """What came of a page's commands: all they printed, and who the sandbox says got something, in order."""

    out: str
    got: list[str]


def test_the_commands_of_the_tutorial_do_what_it_says() -> None:
    port = free_port()
    changes = {"port=2525": f"port={port}", "--keep-bodies": f"--keep-bodies --smtp-port {port} --http-port 0"}
    shown = _walked("tutorial.md", changes, lambda home: _mails(home, least=5))
    assert [who.partition("@")[0] for who in shown.got] == ["ada", "ada", "barbara", "grace", "linus"]
    for claim in ("not-an-address", "blocked", "do_not_contact", "something is wrong", "finished"):
        assert claim in shown.out, f"{claim!r} is not in:\n{shown.out}"


def test_the_commands_of_the_tutorial_for_texts_do_what_it_says() -> None:
    port = free_port()
    shown = _walked(
        "tutorial-texts.md", {"8026": str(port), "sandbox phone": f"sandbox phone --at http://127.0.0.1:{port}"}, _texts
    )
    everybody = [f"+6141234500{n}" for n in (1, 2, 3, 4)]
    assert shown.got == sorted(everybody + everybody[1:]), "all of them, and all but Ann again"
    for claim in (
        "0412 345", "0.32 EUR", "budget_short", "budget: ", "Reply STOP to opt out", "You will get no more messages",
        "quiet_hours: it is quiet in", "delivered", "stopped by the gate do_not_contact",
    ):  # fmt: skip
        assert claim in shown.out, f"{claim!r} is not in:\n{shown.out}"


def _walked(name: str, changes: dict[str, str], look: Callable[[Path], list[str]]) -> Shown:
    """Run the commands of a page as they stand, but for ports that others may have."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    blocks = [(match["kind"] or "", _here(match["text"], changes)) for match in FENCE.finditer(page)]
    assert [kind for kind, _ in blocks[:3]] == [" setup", " background", " background"]
    with ExitStack() as stack:
        home = open_folder()
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        environment = _environment(home)
        for _, text in blocks[1:3]:
            stack.enter_context(_background(text, home, environment))
        script = "set -eu\n" + "\n".join(text for kind, text in blocks if not kind)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=home, env=environment, capture_output=True, text=True, timeout=2 * BOUND_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return Shown(done.stdout, look(home))


def _mails(home: Path, *, least: int) -> list[str]:
    ledger = LedgerReader(home / "sandbox.jsonl")
    run_apart(until(lambda: len(list(ledger.taken())) >= least, what="what was held arrives once sending goes on"))
    return sorted(str(record.rcpt_to) for record in ledger.taken())


def _texts(home: Path) -> list[str]:
    return sorted(entry.to for entry in lines.read(home / "texts.jsonl", texts.Entry) if entry.outcome in texts.TAKEN)


def _here(text: str, changes: dict[str, str]) -> str:
    """The programs of this environment instead of those of a fresh clone, and other ports."""
    for what, by in {"$PWD/.venv/bin": str(BIN), **changes}.items():
        text = text.replace(what, by)
    return text


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OUTRIDER_")}
    port = free_port()
    return kept | {
        "OUTRIDER_DATA_DIR": str(home / "data"), "OUTRIDER_WORKER_HEALTH_PORT": "0",
        "OUTRIDER_API_PORT": str(port), "OUTRIDER_PUBLIC_URL": f"http://localhost:{port}",
        "COLUMNS": "200", "NO_COLOR": "1",
    }  # fmt: skip


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
