"""Discovery of plugins: one file (or package) each, found by its name.

Owns finding and checking keys; never imports the product.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from outrider.base.errors import Misconfigured

Refuse = Callable[[Any], str | None]
"""What of a plugin is not as its contract wants it, and what to change; None: nothing."""


def discover(package: str, attribute: str, refuse: Refuse | None = None) -> dict[str, Any]:
    """Import every module of a package and collect its plugin object, then those of third parties.

    Takes:   package    `outrider.plugins.gates` …; third parties register under the entry point group of that name
             attribute  `GATE`, `PROVIDER`, `CHANNEL` …
             refuse     asked about each plugin: its contract's
    Gives:   key -> plugin, sorted by key.
    Raises:  Misconfigured(plugin_key) when a key is not its file's name or is taken twice, naming both;
             Misconfigured(plugin_outdated) naming the plugin and what to change.
    """
    found: dict[str, Any] = {}
    for name, where, plugin in _candidates(package, attribute):
        key = getattr(plugin, "key", None)
        if key != name:
            raise Misconfigured("plugin_key", f"{where} must define {attribute} with key {name!r}, it has {key!r}")
        if name in found:
            raise Misconfigured("plugin_key", f"{where}: the key {name!r} is taken by another plugin")
        wrong = refuse(plugin) if refuse is not None else None
        if wrong is not None:
            raise Misconfigured("plugin_outdated", f"{where}: {wrong}")
        found[name] = plugin
    return dict(sorted(found.items()))


def _candidates(package: str, attribute: str) -> Iterator[tuple[str, str, Any]]:
    """Name, place and object of each plugin, third parties' last."""
    for module in pkgutil.iter_modules(import_module(package).__path__):
        where = f"{package}.{module.name}"
        yield module.name, where, getattr(import_module(where), attribute, None)
    for point in entry_points(group=package):
        yield point.name, point.value, point.load()
