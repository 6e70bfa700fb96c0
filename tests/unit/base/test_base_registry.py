from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from outrider.base import registry
from outrider.base.errors import Misconfigured
from outrider.base.registry import discover


class Plugin:
    def __init__(self, key: str) -> None:
        self.key = key


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable package of plugins; files are added by the test."""
    folder = tmp_path / "made_up_plugins"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("made_up_plugins")]:
        monkeypatch.delitem(sys.modules, name)
    return folder


def add(package: Path, name: str, key: str) -> None:
    text = f"class P:\n    key = {key!r}\nPLUGIN = P()\n"
    (package / f"{name}.py").write_text(text)


def test_plugins_are_found_by_their_file_and_come_in_order(package: Path) -> None:
    add(package, "zeta", "zeta")
    add(package, "alpha", "alpha")
    assert list(discover("made_up_plugins", "PLUGIN")) == ["alpha", "zeta"]


def test_a_package_counts_as_one_plugin(package: Path) -> None:
    (package / "beta").mkdir()
    (package / "beta" / "__init__.py").write_text("class P:\n    key = 'beta'\nPLUGIN = P()\n")
    assert list(discover("made_up_plugins", "PLUGIN")) == ["beta"]


def test_a_key_that_is_not_the_files_name_stops_the_start_and_both_are_named(package: Path) -> None:
    add(package, "alpha", "beta")
    with pytest.raises(Misconfigured, match=r"alpha must define PLUGIN with key 'alpha', it has 'beta'"):
        discover("made_up_plugins", "PLUGIN")


def test_a_file_without_a_plugin_stops_the_start(package: Path) -> None:
    (package / "stray.py").write_text("")
    with pytest.raises(Misconfigured, match="stray must define PLUGIN"):
        discover("made_up_plugins", "PLUGIN")


def test_third_parties_add_plugins_by_entry_point_but_take_no_key_away(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(package, "alpha", "alpha")
    theirs = ModuleType("theirs")
    theirs.PLUGIN = Plugin("gamma")  # type: ignore[attr-defined]  # a module made here has no declared attributes
    theirs.DOUBLE = Plugin("alpha")  # type: ignore[attr-defined]  # as above
    monkeypatch.setitem(sys.modules, "theirs", theirs)
    points = [metadata.EntryPoint("gamma", "theirs:PLUGIN", "made_up_plugins")]
    monkeypatch.setattr(registry, "entry_points", lambda group: [p for p in points if p.group == group])
    assert list(discover("made_up_plugins", "PLUGIN")) == ["alpha", "gamma"]
    points.append(metadata.EntryPoint("alpha", "theirs:DOUBLE", "made_up_plugins"))
    with pytest.raises(Misconfigured, match="the key 'alpha' is taken"):
        discover("made_up_plugins", "PLUGIN")


def test_a_plugin_that_its_contract_refuses_stops_the_start_and_is_named_with_what_to_change(package: Path) -> None:
    add(package, "alpha", "alpha")
    add(package, "beta", "beta")

    def refuse(plugin: Plugin) -> str | None:
        return "change `x`" if plugin.key == "beta" else None

    with pytest.raises(Misconfigured, match=r"^made_up_plugins\.beta: change `x`$") as refused:
        discover("made_up_plugins", "PLUGIN", refuse)
    assert refused.value.code == "plugin_outdated"
