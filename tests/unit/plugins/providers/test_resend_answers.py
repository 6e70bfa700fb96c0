"""What Resend's answers mean: only a plain yes is a yes, and what is not known is neither."""

from __future__ import annotations

import json

import pytest

from outrider.base.errors import Refused
from outrider.contracts.outcome import CAUSES, Accepted, Deferred, Outcome, Rejected, Uncertain
from outrider.data.http_out import Reply
from outrider.plugins.providers.resend.answers import Read, Refusal, Told, Unsure, read
from outrider.plugins.providers.resend.settings import account_of

ONE, TWO = "56761188-7520-42d8-8898-ff6fc54ce618", "4ef9a417-02e9-4d39-ad75-9611e0fcc33c"


def told(status: int, body: object = None, count: int = 1, **headers: str) -> Read:
    text = body if isinstance(body, str) else json.dumps(body)
    given = {name.replace("_", "-"): value for name, value in ({"content_type": "application/json"} | headers).items()}
    return read(Reply(status, given, text.encode()), count)


def error(name: str, message: str = "x") -> dict[str, object]:
    return {"statusCode": 0, "name": name, "message": message}


def test_an_email_with_an_id_is_accepted() -> None:
    assert told(200, {"id": ONE}) == Told([Accepted(ONE)])


def test_each_of_a_batch_has_its_own_end() -> None:
    said = {"data": [{"id": ONE}, {"id": TWO}], "errors": [{"index": 1, "message": "Invalid `to` field"}]}
    refused = Rejected("request_refused", "HTTP 200 validation_error: Invalid `to` field")
    assert told(200, said, 3) == Told([Accepted(ONE), refused, Accepted(TWO)])


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("", 1), ("<html>OK</html>", 1), ('{"id": "56761188-75', 1), ("[]", 1), ({"id": None}, 1), ({"id": "x y"}, 1),
        ({}, 1), ({"data": [{"id": ONE}]}, 1), ({"id": ONE}, 2), ({"data": [{"id": ONE}]}, 2),
        ({"data": [{"id": ONE}, {}]}, 2), ({"data": [{"id": ONE}, None]}, 2), ({"data": [], "errors": []}, 2),
        ({"data": [{"id": ONE}], "errors": [{"index": 2}]}, 2),
        ({"data": [{"id": ONE}], "errors": [{"index": "0"}]}, 2),
        ({"data": [], "errors": [{"index": 0}, {"index": 0}]}, 2), ({"data": {"0": 1}}, 2), ("null", 2),
    ],
)  # fmt: skip
def test_a_success_that_does_not_name_every_email_is_no_answer(body: object, count: int) -> None:
    assert isinstance(told(200, body, count), Unsure)


@pytest.mark.parametrize("media_type", ["text/html", "", "application/json-seq", "text/plain; charset=utf-8"])
def test_a_success_of_another_type_is_nobody_s_answer(media_type: str) -> None:
    assert isinstance(told(200, {"id": ONE}, content_type=media_type), Unsure)
    assert told(200, {"id": ONE}, content_type="Application/JSON; charset=utf-8") == Told([Accepted(ONE)])


@pytest.mark.parametrize(
    ("status", "name", "kind", "cause", "at_fault"),
    [
        (400, "validation_error", Rejected, "request_refused", True),
        (422, "missing_required_field", Rejected, "request_refused", True),
        (422, "invalid_attachment", Rejected, "request_refused", True),
        (422, "invalid_from_address", Rejected, "sender_not_usable", True),
        (413, None, Rejected, "too_large", True),
        (403, "validation_error", Rejected, "domain_not_verified", False),
        (451, "security_error", Rejected, "message_rejected", False),
        (401, "missing_api_key", Deferred, "authentication_failed", False),
        (401, "restricted_api_key", Deferred, "authentication_failed", False),
        (403, "invalid_api_key", Deferred, "authentication_failed", False),
        (403, "suspended_api_key", Deferred, "account_suspended", False),
        (404, None, Deferred, "sender_unusable", False),
        (405, "method_not_allowed", Deferred, "sender_unusable", False),
        (429, "rate_limit_exceeded", Deferred, "rate_limited", False),
        (429, "daily_quota_exceeded", Deferred, "daily_quota", False),
        (429, "monthly_quota_exceeded", Deferred, "daily_quota", False),
        (429, None, Deferred, "rate_limited", False),
        (503, "service_unavailable", Deferred, "provider_down", False),
        (418, "teapot", Rejected, "request_refused", False),
    ],
)
def test_a_refusal_has_a_cause_and_may_be_repeated_only_when_it_says_nothing_of_the_message(
    status: int, name: str | None, kind: type[Outcome], cause: str, *, at_fault: bool
) -> None:
    found = told(status, "gateway" if name is None else error(name), 2)
    assert isinstance(found, Refusal)
    assert isinstance(found.outcome, (Deferred, Rejected))
    assert (type(found.outcome), found.outcome.cause, found.is_at_fault) == (kind, cause, at_fault)
    assert cause in CAUSES


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520])
def test_after_a_fault_of_the_server_nobody_knows(status: int) -> None:
    assert isinstance(told(status, error("application_error")), Unsure)
    assert isinstance(told(status, ""), Unsure)
    assert isinstance(told(status, "<html>bad gateway</html>"), Unsure)


@pytest.mark.parametrize("status", [301, 307, 400, 403, 407, 408, 422, 451])
def test_a_refusal_that_is_not_named_says_nothing_of_a_message(status: int) -> None:
    assert isinstance(told(status, "<html>blocked</html>"), Unsure), "a proxy or a firewall must not fail a campaign"


def test_a_key_under_way_is_asked_about_later_and_one_of_another_request_is_never_sent_again() -> None:
    assert told(409, error("concurrent_idempotent_requests"), retry_after="7") == Unsure(
        "HTTP 409 concurrent_idempotent_requests: x", 7.0
    )
    found = told(409, error("invalid_idempotent_request"))
    assert isinstance(found, Refusal)
    assert found.outcome == Uncertain("idempotency_conflict", "HTTP 409 invalid_idempotent_request: x", is_keyed=True)


def test_what_it_says_is_made_printable_and_a_refused_sign_in_is_not_quoted() -> None:
    found = told(422, error("validation_error", "a\r\nb\x00\u202e" + "x" * 1000))
    assert isinstance(found, Refusal)
    assert isinstance(found.outcome, Rejected)
    assert found.outcome.detail.isprintable()
    assert len(found.outcome.detail) <= 240
    refused = told(403, error("invalid_api_key", "not hunter2"))
    assert "hunter2" not in repr(refused)


@pytest.mark.parametrize(
    ("settings", "secrets", "field"),
    [
        ({}, {}, "api_key"),
        ({}, {"api_key": "re_\u00e9"}, "api_key"),
        ({}, {"api_key": "re_x", "webhook_secret": "whsec_!"}, "webhook_secret"),
        ({}, {"api_key": "re_x", "previous_webhook_secret": "whsec_"}, "previous_webhook_secret"),
        ({"base_url": "http://api.resend.example"}, {"api_key": "re_x"}, "base_url"),
        ({"base_url": "ftp://x"}, {"api_key": "re_x"}, "base_url"),
        ({"callback_base": "x"}, {"api_key": "re_x"}, "callback_base"),
        ({"tags": "a"}, {"api_key": "re_x"}, "tags"),
        ({"tags": "outrider_message=1"}, {"api_key": "re_x"}, "tags"),
        ({"tags": ",".join(f"t{n}=1" for n in range(11))}, {"api_key": "re_x"}, "tags"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_by_name(
    settings: dict[str, object], secrets: dict[str, str], field: str
) -> None:
    with pytest.raises(Refused) as refused:
        account_of(settings, secrets)
    assert refused.value.field == f"settings.{field}"


def test_no_secret_shows_in_an_account() -> None:
    assert "re_hunter2" not in repr(account_of({}, {"api_key": "re_hunter2"}))
