"""Contents: what a template version or an inline message says. Written once, found again by hash, never changed.

Owns the check, compilation and storage of contents and their loading for sending. Never renders for a recipient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from uuid import UUID

import asyncpg
import orjson

from outrider.base.errors import Refused
from outrider.contracts.channel import Attachment, Channel, Content, Renderer
from outrider.data.db import UnitOfWork
from outrider.domain.templates.attachments import check_total
from outrider.domain.templates.rows import SQL

_LONGEST = {"subject": 2_000, "preheader": 1_000, "html": 2_000_000, "text": 2_000_000, "mjml": 2_000_000}
"""Characters; the channel's own limits (a header line, a segment) are narrower and checked by its `compile`."""


async def save(
    uow: UnitOfWork,
    channel: Channel,
    renderer: Renderer,
    *,
    subject: str,
    html: str | None,
    text: str | None,
    preheader: str = "",
    attachments: Sequence[Attachment] = (),
    is_template: bool,
) -> UUID:
    """Check, compile and store a content, or find the same one stored before.

    Takes:   is_template False: literal text of an inline message; braces in it are sent as they are.
    Gives:   the id; the same content of the same tenant always has the same one, so that repeating is cheap: one
             read and no compilation.
    Raises:  Refused naming subject, html, text or attachments, with the line where there is one; nothing was stored.
    """
    check_text(subject=subject, preheader=preheader, html=html, text=text)
    check_total(attachments)
    content = Content("", subject, html, text, preheader, None, tuple(attachments), is_template)
    fingerprint = hash_of(channel.key, content)
    known = await _find(uow, uow.tenant, fingerprint)
    if known is not None:
        return known
    content = Content(fingerprint.hex(), subject, html, text, preheader, None, tuple(attachments), is_template)
    compiled = await channel.compile(content, renderer)
    (row,) = await SQL.insert_content.many(
        uow.raw,
        uow.tenant,
        channel.key,
        fingerprint,
        is_template,
        subject,
        html,
        text,
        preheader,
        None if compiled is None else orjson.dumps(compiled).decode(),
    )
    content_id: UUID = row["id"]
    if row["is_new"]:
        await SQL.insert_attachment.each(
            uow.raw,
            [(uow.tenant, content_id, at, a.name, a.content_type, a.content) for at, a in enumerate(attachments)],
        )
    return content_id


async def load(source: UnitOfWork | asyncpg.Connection, tenant_id: UUID, ids: Iterable[UUID]) -> dict[UUID, Content]:
    """Contents with their attachments, by id; ids that do not exist (any more) are missing from the answer."""
    raw = source.raw if isinstance(source, UnitOfWork) else source
    wanted = list(set(ids))
    rows = await SQL.load_contents.many(raw, tenant_id, wanted)
    files: dict[UUID, list[Attachment]] = {}
    with_files = [row["id"] for row in rows if row["has_files"]]
    for row in await SQL.load_attachments.many(raw, tenant_id, with_files) if with_files else ():
        files.setdefault(row["content_id"], []).append(Attachment(row["name"], row["content_type"], row["content"]))
    return {
        row["id"]: Content(
            version_key=row["version_key"],
            subject=row["subject"],
            html=row["html"],
            text=row["text"],
            preheader=row["preheader"],
            compiled=None if row["compiled"] is None else orjson.loads(row["compiled"]),
            attachments=tuple(files.get(row["id"], ())),
            is_template=row["is_template"],
        )
        for row in rows
    }


def hash_of(channel: str, content: Content) -> bytes:
    """SHA-256 over everything that reaches the recipient; every part is counted, so that none can pass for another."""
    digest = hashlib.sha256()
    for part in (channel, str(content.is_template), content.subject, content.html, content.text, content.preheader):
        _feed(digest, None if part is None else part.encode())
    for attachment in content.attachments:
        for piece in (attachment.name.encode(), attachment.content_type.encode(), attachment.content):
            _feed(digest, piece)
    return digest.digest()


def _feed(digest: hashlib._Hash, part: bytes | None) -> None:
    digest.update(b"-" if part is None else b"%d:" % len(part))
    digest.update(part or b"")


async def _find(uow: UnitOfWork, tenant_id: UUID, fingerprint: bytes) -> UUID | None:
    """A content stored before; one unused for long is touched, so that retention does not take it under our feet."""
    row = await SQL.find_content.one(uow.raw, tenant_id, fingerprint)
    if row is None:
        return None
    found: UUID | None = await SQL.touch_content.value(uow.raw, tenant_id, row["id"]) if row["is_stale"] else row["id"]
    return found


def check_text(**parts: str | None) -> None:
    """Refuse what no channel can carry: too long, NUL, U+FFFE, U+FFFF, lone surrogates [T46]."""
    for name, value in parts.items():
        if value is None:
            continue
        if len(value) > _LONGEST[name]:
            raise Refused("too_long", f"has {len(value)} characters, at most {_LONGEST[name]} are possible", field=name)
        bad = next((c for c in value if c in "\0\ufffe\uffff" or "\ud800" <= c <= "\udfff"), None)
        if bad is not None:
            line = value.count("\n", 0, value.index(bad)) + 1
            raise Refused("invalid_character", f"line {line}: U+{ord(bad):04X} cannot be sent", field=name, line=line)
