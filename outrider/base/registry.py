"""Discovery of plugins: one file (or package) each, found by its name.

Owns finding and checking keys; never imports the product.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from outrider.base.errors import Misconfigured


def discover(package: str, attribute: str) -> dict[str, Any]:
    """Import every module of a package and collect its plugin object, then those of third parties.

    Takes:   package    `outrider.plugins.gates` …; third parties register under the entry point group of that name
             attribute  `GATE`, `PROVIDER`, `CHANNEL` …
    Gives:   key -> plugin, sorted by key.
    Raises:  Misconfigured(plugin_key) when a key is not its file's name or is taken twice, naming both.
    """
    found: dict[str, Any] = {}
    home = import_module(package)
    for module in pkgutil.iter_modules(home.__path__):
        plugin = getattr(import_module(f"{package}.{module.name}"), attribute, None)
        _take(found, plugin, module.name, f"{package}.{module.name}", attribute)
    for point in entry_points(group=package):
        _take(found, point.load(), point.name, point.value, attribute)
    return dict(sorted(found.items()))


def _take(found: dict[str, Any], plugin: Any, name: str, where: str, attribute: str) -> None:
    key = getattr(plugin, "key", None)
    if key != name:
        raise Misconfigured("plugin_key", f"{where} must define {attribute} with key {name!r}, it has {key!r}")
    if name in found:
        raise Misconfigured("plugin_key", f"{where}: the key {name!r} is taken by another plugin")
    found[name] = plugin
