"""What a provider written for an earlier release is told when it is loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import metadata
from types import ModuleType
from typing import Any

import pytest

from outrider.base import registry
from outrider.base.errors import Misconfigured
from outrider.contracts.provider import outdated
from outrider.interfaces.cli.commands.plugins import plugins


class Old:
    """As providers said until an account was known by what signs in."""

    key, channel, help, fields = "old", "email", "an old one", ()
    account = ("host", "username")


class New(Old):
    """As they say now."""

    def account(self, settings: Mapping[str, Any], secrets: Mapping[str, str]) -> tuple[str, ...]:  # type: ignore[override]  # that is the change
        """Host and password."""
        return (settings["host"], secrets["password"])


class Silent:
    """One that says nothing of accounts."""

    key = "silent"


def test_a_provider_that_names_fields_is_told_to_give_what_names_the_account() -> None:
    assert "def account(self, settings, secrets)" in (outdated(Old()) or "")
    assert outdated(New()) is None
    assert outdated(Silent()) is None


def test_an_outdated_provider_is_refused_when_plugins_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = ModuleType("theirs")
    theirs.PROVIDER = Old()  # type: ignore[attr-defined]  # a module made here has no declared attributes
    monkeypatch.setitem(sys.modules, "theirs", theirs)
    points = [metadata.EntryPoint("old", "theirs:PROVIDER", "outrider.plugins.providers")]
    monkeypatch.setattr(registry, "entry_points", lambda group: [p for p in points if p.group == group])
    with pytest.raises(Misconfigured, match=r"theirs:PROVIDER: `account`"):
        plugins()
    theirs.PROVIDER = New()  # type: ignore[attr-defined]  # as above
    assert "old" in str(plugins())
