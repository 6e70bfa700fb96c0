"""Twilio's forms: whatever a text says arrives as it was written, and the standard library writes them alike."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.contracts.callbacks import CALLBACK_URL
from outrider.contracts.provider import Outgoing
from outrider.plugins.providers.twilio.form import Forms, escaped
from outrider.plugins.providers.twilio.settings import account_of

ACCOUNT = {"account_sid": "AC" + "0" * 32, "validity_s": 60}
URL = "https://ours.example/cb/twilio/a?b=c&d"


def text(body: str, sender: str = "+14155550100") -> Outgoing:
    return Outgoing(UUID(int=7), "+14155552671", sender, body.encode(), "key")


@given(st.text())
def test_any_text_is_escaped_as_the_standard_library_does(body: str) -> None:
    assert b"Body=" + escaped(body.encode()) == urlencode({"Body": body}).encode()


@pytest.mark.parametrize("body", ["a b+c&d=e%20", "Grüße, 你好 🎉", "\r\n\t\x00", "~_-.", ""])
def test_a_form_says_what_was_decided_and_nothing_else(body: str) -> None:
    account = account_of({**ACCOUNT, "messaging_service_sid": "MG" + "1" * 32, CALLBACK_URL: URL}, {"auth_token": "x"})
    form = Forms(account).form(text(body, "Café"))
    assert parse_qsl(form.decode("ascii"), keep_blank_values=True) == [
        ("To", "+14155552671"), ("From", "Café"), ("Body", body), ("MessagingServiceSid", "MG" + "1" * 32),
        ("StatusCallback", f"{URL}?m={UUID(int=7)}"), ("ValidityPeriod", "60"),
    ]  # fmt: skip


def test_what_an_account_does_not_have_is_not_in_its_forms() -> None:
    form = Forms(account_of(ACCOUNT, {"auth_token": "x"})).form(text("hi"))
    assert form == b"To=%2B14155552671&From=%2B14155550100&Body=hi&ValidityPeriod=60"
