"""The DKIM verifier of the kit is held to the signed message of RFC 8463, appendix A."""

from __future__ import annotations

import pytest

from tests.kit.dkim import NotValid, verify

MESSAGE = b"\r\n".join(
    (
        b"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;",
        b" d=football.example.com; i=@football.example.com;",
        b" q=dns/txt; s=brisbane; t=1528637909; h=from : to :",
        b" subject : date : message-id : from : subject : date;",
        b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;",
        b" b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus",
        b" Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==",
        b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;",
        b" d=football.example.com; i=@football.example.com;",
        b" q=dns/txt; s=test; t=1528637909; h=from : to : subject :",
        b" date : message-id : from : subject : date;",
        b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;",
        b" b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3",
        b" DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz",
        b" dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=",
        b"From: Joe SixPack <joe@football.example.com>",
        b"To: Suzie Q <suzie@shopping.example.net>",
        b"Subject: Is dinner ready?",
        b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)",
        b"Message-ID: <20030712040037.46341.5F8J@football.example.com>",
        b"",
        b"Hi.",
        b"",
        b"We lost the game.  Are you hungry yet?",
        b"",
        b"Joe.",
        b"",
    )
)
RECORDS = {
    "brisbane._domainkey.football.example.com": "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    "test._domainkey.football.example.com": (
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY"
        "/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kr"
        "yOTIKT+l/K4w3QIDAQAB"
    ),
}


def test_both_signatures_of_rfc_8463_hold() -> None:
    assert verify(MESSAGE, RECORDS) == ["brisbane.football.example.com", "test.football.example.com"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"hungry", b"thirsty", "the body hash differs"),
        (b"dinner", b"supper", "the ed25519-sha256 signature does not fit"),
        (b"From: Joe", b"From: Moe", "the ed25519-sha256 signature does not fit"),
        (b"Date: Fri", b"Subject: second\r\nDate: Fri", "the ed25519-sha256 signature does not fit"),
        (b"s=brisbane", b"s=sydney", "no record for sydney"),
        (b"t=1528637909; h=from : to : subject :\r\n", b"t=1; h=from : to : subject :\r\n", "rsa-sha256"),
        (b"\r\n\r\nHi.", b"\n\nHi.", "bare line ends"),
    ],
)
def test_any_change_of_what_was_signed_is_noticed(old: bytes, new: bytes, reason: str) -> None:
    assert MESSAGE.count(old) == 1
    with pytest.raises(NotValid, match=reason):
        verify(MESSAGE.replace(old, new), RECORDS)


def test_changes_that_relaxed_canonicalisation_permits_are_permitted() -> None:
    refolded = MESSAGE.replace(b"Subject: Is dinner ready?", b"SUBJECT:  Is\r\n  dinner \tready?  ") + b"\r\n\r\n"
    assert len(verify(refolded, RECORDS)) == 2
