"""List the channels, providers, gates and job types of this installation with their settings."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from cyclopts import App

from outrider.base.fields import Field
from outrider.base.registry import Refuse, discover
from outrider.contracts.provider import outdated
from outrider.interfaces.cli.options import JSON, Json
from outrider.interfaces.cli.output import Answer

APP = App(name="plugins", help_epilogue="Example: `outrider plugins`")

_KINDS: Final[dict[str, tuple[str, Refuse | None]]] = {
    "channels": ("CHANNEL", None),
    "providers": ("PROVIDER", outdated),
    "gates": ("GATE", None),
    "jobs": ("JOB", None),
}


@APP.default
def plugins(*, options: Json = JSON) -> Answer:
    """List them; third parties' are among them."""
    del options
    found = {
        kind: [_described(plugin) for plugin in discover(f"outrider.plugins.{kind}", *how).values()]
        for kind, how in _KINDS.items()
    }
    found["gates"].sort(key=lambda gate: (gate["order"], gate["key"]))
    lines: list[str] = []
    for kind, each in found.items():
        lines.append(f"{kind}:" + ("" if each else " none"))
        for plugin in each:
            lines.append(f"  {plugin['key']}  {plugin['help']}")
            lines.extend(f"    {_field(field)}" for field in plugin["fields"])
    return Answer(found, "\n".join(lines))


def _described(plugin: Any) -> dict[str, Any]:
    about = {"key": plugin.key, "help": getattr(plugin, "help", None) or getattr(plugin, "title", "")}
    facts = ("channel", "order", "queue", "is_installation")
    about |= {name: getattr(plugin, name) for name in facts if hasattr(plugin, name)}
    return about | {"fields": [_plain(field) for field in getattr(plugin, "fields", ())]}


def _plain(field: Field) -> dict[str, Any]:
    """A setting as data, without what only a program can call."""
    return {each.name: getattr(field, each.name) for each in fields(field) if each.name != "refuses"}


def _field(field: dict[str, Any]) -> str:
    default = "required" if field["is_required"] else f"default {field['default']}"
    return f"{field['name']} ({field['kind']}, {default}): {field['help']}"
