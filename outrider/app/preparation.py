"""What must be done before a family of processes starts on a database: its schema, and the key it is sealed with."""

from __future__ import annotations

import asyncio

from outrider.app import wiring
from outrider.app.key import recorded_key
from outrider.app.set_up import Done
from outrider.base.settings import Settings
from outrider.data import migrate, revision
from outrider.data.db import Database, Role
from outrider.domain.tenants import users


def prepare(url: str | None) -> Done:
    """Migrate the database and make or check the key.

    Takes:   the embedded database's URL, or None for the one of the settings.
    Raises:  what migrating and the key raise; repeating is safe.
    """
    return asyncio.run(_prepare(wiring.settings(), url))


async def _prepare(settings: Settings, url: str | None) -> Done:
    given = url if settings.database_url is None else wiring.checked_url(settings.database_url)
    assert given is not None  # noqa: S101 - the parent names the embedded one
    direct = wiring.checked_url(settings.direct_database_url) if settings.direct_database_url else given
    applied = await migrate.upgrade(direct)
    db = Database(given, pool_size=2, name="outrider up")
    try:
        with revision.rights_are_named():
            await recorded_key(db, settings, may_create=True)
            async with db.uow(Role.ENGINE) as uow:
                is_new = not await users.count(uow)
    finally:
        await db.close()
    return Done(applied, is_new)
