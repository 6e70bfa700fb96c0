"""The installation's secret key at rest: from the environment or from a file that only its owner can read.

Owns reading, making and comparing the key with what the database was sealed with; never prints or replaces one.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

from outrider.base.errors import Misconfigured
from outrider.base.ids import NIL
from outrider.base.secret import Keyring, new_key
from outrider.base.settings import Settings

_MOST_BYTES = 4096
_PURPOSE = "key-check"
_PLAIN = "outrider"


def load(settings: Settings) -> Keyring | None:
    """Read the secret key.

    Gives:   the key of the environment, else of the file, else None when there is neither.
    Raises:  Misconfigured when others can read the file (naming the chmod command), it cannot be read or holds no key.
    """
    if settings.secret_key is not None:
        return Keyring(settings.secret_key.get_secret_value())
    text = _read(settings.key_path)
    return None if text is None else Keyring(text)


def create(settings: Settings) -> Keyring:
    """Make the key file of a first start, 0600 whatever the umask, or take the one another process just made.

    Gives:   the key that is in the file now; the file appears whole or not at all.
    Raises:  Misconfigured when it cannot be written.
    """
    path = settings.key_path
    try:
        make_private_folder(path.parent)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, 0o600)
                file.write(new_key().encode() + b"\n")
                file.flush()
                os.fsync(fd)
            os.link(draft, path)  # unlike a rename it never replaces a key that is already there
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        _sync(path.parent)
    except OSError as error:
        raise Misconfigured("secret_key_file", f"{path} cannot be written: {error.strerror}") from error
    made = load(settings)
    if made is None:
        raise Misconfigured("secret_key_file", f"{path} disappeared while it was being made")
    return made


def make_private_folder(folder: Path) -> None:
    """Make a data folder: private, but passable where root shares it with the account of the embedded database."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        each.chmod(0o755 if os.geteuid() == 0 else 0o700)


def check_of(keyring: Keyring) -> str:
    """What is stored beside the key's id, so that a key with the same id but other bytes is found too."""
    return keyring.seal(_PLAIN, tenant_id=NIL, purpose=_PURPOSE)


def verify(keyring: Keyring | None, key_id: str | None, key_check: str | None) -> None:
    """Compare the key at hand with the one the database was sealed with.

    Takes:   key_id, key_check as stored; None: nothing was sealed yet.
    Raises:  Misconfigured(secret_key_missing) or Misconfigured(secret_key_wrong), naming both ids.
    Source:  faults.md F101
    """
    if keyring is None:
        known = f"this database was sealed with key {key_id}; " if key_id else ""
        raise Misconfigured(
            "secret_key_missing",
            f"{known}no secret key is given: set OUTRIDER_SECRET_KEY or OUTRIDER_SECRET_KEY_FILE"
            + ("" if key_id else ", make one with `outrider settings new-key`"),
        )
    if key_id is None or key_check is None:
        return
    if key_id != keyring.key_id:
        raise Misconfigured(
            "secret_key_wrong",
            f"this database was sealed with key {key_id}, but the secret key given is {keyring.key_id}; "
            f"give key {key_id} (OUTRIDER_SECRET_KEY or OUTRIDER_SECRET_KEY_FILE)",
        )
    keyring.unseal(key_check, tenant_id=NIL, purpose=_PURPOSE)


def _read(path: Path) -> str | None:
    """The text of the key file, or None when there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        hint = f"; this process runs as user {os.geteuid()}" if error.errno == errno.EACCES else ""
        raise Misconfigured("secret_key_file", f"{path} cannot be read: {error.strerror}{hint}") from error
    with os.fdopen(fd, "rb") as file:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise Misconfigured("secret_key_file", f"{path} is not a regular file")
        if facts.st_mode & 0o077:
            raise Misconfigured(
                "secret_key_file",
                f"{path} can be read or changed by others (mode {stat.S_IMODE(facts.st_mode):04o}); "
                f"run: chmod 600 {path}",
            )
        return file.read(_MOST_BYTES).decode("ascii", "replace")


def _sync(folder: Path) -> None:
    """Have the new name survive a crash."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
