"""From a letter to accepted messages: whose key it is, which sender, one message per recipient, all or none.

Owns signing in and acceptance; a key is looked up anew for each message, so that a revoked one accepts nothing more.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

import msgspec

from outrider.base import failpoint
from outrider.base.clock import utc_now
from outrider.base.errors import Refused
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.messages.admit import Replay, keep, replay_of
from outrider.domain.messages.draft import Draft
from outrider.domain.messages.rows import SQL
from outrider.domain.messages.submit import Submission
from outrider.domain.senders import senders
from outrider.domain.tenants import keys
from outrider.domain.tenants.roles import includes
from outrider.interfaces.submission.letter import Letter

_CHANNEL = "email"
_SCOPE, _ROLE = "messages:write", "operator"
_ACCEPTED = 202
_MOST_SENDERS = 1_000


@dataclass(frozen=True, slots=True)
class Account:
    """Who signed in."""

    tenant_id: UUID
    key_hash: bytes
    name: str


async def sign_in(runtime: Runtime, key: str) -> Account | None:
    """Whose key this is, if it may send; None otherwise. Raises Unavailable."""
    key_hash = keys.hash_key(key)
    if key_hash is None:
        return None
    async with runtime.db.uow(Role.ENGINE) as uow:
        return await _account(uow, key_hash)


async def accept(runtime: Runtime, account: Account, letter: Letter, recipients: list[str]) -> list[UUID]:
    """Accept a letter for its recipients; committed when this returns.

    Gives:   the ids, in the order of the recipients; for those to whom the same message went before, its id of then.
    Raises:  Refused (nothing is accepted), Unavailable (repeating is safe when there is a Message-ID).
    """
    async with runtime.db.uow(Role.ENGINE, account.tenant_id) as uow:
        if await _account(uow, account.key_hash) is None:
            raise Refused("unauthenticated", "this key has been revoked", status=401)
        draft = await _draft(uow, letter)
        asked = _asked(draft)
        found: dict[str, UUID] = {}
        new: list[Draft] = []
        for at, recipient in enumerate(recipients):
            before = await _before(uow, letter, recipient, asked)
            if before is not None:
                found[recipient] = before
            else:
                new.append(_for(draft, recipient, at))
        if new:
            ids = await Submission(uow, runtime.channels, runtime.renderer, utc_now()).accept(new)
            for one, message_id in zip(new, ids, strict=True):
                found[one.to] = message_id
                if letter.message_id:
                    answer = Replay(_ACCEPTED, f'{{"id": "{message_id}"}}')
                    await keep(uow.raw, account.tenant_id, _key(letter, one.to), asked, answer)
        if failpoint.ARMED:
            failpoint.hit("submission.before_commit")
    if failpoint.ARMED:
        failpoint.hit("submission.committed")
    if new:
        runtime.bell.ring("ready", lambda: _tell_ready(runtime))
    return [found[recipient] for recipient in recipients]


async def _account(uow: UnitOfWork, key_hash: bytes) -> Account | None:
    found = await keys.find(uow, key_hash)
    if found is None or _SCOPE not in found.scopes or not includes(found.role, _ROLE):
        return None
    return Account(found.tenant_id, key_hash, found.name)


async def _draft(uow: UnitOfWork, letter: Letter) -> Draft:
    """The letter as a message, still without a recipient."""
    sender = await _sender(uow, letter)
    if letter.message_class not in {"transactional", "bulk"}:
        raise Refused("invalid_value", "must be transactional or bulk", field="X-Outrider-Class")
    return Draft(
        "", "", channel=_CHANNEL, sender=str(sender.id), subject=letter.subject, text=letter.text, html=letter.html,
        attachments=letter.attachments, purpose=letter.purpose or None,
        message_class="bulk" if letter.message_class == "bulk" else "transactional",
    )  # fmt: skip


async def _sender(uow: UnitOfWork, letter: Letter) -> senders.SenderView:
    """The sender that the letter names, or whose address it comes from."""
    usable = [
        one
        for one in await senders.listed(uow, limit=_MOST_SENDERS)
        if one.channel == _CHANNEL and one.archived_at is None
    ]
    if letter.sender:
        named = [one for one in usable if letter.sender in {str(one.id), one.name}]
    else:
        named = [one for one in usable if _same(one.from_address, letter.from_address)]
    if not named:
        what = f"no sender is {letter.sender[:80]!r}" if letter.sender else "no sender has the address of From"
        raise Refused("unknown_sender", what, field="X-Outrider-Sender" if letter.sender else "From", status=403)
    if len(named) > 1:
        raise Refused(
            "sender_required", "several senders have the address of From: name one", field="X-Outrider-Sender"
        )
    if letter.reply_to and not _same(letter.reply_to, named[0].reply_to or named[0].from_address):
        raise Refused("header_refused", "Reply-To is the sender's: set it there", field="Reply-To")
    return named[0]


def _same(one: str, other: str) -> bool:
    """Whether two addresses reach the same mailbox as far as anybody can tell."""
    (local, _, domain), (local_2, _, domain_2) = one.rpartition("@"), other.rpartition("@")
    return (local, domain.lower()) == (local_2, domain_2.lower())


def _for(draft: Draft, recipient: str, at: int) -> Draft:
    """The same message for one recipient; mistakes are told by its place."""
    return Draft(
        f"/rcpt/{at}", recipient, channel=draft.channel, sender=draft.sender, subject=draft.subject, text=draft.text,
        html=draft.html, attachments=draft.attachments, purpose=draft.purpose, message_class=draft.message_class,
    )  # fmt: skip


def _asked(draft: Draft) -> bytes:
    """What makes two submissions the same: everything of the message but its recipient."""
    return msgspec.json.encode(draft, order="deterministic")


def _key(letter: Letter, recipient: str) -> str:
    """The idempotency key of a message for a recipient: a client may send its recipients in several transactions."""
    digest = hashlib.sha256(f"{letter.message_id}\0{recipient}".encode()).hexdigest()
    return f"smtp {digest}"


async def _before(uow: UnitOfWork, letter: Letter, recipient: str, asked: bytes) -> UUID | None:
    """The message that this one repeats. Raises Refused(idempotency_mismatch, idempotency_in_progress)."""
    if not letter.message_id:
        return None
    try:
        replay = await replay_of(uow.raw, uow.tenant, _key(letter, recipient), asked)
    except Refused as error:
        raise Refused(
            error.code, "another message had this Message-ID", field="Message-ID", status=error.http_status
        ) from None
    return None if replay is None else UUID(msgspec.json.decode(replay.body)["id"])


async def _tell_ready(runtime: Runtime) -> None:
    async with runtime.db.uow(Role.ENGINE) as uow:
        await SQL.tell_ready.run(uow.raw)
