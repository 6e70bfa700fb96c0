"""What people are told who left something out or typed it wrong."""

from __future__ import annotations

import pytest

from outrider import app


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("messages send", "outrider messages send: TO is missing"),
        ("key create", "outrider key create: NAME is missing"),
        ("uncertain mark", "outrider uncertain mark: STATE is missing"),
        ("sender create news", "outrider sender create: --connection is missing"),
        ("messages send --to", "outrider messages send: --to requires an argument"),
        ("messages send a@example.org --text", "outrider messages send: --text requires an argument"),
        ("up --workers 0", 'Invalid value "0" for --workers: must be from 1 to 64'),
        ("tenant list --limit x", "Invalid value for --limit: must be a whole number in plain digits"),
    ],
)
def test_a_wrong_command_line_is_answered_with_what_the_person_left_out(
    arguments: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(arguments.split()) == 2
    assert capsys.readouterr().err == f"error: {told}\n"
