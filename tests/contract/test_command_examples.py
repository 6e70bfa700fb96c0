"""Every command's --help ends in how it is used: an example that stands there as it would be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from outrider.app import commands as processes
from outrider.interfaces.cli import commands, shell
from tests.kit.statements import ROOT

PAGE = Path(ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
EVERY = sorted(
    name
    for name, usage in re.findall(r"^#{2,3} outrider ([a-z -]+)\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    if f"\noutrider {name}" in usage  # else a group: what it holds is looked at
)
APP = shell.build([commands.__name__, processes.__name__])


def test_every_command_is_looked_at() -> None:
    assert len(EVERY) > 200
    assert {"up", "contacts create", "quota", "quota set"} <= set(EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_the_help_of_a_command_has_an_example_that_can_be_typed(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert shell.run([*name.split(), "--help"], APP) == 0
    shown = " ".join(capsys.readouterr().out.split())
    (example,) = re.findall(r"Example: `outrider ([^`]*)`", shown)
    assert f"{example} ".startswith(f"{name} ")
    command, _bound, _ignored = APP.parse_args(shlex.split(example), print_error=False, exit_on_error=False)
    assert callable(command)
