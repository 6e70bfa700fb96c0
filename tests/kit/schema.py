"""The declared tables of the control plane, for comparing them with the migrated schema.

API
    declared() -> MetaData     every table of domain/<noun>/tables.py, imported
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from sqlalchemy import MetaData

from outrider import domain
from outrider.data.orm import Base


@cache
def declared() -> MetaData:
    """Import every noun's tables and give what they declared."""
    for noun in pkgutil.iter_modules(domain.__path__, f"{domain.__name__}."):
        if noun.ispkg and find_spec(f"{noun.name}.tables"):
            import_module(f"{noun.name}.tables")
    return Base.metadata
