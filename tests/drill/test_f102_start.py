"""F102: a broken installation ends at the start with one line and an exit code, never with a traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from outrider.base.secret import new_key
from tests.kit.command import Command, Done, command


def _broken(outrider: Command, program: str, *arguments: str) -> Done:
    """Run a command after a little program has broken something."""
    call = f"import sys\nfrom outrider.app import main\nsys.exit(main({list(arguments)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{call}"],
        env=outrider.environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def _told(done: Done, *codes: int) -> str:
    assert done.code in codes, done
    assert "Traceback" not in done.err
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.err
    return errors[0]


@pytest.fixture
def outrider(migrated_url: str, tmp_path: Path) -> Command:
    """A command that would work."""
    return command(tmp_path, url=migrated_url, key=new_key())


@pytest.mark.parametrize("missing", ["cyclopts", "sqlalchemy", "structlog", "asyncpg", "uvloop", "pydantic_settings"])
@pytest.mark.parametrize("arguments", [("worker",), ("status",)], ids=" ".join)
def test_a_dependency_that_cannot_be_imported(outrider: Command, missing: str, arguments: tuple[str, ...]) -> None:
    if missing == "uvloop" and arguments == ("status",):
        assert _broken(outrider, f"import sys; sys.modules[{missing!r}] = None", *arguments).code == 0
        return
    told = _told(_broken(outrider, f"import sys; sys.modules[{missing!r}] = None", *arguments), 71)
    assert missing in told


def test_no_temporary_folder_anywhere(outrider: Command) -> None:
    program = (
        "import tempfile\ndef none(*_):\n    raise FileNotFoundError(2, 'No usable temporary directory')\n"
        "tempfile._get_default_tempdir = none"
    )
    assert _broken(outrider, program, "status").code == 0


def test_a_data_directory_that_cannot_be_written(outrider: Command) -> None:
    nowhere = outrider.with_(OUTRIDER_DATA_DIR="/proc/outrider", OUTRIDER_SECRET_KEY=None)
    for arguments in (("worker",), ("up",), ("pause", "--emergency")):
        _told(nowhere.run(*arguments), 2, 71, 78)


def test_no_name_service_for_the_database(outrider: Command) -> None:
    away = outrider.with_(OUTRIDER_DATABASE_URL="postgresql://a:hunter2@database.invalid/d")
    for arguments in (("worker",), ("api",), ("status",), ("db", "migrate")):
        assert "hunter2" not in _told(away.run(*arguments), 69)


def test_a_setting_that_does_not_exist_or_cannot_be(outrider: Command) -> None:
    assert "OUTRIDER_NO_SUCH_THING" in _told(outrider.with_(OUTRIDER_NO_SUCH_THING="1").run("worker"), 78)
    assert "OUTRIDER_LEASE_S" in _told(outrider.with_(OUTRIDER_LEASE_S="soon").run("worker"), 78)
    assert "OUTRIDER_LEASE_S" in _told(outrider.with_(OUTRIDER_LEASE_S="soon").run("status"), 2)


def test_a_port_that_somebody_has(outrider: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert str(port) in _told(outrider.with_(OUTRIDER_API_PORT=str(port)).run("api"), 78)
        _told(outrider.run("sandbox", "--ledger", "/dev/null/x"), 78)


def test_a_plugin_whose_key_is_not_its_file(outrider: Command) -> None:
    program = "import outrider.plugins.providers.smtp as smtp\nsmtp.PROVIDER = type('P', (), {'key': 'other'})()"
    assert "must define PROVIDER with key 'smtp'" in _told(_broken(outrider, program, "worker"), 78)
