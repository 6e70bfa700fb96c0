"""The constant frame of a message: header fields, MIME boundaries, attachments; holes for what differs.

Owns header order and MIME structure. A skeleton is made once per shape (which parts, which encodings, with or without
an unsubscribe link) and joined per message by one call. Never looks into the text of a part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from outrider.contracts.channel import Attachment, Content, Identity
from outrider.plugins.channels.email import headers
from outrider.plugins.channels.email.encoding import Encoding, base64_lines


class Envelope(NamedTuple):
    """What every message has of its own; the order is that of the holes below."""

    id: str
    address: str
    date: str
    unsubscribe_url: str


class Hole(NamedTuple):
    """A place in a skeleton that is filled per message: the index of its value."""

    at: int


ID, ADDRESS, DATE, UNSUBSCRIBE_URL, SUBJECT = (Hole(index) for index in range(5))
FIRST_FREE = 5
"""Values after the envelope and the subject line: whatever the parts need."""

Text = str | Hole
Shape = tuple[bool, tuple[tuple[str, Encoding], ...]]


class Skeleton:
    """Constant texts and holes, joined by one call."""

    def __init__(self, texts: Sequence[Text], value_count: int) -> None:
        merged: list[Text] = []
        for text in texts:
            if isinstance(text, str) and merged and isinstance(merged[-1], str):
                merged[-1] += text
            elif text != "":
                merged.append(text)
        self._constants = [text for text in merged if isinstance(text, str)]
        numbers = iter(range(value_count, value_count + len(self._constants)))
        self._pick = itemgetter(*(text.at if isinstance(text, Hole) else next(numbers) for text in merged))

    def join(self, values: list[str]) -> bytes:
        """The bytes of a message; values in the order of the holes' indexes."""
        return "".join(self._pick(values + self._constants)).encode()


class Frame:
    """Header and structure for one content and one identity."""

    def __init__(self, content: Content, identity: Identity) -> None:
        headers.check_custom(identity.headers)
        sender = headers.mailbox(identity.from_name, identity.from_address)
        reply_to = f"Reply-To: {identity.reply_to}\r\n" if identity.reply_to else ""
        self._sender = f"From: {sender}\r\n"
        self._reply_to = reply_to
        self._domain = identity.from_address.rpartition("@")[2]
        self._custom = "".join(f"{headers.unstructured(name, text)}\r\n" for name, text in identity.headers.items())
        self._attachments = [_attached(attachment) for attachment in content.attachments]
        self._skeletons: dict[Shape, Skeleton] = {}

    def join(self, envelope: Envelope, subject: str, bodies: Mapping[str, tuple[Encoding, str]]) -> bytes:
        """A message of whole encoded parts (html, text)."""
        kinds = tuple((part, bodies[part][0]) for part in ("text", "html") if part in bodies)
        shape = (bool(envelope.unsubscribe_url), kinds)
        skeleton = self._skeletons.get(shape)
        if skeleton is None:
            whole: dict[str, Sequence[Text]] = {
                part: [Hole(FIRST_FREE + number)] for number, (part, _) in enumerate(kinds)
            }
            skeleton = self._skeletons[shape] = self.skeleton(shape, whole, FIRST_FREE + len(kinds))
        return skeleton.join([*envelope, subject, *(bodies[part][1] for part, _ in kinds)])

    def skeleton(self, shape: Shape, bodies: Mapping[str, Sequence[Text]], value_count: int) -> Skeleton:
        """A skeleton for messages of one shape.

        Takes:   bodies: per part its encoded constants and holes, ending with CRLF; value_count: how many values `join`
                 will get.
        """
        is_bulk, kinds = shape
        texts: list[Text] = [self._sender, "To: ", ADDRESS, "\r\n", self._reply_to, SUBJECT, "\r\nDate: ", DATE]
        texts += ["\r\nMessage-ID: <", ID, f"@{self._domain}>\r\nMIME-Version: 1.0\r\n"]
        if is_bulk:
            texts += ["List-Unsubscribe: <", UNSUBSCRIBE_URL, ">\r\n"]
            texts += ["List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"]
        texts += ["X-Outrider-Message: ", ID, "\r\n", self._custom]
        parts = [[_part_head(part, encoding), *bodies[part]] for part, encoding in kinds]
        inner = parts[0] if len(parts) == 1 else _multipart("alternative", "a", parts)
        if self._attachments:
            inner = _multipart("mixed", "m", [inner, *([attached] for attached in self._attachments)])
        return Skeleton([*texts, *inner], value_count)


def _part_head(part: str, encoding: Encoding) -> str:
    kind = "text/plain" if part == "text" else "text/html"
    return f"Content-Type: {kind}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"


def _multipart(subtype: str, mark: str, parts: Sequence[Sequence[Text]]) -> list[Text]:
    """A multipart body. Its boundary holds the message's id, which nobody knew when the values were written."""
    texts: list[Text] = [f'Content-Type: multipart/{subtype}; boundary="=_{mark}_', ID, '"\r\n']
    for part in parts:
        texts += [f"\r\n--=_{mark}_", ID, "\r\n", *part]
    return [*texts, f"\r\n--=_{mark}_", ID, "--\r\n"]


def _attached(attachment: Attachment) -> str:
    """An attachment as a MIME part, encoded once per content."""
    name = headers.parameter("filename", attachment.name)
    return (
        f"Content-Type: {attachment.content_type.lower()}\r\n"
        f"Content-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: attachment;\r\n {name}\r\n\r\n"
        f"{base64_lines(attachment.content)}"
    )
