from __future__ import annotations

import pytest

from outrider.base.errors import Broken, Misconfigured, OutriderError, Refused, RefusedMany, Unavailable


def test_an_error_shows_its_field_before_its_message() -> None:
    assert str(Refused("too_long", "has at most 5 characters", field="/name")) == "/name: has at most 5 characters"
    assert str(Broken("gap", "a row is missing")) == "a row is missing"


def test_an_error_keeps_named_facts_beside_its_code() -> None:
    error = Misconfigured("bad", "mend it", field="OUTRIDER_X", settings={"a": 1})
    assert (error.code, error.field, error.data) == ("bad", "OUTRIDER_X", {"settings": {"a": 1}})


@pytest.mark.parametrize(
    ("error", "status", "exit_code"),
    [
        (Refused("a", "b"), 422, 2),
        (Unavailable("a", "b"), 503, 69),
        (Misconfigured("a", "b"), 503, 78),
        (Broken("a", "b"), 500, 70),
    ],
)
def test_who_must_act_decides_status_and_exit_code(error: OutriderError, status: int, exit_code: int) -> None:
    assert (error.status, error.exit_code) == (status, exit_code)
    assert isinstance(error, OutriderError)


@pytest.mark.parametrize(("status", "exit_status"), [(401, 77), (403, 77), (404, 4), (409, 75), (400, 2), (422, 2)])
def test_a_refusal_carries_the_status_of_its_reason_to_the_command_line(status: int, exit_status: int) -> None:
    refused = Refused("a", "b", status=status)
    assert (refused.http_status, refused.exit_status) == (status, exit_status)


def test_unavailable_says_when_to_come_again() -> None:
    assert Unavailable("a", "b").retry_after_s == 2
    assert Unavailable("a", "b", retry_after_s=30).retry_after_s == 30


def test_many_refusals_speak_with_the_voice_of_the_first_and_keep_all() -> None:
    first, second = Refused("a", "one", field="/x", status=409), Refused("b", "two", field="/y")
    many = RefusedMany([first, second])
    assert (many.code, many.message, many.field, many.http_status) == ("a", "one", "/x", 409)
    assert many.errors == [first, second]
