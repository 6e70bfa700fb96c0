"""Passwords: which are allowed, and hashing with Argon2id in threads, few at a time.

Owns the rules of NIST SP 800-63B (length, no composition rules, no common ones) and the cost of the hash; never stores.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources
from threading import BoundedSemaphore
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from outrider.base.errors import Refused, Unavailable

_T = TypeVar("_T")

SHORTEST = 8
LONGEST = 256
"""Characters after normalisation to NFC; ASVS V6.2.9 asks for at least 64."""

_LONGEST_BYTES = 1024
NO_PASSWORD = "!"  # noqa: S105 - the mark of an account without a password, which no hash equals
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, hash_len=32, salt_len=16, type=Type.ID)
_DUMMY = "$argon2id$v=19$m=19456,t=2,p=1$swfIgn276bArTACAW+pwFg$VM4hyjjf92fdlK7oYI0upPhcriM4RIublV6KnDCamZA"
"""The hash of a random password that nobody knows, at today's cost (a test compares)."""

_AT_ONCE = 2
_MOST_WAITING = 64
_pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="argon2")
_places = BoundedSemaphore(_AT_ONCE + _MOST_WAITING)


def normalise(password: str, *, field: str = "/password") -> str:
    """The form that is hashed: NFC, nothing trimmed, nothing cut.

    Raises:  Refused(invalid_password) for NUL, lone surrogates and more than 256 characters, before any hashing.
    """
    if len(password) > LONGEST * 4:
        raise Refused("invalid_password", f"must have at most {LONGEST} characters", field=field)
    normal = unicodedata.normalize("NFC", password)
    if "\0" in normal or any("\ud800" <= character <= "\udfff" for character in normal):
        raise Refused("invalid_password", "must not contain NUL or broken characters", field=field)
    if len(normal) > LONGEST or len(normal.encode()) > _LONGEST_BYTES:
        raise Refused("invalid_password", f"must have at most {LONGEST} characters", field=field)
    return normal


def check_new(password: str, *, about: tuple[str, ...] = (), field: str = "/password") -> str:
    """A password somebody wants to have, normalised.

    Takes:   about: words of the account (address, name, tenant) that must not be the password.
    Raises:  Refused(invalid_password, password_too_short, password_too_common).
    Source:  security.md 46; ASVS V6.2
    """
    normal = normalise(password, field=field)
    if len(normal) < SHORTEST:
        raise Refused("password_too_short", f"must have at least {SHORTEST} characters", field=field)
    folded = normal.casefold()
    own = {word.casefold() for text in about for word in (text, text.partition("@")[0]) if word}
    if folded in _common() or folded in own or len(set(folded)) == 1:
        raise Refused("password_too_common", "is among the first that anybody would try; take another", field=field)
    return normal


async def hashed(password: str) -> str:
    """Argon2id hash of a normalised password. Raises Unavailable(sign_in_busy) when too many are waiting."""
    return await _run(_HASHER.hash, password)


async def matches(password_hash: str, password: str) -> bool:
    """Whether a password is the one; '' for an account that does not exist takes the same time and is False."""
    known = password_hash not in {"", NO_PASSWORD}
    found = await _run(_verify, password_hash if known else _DUMMY, password)
    return found and known


def is_outdated(password_hash: str) -> bool:
    """Whether a hash was made at another cost than today's and should be made anew at the next sign-in."""
    return _HASHER.check_needs_rehash(password_hash)


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


async def _run(work: Callable[..., _T], *arguments: str) -> _T:
    """Run in a thread; what cannot run soon is refused, so that a flood of sign-ins stays bounded in memory."""
    if not _places.acquire(blocking=False):
        raise Unavailable("sign_in_busy", "too many people are signing in at this moment; try again", retry_after_s=2)
    try:
        return await asyncio.get_running_loop().run_in_executor(_pool, work, *arguments)
    finally:
        _places.release()


@cache
def _common() -> frozenset[str]:
    text = resources.files(__package__).joinpath("common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line.strip().casefold() for line in text.splitlines() if line and not line.startswith("#"))
