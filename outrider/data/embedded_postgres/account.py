"""Whose processes the embedded server's are: the caller's own, or an unprivileged account's when the caller is root.

Owns the choice and the check that this account can reach a folder; never changes a folder's mode or owner.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from outrider.base.errors import Misconfigured

ACCOUNTS = ("outrider", "postgres", "nobody")
"""Tried in this order by root; a data directory that already belongs to somebody decides for itself."""


class Identity(TypedDict, total=False):
    """The keywords of `subprocess` that drop privileges; empty for an ordinary user."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group the server runs as."""

    uid: int
    gid: int
    is_dropped_to: bool
    """The caller is root and becomes this account for everything PostgreSQL does."""

    @property
    def identity(self) -> Identity:
        """How `subprocess` becomes this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_dropped_to else {}

    @property
    def name(self) -> str:
        """The account's name, or its number where it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    @property
    def has_name(self) -> bool:
        """Whether the account is in the user database; PostgreSQL's initdb insists on it."""
        return self.name != str(self.uid)


def account_for(owner: os.stat_result, path: Path) -> Account:
    """Choose the account for a data directory by who owns it.

    Raises:  Misconfigured when it belongs to another ordinary user, or when root finds no account to drop to.
    """
    caller = os.geteuid()
    if caller != 0:
        if owner.st_uid != caller:
            raise Misconfigured(
                "database_files",
                f"{path} belongs to user {owner.st_uid}, this process runs as {caller}: run it as that user or as root",
                field="OUTRIDER_DATA_DIR",
            )
        return Account(caller, os.getegid(), is_dropped_to=False)
    if owner.st_uid != 0:
        try:
            return Account(owner.st_uid, pwd.getpwuid(owner.st_uid).pw_gid, is_dropped_to=True)
        except KeyError:
            return Account(owner.st_uid, owner.st_gid, is_dropped_to=True)
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_uid, entry.pw_gid, is_dropped_to=True)
    raise Misconfigured(
        "database_account",
        "PostgreSQL does not run as root and none of the users outrider, postgres, nobody exists: "
        "add one (useradd --system outrider) or set OUTRIDER_DATABASE_URL",
    )


def obstacle(path: Path, account: Account) -> Path | None:
    """Find the first folder on the way to `path`, itself included, that keeps the account out; None when none does.

    Only modes are read; a folder with an access control list is given the benefit of the doubt.
    """
    for folder in (*reversed(path.parents), path):
        try:
            facts = folder.stat()
        except FileNotFoundError:
            return None
        if not _may_pass(facts, account) and not _has_acl(folder):
            return folder
    return None


def refuse_unreachable(path: Path, account: Account) -> None:
    """Refuse a data directory that the account could not reach.

    Raises:  Misconfigured naming the folder in the way and what to do; nothing is changed.
    """
    folder = obstacle(path, account) if account.is_dropped_to else None
    if folder is not None:
        raise Misconfigured(
            "database_unreachable",
            f"the database runs as user {account.name}, which may not pass {folder}: use a data directory outside it "
            f"(as root: /var/lib/outrider), or allow passing with: chmod o+x {folder}",
            field="OUTRIDER_DATA_DIR",
            folder=str(folder),
        )


def _may_pass(facts: os.stat_result, account: Account) -> bool:
    if facts.st_uid == account.uid:
        return bool(facts.st_mode & stat.S_IXUSR)
    if facts.st_gid == account.gid:
        return bool(facts.st_mode & stat.S_IXGRP)
    return bool(facts.st_mode & stat.S_IXOTH)


def _has_acl(folder: Path) -> bool:
    try:
        return bool(os.getxattr(folder, "system.posix_acl_access"))
    except OSError:
        return False
