"""Counting wrong passwords per address, whether it exists or not, so that a lock tells nobody which addresses do."""

from __future__ import annotations

import hashlib

from outrider.base.errors import Refused
from outrider.data.db import UnitOfWork
from outrider.domain.tenants.rows import SQL


def email_hash(email: str) -> bytes:
    """What an address is counted under. Takes it as `users.normalise_email` gives it."""
    return hashlib.sha256(b"login " + email.encode()).digest()


async def begin(uow: UnitOfWork, email: str, *, most: int, lock_s: int) -> int:
    """Count an attempt before its password is looked at (engine role); the count must be committed first.

    Takes:   most  wrong passwords before the lock; lock_s  how long that lasts, and how long attempts are remembered.
    Gives:   0 when the password may be looked at, else for how many seconds the address is locked.
    """
    await SQL.attempts_prune.run(uow.raw)
    row = await SQL.attempt_begin.one(uow.raw, email_hash(email), most, float(lock_s))
    assert row is not None  # noqa: S101 - the statement returns the row it wrote
    return int(row["left_s"]) if row["failed_count"] > most else 0


async def forgive(uow: UnitOfWork, email: str, *, right_count: int) -> None:
    """The password was right, or was set anew: start counting anew (engine role).

    Takes:   right_count  attempts of `begin` that turned out to be right: of an address that users of several tenants
             have only these are taken back, else knowing one's password would give guesses at the other's.
    """
    await SQL.attempt_forgive.run(uow.raw, email_hash(email), email, right_count)


async def forget(uow: UnitOfWork, email: str) -> None:
    """Start counting anew whoever has the address (engine role): for administrators of the installation."""
    await SQL.attempt_forget.run(uow.raw, email_hash(email))


def refused(left_s: int) -> Refused:
    """What everybody is told while an address is locked."""
    return Refused(
        "too_many_attempts",
        "too many wrong passwords for this address; wait, or ask an administrator to unlock it",
        status=429,
        retry_after_s=left_s,
    )
