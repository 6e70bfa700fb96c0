"""`outrider up`: one family on the embedded database; a dead child comes back; neither stop nor kill leaves anybody."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from itertools import permutations
from pathlib import Path

import pytest

from outrider.data import embedded_postgres
from outrider.interfaces.cli import exits
from tests.kit.command import ROOT, Command, command

pytestmark = pytest.mark.timeout(900)
BOUND_S = 180.0


@pytest.fixture
def home() -> Iterator[Path]:
    """A data directory that the embedded database's user can pass."""
    made = Path(tempfile.mkdtemp(prefix="outrider-up-"))
    made.chmod(0o711)
    yield made
    embedded_postgres.stop(made / "postgresql")
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def outrider(home: Path) -> Command:
    """A command on that directory."""
    return command(home).with_(OUTRIDER_API_PORT="0", OUTRIDER_WORKER_HEALTH_PORT="0", OUTRIDER_GRACE_S="5")


class Up:
    """A running family."""

    def __init__(self, outrider: Command, home: Path, *arguments: str) -> None:
        self.home = home
        self.log = (home / "up.log").open("a+")
        self.process = outrider.start("up", *arguments, stderr=self.log, start_new_session=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready: "), (home / "up.log").read_text()
        self.api = line.removeprefix("ready: ").strip()

    def members(self) -> dict[int, str]:
        """Live processes of the family by their command line, renderers and database included."""
        return _of(self.home)

    def end(self) -> None:
        """Whatever a test did, nobody stays."""
        for pid in [self.process.pid, *self.members()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.communicate()
        self.log.close()


def _of(home: Path) -> dict[int, str]:
    """Processes whose environment names this data directory."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
        if f"OUTRIDER_DATA_DIR={home}".encode() in environment and line:
            found[int(entry.name)] = line
    return found


def _until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < give_up_at, "did not happen within the bound"
        time.sleep(0.05)


@pytest.fixture
def up(outrider: Command, home: Path) -> Iterator[Up]:
    """A family with two workers."""
    family = Up(outrider, home, "--workers", "2")
    yield family
    family.end()


def _pids(up: Up, role: str) -> list[int]:
    return [pid for pid, line in up.members().items() if f"outrider {role} " in f"{line} "]


def _is_replaced(up: Up, role: str, killed: int, count: int) -> bool:
    now = _pids(up, role)
    return killed not in now and len(now) == count


def test_everything_runs_is_told_and_stops_in_order(up: Up, outrider: Command) -> None:
    assert (len(_pids(up, "api")), len(_pids(up, "worker"))) == (1, 2)
    with urllib.request.urlopen(f"{up.api}/openapi.json", timeout=BOUND_S) as answer:  # noqa: S310 - our own loopback URL
        assert json.load(answer)["openapi"].startswith("3.1")
    told = (up.home / "up.log").read_text()
    assert "nobody can sign in yet" in told
    assert [line.split()[-1] for line in told.splitlines() if line.startswith("start page ")] == [f"{up.api}/"]
    assert outrider.run("status", "--json").code == 0
    second = outrider.run("up")
    assert second.code in (75, 78)
    assert "already runs here" in second.err
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(BOUND_S) == 0
    assert up.members() == {}
    assert embedded_postgres.status(up.home / "postgresql").state == "stopped"


def test_ctrl_c_ends_everybody(up: Up) -> None:
    os.killpg(up.process.pid, signal.SIGINT)
    assert up.process.wait(BOUND_S) == 0
    assert up.members() == {}


def test_a_child_that_was_killed_comes_back(up: Up) -> None:
    for role in ("worker", "api"):
        before = set(_pids(up, role))
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        _until(partial(_is_replaced, up, role, killed, len(before)))
    assert up.process.poll() is None


def test_the_embedded_database_is_started_again_when_it_was_killed(up: Up, outrider: Command) -> None:
    killed = embedded_postgres.status(up.home / "postgresql").pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    def is_back() -> bool:
        now = embedded_postgres.status(up.home / "postgresql")
        return now.state == "healthy" and now.pid != killed

    _until(is_back)
    assert outrider.run("status", "--json").code == 0
    assert up.process.poll() is None


def test_nobody_stays_when_the_parent_is_killed(up: Up) -> None:
    os.kill(up.process.pid, signal.SIGKILL)
    up.process.wait(BOUND_S)
    _until(lambda: not _pids(up, "api") and not _pids(up, "worker"))
    _until(lambda: up.members() == {})


def test_a_family_that_cannot_start_says_why_and_leaves_nobody(outrider: Command, home: Path) -> None:
    (home / "secret.key").write_text("no key\n")
    (home / "secret.key").chmod(0o600)
    done = outrider.run("up")
    assert done.code == 78
    assert "not 32 bytes" in done.err.splitlines()[-1]
    assert _of(home) == {}
    assert embedded_postgres.status(home / "postgresql").state == "stopped"


def test_the_key_is_made_once_and_never_again_for_data_that_has_one(outrider: Command, home: Path) -> None:
    first = Up(outrider, home)
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(BOUND_S) == 0
    first.end()
    key = (home / "secret.key").read_text()
    (home / "secret.key").rename(home / "elsewhere")
    done = outrider.run("up")
    assert done.code == 78
    assert "this database was sealed with key" in done.err.splitlines()[-1]
    assert not (home / "secret.key").exists(), "no other key is made in its place"
    assert key == (home / "elsewhere").read_text()


def test_a_set_up_that_was_killed_is_told_and_starting_again_goes_on(outrider: Command, home: Path) -> None:
    done = outrider.with_(OR_FAILPOINT="migrate.statement:20:kill").run("up")
    assert done.code == 69
    assert done.err.splitlines()[-1] == "error: setting up was ended by SIGKILL before it was done; start again"
    assert _of(home) == {}
    family = Up(outrider, home)
    family.end()


def test_the_nursery_ends_when_everybody_runs_and_so_does_the_one_that_a_dead_child_came_back_from(up: Up) -> None:
    roles = ("api", "worker", "scheduler")
    before = {role: set(_pids(up, role)) for role in roles}
    _until(lambda: not _pids(up, "nursery"))
    assert {role: set(_pids(up, role)) for role in roles} == before, "nobody noticed"
    killed = min(before["worker"])
    os.kill(killed, signal.SIGKILL)
    _until(partial(_is_replaced, up, "worker", killed, 2))
    _until(lambda: not _pids(up, "nursery"))
    assert set(_pids(up, "api")) == before["api"]
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(BOUND_S) == 0
    assert up.members() == {}
    ended = [json.loads(line) for line in (up.home / "up.log").read_text().splitlines() if '"child_ended"' in line]
    assert [(each["child"].split()[0], each["exit_code"]) for each in ended] == [("worker", -signal.SIGKILL)]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL], ids=lambda each: each.name)
def test_the_signal_that_ended_a_role_is_named_and_no_dead_process_stays(up: Up, number: signal.Signals) -> None:
    _until(lambda: not _pids(up, "nursery"))
    for role in ("worker", "scheduler"):
        before = set(_pids(up, role))
        os.kill(min(before), number)
        _until(partial(_is_replaced, up, role, min(before), len(before)))
    _until(lambda: not _pids(up, "nursery"))
    _until(lambda: not _dead_children(up.process.pid))
    told = _told_ended(up, 2)
    assert [(each["exit_code"], each["signal"]) for each in told] == [(-number, number.name)] * 2


def test_a_role_that_stopped_by_itself_is_told_with_its_exit_code_and_is_a_child_of_the_family(up: Up) -> None:
    roles = [pid for role in ("api", "worker", "scheduler") for pid in _pids(up, role)]
    assert {_stat(pid)[1] for pid in roles} == {str(up.process.pid)}
    (scheduler,) = _pids(up, "scheduler")
    os.kill(scheduler, signal.SIGTERM)
    _until(partial(_is_replaced, up, "scheduler", scheduler, 1))
    (told,) = _told_ended(up, 1)
    assert told["exit_code"] == exits.OK
    assert "signal" not in told


def test_the_database_is_no_child_of_the_family_also_when_it_was_started_again(up: Up) -> None:
    def now() -> tuple[str, int]:
        found = embedded_postgres.status(up.home / "postgresql")
        return found.state, found.pid or 0

    _, first = now()
    assert _stat(first)[1] != str(up.process.pid)
    os.kill(first, signal.SIGKILL)
    _until(lambda: now()[0] == "healthy" and now()[1] != first)
    assert _stat(now()[1])[1] != str(up.process.pid)
    _until(lambda: '"database_restarted"' in (up.home / "up.log").read_text())


def _stat(pid: int) -> list[str]:
    """State, parent and so on, proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _dead_children(parent: int) -> list[int]:
    """Zombies of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, ppid = _stat(int(entry.name))[:2]
            except OSError:
                continue
            if (state, ppid) == ("Z", str(parent)):
                found.append(int(entry.name))
    return found


def _logged(up: Up) -> list[dict[str, object]]:
    """What the family's processes logged."""
    return [json.loads(line) for line in (up.home / "up.log").read_text().splitlines() if line.startswith("{")]


def _told_ended(up: Up, count: int) -> list[dict[str, object]]:
    """What was logged of children that ended, as soon as it is so many: a thread of its own writes it."""

    def told() -> list[dict[str, object]]:
        return [each for each in _logged(up) if each["event"] == "child_ended"]

    _until(lambda: len(told()) >= count)
    return told()


def test_a_nursery_that_was_killed_is_replaced_and_its_children_say_how_they_ended(
    outrider: Command, home: Path
) -> None:
    program = """
import asyncio, os, signal, sys
from outrider.app.nursery import Nursery

async def ended(nursery):
    return await (await nursery.start("returns", print)).wait()

async def main(nursery):
    print(await ended(nursery))
    os.kill(int(await asyncio.to_thread(input)), signal.SIGKILL)
    await asyncio.to_thread(input)
    print(await ended(nursery))
    nursery.rest()
    print(await ended(nursery))

nursery = Nursery()
sys.stdout.reconfigure(line_buffering=True)
asyncio.run(main(nursery))
nursery.close()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=outrider.environment, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:  # fmt: skip
        assert parent.stdin is not None
        assert parent.stdout is not None
        refused = f"{exits.REFUSES_TO_START}\n"
        assert parent.stdout.readline() == refused, "returns are off"
        (nursery,) = [pid for pid, line in _of(home).items() if line == "outrider nursery"]
        parent.stdin.write(f"{nursery}\n")
        parent.stdin.flush()
        _until(lambda: nursery not in _of(home))
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == refused
        assert parent.stdout.readline() == refused, "one that rests is replaced, too"
        assert parent.wait(BOUND_S) == 0
    _until(lambda: not _of(home))


def test_the_roles_of_a_family_share_the_pages_of_what_they_load_alike(up: Up) -> None:
    (worker,) = _pids(up, "worker")[:1]
    lines = Path(f"/proc/{worker}/smaps_rollup").read_text().splitlines()
    kb = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith(" kB")}
    assert kb["Shared_Dirty"] > kb["Private_Dirty"] / 2, "each has its own copy of everything"


def test_what_a_family_shares_is_loaded_without_a_thread_a_setting_or_a_connection(outrider: Command) -> None:
    program = (
        "import os, sys; from outrider.app import nursery; nursery.load(); from outrider.app import wiring;"
        "print(len(os.listdir('/proc/self/task')), wiring.settings.cache_info().currsize,"
        "*[os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if int(fd) > 2 and"
        " os.path.exists(f'/proc/self/fd/{fd}')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=outrider.environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "0"]


def test_a_role_holds_no_pipe_of_another_process_of_its_family(up: Up) -> None:
    _until(lambda: not _pids(up, "nursery"))
    pids = [pid for role in ("api", "worker", "scheduler") for pid in _pids(up, role)]
    assert len(pids) == 4
    for pid, other in permutations([up.process.pid, *pids], 2):
        assert not _pipes(pid) & _pipes(other), (pid, other)


def _pipes(pid: int) -> set[str]:
    """Pipes and sockets of a process beyond its standard streams."""
    held = [
        entry.readlink().name for entry in Path(f"/proc/{pid}/fd").iterdir() if int(entry.name) > sys.stderr.fileno()
    ]
    return {name for name in held if name.startswith(("pipe:", "socket:"))}


def test_only_a_family_loads_what_its_roles_share(outrider: Command) -> None:
    program = "import sys, outrider.app.start, outrider.app.commands.up; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=outrider.environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"sqlalchemy", "alembic", "pydantic", "litestar", "cryptography"} & set(done.stdout.split())
