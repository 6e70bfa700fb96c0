"""Making a cluster, its two passwords, and refusing one that another major release made.

Owns `cluster/`, `pgpass` and `version`. A cluster appears under its name only when it is whole.
"""

from __future__ import annotations

import secrets
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from outrider.base.errors import Misconfigured
from outrider.data.embedded_postgres.faults import refuse, telling_line
from outrider.data.embedded_postgres.home import Home
from outrider.data.embedded_postgres.moving import aside, move_commands
from outrider.data.embedded_postgres.programs import Programs

SUPERUSER = "postgres"
LOGIN = "outrider"
_BUILTIN_LOCALES_SINCE = 17
_BOUND_S = 120
_SEGMENT_BYTES = 16 << 20
_SPARE = 8
"""Segments beyond those made ahead that the run which makes them may need itself."""
_AHEAD_WITHIN_S = 15
"""A disk that needs longer gets fewer of them, and a server all the same."""


@dataclass(frozen=True, slots=True)
class Passwords:
    """The passwords of the two roles that can sign in; never printed."""

    superuser: str
    login: str

    def __repr__(self) -> str:
        return "Passwords(…)"


def passwords(home: Home) -> Passwords | None:
    """Read `pgpass`, or None when it is absent or does not name both roles."""
    content = home.read("pgpass")
    found = dict(line.split(":")[3:5] for line in (content or b"").decode().splitlines() if line.count(":") == 4)  # noqa: PLR2004 - libpq's format
    if SUPERUSER in found and LOGIN in found:
        return Passwords(superuser=found[SUPERUSER], login=found[LOGIN])
    return None


def made_by(home: Home) -> int | None:
    """The major release that made the cluster, or None when there is no cluster."""
    if not home.cluster.exists():
        return None
    text = (home.read("cluster/PG_VERSION") or b"").decode(errors="replace").strip()
    if not text.isdigit():
        raise Misconfigured(
            "database_damaged",
            f"{home.cluster} has no valid PG_VERSION: restore it from a backup, or move the folder away to start empty",
            field="OUTRIDER_DATA_DIR",
        )
    return int(text)


def refuse_other_major(home: Home, programs: Programs, socket_dir: Path) -> None:
    """Refuse a cluster that these programs cannot serve.

    Raises:  Misconfigured(database_major) with the exact commands that move the data, also as `data["commands"]`.
    """
    made = made_by(home)
    if made is None or made == programs.major:
        return
    commands = move_commands(home, made, programs, socket_dir)
    recorded = (home.read("version") or b"").decode(errors="replace").strip() or str(made)
    raise Misconfigured(
        "database_major",
        f"{home.path} was made by PostgreSQL {recorded}, these programs are {programs.version}. To move the data, stop "
        "Outrider and run (the one error 'role \"postgres\" already exists' is expected):\n  "
        + "\n  ".join(commands)
        + f"\nThen start Outrider again. The old data stays in {aside(home, made)}.",
        field="OUTRIDER_DATA_DIR",
        commands=commands,
    )


def record_version(home: Home, programs: Programs) -> None:
    """Note the exact release that is about to run."""
    line = f"{programs.version}\n".encode()
    if home.read("version") != line:
        home.write("version", line)


def make(home: Home, programs: Programs, *, wal_ahead_bytes: int = 0) -> None:
    """Make the cluster, the login role and its database.

    Takes:   wal_ahead_bytes: how much WAL to have segments ready for, in whole ones; less on a disk that is slow
    Gives:   `cluster/` complete, with checksums, UTF-8 and passwords for everybody. Killed half-way it leaves only
             what the next start sweeps away. Passwords already in `pgpass` are used again.
    Raises:  Misconfigured or Unavailable with the program's own reason.
    """
    if not home.account.has_name:
        raise Misconfigured(
            "database_account",
            f"user {home.account.uid} has no entry in /etc/passwd, and PostgreSQL's initdb insists on one: "
            "run as a user that has, or set OUTRIDER_DATABASE_URL",
        )
    known = passwords(home) or Passwords(superuser=secrets.token_urlsafe(24), login=secrets.token_urlsafe(24))
    home.write("pgpass", f"*:*:*:{SUPERUSER}:{known.superuser}\n*:*:*:{LOGIN}:{known.login}\n".encode())
    new = home.staging("cluster")
    password_file = home.staging("password")
    home.write(password_file.name, f"{known.superuser}\n".encode())
    try:
        _initdb(home, programs, new, password_file)
    finally:
        password_file.unlink(missing_ok=True)
    script = resources.files(__package__).joinpath("first_start.sql").read_text(encoding="utf-8")
    segments = wal_ahead_bytes // _SEGMENT_BYTES
    options = ["-c", "exit_on_error=on", "-c", "log_min_error_statement=panic", "-c", "log_checkpoints=off"]
    # each segment is filled by this run and synced, so nothing has to be written into it before
    options += ["-c", "wal_init_zero=off", "-c", f"min_wal_size={(segments + _SPARE) * _SEGMENT_BYTES >> 20}MB"]
    values = {"@password@": known.login, "@segments@": str(segments), "@within_s@": str(_AHEAD_WITHIN_S)}
    for name, value in values.items():
        script = script.replace(name, value)
    _run(
        "the database's roles cannot be made",
        home,
        [programs.folder / "postgres", "--single", "-D", new, *options, SUPERUSER],
        script,
    )
    new.rename(home.cluster)
    home.sync()


def _initdb(home: Home, programs: Programs, new: Path, password_file: Path) -> None:
    """Run initdb, with the locale C.UTF-8 where the system has it, else with C and the same sort order."""
    command: list[str | Path] = [programs.folder / "initdb", "-D", new, "-U", SUPERUSER, f"--pwfile={password_file}"]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums"]
    # inside the folder, so that a kill while it is made leaves nothing in /dev/shm; our own configuration decides later
    command += ["--set=dynamic_shared_memory_type=mmap"]
    builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if programs.major < _BUILTIN_LOCALES_SINCE:
        builtin = ["--locale-provider=libc"]
    try:
        _run("the database cannot be made", home, [*command, *builtin, "--locale=C.UTF-8"])
    except _NoSuchLocale:
        _run("the database cannot be made", home, [*command, *builtin, "--locale=C"])


class _NoSuchLocale(Exception):
    """The operating system lacks the locale asked for."""


def _run(doing: str, home: Home, command: list[str | Path], script: str = "") -> None:
    answer = subprocess.run(
        command,
        input=script,
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
        timeout=_BOUND_S,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
        umask=0o077,
        **home.account.identity,
    )
    if answer.returncode != 0:
        output = answer.stdout + answer.stderr
        if "invalid locale" in telling_line(output) and "--locale=C.UTF-8" in command:
            raise _NoSuchLocale
        refuse(doing, output)
