"""Alembic's environment: runs the migrations as the login role on one asyncpg connection, with short locks."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection

from outrider.data.orm import Base
from outrider.domain.audit import tables as _audit  # noqa: F401 - registers its tables
from outrider.domain.campaigns import tables as _campaigns  # noqa: F401
from outrider.domain.contacts import tables as _contacts  # noqa: F401
from outrider.domain.limits import tables as _limits  # noqa: F401
from outrider.domain.senders import tables as _senders  # noqa: F401
from outrider.domain.templates import tables as _templates  # noqa: F401
from outrider.domain.tenants import tables as _tenants  # noqa: F401


def _is_declared(_object: Any, name: str | None, kind: str, _reflected: bool, _compare_to: Any) -> bool:  # noqa: FBT001 - alembic's hook
    """Compare declared tables only: the data plane's are partitioned and made by hand in the migrations."""
    return kind != "table" or name in Base.metadata.tables


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=_is_declared,
        transaction_per_migration=True,
        compare_server_default=False,
    )
    with context.begin_transaction():
        context.run_migrations()


_run(context.config.attributes["connection"])
