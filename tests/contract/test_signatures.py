"""The table of signature vectors: every one is tried against the verifier of its scheme, or says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from outrider.contracts.callbacks import CallbackRequest, Unread
from outrider.plugins.providers.twilio import PROVIDER

VECTORS: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("signature_vectors.json").read_text(encoding="utf-8")
)
TWILIO = {vector["name"]: vector for vector in VECTORS if vector["scheme"] == "twilio"}
DOES_NOT_APPLY = {
    "RS1": "there is no provider of that scheme yet",
    "OUT1": "webhooks that we send are not built yet",
    "OUT2 rotation: current K2, previous K1": "webhooks that we send are not built yet",
}
CALLBACKS = PROVIDER.callbacks


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


def test_every_vector_is_tried_or_accounted_for() -> None:
    assert {vector["name"] for vector in VECTORS} == TWILIO.keys() | DOES_NOT_APPLY.keys()
