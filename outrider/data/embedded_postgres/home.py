"""The folder that holds one embedded database: the cluster, its passwords, its locks, its logs. Mode 0700.

Owns making it and every file written into it by us; never touches the mode of a folder above it. As root the folder
belongs to the unprivileged account, so nothing in it is trusted: no link is followed, owners are checked.

    cluster/          PostgreSQL's data directory          pgpass           passwords (0600, libpq's format)
    log/              the server's own log, one week       start.log        its output before that log opens
    postgresql.conf   written at every start               pg_hba.conf      written at every start
    version           the release that last ran            start.lock       held while one process starts or stops it
    holders.lock      shared by everybody who uses it      server.lock      held by the server's processes themselves
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from outrider.base.errors import Misconfigured, Unavailable
from outrider.data.embedded_postgres.account import Account, account_for, refuse_unreachable
from outrider.data.embedded_postgres.locks import FileLock

LOCK_BOUND_S = 180.0
"""Longest wait for another process that starts or stops the same server; longer than either may take."""

_OURS = frozenset(
    {"cluster", "log", "pgpass", "start.log", "postgresql.conf", "pg_hba.conf", "version"}
    | {"start.lock", "holders.lock", "server.lock"}
)
_NEW = ".new-"
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Home:
    """An existing folder of ours, and the account its files belong to."""

    path: Path
    account: Account

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data directory."""
        return self.path / "cluster"

    @property
    def log_dir(self) -> Path:
        """Where the server keeps its log."""
        return self.path / "log"

    def read(self, name: str, *, most_bytes: int = _MOST_BYTES) -> bytes | None:
        """Read a file of the folder (or of `cluster`), or None when there is none.

        Raises:  Misconfigured when it is a link, no regular file, or somebody else's.
        """
        path = self.path / name
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode) or facts.st_uid not in {0, self.account.uid}:
                raise Misconfigured("database_files", f"{path} is not a file of user {self.account.name}")
            return file.read(most_bytes)

    def write(self, name: str, content: bytes) -> None:
        """Replace a file of the folder as a whole, 0600, on disk before this returns."""
        new = self.path / f"{name}{_NEW}{secrets.token_hex(4)}"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            self._give(fd)
            os.fchmod(fd, 0o600)
            file.write(content)
            file.flush()
            os.fsync(fd)
        new.replace(self.path / name)
        self.sync()

    def sync(self) -> None:
        """Have what was made, renamed or removed in the folder survive a crash."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def staging(self, name: str) -> Path:
        """A name for something to be renamed to `name` once it is whole; leftovers are swept at the next start."""
        return self.path / f"{name}{_NEW}{secrets.token_hex(4)}"

    def sweep(self) -> None:
        """Remove what a killed process left half made; only while start.lock is held."""
        for entry in self.path.iterdir():
            if _NEW in entry.name:
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink(missing_ok=True)

    def lock(self, name: str) -> FileLock:
        """Open one of the lock files; not locked yet."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self.path / name, flags, 0o600)
        self._give(fd)
        return FileLock(fd)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Be the only process that starts, stops or attaches here.

        Raises:  Unavailable when another one keeps at it for longer than LOCK_BOUND_S.
        """
        lock = self.lock("start.lock")
        try:
            if not lock.take(LOCK_BOUND_S):
                raise Unavailable(
                    "database_starting", f"another process has been starting or stopping the database in {self.path}"
                )
            yield
        finally:
            lock.close()

    def _give(self, fd: int) -> None:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
            os.close(fd)
            raise Misconfigured("database_files", f"{self.path} holds links where Outrider keeps its files")
        if self.account.is_dropped_to and facts.st_uid == 0:
            os.fchown(fd, self.account.uid, self.account.gid)


def prepare(data_dir: Path) -> Home:
    """Make the folder when it is absent, and make sure that it is ours alone.

    Gives:   the folder 0700 and its account's; folders above it that had to be made are passable for that account.
    Raises:  Misconfigured when it holds something else, belongs to somebody else or cannot be reached by the account.
    """
    path = data_dir.expanduser().absolute().resolve()
    if any(character < " " for character in str(path)):
        raise Misconfigured("database_files", f"{str(path)!r} has control characters", field="OUTRIDER_DATA_DIR")
    _make(path)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        facts = os.fstat(fd)
        account = account_for(facts, path)
        _refuse_foreign_content(path, os.listdir(fd))  # noqa: PTH208 - Path cannot list an open folder
        refuse_unreachable(path.parent, account)
        if facts.st_uid != account.uid:
            _give_away(fd, account)
        if stat.S_IMODE(facts.st_mode) != 0o700:  # noqa: PLR2004 - the mode is its own name
            os.fchmod(fd, 0o700)
    finally:
        os.close(fd)
    return Home(path, account)


def existing(data_dir: Path) -> Home | None:
    """The folder as it is, or None when there is none; nothing is changed."""
    path = data_dir.expanduser().absolute().resolve()
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return Home(path, account_for(facts, path))


def _give_away(fd: int, account: Account) -> None:
    try:
        os.fchown(fd, account.uid, account.gid)
    except PermissionError:
        raise Misconfigured(
            "database_account",
            f"root may not give files to user {account.name} here (capability CHOWN is missing): "
            "start Outrider as an ordinary user instead",
        ) from None


def _make(path: Path) -> None:
    """Make the folder and those above it. What root makes above it lets others pass, whatever the umask."""
    for folder in (*reversed(path.parents), path):
        try:
            folder.mkdir(mode=0o700 if folder == path else 0o755)
        except FileExistsError:
            continue
        except OSError:
            if folder.is_dir():  # exists, on a file system that says so in its own way (read-only)
                continue
            raise
        if folder != path and os.geteuid() == 0:
            folder.chmod(0o755)


def _refuse_foreign_content(path: Path, names: Iterable[str]) -> None:
    foreign = sorted(name for name in names if name not in _OURS and _NEW not in name and name != "lost+found")
    if "PG_VERSION" in foreign:
        raise Misconfigured(
            "database_files",
            f"{path} is the data directory of a PostgreSQL server of your own: start that one and set "
            "OUTRIDER_DATABASE_URL, or choose another data directory",
            field="OUTRIDER_DATA_DIR",
        )
    if foreign:
        raise Misconfigured(
            "database_files",
            f"{path} is not empty and not Outrider's (it holds {', '.join(foreign[:3])}): choose a folder of its own",
            field="OUTRIDER_DATA_DIR",
        )
