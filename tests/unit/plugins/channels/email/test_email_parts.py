"""A message taken apart again, for providers that want JSON: nothing of it is lost, and nothing is guessed."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.contracts.channel import Attachment
from outrider.contracts.provider import Outgoing
from outrider.data.mail_parts import File, mailbox, parts_of
from outrider.plugins.providers.resend.payload import may_share, payload_of
from outrider.plugins.providers.resend.settings import account_of
from tests.kit.letters import LINK, composer, content, identity, item, part, read, sent
from tests.kit.rendering import InProcessRenderer

TEXT = st.text(
    alphabet=st.one_of(st.sampled_from(list("ab =.é界🙂\n\t-_?")), st.characters(exclude_categories=["Cs", "Cc"])),
    max_size=200,
).filter(lambda text: "\ufffe" not in text and "\uffff" not in text)
WORDS = TEXT.map(lambda text: " ".join(text.replace("=?", "").split())[:150]).filter(bool)


async def made(
    name: str = "Ada", *, files: tuple[Attachment, ...] = (), is_bulk: bool = False, **sender: Any
) -> Outgoing:
    of = content(subject="Hello {{ name }}", html="<p>{{ name }}</p>", text="{{ name }}", attachments=files)
    composing = await composer(of, identity(**sender), InProcessRenderer())
    (answer,) = await composing.compose([item({"name": name}, unsubscribe_url=LINK if is_bulk else "")])
    return sent(answer)


def unix(text: str) -> str:
    return text.replace("\r\n", "\n")


@settings(max_examples=150, deadline=None)
@given(name=TEXT, header=WORDS)
def test_what_is_read_back_is_what_a_mail_reader_reads(name: str, header: str) -> None:
    message = asyncio.run(made(f"x{name}", headers={"X-Team": header}))
    parts, oracle = parts_of(message.body), read(message)
    assert parts.subject == str(oracle["Subject"])
    assert parts.text == unix(part(oracle, "text/plain"))
    assert parts.html == unix(part(oracle, "text/html"))
    assert parts.headers["X-Team"] == str(oracle["X-Team"])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", "news@tenant.example"),
        ("Tenant News", "Tenant News <news@tenant.example>"),
        ('Tenant, "Inc."', '"Tenant, \\"Inc.\\"" <news@tenant.example>'),
        ("Grüße aus Köln", "Grüße aus Köln <news@tenant.example>"),
        ("Grüße, Köln", '"Grüße, Köln" <news@tenant.example>'),
        ("界" * 60, f"{'界' * 60} <news@tenant.example>"),
    ],
)
async def test_the_senders_name_is_written_as_people_read_it(name: str, shown: str) -> None:
    assert parts_of((await made(from_name=name)).body).sender == shown


async def test_what_is_the_providers_is_left_out_and_all_else_goes_along() -> None:
    files = (
        Attachment("invoice.pdf", "application/pdf", bytes(range(256)) * 4),
        Attachment("Rechnung für Köln, sehr lang und länger als eine Zeile.pdf", "application/pdf", b"2"),
    )
    message = await made(files=files, is_bulk=True, reply_to="help@tenant.example", headers={"X-Team": "ä"})
    parts = parts_of(message.body)
    assert parts.headers == {
        "List-Unsubscribe": f"<{LINK}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "X-Outrider-Message": str(message.id), "X-Team": "ä",
    }  # fmt: skip
    assert parts.reply_to == "help@tenant.example"
    assert parts.files == [
        File(each.name, each.content_type, base64.b64encode(each.content).decode()) for each in files
    ]


async def test_a_request_is_the_same_for_the_same_message_and_says_whose_it_is() -> None:
    account = account_of({"tags": "team=a, env=test"}, {"api_key": "re_x"})
    message = await made(is_bulk=True)
    payload = payload_of(message, account)
    assert payload == payload_of(await made(is_bulk=True), account)
    assert payload["tags"] == [
        {"name": "outrider_message", "value": str(message.id)}, {"name": "team", "value": "a"},
        {"name": "env", "value": "test"},
    ]  # fmt: skip
    assert may_share(payload)
    with_file = payload_of(await made(files=(Attachment("a.txt", "text/plain", b"x"),)), account)
    assert not may_share(with_file)
    assert with_file["attachments"] == [{"filename": "a.txt", "content": "eA==", "content_type": "text/plain"}]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"no header\r\n\r\n", b"Subject: x\r\nbroken\r\n\r\ny", b"Content-Type: image/png\r\n\r\nx",
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nx',
        b"Content-Transfer-Encoding: uuencode\r\n\r\nx", b"Content-Type: multipart/mixed\r\n\r\n--b--",
    ],
)  # fmt: skip
def test_what_we_did_not_make_is_refused_not_guessed(body: bytes) -> None:
    with pytest.raises(ValueError, match="has"):
        parts_of(body)


def test_a_mailbox_without_a_name_is_an_address() -> None:
    assert mailbox(" <a@b.example> ") == "a@b.example"
    assert mailbox("a@b.example") == "a@b.example"
