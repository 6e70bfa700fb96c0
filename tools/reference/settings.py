"""docs/reference/settings.md: every setting of a process, from `outrider.base.settings`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from outrider.base.settings import Settings
from tools.reference.markdown import page, table

_INTRODUCTION = """
Each is an environment variable or a key in the TOML file named by `OUTRIDER_CONFIG` (there without the prefix and in
small letters: `database_url = "…"`). The environment wins. A name that is not in this list, or a value outside its
bounds, stops the start with a line that names it; `outrider settings` shows what holds now and where each value comes
from, secrets excepted.
"""


def render() -> str:
    """The page."""
    parts = []
    for title, names in _groups():
        rows = [_row(name, Settings.model_fields[name]) for name in names]
        parts.append(
            f"## {title[0].upper()}{title[1:]}\n\n" + table(("setting", "default", "may be", "what it does"), rows)
        )
    return page("Settings", _INTRODUCTION, *parts)


def _groups() -> list[tuple[str, list[str]]]:
    """The fields under the comment that stands above them in the class."""
    groups: list[tuple[str, list[str]]] = []
    for line in inspect.getsource(Settings).splitlines():
        if heading := re.fullmatch(r"    # (?P<title>[a-z][a-z -]+)", line):
            groups.append((heading["title"], []))
        elif (declared := re.match(r"    (?P<name>[a-z_]+): ", line)) and declared["name"] in Settings.model_fields:
            groups[-1][1].append(declared["name"])
    if {name for _, names in groups for name in names} != set(Settings.model_fields):
        raise AssertionError("a setting stands outside the groups of the class")
    return groups


def _row(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    return f"`OUTRIDER_{name.upper()}`", _default(field), _bounds(field), field.description or ""


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "`/var/lib/outrider` for root, else `~/.local/share/outrider`"
    if field.default is None:
        return "unset"
    if isinstance(field.default, (list, tuple)):
        return ", ".join(f"`{value}`" for value in field.default) or "none"
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


def _bounds(field: FieldInfo) -> str:
    least, most, pattern = None, None, None
    for rule in field.metadata:
        least = getattr(rule, "ge", least)
        most = getattr(rule, "le", most)
        pattern = getattr(rule, "pattern", pattern)
    if least is not None or most is not None:
        return f"{least:,} to {most:,}"
    if pattern:
        return f"`{pattern}`"
    return _kind(field.annotation)


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    named = {bool: "`true`, `false`", str: "text", SecretStr: "secret text", Path: "a path", list[str]: "a JSON list"}
    for one in (annotation, *get_args(annotation)):
        if one in named:
            return named[one]
    raise AssertionError(f"tools/reference/settings.py has no word for {annotation}")
