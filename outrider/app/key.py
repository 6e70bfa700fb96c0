"""The installation's secret key at the start of a process: compared with the database, recorded at the first start."""

from __future__ import annotations

from outrider.base.errors import Broken
from outrider.base.secret import Keyring
from outrider.base.settings import Settings
from outrider.data import secret_file
from outrider.data.db import Database, Role
from outrider.data.sql import load

SQL = load(__package__)


async def recorded_key(db: Database, settings: Settings, *, may_create: bool = False) -> Keyring:
    """The key of this process, proved to be the one the database was sealed with.

    Takes:   may_create: make the key file when there is no key and the database was never sealed (`up`, `demo`).
    Gives:   the key; its id and a check text are in the database from now on.
    Raises:  Misconfigured(secret_key_missing, secret_key_wrong) naming both ids; what reading the file raises.
    Source:  faults.md F101
    """
    async with db.uow(Role.ENGINE) as uow:
        row = await SQL.key_read.one(uow.raw)
        key_id, key_check = (row["key_id"], row["key_check"]) if row else (None, None)
        keyring = secret_file.load(settings)
        if keyring is None and key_id is None and may_create:
            keyring = secret_file.create(settings)
        secret_file.verify(keyring, key_id, key_check)
        if keyring is None:
            raise Broken("secret_key_missing", "a missing key was not refused")
        if key_id is None:
            row = await SQL.key_record.one(uow.raw, keyring.key_id, secret_file.check_of(keyring))
            if row is not None:  # another process may have been first, with another key
                secret_file.verify(keyring, row["key_id"], row["key_check"])
        return keyring
