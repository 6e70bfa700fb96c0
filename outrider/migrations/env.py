"""Alembic's environment: runs the migrations as the login role on the connection handed in by `data/migrate.py`.

Owns what is compared when one is generated: every declared table, found by its file (`domain/<noun>/tables.py`).
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from alembic import context
from sqlalchemy import Connection, MetaData

from outrider import domain
from outrider.data.orm import Base


def declared() -> MetaData:
    """The tables of every noun; imported only when they are compared, so that upgrading does not need them."""
    for noun in pkgutil.iter_modules(domain.__path__, f"{domain.__name__}."):
        if noun.ispkg and find_spec(f"{noun.name}.tables"):
            import_module(f"{noun.name}.tables")
    return Base.metadata


def _is_declared(_object: Any, name: str | None, kind: str, _reflected: bool, _compare_to: Any) -> bool:  # noqa: FBT001 - alembic's hook
    """Compare declared tables only: the data plane's are partitioned and made by hand in the migrations."""
    return kind != "table" or name in Base.metadata.tables


def _run(connection: Connection, attributes: dict[str, Any]) -> None:
    context.configure(
        connection=connection,
        target_metadata=declared() if attributes.get("compare") else None,
        include_object=_is_declared,
        transaction_per_migration=True,
        compare_server_default=False,
        on_version_apply=attributes.get("on_version_apply", ()),
    )
    with context.begin_transaction():
        context.run_migrations()


_run(context.config.attributes["connection"], context.config.attributes)
