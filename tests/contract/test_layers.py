"""The layers of the architecture are build errors: import-linter's contracts hold, and are still the whole of them."""

from __future__ import annotations

import subprocess
import sys
import tomllib

from tests.kit.statements import ROOT


def test_nothing_imports_upwards_or_sideways() -> None:
    program = "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run(['--no-cache']))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_contract_was_taken_away() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    subjects = {contract["name"].partition(":")[0] for contract in settings["contracts"]}
    assert subjects == {
        "layers", "domain", "engine", "interfaces", "leaf plugins know their contract, not the product",
        "named SQL is loaded by rows modules, upkeep and wiring only", "no rings anywhere",
    }  # fmt: skip
    for contract in settings["contracts"]:
        assert not contract.get("ignore_imports"), f"{contract['name']}: an exception needs a decision of its own"
