"""List every setting with its value, where it came from, its default and what it is for; make a secret key."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from cyclopts import App
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from outrider.base.secret import new_key
from outrider.base.settings import Settings
from outrider.data.log import clean
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import JSON, Json
from outrider.interfaces.cli.output import Answer, one_line

APP = App(name="settings", help_epilogue="Example: `outrider settings`")


@APP.default
def settings(*, options: Json = JSON) -> Answer:
    """List the settings in force; values of secrets are never shown."""
    del options
    current = doors().settings()
    in_file = _file_names()
    rows = [
        {
            "name": f"OUTRIDER_{name.upper()}",
            "value": _shown(getattr(current, name)),
            "source": _source(name, in_file),
            "default": _default(field),
            "description": field.description,
        }
        for name, field in Settings.model_fields.items()
    ]
    return Answer(rows, "\n".join(_told(row) for row in rows))


@APP.command(name="new-key", help_epilogue="")
def new_secret_key(*, options: Json = JSON) -> Answer:
    """Print a fresh secret key, for OUTRIDER_SECRET_KEY or a file with mode 0600; nothing is stored.

    Example: `outrider settings new-key`
    """
    del options
    key = new_key()
    return Answer({"secret_key": key}, key)


def _told(row: dict[str, Any]) -> str:
    value, default = (one_line("-" if row[name] is None else row[name]) for name in ("value", "default"))
    return f"{row['name']} = {value}\n  from {row['source']}; default {default}\n  {row['description']}"


def _file_names() -> frozenset[str]:
    path = os.environ.get("OUTRIDER_CONFIG")
    if not path:
        return frozenset()
    return frozenset(tomllib.loads(Path(path).read_text(encoding="utf-8")))


def _source(name: str, in_file: frozenset[str]) -> str:
    if any(each.lower() == f"outrider_{name}" for each in os.environ):
        return "environment"
    return str(os.environ.get("OUTRIDER_CONFIG")) if name in in_file else "default"


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return "[redacted]"
    if isinstance(value, Path):
        return str(value)
    return clean(value)


def _default(field: Any) -> Any:
    if field.default_factory is not None:
        return str(field.default_factory())
    return None if field.default is PydanticUndefined else field.default
