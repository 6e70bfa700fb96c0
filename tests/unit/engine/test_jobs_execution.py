"""What is kept of a run's end: errors without secrets, results as JSON, and whether trying again makes sense."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.base.errors import Broken, Misconfigured, Refused, Unavailable
from outrider.engine.jobs.execution import LARGEST_RESULT_BYTES, encoded
from outrider.engine.jobs.words import redacted, told


@pytest.mark.parametrize(
    ("error", "code", "is_final"),
    [
        (Refused("no_list", "no such list"), "no_list", True),
        (Misconfigured("no_key", "set a key"), "no_key", True),
        (Unavailable("away", "come again"), "away", False),
        (Broken("bug", "it broke"), "bug", False),
        (KeyError("x"), "broken", False),
    ],
)
def test_only_what_somebody_must_mend_is_final(error: Exception, code: str, *, is_final: bool) -> None:
    found, text, final = told(error)
    assert (found, final) == (code, is_final)
    assert text


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter2",
        'body {"api_key": "hunter2"}',
        "Authorization: hunter2",
        "TOKEN = hunter2, and more",
        "postgresql://me:hunter2@host/name",
        "Bearer hunter2hunter2",
        "smtp_password=hunter2",
        "PGPASSWORD=hunter2 psql",
        "client_secret: hunter2",
        "{'password': 'with blanks hunter2'}",
        '{"api-key": "hunter2"}',
    ],
)
def test_what_looks_like_a_secret_is_cut_out_of_errors(text: str) -> None:
    assert "hunter2" not in redacted(f"it failed: {text}")


@pytest.mark.parametrize(
    "text", ["the password is too short", "3 tokens left", "secretary", "compass: north", "secretary: Ann"]
)
def test_prose_about_secrets_is_left_alone(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("result", "text"),
    [(None, None), ({"n": 1}, '{"n":1}'), ([1, "a"], '[1,"a"]'), ({"token": "x"}, '{"token":"[redacted]"}')],
)
def test_a_result_is_kept_as_json_without_secrets(result: Any, text: str | None) -> None:
    assert encoded(result) == (text, None)


@pytest.mark.parametrize("result", [object(), ["x" * 1000] * (LARGEST_RESULT_BYTES // 1000 + 1), "a\x00b"])
def test_what_cannot_be_kept_is_told(result: Any) -> None:
    text, problem = encoded(result)
    assert text is None
    assert problem
