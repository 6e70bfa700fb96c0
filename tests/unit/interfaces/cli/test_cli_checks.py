"""What doctor says of what it could not open, and of what does not concern it."""

from __future__ import annotations

import sys

import pytest

from outrider.base.errors import Misconfigured, Unavailable
from outrider.interfaces.cli import checks


@pytest.mark.parametrize("version", [(3, 11, 2, "final", 0), (3, 12, 4, "final", 0)])
def test_a_python_whose_fault_we_do_not_use_is_no_reason_to_warn(
    version: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    (found,) = checks.interpreter()
    assert (found.verdict, found.remedy) == ("ok", "")
    assert ("email package" in found.detail) == (version < (3, 11, 10))


def test_no_database_yet_is_told_with_the_two_ways_to_one() -> None:
    found = checks.unusable("database", Misconfigured("no_database", "there is no database yet: start with …"))
    assert found.verdict == "fail"
    assert "outrider up" in found.remedy
    assert "OUTRIDER_DATABASE_URL" in found.remedy
    assert "outrider up" not in found.detail


def test_what_says_itself_what_to_do_is_not_told_twice() -> None:
    found = checks.unusable("database", Unavailable("database_unavailable", "not reachable; try again"))
    assert (found.detail, found.remedy) == ("not reachable; try again", "")
