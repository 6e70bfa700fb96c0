"""Where the embedded server listens: a short private folder, because a socket's path has room for 107 bytes.

Owns choosing, making and removing that folder; never uses one that somebody else could have put there.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from outrider.base.errors import Misconfigured
from outrider.data.embedded_postgres.account import Account, obstacle
from outrider.data.embedded_postgres.home import Home

MOST_BYTES = 107
"""`sun_path` of Linux less its final NUL (unix(7))."""
RUN = Path("/run")
TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - the folder made inside is private, a foreign one is refused
DEFAULT_PORT = 5432


def key_of(home: Home) -> str:
    """A short name for one data directory: the same for every process, whatever it calls the folder."""
    return hashlib.sha256(os.fsencode(home.path)).hexdigest()[:12]


def socket_path(folder: Path, port: int = DEFAULT_PORT) -> Path:
    """PostgreSQL's socket in a folder."""
    return folder / f".s.PGSQL.{port}"


def make_socket_dir(home: Home, port: int = DEFAULT_PORT) -> Path:
    """Make the folder for the sockets, 0700 and the account's.

    Gives:   the first of /run/outrider (root), $XDG_RUNTIME_DIR, /tmp, /var/tmp, the data directory, that is short
             enough and writable; what a dead server left in it is removed.
    Raises:  Misconfigured when a folder of that name is somebody else's, or when there is no place at all.
    """
    failures: list[str] = []
    for folder in _candidates(home):
        if len(os.fsencode(socket_path(folder, port))) > MOST_BYTES:
            failures.append(f"{folder} is too long")
            continue
        if "," in str(folder):
            failures.append(f"{folder} has a comma, which separates hosts")
            continue
        try:
            _make(folder, home.account)
        except OSError as error:
            failures.append(f"{folder}: {error.strerror}")
            continue
        for leftover in (socket_path(folder, port), Path(f"{socket_path(folder, port)}.lock")):
            leftover.unlink(missing_ok=True)
        return folder
    raise Misconfigured(
        "database_sockets",
        f"no folder for the database's socket (at most {MOST_BYTES} bytes with its name): {'; '.join(failures)}. "
        "Make /tmp writable, or use a data directory with a shorter path",
    )


def remove_socket_dirs(home: Home, used: Path | None = None) -> None:
    """Remove the folders of a server that has stopped, or never started; what is not empty stays."""
    for folder in (*_candidates(home), *([used] if used and key_of(home) in used.name else [])):
        with suppress(OSError):
            folder.rmdir()


def _candidates(home: Home) -> Iterator[Path]:
    key = key_of(home)
    if home.account.is_dropped_to:
        yield RUN / "outrider" / key
    else:
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        if runtime.startswith("/") and _is_private(Path(runtime), home.account):
            yield Path(runtime) / f"outrider-{key}"
    for folder in TEMPORARY:
        yield folder / f"outrider-{key}-{home.account.uid}"
    yield home.path / f"socket-{key}"


def _is_private(folder: Path, account: Account) -> bool:
    try:
        facts = folder.stat()
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == account.uid and not facts.st_mode & 0o022


def _make(folder: Path, account: Account) -> None:
    if account.is_dropped_to and folder.parent == RUN / "outrider":
        _make_shared(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        if account.is_dropped_to:
            os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != account.uid:
        raise Misconfigured(
            "database_sockets",
            f"{folder} belongs to user {facts.st_uid}, not to {account.name}: somebody else made it; "
            "remove it, or use another data directory",
        )
    if stat.S_IMODE(facts.st_mode) != 0o700:  # noqa: PLR2004 - the mode is its own name
        folder.chmod(0o700)
    if account.is_dropped_to and obstacle(folder, account):
        raise PermissionError(13, f"not passable for {account.name}", str(folder))


def _make_shared(folder: Path) -> None:
    """The folder of root above the private ones; refused when others could write into it."""
    try:
        folder.mkdir(mode=0o755)
    except FileExistsError:
        pass
    else:
        folder.chmod(0o755)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != 0 or facts.st_mode & 0o022:
        raise PermissionError(13, "not root's alone", str(folder))
