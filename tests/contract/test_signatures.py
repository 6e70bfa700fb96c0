"""The table of signature vectors: every one is tried against the verifier of its scheme, or says why not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from outrider.contracts.callbacks import CallbackRequest, Report, Unread
from outrider.plugins.providers.resend import PROVIDER as RESEND_PROVIDER
from outrider.plugins.providers.twilio import PROVIDER

VECTORS: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("signature_vectors.json").read_text(encoding="utf-8")
)
TWILIO = {vector["name"]: vector for vector in VECTORS if vector["scheme"] == "twilio"}
RESEND = {vector["name"]: vector for vector in VECTORS if vector["scheme"] == "resend"}
DOES_NOT_APPLY = {
    "OUT1": "webhooks that we send are not built yet",
    "OUT2 rotation: current K2, previous K1": "webhooks that we send are not built yet",
}
CALLBACKS = PROVIDER.callbacks
OTHER_SECRET = "whsec_" + "A" * 44
EVENTS = RESEND_PROVIDER.callbacks


def request_of(vector: dict[str, Any]) -> tuple[CallbackRequest, str, dict[str, Any]]:
    """The request, the configured base, and the settings of the account it names."""
    url = urlsplit(vector["url"])
    headers = {"x-twilio-signature": vector["signature"], "content-type": "application/x-www-form-urlencoded"}
    body = urlencode([tuple(pair) for pair in vector["params"]]).encode()
    if not vector["params"]:
        headers["content-type"] = "application/json"
        body = b'{"property": "value", "boolean": true}'
    account = dict(map(tuple, vector["params"])).get("AccountSid", "AC" + "0" * 32)
    target = f"{url.path}?{url.query}"
    return CallbackRequest(target, headers, body, 0.0), f"{url.scheme}://{url.netloc}", {"account_sid": account}


def verified(vector: dict[str, Any], *, base: str | None = None, **secrets: str) -> str | None:
    request, configured, settings = request_of(vector)
    return CALLBACKS.verify(request, base or configured, settings, secrets or {"auth_token": vector["token"]})


@pytest.mark.parametrize("name", sorted(TWILIO))
def test_a_genuine_callback_is_taken(name: str) -> None:
    assert verified(TWILIO[name]) is None


@pytest.mark.parametrize("name", sorted(TWILIO))
def test_another_token_address_or_body_is_not(name: str) -> None:
    vector = TWILIO[name]
    assert verified(vector, auth_token="another") == "wrong_signature"
    assert verified(vector, base="https://elsewhere.example.com") == "wrong_signature"
    request, base, settings = request_of(vector)
    other = CallbackRequest(request.target, request.headers, request.body + b"&X=1", 0.0)
    assert CALLBACKS.verify(other, base, settings, {"auth_token": vector["token"]}) == "wrong_signature"


@pytest.mark.parametrize("name", sorted(TWILIO))
def test_during_a_rotation_both_tokens_count(name: str) -> None:
    vector = TWILIO[name]
    assert verified(vector, auth_token="new", previous_auth_token=vector["token"]) is None


def test_a_port_that_goes_without_saying_may_be_signed_or_not() -> None:
    vector = TWILIO["TW4 https with :443 in signed url"]
    assert verified(vector, base="https://mycompany.com") is None
    assert verified(TWILIO["TW1 form body, https"], base="https://mycompany.com:443") is None
    assert verified(TWILIO["TW1 form body, https"], base="https://mycompany.com:8443") == "wrong_signature"


@pytest.mark.parametrize("name", [name for name in TWILIO if "ambiguity" in name])
def test_what_is_signed_alike_is_understood_as_nothing(name: str) -> None:
    request, _, settings = request_of(TWILIO[name])
    (told,) = CALLBACKS.read(request, settings)
    assert isinstance(told, Unread)


def event_of(vector: dict[str, Any], *, late_s: float = 0.0, **headers: str) -> CallbackRequest:
    given = {
        "content-type": "application/json", "svix-id": vector["id"], "svix-timestamp": str(vector["timestamp"]),
        "svix-signature": vector["signature"], **{name.replace("_", "-"): text for name, text in headers.items()},
    }  # fmt: skip
    return CallbackRequest("/cb/resend/x", given, vector["body"].encode(), vector["timestamp"] + late_s)


def taken(request: CallbackRequest, **secrets: str) -> str | None:
    return EVENTS.verify(request, "https://elsewhere.example.com", {}, secrets)


@pytest.mark.parametrize("name", sorted(RESEND))
def test_a_genuine_event_is_taken_with_either_secret_and_within_five_minutes(name: str) -> None:
    vector = RESEND[name]
    assert taken(event_of(vector), webhook_secret=vector["secret"]) is None
    assert taken(event_of(vector), webhook_secret=OTHER_SECRET, previous_webhook_secret=vector["secret"]) is None
    for late_s, wrong in ((300, None), (-300, None), (301, "stale"), (-301, "stale")):
        assert taken(event_of(vector, late_s=late_s), webhook_secret=vector["secret"]) == wrong
    (told,) = EVENTS.read(event_of(vector), {})
    assert isinstance(told, Report)
    assert (told.key, told.provider_id, told.word, told.state) == (
        "msg_2resendBounce01", "56761188-7520-42d8-8898-ff6fc54ce618", "bounced", "bounced",
    )  # fmt: skip
    assert (told.cause, told.suppress, told.is_soft) == ("bounced_permanently", "hard_bounce", False)


@pytest.mark.parametrize("name", sorted(RESEND))
def test_another_secret_body_id_moment_or_version_is_not(name: str) -> None:
    vector = RESEND[name]
    secret = {"webhook_secret": vector["secret"]}
    good = vector["signature"]
    assert taken(event_of(vector), webhook_secret=OTHER_SECRET) == "wrong_signature"
    assert taken(event_of(vector)) == "wrong_signature", "without a secret nothing is genuine"
    request = event_of(vector)
    assert taken(replace(request, body=request.body + b" "), **secret) == "wrong_signature"
    assert taken(event_of(vector, svix_id="msg_other"), **secret) == "wrong_signature"
    assert taken(event_of(vector, svix_timestamp=str(vector["timestamp"] + 1)), **secret) == "wrong_signature"
    for signature in (good.replace("v1,", "v2,"), good[:-1], "v1,", "v1", good.swapcase(), f"v1a,{good[3:]}"):
        assert taken(event_of(vector, svix_signature=signature), **secret) == "wrong_signature"
    assert taken(event_of(vector, svix_signature=f"v1,AAAA v2,x {good}"), **secret) is None, "one of several fits"


def test_every_vector_is_tried_or_accounted_for() -> None:
    assert {vector["name"] for vector in VECTORS} == TWILIO.keys() | RESEND.keys() | DOES_NOT_APPLY.keys()
