"""DKIM signatures hold for an independent verifier, sign what matters, and weak keys are refused."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.base.errors import Refused
from outrider.contracts.channel import Dkim
from outrider.plugins.channels.email import dkim
from tests.kit import letters
from tests.kit.dkim import NotValid, verify
from tests.kit.rendering import InProcessRenderer

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RSA_KEY = rsa.generate_private_key(65537, 2048)
ED25519_KEY = ed25519.Ed25519PrivateKey.generate()


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


RSA = Dkim("tenant.example", "r1", pem(RSA_KEY))
ED25519 = Dkim("tenant.example", "e1", pem(ED25519_KEY))
RECORDS = {
    "r1._domainkey.tenant.example": "v=DKIM1; k=rsa; p="
    + base64.b64encode(RSA_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode(),
    "e1._domainkey.tenant.example": "v=DKIM1; k=ed25519; p="
    + base64.b64encode(ED25519_KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode(),
}


async def signed(*keys: Dkim, unsubscribe_url: str = letters.LINK) -> bytes:
    of = letters.content(subject="Grüße {{ name }}", html="<p>{{ name }}</p>\n\n\n")
    sender = letters.identity(dkim=keys, from_name="Jörg  Müller", headers={"Feedback-ID": "a:b:c"})
    composer = await letters.composer(of, sender, InProcessRenderer())
    (answer,) = await composer.compose([letters.item({"name": "a  b\t c "}, unsubscribe_url=unsubscribe_url)])
    body = letters.sent(answer).body
    letters.assert_is_clean(body)
    return body


async def test_both_signatures_of_a_message_hold() -> None:
    body = await signed(RSA, ED25519)
    assert verify(body, RECORDS) == ["r1.tenant.example", "e1.tenant.example"]


async def test_signing_twice_gives_the_same_bytes() -> None:
    assert await signed(RSA, ED25519) == await signed(RSA, ED25519)


async def test_what_can_be_forged_is_signed() -> None:
    body = await signed(RSA)
    value = re.sub(r"\s", "", body.partition(b"\r\nFrom:")[0].decode())
    tags = dict(tag.split("=", 1) for tag in value.removeprefix("DKIM-Signature:").split(";"))
    names = tags["h"].split(":")
    for name in ("from", "to", "subject", "date", "message-id"):
        assert names.count(name) == 2, f"another {name} could be added"
    for name in (
        "mime-version",
        "content-type",
        "list-unsubscribe",
        "list-unsubscribe-post",
        "feedback-id",
        "cc",
        "reply-to",
    ):
        assert name in names
    assert (tags["v"], tags["c"], tags["d"], tags["s"]) == ("1", "relaxed/relaxed", "tenant.example", "r1")
    assert tags["t"] == str(int(AT.timestamp()))
    assert "l" not in tags


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"From: ", b"From: x "),
        (b"To: ada@", b"To: eve@"),
        (b"\r\nTo: ", b"\r\nFrom: evil@evil.example\r\nTo: "),
        (b"\r\nTo: ", b"\r\nSubject: other\r\nTo: "),
        (b"\r\nTo: ", b"\r\nCc: evil@evil.example\r\nTo: "),
        (b"\r\nTo: ", b"\r\nReply-To: evil@evil.example\r\nTo: "),
        (b"List-Unsubscribe: <https://", b"List-Unsubscribe: <https://evil."),
        (b"Unsubscribe</a>", b"Bought</a>"),
        (b"--\r\n", b"--\r\nmore"),
    ],
)
async def test_any_change_of_what_is_signed_shows(old: bytes, new: bytes) -> None:
    body = await signed(RSA)
    at = body.rindex(old)
    with pytest.raises(NotValid):
        verify(body[:at] + new + body[at + len(old) :], RECORDS)


async def test_what_servers_may_change_on_the_way_does_not_matter() -> None:
    body = await signed(RSA, ED25519)
    changed = body.replace(b"\r\nTo: ", b"\r\nto:   ") + b"\r\n\r\n"
    assert len(verify(b"Received: by x\r\n" + changed, RECORDS)) == 2


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([b" ", b"\t", b"a", b"\r\n", b"  b"]), max_size=20).map(b"".join))
def test_bodies_are_canonicalised_as_the_rfc_says(body: bytes) -> None:
    message = b"From: a@tenant.example\r\nSubject:  a \r\n\tb  \r\n\r\n" + body
    fields = dkim.Signer([RSA, ED25519]).sign(message, AT)
    assert len(verify(fields + message, RECORDS)) == 2


@pytest.mark.parametrize(
    ("body", "canonical"),
    [
        (b"", b""),
        (b"\r\n\r\n", b""),
        (b" \r\n\t\r\n", b""),
        (b"a", b"a\r\n"),
        (b" a \t b \r\n\r\n", b" a b\r\n"),
        (b"a\r\n ", b"a\r\n"),
    ],
)
def test_relaxed_bodies(body: bytes, canonical: bytes) -> None:
    assert dkim.relaxed_body(body) == canonical


def test_weak_keys_are_refused_and_poor_ones_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    weak = Dkim("t.example", "s", pem(rsa.generate_private_key(65537, 1024)))  # noqa: S505  the weak key is the test
    assert "1024 bits is weak" in dkim.check(weak)[0]
    assert dkim.check(RSA) == dkim.check(ED25519) == []
    assert dkim.LEAST_RSA_BITS == 1024
    monkeypatch.setattr(dkim, "LEAST_RSA_BITS", 1025)
    with pytest.raises(Refused, match=r"RSA with 1024 bits is refused"):
        dkim.check(weak)


@pytest.mark.parametrize(
    ("key", "field"),
    [
        (Dkim("tenant.example", "s", "nonsense"), "dkim.private_key_pem"),
        (Dkim("tenant.example", "s", ""), "dkim.private_key_pem"),
        (Dkim("tenant.example", "s", pem(dsa.generate_private_key(2048))), "dkim.private_key_pem"),
        (
            Dkim(
                "tenant.example",
                "s",
                RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode(),
            ),
            "dkim.private_key_pem",
        ),
        (Dkim("tenant", "s", RSA.private_key_pem), "dkim.domain"),
        (Dkim("tenant.example; x=1", "s", RSA.private_key_pem), "dkim.domain"),
        (Dkim("tenant.example", "s;\r\n a", RSA.private_key_pem), "dkim.selector"),
        (Dkim("tenant.example", "", RSA.private_key_pem), "dkim.selector"),
    ],
)
def test_bad_keys_are_refused_by_field_and_never_shown(key: Dkim, field: str) -> None:
    with pytest.raises(Refused) as refused:
        dkim.check(key)
    assert refused.value.field == field
    assert "PRIVATE" not in str(refused.value)
